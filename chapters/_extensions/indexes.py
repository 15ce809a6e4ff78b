"""Sphinx extension: the order of the bibliography and of the index of names.

* Both are alphabetical to a reader: Ł stands among the L, and an institution, which a BibTeX file
  keeps in braces, among the people.
* The index leaves out the modules, which the reference lists, and lets long names break.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby
from typing import Any

from markupsafe import Markup, escape
from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style
from pybtex.style.sorting.author_year_title import SortingStyle
from sphinx.application import Sphinx


def plain_letters(text: str) -> str:
    """Return a text in small letters without marks, as an alphabet orders it."""
    letters = unicodedata.normalize("NFD", text.lower().replace("ł", "l"))
    return "".join(c for c in letters if not unicodedata.combining(c) and c not in "{}")


class BookSorting(SortingStyle):  # type: ignore[misc]
    """By authors, year and title."""

    def person_key(self, person: Any) -> str:
        """Return what a person, or an institution, is sorted by."""
        return plain_letters(super().person_key(person))


class BookStyle(Style):  # type: ignore[misc]
    """The plain style of BibTeX, in the order above."""

    default_sorting_style = "book"


def arrange_index(
    app: Sphinx, page: str, template: str, context: dict[str, Any], document: Any
) -> None:
    """Sort the index of names, take the modules out, and offer breaks in what remains."""
    if page != "genindex":
        return
    entries = [entry for _, group in context["genindexentries"] for entry in group]
    entries = [
        (name, (links, [(breakable(below), to) for below, to in subentries], key))
        for name, (links, subentries, key) in entries
        if name != "module" and [below for below, _ in subentries] != ["module"]
    ]
    entries.sort(key=lambda entry: plain_letters(entry[0]))
    context["genindexentries"] = [
        (letter, [(breakable(name), rest) for name, rest in group])
        for letter, group in groupby(entries, key=lambda entry: plain_letters(entry[0])[0].upper())
    ]


def breakable(name: str) -> Markup:
    """Return a name with a place for a break after each underscore and dot."""
    return Markup(re.sub(r"(_+|\.)(?=\w)", r"\1<wbr>", str(escape(name))))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    register_plugin("pybtex.style.sorting", "book", BookSorting)
    register_plugin("pybtex.style.formatting", "book", BookStyle)
    app.connect("html-page-context", arrange_index)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
