"""Sphinx extension: the index of statements, and a search that finds each by number and by name.

``{statement-index}`` lists all theorems, lemmas, definitions and so on, chapter by chapter, with
the numbers and titles that the build gave them, and in the margin the chapters.  Nothing is listed
by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

PAPER_MAP = "chapters/paper_map"


class statement_index(nodes.General, nodes.Element):
    """The place of the index, until all statements have their numbers."""


class StatementIndex(SphinxDirective):
    """The index of statements."""

    def run(self) -> list[nodes.Node]:
        """Leave a mark, to be replaced when all chapters are read."""
        return [statement_index()]


def pages_in_order(env: BuildEnvironment, page: str) -> Iterator[str]:
    """Give this page and all that stand below it in the table of contents."""
    yield page
    for below in env.toctree_includes.get(page, []):
        yield from pages_in_order(env, below)


def statements(env: BuildEnvironment, page: str) -> list[tuple[str, str]]:
    """Return label and name, such as "Theorem 2.1", of each statement on a page, in order."""
    numbers = env.toc_fignumbers.get(page, {})
    found = [
        (numbers[entry["countertype"]][label], label, entry["realtype"].title())
        for label, entry in getattr(env, "proof_list", {}).items()
        if entry["docname"] == page and not entry["nonumber"]
    ]
    return [(label, f"{kind} {'.'.join(map(str, n))}") for n, label, kind in sorted(found)]


def titles(env: BuildEnvironment, page: str) -> dict[str, list[nodes.Node]]:
    """Return the title of each statement on a page, without the brackets around it."""
    found = {}
    for statement in env.get_doctree(page).findall(nodes.Element):
        if "realtype" in statement:
            title = next(iter(statement.findall(nodes.title))).deepcopy()
            for place, bracket in ((0, r"^ *\("), (-1, r"\)$")):
                texts = list(title.findall(nodes.Text))
                if texts:
                    bare = nodes.Text(re.sub(bracket, "", texts[place]))
                    texts[place].parent.replace(texts[place], bare)
            found[statement["label"]] = title.children
    return found


def names_of(title: list[nodes.Node]) -> set[str]:
    """Return what a statement is called: its title without formulas, with and without an owner."""
    words = "".join(part.astext() for part in title if not isinstance(part, nodes.math))
    whole = " ".join(words.split())
    return {whole, re.sub(r"^(Ours|Chatterjee)[^:]*: ", "", whole)}


def number_of(env: BuildEnvironment, chapter: str) -> str:
    """Return the number of a chapter, or nothing where it has none."""
    return ".".join(map(str, env.toc_secnumbers.get(chapter, {}).get("", ())))


def index_of(app: Sphinx, page: str, chapter: str) -> nodes.section:
    """Return the part of the index, on `page`, that lists the statements of a chapter."""
    env = app.env
    number = number_of(env, chapter)
    heading = (
        f"{number}. {env.titles[chapter].astext()}" if number else env.titles[chapter].astext()
    )
    section = nodes.section("", nodes.title("", heading), ids=[f"statements-{number or chapter}"])
    entries = nodes.bullet_list(classes=["statement-index"])
    words = titles(env, chapter)
    for label, name in statements(env, chapter):
        link = make_refnode(app.builder, page, chapter, label, nodes.Text(name))
        entries += nodes.list_item(
            "", nodes.paragraph("", "", link, nodes.Text(" "), *words[label])
        )
    section += entries
    return section


def without_statements(env: BuildEnvironment, chapters: list[str]) -> list[nodes.Node]:
    """Return a sentence on the numbered chapters that state nothing, if there are any."""
    numbers = [number_of(env, chapter) for chapter in chapters if not statements(env, chapter)]
    *most, last = [number for number in numbers if number] or [""]
    if not last:
        return []
    which = f"Chapters {', '.join(most)} and {last} state" if most else f"Chapter {last} states"
    return [nodes.paragraph("", f"{which} nothing of their own." if most else f"{which} nothing.")]


def list_in_margin(env: BuildEnvironment, page: str, sections: list[nodes.section]) -> None:
    """Put the headings of the index, which is made after all pages are read, into its contents."""
    entries = nodes.bullet_list()
    for section in sections:
        words = nodes.Text(section[0].astext())
        place = {"internal": True, "refuri": page, "anchorname": f"#{section['ids'][0]}"}
        link = nodes.reference("", "", words, **place)
        entries += nodes.list_item("", addnodes.compact_paragraph("", "", link))
    (top,) = env.tocs[page]
    top[1:] = [entries]


def number_statements(app: Sphinx, document: nodes.document, page: str) -> None:
    """Fill the index; tell the search the names of this page's statements, and of the paper's."""
    titled = titles(app.env, page)
    names = [(name, label) for label, name in statements(app.env, page)]
    names += [(name, label) for _, label in names for name in sorted(names_of(titled[label]))]
    if page == PAPER_MAP:
        bold = " ".join(strong.astext() for strong in document.findall(nodes.strong))
        kinds = "Theorem|Lemma|Corollary|Proposition|Remark"
        names += [(name, "") for name in re.findall(rf"(?:{kinds}) [\dA]\.\d+", bold)]
    entries = [("single", name, label, "main", None) for name, label in dict.fromkeys(names)]
    # Such entries lead the results of the search where they are just what was asked for.
    document += addnodes.index(entries=entries)
    for mark in list(document.findall(statement_index)):
        # Titles hold formulas, and MathJax is loaded where a page is known to have some.
        app.env.get_domain("math").data["has_equations"][page] = True
        chapters = list(pages_in_order(app.env, app.config.root_doc))
        sections = [
            index_of(app, page, chapter) for chapter in chapters if statements(app.env, chapter)
        ]
        if page != app.config.root_doc:  # as it is where the book is one page, to be printed
            list_in_margin(app.env, page, sections)
        mark.replace_self([*without_statements(app.env, chapters), *sections])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.add_node(statement_index)
    app.add_directive("statement-index", StatementIndex)
    app.connect("doctree-resolved", number_statements)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
