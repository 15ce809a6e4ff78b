"""The reference in the book: all of the package's public names, and examples that run."""

import ast
import builtins
import doctest
import importlib
import re
import subprocess
import sys
from functools import cache

import pytest
from bs4 import BeautifulSoup
from test_floors import FLOORS, PACKAGE

ROOT = PACKAGE.parent
MODULES = [name for name in FLOORS if (PACKAGE / f"{name}.py").exists() and name[0] != "_"]
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.glob("*.py"))}


@pytest.fixture(scope="module")
def reference(book):
    """Each page of the reference, parsed."""
    pages = [book / "chapters" / "api.html", *sorted((book / "chapters" / "api").glob("*.html"))]
    return [BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser") for page in pages]


def test_each_module_has_one_section(reference):
    places = [place["id"] for page in reference for place in page.select('[id^="api-"]')]
    assert sorted(places) == sorted(["api-" + name.replace("_", "-") for name in MODULES])


@pytest.mark.parametrize("name", MODULES)
def test_each_public_name_has_one_entry(reference, name):
    module = importlib.import_module(f"plcore.{name}")
    entries = [entry["id"] for page in reference for entry in page.select("dt.sig[id]")]
    for public in module.__all__:
        thing = getattr(module, public)
        home = getattr(thing, "__module__", None) if hasattr(thing, "__qualname__") else None
        # What a module hands on has its entry where it is defined, if that is public.
        place = home if home and home.rpartition(".")[2] in MODULES else f"plcore.{name}"
        count = entries.count(f"{place}.{public}")
        # A constant is described where it is defined, or where it is used.
        assert count == 1 or (home is None and count == 0), f"{name}.{public}"


def test_every_formula_that_docstrings_number_is_explained(reference):
    (table,) = reference[0].select("#numbers-of-formulas table")
    explained = re.findall(r"\(T\d+\)", table.get_text())
    used = {label for source in SOURCES.values() for label in re.findall(r"\(T\d+\)", source)}
    assert sorted(set(explained)) == explained
    assert used <= set(explained)


def test_no_markup_is_left_in_the_pages(reference):
    for page in reference:
        for code in page.select("pre, code, dt"):
            code.extract()
        assert not re.findall(r"`|\\\||\*\*|:\w+:`", page.select_one("article").get_text())


def test_the_pages_show_what_the_docstrings_say(reference):
    """Examples as they are typed, tables as tables, formulas with indices, nothing of tuples."""
    code = "".join(block.get_text() for page in reference for block in page.select("pre"))
    assert "\\*" not in code
    assert "\\|" not in code
    text = "".join(page.select_one("article").get_text() for page in reference)
    assert "Alias for field" not in text
    assert "====" not in text
    assert {index.get_text() for page in reference for index in page.select("sub")} > {"0", "k+1"}
    assert {power.get_text() for page in reference for power in page.select("sup")} > {"k", "k/2"}


@cache
def examples():
    """Each docstring's examples, by the docstring's name."""
    modules = [importlib.import_module(f"plcore.{name}") for name in MODULES]
    found = [test for module in modules for test in doctest.DocTestFinder().find(module)]
    return {test.name: [example.source for example in test.examples] for test in found}


def test_each_example_can_be_pasted():
    """It imports or defines every name that it uses."""
    missing = {}
    for name, sources in examples().items():
        nodes = list(ast.walk(ast.parse("".join(sources))))
        used = {node.id for node in nodes if isinstance(node, ast.Name)}
        known = {
            node.id
            for node in nodes
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        known |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        known |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        known |= {
            alias.asname or alias.name
            for node in nodes
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        if used - known - set(dir(builtins)):
            missing[name] = used - known - set(dir(builtins))
    assert missing == {}


def test_examples_fit_into_their_boxes():
    lines = [line for sources in examples().values() for line in "".join(sources).splitlines()]
    assert len(lines) > 300
    assert [line for line in lines if len(line) > 80] == []  # beside four of the prompt


def test_each_module_has_an_example():
    assert [name for name in MODULES if ">>> " not in SOURCES[f"{name}.py"]] == []


def pytest_run(*arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml")]
    command += ["-p", "no:cacheprovider", "-p", "no:nbval", "-o", "addopts=--doctest-modules"]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_each_example_is_run_once():
    """Plain `pytest` collects the examples of each docstring that has some, once."""
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"--doctest-modules",' in settings
    assert 'testpaths = ["tests", "plcore", "chapters"]' in settings
    listed = pytest_run("--collect-only", "plcore").stdout.splitlines()
    items = [line for line in listed if line.startswith("plcore/") and "::" in line]
    assert len(items) == len(set(items)) > 30
    assert {item.partition("::")[0].removeprefix("plcore/") for item in items} == {
        name for name, source in SOURCES.items() if ">>> " in source
    }


def test_a_warning_in_an_example_is_an_error(tmp_path):
    module = tmp_path / "example.py"
    module.write_text(
        '"""\n>>> import warnings\n>>> warnings.warn("old", DeprecationWarning)\n"""\n'
    )
    run = pytest_run(str(module))
    assert run.returncode == 1
    assert "DeprecationWarning" in run.stdout
