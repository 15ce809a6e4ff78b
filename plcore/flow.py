"""Gradient flow dφ/dt = −∇f(φ) and the bounds of Theorem 1.1 along it.

>>> from math import exp
>>> from plcore.flow import gradient_flow
>>> from plcore.toys import parabola
>>> flow = gradient_flow(parabola, [1.0], time=1.0)  # f = x² falls like e^(−4t)
>>> print(f"{flow.losses[-1]:.6f} {exp(-4):.6f}")
0.018316 0.018316
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from . import checks
from ._flow_solver import SOLVERS, FlowIntegration, Record
from .flow_result import FlowResult, Piece
from .objectives import Objective

__all__ = ["gradient_flow", "gradient_flows"]

LARGEST_IMPLICIT = 2000  # coordinates: beyond, a dense Hessian costs more than small steps
LOOK_EVERY = 20  # steps between two looks for stiffness
STILL = 1e-10  # relative change over a doubling of time that counts as none


def gradient_flow(
    objective: Objective,
    start: Any,
    *,
    loss_tolerance: float = 1e-12,
    time: float | None = None,
    radius: float | None = None,
    alpha: float | None = None,
    escape: float | None = None,
    rtol: float = 1e-8,
    method: str = "auto",
    dense: bool = False,
    max_steps: int = 20_000,
) -> FlowResult:
    """Integrate gradient flow dφ/dt = −∇f(φ), φ(0) = x_0, and compare it with Theorem 1.1.

    The solver is one of SciPy's.  "auto" begins with DOP853, explicit and of order 8, and changes
    to Radau, implicit and of order 5 with −∇²f as its Jacobian, when the steps it would still need
    are too many: the sign of a stiff problem, one with widely spread eigenvalues of ∇²f.

    Near a zero of f the tolerance shrinks with √f (see `rtol`), so that losses keep their
    relative accuracy, down to the rounding error of √f itself, which is measured by moving every
    coordinate by one unit in its last place.  For a network with targets of size one that is at
    losses near 1e-28; the flow ends there and says so.

    Parameters
    ----------
    objective : Objective
        f, on a single data set.
    start : array_like, shape (p,)
        x_0.  For a batch of starts see `gradient_flows`.
    loss_tolerance : float, default 1e-12
        The flow ends at the first record with f ≤ loss_tolerance · f(x_0); 0 for no such end.
    time : float, optional
        The flow ends at this time at the latest, in the units in which dφ/dt = −∇f(φ).
    radius : float, optional
        r: the flow ends where it leaves the closed ball B(x_0, r).
    alpha : float, optional
        The theorem's rate, at most α(x_0, r); if given, the result's `theorem` is the check.
    escape : float, optional
        A flow further than this from x_0 counts as running away, and ends.
    rtol : float, default 1e-8
        Local error of a step in units of s = min(2f/|∇f|, length on which ∇f changes), where the
        first is about the distance to go: an error of rtol·s changes √f by the factor 1 ± rtol.
    method : {"auto", "DOP853", "RK45", "Radau"}
        The solver.
    dense : bool, default False
        Whether to keep the solver's interpolants, for `FlowResult.at`.
    max_steps : int, default 20000
        Largest number of steps.

    Returns
    -------
    FlowResult

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or sign, or f is not finite at the start.

    References
    ----------
    Theorem 1.1 of the paper; E. Hairer and G. Wanner, Solving Ordinary Differential Equations II,
    for the solvers.

    Examples
    --------
    >>> from plcore.flow import gradient_flow
    >>> from plcore.toys import ring
    >>> flow = gradient_flow(ring, [0.5, 0.0])  # f = (x² + y² − 1)²
    >>> print(flow.points[-1].round(4), f"length {flow.lengths[-1]:.4f}", flow.reason)
    [1. 0.] length 0.5000 tolerance
    """
    checks.instance(objective, Objective, "objective")
    start = objective.check_point(start, "start")
    if start.ndim != 1:
        raise ValueError(
            f"start must be one point of shape ({objective.dimension},), but has shape "
            f"{start.shape}; gradient_flows takes several."
        )
    with np.errstate(all="ignore"):
        value = objective._value(start)
    if np.ndim(value) != 0:
        raise ValueError(
            f"objective must be a single one, but has leading axes {np.shape(value)} of its own."
        )
    if not np.isfinite(value) or value < 0:
        raise ValueError(f"f(start) must be finite and not negative, but is {float(value)}.")
    loss_tolerance = checks.nonnegative_number(loss_tolerance, "loss_tolerance")
    end = math.inf if time is None else checks.positive_number(time, "time")
    if radius is not None:
        radius = checks.positive_number(radius, "radius")
    if alpha is not None:
        alpha = checks.positive_number(alpha, "alpha")
    limit = math.inf if escape is None else checks.positive_number(escape, "escape")
    rtol = checks.positive_number(rtol, "rtol")
    if not 1e-13 <= rtol <= 1e-2:
        raise ValueError(f"rtol must lie between 1e-13 and 0.01, but is {rtol}.")
    checks.one_of(method, ("auto", *SOLVERS), "method")
    dense = checks.flag(dense, "dense")
    max_steps = checks.positive_integer(max_steps, "max_steps")
    target = loss_tolerance * float(value)

    # Trial points of an explicit step may overflow; the solver then shortens the step.
    with np.errstate(all="ignore"):
        first = "DOP853" if method == "auto" else method
        run = FlowIntegration(objective, start, rtol, first, end)
        records, pieces, solvers, reason = _integrate(
            run, target, radius, limit, method == "auto", dense, max_steps
        )
    times = np.array([record.time for record in records])
    losses = np.array([record.value for record in records])
    rates = np.array([record.rate for record in records])
    rate = math.nan
    if times[-1] > 0:
        fall = math.log(losses[0]) - math.log(losses[-1]) if losses[-1] > 0 else math.inf
        rate = fall / float(times[-1])
    result = FlowResult(
        reason=reason,
        method=", then ".join(solvers),
        rtol=rtol,
        times=times,
        losses=losses,
        rates=rates,
        points=np.array([record.x for record in records]),
        lengths=np.array([record.length for record in records]),
        exponents=np.array([record.exponent for record in records]),
        exit_time=float(times[-1]) if reason == "left the ball" else None,
        measured_rate=rate,
        least_rate=float(rates.min()),
        final_rate=float(rates[-1]),
        evaluations=run.evaluations,
        tolerances=np.array([record.tolerance for record in records]),
        units=np.array([record.unit for record in records]),
        noises=np.array([record.noise for record in records]),
        pieces=tuple(pieces),
    )
    if alpha is None:
        return result
    return replace(result, theorem=result.check(alpha, radius))


def gradient_flows(objective: Objective, starts: Any, **options: Any) -> list[FlowResult]:
    """Return `gradient_flow` from each of several starts, one after the other.

    Each flow chooses its own steps, so there is nothing to gain from taking them together.

    Parameters
    ----------
    objective : Objective
        f.
    starts : array_like, shape (m, p)
        The starting points.
    **options
        Those of `gradient_flow`.

    Returns
    -------
    list of FlowResult
        One for each start.

    Raises
    ------
    TypeError, ValueError
        As `gradient_flow`, or if `starts` has not two axes.
    """
    checks.instance(objective, Objective, "objective")
    starts = objective.check_point(starts, "starts")
    if starts.ndim != 2:
        raise ValueError(
            f"starts must have shape (m, {objective.dimension}), but has shape {starts.shape}."
        )
    return [gradient_flow(objective, start, **options) for start in starts]


def _integrate(
    run: FlowIntegration,
    target: float,
    radius: float | None,
    escape: float,
    automatic: bool,
    dense: bool,
    max_steps: int,
) -> tuple[list[Record], list[Piece], list[str], str]:
    """Step until there is a reason to end; return records, interpolants, solvers and reason."""
    start, records, solvers, reason = run.last.x, [run.last], [run.method], ""
    pieces: list[Piece] = []
    if run.last.value <= target:
        reason = "tolerance"
    elif run.last.speed == 0:
        reason = "stalled"
    elif not run.begin():
        reason = "rounding"
    while not reason:
        before = run.last
        if not run.advance():
            return records, pieces, solvers, "step size" if run.begin() else "rounding"
        last = run.last
        finite = math.isfinite(last.value) and math.isfinite(last.speed)
        if not (finite and (last.time < math.inf)):
            return records, pieces, solvers, "ran away"
        if dense:
            pieces.append(run.piece())
        left = radius is not None and run.cut_at_exit(before, start, radius)
        last = run.last
        records.append(last)
        if left:
            reason = "left the ball"
        elif np.linalg.norm(last.x - start) > escape:
            reason = "ran away"
        elif last.value <= target:
            reason = "tolerance"
        elif last.time >= run.end:
            reason = "time"
        elif _still(last):
            reason = "stalled"
        elif len(records) > max_steps:
            reason = "steps"
        else:
            anew = run.outgrown()
            look = automatic and len(solvers) == 1 and len(records) % LOOK_EVERY == 0
            if look and _stiff(run, records, target):
                run.method, anew = "Radau", True
                solvers.append(run.method)
            if anew and not run.begin():
                reason = "rounding"
    return records, pieces, solvers, reason


def _still(last: Record) -> bool:
    """Whether a doubling of the time would change neither the loss nor the point visibly."""
    return last.time * last.rate <= STILL and last.time * last.speed <= STILL * last.length


def _stiff(run: FlowIntegration, records: list[Record], target: float) -> bool:
    """Whether an explicit solver would need far too many steps, because of stability.

    Its step is then held down by the largest curvature, although the directions with that
    curvature have long died out.
    """
    last = records[-1]
    if last.x.size > LARGEST_IMPLICIT or last.rate == 0:
        return False
    step = (last.time - records[-LOOK_EVERY].time) / (LOOK_EVERY - 1)
    lowest = max(target, 1e-28 * records[0].value, math.ulp(0.0))
    left = min(math.log(last.value / lowest) / last.rate, run.end - last.time)
    # An implicit step costs about four explicit ones, and each Hessian p products or so.
    if left < (1000 + 5 * last.x.size) * step:
        return False
    # The interval of stability on the real axis is about 6 for DOP853.
    return step * run.largest_curvature() > 3
