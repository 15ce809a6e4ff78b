"""Theorem 2.8: the event that makes a LeCun start converge, its probability, and draws from it.

The event is E_a ∩ F_τ: every entry of W_2 … W_L lies in [a, 2a], and |W_1| ≤ τ.  Where the
condition (T8) links a and τ, it implies the criterion (1.1) with r = a/2.  Its probability is
positive and may be far below the least double, so it is computed and shown as a logarithm.

>>> import numpy as np
>>> from plcore import FeedForward, activations, lecun_event
>>> network = FeedForward((3, 4, 1), activations.smooth_leaky_relu(0.5))
>>> event = lecun_event.best_event(network, np.eye(3), [1.0, -1.0, 2.0])
>>> rng = np.random.default_rng(0)
>>> start = lecun_event.sample_event(network, event.low, event.norm_bound, rng)
>>> print(f"10^{event.log10:.1f}", start.shape)
10^-73.0 (21,)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import optimize

from . import checks, hypotheses
from ._logarithms import format_probability, gamma_below, log_box, log_gamma_cdf
from .hypotheses import Hypotheses
from .initialization import conditioned_lecun
from .network import FeedForward
from .results import Result

__all__ = [
    "EventProbability",
    "LecunCondition",
    "best_event",
    "event_probability",
    "format_probability",
    "in_event",
    "largest_norm_bound",
    "least_low",
    "lecun_condition",
    "lecun_hypotheses",
    "sample_event",
]


@dataclass(frozen=True)
class LecunCondition(Result):
    """The two sides of (T8) for one a and τ; natural logarithms, as both may overflow.

    Attributes
    ----------
    low, norm_bound : float
        a and τ.
    log_target_term, log_output_term, log_right : float
        Logarithms of the two terms of the left side, and of the right side.
    """

    low: float = field(metadata={"label": "a, lower end of the box"})
    norm_bound: float = field(metadata={"label": "τ, bound on |W₁|"})
    log_target_term: float = field(metadata={"label": "log of 8|y|²/n"})
    log_output_term: float = field(metadata={"label": "log of the output term"})
    log_right: float = field(metadata={"label": "log of the right side"})

    @property
    def log_left(self) -> float:
        """Logarithm of the left side of (T8)."""
        return float(np.logaddexp(self.log_target_term, self.log_output_term))

    @property
    def holds(self) -> bool:
        """Whether (T8) holds: then the criterion (1.1) holds on all of E_a ∩ F_τ."""
        return self.log_left < self.log_right

    def _title(self) -> str:
        return f"Condition (T8): {'holds' if self.holds else 'does not hold'}"


@dataclass(frozen=True)
class EventProbability(Result):
    """The probability of E_a ∩ F_τ under LeCun's start, as natural logarithms.

    Attributes
    ----------
    low, norm_bound : float
        a and τ.
    log_layers : numpy.ndarray, shape (L − 1,)
        log P(every entry of W_ℓ lies in [a, 2a]) for ℓ = 2 … L.
    log_norm : float
        log P(|W_1| ≤ τ), exact.
    norm_markov : float
        The paper's bound 1 − d_1/τ² on P(|W_1| ≤ τ), or 0 where it says nothing.
    """

    low: float = field(metadata={"label": "a, lower end of the box"})
    norm_bound: float = field(metadata={"label": "τ, bound on |W₁|"})
    log_layers: np.ndarray = field(metadata={"show": False})
    log_norm: float = field(metadata={"show": False})
    norm_markov: float = field(metadata={"show": False})

    @property
    def log_entries(self) -> float:
        """Natural logarithm of P(E_a)."""
        return float(self.log_layers.sum())

    @property
    def log(self) -> float:
        """Natural logarithm of P(E_a ∩ F_τ) = P(E_a) P(F_τ): W_1 and the rest are independent."""
        return self.log_entries + self.log_norm

    @property
    def log10(self) -> float:
        """The same to base ten."""
        return self.log / math.log(10)

    def _title(self) -> str:
        return "Probability of the event of the paper's Theorem 2.8"

    def _rows(self) -> Any:
        yield from super()._rows()
        for index, value in enumerate(self.log_layers, start=2):
            yield f"P(W_{index} in the box)", format_probability(value)
        yield "P(|W₁| ≤ τ), exact", format_probability(self.log_norm)
        yield "P(|W₁| ≤ τ), Markov's bound", f"at least {self.norm_markov:.4g}"
        yield "P(event)", format_probability(self.log)


def lecun_hypotheses(network: FeedForward, X: Any, y: Any) -> Hypotheses:
    """Check the hypotheses of Theorem 2.8 on network and data, one by one.

    Parameters are those of `lecun_condition`; only wrong types and shapes raise errors.
    """
    X, y = hypotheses.one_data_set(network, X, y)
    return Hypotheses(
        "the paper's Theorem 2.8",
        (
            hypotheses.inputs_independent(hypotheses.input_spectrum(X)),
            hypotheses.activations_smooth(network),
            hypotheses.zero_at_zero(network),
            hypotheses.slopes_bounded(network),
        ),
    )


@dataclass(frozen=True)
class _Logs:
    """Logarithms of the constants of (T8): C₀ + C₁ a^{2L−2} τ² < B a^{2L}."""

    target: float
    output: float
    right: float
    depth: int


def _logs(network: FeedForward, X: Any, y: Any) -> _Logs:
    X, y = hypotheses.one_data_set(network, X, y)
    lecun_hypotheses(network, X, y).require()
    spectrum = hypotheses.input_spectrum(X)
    root_lambda, root_Lambda = spectrum.roots
    c1, c2 = hypotheses.slope_range(network)
    hidden, d, L = network.depth - 1, network.widths, network.depth
    size = float(np.abs(y).max())
    size *= float(np.linalg.norm(y / size)) / math.sqrt(len(X)) if size else 1.0
    target = math.log(8) + 2 * math.log(size) if size else -math.inf
    pairs = sum(math.log(4 * d[k] * d[k - 1]) for k in range(2, L + 1))
    output = math.log(8) + pairs + 2 * (hidden * math.log(c2) + math.log(root_Lambda))
    paths = 2 * sum(math.log(width) for width in d[2:-1])
    right = math.log(d[1]) + paths + 2 * (hidden * math.log(c1 / 2) + math.log(root_lambda))
    return _Logs(target, output, right, L)


def lecun_condition(
    network: FeedForward, X: Any, y: Any, low: float, norm_bound: float
) -> LecunCondition:
    """Return both sides of the condition (T8) of Theorem 2.8.

    Statement.  If (T8) holds for a and τ, then the criterion (1.1) holds with r = a/2 at every
    start with zero biases in E_a ∩ F_τ: entries of W_2 … W_L in [a, 2a], and |W_1| ≤ τ.

    Assumptions.  Linearly independent inputs; activations in C² with σ(0) = 0 and
    0 < c₁ ≤ σ′ ≤ c₂ everywhere.

    Constants.  (T8) is 8|y|²/n + 8 c₂^{2(L−1)} Π_{ℓ≥2} (4a² d_ℓ d_{ℓ−1}) Λ τ²
    < a² λ d_1 c₁^{2(L−1)} (a/2)^{2(L−1)} Π_{2≤ℓ<L} d_ℓ².

    Parameters
    ----------
    network : FeedForward
    X : array_like, shape (n, d_0)
    y : array_like, shape (n,)
    low : float
        a > 0.
    norm_bound : float
        τ > 0.

    Returns
    -------
    LecunCondition

    Raises
    ------
    TypeError, ValueError
        If a hypothesis fails (all that do are named), a or τ is not positive, or shapes differ.

    References
    ----------
    Theorem 2.8 and Section A.4 of the paper; the event and (T8) are reconstructed from the proof.
    """
    logs = _logs(network, X, y)
    low = checks.positive_number(low, "low")
    norm_bound = checks.positive_number(norm_bound, "norm_bound")
    output = logs.output + 2 * (logs.depth - 1) * math.log(low) + 2 * math.log(norm_bound)
    right = logs.right + 2 * logs.depth * math.log(low)
    return LecunCondition(low, norm_bound, logs.target, output, right)


def _exp(log_value: float, name: str) -> float:
    with np.errstate(over="ignore", under="ignore"):
        return float(checks.within_range(np.exp(np.float64(log_value)), name))


def _log_norm_bound(logs: _Logs, log_low: float) -> float:
    """Return log τ at which (T8) is an equality; −∞ where no τ > 0 will do."""
    right = logs.right + 2 * logs.depth * log_low
    if right <= logs.target:
        return -math.inf
    share = math.log(-math.expm1(logs.target - right))
    return 0.5 * (right + share - logs.output) - (logs.depth - 1) * log_low


def largest_norm_bound(network: FeedForward, X: Any, y: Any, low: float) -> float:
    """Return the τ at which (T8) turns into an equality for a given a; it holds for less.

    Parameters and errors are those of `lecun_condition`.  The result is 0 where a is so small that
    no τ > 0 will do.
    """
    logs = _logs(network, X, y)
    low = checks.positive_number(low, "low")
    return _exp(_log_norm_bound(logs, math.log(low)), "τ")


def least_low(network: FeedForward, X: Any, y: Any, norm_bound: float | None = None) -> float:
    """Return the a above which (T8) holds: for every a beyond it, and for none up to it.

    The other arguments and errors are those of `lecun_condition`.

    Parameters
    ----------
    norm_bound : float, optional
        τ.  If left out, the limit τ → 0: for larger a there is some τ > 0 with (T8).
    """
    logs = _logs(network, X, y)
    floor = (logs.target - logs.right) / (2 * logs.depth)
    if norm_bound is None:
        return _exp(floor, "a")
    log_tau = math.log(checks.positive_number(norm_bound, "norm_bound"))
    # Divided by a^{2L−2}, the right side grows in a and the left doesn't: one root, in brackets.
    other = 0.5 * (logs.output - logs.right) + log_tau
    least = max(floor, other)

    def excess(log_low: float) -> float:
        left = np.logaddexp(logs.target - 2 * (logs.depth - 1) * log_low, logs.output + 2 * log_tau)
        return float(logs.right + 2 * log_low - left)

    return _exp(optimize.brentq(excess, least - 1e-9, least + 1.0, xtol=1e-15), "a")


def _log_half_square(network: FeedForward, norm_bound: float) -> tuple[float, float]:
    """Return shape s and log x with P(|W_1| ≤ τ) = P(s, x): d_0 |W_1|² is χ² with d_0 d_1."""
    d0, d1 = network.widths[:2]
    return 0.5 * d0 * d1, math.log(0.5 * d0) + 2 * math.log(norm_bound)


def _log_boxes(network: FeedForward, low: float) -> np.ndarray:
    """Return log P(W_ℓ in [a, 2a]) for ℓ = 2 … L, shape ``(L − 1,)``."""
    rows, columns = np.array(network.widths[2:]), np.array(network.widths[1:-1])
    return rows * columns * log_box(low * np.sqrt(columns))


def event_probability(network: FeedForward, low: float, norm_bound: float) -> EventProbability:
    """Return the probability of E_a ∩ F_τ under LeCun's start, exactly and in logarithms.

    P(E_a) = Π_{ℓ=2}^{L} [Φ(2a√d_{ℓ−1}) − Φ(a√d_{ℓ−1})]^{d_ℓ d_{ℓ−1}}, and d_0|W_1|² has the χ²
    law with d_0 d_1 degrees of freedom.  The paper bounds the second factor by Markov's inequality.

    Parameters
    ----------
    network : FeedForward
    low, norm_bound : float
        a and τ, positive (else a TypeError or ValueError).

    Returns
    -------
    EventProbability

    Raises
    ------
    OverflowError
        If even the logarithm leaves the range of float64.

    References
    ----------
    Theorem 2.8 and Remark 2.9; the exact χ² factor is ours.
    """
    checks.instance(network, FeedForward, "network")
    low = checks.positive_number(low, "low")
    norm_bound = checks.positive_number(norm_bound, "norm_bound")
    return EventProbability(
        low=low,
        norm_bound=norm_bound,
        log_layers=checks.within_range(_log_boxes(network, low), "The logarithm of P(E_a)"),
        log_norm=log_gamma_cdf(*_log_half_square(network, norm_bound)),
        norm_markov=max(0.0, 1 - network.widths[1] / norm_bound / norm_bound),  # P(F_τᶜ) ≤ d_1/τ²
    )


def best_event(network: FeedForward, X: Any, y: Any) -> EventProbability:
    """Return the most probable event E_a ∩ F_τ among those with (T8).

    For each a the best τ is the largest; a is searched on a grid up to where P(E_a) alone is
    below the best found.  Parameters and errors are those of `lecun_condition`; targets that are
    all zero are refused, because then every a > 0 will do.

    Returns
    -------
    EventProbability
    """
    logs = _logs(network, X, y)
    if logs.target == -math.inf:
        raise ValueError("y must not be zero throughout: then every start of the event will do.")

    def value(log_low: float) -> float:
        log_tau = _log_norm_bound(logs, log_low)
        if log_tau < -300:
            return -math.inf
        entries = float(_log_boxes(network, math.exp(log_low)).sum())
        return entries + log_gamma_cdf(*_log_half_square(network, math.exp(log_tau)))

    floor = (logs.target - logs.right) / (2 * logs.depth)
    if floor > 700:
        raise OverflowError("The event's least a leaves the range of float64: y is too big for X.")
    steps = [floor + 1e-3]
    values = [value(steps[0])]
    # Beyond a√(min d) = 1 the probability of E_a falls: stop where it is below the best alone.
    turn = -0.5 * math.log(min(network.widths[1:-1]))
    while steps[-1] < turn or _log_boxes(network, math.exp(steps[-1])).sum() > max(values):
        steps.append(steps[-1] + 0.02)
        values.append(value(steps[-1]))
    index = int(np.argmax(values))
    bracket = (max(steps[index] - 0.02, floor + 1e-6), steps[index] + 0.02)
    found = optimize.minimize_scalar(
        lambda log_low: -value(log_low), bounds=bracket, method="bounded", options={"xatol": 1e-9}
    )
    log_low = float(found.x) if -found.fun > values[index] else steps[index]
    # A hair below the equality, so that (T8) holds as a strict inequality in floating point: more,
    # where τ's term is a small share of the right-hand side.
    right = logs.right + 2 * logs.depth * log_low
    share = -math.expm1(logs.target - right)
    hair = min(0.5, max(1e-12, 16 * np.finfo(np.float64).eps * (1 + abs(right)) / share))
    norm_bound = math.exp(_log_norm_bound(logs, log_low)) * (1 - hair)
    return event_probability(network, math.exp(log_low), norm_bound)


def in_event(network: FeedForward, w: Any, low: float, norm_bound: float) -> np.ndarray:
    """Return whether each start lies in E_a ∩ F_τ, shape ``(...)``.

    Parameters
    ----------
    network : FeedForward
    w : array_like, shape (..., p)
    low, norm_bound : float
        a and τ, positive (else a ValueError, as for a wrong shape).
    """
    checks.instance(network, FeedForward, "network")
    layers = network.layers(network.check_parameters(w))
    low = checks.positive_number(low, "low")
    norm_bound = checks.positive_number(norm_bound, "norm_bound")
    with np.errstate(over="ignore"):
        inside = np.square(layers[0][0] / norm_bound).sum(axis=(-1, -2)) <= 1
    for weight, _ in layers[1:]:
        inside = inside & ((low <= weight) & (weight <= 2 * low)).all(axis=(-1, -2))
    return inside


def sample_event(
    network: FeedForward, low: float, norm_bound: float, rng: np.random.Generator, runs: Any = ()
) -> np.ndarray:
    """Return LeCun starts conditioned on E_a ∩ F_τ, drawn exactly.

    W_2 … W_L come from `initialization.conditioned_lecun`; W_1 has a uniform direction, and its
    norm the χ law cut off at τ.

    Parameters
    ----------
    network : FeedForward
    low, norm_bound : float
        a and τ.
    rng : numpy.random.Generator
    runs : int or tuple of int, default ()

    Returns
    -------
    numpy.ndarray, shape (*runs, p)

    Raises
    ------
    TypeError, ValueError
        If a or τ is not positive, `rng` is not a generator or `runs` not a shape.
    """
    checks.instance(network, FeedForward, "network")
    low = checks.positive_number(low, "low")
    norm_bound = checks.positive_number(norm_bound, "norm_bound")
    w = conditioned_lecun(network, low, rng, runs)
    first = network.layers(w)[0][0]
    shape, log_cut = _log_half_square(network, norm_bound)
    # Far beyond the bulk of the law the cut makes no difference.
    log_void = math.log(4 * shape + 2000)
    if log_cut > log_void:
        norm_bound, log_cut = norm_bound * math.exp((log_void - log_cut) / 2), log_void
    part = gamma_below(shape, log_cut, rng, math.prod(first.shape[:-2]))
    norm = norm_bound * np.sqrt(part).reshape(first.shape[:-2])
    norm = np.minimum(norm, norm_bound * (1 - 1e-14))  # rounding must not carry it across τ
    length = np.sqrt(np.square(first).sum(axis=(-1, -2)))
    first *= (norm / length)[..., None, None]
    return w
