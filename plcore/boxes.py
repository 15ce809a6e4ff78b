"""Least values over balls, proved from lower bounds on boxes and upper bounds at points.

`least_over_balls` finds the least value of a function over every ball of a growing family around
one centre, by branch and bound.  `Cover` keeps one grid of boxes for many centres at once.

>>> import numpy as np
>>> from plcore.boxes import least_over_balls
>>> def lower(low, high):  # of (x − 2)² on intervals
...     return np.square(np.maximum(np.maximum(low - 2, 2 - high), 0))[:, 0]
>>> def upper(x):
...     return np.square(x - 2)[:, 0]
>>> balls = np.zeros(1), np.array([0.5, 1.0])  # their centre and radii
>>> found = least_over_balls(lower, upper, *balls, tolerance=1e-6, box_limit=1000)
>>> print(found.lower.round(4), found.upper.round(4))
[2.25 1.  ] [2.25 1.  ]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

__all__ = ["Cover", "LeastValues", "least_over_balls"]

# Distances come out of a handful of IEEE operations: this factor covers their rounding.
_DOWN, _UP = 1 - 2.0**-48, 1 + 2.0**-48
_ROUNDS = 60

Bound = Callable[..., np.ndarray]


class LeastValues(NamedTuple):
    """Bounds on the least value over each ball.

    Attributes
    ----------
    lower, upper : numpy.ndarray, shape (m,)
        Proved: the infimum over the ball of radius r_j lies between the j-th entries.
    boxes : int
        How many boxes were looked at.
    """

    lower: np.ndarray
    upper: np.ndarray
    boxes: int


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def least_over_balls(
    lower_bound: Bound,
    upper_bound: Bound,
    center: np.ndarray,
    radii: np.ndarray,
    *,
    tolerance: float,
    box_limit: int,
) -> LeastValues:
    """Enclose the infimum of a function over closed balls B(center, r), for all radii together.

    Parameters
    ----------
    lower_bound : callable
        Takes corners `low`, `high` of shape ``(N, p)`` and returns proved lower bounds, ``(N,)``.
    upper_bound : callable
        Takes points ``(N, p)`` and returns proved upper bounds on the infimum over any set that
        contains the point, ``(N,)``; ∞ where nothing is known.
    center : numpy.ndarray, shape (p,)
    radii : numpy.ndarray, shape (m,)
        Positive and increasing.
    tolerance : float
        Stop when ``upper - lower <= tolerance * upper + tolerance**2 * upper[0]`` for all radii.
    box_limit : int
        Stop after about this many boxes; the bounds are then wider, and still proved.

    Returns
    -------
    LeastValues
    """
    p, m = len(center), len(radii)
    upper = np.full(m, np.inf)
    closed = np.full(m, np.inf)  # least bound among the finished boxes that first touch ball j
    low, high = _grid(_sides(center - radii[-1], center + radii[-1], 64 if p == 1 else 12))
    bound = np.zeros(len(low))
    count = 0
    for _ in range(_ROUNDS):
        nearest, farthest = _distances(center, low, high)
        touching = nearest <= radii[-1]
        low, high, bound = low[touching], high[touching], bound[touching]
        first = np.searchsorted(radii, nearest[touching], side="left")
        bound = np.fmax(bound, lower_bound(low, high))
        points = _points(center, radii, low, high, farthest[touching])
        reach = np.searchsorted(radii, _UP * _norm(points - center), side="left")
        inside = reach < m
        np.minimum.at(upper, reach[inside], upper_bound(points[inside]))
        upper = np.minimum.accumulate(upper)
        count += len(low)
        known = np.isfinite(upper)
        slack = tolerance**2 * upper[0] if known[0] else 0.0
        target = np.where(known, (1 - tolerance) * np.where(known, upper, 0.0) - slack, np.inf)
        wide = (high - low).max(axis=1, initial=0.0) > 1e-13 * radii[-1]
        active = (bound < target[first]) & wide
        np.minimum.at(closed, first[~active], bound[~active])
        low, high, bound, first = low[active], high[active], bound[active], first[active]
        if not len(low) or count + len(low) * 2**p > box_limit:
            break
        low, high, bound = _halved(low, high, bound)
    else:
        first = np.searchsorted(radii, _distances(center, low, high)[0], side="left")
        first, bound = first[first < m], bound[first < m]
    np.minimum.at(closed, first, bound)
    return LeastValues(np.minimum.accumulate(closed), upper, count)


def _sides(low: np.ndarray, high: np.ndarray, cells: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut each side of a box, one ulp wider, into equal parts that leave no gap."""
    low, high = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
    edges = [np.linspace(a, b, cells + 1) for a, b in zip(low, high, strict=True)]
    return [(edge[:-1], edge[1:]) for edge in edges]


