"""The stored notebooks: executed in order, of this code, without traces of a machine."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import notebooks
import pytest

from plcore.__main__ import faults, main, refresh

CHAPTERS = Path(__file__).parents[1] / "chapters"
NOTEBOOKS = sorted(CHAPTERS.glob("*.ipynb"))
FIGURE = {
    "tags": ["nbval-ignore-output"],
    "mystnb": {
        "figure": {"name": "fig-line", "caption": "A line."},
        "image": {"alt": "A line that rises from left to right."},
    },
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    found = [fault for check in notebooks.CHECKS for fault in check(notebook)]
    found = dict.fromkeys(found + faults(path))
    assert not found, "\n" + "\n".join(f"{path.name}: {fault}" for fault in found)


def test_figure_names_are_unique():
    """A second figure of the same name would take over the references to the first."""
    names = [
        cell.metadata["mystnb"]["figure"]["name"]
        for path in NOTEBOOKS
        for cell in nbformat.read(path, as_version=4).cells
        if "figure" in cell.metadata.get("mystnb", {})
    ]
    assert sorted(set(names)) == sorted(names)


def write(path, cells):
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A notebook with everything that a chapter may hold, as the refresh command leaves it."""
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    path = write(
        tmp_path_factory.mktemp("stored") / "chapter.ipynb",
        [
            text("(sec-line)=\n# A line"),
            code("from plcore import figures\n\nfigures.use_style()"),
            code("figure, axes = figures.subplots()\naxes.plot([0, 1])\nfigure", metadata=FIGURE),
            code("print(0.5)"),
            code(
                "def draw(slope):\n    figure, axes = figures.subplots()\n"
                "    axes.plot([0, slope])\n    return figure\n\n\n"
                'figures.slider(draw, [1, 2], label="slope", alt="A line.")',
                metadata={**FIGURE, "mystnb": {"figure": FIGURE["mystnb"]["figure"]}},
            ),
            code('import sys\n\nprint("one")\nsys.stdout.flush()\nprint("two")', metadata={"x": 1}),
        ],
    )
    assert main(["refresh", str(path)]) == 0
    return path


@pytest.fixture
def good(stored):
    return nbformat.read(stored, as_version=4)


def test_refreshed_notebook_has_no_faults(stored, good):
    assert [fault for check in notebooks.CHECKS for fault in check(good)] == []
    assert faults(stored) == []
    assert main(["refresh", "--check", str(stored)]) == 0


def test_refreshing_again_changes_no_byte(stored):
    before = stored.read_bytes()
    assert refresh(stored) is False
    assert stored.read_bytes() == before


def test_refresh_stores_the_slider_as_html_alone(good):
    (output,) = good.cells[4].outputs
    assert set(output.data) == {"text/html", "text/plain"}
    assert good.cells[5].metadata == {}
    assert [out.text for out in good.cells[5].outputs] == ["one\ntwo\n"]


def spoil_count(notebook):
    notebook.cells[2].execution_count = 7


def strip_cell(notebook):
    notebook.cells[3].execution_count, notebook.cells[3].outputs = None, []


def empty_cell(notebook):
    notebook.cells[3].source = " "


def error(notebook):
    notebook.cells[3].outputs = [
        nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    ]


def warning(notebook):
    notebook.cells[3].outputs[0].name = "stderr"


def bar(notebook):
    notebook.cells[3].outputs[0].text += "drawings: 40%|████      | 2/5 [00:02<00:03]\n"


def skip(notebook):
    notebook.cells[3].metadata["tags"] = ["nbval-skip"]


def path_in_output(notebook):
    notebook.cells[3].outputs[0].text = "stored in /" + "home/somebody/x\n"


def path_in_source(notebook):
    notebook.cells[3].source = 'open("C:' + '\\\\Users")'


def other_kernel(notebook):
    notebook.metadata["kernelspec"]["name"] = "my-environment"


def widget_state(notebook):
    notebook.metadata["widgets"] = {}


def widget_view(notebook):
    notebook.cells[4].outputs[0].data["application/vnd.jupyter.widget-view+json"] = {}


def no_name(notebook):
    notebook.cells[2].metadata["mystnb"]["figure"]["name"] = "Line"


def no_caption(notebook):
    notebook.cells[4].metadata["mystnb"]["figure"]["caption"] = " "


