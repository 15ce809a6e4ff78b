"""Curvature, certified step size and rate of gradient descent from a positive start.

>>> import numpy as np
>>> from plcore import FeedForward, LeastSquares, activations
>>> from plcore import gradient_descent, initialization
>>> from plcore.positive_start_descent import positive_start_descent
>>> network = FeedForward((3, 5, 1), activations.tanh)
>>> X, y = np.eye(3), [1.0, -1.0, 2.0]
>>> start = initialization.positive(network, output_scale=2.0)
>>> proved = positive_start_descent(network, X, y, start)
>>> proved.certified
True
>>> problem, steps = LeastSquares(network, X, y), int(proved.steps_to_millionth)
>>> run = gradient_descent(problem, start, proved.step_size, steps)
>>> bool(run.losses[-1] <= 1e-6 * run.losses[0])
True
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import checks
from ._start_curvature import greatest_curvature, reach_below
from .bounds import curvature_bound
from .guarantees import StepSize
from .objectives import LeastSquares
from .positive_start_bounds import IMPROVEMENTS, PositiveStartBounds, Setting
from .results import Bound, Result
from .step_sizes import integral_step_size

__all__ = [
    "PositiveStartDescent",
    "positive_start_curvature",
    "positive_start_descent",
]

_SAFE = 1 + 1e-10
_RESERVE = 40.0  # how far beyond the need the integral of √α is followed, for large ε
_EPSILONS = np.concatenate([[0.02, 0.05], np.linspace(0.1, 0.95, 18)])


@dataclass(frozen=True)
class PositiveStartDescent(Result):
    """What is proved of gradient descent from one positive start.

    Attributes
    ----------
    certified : bool
        Whether a step size was certified.
    step_size : float
        η: every smaller step converges too; 0 where none was certified.
    rate : float
        δ: S(w_k) ≤ (1−δ)^k S(w_0).
    epsilon : float
        ε = ηβ/2, the part of the decrease given up to curvature.
    radius : float
        No iterate leaves the ball of this radius.
    curvature : float
        β there.
    pl_constant : float
        The lower bound on α there.
    loss : float
        S(w_0).
    steps_to_millionth : float
        Number of steps after which S ≤ 10⁻⁶ S(w_0) is proved.
    step : StepSize or None
        The theorem's statement, with its hypotheses.
    bounds : PositiveStartBounds
        The bounds on α that it rests on.
    """

    certified: bool
    step_size: float = field(metadata={"label": "η, step size"})
    rate: float = field(metadata={"label": "δ, rate"})
    epsilon: float = field(metadata={"label": "ε"})
    radius: float = field(metadata={"label": "radius"})
    curvature: float = field(metadata={"label": "β, curvature"})
    pl_constant: float = field(metadata={"label": "lower bound on α"})
    loss: float = field(metadata={"label": "S(w₀), loss at the start"})
    steps_to_millionth: float = field(metadata={"label": "steps to 10⁻⁶ S(w₀)"})
    step: StepSize | None = field(repr=False, metadata={"show": False})
    bounds: PositiveStartBounds = field(repr=False, metadata={"show": False})

    def _title(self) -> str:
        return "Gradient descent from a positive start: what is proved"

    def steps_to(self, loss: float) -> float:
        """Return the number of steps after which S ≤ `loss` is proved; ∞ if never.

        Raises
        ------
        TypeError, ValueError
            If `loss` is not a positive number.
        """
        loss = checks.positive_number(loss, "loss")
        return math.inf if self.step is None else self.step.steps_to(loss)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def positive_start_curvature(network: Any, X: Any, y: Any, start: Any, radius: float) -> Bound:
    """Return β ≥ λ_max(∇²S) on {v in B(w_0, radius): S(v) ≤ S(w_0)}, for a positive start.

    Statement.  ∇²S = (2/n)(JᵀJ + Σ e_i ∇²f(x_i, ·)) with |e| ≤ |y|, so |f_i| ≤ |y_i| + |y|, which
    bounds how far the neurons move together where the weights of each layer are equal.  Both
    terms are bounded for each split of the radius over the layers, and the worst split counts;
    `bounds.curvature_bound` is taken where it is smaller.

    Parameters
    ----------
    network, X, y, start
        As in `positive_start_bounds`.
    radius : float
        r > 0.

    Returns
    -------
    Bound

    Raises
    ------
    TypeError, ValueError
        If a hypothesis fails, or an argument has the wrong type or shape.

    References
    ----------
    Ours; proof in the chapter on sharper constants.
    """
    setting = Setting.from_start(network, X, y, start)
    radius = checks.positive_number(radius, "radius")
    value = float(_curvatures(setting, np.array([radius]))[0])
    problem = LeastSquares(network, setting.X, setting.y)
    value = min(value, curvature_bound(problem, start, radius).value * _SAFE)
    quantity = "λ_max(∇²S) on the sublevel set in the ball"
    return Bound(value, "upper", quantity, "tangents, worst split")


def _curvatures(setting: Setting, radii: np.ndarray) -> np.ndarray:
    # Where S(v) ≤ S(w_0), |f_i| ≤ |y_i| + |e_i| ≤ |y_i| + |y|.
    output = (float(np.abs(setting.y).max()) + setting.size) * _SAFE
    budgets = list(np.sqrt(setting.splits.T)[:, :, None] * radii)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        reach = reach_below(setting.begun, budgets, output)
    widest = math.sqrt(setting.residuals.greatest)
    found = greatest_curvature(setting.begun, reach, setting.size, widest, len(setting.y))
    return _SAFE * (2 / len(setting.y)) * found.max(axis=0)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def positive_start_descent(
    network: Any,
    X: Any,
    y: Any,
    start: Any,
    *,
    best: str = "rate",
    radii: Any = None,
) -> PositiveStartDescent:
    """Return a certified step size for gradient descent from a positive start, and its rate.

    Statement.  Gradient descent on the squared loss with any step size up to `step_size` stays in
    B(w_0, radius) and converges to a zero of S there; with `step_size` itself,
    S(w_k) ≤ (1−δ)^k S(w_0).

    Assumptions.  Those of `positive_start_bounds`, and that its bounds are large enough: else
    `certified` is False, which means "not shown".

    Constants.  For each of some ε, r* is the radius at which (1−ε) ∫₀^{r*} √α = 2√S(w_0), β the
    curvature on it, η = 2ε/β and δ = (1−ε)ηα(w_0, r*); the best ε is taken.

    Parameters
    ----------
    network, X, y, start, radii
        As in `positive_start_bounds`.
    best : {"rate", "step"}
        What to make as large as possible.

    Returns
    -------
    PositiveStartDescent

    Raises
    ------
    TypeError, ValueError
        If a hypothesis fails, or an argument has the wrong type or shape.

    References
    ----------
    Theorem 1.2♯ in its integral form; ours.
    """
    setting = Setting.from_start(network, X, y, start)
    checks.one_of(best, ("rate", "step"), "best")
    bounds = setting.bounds(radii, IMPROVEMENTS, count=96, times=_RESERVE)
    worth, alpha = 0.0, 0.0
    chosen: StepSize | None = None
    # The radius of the grid at which each ε is served.
    needs = [bounds.integral_criterion(float(epsilon)) for epsilon in _EPSILONS]
    served = [
        (float(epsilon), int(np.searchsorted(bounds.radii, need.radius)))
        for epsilon, need in zip(_EPSILONS, needs, strict=True)
        if need.holds
    ]
    if served:
        curvatures = _curvatures(setting, bounds.radii)
        for epsilon, index in served:
            part = slice(0, index + 1)
            step = integral_step_size(
                bounds.loss,
                bounds.radii[part],
                bounds.alphas[part],
                float(curvatures[index]),
                epsilon=epsilon,
            )
            gained = step.delta if best == "rate" else step.step_size
            if step.applies and gained > worth:
                worth, chosen, alpha = gained, step, float(bounds.alphas[index])
    if chosen is None:
        return PositiveStartDescent(
            certified=False,
            step_size=0.0,
            rate=0.0,
            epsilon=0.0,
            radius=math.inf,
            curvature=math.inf,
            pl_constant=0.0,
            loss=bounds.loss,
            steps_to_millionth=math.inf,
            step=None,
            bounds=bounds,
        )
    return PositiveStartDescent(
        certified=True,
        step_size=chosen.step_size,
        rate=chosen.delta,
        epsilon=chosen.epsilon,
        radius=chosen.radius,
        curvature=chosen.curvature,
        pl_constant=alpha,
        loss=bounds.loss,
        steps_to_millionth=chosen.steps_to(1e-6 * bounds.loss),
        step=chosen,
        bounds=bounds,
    )
