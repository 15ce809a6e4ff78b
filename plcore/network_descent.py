"""Full-batch gradient descent on the squared loss of a network: the fast loop.

`descent.gradient_descent` calls it for a `LeastSquares` objective; the result is that of stepping
with the objective's own gradient, to rounding.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import checks
from .objectives import LeastSquares

__all__ = ["descend"]


def descend(
    problem: LeastSquares, start: Any, step_size: Any, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Run w_{k+1} = w_k − η ∇S(w_k) and record the loss at every step.

    A run whose loss exceeds the range of float64 has diverged: its loss is ∞ from that step on
    and its final parameters are all ∞.  The other runs of the batch are not touched by it, and
    there is no warning.

    Parameters
    ----------
    problem : LeastSquares
        The objective; its data may have leading axes, one data set for each run.
    start : array_like, shape (..., p)
        Starting points; leading axes are independent runs.
    step_size : array_like
        Step sizes η ≥ 0, one number or one for each run (broadcast against the runs).
    steps : int
        Number of steps, zero or more.

    Returns
    -------
    losses : numpy.ndarray, shape (..., steps + 1)
        S(w_0), …, S(w_steps).
    final : numpy.ndarray, shape (..., p)
        w_steps.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape, is not finite or is negative.
    """
    checks.instance(problem, LeastSquares, "problem")
    start = problem.check_point(start, "start")
    rates = checks.finite_array(step_size, "step_size")
    if (rates < 0).any():
        raise ValueError(f"step_size must not be negative, but its least entry is {rates.min()}.")
    steps = checks.positive_integer(steps, "steps", least=0)
    try:
        runs = np.broadcast_shapes(
            start.shape[:-1], rates.shape, problem.X.shape[:-2], problem.y.shape[:-1]
        )
    except ValueError:
        raise ValueError(
            f"step_size must be one number or one for each run, but has shape {rates.shape} "
            f"for runs of shape {start.shape[:-1]}."
        ) from None
    rates = np.broadcast_to(rates, runs)[..., None]
    w = np.array(np.broadcast_to(start, (*runs, problem.dimension)))
    losses = np.full((*runs, steps + 1), math.inf)
    alive = np.ones(runs, dtype=bool)
    with np.errstate(all="ignore"):
        for step in range(steps + 1):
            value, gradient = problem._value_and_gradient(w)
            alive &= np.isfinite(value)
            losses[..., step] = np.where(alive, value, math.inf)
            if not alive.any():
                break
            if step < steps:
                gradient *= rates
                w -= gradient
    w[~alive] = math.inf
    return losses, w
