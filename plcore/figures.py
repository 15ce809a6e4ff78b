"""Figures of the book: one style, themed SVG, and sliders that move with or without a kernel.

This module, `plcore.svg` below it and the command line are the top floor of the package: the only
ones that import matplotlib or ipywidgets, and nothing in the package imports them.

>>> import numpy as np
>>> from plcore import figures
>>> def draw(radius):
...     figure, axes = figures.subplots()
...     axes.plot([0, radius])
...     return figure
>>> figures.slider(draw, [1, 2, 3], label="radius r", alt="A line.")
slider of 3 drawings: radius r, 1 to 3
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from itertools import pairwise
from time import perf_counter
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plcore import _progress
from plcore.checks import finite_array, number
from plcore.svg import COLORS, png, share_glyphs, svg

__all__ = [
    "COLORS",
    "STARTS",
    "BookFigure",
    "Frames",
    "choice",
    "label_ends",
    "progress",
    "slider",
    "subplots",
    "svg",
    "use_style",
]

# The four starts of the experiments: line colour, line style and marker, in every figure the same.
STARTS = {
    "positive": {"color": COLORS["blue"], "linestyle": "-", "marker": "o"},
    "LeCun": {"color": COLORS["orange"], "linestyle": "--", "marker": "s"},
    "absolute LeCun": {"color": COLORS["green"], "linestyle": "-.", "marker": "^"},
    "conditioned LeCun": {"color": COLORS["purple"], "linestyle": (0, (1, 1.2)), "marker": "D"},
}

_STYLE: dict[Any, Any] = {
    "figure.figsize": (5.0, 3.2),
    "figure.facecolor": COLORS["paper"],
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "mathtext.fontset": "dejavusans",
    "text.color": COLORS["ink"],
    "axes.facecolor": "none",
    "axes.edgecolor": COLORS["muted"],
    "axes.labelcolor": COLORS["ink"],
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(
        color=[COLORS[name] for name in ("blue", "orange", "green", "purple", "gold", "ink")]
    ),
    "grid.color": COLORS["grid"],
    "grid.linewidth": 0.7,
    "xtick.color": COLORS["muted"],
    "ytick.color": COLORS["muted"],
    "xtick.labelcolor": COLORS["ink"],
    "ytick.labelcolor": COLORS["ink"],
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "lines.linewidth": 1.7,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "image.cmap": "cividis",
}


def use_style() -> None:
    """Set the book's style for every figure drawn from here on (matplotlib's ``rcParams``)."""
    mpl.rcParams.update(_STYLE)


class BookFigure(Figure):
    """A matplotlib figure that notebooks show as themed SVG, with a PNG where SVG is barred.

    It isn't known to pyplot, so that nothing shows it twice and nothing has to close it.
    """

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {
            "image/svg+xml": svg(self),
            "image/png": base64.b64encode(png(self)).decode(),
            "text/plain": "Figure",
        }


def subplots(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float | None = None,
    height: float | None = None,
    **options: Any,
) -> tuple[BookFigure, Any]:
    """Return a `BookFigure` and its axes, as ``matplotlib.pyplot.subplots`` does, without pyplot.

    Parameters
    ----------
    rows, columns : int
        Grid of axes. Stacked axes stay readable on a phone; beside each other, two are the most.
    width, height : float, optional
        Size of the figure in inches; by default 5 wide and 3.2 high, or 2.6 a row.
    **options
        Passed to ``Figure.subplots`` (``sharex``, ``height_ratios``, …).
    """
    default_width, default_height = mpl.rcParams["figure.figsize"]
    size = (width or default_width, height or default_height * (1 if rows == 1 else 0.8 * rows))
    figure = BookFigure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def label_ends(axes: Axes, lines: Iterable[Line2D] | None = None, *, gap: float = 1.15) -> None:
    """Write each line's label at its right end, in its colour, in place of a legend.

    Parameters
    ----------
    axes : Axes
        Call this last: the places follow from the final limits and size of the axes.
    lines : iterable of Line2D, optional
        Those with a label, if not given.
    gap : float
        Least distance of two labels, in heights of a letter.
    """
    if lines is None:
        lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    low, high = axes.transAxes.transform([(0, 0), (0, 1)])[:, 1]
    size = mpl.rcParams["legend.fontsize"]
    step = gap * size * axes.figure.dpi / 72 / (high - low)
    ends = []
    for line in lines:
        points = line.get_transform().transform(np.column_stack(line.get_data()).astype(float))
        last = points[np.isfinite(points).all(axis=1)][-1]
        x, y = axes.transAxes.inverted().transform(last)
        ends.append([min(x, 1.0), min(max(y, 0.0), 1.0), line])
    ends.sort(key=lambda end: end[1])
    heights = np.array([end[1] for end in ends])
    for _ in range(100):
        for k in range(len(heights) - 1):
            overlap = step - (heights[k + 1] - heights[k])
            if overlap > 1e-9:
                heights[k] -= overlap / 2
                heights[k + 1] += overlap / 2
    for (x, _, line), y in zip(ends, heights, strict=True):
        axes.annotate(
            str(line.get_label()),
            (x, y),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            color=line.get_color(),
            fontsize=size,
            va="center",
            annotation_clip=False,
        )


def progress(items: Collection[Any], what: str) -> Iterator[Any]:
    """Return an iterator over `items` that shows a bar once it takes more than two seconds.

    The bar is gone at the end, and does not come at all where the environment variable
    ``TQDM_DISABLE`` is set: outputs are stored and compared without it.

    Parameters
    ----------
    items : collection
        What a loop goes through; ``len(items)`` is the length of the bar.
    what : str
        What the items are, written before the bar.
    """
    return _progress.progress(items, len(items), what)


def slider(
    draw: Callable[[Any], Figure],
    values: Sequence[float],
    *,
    label: str,
    alt: str | Callable[[Any], str],
    start: float | None = None,
    text: Callable[[Any], str] = "{:.3g}".format,
) -> Frames:
    """Return `Frames`: a figure with a slider, to be the last expression of a notebook's cell.

    With a kernel the slider is a widget that calls `draw` for any value between the first and the
    last (whole numbers if all `values` are, evenly spaced in the logarithm if `values` are). In
    the built book, and wherever no kernel runs, it moves through one drawing for each of `values`.

    Parameters
    ----------
    draw : callable
        Takes a value, returns a figure; pure, and always of the same size.
    values : sequence of float
        At least two, increasing: the drawings kept in the page. A dozen is plenty.
    label : str
        What moves, in words or Unicode letters ("radius r"); plain text, no TeX.
    alt : str or callable
        What the figure shows, for those who can't see it; a callable takes the value.
    start : float, optional
        The value shown first, one of `values`; the middle one by default.
    text : callable
        Writes a value beside the slider.

    Raises
    ------
    TypeError
        If `draw` or `text` can't be called, or doesn't return a figure or a string.
    ValueError
        If there are fewer than two values, they aren't finite numbers that increase, `start`
        isn't among them, or the label or the alternative text is empty.
    """
    finite_array(values, "values", ndim=1)
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    if len(values) < 2 or not all(a < b for a, b in pairwise(values)):
        raise ValueError(f"values must be at least two numbers that increase, but are {values}.")
    start = values[len(values) // 2] if start is None else number(start, "start")
    # A value from np.linspace needn't be met to the last digit.
    start = next((value for value in values if math.isclose(value, start)), start)
    return Frames(draw, values, label=label, alt=alt, start=start, text=text, numeric=True)


def choice(
    draw: Callable[[Any], Figure],
    options: Sequence[Hashable],
    *,
    label: str,
    alt: str | Callable[[Any], str],
    start: Any = None,
    text: Callable[[Any], str] = str,
) -> Frames:
    """Return `Frames`: a figure with a menu of options; everything else as in `slider`.

    Raises
    ------
    TypeError
        As in `slider`.
    ValueError
        If there are fewer than two options, one occurs twice, `start` isn't among them, or the
        label or the alternative text is empty.
    """
    options = list(options)
    if len(options) < 2 or len(set(options)) < len(options):
        raise ValueError(f"options must be at least two different ones, but are {options}.")
    start = options[0] if start is None else start
    return Frames(draw, options, label=label, alt=alt, start=start, text=text, numeric=False)


# Builds the control out of the page's own drawings; where scripts don't run, the PNG stays.
_SCRIPT = """
(() => {
  const box = document.currentScript.closest(".figure-control");
  const [glyphs, ...frames] = box.querySelector("template").content.children;
  const make = (name, properties) => Object.assign(document.createElement(name), properties);
  const stage = make("div", {className: "figure-stage"});
  const row = make("label", {className: "figure-row"});
  const menu = box.dataset.kind === "choice";
  const input = menu ? make("select", {}) : make("input", {type: "range", min: 0, step: 1});
  const output = make("output", {});
  if (menu) frames.forEach((frame, k) => input.add(new Option(frame.dataset.text, k)));
  else input.max = frames.length - 1;
  input.value = box.dataset.start;
  input.dataset.lmSuppressShortcuts = "true";  // or JupyterLab takes the arrow keys
  row.style.cssText = "display: flex; gap: 0.2rem 0.9rem";
  const show = () => {
    stage.replaceChildren(glyphs, frames[input.value]);
    if (menu) return;
    output.textContent = frames[input.value].dataset.text;
    input.setAttribute("aria-valuetext", output.textContent);
  };
  row.append(make("span", {textContent: box.dataset.label}), input);
  if (!menu) row.append(output);
  input.addEventListener("input", show);
  show();
  box.replaceChildren(stage, row);
})();
"""


class Frames:
    """A figure that depends on one value, with a control for it (see `slider` and `choice`)."""

    def __init__(
        self,
        draw: Callable[[Any], Figure],
        values: list[Any],
        *,
        label: str,
        alt: str | Callable[[Any], str],
        start: Any,
        text: Callable[[Any], str],
        numeric: bool,
    ) -> None:
        if start not in values:
            raise ValueError(f"start must be one of {values}, but is {start!r}.")
        for name, function in (("draw", draw), ("text", text)):
            if not callable(function):
                raise TypeError(f"{name} must be a function of the value, but is {function!r}.")
        self.draw, self.values, self.start = draw, values, start
        self.text, self.numeric = text, numeric
        self.label = _words(label, "label")
        self.alt = alt if callable(alt) else lambda value: alt

    def __repr__(self) -> str:
        kind = "slider" if self.numeric else "choice"
        first, last = self.text(self.values[0]), self.text(self.values[-1])
        return f"{kind} of {len(self.values)} drawings: {self.label}, {first} to {last}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/html": self.html(), "text/plain": repr(self)}
        try:
            live = self.widget()
        except ImportError:
            return bundle
        view = live._repr_mimebundle_()
        bundle.update({name: data for name, data in view.items() if "widget-view" in name})
        return bundle

    def html(self) -> str:
        """Return the drawings and their control as HTML that needs no kernel."""
        # Most of a drawing is its letters: they are kept once for all of them.
        glyphs: dict[str, str] = {}
        values = progress(self.values, "drawings")
        frames = "".join(share_glyphs(self._frame(value), glyphs) for value in values)
        drawings = (
            '<svg width="0" height="0" style="position: absolute" aria-hidden="true" '
            f'xmlns="http://www.w3.org/2000/svg"><defs>{"".join(glyphs.values())}</defs></svg>\n'
            f"{frames}"
        )
        # A drawing may also stand elsewhere on the page: identifiers are this control's own.
        prefix = "c" + hashlib.sha256(drawings.encode()).hexdigest()[:8] + "-"
        drawings = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{prefix}", drawings)
        still = base64.b64encode(png(self.draw(self.start))).decode()
        return (
            f'<div class="figure-control" data-kind="{"slider" if self.numeric else "choice"}" '
            f'data-label="{html.escape(self.label)}" '
            f'data-start="{self.values.index(self.start)}">\n'
            f'<img alt="{self._alt(self.start)}" '
            f'src="data:image/png;base64,{still}" style="max-width: 100%">\n'
            "<p><em>Run this cell to move the control.</em></p>\n"
            f"<template>\n{drawings}</template>\n<script>{_SCRIPT}</script>\n</div>"
        )

    def _alt(self, value: Any) -> str:
        return html.escape(_words(self.alt(value), "alt"))

    def _frame(self, value: Any) -> str:
        figure = self.draw(value)
        if not isinstance(figure, Figure):
            raise TypeError(f"draw must return a matplotlib figure, but returned {figure!r}.")
        drawing = svg(figure)
        drawing = drawing.replace("<svg", f'<svg role="img" aria-label="{self._alt(value)}"', 1)
        text = html.escape(_words(self.text(value), "text"))
        return f'<div class="figure-frame" data-text="{text}">{drawing}</div>\n'

    def widget(self) -> Any:
        """Return the ipywidgets control that draws anew for each value."""
        import ipywidgets

        begin = perf_counter()
        picture = ipywidgets.HTML(self._frame(self.start))
        # A drawing that takes long is made when the control comes to rest.
        control = self._control(ipywidgets, perf_counter() - begin < 0.25)

        def redraw(change: dict[str, Any]) -> None:
            try:
                picture.value = self._frame(change["new"])
            except Exception as error:  # shown to the reader: a widget's errors go unseen
                picture.value = f"<pre>{html.escape(f'{type(error).__name__}: {error}')}</pre>"

        control.observe(redraw, names="value")
        return ipywidgets.VBox([picture, control])

    def _control(self, ipywidgets: Any, continuous: bool) -> Any:
        low, high = self.values[0], self.values[-1]
        options: dict[str, Any] = {"description": self.label, "value": self.start}
        options |= {
            "style": {"description_width": "initial"},
            "layout": {"width": "95%", "max_width": "40rem"},
        }
        if not self.numeric:
            pairs = [(self.text(value), value) for value in self.values]
            return ipywidgets.Dropdown(options=pairs, **options)
        options["continuous_update"] = continuous
        if all(isinstance(value, int) for value in self.values):
            return ipywidgets.IntSlider(min=int(low), max=int(high), **options)
        options["readout_format"] = ".3g"
        if low > 0 and np.ptp(np.diff(np.log(self.values))) < 0.01 * math.log(high / low):
            low, high = math.log10(low), math.log10(high)
            kind = ipywidgets.FloatLogSlider
        else:
            kind = ipywidgets.FloatSlider
        return kind(min=low, max=high, step=(high - low) / 200, **options)


def _words(text: Any, name: str) -> str:
    """Return `text` if it is a string with something in it."""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a string, but is {text!r}.")
    if not text.strip():
        raise ValueError(f"{name} must not be empty: it is what people hear who can't see.")
    return text
