"""Explicit objectives in one and two dimensions, with rigorous bounds on boxes.

A `Formula` is written once; its gradient and Hessian come from jets, and its range over a box from
interval arithmetic.  The module ends with a small gallery of named objectives.

>>> from plcore.toys import Formula
>>> valley = Formula(lambda x, y: (x * y - 1, 0.1 * (x - y)), 2)  # a sum of squares
>>> print(valley.value([2.0, 1.0]), valley.gradient([2.0, 1.0]).round(4))
1.01 [2.02 3.98]
>>> box = valley.enclose([1.9, 0.9], [2.1, 1.1])
>>> print(f"{float(box.value.low):.3f} {float(box.value.high):.3f}")
0.510 1.731
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from . import checks
from .intervals import Interval
from .jets import Jet, jets
from .objectives import Objective

__all__ = [
    "Enclosure",
    "Formula",
    "bowl",
    "double_well",
    "himmelblau",
    "hyperbola",
    "parabola",
    "quartic",
    "ring",
    "rosenbrock",
    "runaway",
    "saturating",
    "tilted_well",
    "unattained",
    "wavy",
]


class Enclosure(NamedTuple):
    """Enclosures of a formula and its derivatives over boxes.

    Attributes
    ----------
    value : Interval, shape (...)
    gradient : Interval, shape (..., p)
    hessian : Interval, shape (..., p, p)
    """

    value: Interval
    gradient: Interval
    hessian: Interval


class Formula(Objective):
    """A nonnegative objective on R or R² that is given by a formula.

    An `Objective`: value, gradient, ratio and the rest are described there.

    Parameters
    ----------
    function : callable
        Takes the coordinates, one argument each, and returns f; or returns a tuple of residuals
        (g_1, …, g_m), and then f = Σ g_i².  It may use +, −, ×, /, whole powers, constants and
        numpy's arctan, cos, exp, log, sin, sqrt, square and tanh.
    dimension : {1, 2}
        The number p of coordinates.
    name : str, optional
        For labels.
    zeros : array_like, shape (k, p), optional
        Points where f is zero, exactly.  Near them strong convexity is used as well, so list
        isolated minimizers of formulas whose residuals are none or more than p.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape, or f is not zero at one of `zeros`.  The value
        of a formula that is proved to be negative at a point is refused when it is asked for.
    """

    def __init__(
        self, function: Callable[..., Any], dimension: int, *, name: str = "f", zeros: Any = ()
    ) -> None:
        if not callable(function):
            raise TypeError(f"function must be callable, but is {function!r}.")
        self.dimension = checks.positive_integer(dimension, "dimension")
        if self.dimension > 2:
            raise ValueError(f"dimension must be 1 or 2, but is {dimension}.")
        self.function, self.name = function, str(name)
        self.residual_count = 0
        result = function(*np.full((self.dimension, 1), 0.5))
        if isinstance(result, tuple):
            self.residual_count = len(result)
            if not result:
                raise ValueError("function must return at least one residual, but returns ().")
        self.zeros = np.zeros((0, self.dimension))
        if len(zeros):
            self.zeros = self.check_point(np.atleast_2d(np.asarray(zeros, float)), "zeros")
            values = self._value(self.zeros)
            if values.any():
                raise ValueError(f"f must vanish at its zeros, but is {values.max():.4g} at one.")

    def __repr__(self) -> str:
        return f"Formula({self.name!r}, dimension={self.dimension})"

    # -- at points ------------------------------------------------------------------------------

    def _jets(self, variables: list[Any], order: int) -> tuple[Jet, ...]:
        result = self.function(*jets(variables, order=order))
        return result if isinstance(result, tuple) else (result,)

    def _jet(self, variables: list[Any], order: int) -> Jet:
        parts = self._jets(variables, order)
        if not self.residual_count:
            return parts[0]
        return reduce(lambda a, b: a + b, (part**2 for part in parts))

    def _value(self, x: np.ndarray) -> np.ndarray:
        result = self.function(*np.moveaxis(x, -1, 0))
        if self.residual_count:
            result = sum(np.square(part) for part in result)
        return self._nonnegative(np.broadcast_to(result, x.shape[:-1]), x)

    def _value_and_gradient(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        result = self._jet(list(np.moveaxis(x, -1, 0)), 1)
        value = self._nonnegative(np.broadcast_to(result.value, x.shape[:-1]), x)
        return value, _stacked(result.gradient, x.shape[:-1])

    def _hessian_vector(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.einsum("...ij,...j->...i", self._hessian(x), v)

    def _hessian(self, x: np.ndarray) -> np.ndarray:
        parts = self._jet(list(np.moveaxis(x, -1, 0)), 2).hessian or ()
        return _stacked(_square_matrix(parts), x.shape[:-1]).reshape(x.shape + x.shape[-1:])

    @np.errstate(over="ignore", invalid="ignore")
    def hessian(self, x: Any) -> np.ndarray:
        """Return ∇²f(x), shape ``(..., p, p)``; arguments and errors as `gradient`."""
        return checks.within_range(self._hessian(self.check_point(x)), "The Hessian")

    def _nonnegative(self, value: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the value with rounding below zero cut off; refuse what is really negative."""
        if (value >= 0).all():
            return value
        high = self._jet([Interval(part) for part in np.moveaxis(x, -1, 0)], 1).value.high
        if (high < 0).any():
            worst = np.unravel_index(np.argmin(high), np.shape(high))
            raise ValueError(
                f"{self.name} must be nonnegative, but is {value[worst]:.4g} at {x[worst]}."
            )
        return np.maximum(value, 0.0)

    # -- over boxes -----------------------------------------------------------------------------

    def _box(self, low: Any, high: Any) -> list[Interval]:
        low, high = self.check_point(low, "low"), self.check_point(high, "high")
        if low.shape != high.shape or not (low <= high).all():
            raise ValueError("low and high must be corners of boxes, low at most high.")
        return [Interval._of(low[..., k], high[..., k]) for k in range(self.dimension)]

    def enclose(self, low: Any, high: Any) -> Enclosure:
        """Return intervals that contain f, ∇f and ∇²f everywhere on boxes.

        Parameters
        ----------
        low, high : array_like, shape (..., p)
            Opposite corners of the boxes; equal ones enclose the exact value at a point.

        Raises
        ------
        TypeError, ValueError
            If the corners are not finite, not of one shape, or out of order.
        """
        box = self._box(low, high)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            result = self._jet(box, 2)
        shape = box[0].shape
        value = _interval_stack([result.value], shape)[..., 0]
        hessian = _interval_stack(_square_matrix(result.hessian or ()), shape)
        square = (*shape, self.dimension, self.dimension)
        return Enclosure(
            Interval._of(np.maximum(value.low, 0.0), value.high),
            _interval_stack(result.gradient, shape),
            Interval._of(hessian.low.reshape(square), hessian.high.reshape(square)),
        )

    def ratio_lower(self, low: Any, high: Any) -> np.ndarray:
        """Return a proved lower bound on |∇f|²/f over each box; ∞ where f vanishes on the box.

        The best of three.  (a) The least |∇f|² over the greatest f.  (b) For m ≤ p residuals with
        Jacobian J, |∇f|² = 4|Jᵀg|² ≥ 4 σ_min(J)² f.  (c) If f(z) = 0 and ∇²f ≥ λ > 0 on the hull H
        of the box and z, then 0 = f(z) ≥ f(x) + ∇f(x)·(z − x) + (λ/2)|z − x|² for x in the box,
        and the right side is at least f(x) − |∇f(x)|²/(2λ): so |∇f|²/f ≥ 2λ.

        Parameters
        ----------
        low, high : array_like, shape (..., p)
            Opposite corners of the boxes.

        Returns
        -------
        numpy.ndarray, shape (...)

        Raises
        ------
        TypeError, ValueError
            As `enclose`.
        """
        box = self._box(low, high)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self._ratio_lower(box)

    def _ratio_lower(self, box: list[Interval]) -> np.ndarray:
        shape = box[0].shape
        parts = self._jets(box, 1)
        values, slopes = self._values_and_slopes(parts)
        greatest = np.broadcast_to(values.high, shape)
        bound = np.nextafter(_square_sum(slopes).low / greatest, -np.inf)  # (a)
        if 0 < self.residual_count <= self.dimension:
            rows = [[part for part in jet.gradient if part is not None] for jet in parts]
            if self.residual_count == 1:
                sigma = _square_sum(rows[0]).low
            else:
                sigma = _least_singular_square(parts[0].gradient, parts[1].gradient)
            bound = np.fmax(bound, np.nextafter(4 * sigma, -np.inf))  # (b)
        for zero in self.zeros:  # (c)
            hull = [
                Interval._of(np.minimum(part.low, end), np.maximum(part.high, end))
                for part, end in zip(box, zero, strict=True)
            ]
            bound = np.fmax(bound, 2 * _least_eigenvalue(self._jet(hull, 2).hessian or ()))
        bound = np.where(np.isnan(bound), 0.0, np.maximum(bound, 0.0))
        return np.where(greatest == 0, np.inf, bound)

    def ratio_upper(self, x: Any) -> np.ndarray:
        """Return a proved upper bound on |∇f(x)|²/f(x) at points, ∞ where f(x) may be zero.

        Parameters and errors as `value`; the result has shape ``(...)``.
        """
        x = self.check_point(x)
        point = [Interval(x[..., k]) for k in range(self.dimension)]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            parts = self._jets(point, 1)
            values, slopes = self._values_and_slopes(parts)
            least, top = values.low, _square_sum(slopes).high
            if self.residual_count == 1:
                # One residual: f cancels, and the ratio is 4|∇g|².
                gradient = [part for part in parts[0].gradient if part is not None]
                top, scale = 4 * _square_sum(gradient).high, 1.0
            else:
                scale = least
            bound = np.nextafter(np.nextafter(top, np.inf) / scale, np.inf)
        bound = np.where((least > 0) & ~np.isnan(bound), bound, np.inf)
        return np.broadcast_to(bound, x.shape[:-1])

    def _values_and_slopes(self, parts: tuple[Jet, ...]) -> tuple[Interval, list[Interval]]:
        """Return enclosures of f and of the partial derivatives that are not zero throughout."""
        total = parts[0]
        if self.residual_count:
            total = reduce(lambda a, b: a + b, (part**2 for part in parts))
        value = total.value
        return (
            Interval._of(np.maximum(value.low, 0.0), value.high),
            [part for part in total.gradient if part is not None],
        )