def _grid(sides: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of all boxes with the given sides, the last axis running fastest."""
    corners = [np.meshgrid(*parts, indexing="ij") for parts in zip(*sides, strict=True)]
    low, high = (np.stack([part.ravel() for part in parts], -1) for parts in corners)
    return low, high


def _halved(
    low: np.ndarray, high: np.ndarray, bound: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Halve boxes along every side; the halves inherit the bound."""
    for k in range(low.shape[1]):
        middle = 0.5 * (low[:, k] + high[:, k])
        left, right = high.copy(), low.copy()
        left[:, k] = right[:, k] = middle
        low, high = np.concatenate([low, right]), np.concatenate([left, high])
        bound = np.concatenate([bound, bound])
    return low, high, bound


def _norm(v: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.hypot.reduce(np.abs(v), axis=-1)  # also where squares leave the range
    return found


def _distances(
    center: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return a lower bound on the distance to each box's nearest point, and to its farthest."""
    near = np.maximum(np.maximum(low - center, center - high), 0.0)
    far = np.maximum(np.abs(low - center), np.abs(high - center))
    return _DOWN * _norm(near), _norm(far)


def _points(
    center: np.ndarray, radii: np.ndarray, low: np.ndarray, high: np.ndarray, far: np.ndarray
) -> np.ndarray:
    """Return the middle of each box, and that point moved onto the last sphere that it meets."""
    middle = 0.5 * (low + high)
    distance = _norm(middle - center)
    radius = radii[np.searchsorted(radii, far, side="right").clip(1) - 1]
    scale = np.where(radius < far, radius * (1 - 2.0**-40) / np.where(distance > 0, distance, 1), 1)
    return np.concatenate([middle, center + scale[:, None] * (middle - center)])


class Cover:
    """A grid of boxes with bounds on a function, for least values over balls around any centre.

    Parameters
    ----------
    lower_bound, upper_bound : callable
        As for `least_over_balls`.
    low, high : numpy.ndarray, shape (p,)
        Corners of the window that is covered.
    cells : int
        Boxes along each side.
    polish : callable, optional
        Takes the lowest points of the grid, ``(N, p)``, and returns lower ones.
    """

    def __init__(
        self,
        lower_bound: Bound,
        upper_bound: Bound,
        low: np.ndarray,
        high: np.ndarray,
        *,
        cells: int,
        polish: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self.low, self.high = low, high
        # The sides of the boxes along each axis: distances are put together from them.
        self._sides = _sides(low, high, cells)
        lows, highs = _grid(self._sides)
        self._lower = _Levels(lower_bound(lows, highs))
        self._finite = int(np.isfinite(self._lower.bottom).sum())
        middle = 0.5 * (lows + highs)
        upper = upper_bound(middle)
        self._found = middle[:0]
        if polish is not None:
            grid = upper.reshape((cells,) * len(low))
            lowest = (grid <= ndimage.minimum_filter(grid, size=3)) & np.isfinite(grid)
            if lowest.any():
                found = polish(middle[lowest.ravel()])
                self._found = found[np.isfinite(found).all(axis=1)]
                upper = np.append(upper, upper_bound(self._found))
        self._upper = _Levels(upper)

    def proved_levels(self, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return finite levels v_k, increasing, and radii ρ_k: the function is ≥ v_k on B(ρ_k).

        The balls are open and stay in the window: ρ_k is the distance to the nearest box whose
        bound is below v_k, or to the edge.
        """
        near = [
            np.maximum(np.maximum(low - c, c - high), 0.0)
            for c, (low, high) in zip(center, self._sides, strict=True)
        ]
        edge = max(min(np.min(center - self.low), np.min(self.high - center)), 0.0)
        reach = self._lower.least(_square_sums(near).ravel())
        reach = np.minimum.accumulate(np.concatenate([[edge], np.sqrt(reach[:-1])]))
        return self._lower.bottom[: self._finite], _DOWN * reach[: self._finite]

    def refuted_levels(self, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return levels v_k, increasing, and radii ρ_k such that the infimum over B(ρ_k) is ≤ v_k.

        ρ_k is the distance to the nearest middle of a box, or polished point, with a bound ≤ v_k.
        """
        offset = [
            0.5 * (low + high) - c for c, (low, high) in zip(center, self._sides, strict=True)
        ]
        extra = np.square(self._found - center).sum(axis=1)
        reach = np.sqrt(self._upper.least(np.append(_square_sums(offset), extra)))
        return self._upper.top, _UP * np.minimum.accumulate(reach)


class _Levels:
    """Boxes sorted by a value and put into groups of nearly equal values (to half a percent)."""

    def __init__(self, value: np.ndarray) -> None:
        self._order = np.argsort(value, kind="stable")
        value = value[self._order]
        finite = value[np.isfinite(value)]
        floor = 1e-12 * finite[-1] if finite.size and finite[-1] > 0 else 1.0
        ceiling = np.finfo(float).max  # infinite values make one group
        group = np.floor(np.log(np.clip(value, floor, ceiling)) / np.log(1.005))
        self._starts = np.flatnonzero(np.diff(group, prepend=-np.inf) != 0)
        self.bottom = value[self._starts]
        self.top = value[np.append(self._starts[1:], len(value)) - 1]

    def least(self, quantity: np.ndarray) -> np.ndarray:
        """Return the least entry of `quantity` in each group."""
        return np.minimum.reduceat(quantity[self._order], self._starts)


def _square_sums(parts: list[np.ndarray]) -> np.ndarray:
    """Return Σ_k parts_k² on the grid of all combinations."""
    total = np.square(parts[0])
    for part in parts[1:]:
        total = total[..., None] + np.square(part)
    return total
