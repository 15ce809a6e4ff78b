"""Certified lower bounds on the local PL constant of positive starts, sharper than Remark 2.6's.

Each improvement has a name and can be switched on by itself; the bounds feed the criterion (1.1),
the integral criterion (T2) and the step-size theorems.

>>> import numpy as np
>>> from plcore import FeedForward, activations
>>> from plcore.positive_start import positive_start_constants
>>> from plcore.positive_start_bounds import certified_output_scale
>>> network = FeedForward((3, 5, 1), activations.tanh)
>>> X, y = np.eye(3), [1.0, -1.0, 2.0]
>>> remark = positive_start_constants(network, X, y).required_scale
>>> sharper = certified_output_scale(network, X, y).scale
>>> print(f"A from {remark:.3g} down to {sharper:.2g}")
A from 9.98 down to 1.1
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import checks, hypotheses
from ._residual_direction import ResidualDirection
from ._start_bounds import Reach, Start, covering_splits
from ._start_direction import least_push
from .hypotheses import Hypotheses, Hypothesis
from .initialization import positive
from .network import FeedForward
from .positive_start import _slopes
from .results import Result
from .verdicts import (
    Criterion,
    IntegralCriterion,
    criterion_from_bounds,
    increasing_radii,
    integral_criterion_from_bounds,
)

__all__ = [
    "IMPROVEMENTS",
    "OutputScale",
    "PositiveStartBounds",
    "certified_output_scale",
    "positive_start_bounds",
]

IMPROVEMENTS = ("norms", "shared", "split", "biases", "samples", "direction")
"""What goes beyond Remark 2.6, by name; each is described at `positive_start_bounds`."""

# Relative room for the rounding of the few hundred operations behind each bound.
_SAFE = 1 - 1e-10
_PARTS = {2: 48, 3: 22, 4: 14, 5: 10}  # covers of the splits, and coarser ones for "direction"
_COARSE_PARTS = {2: 32, 3: 12, 4: 8, 5: 6}
_MOST_BUDGETS = 25_000  # numbers in a cover
_STEPS = (12, 36)  # of the staircase in `Start.common_signal`; the second a multiple of the first
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class PositiveStartBounds(Result):
    """Lower bounds on α(w_0, s) at some radii, and the loss at the start.

    Attributes
    ----------
    radii, alphas : numpy.ndarray, shape (m,)
        0 < s_1 < … < s_m, and the proved α(w_0, s_j) ≥ alphas[j]; nonincreasing.
    loss : float
        S(w_0) = |y|²/n, rounded up.
    improvements : tuple of str
        What was used beyond Remark 2.6.
    """

    radii: np.ndarray
    alphas: np.ndarray = field(metadata={"label": "lower bounds on α"})
    loss: float = field(metadata={"label": "S(w₀), loss at the start"})
    improvements: tuple[str, ...] = field(metadata={"show": False})

    def criterion(self) -> Criterion:
        """Decide the paper's criterion (1.1) from these bounds."""
        return criterion_from_bounds(self.loss, self.radii, self.alphas)

    def integral_criterion(self, epsilon: float = 0.0) -> IntegralCriterion:
        """Decide the integral criterion (T2) from these bounds, with slack ε in [0, 1)."""
        return integral_criterion_from_bounds(self.loss, self.radii, self.alphas, epsilon=epsilon)


@dataclass(frozen=True)
class OutputScale(Result):
    """A proved output scale A_cert.

    Every positive start with the same hidden weights and an output scale of at least `scale` is
    certified.

    Attributes
    ----------
    scale : float
        A_cert; ∞ where no scale was certified.
    criterion : {"integral", "radius"}
        (T2), or (1.1).
    radius : float
        The radius r* within which the flow stays, from A_cert.
    improvements : tuple of str
        What was used beyond Remark 2.6.
    """

    scale: float = field(metadata={"label": "A_cert, certified output scale"})
    criterion: str
    radius: float = field(metadata={"label": "r*, radius"})
    improvements: tuple[str, ...]


def _checked_improvements(improvements: Any) -> tuple[str, ...]:
    if not isinstance(improvements, tuple | list | set | frozenset):
        raise TypeError(
            "improvements must be a tuple, list or set of names, but is "
            f"{checks.shown(improvements)}."
        )
    asked = [checks.one_of(name, IMPROVEMENTS, "Each of improvements") for name in improvements]
    return tuple(name for name in IMPROVEMENTS if name in asked)


