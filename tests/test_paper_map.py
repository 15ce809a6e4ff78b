"""The paper map: every numbered statement and every theorem of ours, with what stands behind it."""

import ast
import re
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
import yaml

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


def chapters():
    """The notebooks of the numbered parts, in the book's order."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    for part in contents["parts"]:
        if part.get("numbered"):
            for chapter in part["chapters"]:
                yield nbformat.read(ROOT / f"{chapter['file']}.ipynb", as_version=4)


def code_by_statement():
    """The code of its chapter for each theorem, proposition or corollary called Ours, by label."""
    found = {}
    for notebook in chapters():
        code, text = (
            "\n".join(cell.source for cell in notebook.cells if cell.cell_type == kind)
            for kind in ("code", "markdown")
        )
        pattern = r"\{prf:(?:theorem|proposition|corollary)\} Ours\b.*\n:label: (\S+)"
        found |= dict.fromkeys(re.findall(pattern, text), code)
    return found


def rows_of_ours(source):
    """Label, function, and test or *cells*, of each row of the last table."""
    pattern = r"^\| \{prf:ref\}`([\w-]+)` \| .+ \| `([\w.]+)` <br>(?:`([\w:]+)`|\*(cells)\*) \|$"
    return [(label, function, test or cells) for label, function, test, cells in
            re.findall(pattern, source, flags=re.MULTILINE)]  # fmt: skip


def faults_of_ours(function, test, code):
    """What is wrong with a row on a statement of ours, whose chapter has this code."""
    faults = [] if exists(function) else [f"{function} does not exist"]
    if test == "cells":
        if function.split(".")[-1] not in code or "assert" not in code:
            faults.append(f"the chapter's cells do not assert anything about {function}")
    elif test.partition("::")[2] not in names_of_tests(test.partition("::")[0]):
        faults.append(f"{test} does not exist")
    return faults


def test_every_theorem_of_ours_is_mapped_in_the_book_s_order():
    text = "\n".join(cell.source for cell in nbformat.read(MAP, as_version=4).cells)
    statements, table = code_by_statement(), rows_of_ours(text)
    assert len(statements) > 20
    assert [label for label, *_ in table] == list(statements)
    faults = {label: found for label, function, test in table
              if (found := faults_of_ours(function, test, statements[label]))}  # fmt: skip
    assert not faults


def test_a_bad_row_of_ours_is_found():
    good = "| {prf:ref}`thm-x` | says | `kernel.tangent_kernel` <br>*cells* |"
    assert rows_of_ours(good) == [("thm-x", "kernel.tangent_kernel", "cells")]
    assert not faults_of_ours("kernel.tangent_kernel", "cells", "assert tangent_kernel(1)")
    assert len(faults_of_ours("kernel.no_kernel", "cells", "print(1)")) == 2
    assert faults_of_ours("kernel.tangent_kernel", "test_kernel::test_no", "") == [
        "test_kernel::test_no does not exist"
    ]


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
