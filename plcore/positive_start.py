"""Theorem 2.1: the constants of the positive start, and whether its criterion holds.

With W_1 = 0, positive hidden weights and large output weights, the local PL constant on a ball is
bounded below by explicit numbers, and the criterion (1.1) becomes a condition on the output scale.

>>> import numpy as np
>>> from plcore import FeedForward, activations
>>> from plcore.positive_start import positive_start_constants
>>> network = FeedForward((2, 3, 1), activations.tanh)
>>> found = positive_start_constants(network, np.eye(2), [1.0, -1.0])
>>> print(f"A_0 = {found.required_scale:.2f}")
A_0 = 5.72
>>> found.criterion_holds(5.0), found.criterion_holds(6.0)
(False, True)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import optimize

from . import checks, hypotheses
from .hypotheses import Hypotheses, Hypothesis
from .network import FeedForward
from .results import Bound, Result

__all__ = ["PositiveStartConstants", "positive_start_constants", "positive_start_hypotheses"]


@dataclass(frozen=True)
class PositiveStartConstants(Result):
    """Every constant of Theorem 2.1 for one network, data set and choice of hidden weights.

    Attributes
    ----------
    least_hidden, greatest_hidden : float or None
        a and b, the extreme entries of W_2 … W_{L−1}; None for depth 2, which has none.
    radius : float
        r, the radius of the ball: a/2, or for depth 2 the one that minimises `required_scale`.
    input_bound : float
        c = max |x_ij|.
    preactivation_bounds : numpy.ndarray, shape (L − 1,)
        M_ℓ: no entry of z_ℓ exceeds it on the ball.
    least_slopes : numpy.ndarray, shape (L − 1,)
        θ_ℓ = min of σ_ℓ′ on [−M_ℓ, M_ℓ].
    path_gain : float
        G: on the ball every entry of q = g_1 is at least (A − r) G.
    least_eigenvalue : float
        λ, the least eigenvalue of (1/n) X Xᵀ.
    samples, first_width : int
        n and d_1.
    target_norm : float
        |y|.
    start_loss : float
        S(w_0) = |y|²/n.
    required_scale : float
        A₀ of (T6): the criterion (1.1) is proved for every A above it.
    output_scale : float or None
        A, the least entry of W_L of the start that was given; None in design.
    """

    least_hidden: float | None = field(metadata={"label": "a, least hidden entry"})
    greatest_hidden: float | None = field(metadata={"label": "b, greatest hidden entry"})
    radius: float = field(metadata={"label": "r, radius of the ball"})
    input_bound: float = field(metadata={"label": "c, greatest |input entry|"})
    preactivation_bounds: np.ndarray = field(metadata={"label": "M, bounds on |z_ℓ| entries"})
    least_slopes: np.ndarray = field(metadata={"label": "θ, least slopes"})
    path_gain: float = field(metadata={"label": "G, gain of the paths"})
    least_eigenvalue: float = field(metadata={"label": "λ, least eigenvalue of XXᵀ/n"})
    samples: int = field(metadata={"label": "n, samples"})
    first_width: int = field(metadata={"label": "d₁, first width"})
    target_norm: float = field(metadata={"label": "|y|"})
    start_loss: float = field(metadata={"label": "S(w₀), loss at the start"})
    required_scale: float = field(metadata={"label": "A₀, required output scale"})
    output_scale: float | None = field(default=None, metadata={"label": "A, output scale"})

    def _title(self) -> str:
        return "Constants of the paper's Theorem 2.1"

    def _rows(self) -> Iterator[tuple[str, str]]:
        return ((label, value) for label, value in super()._rows() if value != "none")

    def _scale(self, output_scale: float | None) -> float:
        if output_scale is not None:
            return checks.positive_number(output_scale, "output_scale")
        if self.output_scale is None:
            raise ValueError(
                "These constants were made without a start, so output_scale must be given."
            )
        return self.output_scale

    def pl_constant(self, output_scale: float | None = None) -> Bound:
        """Return the lower bound 4 λ d_1 (A − r)² G² on α(w_0, r); zero if A ≤ r.

        Parameters
        ----------
        output_scale : float, optional
            A; that of the start if left out.

        Raises
        ------
        TypeError, ValueError
            If `output_scale` is not a positive number, or missing where there is no start.
        """
        excess = max(self._scale(output_scale) - self.radius, 0.0)
        least_q = excess * self.path_gain
        value = 4 * self.least_eigenvalue * self.first_width * least_q * least_q
        checks.within_range(np.asarray(value), "The bound on α")
        return Bound(value, "lower", "local PL constant α(w₀, r)", "Theorem 2.1, proof (A.8)")

    def criterion_ratio(self, output_scale: float | None = None) -> float:
        """Return κ = 4 S(w_0)/(r² α) with α from `pl_constant`; (1.1) is proved when κ < 1.

        Arguments and errors are those of `pl_constant`.
        """
        product = self.radius**2 * self.pl_constant(output_scale).value
        return 4 * self.start_loss / product if product > 0 else math.inf

    def criterion_holds(self, output_scale: float | None = None) -> bool:
        """Return whether (1.1) is proved; False means "not shown", never "false"."""
        return self.criterion_ratio(output_scale) < 1

    def scale_for_ratio(self, ratio: float) -> float:
        """Return the output scale A at which `criterion_ratio` is `ratio`: A₀ for ratio 1.

        A ratio of 1/4 leaves room for the step size 1/β of Theorem 1.2♯.

        Raises
        ------
        TypeError, ValueError
            If `ratio` is not a positive number.
        """
        ratio = checks.positive_number(ratio, "ratio")
        return self.radius + (self.required_scale - self.radius) / math.sqrt(ratio)


def positive_start_hypotheses(
    network: FeedForward, X: Any, y: Any, start: Any = None
) -> Hypotheses:
    """Check the hypotheses of Theorem 2.1, one by one.

    Parameters
    ----------
    network, X, y
        As in `positive_start_constants`.
    start : array_like, shape (p,), optional
        The start w_0; if left out, only network and data are judged, and an activation with
        σ(0) ≠ 0 passes because `initialization.positive` cancels the constant output.

    Returns
    -------
    Hypotheses
        Rows that can be shown; ``.require()`` raises the sentences of those that fail.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape.
    """
    X, y = hypotheses.one_data_set(network, X, y)
    items = [
        hypotheses.inputs_independent(hypotheses.input_spectrum(X)),
        hypotheses.activations_smooth(network),
        hypotheses.activations_increasing(network),
    ]
    vanishing = hypotheses.zero_at_zero(network)
    if start is None:
        if not vanishing.holds:
            vanishing = Hypothesis(vanishing.name, True, "the last bias cancels the constant.")
        return Hypotheses("the paper's Theorem 2.1", (*items, vanishing))
    layers = network.layers(checks.finite_array(start, "start", ndim=1))
    items += [*_start_rows(layers), _last_bias_row(network, layers, vanishing)]
    return Hypotheses("the paper's Theorem 2.1", tuple(items))


def _start_rows(layers: list[tuple[np.ndarray, np.ndarray]]) -> list[Hypothesis]:
    first = np.abs(layers[0][0]).max()
    rows = [
        Hypothesis(
            "first-layer weights zero",
            not first,
            "W_1 = 0."
            if not first
            else f"W_1 must be zero, but has an entry of absolute value {first:.4g}.",
        )
    ]
    bias = max(np.abs(b).max() for _, b in layers[:-1])
    rows.append(
        Hypothesis(
            "hidden biases zero",
            not bias,
            "b_1 … b_{L−1} = 0."
            if not bias
            else f"The hidden biases must be zero, but one has absolute value {bias:.4g}.",
        )
    )
    least = [(float(W.min()), index) for index, (W, _) in enumerate(layers[1:-1], start=2)]
    if least:
        entry, index = min(least)
        detail = f"least entry a = {entry:.4g}."
        if entry <= 0:
            detail = (
                f"Every entry of the hidden weights must be positive, but W_{index} has {entry:.4g}"
                " (mixed signs may cancel: Remark 2.4)."
            )
        rows.append(Hypothesis("hidden weights positive", entry > 0, detail))
    scale = float(layers[-1][0].min())
    floor = max(min(least)[0] / 2, 0.0) if least else 0.0
    detail = f"least entry A = {scale:.4g}."
    if scale <= floor:
        bound = f"the radius r = a/2 = {floor:.4g}" if floor else "zero"
        detail = (
            f"Every entry of the output weights must exceed {bound}, but the least is {scale:.4g}."
        )
    rows.append(Hypothesis("output weights large", scale > floor, detail))
    return rows


def _last_bias_row(
    network: FeedForward, layers: list[tuple[np.ndarray, np.ndarray]], vanishing: Hypothesis
) -> Hypothesis:
    """Judge the last bias: zero if every σ(0) = 0, else minus the constant output."""
    weight, bias = layers[-1]
    offset = float(bias[0])
    # Elsewhere the output depends on the input, and other rows say what is wrong.
    constant = not layers[0][0].any() and not any(b.any() for _, b in layers[:-1])
    name = "output zero at the start" if constant else "last bias"
    if vanishing.holds:
        detail = "f(x, w₀) = 0 for every x." if constant else "b_L = 0."
        if offset:
            detail = f"The last bias must be zero, but is {offset:.4g}."
        return Hypothesis(name, not offset, detail)
    h = np.zeros(network.widths[0])  # any input will do where W_1 = 0
    for (hidden, _), activation in zip(layers[:-1], network.activations, strict=True):
        h = activation.value(hidden @ h)
    if abs(weight[0] @ h + offset) <= 1e-12 * max(abs(weight[0]) @ abs(h), abs(offset)):
        return Hypothesis(name, True, "the last bias cancels the constant (Remark 2.5).")
    return vanishing


def positive_start_constants(
    network: FeedForward,
    X: Any,
    y: Any,
    start: Any = None,
    *,
    hidden: float | None = None,
    radius: float | None = None,
    count_paths: bool = True,
) -> PositiveStartConstants:
    """Return the constants of Theorem 2.1 (Remark 2.6).

    Statement.  Let S be the squared loss of a network of depth L ≥ 2.  If W_1 = 0, every bias is
    zero, the entries of W_2 … W_{L−1} are positive and those of W_L are at least A > A₀, gradient
    flow and gradient descent with a small enough step converge to a zero of S.

    Assumptions.  Linearly independent inputs; activations in C² with σ(0) = 0 and σ′ > 0.

    Constants.  With c = max |x_ij| and r = a/2,
    M_1 = r (c d_0 + 1), M_{ℓ+1} = (b + r) d_ℓ max_{|u| ≤ M_ℓ} |σ_ℓ(u)| + r,
    θ_ℓ = min_{|u| ≤ M_ℓ} σ_ℓ′(u), G = (a − r)^{L−2} d_2 ⋯ d_{L−1} θ_1 ⋯ θ_{L−1},
    α(w_0, r) ≥ 4 λ d_1 (A − r)² G², and (T6) A₀ = r + |y|/(r G √(n λ d_1)).
    For L = 2 every r > 0 is allowed and the one with the least A₀ is taken.

    Parameters
    ----------
    network : FeedForward
    X : array_like, shape (n, d_0)
        Inputs, one a row.
    y : array_like, shape (n,)
        Targets.
    start : array_like, shape (p,), optional
        The start w_0, from which a, b and A are read.  If left out, the constants are for design:
        the start of `initialization.positive` with `hidden`, and the least A that will do.
    hidden : float, optional
        The entry of the hidden weights in design; 1/d_{ℓ−1} in layer ℓ if left out.
    radius : float, optional
        Another radius, below a if there are hidden matrices.
    count_paths : bool, default True
        Whether G counts the d_2 ⋯ d_{L−1} paths that lead to each first-layer neuron.  Without
        them the bound is weaker but still holds.

    Returns
    -------
    PositiveStartConstants
        `required_scale` is ∞ where a least slope underflows.

    Raises
    ------
    TypeError, ValueError
        If a hypothesis fails (all that do are named), a radius is too large, or shapes differ.
    OverflowError
        If a constant leaves the range of float64.

    References
    ----------
    Theorem 2.1, Remark 2.6, Section A.3; reconstructed.  Path count and r for L = 2 are ours.
    """
    X, y = hypotheses.one_data_set(network, X, y)
    checks.flag(count_paths, "count_paths")
    if start is not None:
        start = checks.finite_array(start, "start", ndim=1)
        if hidden is not None:
            raise ValueError("Give either start or hidden: a start has its own hidden weights.")
    positive_start_hypotheses(network, X, y, start).require()
    least, greatest, scale = _extreme_entries(network, start, hidden)
    spectrum = hypotheses.input_spectrum(X)
    with np.errstate(over="ignore"):
        size, bound = float(np.linalg.norm(y)), float(np.abs(X).max())
    start_loss = size * size / len(X)
    checks.within_range(np.asarray(start_loss), "The loss at the start")
    # |y| / √(n λ d_1), so that A₀ = r + target / (r G).
    target = size / (spectrum.least_singular * math.sqrt(network.widths[1]))
    if radius is not None:
        radius = checks.positive_number(radius, "radius")
        if least is not None and radius >= least:
            raise ValueError(
                f"radius must be below the least hidden entry a = {least:.4g}, but is {radius:.4g}."
            )
    elif least is not None:
        radius = least / 2
    else:
        radius = _best_radius(network, bound, target)
    M, theta = _slopes(network, bound, greatest or 0.0, np.asarray(radius))
    steps = np.full(network.depth - 2, (least or 0.0) - radius)
    with np.errstate(over="ignore", under="ignore"):
        gain = float(np.prod(theta) * np.prod(steps))
    if count_paths and gain > 0:  # 0 times more paths than float64 holds is no number
        gain *= math.prod(map(float, network.widths[2:-1]))
    room = radius * gain
    checks.within_range(np.asarray(room), "The gain of the paths")
    required = radius + target / room if room > 0 else math.inf  # (T6)
    return PositiveStartConstants(
        least_hidden=least,
        greatest_hidden=greatest,
        radius=radius,
        input_bound=bound,
        preactivation_bounds=np.array(M),
        least_slopes=np.array(theta),
        path_gain=gain,
        least_eigenvalue=spectrum.least,
        samples=len(X),
        first_width=network.widths[1],
        target_norm=size,
        start_loss=start_loss,
        required_scale=required,
        output_scale=scale,
    )


def _extreme_entries(
    network: FeedForward, start: np.ndarray | None, hidden: float | None
) -> tuple[float | None, float | None, float | None]:
    """Return a, b (None without hidden matrices) and A (None without a start)."""
    if start is not None:
        layers = network.layers(start)
        entries = [float(end) for W, _ in layers[1:-1] for end in (W.min(), W.max())]
        scale: float | None = float(layers[-1][0].min())
    else:
        scale = None
        value = None if hidden is None else checks.positive_number(hidden, "hidden")
        entries = [1 / columns if value is None else value for columns in network.widths[1:-2]]
    return (min(entries), max(entries), scale) if entries else (None, None, scale)


def _slopes(
    network: FeedForward, bound: float, greatest: float, radius: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the bounds M_ℓ and the least slopes θ_ℓ on the ball of each radius."""
    with np.errstate(over="ignore"):  # an infinite bound is one
        M = [radius * (bound * network.widths[0] + 1)]
        for activation, columns in zip(network.activations[:-1], network.widths[1:-2], strict=True):
            M.append((greatest + radius) * columns * activation.magnitude(0, M[-1]) + radius)
        theta = [
            activation.range(1, -one, one)[0]
            for activation, one in zip(network.activations, M, strict=True)
        ]
    return M, theta


def _best_radius(network: FeedForward, bound: float, target: float) -> float:
    """Return the radius with the least A₀ for depth 2: a search, and any radius is valid."""
    slope = float(network.activations[0].derivative(np.float64(0.0)))
    if not 0 < target < math.inf:
        return 1.0

    def required(log_radius: np.ndarray) -> np.ndarray:
        radius = np.exp(log_radius)
        theta = _slopes(network, bound, 0.0, radius)[1][0]
        with np.errstate(divide="ignore", over="ignore"):
            return np.log(radius + target / (radius * theta))

    # The best r lies between target/(A₀ sup σ′) and A₀, with A₀ at any radius tried.
    scales = np.log([math.sqrt(target / slope), 1 / (bound * network.widths[0] + 1)])
    first = float(required(scales).min())
    top = float(network.activations[0].range(1, -math.inf, math.inf)[1])
    grid = np.linspace(math.log(target / top) - first, first, 2001)
    index = int(np.clip(required(grid).argmin(), 1, len(grid) - 2))
    found = optimize.minimize_scalar(
        lambda log_radius: float(required(np.asarray(log_radius))),
        bounds=(grid[index - 1], grid[index + 1]),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return float(np.exp(found.x))