def _hypotheses(network: FeedForward, start: np.ndarray) -> Hypotheses:
    layers = network.layers(start)
    first = float(np.abs(layers[0][0]).max())
    bias = max(float(np.abs(b).max()) for _, b in layers[:-1])
    least = min(float(W.min()) for W, _ in layers[1:])
    at_zero = network.forward(start, np.zeros((1, network.widths[0])))[0]
    room = 1e-12 * (1 + abs(float(layers[-1][1][0])))
    return Hypotheses(
        "The bound for positive starts",
        (
            hypotheses.activations_smooth(network),
            hypotheses.activations_increasing(network),
            Hypothesis(
                "first layer zero",
                not first,
                f"W_1 must be zero, but has an entry of absolute value {first:.4g}.",
            ),
            Hypothesis(
                "hidden biases zero",
                not bias,
                f"The hidden biases must be zero, but one has absolute value {bias:.4g}.",
            ),
            Hypothesis(
                "weights positive",
                least > 0,
                f"The entries of W_2 … W_L must be positive, but the least is {least:.4g}.",
            ),
            Hypothesis(
                "output zero at the start",
                abs(at_zero) <= room,
                f"The output at the start must be zero, but is {at_zero:.4g}; let the last bias "
                "cancel it, as initialization.positive does.",
            ),
        ),
    )


def _cover(depth: int, parts: int) -> np.ndarray:
    """Return a cover of the splits that is not too long for a deep network."""
    while parts > 1 and depth * math.comb(depth + parts - 2, parts - 1) > _MOST_BUDGETS:
        parts -= 1
    return covering_splits(depth, parts)


