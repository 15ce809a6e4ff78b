"""The set of starting points at which each criterion holds, in one or two dimensions.

>>> from plcore import toys
>>> from plcore.regions import region_of_starts
>>> starts = [[1.0, 1.2], [0.1, 0.1]]  # near a zero of (xy − 1)²; near its saddle
>>> found = region_of_starts(toys.hyperbola, starts, low=[-4, -4], high=[4, 4])
>>> print(found.verdict("criterion"))
[ 1 -1]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import checks
from .boxes import Cover
from .criterion import needs_boxes, one_point
from .objectives import Objective
from .results import Result
from .verdicts import SAFE

__all__ = ["Region", "region_of_starts"]


@dataclass(frozen=True)
class Region(Result):
    """Which starts satisfy the criteria, with proved bounds on how strongly they do.

    Attributes
    ----------
    starts : numpy.ndarray, shape (..., p)
    criterion_lower, criterion_upper : numpy.ndarray, shape (...)
        Bounds on the supremum of r² α(x_0, r)/(4 f(x_0)); (1.1) holds where it exceeds 1.
    integral_lower, integral_upper : numpy.ndarray, shape (...)
        Bounds on ∫ √α(x_0, s) ds/(2 √f(x_0)); (T2) holds where it exceeds 1.
    limit : float
        The largest radius that the upper bounds cover.
    """

    starts: np.ndarray
    criterion_lower: np.ndarray
    criterion_upper: np.ndarray
    integral_lower: np.ndarray
    integral_upper: np.ndarray
    limit: float

    def verdict(self, which: str) -> np.ndarray:
        """Return 1 where the criterion is proved, −1 where it is refuted, else 0; shape (...).

        `which` is "criterion" or "integral".
        """
        checks.one_of(which, ("criterion", "integral"), "which")
        proved = getattr(self, f"{which}_lower") * SAFE > 1
        refuted = getattr(self, f"{which}_upper") < SAFE
        return proved.astype(int) - refuted.astype(int)


def region_of_starts(
    objective: Objective,
    starts: Any,
    low: Any,
    high: Any,
    *,
    cells: int | None = None,
    limit: float | None = None,
) -> Region:
    """Bound both criteria at many starts at once, from one cover of a window by boxes.

    If α(x_0, r) ≥ v for all r < ρ(v) then sup r²α ≥ sup_v v ρ(v)², and the integral of √α is at
    least that of ρ over the levels √v.  Here ρ(v) is the distance from x_0 to the nearest box where
    the ratio may be below v, or to the window's edge.

    Parameters
    ----------
    objective : Objective
        With bounds on boxes, as for `criterion.pl_constant`.
    starts : array_like, shape (..., p)
        Points in the window.
    low, high : array_like, shape (p,)
        Corners of the window; the ratio outside counts as unknown.
    cells : int, optional
        Boxes along each side: 4096 on a line, 192 in the plane.
    limit : float, optional
        Largest radius for which a criterion is refuted; by default the window's diagonal.

    Returns
    -------
    Region

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range, or a start is outside the window.
    """
    needs_boxes(objective)
    starts = objective.check_point(starts, "starts")
    low, high = one_point(objective, low, "low"), one_point(objective, high, "high")
    if not (low < high).all():
        raise ValueError(f"low must be below high, but they are {low} and {high}.")
    if not ((low <= starts) & (starts <= high)).all():
        raise ValueError(f"starts must lie in the window from {low} to {high}.")
    default = 4096 if objective.dimension == 1 else 192
    cells = checks.positive_integer(default if cells is None else cells, "cells")
    checks.room((32, *[cells] * objective.dimension), "The enclosures on the cells")
    diagonal = float(np.linalg.norm(high - low))
    limit = checks.positive_number(diagonal if limit is None else limit, "limit")
    lower, upper = objective.ratio_lower, objective.ratio_upper  # type: ignore[attr-defined]

    def polish(x: np.ndarray) -> np.ndarray:
        # Newton's method for ∇f = 0: critical points with f > 0 are what refutes most.
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(20):
                inverse = np.linalg.pinv(objective.hessian(x))
                x = x - np.einsum("kij,kj->ki", inverse, objective.gradient(x))
                x = np.clip(x, low, high)
        return x

    cover = Cover(lower, upper, low, high, cells=cells, polish=polish)
    points = starts.reshape(-1, objective.dimension)
    box = objective.enclose(points, points).value  # type: ignore[attr-defined]
    here = upper(points)
    result = np.empty((4, len(points)))
    for k, point in enumerate(points):
        level, radius = cover.proved_levels(point)
        reach = [
            np.max(level * radius**2, initial=0.0),
            np.sum(np.diff(np.sqrt(level), prepend=0.0) * radius),
        ]
        level, radius = cover.refuted_levels(point)
        # Below the radius of a level the next one counts, and at last the ratio at x_0 itself.
        level = np.append(np.minimum(level, here[k]), here[k])
        outer = np.minimum(np.append(limit, radius), limit)
        width = outer - np.minimum(np.append(radius, 0.0), limit)
        level = np.where(width > 0, level, 0.0)
        most = [np.max(level * outer**2), np.sum(np.sqrt(level) * width)]
        result[:, k] = reach[0], most[0], reach[1], most[1]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        result[0] /= 4 * box.high
        result[1] /= 4 * box.low
        result[2] /= 2 * np.sqrt(box.high)
        result[3] /= 2 * np.sqrt(box.low)
    # 0/0: f(x_0) may be zero, and nothing is proved of α.
    result[:] = np.where(np.isnan(result), [[0.0], [np.inf], [0.0], [np.inf]], result)
    a, b, c, d = result.reshape(4, *starts.shape[:-1])
    return Region(starts, a, b, c, d, limit)
