"""The local PL constant of a network's squared loss, from above: the worst points of its balls.

α(w_0, r) = inf { R(v) : |v − w_0| ≤ r }, R = |∇S|²/S, is at most R at any point of the ball.  What
is found at one radius serves all larger ones, so that the result of a search is a step function
above α on (0, ∞).  With it a criterion is shown to *fail* at every radius, up to an output scale.

>>> import numpy as np
>>> from plcore import FeedForward, LeastSquares, activations, initialization
>>> from plcore.worst_points import critical_scale, worst_points
>>> network = FeedForward((3, 5, 1), activations.tanh)
>>> problem = LeastSquares(network, np.eye(3), [1.0, -1.0, 2.0])
>>> start = initialization.positive(network, output_scale=0.3)
>>> found = worst_points(problem, start, np.random.default_rng(0), effort=0.2)
>>> found.integral_criterion().verdict
'fails'
>>> def family(A):
...     return initialization.positive(network, A)
>>> rng = np.random.default_rng(0)
>>> found = critical_scale(problem, family, rng, tolerance=0.2, effort=0.1)
>>> bool(0.3 < found.value < found.not_refuted)
True
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import checks
from ._worst_search import Inner, search_spheres
from .objectives import LeastSquares
from .results import Estimate
from .verdicts import (
    Criterion,
    IntegralCriterion,
    criterion_from_bounds,
    increasing_radii,
    integral_criterion_from_bounds,
)

__all__ = ["CriticalScale", "WorstPoints", "critical_scale", "vanishing_radius", "worst_points"]

_NO_SHOW: dict[str, Any] = {"show": False}

# The radii, if none are given, in parts of the distance to a critical point.
_SHARES = np.append(np.geomspace(1 / 200, 0.75, 16), [0.82, 0.88, 0.93, 0.97])


@dataclass(frozen=True)
class WorstPoints(Estimate):
    """A measured upper bound on r ↦ α(w_0, r), with the points that show it.

    Attributes
    ----------
    value : float
        The bound at the largest radius.
    start : numpy.ndarray, shape (p,)
        w_0.
    loss, ratio : float
        S(w_0), and R(w_0), which bounds α(w_0, r) for every r.
    radii : numpy.ndarray, shape (m,)
        Distances |v − w_0| of the points, increasing.
    alphas : numpy.ndarray, shape (m,)
        R there, to rounding, decreasing: α(w_0, r) ≤ alphas[j] for r ≥ radii[j].
    points : numpy.ndarray, shape (m, p)
        The points v.
    vanishing : float
        α(w_0, r) = 0 for every r from here on (`vanishing_radius`); ∞ if that is not known.
    """

    start: np.ndarray = field(metadata=_NO_SHOW)
    loss: float = field(metadata={"label": "S(w₀)"})
    ratio: float = field(metadata={"label": "R(w₀)"})
    radii: np.ndarray
    alphas: np.ndarray
    points: np.ndarray = field(metadata=_NO_SHOW)
    vanishing: float = field(metadata={"label": "α = 0 from radius"})

    def _steps(self) -> tuple[np.ndarray, np.ndarray]:
        """Return radii and bounds, the exact zero included."""
        below = self.radii < self.vanishing
        radii, alphas = self.radii[below], self.alphas[below]
        if self.vanishing < math.inf:
            radii, alphas = np.append(radii, self.vanishing), np.append(alphas, 0.0)
        return radii, alphas

    def at(self, radius: Any) -> np.ndarray:
        """Return the bound on α(w_0, r) at any radii r > 0, as an array of their shape."""
        radius = checks.finite_array(radius, "radius")
        if not (radius > 0).all():
            raise ValueError(f"radius must be positive, but its least is {radius.min():.4g}.")
        radii, alphas = self._steps()
        return np.concatenate([[self.ratio], alphas])[np.searchsorted(radii, radius, side="right")]

    def criterion(self) -> Criterion:
        """Return what the points refute of (1.1); the verdict never is "holds"."""
        radii, alphas = self._steps()
        return criterion_from_bounds(self.loss, radii, None, alphas, ratio=self.ratio)

    def integral_criterion(self) -> IntegralCriterion:
        """Return what the points refute of (T2); the verdict never is "holds"."""
        radii, alphas = self._steps()
        return integral_criterion_from_bounds(self.loss, radii, None, alphas, ratio=self.ratio)

    def surplus(self, criterion: str = "integral") -> float:
        """Return how far the bound is from refuting a criterion at every radius.

        Parameters
        ----------
        criterion : {"integral", "radius"}
            (T2), with ∫₀^∞ √α ds/(2 √S(w_0)), or (1.1), with sup_r r √α/(2 √S(w_0)).

        Returns
        -------
        float
            That quotient for the step function; the criterion fails at every radius if it is at
            most 1.  It is ∞ where nothing is known for large radii.
        """
        checks.one_of(criterion, ("integral", "radius"), "criterion")
        if self.loss == 0 or self.vanishing == math.inf:
            return math.inf
        radii, alphas = self._steps()
        roots = np.sqrt(np.concatenate([[self.ratio], alphas[:-1]]))
        if criterion == "integral":
            reached = float(np.diff(radii, prepend=0.0) @ roots)
        else:
            reached = float((radii * roots).max())
        return reached / (2 * math.sqrt(self.loss))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def vanishing_radius(problem: LeastSquares, start: Any) -> float:
    """Return a radius from which on α(w_0, r) = 0, exactly (ours).

    Statement.  Let ℓ ≥ 2 and let v be w_0 with W_1 replaced by a matrix that maps all inputs to 0,
    W_ℓ by 0 and b_L so that the output, now the same for every input, is the mean ȳ of the
    targets.  Then ∇S(v) = 0 and S(v) = (1/n) Σ (y_i − ȳ)².  So α(w_0, r) = 0 for r ≥ |v − w_0|,
    unless all targets are equal.

    Proof.  No activation depends on the input, and Σ e_i = 0; so Jᵀe vanishes in the layers from 2
    on, where g_ℓ h_{ℓ−1}ᵀ is the same for all inputs, and in layer 1 because g_1 = 0.

    For a positive start with σ(0) = 0 the radius is least, √(min_ℓ |W_ℓ|² + ȳ²).

    Parameters
    ----------
    problem : LeastSquares
    start : array_like, shape (p,)

    Returns
    -------
    float
        The least of these radii; ∞ if all targets are equal.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape.

    """
    start = _one_problem(problem, start)
    if np.ptp(problem.y) == 0:
        return math.inf
    inner = Inner(problem, start)
    return float(np.linalg.norm(inner.critical_points() - inner.start, axis=1).min())


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def worst_points(
    problem: LeastSquares,
    start: Any,
    rng: np.random.Generator,
    *,
    radii: Any = None,
    effort: float = 1.0,
    guesses: Any = None,
) -> WorstPoints:
    """Search all balls around a start for the least PL ratio R = |∇S|²/S.

    All radii at once: L-BFGS steps on log R over the spheres |v − w_0| = r, in the at most n input
    directions that matter, from random points (the neurons of a layer alike, or not; outputs that
    follow the targets; saturated neurons or samples; most of the way to the critical points of
    `vanishing_radius`).  Half of them descend on R (1 + S/S(w_0)) first, which leaves the plateaus
    where S is large.  After each round every radius tries what the others have found, and at last
    points between neighbours are tried.

    Parameters
    ----------
    problem : LeastSquares
        With smooth activations and one data set.
    start : array_like, shape (p,)
        w_0.
    rng : numpy.random.Generator
        Draws the starts of the search.
    radii : array_like, shape (m,), optional
        The family, positive and increasing; by default geometric, up to `vanishing_radius`.
    effort : float, default 1
        Multiplies the number of starts and survivors.
    guesses : array_like, shape (k, p), optional
        Points that may lie in the right direction from w_0, such as what was found before.

    Returns
    -------
    WorstPoints

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range.
    """
    start = _one_problem(problem, start)
    checks.generator(rng)
    effort = checks.positive_number(effort, "effort")
    if guesses is not None:
        guesses = problem.check_point(guesses, "guesses").reshape(-1, start.size)
    inner = Inner(problem, start)
    vanishing = vanishing_radius(problem, start)
    if radii is None:
        far = np.linalg.norm(inner.critical_points() - inner.start, axis=1).min()
        radii = far * _SHARES if far > 0 else np.ones(1)
    radii = increasing_radii(radii)
    loss, ratio = float(problem.value(start)), float(problem.ratio(start))
    if loss == 0:
        raise ValueError("start must have a positive loss: R is not defined at a zero of S.")
    moves = None if guesses is None else inner.reduce(guesses) - inner.start
    points = inner.lift(search_spheres(inner, radii, rng, effort, moves))
    distance = np.linalg.norm(points - start, axis=1)
    order = np.argsort(distance)
    points, distance = points[order], distance[order]
    found = problem.ratio(points)
    residual = problem.residual(points)
    found = np.where(np.square(residual).sum(axis=-1) > inner.floor(residual), found, np.inf)
    best = np.minimum.accumulate(np.append(ratio, found))
    better = np.flatnonzero((found < best[:-1]) & (distance > 0))
    if not len(better):  # nothing is worse than w_0 itself
        better = np.array([0])
        points[0], distance[0], found[0] = start, radii[0], ratio
    better = better[np.append(np.diff(distance[better]) > 0, True)]  # of equal radii the lowest R
    return WorstPoints(
        float(found[better][-1]),
        f"α(w0, r) for r up to {radii[-1]:.4g}",
        "L-BFGS on log R over spheres, many starts; from above",
        start,
        loss,
        ratio,
        distance[better],
        found[better],
        points[better],
        vanishing,
    )


def _one_problem(problem: Any, start: Any) -> np.ndarray:
    checks.instance(problem, LeastSquares, "problem")
    if problem.X.ndim != 2 or problem.y.ndim != 1:
        raise ValueError("problem must have one data set, but its data have leading axes.")
    if problem.network.smoothness < 1:
        raise ValueError("problem must have differentiable activations, but one is not.")
    start = problem.check_point(start, "start")
    if start.ndim != 1:
        raise ValueError(f"start must be one point, but has shape {start.shape}.")
    return start


@dataclass(frozen=True)
class CriticalScale(Estimate):
    """The largest scale found at which a criterion fails at every radius.

    Attributes
    ----------
    value : float
        That scale; the criterion can hold for all scales only above it.
    criterion : {"integral", "radius"}
        (T2) or (1.1).
    not_refuted : float
        The least scale above it that was tried and at which the search refutes nothing.
    scales, surpluses : numpy.ndarray, shape (m,)
        What was tried, and `WorstPoints.surplus` there.
    worst : WorstPoints
        The points that refute the criterion at `value`.
    """

    criterion: str
    not_refuted: float
    scales: np.ndarray
    surpluses: np.ndarray
    worst: WorstPoints = field(metadata=_NO_SHOW)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def critical_scale(
    problem: LeastSquares,
    start: Callable[[float], np.ndarray],
    rng: np.random.Generator,
    *,
    criterion: str = "integral",
    guess: float = 1.0,
    tolerance: float = 0.01,
    effort: float = 1.0,
    most_tried: int = 60,
) -> CriticalScale:
    """Return the largest scale of a family of starts at which a criterion is shown to fail.

    It fails at a scale if the step function above α refutes it at every radius.  The scale is
    bracketed by the secant rule on the logarithm of `WorstPoints.surplus`, and what was found at
    one scale is tried at the next.  Between the two ends of the bracket the search decides, so
    that the result is a lower bound on the true critical scale, as far as floating point goes.

    Parameters
    ----------
    problem : LeastSquares
    start : callable
        Gives the start of shape (p,) for a scale, as
        ``lambda scale: initialization.positive(network, scale)``.
    rng : numpy.random.Generator
    criterion : {"integral", "radius"}
        (T2), or (1.1).
    guess : float, default 1
        The first scale to try.
    tolerance : float, default 0.01
        Relative width of the bracket.
    effort : float
        As for `worst_points`, for the last search; those on the way make half of it.
    most_tried : int
        A search that needs more scales than this is given up.

    Returns
    -------
    CriticalScale

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range, or all targets are equal.
    RuntimeError
        If no bracket is found.
    """
    if not callable(start):
        raise TypeError(f"start must be a function of the scale, but is {checks.shown(start)}.")
    checks.one_of(criterion, ("integral", "radius"), "criterion")
    guess = checks.positive_number(guess, "guess")
    tolerance = checks.fraction(tolerance, "tolerance")
    effort = checks.positive_number(effort, "effort")
    most_tried = checks.positive_integer(most_tried, "most_tried")
    if vanishing_radius(problem, start(guess)) == math.inf:
        raise ValueError("problem must have targets that differ: else α need not vanish far out.")
    scale, last_word = guess, False
    failing: list[tuple[float, float]] = []  # scales where it is shown to fail, and surpluses
    others: list[tuple[float, float]] = []  # not shown
    worst: WorstPoints | None = None
    longer, doubted = 0, set[float]()
    moves: dict[bool, np.ndarray] = {}  # from the last start of either kind to its worst points
    for _ in range(most_tried):
        here = start(scale)
        found = worst_points(
            problem,
            here,
            rng,
            effort=effort if last_word else 0.5 * effort,
            guesses=here + np.concatenate(list(moves.values())) if moves else None,
        )
        surplus = found.surplus(criterion)
        fails = surplus <= 1
        moves[fails] = found.points[_spread(len(found.points))] - here
        if fails:
            if not failing or scale > failing[-1][0]:
                worst = found
            failing = sorted([*failing, (scale, surplus)])
            longer += last_word  # no bracket after all: look further ahead each time
        else:
            others.append((scale, surplus))
            if last_word:
                break
        if failing:
            # What was not shown before, and now looks as if it could be, gets a second chance.
            most, least = failing[-1]
            likely = {a for a, q in others if q > 1.01 * least * (a / most) ** 3} - doubted
            others = [(a, q) for a, q in others if a > most and a not in likely]
            doubted |= likely
        others.sort()
        # The upper end of the bracket is searched once more, with what was found at the lower.
        last_word = bool(failing and others) and others[0][0] <= (1 + tolerance) * failing[-1][0]
        step = tolerance * 1.5**longer
        scale = others.pop(0)[0] if last_word else _next_scale(failing, others, step)
    else:
        raise RuntimeError(f"No critical scale was bracketed with {most_tried} scales.")
    assert worst is not None
    scales, surpluses = np.array(sorted(failing + others)).T
    return CriticalScale(
        failing[-1][0],
        f"largest scale at which {'(T2)' if criterion == 'integral' else '(1.1)'} fails",
        worst.method,
        criterion,
        scale,
        scales,
        surpluses,
        worst,
    )


def _spread(count: int) -> np.ndarray:
    """Return at most twice as many indices as radii, spread over range(count)."""
    return np.unique(np.linspace(0, count - 1, 2 * len(_SHARES)).astype(int))


def _next_scale(
    failing: list[tuple[float, float]], others: list[tuple[float, float]], tolerance: float
) -> float:
    """Return the scale to try next, by the secant rule on logarithms."""
    pairs = [failing[-1], others[0]] if failing and others else (failing[-2:] or others[:2])
    logs = np.log(np.maximum(pairs, 1e-300))
    slope = 2.0  # what S depends on through A² would have
    if len(logs) > 1:
        slope = float(np.clip((logs[1, 1] - logs[0, 1]) / (logs[1, 0] - logs[0, 0]), 0.7, 3.0))
    x, y = logs[np.argmin(np.abs(logs[:, 1]))]
    scale = math.exp(x - min(max(y / slope, -2.0), 2.0)) * (1 - 0.4 * tolerance)
    if not failing:
        return scale
    scale = max(scale, failing[-1][0] * (1 + 0.9 * tolerance))
    return min(scale, math.sqrt(failing[-1][0] * others[0][0])) if others else scale
