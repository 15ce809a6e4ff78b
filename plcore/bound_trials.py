"""The sharper bounds of a positive start put to the test on one problem: steps, rates, points.

`step_sizes` compares what the step-size theorems admit with what works; `count_violations` looks
for points of a ball whose PL ratio is below the proved bound on α.

>>> import numpy as np
>>> from plcore import FeedForward, LeastSquares, activations, initialization
>>> from plcore.bound_trials import count_violations
>>> network = FeedForward((3, 5, 1), activations.tanh)
>>> problem = LeastSquares(network, np.eye(3), [1.0, -1.0, 2.0])
>>> start = initialization.positive(network, output_scale=1.2)
>>> rng = np.random.default_rng(0)
>>> count_violations(problem, start, points=100, rng=rng).violations
0
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import checks
from .bounds import curvature_bound, derivative_bounds
from .curvature import top_curvature
from .descent import gradient_descent
from .objectives import LeastSquares
from .positive_start_bounds import PositiveStartBounds, positive_start_bounds
from .results import Result
from .step_sizes import integral_step_size, paper_step_size, sharp_step_size
from .worst_points import WorstPoints, worst_points

__all__ = ["StepTrial", "ViolationCount", "count_violations", "step_sizes"]

_TARGET = 1e-6  # a step size works if the loss falls to this part of its start


@dataclass(frozen=True)
class StepTrial(Result):
    """Step sizes and rates at one start: what is proved beside what is seen.

    Attributes
    ----------
    paper, sharp, integral : float
        The largest step size of Theorem 1.2, of Theorem 1.2♯ and of its integral form, over the
        radii of the bounds on α; 0 where a theorem admits none.
    curvature : float
        β behind `integral`; ∞ if there is none.
    measured : float
        1 over the greatest eigenvalue of ∇²S seen along a run of small steps.
    working : float
        The largest η, to 1 per cent, up to which all that were tried bring the loss below a
        millionth of where it starts, and never above it.
    rate_proved, rate_worst, rate_seen : float
        The bound on α(w_0, r*) from (T2); the search's, at the same radius; and the least R along
        the run of small steps.
    """

    paper: float
    sharp: float
    integral: float
    curvature: float
    measured: float
    working: float
    rate_proved: float
    rate_worst: float
    rate_seen: float


@dataclass(frozen=True)
class ViolationCount(Result):
    """How many points were tried, and how near they came to the proved bound.

    Attributes
    ----------
    points : int
        Points with S > 0 in a ball for which α has a positive bound.
    violations : int
        Those with R below the bound.
    least_ratio : float
        The least R over the bound.
    """

    points: int
    violations: int
    least_ratio: float


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def step_sizes(
    problem: LeastSquares, start: Any, rng: np.random.Generator, *, steps: int = 1500
) -> StepTrial:
    """Return what the step-size theorems admit at a positive start, and what works there.

    Parameters
    ----------
    problem : LeastSquares
    start : array_like, shape (p,)
        A positive start.
    rng : numpy.random.Generator
        For the search from above.
    steps : int
        Descent steps within which a step size has to work.

    Returns
    -------
    StepTrial

    Raises
    ------
    TypeError, ValueError
        As `positive_start_bounds`.
    """
    checks.instance(problem, LeastSquares, "problem")
    checks.generator(rng)
    steps = checks.positive_integer(steps, "steps")
    proved = positive_start_bounds(problem.network, problem.X, problem.y, start)
    found = _theorem_steps(problem, start, proved)
    step_size = 0.1 / float(top_curvature(problem, start).value)
    measured, rate_seen = _seen(problem, start, step_size, steps)
    verdict = proved.integral_criterion()
    above = worst_points(problem, start, rng, effort=0.5)
    rate_worst = above.ratio
    if math.isfinite(verdict.radius):
        rate_worst = float(above.at(verdict.radius))
    return StepTrial(
        *found,
        measured,
        _largest_working(problem, start, measured, steps),
        verdict.rate,
        rate_worst,
        rate_seen,
    )


def _theorem_steps(
    problem: LeastSquares, start: np.ndarray, proved: PositiveStartBounds
) -> tuple[float, float, float, float]:
    """Return the largest step sizes of the three theorems over the radii, and β of the last."""
    paper = sharp = integral = 0.0
    best = math.inf
    for j in range(int((proved.alphas > 0).sum())):
        radius, alpha = float(proved.radii[j]), float(proved.alphas[j])
        beta = float(curvature_bound(problem, start, radius))
        first, second = (float(one) for one in derivative_bounds(problem, start, 2 * radius))
        old = paper_step_size(
            proved.loss, alpha, radius, first, second, problem.dimension, best="step"
        )
        new = sharp_step_size(proved.loss, alpha, radius, beta, best="step")
        whole = integral_step_size(
            proved.loss, proved.radii[: j + 1], proved.alphas[: j + 1], beta, best="step"
        )
        paper, sharp = max(paper, old.step_size), max(sharp, new.step_size)
        if whole.step_size > integral:
            integral, best = whole.step_size, beta
    return paper, sharp, integral, best


def _seen(
    problem: LeastSquares, start: np.ndarray, step_size: float, steps: int
) -> tuple[float, float]:
    """Return 1/λ_max and the least R along a run of small steps."""
    run = gradient_descent(problem, start, step_size, steps, record_path=True)
    assert run.path is not None
    count = max(int((run.losses > 1e-8 * run.losses[0]).sum()), 2)
    points = run.path[np.unique(np.geomspace(1, count, 40).astype(int) - 1)]
    curvature = np.max(top_curvature(problem, points, 1e-4).value)
    return 1 / float(curvature), float(problem.ratio(points).min())


def _largest_working(problem: LeastSquares, start: np.ndarray, unit: float, steps: int) -> float:
    """Return the largest η such that it and all smaller ones of a fine grid work."""
    grid = unit * np.geomspace(0.5, 8.0, 280)
    losses = gradient_descent(problem, start, grid, steps).losses
    works = losses.min(axis=-1) <= _TARGET * losses[:, 0]
    works &= losses.max(axis=-1) <= losses[:, 0] * (1 + 1e-12)
    first = len(grid) if works.all() else int(np.argmin(works))
    return float(grid[first - 1]) if first else 0.0


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def count_violations(
    problem: LeastSquares, start: Any, points: int, rng: np.random.Generator
) -> ViolationCount:
    """Look for points around a positive start whose R is below the proved bound on α.

    A quarter of the points are random in direction and distance, a quarter have all their change
    in one layer, a quarter are what the search from above found, at their own distance, and a
    quarter lie near those.  Each is held against the bound at the next larger radius.

    Parameters
    ----------
    problem : LeastSquares
    start : array_like, shape (p,)
        A positive start.
    points : int
        At least so many.
    rng : numpy.random.Generator

    Returns
    -------
    ViolationCount

    Raises
    ------
    TypeError, ValueError
        As `positive_start_bounds`, or if no radius has a positive bound.
    """
    checks.instance(problem, LeastSquares, "problem")
    points = checks.positive_integer(points, "points")
    checks.generator(rng)
    proved = positive_start_bounds(problem.network, problem.X, problem.y, start)
    radii = proved.radii[proved.alphas > 0]
    if not len(radii):
        raise ValueError("start must have a positive bound on α at some radius, but has none.")
    above = worst_points(problem, start, rng, radii=radii[:: max(1, len(radii) // 12)], effort=0.2)
    moves = _moves(problem, start, above, radii[-1], points, rng)
    place = np.searchsorted(radii, np.linalg.norm(moves, axis=1) * (1 + 1e-12))
    inside = place < len(radii)
    ratio = problem.ratio(start + moves[inside]) / proved.alphas[place[inside]]
    return ViolationCount(len(ratio), int((ratio < 1).sum()), float(ratio.min()))


def _moves(
    problem: LeastSquares,
    start: np.ndarray,
    above: WorstPoints,
    radius: float,
    count: int,
    rng: np.random.Generator,
) -> np.ndarray:
    part = -(-count // 4)
    random = rng.standard_normal((2 * part, start.size))
    depth = problem.network.depth
    for index, pair in enumerate(problem.network.layers(random[part:])):
        for array in pair:
            array[np.arange(part) % depth != index] = 0.0
    worst = above.points - start
    near = worst[rng.integers(len(worst), size=2 * part)]
    length = np.concatenate(
        [radius * rng.uniform(size=2 * part) ** 0.5, np.linalg.norm(near, axis=1)]
    )
    noise = rng.standard_normal((part, start.size)) * (length[3 * part :, None] / start.size**0.5)
    near[part:] += 0.2 * rng.uniform(size=(part, 1)) * noise
    moves = np.concatenate([random, near])
    moves /= np.linalg.norm(moves, axis=1, keepdims=True)
    return moves * np.minimum(length, radius * (1 - 1e-9))[:, None]
