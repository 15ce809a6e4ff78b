"""Activation functions in balls: σ, σ′ and σ″ at points, and their ranges on intervals.

These are formulas of their own, which share nothing with the floating-point tables of
`activations` but the names.  Between two neighbours of its *turns*, and beyond the last, each
function is monotone, so that its range on an interval is taken at the ends and at the turns inside.

>>> from plcore.ball_activations import ball_activation
>>> from plcore.balls import ball
>>> value = ball_activation("tanh").functions[0](ball(1))
>>> bool(0.7615 < value < 0.7616)
True
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from flint import arb

__all__ = ["BallActivation", "ball_activation"]

_lesser = np.frompyfunc(lambda x, y: x.min(y), 2, 1)
_greater = np.frompyfunc(lambda x, y: x.max(y), 2, 1)

Function = Callable[[Any], Any]
Turns = Callable[[], tuple[Any, ...]]


@dataclass(frozen=True)
class BallActivation:
    """One activation function on arrays of balls.

    Attributes
    ----------
    functions : tuple of three callables
        σ, σ′ and σ″ of one ball.
    turns : tuple of three callables
        Each returns, at the working precision, the points where that function changes direction.
    steepest : callable
        Returns the greatest value of |σ‴| over all real numbers.
    """

    functions: tuple[Function, Function, Function]
    turns: tuple[Turns, Turns, Turns]
    steepest: Callable[[], Any]

    def at(self, order: int, u: np.ndarray) -> np.ndarray:
        """Return σ, σ′ or σ″ of each entry of an array of balls."""
        return np.asarray(np.frompyfunc(partial(self._enclose, order), 1, 1)(u), dtype=object)

    def _enclose(self, order: int, u: Any) -> Any:
        """Return σ, σ′ or σ″ of a ball; of a wide one from its ends and the turns inside it."""
        function = self.functions[order]
        value = function(u)
        if value.is_finite() or not u.is_finite():
            return value
        points = (u.upper(), *(point for point in self.turns[order]() if u.overlaps(point)))
        value = function(u.lower())
        for point in points:
            value = value.union(function(point))
        return value

    def range(self, order: int, low: np.ndarray, high: np.ndarray) -> tuple[Any, Any]:
        """Return a lower and an upper bound of σ, σ′ or σ″ on each interval [low, high].

        Parameters
        ----------
        order : {0, 1, 2}
        low, high : numpy.ndarray of balls
            Ends of the intervals.
        """
        ends = self.at(order, low), self.at(order, high)
        least, greatest = _lesser(*ends), _greater(*ends)
        for point in self.turns[order]():
            outside = ((high < point) | (low > point)).astype(bool)
            value = self.functions[order](point)
            least = np.where(outside, least, _lesser(least, value))
            greatest = np.where(outside, greatest, _greater(greatest, value))
        return least, greatest

    def magnitude(self, order: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return an upper bound of |σ|, |σ′| or |σ″| on each interval [low, high]."""
        least, greatest = self.range(order, low, high)
        return np.asarray(_greater(greatest, -least), dtype=object)


def _none() -> tuple[Any, ...]:
    return ()


def _zero() -> tuple[Any, ...]:
    return (arb(0),)


def _both(point: Callable[[], Any]) -> Turns:
    return lambda: (-point(), point())


# --- sigmoid and softplus -----------------------------------------------------------------------


def _sigmoid(u: Any) -> Any:
    if u < 0:  # far out e⁻ᵘ is too big for a ball to hold
        small = u.exp()
        return small / (1 + small)
    return 1 / (1 + (-u).exp())


def _sigmoid_slope(u: Any) -> Any:
    return (u / 2).sech() ** 2 / 4


def _sigmoid_curvature(u: Any) -> Any:
    return -(u / 2).tanh() * _sigmoid_slope(u)


def _sigmoid_turn() -> Any:
    # With t = tanh(u/2): σ″ = −t(1 − t²)/4 turns where 1 = 3t², u = 2 artanh(1/√3) = log(2 + √3).
    return (2 + arb(3).sqrt()).log()


def _softplus(u: Any) -> Any:
    return u.max(arb(0)) + (-abs(u)).exp().log1p()


def _shifted_softplus(u: Any) -> Any:
    return _softplus(u) - arb.const_log2()


def _sigmoid_steepest() -> Any:
    # σ‴ = q(1 − 6q) with q = σ(1 − σ) in (0, 1/4]: −1/8 at q = 1/4, at most 1/24 elsewhere.
    return arb(1) / 8


def _softplus_steepest() -> Any:
    # σ‴ is sigmoid's σ″ = ∓t(1 − t²)/4 at t² = 1/3.
    return 1 / (6 * arb(3).sqrt())


def _smooth_leaky(s: Any, order: int, u: Any) -> Any:
    if order == 2:
        return (1 - s) * _sigmoid_slope(u)
    return s + (1 - s) * _sigmoid(u) if order else s * u + (1 - s) * _shifted_softplus(u)


# --- tanh, arctan, arcsinh ----------------------------------------------------------------------


def _tanh_curvature(u: Any) -> Any:
    return -2 * u.tanh() * u.sech() ** 2


