"""The local PL constant, the criterion of the paper and the integral criterion.

With B(x0, r) the closed Euclidean ball and f ≥ 0,

    (T1)   α(x0, r) = inf { |∇f(x)|²/f(x) : x in B(x0, r), f(x) ≠ 0 },  ∞ if f = 0 on the ball,
    (1.1)  4 f(x0) < r² α(x0, r)                 for some r > 0   [Chatterjee],
    (T2)   2 √f(x0) < ∫₀^r √α(x0, s) ds          for some r > 0   [ours].

α falls as r grows, so that r √α(x0, r) ≤ ∫₀^r √α(x0, s) ds: (1.1) implies (T2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import checks
from .boxes import Cover, least_over_balls
from .objectives import Objective
from .results import Bound, Estimate, Result
from .verdicts import (
    SAFE,
    Criterion,
    IntegralCriterion,
    criterion_from_bounds,
    increasing_radii,
    integral_criterion_from_bounds,
)

__all__ = [
    "Criterion",
    "IntegralCriterion",
    "PLConstant",
    "PLSearch",
    "Region",
    "criterion",
    "criterion_from_bounds",
    "integral_criterion",
    "integral_criterion_from_bounds",
    "pl_constant",
    "pl_constant_search",
    "region_of_starts",
]

_NO_SHOW: dict[str, Any] = {"show": False}


# -- the local PL constant ----------------------------------------------------------------------


@dataclass(frozen=True)
class PLSearch(Estimate):
    """The least PL ratio that a search found in a ball: α is at most `value`, to rounding.

    Attributes
    ----------
    point : ndarray, shape (p,)
        Where it was found.
    """

    point: np.ndarray = field(metadata=_NO_SHOW)


def pl_constant_search(
    objective: Objective,
    center: Any,
    radius: float,
    rng: np.random.Generator,
    *,
    starts: int = 64,
    steps: int = 200,
) -> PLSearch:
    """Search the ball B(center, radius) for the least ratio |∇f|²/f: α (T1) from above.

    Projected descent on log(|∇f|²/f), whose gradient is 2∇²f∇f/|∇f|² − ∇f/f, from many starts at
    once: the centre, and points spread evenly over the sphere and the ball.  Points where f is
    below 10⁻¹² of its greatest value among the starts are left out, because rounding rules there.

    Parameters
    ----------
    objective : Objective
        Of any dimension; it needs a gradient and a Hessian-vector product.
    center : array_like, shape (p,)
    radius : float
        Positive.
    rng : numpy.random.Generator
        Draws the starts.
    starts, steps : int
        Number of starts and of descent steps.  The cost is starts × steps Hessian products.

    Returns
    -------
    PLSearch
        The value is ∞ if f vanishes at all points that were tried.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range.
    """
    center = _one_point(objective, center, "center")
    radius = checks.positive_number(radius, "radius")
    checks.generator(rng)
    starts, steps = (
        checks.positive_integer(number, name)
        for number, name in ((starts, "starts"), (steps, "steps"))
    )
    p = objective.dimension
    direction = rng.standard_normal((starts, p))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    depth = np.where(np.arange(starts) % 2, 1.0, rng.uniform(size=starts) ** (1 / p))
    x = center + radius * np.vstack([np.zeros(p), direction * depth[:, None]])
    f, slope = objective.value_and_gradient(x)
    floor = 1e-12 * f.max()
    ratio = _ratio(f, slope, floor)
    length = np.full(starts + 1, 0.1 * radius)
    for _ in range(steps):
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            turn = 2 * objective.hessian_vector(x, slope)
            turn = turn / np.square(slope).sum(1)[:, None] - slope / f[:, None]
            turn /= np.linalg.norm(turn, axis=1, keepdims=True)
        trial = x - length[:, None] * np.where(np.isfinite(turn), turn, 0.0)
        offset = trial - center
        size = np.linalg.norm(offset, axis=1, keepdims=True)
        trial = center + offset * np.where(size > radius, radius / np.maximum(size, 1e-300), 1.0)
        f_trial, slope_trial = objective.value_and_gradient(trial)
        ratio_trial = _ratio(f_trial, slope_trial, floor)
        better = ratio_trial < ratio
        x, slope = (np.where(better[:, None], *pair) for pair in ((trial, x), (slope_trial, slope)))
        f, ratio = np.where(better, f_trial, f), np.where(better, ratio_trial, ratio)
        length = np.minimum(np.where(better, 1.5, 0.4) * length, radius)
    best = int(np.argmin(ratio))
    method = f"projected descent from {starts} random points and the centre; from above"
    return PLSearch(float(ratio[best]), _quantity(radius), method, x[best])


def _ratio(f: np.ndarray, slope: np.ndarray, floor: float) -> np.ndarray:
    square = np.square(slope).sum(axis=-1)
    return np.divide(square, f, out=np.full_like(f, np.inf), where=f > floor)


def _quantity(radius: float) -> str:
    return f"α(x0, {radius:.4g})"


@dataclass(frozen=True)
class PLConstant(Result):
    """Proved enclosures lower ≤ α(x0, r) ≤ upper for a growing family of radii.

    Attributes
    ----------
    center : ndarray, shape (p,)
    radii, lower, upper : ndarray, shape (m,)
    boxes : int
        How many boxes the proof looked at.
    """

    center: np.ndarray
    radii: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    boxes: int = field(metadata=_NO_SHOW)

    def bound(self, direction: str, index: int = -1) -> Bound:
        """Return the "lower" or "upper" bound at one radius, the largest by default."""
        checks.one_of(direction, ("lower", "upper"), "direction")
        value, radius = float(getattr(self, direction)[index]), float(self.radii[index])
        reason = f"interval arithmetic on {self.boxes} boxes"
        return Bound(value, direction, _quantity(radius), reason)


def pl_constant(
    objective: Objective,
    center: Any,
    radii: Any,
    *,
    tolerance: float = 1e-3,
    box_limit: int = 400_000,
) -> PLConstant:
    """Enclose α(x0, r) (T1) rigorously, for many radii in one branch and bound.

    Parameters
    ----------
    objective : Objective
        With `ratio_lower` and `ratio_upper`, as `toys.Formula` has them.
    center : array_like, shape (p,)
    radii : float or array_like, shape (m,)
        Positive and increasing.
    tolerance : float, default 1e-3
        Wanted relative gap (absolute: its square, times α at the least radius).
    box_limit : int
        After about this many boxes the gap may stay wider.

    Returns
    -------
    PLConstant

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range, or the objective has no bounds on boxes.
    """
    _needs_boxes(objective)
    center = _one_point(objective, center, "center")
    radii = increasing_radii(radii)
    tolerance = checks.fraction(tolerance, "tolerance")
    box_limit = checks.positive_integer(box_limit, "box_limit")
    lower, upper, boxes = least_over_balls(
        objective.ratio_lower,  # type: ignore[attr-defined]
        objective.ratio_upper,  # type: ignore[attr-defined]
        center,
        radii,
        tolerance=tolerance,
        box_limit=box_limit,
    )
    return PLConstant(center, radii, lower, upper, boxes)


def _needs_boxes(objective: Any) -> None:
    """Raise a TypeError if the objective has no proved bounds on boxes."""
    if not (hasattr(objective, "ratio_lower") and hasattr(objective, "ratio_upper")):
        raise TypeError(
            "objective must offer bounds on boxes, as plcore.toys.Formula does, but is "
            f"{objective!r}; pl_constant_search takes any objective."
        )


def _one_point(objective: Objective, value: Any, name: str) -> np.ndarray:
    """Return `value` as one point of the objective's space, or raise with a clear sentence."""
    checks.instance(objective, Objective, "objective")
    point = objective.check_point(value, name)
    if point.ndim != 1:
        raise ValueError(f"{name} must be one point, but has shape {point.shape}.")
    return point


