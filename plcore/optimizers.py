"""Other ways to descend: heavy-ball momentum, Adam, a line search, steps that follow the curvature.

All work on the squared loss of a network, for many runs at once, and stop a run where its loss has
come down to a target.  They exist to be compared: the cost of a run is counted in gradients.

>>> import numpy as np
>>> from plcore import FeedForward, LeastSquares, activations, initialization
>>> from plcore.optimizers import train
>>> network = FeedForward((3, 5, 1), activations.tanh)
>>> problem = LeastSquares(network, np.eye(3), [1.0, -1.0, 2.0])
>>> start = initialization.lecun(network, np.random.default_rng(0))
>>> plain, search = [
...     train(problem, start, method, step_size=0.1, steps=500, loss_target=1e-6)
...     for method in ("gradient descent", "line search")
... ]
>>> bool(search.cost_to(1e-6) < plain.cost_to(1e-6) < 100)
True
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import checks
from .curvature import top_curvature
from .network_descent import descend
from .objectives import LeastSquares
from .results import Result

__all__ = ["METHODS", "Training", "best_step", "rounded", "train"]

METHODS = ("gradient descent", "momentum", "Adam", "line search", "curvature steps")
"""What `train` knows, in the order of its docstring."""

_FRICTION = 0.9  # β of the heavy ball
_ADAM = (0.9, 0.999, 1e-8)  # β₁, β₂, ε of Kingma and Ba (2015)
_SUFFICIENT = 1e-4  # the share of the first-order decrease that Armijo's condition asks for
_HALVINGS = 60  # beyond 2⁻⁶⁰ of a step nothing changes in float64
_PERIOD = 10  # steps between two measurements of the greatest curvature
_VALUE_COST = 0.5  # a loss without its gradient, in gradients: measured 0.39 to 0.49
_PRODUCT_COST = 2.0  # a product with the Hessian, in gradients
_PER_OCTAVE = 4  # step sizes of the refined grid of `best_step` to a factor of two
_SEGMENT = (64, 512)  # steps between two looks at the fast loop: first, and at most


@dataclass(frozen=True)
class Training(Result):
    """Recorded runs; leading axes are independent runs.

    Attributes
    ----------
    losses : numpy.ndarray, shape (..., steps + 1)
        Loss before every step, and after the last; constant once it is at the target, where the
        run stops, and ∞ once it has left the floating-point numbers.
    cost : numpy.ndarray, shape (..., steps + 1)
        Gradients spent before the loss of that index was reached; see `train`.
    final : numpy.ndarray, shape (..., p)
        Where each run stopped, within 512 steps beyond the target for gradient descent; all ∞ for
        a run that diverged.
    """

    losses: np.ndarray
    cost: np.ndarray
    final: np.ndarray = field(repr=False)

    def steps_to(self, loss: float) -> np.ndarray:
        """Return the first k at which each run is at `loss` or below, shape ``(...)``; else ∞.

        Raises
        ------
        TypeError, ValueError
            If `loss` is not a number that is zero or more.
        """
        reached = self.losses <= checks.nonnegative_number(loss, "loss")
        return np.where(reached.any(axis=-1), reached.argmax(axis=-1), np.inf)

    def cost_to(self, loss: float) -> np.ndarray:
        """Return the gradients spent until each run is at `loss`; as `steps_to`."""
        steps = self.steps_to(loss)
        index = np.where(np.isfinite(steps), steps, 0).astype(int)
        spent = np.take_along_axis(self.cost, index[..., None], axis=-1)[..., 0]
        return np.where(np.isfinite(steps), spent, np.inf)


def train(
    problem: LeastSquares,
    start: Any,
    method: str,
    step_size: Any,
    steps: int,
    *,
    loss_target: float = 0.0,
) -> Training:
    """Train from every start by one of `METHODS`.

    ================  ===============================================================  ========
    method            step from w_k, with g_k = ∇S(w_k)                                cost
    ================  ===============================================================  ========
    gradient descent  w_k − η g_k                                                      1
    momentum          w_k + v_{k+1} with v_{k+1} = 0.9 v_k − η g_k and v_0 = 0         1
    Adam              −η times the ratio of the means, with 0.9, 0.999 and ε = 1e−8    1
    line search       w_k − s g_k with the first s among 2s_{k−1}, s_{k−1}, … (first   (1 + t)/2
                      η, η/2, …) for which S falls by 10⁻⁴ s |g_k|² at least
    curvature steps   w_k − (η/λ) g_k with λ = λ_max(∇²S), measured to 1 % at every    1 + 2m
                      tenth step
    ================  ===============================================================  ========

    The cost is counted in gradients.  A loss alone counts as half a gradient, so that a line
    search with t trials costs (1 + t)/2; each of m products with the Hessian counts as two.

    Parameters
    ----------
    problem : LeastSquares
    start : array_like, shape (..., p)
        Starting points; leading axes are independent runs.
    method : str
        One of `METHODS`.
    step_size : float or array_like
        η > 0, one for all runs or one for each; for "curvature steps" without unit, the product
        of the step and the curvature, else in units of squared length over loss.
    steps : int
        The most steps.
    loss_target : float, default 0
        A run stops when its loss is at most this.

    Returns
    -------
    Training

    Raises
    ------
    TypeError, ValueError
        If an argument is not of the kind stated.

    References
    ----------
    Polyak (1964); Kingma and Ba (2015); Armijo (1966).
    """
    checks.instance(problem, LeastSquares, "problem")
    w = problem.check_point(start, "start")
    checks.one_of(method, METHODS, "method")
    rates = checks.finite_array(step_size, "step_size")
    if (rates <= 0).any():
        raise ValueError(f"step_size must be positive, but its least entry is {rates.min()}.")
    steps = checks.positive_integer(steps, "steps", least=0)
    target = checks.nonnegative_number(loss_target, "loss_target")
    runs = checks.common_shape(
        start=w.shape[:-1],
        X=problem.X.shape[:-2],
        y=problem.y.shape[:-1],
        step_size=rates.shape,
    )
    checks.room((2, *runs, steps + 1), "The record of losses and cost")
    w = np.broadcast_to(w, (*runs, w.shape[-1])).reshape(-1, w.shape[-1])
    rates = np.broadcast_to(rates, runs).reshape(-1)
    X = problem.X
    if X.ndim > 2:
        X = np.broadcast_to(X, (*runs, *X.shape[-2:])).reshape(-1, *X.shape[-2:])
    y = np.broadcast_to(problem.y, (*runs, problem.size)).reshape(-1, problem.size)
    flat = LeastSquares(problem.network, X, y)
    follow = _follow_plain if method == "gradient descent" else _follow
    rule = _RULES.get(method, _Rule)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        losses, cost, final = follow(flat, w, rates, steps, target, rule)
    shape = (*runs, steps + 1)
    return Training(losses.reshape(shape), cost.reshape(shape), final.reshape(*runs, -1))


def rounded(step_size: float) -> float:
    """Return `step_size` to three digits, so that what is reported is what is run.

    For other modules of the package.
    """
    return float(f"{checks.positive_number(step_size, 'step_size'):.2e}")


def best_step(
    problem: LeastSquares,
    start: Any,
    method: str,
    guess: float,
    steps: int,
    losses: Sequence[float],
) -> tuple[float, np.ndarray]:
    """Search the step size at which the median run comes first to the least of some losses.

    A geometric grid of ratio 2 goes from the guess in both directions until two neighbours in a
    row are worse than the best; downwards it goes on as long as the median run diverges at every
    step size so far, for sixty halvings at most.  Then the grid of ratio 2^¼ around the best is
    tried.  If no step size brings half of the runs to the least loss, the steps to the next one
    decide, and so on, and at last the median loss at the end.  A step size is given up when the
    median run takes twice the steps of the best one so far.

    Parameters
    ----------
    problem, start, method, steps
        As in `train`.
    guess : float
        Where the search begins; every step size is rounded to three digits.
    losses : sequence of float
        Decreasing.

    Returns
    -------
    step_size : float
        The best; the guess where all diverge.
    tried : numpy.ndarray, shape (tried, 2)
        Each step size, increasing, and the median steps to the least loss; ∞ where it is not
        reached, or given up.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of the kind stated.
    """
    guess = checks.positive_number(guess, "guess")
    levels = checks.finite_array(losses, "losses", ndim=1)[::-1]
    scores: dict[int, tuple[float, ...]] = {}

    def best() -> int:
        return min(scores, key=lambda k: scores[k])

    def score(k: int) -> None:
        limit = steps if not scores else int(min(steps, 2 * scores[best()][0]))
        step = rounded(guess * 2 ** (k / _PER_OCTAVE))
        run = train(problem, start, method, step, limit, loss_target=levels[0])
        times = [float(np.median(run.steps_to(level))) for level in levels]
        scores[k] = (*times, float(np.median(run.losses[..., -1])))

    score(0)
    for direction in (_PER_OCTAVE, -_PER_OCTAVE):
        k, worse = 0, 0
        while worse < 2:
            k += direction
            score(k)
            # While all diverge they tie, and a smaller step size is not worse for that.
            hopeful = 0 > k > -_HALVINGS * _PER_OCTAVE and math.isinf(scores[best()][-1])
            worse = 0 if hopeful or best() == k else worse + 1
    middle = best()
    for k in range(middle - _PER_OCTAVE + 1, middle + _PER_OCTAVE):
        if k not in scores:
            score(k)
    tried = [(rounded(guess * 2 ** (k / _PER_OCTAVE)), scores[k][0]) for k in sorted(scores)]
    return rounded(guess * 2 ** (best() / _PER_OCTAVE)), np.array(tried)


def _part(problem: LeastSquares, kept: np.ndarray) -> LeastSquares:
    """Return the objective of some of the runs."""
    X = problem.X if problem.X.ndim == 2 else problem.X[kept]
    return LeastSquares(problem.network, X, problem.y[kept])


def _follow_plain(
    problem: LeastSquares, w: np.ndarray, rates: np.ndarray, steps: int, target: float, _: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient descent by the fast loop, a segment of steps at a time."""
    losses, final = np.empty((len(w), steps + 1)), w.copy()
    losses[:, 0] = problem._value(w)
    active, done, length = np.arange(len(w)), 0, _SEGMENT[0]
    while active.size and done < steps:
        now = min(length, steps - done)
        part, w = descend(_part(problem, active), final[active], rates[active], now)
        losses[active, done : done + now + 1] = part
        final[active] = w
        done += now
        stopped = (part <= target).any(axis=-1) | np.isinf(part[:, -1])
        losses[active, done:] = part[:, -1:]
        active = active[~stopped]
        length = min(2 * length, _SEGMENT[1])
    hold = np.logical_or.accumulate(losses <= target, axis=-1)
    first = np.where(hold.any(axis=-1), hold.argmax(axis=-1), 0)
    held = np.take_along_axis(losses, first[:, None], axis=-1)
    losses = np.where(hold, held, losses)
    return losses, np.broadcast_to(np.arange(steps + 1.0), losses.shape), final


