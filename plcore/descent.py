"""Gradient descent x_{k+1} = x_k − η∇f(x_k) with a constant step size, for many runs at once.

>>> from plcore.descent import gradient_descent
>>> from plcore.objectives import Quadratic
>>> bowl = Quadratic([[1.0, 0.0], [0.0, 4.0]])
>>> run = gradient_descent(bowl, [1.0, 1.0], step_size=0.125, steps=3)
>>> print(run.losses.round(4))
[5.     0.5625 0.3164 0.178 ]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import checks
from .network_descent import descend
from .objectives import LeastSquares, Objective
from .results import Result

__all__ = ["DescentResult", "gradient_descent"]


@dataclass(frozen=True)
class DescentResult(Result):
    """Recorded runs of gradient descent; leading axes are independent runs.

    Attributes
    ----------
    step_size : numpy.ndarray, shape (...)
        η of each run.
    losses : numpy.ndarray, shape (..., steps + 1)
        f(x_0), …, f(x_steps); ∞ from the step at which a run left the floating-point numbers.
    final : numpy.ndarray, shape (..., p)
        The last point of each run; all ∞ for a run that diverged.
    path : numpy.ndarray, shape (..., steps + 1, p), or None
        Every point, where asked for; all ∞ from the step at which a run diverged.
    """

    step_size: np.ndarray
    losses: np.ndarray
    final: np.ndarray = field(repr=False)
    path: np.ndarray | None = field(default=None, repr=False)

    @property
    def steps(self) -> int:
        """The number of steps recorded."""
        return self.losses.shape[-1] - 1

    @property
    def diverged(self) -> np.ndarray:
        """Which runs left the floating-point numbers, shape ``(...)``."""
        return np.isinf(self.losses[..., -1])

    def steps_to(self, loss: float) -> np.ndarray:
        """Return the first k with f(x_k) ≤ `loss`, shape ``(...)``; ∞ where there is none.

        Raises
        ------
        TypeError, ValueError
            If `loss` is not a number that is zero or more.
        """
        reached = self.losses <= checks.nonnegative_number(loss, "loss")
        return np.where(reached.any(axis=-1), reached.argmax(axis=-1), np.inf)

    def rate(self, first: int = 0, last: int | None = None, *, floor: float = 0.0) -> np.ndarray:
        """Return the fitted δ of f(x_k) ≈ c (1 − δ)^k, shape ``(...)``, per step.

        The line is fitted to log f(x_k) by least squares, so that one noisy step counts little.

        Parameters
        ----------
        first, last : int
            Steps to fit, both included; the whole run by default.
        floor : float
            Losses at or below it (rounding, say) are left out.

        Returns
        -------
        numpy.ndarray
            NaN for a run with fewer than two usable losses.

        Raises
        ------
        TypeError, ValueError
            If the steps are not integers with 0 ≤ first < last ≤ steps, or `floor` is negative.
        """
        first = checks.positive_integer(first, "first", least=0)
        last = self.steps if last is None else checks.positive_integer(last, "last", least=0)
        floor = checks.nonnegative_number(floor, "floor")
        if not first < last <= self.steps:
            raise ValueError(
                f"first and last must satisfy 0 <= first < last <= {self.steps}, the number of "
                f"steps, but are {first} and {last}."
            )
        losses = self.losses[..., first : last + 1]
        usable = (losses > floor) & np.isfinite(losses)
        logs = np.log(losses, out=np.zeros_like(losses), where=usable)
        count = usable.sum(axis=-1)
        k = np.where(usable, np.arange(losses.shape[-1], dtype=float), 0.0)
        divisor = np.maximum(count, 1)[..., None]
        k = np.where(usable, k - k.sum(axis=-1, keepdims=True) / divisor, 0.0)
        logs = np.where(usable, logs - logs.sum(axis=-1, keepdims=True) / divisor, 0.0)
        spread = np.square(k).sum(axis=-1)
        slope = (k * logs).sum(axis=-1) / np.where(count > 1, spread, 1.0)
        return np.where(count > 1, -np.expm1(slope), np.nan)


def gradient_descent(
    objective: Objective,
    start: Any,
    step_size: Any,
    steps: int,
    *,
    record_path: bool = False,
    loss_target: float | None = None,
) -> DescentResult:
    """Run gradient descent x_{k+1} = x_k − η∇f(x_k) and record the loss at every step.

    A run diverges when it leaves the floating-point numbers: from the first step at which f is not
    finite, its losses and its points are ∞.  The other runs go on, no warning is given and no NaN
    is returned.  A network's squared loss takes the fast loop of `network_descent`, unless the
    path or a stop at a loss is asked for.

    Parameters
    ----------
    objective : Objective
    start : array_like, shape (..., p)
        x_0; leading axes are independent runs.
    step_size : float or array_like
        η > 0, in units of squared length over loss; one for each run where it has axes, which
        broadcast with the leading axes of `start`.
    steps : int
        Number of steps, zero or more.
    record_path : bool
        Whether to keep every point; that takes steps·p numbers a run.
    loss_target : float, optional
        Stop as soon as every run has had a loss of at most this, or has diverged.

    Returns
    -------
    DescentResult

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape, a step size is not positive and finite, or
        `steps` is negative.

    Examples
    --------
    >>> from plcore import gradient_descent
    >>> from plcore.toys import parabola  # f = x²: stable up to η = 1
    >>> runs = gradient_descent(parabola, [1.0], [0.25, 1.0, 1.5], steps=20)
    >>> print(*(f"{loss:.3g}" for loss in runs.losses[:, -1]))
    9.09e-13 1 1.1e+12
    """
    checks.instance(objective, Objective, "objective")
    x = objective.check_point(start, "start")
    step_size = checks.finite_array(step_size, "step_size")
    if (step_size <= 0).any():
        raise ValueError(f"step_size must be positive, but its least entry is {step_size.min()}.")
    steps = checks.positive_integer(steps, "steps", least=0)
    record_path = checks.flag(record_path, "record_path")
    if loss_target is not None:
        loss_target = checks.nonnegative_number(loss_target, "loss_target")
    try:
        runs = np.broadcast_shapes(x.shape[:-1], step_size.shape)
        x = objective.check_point(np.broadcast_to(x, (*runs, x.shape[-1])), "start")
    except ValueError:
        raise ValueError(
            "The axes of step_size must match the leading axes of start (and of the data), but "
            f"step_size has shape {step_size.shape} and start {x.shape}."
        ) from None
    if isinstance(objective, LeastSquares) and not record_path and loss_target is None:
        losses, final = descend(objective, x, step_size, steps)
        return DescentResult(np.broadcast_to(step_size, losses.shape[:-1]), losses, final)
    return _run(objective, x, step_size, steps, record_path, loss_target)


def _run(
    objective: Objective,
    x: np.ndarray,
    step_size: np.ndarray,
    steps: int,
    record_path: bool,
    loss_target: float | None,
) -> DescentResult:
    """Iterate for any objective; `gradient_descent` without its checks."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        value, gradient = objective._value_and_gradient(x)
        runs = np.broadcast_shapes(value.shape, step_size.shape)  # the data may add axes
        x = np.broadcast_to(x, (*runs, x.shape[-1]))
        eta = np.broadcast_to(step_size, runs)
        checks.room((*runs, steps + 1, x.shape[-1] if record_path else 1), "The record of the run")
        losses = np.full((*runs, steps + 1), np.inf)
        path = np.full((*runs, steps + 1, x.shape[-1]), np.inf) if record_path else None
        alive = np.isfinite(value)
        reached = np.zeros(runs, dtype=bool)
        for k in range(steps + 1):
            if k:
                moved = x - eta[..., None] * gradient
                alive = alive & np.isfinite(moved).all(axis=-1)
                # A run that is gone stays where it was: no objective is asked for f(∞).
                x = np.where(alive[..., None], moved, x)
                value, gradient = objective._value_and_gradient(x)
                alive = alive & np.isfinite(value)
            losses[..., k] = np.where(alive, value, np.inf)
            if path is not None:
                path[..., k, :] = np.where(alive[..., None], x, np.inf)
            if not alive.any():
                break  # what is left of the arrays is ∞ already
            if loss_target is not None:
                reached |= losses[..., k] <= loss_target
                if (reached | ~alive).all():
                    losses = losses[..., : k + 1]
                    path = None if path is None else path[..., : k + 1, :]
                    break
    final = np.where(alive[..., None], x, np.inf)
    return DescentResult(eta, losses, final, path)
