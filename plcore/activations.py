"""Activation functions as tables.

An activation is data: σ, σ′ and σ″, the interior points where each of the three has a local
extremum, its limits at ±∞, and how many continuous derivatives σ has.  From that the exact range
of each on an interval follows, which is what the bounds of the theory ask for.

>>> from plcore import activations
>>> low, high = activations.tanh.range(1, -1.0, 2.0)  # the slope σ′ on [−1, 2]
>>> print(f"{low:.4f} {high:.4f}")
0.0707 1.0000
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import _elementwise, checks

__all__ = [
    "Activation",
    "arcsinh",
    "arctan",
    "gelu",
    "identity",
    "leaky_relu",
    "named",
    "relu",
    "shifted_sigmoid",
    "shifted_softplus",
    "sigmoid",
    "smooth_leaky_relu",
    "softplus",
    "squared_relu",
    "tanh",
]

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Activation:
    """One activation function, as a table.

    Two activations are equal when their names are.

    Attributes
    ----------
    name : str
        A name that `named` understands, for the activations of this module.
    functions : tuple of three callables
        σ, σ′ and σ″, each from a float64 array to an array of the same shape.
    extrema : tuple of three tuples of float
        Interior points where σ, σ′ and σ″ have a local extremum.  Between two neighbours (and
        beyond the last) the function is monotone.
    limits : tuple of three pairs of float
        Limits of σ, σ′ and σ″ at −∞ and +∞.
    smoothness : float
        Number of continuous derivatives (``inf`` for a smooth function).
    fused : callable, optional
        ``fused(u, value, slope)`` writes σ(u) and σ′(u) into two arrays; cheaper than two calls
        where they share work.
    softplus_form : pair of float, optional
        The numbers (s, c) if σ(u) = s u + (1−s)(log(1+eᵘ) − c).
    """

    name: str
    functions: tuple[Function, Function, Function] = field(compare=False, repr=False)
    extrema: tuple[tuple[float, ...], ...] = field(compare=False, repr=False)
    limits: tuple[tuple[float, float], ...] = field(compare=False, repr=False)
    smoothness: float = field(default=math.inf, compare=False, repr=False)
    fused: Callable[[np.ndarray, np.ndarray, np.ndarray], None] | None = field(
        default=None, compare=False, repr=False
    )
    softplus_form: tuple[float, float] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check the form of the table; what it says is checked by tests."""
        checks.instance(self.name, str, "name")
        for label in ("functions", "extrema", "limits"):
            entry = checks.instance(getattr(self, label), tuple, label)
            if len(entry) != 3:
                raise ValueError(
                    f"{label} must have three entries, for σ, σ′ and σ″, but has {len(entry)}."
                )
        for function in self.functions:
            if not callable(function):
                raise TypeError(f"Each of functions must be callable, but one is {function!r}.")

    def value(self, u: np.ndarray | np.float64) -> np.ndarray:
        """Return σ(u), entrywise; `u` must be an array of finite real numbers."""
        return self.functions[0](checks.finite_array(u, "u", empty=True))

    def derivative(self, u: np.ndarray | np.float64) -> np.ndarray:
        """Return σ′(u), entrywise; `u` as for `value`."""
        return self.functions[1](checks.finite_array(u, "u", empty=True))

    def second_derivative(self, u: np.ndarray | np.float64) -> np.ndarray:
        """Return σ″(u), entrywise; `u` as for `value`."""
        return self.functions[2](checks.finite_array(u, "u", empty=True))

    def evaluate(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return σ(u) and σ′(u) of a trusted float64 array, which is not changed."""
        if self.fused is None:
            return self.functions[0](u), self.functions[1](u)
        value, slope = np.empty_like(u), np.empty_like(u)
        self.fused(u, value, slope)
        return value, slope

    def range(self, order: int, low: ArrayLike, high: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the greatest value of σ, σ′ or σ″ on [low, high].

        Parameters
        ----------
        order : {0, 1, 2}
            Which of the three functions.
        low, high : array_like
            Ends of the intervals, broadcast against each other; ±∞ is allowed.

        Returns
        -------
        least, greatest : numpy.ndarray
            Exact up to the rounding of the function's own evaluation.

        Raises
        ------
        TypeError
            If `order` is not an integer, or an end is not an array of real numbers.
        ValueError
            If an interval is empty, or the function has no such derivative.
        """
        order = checks.positive_integer(order, "order", least=0)
        if order > 2:
            raise ValueError(f"order must be 0, 1 or 2, but is {order}.")
        if order > self.smoothness + 1:
            raise ValueError(
                f"{self.name} has {self.smoothness:g} continuous derivatives; order {order} "
                "cannot be bounded."
            )
        low = checks.finite_array(low, "low", empty=True, infinite=True)
        high = checks.finite_array(high, "high", empty=True, infinite=True)
        checks.common_shape(low=low.shape, high=high.shape)
        low, high = np.broadcast_arrays(low, high)
        if not (low <= high).all():
            worst = np.argmax(low > high)
            raise ValueError(
                "low must be at most high in each interval, but there is "
                f"[{low.flat[worst]:g}, {high.flat[worst]:g}]."
            )
        ends = [self._at(order, low), self._at(order, high)]
        least, greatest = np.minimum(*ends), np.maximum(*ends)
        for point in self.extrema[order]:
            inside = (low <= point) & (point <= high)
            value = float(self.functions[order](np.array(point)))
            least = np.where(inside, np.minimum(least, value), least)
            greatest = np.where(inside, np.maximum(greatest, value), greatest)
        return least, greatest

    def magnitude(self, order: int, radius: ArrayLike) -> np.ndarray:
        """Return the greatest absolute value of σ, σ′ or σ″ on [−radius, radius].

        Parameters and errors are those of `range`; a negative radius is a ValueError.
        """
        radius = checks.finite_array(radius, "radius", empty=True, infinite=True)
        if (radius < 0).any():
            raise ValueError(f"radius must not be negative, but its least is {radius.min():g}.")
        least, greatest = self.range(order, -radius, radius)
        return np.maximum(np.abs(least), np.abs(greatest))

    def _at(self, order: int, u: np.ndarray) -> np.ndarray:
        finite = np.isfinite(u)
        value = self.functions[order](np.where(finite, u, 0.0))
        ends = self.limits[order]
        return np.where(finite, value, np.where(u < 0, ends[0], ends[1]))

    @property
    def strictly_increasing(self) -> bool:
        """Whether σ′ > 0 everywhere, as Theorem 2.1 assumes."""
        least = min(float(self.functions[1](np.array(point))) for point in (*self.extrema[1], 0.0))
        return least > 0 and min(self.limits[1]) >= 0 and self.smoothness >= 1

    @property
    def at_zero(self) -> float:
        """The value σ(0), which Theorem 2.1 assumes to be zero."""
        return float(self.functions[0](np.array(0.0)))

    def shifted(self) -> Activation:
        """Return σ − σ(0), the shift of Remark 2.5; an activation with σ(0) = 0 as it is."""
        if (offset := self.at_zero) == 0:
            return self
        ends = self.limits[0]
        return Activation(
            f"shifted_{self.name}",
            (
                partial(_elementwise.shifted_value, base=self.functions[0], offset=offset),
                *self.functions[1:],
            ),
            self.extrema,
            ((ends[0] - offset, ends[1] - offset), *self.limits[1:]),
            self.smoothness,
        )


def smooth_leaky_relu(s: float = 0.1) -> Activation:
    """Return the smooth leaky ReLU of Remark 2.5.

    σ(u) = s u + (1−s) (log(1+eᵘ) − log 2), so σ(0) = 0, s < σ′ < 1 and 0 < σ″ ≤ (1−s)/4.

    Parameters
    ----------
    s : float
        Slope at −∞, strictly between 0 and 1.

    Raises
    ------
    TypeError, ValueError
        If `s` is not a number strictly between 0 and 1.
    """
    s = checks.fraction(s, "s")
    return Activation(
        f"smooth_leaky_relu({s!r})",
        (
            partial(_elementwise.smooth_leaky_value, s=s),
            partial(_elementwise.smooth_leaky_slope, s=s),
            partial(_elementwise.smooth_leaky_curvature, s=s),
        ),
        ((), (), (0.0,)),
        ((-math.inf, math.inf), (s, 1.0), (0.0, 0.0)),
        fused=partial(_elementwise.smooth_leaky_fused, s=s),
        softplus_form=(s, math.log(2)),
    )


def leaky_relu(s: float = 0.1) -> Activation:
    """Return the leaky ReLU, slope `s` below zero and 1 above; not differentiable at zero.

    Raises
    ------
    TypeError, ValueError
        If `s` is not a number strictly between 0 and 1.
    """
    s = checks.fraction(s, "s")
    return Activation(
        f"leaky_relu({s!r})",
        (
            partial(_elementwise.leaky_value, s=s),
            partial(_elementwise.leaky_slope, s=s),
            np.zeros_like,
        ),
        ((), (), ()),
        ((-math.inf, math.inf), (s, 1.0), (0.0, 0.0)),
        smoothness=0,
    )


_UNBOUNDED = (-math.inf, math.inf)
_LOG_2_ROOT_3 = math.log(2 + math.sqrt(3))  # where sigmoid(1 - sigmoid)(1 - 2 sigmoid) turns

tanh = Activation(
    "tanh",
    (np.tanh, _elementwise.tanh_slope, _elementwise.tanh_curvature),
    ((), (0.0,), (-math.atanh(1 / math.sqrt(3)), math.atanh(1 / math.sqrt(3)))),
    ((-1.0, 1.0), (0.0, 0.0), (0.0, 0.0)),
    fused=_elementwise.tanh_fused,
)  #: σ(u) = tanh u.
sigmoid = Activation(
    "sigmoid",
    (_elementwise.sigmoid, _elementwise.sigmoid_slope, _elementwise.sigmoid_curvature),
    ((), (0.0,), (-_LOG_2_ROOT_3, _LOG_2_ROOT_3)),
    ((0.0, 1.0), (0.0, 0.0), (0.0, 0.0)),
)  #: σ(u) = 1/(1 + e⁻ᵘ).
shifted_sigmoid = Activation(
    "shifted_sigmoid",
    (
        _elementwise.shifted_sigmoid_value,
        _elementwise.sigmoid_slope,
        _elementwise.sigmoid_curvature,
    ),
    ((), (0.0,), (-_LOG_2_ROOT_3, _LOG_2_ROOT_3)),
    ((-0.5, 0.5), (0.0, 0.0), (0.0, 0.0)),
)  #: σ(u) = 1/(1 + e⁻ᵘ) − 1/2.
softplus = Activation(
    "softplus",
    (_elementwise.softplus_value, _elementwise.sigmoid, _elementwise.sigmoid_slope),
    ((), (), (0.0,)),
    ((0.0, math.inf), (0.0, 1.0), (0.0, 0.0)),
    softplus_form=(0.0, 0.0),
)  #: σ(u) = log(1 + eᵘ).
shifted_softplus = Activation(
    "shifted_softplus",
    (_elementwise.shifted_softplus_value, _elementwise.sigmoid, _elementwise.sigmoid_slope),
    ((), (), (0.0,)),
    ((-math.log(2), math.inf), (0.0, 1.0), (0.0, 0.0)),
    softplus_form=(0.0, math.log(2)),
)  #: σ(u) = log(1 + eᵘ) − log 2.
arctan = Activation(
    "arctan",
    (np.arctan, _elementwise.arctan_slope, _elementwise.arctan_curvature),
    ((), (0.0,), (-1 / math.sqrt(3), 1 / math.sqrt(3))),
    ((-math.pi / 2, math.pi / 2), (0.0, 0.0), (0.0, 0.0)),
)  #: σ(u) = arctan u.
arcsinh = Activation(
    "arcsinh",
    (np.arcsinh, _elementwise.arcsinh_slope, _elementwise.arcsinh_curvature),
    ((), (0.0,), (-1 / math.sqrt(2), 1 / math.sqrt(2))),
    (_UNBOUNDED, (0.0, 0.0), (0.0, 0.0)),
)  #: σ(u) = arcsinh u.
gelu = Activation(
    "gelu",
    (_elementwise.gelu_value, _elementwise.gelu_slope, _elementwise.gelu_curvature),
    ((-0.7517915246935645,), (-math.sqrt(2), math.sqrt(2)), (-2.0, 0.0, 2.0)),
    ((0.0, math.inf), (0.0, 1.0), (0.0, 0.0)),
)  #: σ(u) = u Φ(u).
identity = Activation(
    "identity",
    (_elementwise.identity, np.ones_like, np.zeros_like),
    ((), (), ()),
    (_UNBOUNDED, (1.0, 1.0), (0.0, 0.0)),
)  #: σ(u) = u.
relu = Activation(
    "relu",
    (
        partial(_elementwise.leaky_value, s=0.0),
        partial(_elementwise.leaky_slope, s=0.0),
        np.zeros_like,
    ),
    ((), (), ()),
    ((0.0, math.inf), (0.0, 1.0), (0.0, 0.0)),
    smoothness=0,
)  #: σ(u) = max(u, 0), not differentiable at 0.
squared_relu = Activation(
    "squared_relu",
    (
        _elementwise.squared_relu_value,
        _elementwise.squared_relu_slope,
        _elementwise.squared_relu_curvature,
    ),
    ((), (), ()),
    ((0.0, math.inf), (0.0, math.inf), (0.0, 2.0)),
    smoothness=1,
)  #: σ(u) = max(u, 0)².

_PLAIN = {
    activation.name: activation
    for activation in (
        tanh,
        sigmoid,
        shifted_sigmoid,
        softplus,
        shifted_softplus,
        arctan,
        arcsinh,
        gelu,
        identity,
        relu,
        squared_relu,
    )
}
_WITH_SLOPE = {"smooth_leaky_relu": smooth_leaky_relu, "leaky_relu": leaky_relu}


def named(name: str) -> Activation:
    """Return the activation called `name`, such as ``"tanh"`` or ``"smooth_leaky_relu(0.1)"``.

    Raises
    ------
    ValueError
        If there is no activation of that name.

    Examples
    --------
    >>> from plcore.activations import named, smooth_leaky_relu
    >>> named("smooth_leaky_relu(0.2)") == smooth_leaky_relu(0.2)
    True
    """
    name = checks.instance(name, str, "name")
    # A shift that was made once leaves nothing to the next.
    name = re.sub("^(?:shifted_)+(?=shifted_)", "", name)
    if name in _PLAIN:
        return _PLAIN[name]
    match = re.fullmatch(r"(\w+)(?:\(([-+.\deE]+)\))?", name)
    if match and match[1] in _WITH_SLOPE:
        if match[2] is None:
            return _WITH_SLOPE[match[1]]()
        try:
            return _WITH_SLOPE[match[1]](float(match[2]))
        except ValueError as error:
            reason = str(error).partition(": '")[0].rstrip(".")
            raise ValueError(f"{checks.shown(name)} has a bad slope: {reason}.") from error
    if name.startswith("shifted_"):
        return named(name.removeprefix("shifted_")).shifted()
    known = ", ".join([*sorted(_PLAIN), *(f"{key}(s)" for key in sorted(_WITH_SLOPE))])
    raise ValueError(f"There is no activation {checks.shown(name)}; known are {known}.")
