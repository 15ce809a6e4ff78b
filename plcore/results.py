"""Result types: what a computation returns, and how a person sees it.

A `Bound` is proved, an `Estimate` is only measured; they are different types, so that one cannot
be mistaken for the other.

>>> from plcore.results import Bound
>>> print(Bound(4.0, "lower", "α", "closed form"))
Bound
  value      4
  direction  lower
  quantity   α
  reason     closed form
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

__all__ = ["Bound", "Estimate", "Result", "format_value"]


def format_value(value: Any) -> str:
    """Return `value` as a person reads it: four significant digits, arrays by their shape."""
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return format_value(value.item())
        if value.size > 4:
            return f"array of shape {value.shape}"
        return "[" + ", ".join(format_value(entry) for entry in value.ravel().tolist()) + "]"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        value = float(value)
        return str(value) if not math.isfinite(value) else f"{value:.4g}"
    if value is None:
        return "none"
    return str(value)


class Result:
    """Base of the frozen result dataclasses: read-only arrays, text and HTML form.

    A field whose metadata has ``show=False`` is kept out of both forms; ``label`` renames it.
    """

    def __post_init__(self) -> None:
        """Make every array field read-only (on a view: the caller's array stays writable)."""
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value = value.view()
                value.flags.writeable = False
                object.__setattr__(self, field.name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Come back from another process with read-only arrays, too."""
        self.__dict__.update(state)
        Result.__post_init__(self)

    def _rows(self) -> Iterator[tuple[str, str]]:
        for field in fields(self):  # type: ignore[arg-type]
            if field.metadata.get("show", True):
                label = field.metadata.get("label", field.name.replace("_", " "))
                yield label, format_value(getattr(self, field.name))

    def _title(self) -> str:
        return type(self).__name__

    def __str__(self) -> str:
        """Return the fields as aligned lines of text."""
        rows = list(self._rows())
        width = max((len(label) for label, _ in rows), default=0)
        lines = [f"  {label:<{width}}  {value}" for label, value in rows]
        return "\n".join([self._title(), *lines])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def __init_subclass__(cls) -> None:
        """Let notebooks store the four-digit text, on which all machines agree, not the repr."""
        # IPython prefers a class's own __repr__, which dataclass makes, to what it inherits.
        cls._repr_pretty_ = Result._repr_pretty_  # type: ignore[method-assign]

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th scope='row' style='text-align:left'>{html.escape(label)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for label, value in self._rows()
        )
        return f"<table><caption>{html.escape(self._title())}</caption>{rows}</table>"


@dataclass(frozen=True)
class Bound(Result):
    """A proved bound on a quantity.

    Attributes
    ----------
    value : float
        The bound.
    direction : {"lower", "upper"}
        Whether the true value is at least, or at most, `value`.
    quantity : str
        What is bounded.
    reason : str
        The statement that proves it.
    """

    value: float
    direction: str
    quantity: str
    reason: str

    def __post_init__(self) -> None:
        """Refuse a direction that says nothing."""
        super().__post_init__()
        if not isinstance(self.direction, str) or self.direction not in ("lower", "upper"):
            raise ValueError("The direction of a bound must be 'lower' or 'upper'.")

    def __float__(self) -> float:
        """Return the bound as a number."""
        return float(self.value)


@dataclass(frozen=True)
class Estimate(Result):
    """A measured value, with what is known about its error.

    Attributes
    ----------
    value : float
        The estimate.
    quantity : str
        What is estimated.
    method : str
        How; a search from above, say, says that the true value may be lower.
    """

    value: float
    quantity: str
    method: str

    def __float__(self) -> float:
        """Return the estimate as a number."""
        return float(self.value)
