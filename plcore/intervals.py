"""Interval arithmetic on arrays: enclosures of everything that a formula can give over a box.

An `Interval` answers to Python's operators and to numpy's functions, so that a formula such as
``(x * y - 1) ** 2 + np.exp(-x)`` takes numbers, arrays and intervals alike (and, in `jets`, carries
its derivatives along).

Rounding.  IEEE 754 fixes +, −, ×, ÷ and the square root to the nearest double, so that one step
outward (``nextafter``) makes their ends safe.  The other functions are not correctly rounded:
numpy promises few units in the last place (errors of more than one are seen), and they are widened
by the factor 1 ± 2⁻⁴⁰, which is 4096 units.

>>> from plcore.intervals import Interval
>>> x = Interval(-1.0, 2.0)
>>> for found in (x * x, x * (x + 1)):  # x (x + 1) fills [−1/4, 6]
...     print(f"[{found.low:.4g}, {found.high:.4g}]")
[0, 4]
[-3, 6]
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

__all__ = ["FUNCTIONS", "OPERATORS", "Interval", "refuse", "whole_exponent"]

MARGIN = 2.0**-40
# Beyond this many radians angles are not reduced: sine and cosine are [-1, 1] there.
_LARGEST_ANGLE = 1e6


class Interval:
    """Intervals [low, high], entry by entry, with outward rounding.

    Constants that meet an interval are taken as the doubles they are.  An overflow gives infinite
    ends.  ``x * x`` with both operands the same object is a square.

    Parameters
    ----------
    low, high : array_like
        The ends, broadcast against each other; `high` is `low` if not given.

    Attributes
    ----------
    low, high : numpy.ndarray
        The ends, of one shape.

    Raises
    ------
    TypeError, ValueError
        If the ends are not real numbers, are NaN, or are out of order.
    """

    __slots__ = ("high", "low")

    def __init__(self, low: Any, high: Any = None) -> None:
        low = _numbers(low, "low")
        high = low if high is None else _numbers(high, "high")
        if not (low <= high).all():
            raise ValueError("low must be at most high in every entry, and neither may be NaN.")
        if low.shape != high.shape:
            low, high = np.broadcast_arrays(low, high)
        self.low, self.high = low, high

    @staticmethod
    def _of(low: np.ndarray, high: np.ndarray) -> Interval:
        result = object.__new__(Interval)
        result.low, result.high = low, high
        return result

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the arrays of ends."""
        return np.shape(self.low)

    def __repr__(self) -> str:
        return f"Interval({self.low!r}, {self.high!r})"

    def __getitem__(self, index: Any) -> Interval:
        return Interval._of(self.low[index], self.high[index])

    def contains(self, value: Any) -> np.ndarray:
        """Return whether `value` lies in the interval, entry by entry."""
        return (self.low <= value) & (value <= self.high)

    def magnitude(self) -> np.ndarray:
        """Return the greatest absolute value in each interval."""
        return np.maximum(-self.low, self.high)

    def mignitude(self) -> np.ndarray:
        """Return the least absolute value in each interval."""
        return np.maximum(np.maximum(self.low, -self.high), 0.0)

    def intersect(self, other: Interval) -> Interval:
        """Return the common part of two enclosures of the same quantity."""
        return Interval._of(np.maximum(self.low, other.low), np.minimum(self.high, other.high))

    # -- arithmetic -----------------------------------------------------------------------------

    def __neg__(self) -> Interval:
        return Interval._of(-self.high, -self.low)

    def __pos__(self) -> Interval:
        return self

    def __abs__(self) -> Interval:
        return Interval._of(self.mignitude(), self.magnitude())

    def __add__(self, other: Any) -> Interval:
        other = _interval(other)
        return _outward(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Any) -> Interval:
        other = _interval(other)
        return _outward(self.low - other.high, self.high - other.low)

    def __mul__(self, other: Any) -> Interval:
        if other is self:
            return self._square()
        return _extremes(np.multiply, self, _interval(other))

    def __truediv__(self, other: Any) -> Interval:
        other = _interval(other)
        through_zero = (other.low <= 0) & (other.high >= 0)
        safe = Interval._of(
            np.where(through_zero, 1.0, other.low), np.where(through_zero, 1.0, other.high)
        )
        result = _extremes(np.divide, self, safe)
        return Interval._of(
            np.where(through_zero, -np.inf, result.low), np.where(through_zero, np.inf, result.high)
        )

    def __rsub__(self, other: Any) -> Interval:
        return _interval(other) - self

    def __rtruediv__(self, other: Any) -> Interval:
        return _interval(other) / self

    __radd__ = __add__
    __rmul__ = __mul__

    def __pow__(self, exponent: Any) -> Interval:
        exponent = whole_exponent(exponent)
        if exponent < 0:
            return 1.0 / self**-exponent
        if exponent == 0:
            return Interval(np.ones(self.shape))
        if exponent == 1:
            return self
        if exponent % 2 == 0:
            return (self ** (exponent // 2))._square()
        low, high = Interval._of(self.low, self.low), Interval._of(self.high, self.high)
        half = exponent // 2
        # An odd power increases: its ends are those of the ends.
        return Interval._of((low * (low**half)._square()).low, (high * (high**half)._square()).high)

    def _square(self) -> Interval:
        least, greatest = self.mignitude(), self.magnitude()
        low = np.maximum(np.nextafter(least * least, -np.inf), 0.0)
        high = np.nextafter(greatest * greatest, np.inf)
        return Interval._of(low, np.where(greatest == 0, 0.0, high))

    def _sqrt(self) -> Interval:
        if not (self.high >= 0).all():
            raise ValueError("The square root needs intervals that reach a number >= 0.")
        low, high = np.sqrt(np.maximum(self.low, 0.0)), np.sqrt(self.high)
        low = np.maximum(np.nextafter(low, -np.inf), 0.0)
        return Interval._of(low, np.where(self.high == 0, 0.0, np.nextafter(high, np.inf)))

    def _log(self) -> Interval:
        if not (self.low > 0).all():
            raise ValueError("The logarithm needs intervals of positive numbers.")
        return _widened(np.log(self.low), np.log(self.high))

    def _exp(self) -> Interval:
        result = _widened(np.exp(self.low), np.exp(self.high))
        return Interval._of(np.maximum(result.low, 0.0), result.high)

    def _sin(self) -> Interval:
        return self._wave(np.sin, 0.5 * math.pi)

    def _cos(self) -> Interval:
        return self._wave(np.cos, 0.0)

    def _wave(self, function: Callable[[Any], np.ndarray], crest: float) -> Interval:
        # Crests stand at crest + 2πk, troughs half a turn later.  The slack takes in every crest
        # that rounding could hide, at the price of a few that lie just outside.
        far = ~(self.magnitude() <= _LARGEST_ANGLE)
        left, right = np.where(far, 0.0, self.low), np.where(far, 0.0, self.high)
        ends = function(left), function(right)
        slack = 1e-9

        def reached(top: float) -> np.ndarray:
            turns_left = (left - top) / (2 * math.pi) - slack
            turns_right = (right - top) / (2 * math.pi) + slack
            return far | (np.ceil(turns_left) <= np.floor(turns_right))

        result = _widened(np.minimum(*ends), np.maximum(*ends))
        # A large angle is reduced before the function is taken, with an absolute error.
        error = np.where(self.magnitude() > 3, 2.0**-45, 0.0)
        result = Interval._of(result.low - error, result.high + error)
        low = np.where(reached(crest + math.pi), -1.0, np.maximum(result.low, -1.0))
        return Interval._of(low, np.where(reached(crest), 1.0, np.minimum(result.high, 1.0)))

    def _tanh(self) -> Interval:
        result = _widened(np.tanh(self.low), np.tanh(self.high))
        return Interval._of(np.maximum(result.low, -1.0), np.minimum(result.high, 1.0))

    def _arctan(self) -> Interval:
        return _widened(np.arctan(self.low), np.arctan(self.high))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Let numpy's functions act on intervals."""
        if method == "__call__" and not options:
            if ufunc in _FUNCTIONS:
                return _FUNCTIONS[ufunc](self)
            if ufunc in OPERATORS:
                return OPERATORS[ufunc](*map(_interval, inputs))
            if ufunc is np.power and isinstance(inputs[0], Interval):
                return inputs[0] ** inputs[1]
        refuse(ufunc, method)


def _numbers(value: Any, name: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, but has dtype {array.dtype}.")
    return array.astype(float, copy=False)


def _interval(value: Any) -> Interval:
    """Return `value` as an interval; a number is the double it is."""
    if isinstance(value, Interval):
        return value
    array = np.asarray(value, dtype=float)
    return Interval._of(array, array)


def _outward(low: np.ndarray, high: np.ndarray) -> Interval:
    """Round the ends of a sum outward.  A sum that comes out zero is exact and stays."""
    low = np.where(low == 0, 0.0, np.nextafter(low, -np.inf))
    return Interval._of(low, np.where(high == 0, 0.0, np.nextafter(high, np.inf)))


def _widened(low: np.ndarray, high: np.ndarray) -> Interval:
    """Widen the ends by the margin for functions that are not correctly rounded."""
    low = np.minimum(low, np.finfo(float).max)  # an overflow: the exact value is finite
    low = np.nextafter(low - MARGIN * np.abs(low), -np.inf)
    return Interval._of(low, np.nextafter(high + MARGIN * np.abs(high), np.inf))


def _extremes(operation: np.ufunc, left: Interval, right: Interval) -> Interval:
    """Products or quotients of all pairs of ends, rounded outward."""
    if right.low is right.high:
        values = [operation(left.low, right.low), operation(left.high, right.low)]
    elif left.low is left.high:
        values = [operation(left.low, right.low), operation(left.low, right.high)]
    else:
        values = [operation(a, b) for a in (left.low, left.high) for b in (right.low, right.high)]
    # 0·∞ (or 0/0 after it) is 0 here: an infinite end stands for every finite number.
    if any(np.isnan(value).any() for value in values):
        values = [np.where(np.isnan(value), 0.0, value) for value in values]
    low = high = values[0]
    for value in values[1:]:
        low, high = np.minimum(low, value), np.maximum(high, value)
    low, high = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
    zero = ((left.low == 0) & (left.high == 0)) | (
        (right.low == 0) & (right.high == 0) & (operation is np.multiply)
    )
    # Nothing is lost where two operands are of one sign, nor where one is exactly zero.
    positive = (left.low >= 0) & (right.low >= 0)
    low = np.where(zero | (positive & (low < 0)), 0.0, low)
    return Interval._of(low, np.where(zero, 0.0, high))


def whole_exponent(exponent: Any) -> int:
    """Return an exponent as an int; anything but a whole number is a TypeError.

    For other modules of the package.
    """
    if isinstance(exponent, int | np.integer) and not isinstance(exponent, bool):
        return int(exponent)
    raise TypeError(f"A power needs a whole number as its exponent, but got {exponent!r}.")


# numpy's name for each function that has an enclosure, and how it is found.
_FUNCTIONS: dict[np.ufunc, Callable[[Interval], Interval]] = {
    np.arctan: Interval._arctan,
    np.cos: Interval._cos,
    np.exp: Interval._exp,
    np.log: Interval._log,
    np.sin: Interval._sin,
    np.sqrt: Interval._sqrt,
    np.square: Interval._square,
    np.tanh: Interval._tanh,
}
FUNCTIONS = tuple(sorted(function.__name__ for function in _FUNCTIONS))
OPERATORS: dict[np.ufunc, Callable[..., Any]] = {
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: operator.mul,
    np.divide: operator.truediv,
    np.negative: operator.neg,
    np.positive: operator.pos,
}


def refuse(ufunc: np.ufunc, method: str) -> NoReturn:
    """Raise a TypeError: the numpy function has no enclosure.  For other modules of the package."""
    call = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
    raise TypeError(
        f"numpy.{call} cannot be enclosed; a formula may use +, -, *, /, whole powers and "
        f"{', '.join(FUNCTIONS)}."
    )
