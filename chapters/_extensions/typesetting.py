"""Sphinx extension: where lines may break, and signs that do not hang on the reader's fonts.

* A browser may break a line on either side of a formula, also before the comma that follows it.
  Punctuation and formula are put together, so that no line begins with a comma.
* A long name in a table or in the reference may be broken after its underscores, code also after
  dots and colons.
* The signs of the exercises, ✍ by hand and ⌨ by computation, are in few fonts: they become icons
  that are read out by their meaning.
"""

from __future__ import annotations

import html
import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

# What belongs to the formula after it, and before it: brackets, stops, and endings such as "-th".
OPENING = re.compile(r"[(\[“‘\"]+$")
CLOSING = re.compile(r"[^\s—–/]{1,16}(?=[\s—–/]|$)|[)\],.;:!?’”\"]+")

SIGNS = {"✍": ("pen-nib", "by hand"), "⌨": ("keyboard", "by computation")}


class KeepPunctuation(SphinxPostTransform):
    """Put formulas and the punctuation around them into one box that is not broken."""

    default_priority = 700
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Wrap each formula that has a letter or a sign right beside it."""
        for formula in list(self.document.findall(nodes.math)):
            parent = formula.parent
            place = parent.index(formula)
            before = self.cut(parent, place - 1, OPENING)
            after = self.cut(parent, place + 1, CLOSING)
            if before or after:
                together = nodes.inline("", "", classes=["together"])
                parent.replace(formula, together)
                together += [nodes.Text(before), formula, nodes.Text(after)]

    @staticmethod
    def cut(parent: nodes.Element, place: int, pattern: re.Pattern[str]) -> str:
        """Take what matches out of a text, at its end or its beginning, and return it."""
        if not 0 <= place < len(parent) or not isinstance(parent[place], nodes.Text):
            return ""
        text = parent[place].astext()
        found = pattern.search(text) if pattern is OPENING else pattern.match(text)
        if not found:
            return ""
        parent[place] = nodes.Text(text[: found.start()] + text[found.end() :])
        return found.group()


class BreakNames(SphinxPostTransform):
    """Let lines in tables, and in the entries of the reference, break inside of long names."""

    default_priority = 700
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Offer a break after each underscore, and of code after each dot and colon."""
        narrow = (nodes.table, addnodes.desc_content)
        for place in self.document.findall(lambda node: isinstance(node, narrow)):
            for holder in list(place.findall(nodes.TextElement)):
                ends = {nodes.literal: r"_+|\.|::|$", nodes.inline: "_+|$"}.get(type(holder))
                if ends and all(isinstance(part, nodes.Text) for part in holder):
                    parts = re.findall(f".+?(?:{ends})", holder.astext())
                    holder.clear()
                    for k, part in enumerate(parts):
                        holder += [nodes.raw("", "<wbr>", format="html")] * (k > 0)
                        holder += nodes.Text(part)


class DrawSigns(SphinxPostTransform):
    """Draw the signs of the exercises."""

    default_priority = 700
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Put an icon in the place of each sign in a title; `offline_pages` has their shapes."""
        for title in self.document.findall(nodes.title):
            for text in list(title.findall(nodes.Text)):
                parts: list[nodes.Node] = []
                for part in re.split(f"([{''.join(SIGNS)}])\ufe0f?", text.astext()):
                    if part in SIGNS:
                        icon, meaning = SIGNS[part]
                        words = html.escape(meaning)
                        drawing = (
                            f'<span class="sign" role="img" title="{words}" aria-label="{words}">'
                            f'<i class="fa-solid fa-{icon}"></i></span>'
                        )
                        parts.append(nodes.raw("", drawing, format="html"))
                    elif part:
                        parts.append(nodes.Text(part))
                if len(parts) > 1:
                    text.parent.replace(text, parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    for transform in (KeepPunctuation, BreakNames, DrawSigns):
        app.add_post_transform(transform)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
