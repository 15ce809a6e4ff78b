"""Sphinx extension: the reference of `plcore`, built from its docstrings.

``.. plcore-floors::`` lists the public modules, lowest floor first; ``.. plcore-modules:: 2 3``
makes one section of each that stands on these floors.  No module is named by hand: the floor plan
of ``tests/test_floors.py`` names them.  ``.. plcore-command:: verify`` shows the help of a command.
Names on the paper map become links here: written as roles they would not read well in JupyterLab.
"""

from __future__ import annotations

import ast
import io
import os
import re
from contextlib import redirect_stdout, suppress
from functools import cache
from importlib import import_module
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from docutils import nodes
from docutils.parsers.rst import roles
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

PACKAGE = "plcore"
PAPER_MAP = "chapters/paper_map"
PLAN = Path(__file__).parents[2] / "tests" / "test_floors.py"


@cache
def floors() -> dict[str, int]:
    """Return the floor of each public module that exists, lowest first."""
    for statement in ast.parse(PLAN.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "FLOORS":
            plan = ast.literal_eval(statement.value)
    present = {
        path.stem for path in Path(import_module(PACKAGE).__file__ or "").parent.glob("*.py")
    }
    public = {name: floor for name, floor in plan.items() if name in present and name[0] != "_"}
    return dict(sorted(public.items(), key=lambda item: (item[1], item[0])))


@cache
def public_classes() -> set[str]:
    """Return the names of the classes that the public modules define."""
    modules = [import_module(f"{PACKAGE}.{name}") for name in floors()]
    return {
        name
        for module in modules
        for name in module.__all__
        if isinstance(getattr(module, name), type)
    }


class Table(SphinxDirective):
    """What each module holds, in the words of its docstring's first line."""

    def run(self) -> list[nodes.Node]:
        """Write a table as reStructuredText and have it parsed in place."""
        self.env.note_dependency(str(PLAN))
        lines = [".. list-table::", "   :header-rows: 1", ""]
        lines += ["   * - floor", "     - module", "     - what it holds"]
        for name, floor in floors().items():
            module = import_module(f"{PACKAGE}.{name}")
            self.env.note_dependency(str(module.__file__))
            summary = escape((module.__doc__ or "").partition("\n")[0])
            lines += [f"   * - {floor}", f"     - :ref:`{name} <api-{name}>`", f"     - {summary}"]
        text = StringList(lines, source=self.get_source_info()[0])
        return set_scripts(self.parse_text_to_nodes(text))


class Modules(SphinxDirective):
    """A section for each module that stands on one of the given floors."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Write the sections as reStructuredText and have them parsed in place."""
        self.env.note_dependency(str(PLAN))
        first, last = (int(floor) for floor in self.arguments[0].split())
        lines = []
        for name, floor in floors().items():
            if first <= floor <= last:
                lines += [f".. _api-{name}:", "", name, "-" * len(name), ""]
                lines += [f".. automodule:: {PACKAGE}.{name}", "   :members:", "   :no-value:", ""]
        text = StringList(lines, source=self.get_source_info()[0])
        return set_scripts(self.parse_text_to_nodes(text, allow_section_headings=True))


class Command(SphinxDirective):
    """The help of a command of ``python -m plcore``, as the command line prints it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Ask the command line for it."""
        program = import_module(f"{PACKAGE}.__main__")
        self.env.note_dependency(str(program.__file__))
        with (
            patch.dict(os.environ, COLUMNS="80"),
            redirect_stdout(io.StringIO()) as printed,
            suppress(SystemExit),
        ):
            program.main([self.arguments[0], "--help"])
        return [nodes.literal_block(text=printed.getvalue().rstrip(), language="none")]


class LinkNames(SphinxTransform):
    """Link code on the paper map, such as ``criterion.criterion``, to its entry."""

    default_priority = 400  # before references are resolved

    def apply(self, **kwargs: Any) -> None:
        """Do as the role of the docstrings does."""
        if self.env.docname == PAPER_MAP:
            for literal in list(self.document.findall(nodes.literal)):
                target = resolve(f"{PACKAGE}.{literal.astext()}")
                if target and "." in literal.astext():
                    link = entry_of(target, literal.astext(), self.env.docname)
                    literal.replace_self(link)


# A letter, a number or what closes a group; then indices and exponents, in braces if they are long.
SCRIPT = re.compile(
    r"((?<![A-Za-z_.])(?:min|max|sup|[^\W\d_][\u0307\u0308′″⁰¹²]?)|(?<![\w.])\d+(?=\^)"
    r"|[]})|‖ᵀ₀₁₂⁾∇∂])"
    r"((?:[_^](?:\{(?:[^{}]|\{[^{}]*\})*\}|[0-9A-Za-zα-ωℓ]+|[½¼*]))+)"
)
PART = re.compile(r"([_^])(?:\{((?:[^{}]|\{[^{}]*\})*)\}|([0-9A-Za-zα-ωℓ]+|[½¼*]))")
AS_WRITTEN = (nodes.literal, nodes.FixedTextElement, nodes.strong, nodes.title)


def scripts(text: str) -> list[nodes.Node]:
    """Return a text with its indices and exponents lowered and raised: x_{k+1}, (1 − δ)^k."""
    found: list[nodes.Node] = []
    done = 0
    for match in SCRIPT.finditer(text):
        found.append(nodes.Text(text[done : match.end(1)]))
        for sign, long, short in PART.findall(match[2]):
            kind = nodes.subscript if sign == "_" else nodes.superscript
            found.append(kind("", "", *scripts(long or short)))
        done = match.end()
    return [*found, nodes.Text(text[done:])]


def set_scripts(made: list[nodes.Node]) -> list[nodes.Node]:
    """Lower indices and raise exponents in all that is text and neither code nor a name."""
    for text in [text for node in made for text in node.findall(nodes.Text)]:
        parent = text.parent
        while parent and not isinstance(parent, (*AS_WRITTEN, addnodes.desc_signature)):
            parent = parent.parent
        if parent is None and SCRIPT.search(text):
            text.parent.replace(text, scripts(text))
    return made


def escape(line: str) -> str:
    """Escape what reStructuredText takes for markup and a docstring means as it stands."""
    pieces = re.split(r"(``.*?``|`[^`]*`)", line)
    for k in range(0, len(pieces), 2):
        pieces[k] = pieces[k].replace("|", r"\|").replace("(*", r"(\*")
    # A letter alone with a full stop would begin an enumeration.
    return re.sub(r"^(\s*[A-Za-z])\.(?=\s|$)", r"\1\.", "".join(pieces))


def link_types(line: str) -> str:
    """Put the package's classes into backticks where a line declares a type, and does only that."""
    name, colon, types = line.partition(" : ")
    if not colon:  # of what is returned
        name, types = "", line
        if not set(line.split()) - {"or"} <= public_classes():
            return line
    elif not re.fullmatch(r"\s*\w+(, \w+)*", name):
        return line

    def link(word: re.Match[str]) -> str:
        return f"`{word[0]}`" if word[0] in public_classes() else word[0]

    return name + colon + re.sub(r"(?<![`.])\b[A-Z]\w+\b(?!`)", link, types)


def mend_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Turn a docstring that is written to be read as it stands into reStructuredText, in place.

    Examples and tables stay as they are.  So do displays, which are the paragraphs further in than
    the text before them: these are set in letters of equal width.
    """
    for field in getattr(obj, "_fields", ()):  # of a named tuple: the class describes them
        getattr(obj, field).__doc__ = ""
    if what == "data" and isinstance(obj, tuple):
        lines += ["", f"Value: ``{obj!r}``."]
    elif what == "data" and isinstance(obj, dict) and all(isinstance(key, str) for key in obj):
        plain = all(isinstance(value, str | tuple) for value in obj.values())
        entries = [f"{key!r}: {obj[key]!r}" if plain else repr(key) for key in obj]
        listed = ", ".join(f"``{entry}``" for entry in entries)
        lines += ["", f"{'Entries' if plain else 'Keys'}: {listed}."]
    mended: list[str] = []
    before = 0  # the margin of the text before
    for filled, group in groupby(lines, key=lambda line: bool(line.strip())):
        block = list(group)
        margin = len(block[0]) - len(block[0].lstrip())
        first = block[0].lstrip()
        if filled and margin > before and first[:2] not in ("==", ">>"):
            mended += [" " * before + "::", "", *(f"    {line}" for line in block)]
            continue
        example = False
        for line in block:
            example = example or line.lstrip().startswith(">>>")
            mended.append(line if example else emphasize(escape(link_types(line))))
        if filled and not example:
            before = len(block[-1]) - len(block[-1].lstrip())
    lines[:] = mended


def emphasize(line: str) -> str:
    """Set the first word of a part of a theorem in bold."""
    return re.sub(r"^(Statement|Assumptions|Constants|Proof|Reference)\.(?=\s)", r"**\1.**", line)


def reference(
    role: str, source: str, text: str, line: int, inliner: Any, *_: Any, **__: Any
) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """Link a name in single backticks to what it names in the package; else it is code."""
    env = inliner.document.settings.env
    module = env.ref_context.get("py:module") or PACKAGE
    bases = dict.fromkeys([f"{module}.{env.ref_context.get('py:class')}", module, PACKAGE])
    for target in (resolve(f"{base}.{text}") for base in bases):
        if target:
            return [entry_of(target, text, env.docname)], []
    return [nodes.literal(text, text)], []


def entry_of(target: str, text: str, page: str) -> addnodes.pending_xref:
    """Return a link, on a page, to the entry of what has a full name."""
    code = nodes.literal(text, text, classes=["xref", "py"])
    options = {"refdomain": "py", "reftype": "obj", "reftarget": target}
    return addnodes.pending_xref(text, code, refdoc=page, **options)


@cache
def resolve(dotted: str) -> str | None:
    """Return the full name of an object of the package, from where it is defined, if it exists."""
    found: Any = None
    names: list[str] = []
    for part in dotted.split("."):
        names.append(part)
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = import_module(".".join(names))
            except ImportError:
                return None
    home = getattr(found, "__module__", None)
    if home and home.startswith(PACKAGE) and hasattr(found, "__qualname__"):
        return f"{home}.{found.__qualname__}"
    if isinstance(found, ModuleType):
        return found.__name__
    for module in (import_module(f"{PACKAGE}.{name}") for name in floors()):
        if names[-1] in module.__all__ and getattr(module, names[-1]) is found:
            return f"{module.__name__}.{names[-1]}"  # a constant
    return ".".join(names)


def without_entry(app: Sphinx, env: Any, node: Any, content: nodes.Node) -> nodes.Node | None:
    """Leave a name in single backticks as code where the thing that it names has no entry."""
    return content if (node.get("refdomain"), node.get("reftype")) == ("py", "obj") else None


def is_foreign(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Skip what stands elsewhere: in another package, or in the section of another module."""
    home = getattr(obj, "__module__", None) or PACKAGE
    if what == "class":
        return True if not home.startswith(PACKAGE) else None
    here = app.env.temp_data.get("autodoc:module")
    return (
        True if what == "module" and home != here and home.partition(".")[2] in floors() else None
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("numpydoc")
    roles.register_local_role("plcore", reference)
    app.add_directive("plcore-floors", Table)
    app.add_directive("plcore-modules", Modules)
    app.add_directive("plcore-command", Command)
    app.add_transform(LinkNames)
    # Before numpydoc reads the sections.
    app.connect("autodoc-process-docstring", mend_docstring, priority=400)
    app.connect("autodoc-skip-member", is_foreign)
    app.connect("missing-reference", without_entry)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
