"""Bounds on first and second derivatives over balls: L1, L2 and β for any objective of the package.

The step-size theorems ask for them.  Quadratics have them in closed form; for the formulas of
`toys` they are proved by interval arithmetic and branch and bound, and for the squared loss of a
network by the recursions of the module `bounds`, to which the functions here are a common door.

>>> from plcore import derivatives, toys
>>> ball = [1.0], 2.0  # the interval [−1, 3]; f = x²
>>> first, second = derivatives.derivative_bounds(toys.parabola, *ball)
>>> print(f"{first.value:.3f} {second.value:.3f}")
6.000 2.000
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import bounds, checks
from .boxes import least_over_balls
from .intervals import Interval
from .objectives import LeastSquares, Quadratic
from .results import Bound
from .toys import Enclosure, Formula

__all__ = ["curvature_bound", "derivative_bounds"]

_INTERVALS = "interval arithmetic on boxes"


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def derivative_bounds(
    objective: Quadratic | Formula | LeastSquares,
    center: Any,
    radius: float,
    *,
    tolerance: float = 1e-3,
) -> tuple[Bound, Bound]:
    """Return L1 and L2, bounds on all first and all second partial derivatives of f on B(x, r).

    Theorem 1.2 asks for them on the ball of radius **2r**: pass that.  For f(x) = xᵀAx they are
    the exact maxima, 2 max_i (|A_i·x| + r|A_i|) with the rows A_i, and 2 max |A_ij|.

    Parameters
    ----------
    objective : Quadratic, Formula or LeastSquares
    center : array_like, shape (p,)
        x.
    radius : float
        r > 0.
    tolerance : float
        For a `Formula`: relative excess over the exact maximum at which the search for it stops,
        if it gets there.  The bounds hold in any case.

    Returns
    -------
    tuple of two Bound
        L1 and L2.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape, or is not positive.
    """
    center, radius, tolerance = _check(objective, center, radius, tolerance)
    if isinstance(objective, LeastSquares):
        return bounds.derivative_bounds(objective, center, radius)
    if isinstance(objective, Quadratic):
        A = objective.matrix
        first = 2 * float(np.max(np.abs(A @ center) + radius * np.linalg.norm(A, axis=1)))
        second = 2 * float(np.abs(A).max())
        reason = "closed form"
    else:

        def slopes(found: Enclosure) -> Interval:
            return _largest_entry(found.gradient, 1)

        def curvatures(found: Enclosure) -> Interval:
            return _largest_entry(found.hessian, 2)

        first = _greatest(objective, slopes, center, radius, tolerance)
        second = _greatest(objective, curvatures, center, radius, tolerance)
        reason = _INTERVALS
    return (
        Bound(first, "upper", "L1, first partial derivatives on the ball", reason),
        Bound(second, "upper", "L2, second partial derivatives on the ball", reason),
    )


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def curvature_bound(
    objective: Quadratic | Formula | LeastSquares,
    center: Any,
    radius: float,
    *,
    tolerance: float = 1e-3,
) -> Bound:
    """Return β, a bound on λ_max(∇²f) over {v in B(x, r): f(v) ≤ f(x)}, for Theorem 1.2♯.

    For f(x) = xᵀAx it is 2 λ_max(A), exactly.

    Parameters
    ----------
    objective, center, radius, tolerance
        As in `derivative_bounds`.

    Returns
    -------
    Bound

    Raises
    ------
    TypeError, ValueError
        As `derivative_bounds`.
    """
    center, radius, tolerance = _check(objective, center, radius, tolerance)
    if isinstance(objective, LeastSquares):
        return bounds.curvature_bound(objective, center, radius)
    quantity = "β, λ_max of the Hessian on the sublevel set in the ball"
    if isinstance(objective, Quadratic):
        return Bound(2 * float(objective.eigenvalues[-1]), "upper", quantity, "closed form")
    level = float(objective.enclose(center, center).value.high)

    def curvature(found: Enclosure) -> Interval:
        # Zero where a box lies above the level: it has no part in the maximum.
        eigenvalue = _largest_eigenvalue(found.hessian)
        above, below = found.value.low > level, found.value.high <= level
        return Interval(
            np.where(below, np.maximum(eigenvalue.low, 0.0), 0.0),
            np.where(above, 0.0, np.maximum(eigenvalue.high, 0.0)),
        )

    value = _greatest(objective, curvature, center, radius, tolerance)
    return Bound(value, "upper", quantity, _INTERVALS)


def _check(
    objective: Any, center: Any, radius: Any, tolerance: Any
) -> tuple[np.ndarray, float, float]:
    if not isinstance(objective, Quadratic | Formula | LeastSquares):
        raise TypeError(
            "objective must be a Quadratic, a Formula or a LeastSquares, "
            f"but is {checks.shown(objective)}."
        )
    center = objective.check_point(checks.finite_array(center, "center", ndim=1), "center")
    return (
        center,
        checks.positive_number(radius, "radius"),
        checks.fraction(tolerance, "tolerance"),
    )


def _greatest(
    objective: Formula,
    quantity: Callable[[Enclosure], Interval],
    center: np.ndarray,
    radius: float,
    tolerance: float,
) -> float:
    """Upper bound on the maximum over the ball of a quantity ≥ 0: its inverse has a minimum."""

    def lower(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.nextafter(1 / quantity(objective.enclose(low, high)).high, 0)

    def upper(points: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.nextafter(1 / quantity(objective.enclose(points, points)).low, np.inf)

    found = least_over_balls(
        lower, upper, center, np.array([radius]), tolerance=tolerance, box_limit=200_000
    )
    least = float(found.lower[0])
    return math.inf if least == 0 else math.nextafter(1 / least, math.inf)


def _largest_entry(entries: Interval, axes: int) -> Interval:
    """Greatest absolute value of the entries of vectors (1) or matrices (2)."""
    last = tuple(range(-axes, 0))
    return Interval(entries.mignitude().max(axis=last), entries.magnitude().max(axis=last))


def _largest_eigenvalue(matrix: Interval) -> Interval:
    """Greatest eigenvalue of symmetric matrices of order 1 or 2.

    It grows with both diagonal entries and with the size of the third, so that its extremes are at
    known ends; there it is the mean plus the root of a sum of squares.
    """
    if matrix.shape[-1] == 1:
        return matrix[..., 0, 0]
    a, b, c = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 1]

    def at(a: Interval, b: Interval, c: Interval) -> Interval:
        return (a + c) * 0.5 + np.sqrt(np.square((a - c) * 0.5) + np.square(b))

    least = at(Interval(a.low), Interval(b.mignitude()), Interval(c.low)).low
    return Interval(least, at(Interval(a.high), Interval(b.magnitude()), Interval(c.high)).high)