def no_alt(notebook):
    del notebook.cells[2].metadata["mystnb"]["image"]


def no_svg(notebook):
    del notebook.cells[2].outputs[0].data["image/svg+xml"]


def two_outputs(notebook):
    notebook.cells[2].outputs.append(nbformat.v4.new_output("stream", text="more"))


def no_tag(notebook):
    notebook.cells[2].metadata["tags"] = []


def nothing_compared(notebook):
    notebook.cells[3].metadata["tags"] = ["nbval-ignore-output"]


def no_label(notebook):
    notebook.cells[0].source = "# A line"


def two_titles(notebook):
    notebook.cells[0].source += "\n\n# Another"


def later_name(notebook):
    notebook.cells[5].source = "for figures in []:\n    pass"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (spoil_count, "cell 3 has the count 7 instead of 2"),
        (strip_cell, "cell 4 was never executed, or its outputs were stripped"),
        (empty_cell, "cell 4 is empty"),
        (error, "cell 4 ended in ValueError: no"),
        (warning, "cell 4 wrote to stderr"),
        (bar, "cell 4 holds what is left of a progress bar"),
        (skip, "cell 4 is tagged nbval-skip"),
        (path_in_output, "cell 4 names an absolute path"),
        (path_in_source, "cell 4 names an absolute path"),
        (other_kernel, "the kernel is my-environment instead of python3"),
        (widget_state, "the notebook's metadata holds the state of widgets"),
        (widget_view, "cell 5 holds a application/vnd.jupyter.widget-view+json"),
        (no_name, "the figure in cell 3 has no name of the form fig-…"),
        (no_caption, "the figure in cell 5 has no caption"),
        (no_alt, "the figure in cell 3 has no alternative text to speak of"),
        (no_svg, "the figure in cell 3 was not made by plcore.figures.subplots"),
        (two_outputs, "cell 3 shows more than its figure"),
        (no_tag, "the figure in cell 3 is not tagged nbval-ignore-output"),
        (nothing_compared, "the cell after the figure in cell 3 prints nothing to compare"),
        (later_name, "cell 6 binds figures, which the control of cell 5 reads"),
        (no_label, "the first cell doesn't begin with (sec-…)= and a title"),
        (two_titles, "there isn't one heading of the first level"),
    ],
)
def test_checks_find_faults(good, spoil, sentence):
    notebook = copy.deepcopy(good)
    spoil(notebook)
    found = [fault for check in notebooks.CHECKS for fault in check(notebook)]
    assert [fault for fault in found if fault.startswith(sentence)], found


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("print(0.5)", "print(0.25)", "the code was edited after its outputs were stored"),
        ('"tags"', '"scrolled": true, "tags"', "the file isn't in the form"),
        ('"execution_count": 2', '"execution_count": null', "cell 3 was never executed"),
        (
            '"name": "python"\n',
            '"name": "python", "version": "3.11"\n',
            "the file isn't in the form",
        ),
    ],
)
def test_check_option_finds_faults(stored, tmp_path, capsys, old, new, sentence):
    text = stored.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "chapter.ipynb"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert main(["refresh", "--check", str(path)]) == 1
    assert sentence in capsys.readouterr().out


def test_a_failing_cell_leaves_the_file_as_it_was(tmp_path, capsys):
    path = write(tmp_path / "failing.ipynb", [nbformat.v4.new_code_cell("1 / 0")])
    before = path.read_bytes()
    assert main(["refresh", str(path)]) == 1
    assert path.read_bytes() == before
    assert re.search(
        r"failing\.ipynb: left as it was.*ZeroDivisionError", capsys.readouterr().err, re.S
    )


@pytest.mark.parametrize("arguments", [["nowhere.ipynb"], []])
def test_a_missing_notebook_is_named(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["refresh", *arguments])
    assert re.search("no notebook", capsys.readouterr().err)


def test_a_changed_number_fails_the_comparison(stored, tmp_path):
    """One stored digit changed: nbval reports the cell, as it does in the book's own test run."""
    text = stored.read_text(encoding="utf-8")
    path = tmp_path / "chapter.ipynb"
    path.write_text(text.replace('"0.5\\n"', '"0.6\\n"'), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q", str(path)]
    run = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-c", os.devnull],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 1
    assert "1 failed, 4 passed" in run.stdout
    assert "0.6" in run.stdout
