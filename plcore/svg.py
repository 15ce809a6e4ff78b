"""Figures as SVG that stands in a page beside others and follows its light or dark theme.

>>> from plcore import figures
>>> from plcore.svg import svg
>>> figure, axes = figures.subplots()
>>> line = axes.plot([0, 1], color=figures.COLORS["blue"])
>>> "var(--figure-blue" in svg(figure)
True
"""

from __future__ import annotations

import hashlib
import io
import re
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["COLORS", "png", "share_glyphs", "svg"]

COLORS = {
    "ink": "#1f2328",
    "muted": "#656d76",
    "grid": "#d8dee4",
    "paper": "#ffffff",
    "blue": "#0072b2",
    "orange": "#d55e00",
    "green": "#00875f",
    "purple": "#b0548a",
    "gold": "#9a6700",
}
"""Okabe and Ito's colours, the two pale ones left out; in the book each follows the theme."""

_SVG_STYLE: dict[Any, Any] = {
    "svg.fonttype": "path",
    "svg.hashsalt": "plcore",
    "path.simplify": True,
}
_NO_METADATA = {"Date": None}


def svg(figure: Figure) -> str:
    """Return the figure as SVG that can stand in a page beside others.

    The bytes depend on the drawing alone: no date, no version, identifiers salted and prefixed
    with a hash of the content. The colours of `COLORS` are CSS variables (``--figure-blue``, …)
    with the light theme's value to fall back on.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(_SVG_STYLE):
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    root = ElementTree.fromstring(buffer.getvalue())
    _simplify(root)
    # A style element would reach out of the figure into the page; an attribute doesn't.
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    text = ElementTree.tostring(root, encoding="unicode")
    text = text.replace("ns0:", "").replace("xmlns:ns0=", "xmlns=")
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", text)
    prefix = "f" + hashlib.sha256(text.encode()).hexdigest()[:8] + "-"
    text = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{prefix}", text)
    for name, color in COLORS.items():
        text = re.sub(rf"{color}(?=[;\"])", f"var(--figure-{name}, {color})", text)
    return text


def _simplify(element: ElementTree.Element) -> None:
    """Drop what doesn't show from an SVG element: metadata, styles, bare groups, decimals."""
    for name, value in list(element.attrib.items()):
        if name.endswith("}href"):
            element.set("href", element.attrib.pop(name))
        elif name == "d":
            value = re.sub(r"-?\d+\.\d+", lambda match: _hundredths(match[0]), value)
            element.set("d", re.sub(r"\s*([A-Za-z])\s*", r"\1", value).strip())
        elif name in ("x", "y"):
            element.set(name, _hundredths(value))
    kept = []
    for child in element:
        _simplify(child)
        child.tail = "\n"
        kind = child.tag.split("}")[-1]
        if kind in ("metadata", "style") or (kind in ("g", "defs") and not len(child)):
            continue
        kept += list(child) if kind == "g" and not set(child.attrib) - {"id"} else [child]
    element[:] = kept
    element.text = "\n" if kept else None


def _hundredths(number: str) -> str:
    """Return a coordinate to a hundredth of a point."""
    return f"{float(number):.2f}".rstrip("0").rstrip(".")


def png(figure: Figure) -> bytes:
    """Return the figure as a small PNG with 64 colours: the file's bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    image = Image.open(buffer).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def share_glyphs(frame: str, glyphs: dict[str, str]) -> str:
    """Return a frame without the letters' outlines, which are added to `glyphs` once each.

    For other modules of the package.
    """
    names: dict[str, str] = {}

    def collect(match: re.Match[str]) -> str:
        outline = match[0].replace(f' id="{match[1]}"', "")
        name = "g" + hashlib.sha256(outline.encode()).hexdigest()[:10]
        names[match[1]] = name
        glyphs[name] = match[0].replace(match[1], name)
        return ""

    # Letters are the only paths with an identifier; clips, markers and hatches sit in groups.
    glyph = r'<path id="(f[0-9a-f]{8}-[A-Z][^"]*)"[^>]*/>\n?'
    frame = re.sub(glyph, collect, frame)
    return re.sub(r'href="#([^"]+)"', lambda m: f'href="#{names.get(m[1], m[1])}"', frame)
