"""Second-order jets: a formula written once gives its value, gradient and Hessian.

A `Jet` carries a value with its first and second derivatives through Python's operators and
numpy's functions.  Its numbers are arrays (derivatives at points) or intervals (enclosures of the
derivatives over boxes).

>>> from plcore.jets import jets
>>> x, y = jets([2.0, 3.0])
>>> product = x * y**2
>>> print(product.value, *product.gradient)
18.0 9.0 12.0
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from .intervals import OPERATORS, Interval, refuse, whole_exponent

__all__ = ["Jet", "jets"]

Scalar: TypeAlias = Any  # an array or an Interval
Parts: TypeAlias = tuple[Any, ...]  # the same, or None for an entry that is zero


class Jet:
    """A function's value, gradient and Hessian at points or over boxes.

    Attributes
    ----------
    value : array or Interval
    gradient : tuple of length p
        First derivatives; None stands for zero.
    hessian : tuple of length p (p + 1)/2, or None
        Second derivatives with i ≤ j, row by row; None for zero.  A jet of first order has None
        in place of the tuple.
    """

    __slots__ = ("gradient", "hessian", "value")

    def __init__(self, value: Scalar, gradient: Parts, hessian: Parts | None) -> None:
        self.value, self.gradient, self.hessian = value, gradient, hessian

    def __neg__(self) -> Jet:
        return _each(self, lambda part: -part)

    def __pos__(self) -> Jet:
        return self

    def __add__(self, other: Any) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.value + other, self.gradient, self.hessian)
        gradient = tuple(map(_sum, self.gradient, other.gradient))
        hessian = self.hessian and tuple(map(_sum, self.hessian, other.hessian or ()))
        return Jet(self.value + other.value, gradient, hessian)

    def __sub__(self, other: Any) -> Jet:
        return self + (-other)

    def __rsub__(self, other: Any) -> Jet:
        return -self + other

    def __mul__(self, other: Any) -> Jet:
        if other is self:
            return self**2
        if not isinstance(other, Jet):
            return _each(self, lambda part: part * other)
        u, v = self.value, other.value
        pairs = list(zip(self.gradient, other.gradient, strict=True))
        gradient = tuple(_sum(_product(u, b), _product(v, a)) for a, b in pairs)
        hessian = None
        if self.hessian is not None and other.hessian is not None:
            cross = [
                _sum(_product(a, d), _product(c, b))
                for i, (a, b) in enumerate(pairs)
                for c, d in pairs[i:]
            ]
            hessian = tuple(
                _sum(_sum(_product(u, h), _product(v, g)), k)
                for g, h, k in zip(self.hessian, other.hessian, cross, strict=True)
            )
        return Jet(u * v, gradient, hessian)

    def __truediv__(self, other: Any) -> Jet:
        if not isinstance(other, Jet):
            return _each(self, lambda part: part / other)
        return self * other**-1

    def __rtruediv__(self, other: Any) -> Jet:
        return self**-1 * other

    __radd__ = __add__
    __rmul__ = __mul__

    def __pow__(self, exponent: Any) -> Jet:
        n = whole_exponent(exponent)
        if n == 0:
            return self * 0.0 + 1.0
        if n == 1:
            return self
        v = self.value
        slope = v * 2.0 if n == 2 else v ** (n - 1) * float(n)
        curvature = v ** (n - 2) * float(n * (n - 1))
        return _chain(self, v**n, slope, lambda: curvature)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Let numpy's functions act on jets."""
        if method == "__call__" and not options:
            if ufunc in _DERIVATIVES:
                value = ufunc(self.value)
                slope, curvature = _DERIVATIVES[ufunc](self.value, value)
                return _chain(self, value, slope, curvature)
            if ufunc is np.square:
                return self**2
            if ufunc is np.power and isinstance(inputs[0], Jet):
                return inputs[0] ** inputs[1]
            if ufunc in OPERATORS:
                if not isinstance(inputs[0], Jet):
                    inputs = (_constant(inputs[0], self), inputs[1])
                return OPERATORS[ufunc](*inputs)
        refuse(ufunc, method)


def jets(variables: Sequence[Scalar], *, order: int = 2) -> tuple[Jet, ...]:
    """Return the variables of a formula as jets of order 1 or 2.

    Parameters
    ----------
    variables : sequence of arrays or of Intervals
        One for each coordinate.
    order : {1, 2}, default 2
        Whether to carry the Hessian.

    Returns
    -------
    tuple of Jet
    """
    count = len(variables)
    one: Any = 1.0
    if any(isinstance(variable, Interval) for variable in variables):
        one = Interval(1.0)
    hessian = (None,) * (count * (count + 1) // 2) if order == 2 else None
    return tuple(
        Jet(variable, tuple(one if i == k else None for i in range(count)), hessian)
        for k, variable in enumerate(variables)
    )


def _constant(value: Any, like: Jet) -> Jet:
    none = None if like.hessian is None else (None,) * len(like.hessian)
    return Jet(value, (None,) * len(like.gradient), none)


def _product(a: Any, b: Any) -> Any:
    return None if a is None or b is None else a * b


def _sum(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _each(u: Jet, change: Callable[[Any], Any]) -> Jet:
    """Apply a linear map to the value and to every derivative."""

    def parts(values: Parts) -> Parts:
        return tuple(None if part is None else change(part) for part in values)

    return Jet(change(u.value), parts(u.gradient), None if u.hessian is None else parts(u.hessian))


def _chain(u: Jet, value: Any, slope: Any, curvature: Callable[[], Any]) -> Jet:
    """Chain rule: φ(u) has gradient φ′∇u and Hessian φ′∇²u + φ″∇u∇uᵀ."""
    gradient = tuple(_product(slope, part) for part in u.gradient)
    if u.hessian is None:
        return Jet(value, gradient, None)
    bend = curvature()
    outer = [
        np.square(a) if i == j and a is not None else _product(a, b)
        for i, a in enumerate(u.gradient)
        for j, b in enumerate(u.gradient[i:], start=i)
    ]
    hessian = tuple(
        _sum(_product(slope, h), _product(bend, square))
        for h, square in zip(u.hessian, outer, strict=True)
    )
    return Jet(value, gradient, hessian)


# φ′ and (on demand) φ″ from the argument v and the value φ(v), for arrays and intervals alike.
_DERIVATIVES: dict[np.ufunc, Callable[[Any, Any], tuple[Any, Callable[[], Any]]]] = {
    np.exp: lambda v, e: (e, lambda: e),
    np.log: lambda v, w: (1.0 / v, lambda: -1.0 / np.square(v)),
    np.sqrt: lambda v, s: (0.5 / s, lambda: -0.25 / (v * s)),
    np.sin: lambda v, s: (np.cos(v), lambda: -s),
    np.cos: lambda v, c: (-np.sin(v), lambda: -c),
    np.tanh: lambda v, t: (1.0 - np.square(t), lambda: t * (1.0 - np.square(t)) * -2.0),
    np.arctan: lambda v, a: (
        1.0 / (1.0 + np.square(v)),
        lambda: v * -2.0 / np.square(1.0 + np.square(v)),
    ),
}
