"""The README tells the truth: its commands, its layout table, its links and its picture."""

import io
import re
import shlex
import shutil
import subprocess
import tomllib
from contextlib import redirect_stdout
from importlib import metadata, util
from itertools import pairwise
from pathlib import Path

import pytest
from test_floors import FLOORS

from plcore.__main__ import faults, main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

PREPARE = "python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt"
BUILD = f"{PREPARE} && .venv/bin/jupyter-book build . -W -n --keep-going"
TEST = f"{PREPARE} && .venv/bin/python -m pytest -n logical"
# All shell blocks, in order. Each is one line; BUILD and TEST are complete from a fresh clone.
COMMANDS = [
    BUILD,
    ".venv/bin/python chapters/_extensions/book_pdf.py book.pdf",
    TEST,
    ".venv/bin/jupyter lab chapters",
    ".venv/bin/python -m plcore certify arrays.npz certificate.json --widths 50 10 1"
    " --activation tanh",
    ".venv/bin/python -m plcore verify certificate.json arrays.npz",
    ".venv/bin/ruff check && .venv/bin/python -m plcore refresh",
]


def section(title):
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def tracked_files():
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [Path(name) for name in listing.split("\0") if name]


def test_commands_are_as_written():
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    assert blocks == [command + "\n" for command in COMMANDS]


def test_continuous_integration_runs_both_commands():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"grep '\^(.+?)' README\.md", script)
    found = [line for line in README.splitlines() if line.startswith(pattern)]
    assert found == [BUILD, TEST]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_refer_to_what_exists(command):
    """Each program is installed by some package, and each file or folder is in the repository."""
    scripts = {entry.name for entry in metadata.entry_points(group="console_scripts")}
    scripts |= {"pip", "ruff"}  # one comes with every environment, the other is no Python script
    tracked = {str(path) for path in tracked_files()}
    folders = {str(parent) for name in tracked for parent in Path(name).parents}
    for part in command.split(" && "):
        program, *arguments = shlex.split(part)
        if program == "python3":
            assert arguments == ["-m", "venv", ".venv"]
            continue
        name = program.removeprefix(".venv/bin/")
        if name == "python" and arguments[0] == "-m":
            assert util.find_spec(arguments[1]), part
        elif name == "python":
            assert arguments[0] in tracked, part
        else:
            assert name in scripts, part
        for word in arguments:
            written = word.endswith(".pdf")
            assert written or not (ROOT / word).exists() or word in tracked | folders, part
        for option, value in pairwise(arguments):
            assert option != "-r" or value in tracked


def test_examples_print_what_is_shown_and_the_commands_agree(tmp_path, monkeypatch):
    """Afterwards the certificate's commands work on the file that its example has written."""
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL)
    assert len(examples) == README.count("```python") == 2
    for code, shown in examples:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), {})
        assert printed.getvalue() == shown
    claim = shown.splitlines()[0]
    for command in COMMANDS:
        _, found, arguments = command.partition("python -m plcore ")
        if found and not arguments.startswith("refresh"):
            printed = io.StringIO()
            with redirect_stdout(printed):
                assert main(arguments.split()) == 0
            assert claim in " ".join(printed.getvalue().split())


def test_refresh_is_a_subcommand_of_the_package():
    source = (ROOT / "plcore" / "__main__.py").read_text(encoding="utf-8")
    assert re.search(r"""add_parser\(\s*["']refresh["']""", source)


def test_floors_and_extras_are_all_named():
    ranges = re.findall(r"^\| (\d+)–(\d+) \|", section("Layout"), re.MULTILINE)
    named = [floor for low, high in ranges for floor in range(int(low), int(high) + 1)]
    assert named == list(range(max(FLOORS.values()) + 1))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (sentence,) = re.findall(r"Extras add the rest:(.*?)\n\n", README, re.DOTALL)
    assert set(project["optional-dependencies"]) <= set(re.findall(r"`([\w-]+)`", sentence))


def test_layout_table_is_the_layout():
    named = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.+?) \|", section("Layout"), re.M)))
    top = {path.parts[0] + ("/" if len(path.parts) > 1 else "") for path in tracked_files()}
    # Settings that only git reads, and this page, need no explanation.
    assert sorted(named) == sorted(top - {".gitattributes", ".gitignore", "README.md"})


def test_every_path_and_link_leads_somewhere():
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", prose)
    assert links
    local = [link for link in links if "://" not in link]
    paths = [word for word in re.findall(r"`([\w./-]+)`", prose) if "/" in word or "." in word[1:]]
    for path in local + paths:
        if not path.startswith("_build"):
            assert (ROOT / path).exists(), path
    # The only page outside is the paper: the address of this repository is not known.
    assert {link for link in links if "://" in link} == {"https://arxiv.org/abs/2203.16462"}


def test_the_picture_is_a_figure_of_the_book_with_a_description(tmp_path):
    ((description, path),) = re.findall(r"!\[(.*?)\]\((.*?)\)", README, flags=re.DOTALL)
    assert len(description.split()) > 10
    chapter = shutil.copy(ROOT / "chapters" / "07_experiments.ipynb", tmp_path)
    picture = tmp_path / Path(path).relative_to("chapters")
    picture.parent.mkdir()
    picture.write_bytes((ROOT / path).read_bytes())
    assert faults(Path(chapter)) == []
    picture.write_bytes(picture.read_bytes() + b"\0")
    assert faults(Path(chapter)) == [f"{picture} isn't the stored figure"]


def test_pythons_named_are_the_ones_declared():
    classifiers = metadata.metadata("plcore").get_all("Classifier")
    versions = re.findall(r":: (3\.\d+)", " ".join(classifiers))
    (sentence,) = re.findall(r"The tests run on Linux with Python ([^,]*, .*?),", README)
    assert re.findall(r"3\.\d+", sentence) == versions
    assert f"Python {versions[0]} or newer" in README
