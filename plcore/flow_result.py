"""A computed gradient flow, and whether it kept the bounds of Theorem 1.1.

>>> from plcore.flow_result import reach
>>> reach(1.0, 4.0)  # f = x² from x_0 = 1, α = 4: the flow covers [0, 1]
1.0
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import optimize

from . import checks
from .results import Result, format_value

__all__ = ["FlowCheck", "FlowResult", "Piece", "reach"]

KNOWN = 0.01  # error of log f beyond which a record is not compared


def reach(loss: float, alpha: float) -> float:
    """Return r* = 2√(f(x_0)/α), which the whole flow's length does not exceed.

    Statement.  If |∇f|² ≥ αf on B(x_0, r) and r* < r, the criterion (1.1), then gradient flow
    from x_0 has length at most r*, so that it stays in B(x_0, r*).

    Assumptions.  f in C², f ≥ 0.

    Constants.  2, attained by f(x) = |x|².

    Reference.  Theorem 1.1 of the paper with r in place of r*; the sharper form and its short
    proof are ours, in the chapter on gradient flow.

    Parameters
    ----------
    loss : float
        f(x_0) ≥ 0.
    alpha : float
        α > 0.

    Raises
    ------
    TypeError, ValueError
        If `loss` is negative or `alpha` is not positive.
    """
    loss = checks.nonnegative_number(loss, "loss")
    return 2 * math.sqrt(loss / checks.positive_number(alpha, "alpha"))


@dataclass(frozen=True)
class Piece:
    """The solver's interpolant over one step, with the units of its variables.

    For other modules of the package.
    """

    origin: float
    clock: float
    center: np.ndarray
    unit: float
    interpolant: Any

    def at(self, times: np.ndarray) -> np.ndarray:
        """The points at `times`, shape (len(times), p)."""
        state = self.interpolant((times - self.origin) / self.clock)
        return self.center + self.unit * state[:-2].T


@dataclass(frozen=True)
class FlowCheck(Result):
    """Whether a computed flow kept the bounds of Theorem 1.1, for a given α and r.

    Each ratio is the largest quotient of what was seen and its bound: at most 1 where the theorem
    holds, to the solver's accuracy, and equal to 1 where the bound is attained.

    Attributes
    ----------
    holds : bool
        Whether all three bounds held at every record compared, the allowances included, and the
        comparison is `resolved`.
    alpha, radius : float
        α and r.
    criterion : bool
        Whether 4f(x_0) < r²α, the theorem's hypothesis (1.1), holds with these two.
    rate_ratio : float
        For f(φ(t)) ≤ e^{−αt} f(x_0), which says that the mean rate (log f(x_0) − log f(φ(t)))/t is
        at least α: the quotient of α and the least mean rate.
    distance_ratio : float
        For |φ(t) − x*| ≤ r e^{−αt/2}.  In place of the limit x* stands the last point compared,
        and the length (2/√α)√f that may be left from there is added to what was seen.
    length_ratio : float
        For the length from a record to the last one compared, which is at most 2/√α times the
        fall of √f meanwhile; so the whole length is at most r*.
    allowance : float
        The largest allowance for the solver's errors in log f, at most 0.01.
    records : int
        Records compared: those whose losses are known to 1 %.
    records_at_rounding : int
        The others, where √f has sunk towards its own rounding error.
    resolved : bool
        Whether that is why they were left out.  If not, loss and gradient contradict each other,
        the check shows nothing, and `holds` is False.
    """

    holds: bool = field(metadata={"label": "all bounds held"})
    alpha: float = field(metadata={"label": "α"})
    radius: float = field(metadata={"label": "r"})
    criterion: bool = field(metadata={"label": "criterion 4 f(x₀) < r² α"})
    rate_ratio: float = field(metadata={"label": "α / least mean rate"})
    distance_ratio: float = field(metadata={"label": "distance / its bound"})
    length_ratio: float = field(metadata={"label": "length / its bound"})
    allowance: float = field(metadata={"show": False})
    records: int = field(metadata={"label": "records compared"})
    records_at_rounding: int = field(metadata={"label": "records left to rounding"})
    resolved: bool = field(metadata={"show": False})

    def _title(self) -> str:
        return "The paper's Theorem 1.1 along a flow"


@dataclass(frozen=True)
class FlowResult(Result):
    """A computed gradient flow, recorded after every step of the solver.

    Attributes
    ----------
    reason : str
        Why it ended: "tolerance" (the loss is down to the tolerance), "time" (the time is up),
        "left the ball", "ran away" (beyond `escape`, or out of float64's range), "stalled" (at
        rest with f > 0), "rounding" (√f is hardly more than its own rounding error), "steps"
        (their largest number is used up) or "step size" (the solver finds none small enough).
    method : str
        The solver or, after a change, the solvers.
    rtol : float
        The tolerance asked for.
    times : numpy.ndarray, shape (m,)
        Times of the records, from 0, in the units in which dφ/dt = −∇f(φ).
    losses, rates : numpy.ndarray, shape (m,)
        f and the PL ratio |∇f|²/f, which is the rate −d log f/dt.
    points : numpy.ndarray, shape (m, p)
        φ at these times.
    lengths : numpy.ndarray, shape (m,)
        Length of the path so far, integrated with the flow.
    exponents : numpy.ndarray, shape (m,)
        ∫|∇f|²/f dt so far, integrated with the flow.
    tolerances, units : numpy.ndarray, shape (m,)
        The local error allowed to the step before each record is their product.
    noises : numpy.ndarray, shape (m,)
        Rounding error of √f.
    exit_time : float or None
        When the flow left the ball, if it did.
    measured_rate : float
        (log f(x_0) − log f(φ(T)))/T, the mean rate up to the last time T; NaN where T = 0.
    least_rate, final_rate : float
        The least of `rates`, and the last.
    evaluations : int
        Gradient evaluations.
    theorem : FlowCheck or None
        The check of Theorem 1.1, where α was given.
    pieces : tuple
        The solver's interpolants, where asked for; `at` reads them.
    """

    reason: str
    method: str
    rtol: float
    times: np.ndarray = field(repr=False, metadata={"show": False})
    losses: np.ndarray = field(repr=False, metadata={"show": False})
    rates: np.ndarray = field(repr=False, metadata={"show": False})
    points: np.ndarray = field(repr=False, metadata={"show": False})
    lengths: np.ndarray = field(repr=False, metadata={"show": False})
    exponents: np.ndarray = field(repr=False, metadata={"show": False})
    tolerances: np.ndarray = field(repr=False, metadata={"show": False})
    units: np.ndarray = field(repr=False, metadata={"show": False})
    noises: np.ndarray = field(repr=False, metadata={"show": False})
    exit_time: float | None
    measured_rate: float
    least_rate: float
    final_rate: float
    evaluations: int
    theorem: FlowCheck | None = field(default=None, repr=False, metadata={"show": False})
    pieces: tuple[Piece, ...] = field(default=(), repr=False, metadata={"show": False})

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield from super()._rows()
        yield "records", format_value(self.times.size)
        yield "final time", format_value(self.times[-1])
        yield "final loss", format_value(self.losses[-1])
        yield "path length", format_value(self.lengths[-1])
        if self.theorem is not None:
            yield "theorem's rate α", format_value(self.theorem.alpha)
            yield "theorem's bounds held", format_value(self.theorem.holds)

    @property
    def defect(self) -> np.ndarray:
        """The error log f(φ(t)) − log f(x_0) + ∫|∇f|²/f dt of the solver, shape (m,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            defect = np.log(self.losses) - np.log(self.losses[0]) + self.exponents
        return np.where(self.losses > 0, defect, 0.0)

    def at(self, times: Any) -> np.ndarray:
        """Return φ at `times`, shape ``(..., p)``, by the solver's own interpolation.

        Parameters
        ----------
        times : array_like, shape (...)
            Between 0 and the last recorded time.

        Raises
        ------
        TypeError, ValueError
            If the flow was computed without ``dense=True``, or a time lies outside.
        """
        times = checks.finite_array(times, "times")
        if not self.pieces and self.times.size > 1:
            raise ValueError("at needs a flow that was computed with dense=True.")
        if times.min() < 0 or times.max() > self.times[-1]:
            raise ValueError(
                f"times must lie between 0 and {self.times[-1]:.6g}, the end of the flow, "
                f"but reach from {times.min():.6g} to {times.max():.6g}."
            )
        flat = times.ravel()
        result = np.tile(self.points[0], (flat.size, 1))
        place = np.clip(np.searchsorted(self.times, flat) - 1, 0, None)
        for index in np.unique(place) if self.pieces else ():
            here = place == index
            result[here] = self.pieces[index].at(flat[here])
        return result.reshape(*times.shape, -1)

    def time_to(self, loss: float) -> float:
        """Return the first time with f(φ(t)) ≤ `loss`; ∞ if the flow ended before.

        Between two records log f is interpolated by the cubic with the same values and slopes:
        its slope is minus the recorded rate.

        Parameters
        ----------
        loss : float
            Above zero.

        Raises
        ------
        TypeError, ValueError
            If `loss` is not a positive number.
        """
        loss = checks.positive_number(loss, "loss")
        if not (self.losses <= loss).any():
            return math.inf
        k = int(np.argmax(self.losses <= loss))
        if k == 0:
            return 0.0
        if self.losses[k] == 0:
            return float(self.times[k])
        step = self.times[k] - self.times[k - 1]
        first, last = np.log(self.losses[k - 1 : k + 1]) - math.log(loss)
        down, up = -self.rates[k - 1 : k + 1] * step

        def above(part: float) -> float:
            rest = 1 - part
            return float(
                rest * rest * (first * (1 + 2 * part) + down * part)
                + part * part * (last * (1 + 2 * rest) - up * rest)
            )

        return float(self.times[k - 1] + step * optimize.brentq(above, 0.0, 1.0))

    def check(self, alpha: float, radius: float | None = None) -> FlowCheck:
        """Compare the flow with the bounds of Theorem 1.1.

        Statement.  Under the criterion (1.1), 4f(x_0) < r²α with α = α(x_0, r), gradient flow
        stays in B(x_0, r), converges to a zero x* of f there, and f(φ(t)) ≤ e^{−αt} f(x_0),
        |φ(t) − x*| ≤ r e^{−αt/2}.  Moreover (ours) what is left of its length at time t is at most
        (2/√α)√f(φ(t)).

        Assumptions.  f in C², f ≥ 0; `alpha` at most α(x_0, r).

        Constants.  The rate α and the factor 2; all three bounds are attained by f(x) = |x|² when
        r = r*.

        Reference.  Theorem 1.1 of the paper.

        The theorem's inequalities hold for the exact flow from each record to the next, so that
        only the local error of each step has to be allowed for: in the point, the tolerance that
        the solver kept; in log f, the tolerance of ∫|∇f|²/f dt and the measured `defect`.

        Parameters
        ----------
        alpha : float
            The rate α > 0 to be tested.
        radius : float, optional
            r > 0; if left out r* = 2√(f(x_0)/α), for which the criterion is an equality.

        Raises
        ------
        TypeError, ValueError
            If `alpha` or `radius` is not a positive number.

        Examples
        --------
        >>> from plcore import toys
        >>> from plcore.flow import gradient_flow
        >>> flow = gradient_flow(toys.parabola, [1.0])  # f = x², where α = 4
        >>> found = flow.check(4.0)
        >>> print(found.holds, f"{found.rate_ratio:.3f} {found.length_ratio:.3f}")
        True 1.000 1.000
        """
        alpha = checks.positive_number(alpha, "alpha")
        least = reach(float(self.losses[0]), alpha)
        wide = least if radius is None else checks.positive_number(radius, "radius")
        root, defect = np.sqrt(self.losses), self.defect
        per_root = 2 / math.sqrt(alpha)

        # log f = log f(x_0) + defect − ∫|∇f|²/f, and the integral is off by the tolerances.
        allowed_log = np.abs(defect) + np.cumsum(self.tolerances)
        known = int(np.argmin(allowed_log <= KNOWN)) if (allowed_log > KNOWN).any() else root.size
        resolved = known == root.size or bool(self.tolerances[known] > self.rtol)
        root, allowed_log, times = root[:known], allowed_log[:known], self.times[:known]

        # The exact flow over a step is no longer than (2/√α)(√f before − √f after).
        step_error = self.tolerances[:known] * self.units[:known]
        log_error = np.abs(np.diff(defect[:known], prepend=0.0)) + self.tolerances[:known]
        step_error += 0.5 * per_root * root * log_error
        allowed_length = step_error[::-1].cumsum()[::-1] - step_error  # of the steps to come

        bound = per_root * root
        left = self.lengths[known - 1] - self.lengths[:known]
        offset = self.points[:known] - self.points[known - 1]
        distance = np.linalg.norm(offset, axis=1) + bound[-1]
        ball = wide * np.exp(-0.5 * alpha * times)
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = np.log(self.losses[:known]) - np.log(self.losses[0]) + alpha * times
        excess[0] = 0.0
        # Lengths and points are sums in float64, rounded at every step.
        largest = self.lengths[known - 1] + float(np.linalg.norm(self.points, axis=1).max())
        allowed_length += 4 * np.finfo(float).eps * largest
        kept = (
            (excess <= allowed_log)
            & (left <= bound - bound[-1] + allowed_length)
            & (distance <= ball * np.exp(0.5 * allowed_log) + allowed_length)
        )
        return FlowCheck(
            holds=resolved and bool(kept.all()),
            alpha=alpha,
            radius=wide,
            criterion=radius is not None and bool(4 * self.losses[0] < radius * radius * alpha),
            rate_ratio=_largest_ratio(alpha * times, alpha * times - excess),
            distance_ratio=_largest_ratio(distance, ball),
            length_ratio=_largest_ratio(left, bound - bound[-1]),
            allowance=float(allowed_log.max()),
            records=known,
            records_at_rounding=self.times.size - known,
            resolved=resolved,
        )


def _largest_ratio(seen: np.ndarray, bound: np.ndarray) -> float:
    positive = bound > 0
    with np.errstate(over="ignore"):
        return float(np.max(seen[positive] / bound[positive], initial=0.0))