def _square_matrix(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return all p² entries, row by row, of a symmetric matrix given by its upper triangle."""
    return parts if len(parts) == 1 else (parts[0], parts[1], parts[1], parts[2])


def _stacked(parts: tuple[Any, ...], shape: tuple[int, ...]) -> np.ndarray:
    full = [np.broadcast_to(0.0 if part is None else part, shape) for part in parts]
    return np.stack(full, axis=-1)


def _interval_stack(parts: Any, shape: tuple[int, ...]) -> Interval:
    lows = tuple(None if part is None else part.low for part in parts)
    highs = tuple(None if part is None else part.high for part in parts)
    return Interval._of(_stacked(lows, shape), _stacked(highs, shape))


def _square_sum(parts: Any) -> Interval:
    return reduce(lambda a, b: a + b, (part._square() for part in parts), Interval(0.0))


def _least_eigenvalue(parts: tuple[Any, ...]) -> np.ndarray:
    """Return a lower bound on the least eigenvalue of symmetric interval matrices, p ≤ 2.

    It increases with both diagonal entries and falls with the size of the third, so that its
    minimum sits at known ends; there it is the mean minus the root of a sum of squares.
    """
    a, b, c = (Interval(0.0) if part is None else part for part in (*parts, None, None)[:3])
    if len(parts) == 1:
        return a.low
    a, b, c = Interval(a.low), Interval(b.magnitude()), Interval(c.low)
    return ((a + c) * 0.5 - np.sqrt(np.square((a - c) * 0.5) + np.square(b))).low


def _least_singular_square(first: tuple[Any, ...], second: tuple[Any, ...]) -> np.ndarray:
    """Return a lower bound on σ_min² of 2 × 2 interval matrices with the given rows.

    The better of the least eigenvalue of J Jᵀ and of det(J)²/|J|²  (as σ_min σ_max = |det J|).
    """
    (a, b), (c, d) = ([Interval(0.0) if p is None else p for p in row] for row in (first, second))
    gram = (_square_sum((a, b)), a * c + b * d, _square_sum((c, d)))
    determinant = np.square(a * d - b * c)
    by_determinant = np.nextafter(determinant.low / (gram[0] + gram[2]).high, -np.inf)
    return np.fmax(np.maximum(_least_eigenvalue(gram), 0.0), by_determinant)


# -- gallery ------------------------------------------------------------------------------------


def bowl(a: float = 1.0, b: float = 4.0) -> Formula:
    """Return f = a x² + b y² with a, b > 0.

    α = 4 min(a, b) on every ball that meets the x-axis if a ≤ b, or the y-axis if b ≤ a.
    """
    a, b = checks.positive_number(a, "a"), checks.positive_number(b, "b")
    return Formula(lambda x, y: a * x * x + b * (y * y), 2, name="bowl", zeros=[[0.0, 0.0]])


#: f = x²: α = 4 on every ball.
parabola = Formula(lambda x: (x,), 1, name="parabola")

#: f = x² + 3 sin² x: not convex, yet α > 0 on every ball.
wavy = Formula(lambda x: x * x + 3 * np.sin(x) ** 2, 1, name="wavy", zeros=[[0.0]])

#: f = x⁴: α(x_0, r) = 16 (|x_0| − r)₊², and no criterion holds anywhere but at the minimizer.
quartic = Formula(lambda x: (x * x,), 1, name="quartic")

#: f = e^(−2x): α = 4e^(−2(x_0 + r)) > 0, but the infimum 0 is not attained; flows run to infinity.
runaway = Formula(lambda x: (np.exp(-x),), 1, name="runaway")

#: f = tanh² x: the gradient dies out far away, α(x_0, r) = 4 sech⁴(|x_0| + r).
saturating = Formula(lambda x: (np.tanh(x),), 1, name="saturating")

#: f = (x² − 1)² + 0.3 (x − 1)²: zero at 1, and a bad local minimum with f > 1 near −0.82.
tilted_well = Formula(
    lambda x: (x * x - 1) ** 2 + 0.3 * (x - 1) ** 2, 1, name="tilted well", zeros=[[1.0]]
)

#: f = (x² + y² − 1)²: a circle of minimizers around a maximum, α(x_0, r) = 16 (|x_0| − r)₊².
ring = Formula(lambda x, y: (x * x + y * y - 1,), 2, name="ring")

#: f = (xy − 1)², a linear network with two weights: a saddle at 0, α(x_0, r) = 4 (|x_0| − r)₊².
hyperbola = Formula(lambda x, y: (x * y - 1,), 2, name="hyperbola")

#: f = (1 − x)² + 10 (y − x²)², Rosenbrock's valley with a smaller factor: α > 0 on every ball.
rosenbrock = Formula(lambda x, y: (1 - x, 10**0.5 * (y - x * x)), 2, name="rosenbrock")

#: f = (x² + y − 11)² + (x + y² − 7)², Himmelblau's: four zeros, four saddles, a maximum.
himmelblau = Formula(
    lambda x, y: (x * x + y - 11, x + y * y - 7), 2, name="himmelblau", zeros=[[3.0, 2.0]]
)

#: f = (x² − 1)² + 0.3 (x − 1)² + y²: `tilted_well` with a second coordinate.
double_well = Formula(
    lambda x, y: (x * x - 1) ** 2 + 0.3 * (x - 1) ** 2 + y * y,
    2,
    name="double well",
    zeros=[[1.0, 0.0]],
)

#: f = x² + (1 − xy)²: positive everywhere, with infimum 0 along x = 1/y → 0.
unattained = Formula(lambda x, y: (x, 1 - x * y), 2, name="unattained")