def _tanh_turn() -> Any:
    # σ″ = −2t(1 − t²) with t = tanh u turns where 1 = 3t².
    return (1 / arb(3).sqrt()).atanh()


def _arctan_curvature(u: Any) -> Any:
    return -2 * u / (1 + u * u) ** 2


def _arcsinh_curvature(u: Any) -> Any:
    return -u / ((1 + u * u) * (1 + u * u).sqrt())


# --- GELU: uΦ(u), Φ the normal distribution function, φ its density -------------------------------


def _normal(u: Any) -> Any:
    return (-u / arb(2).sqrt()).erfc() / 2


def _density(u: Any) -> Any:
    return (-u * u / 2).exp() / (2 * arb.pi()).sqrt()


def _gelu_slope(u: Any) -> Any:
    return _normal(u) + u * _density(u)


def _gelu_turn() -> tuple[Any, ...]:
    """Return the only zero of σ′, to 40 digits.

    σ″ = (2 − u²)φ(u): σ′ falls from 0 on (−∞, −√2), rises on (−√2, √2), and falls to 1 beyond.
    So it is negative up to −√2, positive from √2 on, and has one zero between.
    """
    return (arb("-0.7517915246935644574579049467795240396644 +/- 1e-40"),)


def _gelu_steepest() -> Any:
    # σ‴ = (u³ − 4u)φ(u) turns where u⁴ − 7u² + 4 = 0; the outer turns are about 0.099.
    u = ((7 - arb(33).sqrt()) / 2).sqrt()
    return (4 * u - u**3) * _density(u)


_SIGMOID_TURNS = (_none, _zero, _both(_sigmoid_turn))
_SOFTPLUS_TURNS = (_none, _none, _zero)
_TABLE = {
    "tanh": BallActivation(
        (lambda u: u.tanh(), lambda u: u.sech() ** 2, _tanh_curvature),
        (_none, _zero, _both(_tanh_turn)),
        # σ‴ = −2(1 − t²)(1 − 3t²) with t² in [0, 1): −2 at 0, and at most 2/3 elsewhere.
        lambda: arb(2),
    ),
    "arctan": BallActivation(
        (lambda u: u.atan(), lambda u: 1 / (1 + u * u), _arctan_curvature),
        # σ‴ = (6u² − 2)/(1 + u²)³
        (_none, _zero, _both(lambda: 1 / arb(3).sqrt())),
        lambda: arb(2),  # at 0; the other extrema of σ‴, at u² = 1, are 1/2
    ),
    "arcsinh": BallActivation(
        (lambda u: u.asinh(), lambda u: 1 / (1 + u * u).sqrt(), _arcsinh_curvature),
        # σ‴ = (2u² − 1)/(1 + u²)^{5/2}
        (_none, _zero, _both(lambda: 1 / arb(2).sqrt())),
        lambda: arb(1),  # at 0; the other extrema, at u² = 3/2, are 2/2.5^{5/2} < 0.21
    ),
    "sigmoid": BallActivation(
        (_sigmoid, _sigmoid_slope, _sigmoid_curvature), _SIGMOID_TURNS, _sigmoid_steepest
    ),
    "shifted_sigmoid": BallActivation(
        (lambda u: (u / 2).tanh() / 2, _sigmoid_slope, _sigmoid_curvature),
        _SIGMOID_TURNS,
        _sigmoid_steepest,
    ),
    "softplus": BallActivation(
        (_softplus, _sigmoid, _sigmoid_slope), _SOFTPLUS_TURNS, _softplus_steepest
    ),
    "shifted_softplus": BallActivation(
        (_shifted_softplus, _sigmoid, _sigmoid_slope), _SOFTPLUS_TURNS, _softplus_steepest
    ),
    "gelu": BallActivation(
        (lambda u: u * _normal(u), _gelu_slope, lambda u: (2 - u * u) * _density(u)),
        # σ‴ = u(u² − 4)φ(u)
        (_gelu_turn, _both(lambda: arb(2).sqrt()), lambda: (arb(-2), arb(0), arb(2))),
        _gelu_steepest,
    ),
    "identity": BallActivation(
        (lambda u: u, lambda u: 0 * u + 1, lambda u: 0 * u), (_none, _none, _none), lambda: arb(0)
    ),
}


def ball_activation(name: str) -> BallActivation:
    """Return the activation called `name` in balls.

    Raises
    ------
    ValueError
        If there is none: it is unknown, or not twice continuously differentiable.
    """
    if name in _TABLE:
        return _TABLE[name]
    match = re.fullmatch(r"smooth_leaky_relu\(([-+.\deE]+)\)", name)
    if match:
        s = float(match[1])
        if 0 < s < 1:
            functions = tuple(partial(_smooth_leaky, arb(s), order) for order in range(3))
            return BallActivation(
                (functions[0], functions[1], functions[2]),
                _SOFTPLUS_TURNS,
                lambda: (1 - arb(s)) * _softplus_steepest(),
            )
    known = ", ".join([*sorted(_TABLE), "smooth_leaky_relu(s)"])
    raise ValueError(
        f"The activation {name!r} is not among those, twice continuously differentiable, that can "
        f"be verified: {known}."
    )
