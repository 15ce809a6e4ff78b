"""The paper map: every numbered statement, and functions and tests that exist."""

import ast
import re
from importlib import import_module
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
MAP = ROOT / "chapters" / "paper_map.ipynb"

# What the paper numbers, in its order.
STATEMENTS = [
    "(1.1)",
    "Theorem 1.1",
    "Theorem 1.2",
    "Remark 1.3",
    "(2.1)",
    "(2.2)",
    "Theorem 2.1",
    *(f"Remark 2.{k}" for k in range(2, 8)),
    "Theorem 2.8",
    "Remark 2.9",
    *(f"Figure {k}" for k in range(1, 4)),
    "Lemma A.1",
    "Lemma A.2",
    "Corollary A.3",
    "Corollary A.4",
    "Corollary A.5",
    "Lemma A.6",
    "Lemma A.7",
    "Lemma A.8",
    *(f"Lemma A.{k}" for k in range(9, 14)),
    *(f"(A.{k})" for k in range(1, 10)),
]


def rows(source):
    """Cells of the Markdown tables in `source` whose first column names a statement."""
    found = {}
    for line in source.splitlines():
        if line.startswith("| **"):
            cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
            found[cells[0].strip("|* ")] = cells
    return found


def entries():
    notebook = nbformat.read(MAP, as_version=4)
    return rows("\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown"))


def faults_of_row(cells):
    """What is wrong with a row: missing columns, references, functions or tests."""
    if len(cells) != 4:
        return [f"{cells[0]} has {len(cells)} columns, not 4"]
    faults = []
    if not re.search(r"\{(prf:ref|ref|eq|numref)\}", cells[2]):
        faults.append(f"{cells[0]} refers to no place in the book")
    functions = re.findall(r"`([a-z_]+\.[\w.]+)`", cells[3])
    tests = re.findall(r"`(test_\w+)::(test_\w+)`", cells[3])
    if not functions or not tests:
        faults.append(f"{cells[0]} names no function or no test")
    faults += [f"{cells[0]}: {name} does not exist" for name in functions if not exists(name)]
    faults += [f"{cells[0]}: {file}::{name} does not exist" for file, name in tests
               if name not in names_of_tests(file)]  # fmt: skip
    return faults


def exists(name):
    module, *attributes = name.split(".")
    try:
        target = import_module(f"plcore.{module}")
        for attribute in attributes:
            target = getattr(target, attribute)
    except (ImportError, AttributeError):
        return False
    return bool(attributes)


def names_of_tests(file):
    path = ROOT / "tests" / f"{file}.py"
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_numbered_statement_is_mapped_in_the_paper_s_order():
    assert list(entries()) == STATEMENTS


@pytest.mark.parametrize("statement", STATEMENTS)
def test_what_a_row_names_exists(statement):
    faults = faults_of_row(entries()[statement])
    assert not faults, "\n" + "\n".join(faults)


def test_a_bad_row_is_found():
    good = "| **X** | says | {ref}`sec-x` | `kernel.tangent_kernel` <br>`test_a::test_b` |"
    (cells,) = rows(good).values()
    assert faults_of_row(cells) == ["**X**: test_a::test_b does not exist"]
    bad = "| **X** | says | nowhere | `kernel.no_kernel` <br>`test_kernel::test_no` |"
    (cells,) = rows(bad).values()
    assert len(faults_of_row(cells)) == 3