class Setting:
    """One data set and one start, checked; and what does not depend on the radius."""

    def __init__(self, network: FeedForward, X: Any, y: Any) -> None:
        self.network = network
        self.X, self.y = hypotheses.one_data_set(network, X, y)
        with np.errstate(over="ignore"):
            checks.within_range(np.square(self.X), "x²")
            checks.within_range(np.square(self.y).sum(), "|y|²")
        self.size = size = math.hypot(*self.y)  # also where the squares underflow
        self.loss = max(size * size / len(self.y) / _SAFE, 5e-324 if size else 0.0)
        self.spectrum = hypotheses.input_spectrum(self.X)
        self.residuals = ResidualDirection(self.X, self.y)
        depth = network.depth
        self.splits = _cover(depth, _PARTS.get(depth, 6))
        self.coarse = _cover(depth, _COARSE_PARTS.get(depth, 4))

    @classmethod
    def from_start(cls, network: Any, X: Any, y: Any, start: Any) -> Setting:
        """Check all arguments of a public function at once."""
        setting = cls(checks.instance(network, FeedForward, "network"), X, y)
        start = network.check_parameters(checks.finite_array(start, "start", ndim=1))
        _hypotheses(network, start).require()
        setting.begin(start)
        return setting

    def begin(self, start: np.ndarray) -> None:
        """Take a start."""
        self.layers = self.network.layers(start)
        self.begun = Start(self.network, self.layers, self.X)

    def pushes(self, radii: np.ndarray, improvements: tuple[str, ...]) -> np.ndarray:
        """Return lower bounds on |J(v)ᵀe(v)|/|e(v)| over the balls of the given radii."""
        best = self._entries(radii)
        if improvements:
            floor = self.spectrum.least_singular * (1 - 1e-12)
            if {"biases", "samples", "direction"}.intersection(improvements):
                floor = max(floor, math.sqrt(self.residuals.least))
            shared = "shared" in improvements
            split = "split" in improvements
            found = self.reach(radii, self.splits, shared=shared, split=split)
            best = np.maximum(best, floor * found.signal.min(axis=0))
            if "samples" in improvements:
                together = math.sqrt(self.residuals.least) * self._together(found, shared)
                best = np.maximum(best, together)
            if "direction" in improvements:
                found = self.reach(radii, self.coarse, shared=shared, split=split)
                turned = least_push(self.begun, found, self.residuals)
                best = np.maximum(best, turned.min(axis=0))
        best = np.where(np.isfinite(best), best, 0.0) * _SAFE
        return np.maximum.accumulate(best[::-1])[::-1]

    def reach(self, radii: np.ndarray, splits: np.ndarray, *, shared: bool, split: bool) -> Reach:
        """Return the bounds for every split of every radius, arrays (splits, radii)."""
        if not split:
            splits = np.ones((1, self.network.depth))
        budgets = list(np.sqrt(splits.T)[:, :, None] * radii)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self.begun.reach(budgets, shared)

    def _together(self, found: Reach, shared: bool) -> np.ndarray:
        """Return the least `Start.common_signal` of all splits, for each radius."""
        every = np.arange(found.signal.shape[1])
        fraction = self.residuals.together

        def common(splits: np.ndarray, radii: np.ndarray, steps: int) -> np.ndarray:
            budgets = [budget[splits, radii] for budget in found.budgets]
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                return self.begun.common_signal(budgets, shared, fraction, steps)

        least = common(found.signal.argmin(axis=0), every, _STEPS[1])
        # Few splits can have a lower one: none is below its bounds from fewer steps, or from one.
        splits, radii = np.nonzero(found.signal < least)
        lower = common(splits, radii, _STEPS[0]) < least[radii]
        splits, radii = splits[lower], radii[lower]
        np.minimum.at(least, radii, common(splits, radii, _STEPS[1]))
        return least

    def _entries(self, radii: np.ndarray) -> np.ndarray:
        """Remark 2.6's bound as a function of the radius."""
        network, layers = self.network, self.layers
        hidden = [float(end) for W, _ in layers[1:-1] for end in (W.min(), W.max())]
        bound, scale = float(np.abs(self.X).max()), float(layers[-1][0].min())
        _, slopes = _slopes(network, bound, max(hidden, default=0.0), radii)
        steps = np.maximum(min(hidden, default=0.0) - radii, 0.0) ** (network.depth - 2)
        gain = np.prod(slopes, axis=0) * steps * math.prod(map(float, network.widths[2:-1]))
        floor = self.spectrum.least_singular * math.sqrt(network.widths[1])
        return floor * np.maximum(scale - radii, 0.0) * gain

    def radii(
        self, improvements: tuple[str, ...], criterion: str, count: int, times: float = 1.5
    ) -> np.ndarray:
        """Choose radii that matter: up to where the criterion is met, or nothing is left."""
        weight = self.layers[-1][0]
        whole = float(np.linalg.norm(weight)) + 1e-300
        trial = whole * np.geomspace(1e-4, 1.0, 40)
        # "samples" would take longest, and moves little here.
        push = self.pushes(trial, tuple(name for name in improvements if name != "samples"))
        if criterion == "integral":
            total = np.cumsum(push * np.diff(trial, prepend=0.0))
            last = np.flatnonzero(total >= times * self.size)
        else:
            last = np.flatnonzero(np.arange(40) == int(np.argmax(push * trial)) + 1)
        top = trial[last[0]] if len(last) else trial[min(int((push > 0).sum()), 39)]
        return float(top) * np.square(np.arange(1, count + 1) / count)

    def bounds(
        self, radii: Any, improvements: tuple[str, ...], *, count: int, times: float
    ) -> PositiveStartBounds:
        """Return the bounds on α at given radii, or at `count` chosen ones."""
        if radii is None:
            radii = self.radii(improvements, "integral", count, times)
        radii = increasing_radii(checks.finite_array(radii, "radii", ndim=1))
        push = self.pushes(radii, improvements)
        alphas = 4 / len(self.y) * np.square(push)
        return PositiveStartBounds(radii, alphas, self.loss, improvements)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def positive_start_bounds(
    network: FeedForward,
    X: Any,
    y: Any,
    start: Any,
    radii: Any = None,
    *,
    improvements: Collection[str] = IMPROVEMENTS,
) -> PositiveStartBounds:
    """Return proved lower bounds on the local PL constant α(w_0, s) of a positive start.

    Statement.  With S the squared loss, |∇S|²/S ≥ alphas[j] wherever S > 0 in B(w_0, radii[j]).

    Assumptions.  W_1 = 0, hidden biases 0, W_2 … W_L positive, f(·, w_0) = 0; activations in C²
    with σ′ > 0.  The inputs need not be independent, but where X Xᵀ + 11ᵀ is singular little is
    proved.

    Constants.  Without improvements α ≥ 4λ d_1 (A−s)² G(s)² as in Remark 2.6.  Then, each proved
    in the chapter on sharper constants:

    * ``"norms"``: the layers' changes are bounded in norm, not entry by entry;
    * ``"shared"``: the neurons of a layer share one budget;
    * ``"split"``: the layers share one budget, Σ r_ℓ² ≤ s²;
    * ``"biases"``: μ = λ_min(XXᵀ + 11ᵀ) in place of λ_min(XXᵀ);
    * ``"samples"``: the samples share the first layer's budget;
    * ``"direction"``: the residual has not turned far from −y.

    Each is computed in floating point with a relative margin of 10⁻¹⁰ (64 (n+d) 2⁻⁵² ‖P‖ for the
    eigenvalues of P = XXᵀ + 11ᵀ), far above what the few hundred operations can lose.

    Parameters
    ----------
    network : FeedForward
    X : array_like, shape (n, d_0)
    y : array_like, shape (n,)
    start : array_like, shape (p,)
        w_0.
    radii : array_like, shape (m,), optional
        Positive and increasing; 64 that reach as far as (T2) needs, if left out.
    improvements : collection of str, default all
        Which of `IMPROVEMENTS` to use; any one of them implies ``"norms"``, and ``"samples"``
        and ``"direction"`` imply ``"biases"``.  The result is never below that of fewer
        improvements.

    Returns
    -------
    PositiveStartBounds

    Raises
    ------
    TypeError, ValueError
        If a hypothesis fails (all that do are named), or an argument has the wrong type or shape.

    References
    ----------
    Ours; Section A.3 of the paper has the first bound.
    """
    setting = Setting.from_start(network, X, y, start)
    return setting.bounds(radii, _checked_improvements(improvements), count=64, times=1.5)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def certified_output_scale(
    network: FeedForward,
    X: Any,
    y: Any,
    *,
    hidden: float | None = None,
    criterion: str = "integral",
    improvements: Collection[str] = IMPROVEMENTS,
) -> OutputScale:
    """Return A_cert: the criterion is proved at the positive start of every scale A ≥ A_cert.

    Statement.  Let the bounds of `positive_start_bounds` at output scale A prove the criterion on
    radii s_j.  Then at κA, κ ≥ 1, they prove it on the radii s_j/κ: each push at least κ times as
    large, on steps 1/κ times as long.  So one accepted A proves every larger one.

    Parameters
    ----------
    network, X, y, improvements
        As in `positive_start_bounds`.
    hidden : float, optional
        The entry of W_2 … W_{L−1}; 1/d_{ℓ−1} in layer ℓ if left out.
    criterion : {"integral", "radius"}
        (T2), or the paper's (1.1).

    Returns
    -------
    OutputScale
        Within a thousandth of the least scale at which the bounds suffice.

    Raises
    ------
    TypeError, ValueError
        If a hypothesis fails, or an argument has the wrong type or shape.
    """
    setting = Setting(checks.instance(network, FeedForward, "network"), X, y)
    checks.one_of(criterion, ("integral", "radius"), "criterion")
    improvements = _checked_improvements(improvements)
    unit = positive(network, 1.0, hidden)
    _hypotheses(network, unit).require()

    def reached(log_scale: float) -> float:
        setting.begin(positive(network, math.exp(log_scale), hidden))
        radii = setting.radii(improvements, criterion, 48)
        alphas = 4 / len(setting.y) * np.square(setting.pushes(radii, improvements))
        if criterion == "integral":
            return integral_criterion_from_bounds(setting.loss, radii, alphas).radius
        found = criterion_from_bounds(setting.loss, radii, alphas)
        return found.path_length if found.holds else math.inf

    if setting.size == 0:
        raise ValueError("y must not be zero: every scale is certified where the loss is zero.")
    high = 0.0
    while not math.isfinite(best := reached(high)):
        high += 2.0
        if high > 60.0:
            return OutputScale(math.inf, criterion, math.inf, improvements)
    low = high - 2.0
    while math.isfinite(radius := reached(low)):
        high, best = low, radius
        low -= 2.0
        if low < -60.0:
            break
    while high - low > _TOLERANCE:
        middle = 0.5 * (low + high)
        radius = reached(middle)
        if math.isfinite(radius):
            high, best = middle, radius
        else:
            low = middle
    return OutputScale(math.exp(high), criterion, best, improvements)