def criterion(
    objective: Objective, start: Any, radii: Any = None, *, tolerance: float = 1e-3
) -> Criterion:
    """Decide the paper's criterion (1.1) at a start, rigorously.

    Parameters
    ----------
    objective : Objective
        With bounds on boxes, as for `pl_constant`.
    start : array_like, shape (p,)
        The point x0.
    radii : array_like, shape (m,), optional
        Where to look; by default from a fraction of 2f/|∇f|, below which (1.1) cannot hold, to 32
        times that.
    tolerance : float
        As for `pl_constant`.

    Raises
    ------
    TypeError, ValueError
        As `pl_constant`.
    """
    value, ratio, constant = _constant_at(objective, start, radii, tolerance)
    return criterion_from_bounds(value, constant.radii, constant.lower, constant.upper, ratio=ratio)


def integral_criterion(
    objective: Objective,
    start: Any,
    radii: Any = None,
    *,
    epsilon: float = 0.0,
    tolerance: float = 1e-3,
) -> IntegralCriterion:
    """Decide the integral criterion (T2) at a start, rigorously.

    The denser the radii, the closer the sums are to the integral.  Parameters and errors as
    `criterion`; `epsilon` as for `integral_criterion_from_bounds`.
    """
    value, ratio, constant = _constant_at(objective, start, radii, tolerance)
    return integral_criterion_from_bounds(
        value, constant.radii, constant.lower, constant.upper, ratio=ratio, epsilon=epsilon
    )