def _follow(
    problem: LeastSquares,
    w: np.ndarray,
    rates: np.ndarray,
    steps: int,
    target: float,
    rule: Callable[[np.ndarray, np.ndarray], _Rule],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Step by a rule, dropping runs that are done."""
    total, state = len(w), rule(w, rates)
    losses, cost = np.full((total, steps + 1), math.inf), np.zeros((total, steps + 1))
    final, active = np.full_like(w, math.inf), np.arange(total)
    for k in range(steps + 1):
        value, gradient = problem._value_and_gradient(w)
        sound = np.isfinite(value) & np.isfinite(gradient).all(axis=-1)
        losses[active, k] = np.where(sound, value, math.inf)
        going = sound & (value > target) & (k < steps)
        if not going.all():
            ended = active[sound & ~going]
            final[ended] = w[sound & ~going]
            losses[ended, k:] = losses[ended, k : k + 1]
            cost[active[~going], k:] = cost[active[~going], k : k + 1]
            active, w, value, gradient = (a[going] for a in (active, w, value, gradient))
            if not active.size:
                break
            problem = _part(problem, going)
            state.keep(going)
        w, spent = state.step(problem, w, value, gradient, k)
        cost[active, k + 1] = cost[active, k] + spent
    return losses, cost, final


class _Rule:
    """What a method remembers of each run, and how it steps."""

    def __init__(self, w: np.ndarray, rates: np.ndarray) -> None:
        self.memory = [rates[:, None].copy()]

    def keep(self, going: np.ndarray) -> None:
        """Forget the runs that are done."""
        self.memory = [array[going] for array in self.memory]

    def step(
        self, problem: LeastSquares, w: np.ndarray, value: np.ndarray, g: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray | float]:
        """Return the next points and what the step has cost."""
        raise NotImplementedError


class _Momentum(_Rule):
    def __init__(self, w: np.ndarray, rates: np.ndarray) -> None:
        super().__init__(w, rates)
        self.memory.append(np.zeros_like(w))

    def step(self, problem, w, value, g, k):  # type: ignore[no-untyped-def]
        rates, velocity = self.memory
        velocity *= _FRICTION
        velocity -= rates * g
        return w + velocity, 1.0


class _Adam(_Rule):
    def __init__(self, w: np.ndarray, rates: np.ndarray) -> None:
        super().__init__(w, rates)
        self.memory += [np.zeros_like(w), np.zeros_like(w)]

    def step(self, problem, w, value, g, k):  # type: ignore[no-untyped-def]
        rates, mean, square = self.memory
        first, second, least = _ADAM
        mean *= first
        mean += (1 - first) * g
        square *= second
        square += (1 - second) * np.square(g)
        scale = np.sqrt(square / (1 - second ** (k + 1))) + least
        return w - rates / (1 - first ** (k + 1)) * mean / scale, 1.0


class _LineSearch(_Rule):
    def step(self, problem, w, value, g, k):  # type: ignore[no-untyped-def]
        (rates,) = self.memory
        if k:
            rates *= 2.0
        slope = _SUFFICIENT * np.square(g).sum(axis=-1)
        trials, moved = np.ones(len(w)), w - rates * g
        failed = ~(problem._value(moved) <= value - rates[:, 0] * slope)
        for _ in range(_HALVINGS):
            if not failed.any():
                break
            rates[failed] *= 0.5
            trials[failed] += 1
            moved[failed] = w[failed] - rates[failed] * g[failed]
            trial = _part(problem, failed)._value(moved[failed])
            failed[failed] = ~(trial <= value[failed] - rates[failed, 0] * slope[failed])
        moved[failed] = w[failed]
        return moved, _VALUE_COST * (1 + trials)


class _CurvatureSteps(_Rule):
    def __init__(self, w: np.ndarray, rates: np.ndarray) -> None:
        super().__init__(w, rates)
        self.memory.append(np.zeros(len(w)))

    def step(self, problem, w, value, g, k):  # type: ignore[no-untyped-def]
        rates, top = self.memory
        spent = 1.0
        if k % _PERIOD == 0:
            measured = top_curvature(problem, w, 1e-2)
            top[...] = np.maximum(measured.value, np.finfo(float).tiny)
            spent += _PRODUCT_COST * measured.products
        return w - rates / top[:, None] * g, spent


_RULES: dict[str, type[_Rule]] = {
    "momentum": _Momentum,
    "Adam": _Adam,
    "line search": _LineSearch,
    "curvature steps": _CurvatureSteps,
}
