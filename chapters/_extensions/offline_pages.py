"""Sphinx extension: pages that need no other host, and figures that follow the theme.

* MathJax is copied from the installed package ``sphinx-mathjax-offline``: the one script that the
  pages load, the TeX extensions that this script fetches when a formula asks for them, and the
  fonts. The package as a whole weighs 24 MB, this part of it 1.6.
* The theme's icons come as a script of 1.5 MB that knows two thousand; the dozen that the pages
  show are put into them instead.
* What opens and closes has a name that is read out, and no link inside.
* A notebook's SVG figures are put into the page instead of behind ``<img>``, so that their ink
  and paper can follow the light and the dark theme; also where another page shows their PNG.
"""

from __future__ import annotations

import base64
import html
import importlib.util
import json
import re
from pathlib import Path
from shutil import copy2
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx_design.dropdown import dropdown_title

MATHJAX_PACKAGE = "sphinx-mathjax-offline"
MATHJAX_SCRIPT = "tex-chtml.js"
# The extensions that MathJax's autoloader may fetch while it typesets.
MATHJAX_EXTENSIONS = (
    *("action", "amscd", "bbox", "boldsymbol", "braket", "bussproofs", "cancel", "color"),
    *("enclose", "extpfeil", "html", "mathtools", "textmacros", "unicode", "upgreek", "verb"),
)
ICON_LICENSE = """
    <!-- Icons: Font Awesome Free, CC BY 4.0, https://fontawesome.com/license/free -->"""

CITATIONS = '<div class="citation-list">'
NAMED_TOGGLE = '<summary aria-label="Pages of this part"><span class="toctree-toggle"'
# It would hide the words that stand there from those who listen.
NAMELESS = '<summary aria-label="Toggle hidden content">'


def mathjax_folder() -> Path:
    """Return the folder of the installed MathJax files."""
    found = importlib.util.find_spec(MATHJAX_PACKAGE)
    if found is None or found.origin is None:
        raise ExtensionError(f"The package {MATHJAX_PACKAGE} is not installed; the book needs it.")
    return Path(found.origin).parent / "static" / "mathjax"


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Copy the part of MathJax that the pages use into the built book."""
    if exception is not None or app.builder.format != "html":
        return
    source = mathjax_folder()
    target = Path(app.outdir) / "_static" / "mathjax"
    files = [Path(MATHJAX_SCRIPT)]
    files += [Path("input/tex/extensions") / f"{name}.js" for name in MATHJAX_EXTENSIONS]
    files += [path.relative_to(source) for path in source.glob("output/chtml/fonts/woff-v2/*")]
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        copy2(source / file, target / file)


def inline_icons(app: Sphinx, exception: Exception | None) -> None:
    """Draw the icons of Font Awesome into the pages, and take its script out of them.

    The toggles of the table of contents show an icon alone; they get a name to be read out.
    The bibliography loses a role that its entries do not go with.
    """
    script = Path(app.outdir) / "_static" / "scripts" / "fontawesome.js"
    if exception is not None or app.builder.format != "html" or not script.is_file():
        return
    source = script.read_text(encoding="utf-8")

    def draw(match: re.Match[str]) -> str:
        (name,) = re.findall(r"fa-(?!solid|lg)([a-z-]+)", match["classes"])
        shape = r'[{,]"?' + name + r'"?:\[(\d+),(\d+),\[[^\]]*\],"\w+","([^"]+)"\]'
        # The script holds the brands' icons first, the solid ones last.
        width, height, path = re.findall(shape, source)[-1]
        return (
            f'<svg aria-hidden="true" viewBox="0 0 {width} {height}" {match["before"]}'
            f'class="svg-inline--fa {match["classes"]}"{match["after"]}>'
            f'<path fill="currentColor" d="{path}"/></svg>'
        )

    icon = re.compile(
        r'<(?P<tag>i|span) (?P<before>[^>]*)class="(?P<classes>[^"]*\bfa(?:s|-solid) [^"]*)"'
        r"(?P<after>[^>]*)>\s*</(?P=tag)>"
    )
    for page in Path(app.outdir).rglob("*.html"):
        before = page.read_text(encoding="utf-8")
        after = re.sub(r"\s*<script[^>]*fontawesome\.js[^>]*></script>", ICON_LICENSE, before)
        after = icon.sub(draw, after)
        after = after.replace('<summary><span class="toctree-toggle"', NAMED_TOGGLE)
        after = after.replace(NAMELESS, "<summary>")
        # What docutils calls a list has entries that are no list items.
        after = after.replace('<div role="list" class="citation-list">', CITATIONS)
        if after != before:
            page.write_text(after, encoding="utf-8")
    for unused in {*script.parent.glob("fontawesome*"), *Path(app.outdir).rglob("*.map")}:
        unused.unlink()


def stored_drawing(picture: Path) -> str | None:
    """Return the SVG output of the notebook that a PNG file was copied from, if there is one."""
    content = picture.read_bytes()
    for notebook in sorted(picture.parents[1].glob("*.ipynb")):
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                drawing = "".join(data.get("image/svg+xml", ""))
                png = "".join(data.get("image/png", ""))
                if drawing and base64.b64decode(png) == content:
                    return drawing
    return None


class InlineFigures(SphinxPostTransform):
    """Put the SVG outputs of notebooks into the page, with their alternative text."""

    # Right after MyST-NB has chosen which form of an output the page shows.
    default_priority = 5
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Replace each SVG image that comes out of a notebook by the drawing itself."""
        for image in list(self.document.findall(nodes.image)):
            path = Path(self.env.srcdir, image["uri"])
            if path.suffix == ".svg" and path.parent.name == "jupyter_execute":
                drawing = path.read_text(encoding="utf-8")
            elif path.suffix == ".png" and path.parent.name == "_static":
                drawing = stored_drawing(path)
            else:
                continue
            if drawing is None:
                continue
            label = html.escape(image.get("alt", ""))
            drawing = drawing.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
            text = f'<div class="figure-still">{drawing}</div>'
            image.replace_self(nodes.raw("", text, format="html"))


class PlainSummaries(SphinxPostTransform):
    """Take the links out of the titles of dropdowns: a click there opens or closes, no more."""

    default_priority = 900  # after the links have their texts
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Put each link's text in its place."""
        for title in self.document.findall(dropdown_title):
            for link in list(title.findall(nodes.reference)):
                link.replace_self(link.children)


class TidyProofs(SphinxPostTransform):
    """Take the identifiers off that sphinx-proof gives to every statement and proof alike."""

    # Not before the page is written: until then Sphinx takes a statement for a section.
    default_priority = 900
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Leave each label's identifier as the only one, and set proofs apart by their looks."""
        for node in self.document.findall(nodes.Element):
            if node.get("ids") == ["proof-content"]:
                node["ids"] = []
            elif node.get("ids") == ["proof"]:
                node["ids"] = []
                node["classes"] = ["proof-text"]
                first = next(iter(node.findall(nodes.Text)))
                text = first.removeprefix("Proof. ")
                first.parent.replace(first, [nodes.emphasis("", "Proof."), nodes.Text(f" {text}")])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    # Jupyter Book always sets this value, for an extension that the book leaves out.
    app.add_config_value("comments_config", {}, "")
    app.config.mathjax_path = f"mathjax/{MATHJAX_SCRIPT}"
    app.add_post_transform(InlineFigures)
    app.add_post_transform(PlainSummaries)
    app.add_post_transform(TidyProofs)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", inline_icons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