def _constant_at(
    objective: Any, start: Any, radii: Any, tolerance: float
) -> tuple[tuple[float, float], float, PLConstant]:
    """Return bounds on f(x0), an upper bound on |∇f(x0)|²/f(x0), and α around x0."""
    _needs_boxes(objective)
    start = _one_point(objective, start, "start")
    box = objective.enclose(start, start).value
    if radii is None:
        f, slope = objective.value_and_gradient(start)
        size = float(np.linalg.norm(slope))
        scale = 2 * float(f) / size if f > 0 and size > 0 else 1.0
        radii = scale * np.concatenate([np.arange(1, 16) / 16, np.geomspace(1, 32, 51)])
    constant = pl_constant(objective, start, radii, tolerance=tolerance)
    return (float(box.low), float(box.high)), float(objective.ratio_upper(start)), constant


# -- the set of starts --------------------------------------------------------------------------


@dataclass(frozen=True)
class Region(Result):
    """Which starts satisfy the criteria, with proved bounds on how strongly they do.

    Attributes
    ----------
    starts : ndarray, shape (..., p)
    criterion_lower, criterion_upper : ndarray, shape (...)
        Bounds on the supremum of r² α(x0, r)/(4 f(x0)); (1.1) holds where it exceeds 1.
    integral_lower, integral_upper : ndarray, shape (...)
        Bounds on ∫ √α(x0, s) ds/(2 √f(x0)); (T2) holds where it exceeds 1.
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

    If α(x0, r) ≥ v for all r < ρ(v) then sup r²α ≥ sup_v v ρ(v)², and the integral of √α is at
    least that of ρ over the levels √v.  Here ρ(v) is the distance from x0 to the nearest box where
    the ratio may be below v, or to the window's edge.

    Parameters
    ----------
    objective : Objective
        With bounds on boxes, as for `pl_constant`.
    starts : array_like, shape (..., p)
        Points in the window.
    low, high : array_like, shape (p,)
        Corners of the window; the ratio outside counts as unknown.
    cells : int, optional
        Boxes along each side: 4096 on a line, 192 in the plane.
    limit : float, optional
        Largest radius for which a criterion is refuted; by default the window's diagonal.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range, or a start is outside the window.
    """
    _needs_boxes(objective)
    starts = objective.check_point(starts, "starts")
    low, high = _one_point(objective, low, "low"), _one_point(objective, high, "high")
    if not (low < high).all():
        raise ValueError(f"low must be below high, but they are {low} and {high}.")
    if not ((low <= starts) & (starts <= high)).all():
        raise ValueError(f"starts must lie in the window from {low} to {high}.")
    default = 4096 if objective.dimension == 1 else 192
    cells = checks.positive_integer(default if cells is None else cells, "cells")
    diagonal = float(np.linalg.norm(high - low))
    limit = checks.positive_number(diagonal if limit is None else limit, "limit")
    lower, upper = objective.ratio_lower, objective.ratio_upper  # type: ignore[attr-defined]
    cover = Cover(lower, upper, low, high, cells=cells)
    points = starts.reshape(-1, objective.dimension)
    box = objective.enclose(points, points).value  # type: ignore[attr-defined]
    here = upper(points)
    result = np.empty((4, len(points)))
    for k, point in enumerate(points):
        level, radius = cover.proved_levels(point)
        reach = [np.max(level * radius**2), np.sum(np.diff(np.sqrt(level), prepend=0.0) * radius)]
        level, radius = cover.refuted_levels(point)
        # Below the radius of a level the next one counts, and at last the ratio at x0 itself.
        level = np.append(np.minimum(level, here[k]), here[k])
        outer = np.minimum(np.append(limit, radius), limit)
        inner = np.minimum(np.append(radius, 0.0), limit)
        most = [np.max(level * outer**2), np.sum(np.sqrt(level) * (outer - inner))]
        result[:, k] = reach[0], most[0], reach[1], most[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        result[0] /= 4 * box.high
        result[1] /= 4 * box.low
        result[2] /= 2 * np.sqrt(box.high)
        result[3] /= 2 * np.sqrt(box.low)
    # 0/0: f(x0) may be zero, and nothing is proved of α.
    result[:] = np.where(np.isnan(result), [[0.0], [np.inf], [0.0], [np.inf]], result)
    a, b, c, d = result.reshape(4, *starts.shape[:-1])
    return Region(starts, a, b, c, d, limit)
