"""Verdicts on the paper's criterion and on the integral criterion, from bounds on α.

For f ≥ 0 and the local PL constant α(x_0, r) of `criterion`, which falls as r grows,

    (1.1)  4 f(x_0) < r² α(x_0, r)                 for some r > 0   [Chatterjee],
    (T2)   2 √f(x_0) < ∫₀^r √α(x_0, s) ds          for some r > 0   [ours].

The bounds may come from anywhere: boxes, a search, a network's constants.

>>> from plcore.verdicts import criterion_from_bounds
>>> found = criterion_from_bounds(1.0, radii=[1.0, 2.0], lower=[4.0, 3.0])
>>> print(found.verdict, found.radius, f"κ = {found.kappa:.2f}")
holds 2.0 κ = 0.33
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import checks
from .results import Result

__all__ = [
    "Criterion",
    "IntegralCriterion",
    "criterion_from_bounds",
    "increasing_radii",
    "integral_criterion_from_bounds",
]

# Covers the rounding of the few operations between proved bounds and a verdict.
SAFE = 1 - 2.0**-40


@dataclass(frozen=True)
class Criterion(Result):
    """What is proved of the paper's criterion (1.1), 4 f(x_0) < r² α(x_0, r).

    Attributes
    ----------
    verdict : {"holds", "fails", "undecided"}
        "holds" if it is proved at some radius; "fails" if it is refuted at every r > 0 up to the
        largest radius.
    value : float
        f(x_0).
    radius, rate : float
        The radius with the largest proved r² α, and the lower bound on α there.
    margin : float
        r² α − 4 f(x_0) there; positive if the criterion is proved.
    kappa : float
        4 f(x_0)/(r² α) there; below 1 if the criterion is proved.
    path_length : float
        r* = 2 √(f(x_0)/α): the flow is no longer, and stays in B(x_0, r*).
    smallest_radius : float or None
        The least radius of the family at which the criterion is proved.
    fails_up_to : float
        The criterion is refuted at every radius from 0 to here.
    """

    verdict: str
    value: float
    radius: float
    rate: float
    margin: float
    kappa: float
    path_length: float
    smallest_radius: float | None
    fails_up_to: float

    @property
    def holds(self) -> bool:
        """Whether (1.1) is proved; False means "not shown"."""
        return self.verdict == "holds"


@dataclass(frozen=True)
class IntegralCriterion(Result):
    """What is proved of the integral criterion: (T2), or with ε > 0 what descent asks for.

    That is 2 √f(x_0)/(1 − ε) < ∫₀^r √α(x_0, s) ds; (T2) has ε = 0.

    Attributes
    ----------
    verdict : {"holds", "fails", "undecided"}
        As in `Criterion`.
    value : float
        f(x_0).
    needed : float
        The left side, 2 √f(x_0)/(1 − ε).
    integral_lower, integral_upper : float
        Bounds on the integral up to the largest radius.
    radius : float
        An upper bound on the r* at which the integral reaches the left side: the flow is no
        longer, and stays in B(x_0, r*); ∞ if the criterion is not proved.
    rate : float
        A lower bound on α(x_0, r*); 0 if the criterion is not proved.
    fails_up_to : float
        The criterion is refuted at every radius from 0 to here.
    """

    verdict: str
    value: float
    needed: float
    integral_lower: float
    integral_upper: float
    radius: float
    rate: float
    fails_up_to: float

    @property
    def holds(self) -> bool:
        """Whether (T2) is proved; False means "not shown"."""
        return self.verdict == "holds"


def _bounds(
    value: Any, radii: Any, lower: Any, upper: Any
) -> tuple[tuple[float, float], np.ndarray, np.ndarray, np.ndarray]:
    """Check f(x_0), radii and bounds on α; make the bounds fall as α does."""
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"value must be a number or a pair of bounds, but is {value!r}.")
    least, most = (checks.nonnegative_number(part, "value") for part in pair)
    if least > most:
        raise ValueError(f"value must be a pair (lower, upper), but is {value!r}.")
    radii = increasing_radii(radii)
    given = []
    for name, bound, default in (("lower", lower, 0.0), ("upper", upper, np.inf)):
        bound = np.full(radii.shape, default) if bound is None else np.asarray(bound, float)
        if bound.shape != radii.shape or not (bound >= 0).all():
            raise ValueError(
                f"{name} must hold one bound >= 0 on α for each of the {radii.size} radii, "
                f"but is {bound}."
            )
        given.append(bound)
    # α at a radius is at least α at any larger one, and at most α at any smaller one.
    low = np.maximum.accumulate(given[0][::-1])[::-1]
    high = np.minimum.accumulate(given[1])
    if (low > high).any():
        raise ValueError("lower must not exceed upper: no falling α lies between them.")
    return (least, most), radii, low, high


def criterion_from_bounds(
    value: float | tuple[float, float],
    radii: Any,
    lower: Any = None,
    upper: Any = None,
    *,
    ratio: float = np.inf,
) -> Criterion:
    """Decide the paper's criterion (1.1) from f(x_0) and bounds on α(x_0, r) at some radii.

    Between two radii α lies between its values there, so that a refutation covers every radius.

    Parameters
    ----------
    value : float or (float, float)
        f(x_0) ≥ 0, or a lower and an upper bound on it.
    radii : array_like, shape (m,)
        Positive and increasing.
    lower, upper : array_like, shape (m,), optional
        lower ≤ α(x_0, r) ≤ upper; 0 and ∞ where not given.  The verdict is proved if they are.
    ratio : float
        |∇f(x_0)|²/f(x_0), which bounds α(x_0, r) from above for every r.

    Returns
    -------
    Criterion

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range.

    Examples
    --------
    >>> from plcore.verdicts import criterion_from_bounds
    >>> criterion_from_bounds(1.0, radii=[1.0, 2.0], upper=[3.0, 0.9]).verdict
    'undecided'
    """
    (least, value), radii, low, high = _bounds(value, radii, lower, upper)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        reach = np.where(low > 0, radii**2 * low, 0.0)
        best = int(np.argmax(reach))
        proved = 4 * value < SAFE * reach
        steps = np.concatenate([[ratio], np.minimum(high, ratio)])
        limits = np.append(radii, np.inf)  # step j holds on (r_j, r_{j+1}], the last one for ever
        fails = SAFE * 2 * np.sqrt(np.where(steps > 0, least / steps, np.inf))
    short = np.flatnonzero(fails < limits)
    j = int(short[0]) if len(short) else len(steps) - 1
    fails_up_to = float(max(fails[j], limits[j - 1] if j else 0.0))
    verdict = "holds" if proved.any() else "fails" if fails_up_to >= radii[-1] else "undecided"
    rate, radius = float(low[best]), float(radii[best])
    return Criterion(
        verdict,
        value,
        radius,
        rate,
        margin=float(reach[best]) - 4 * value,
        kappa=_quotient(4 * value, float(reach[best])),
        path_length=2 * float(np.sqrt(_quotient(value, rate))),
        smallest_radius=float(radii[np.argmax(proved)]) if proved.any() else None,
        fails_up_to=fails_up_to,
    )


def _quotient(a: float, b: float) -> float:
    """Return a/b for a, b ≥ 0 with 0/b = 0 and a/0 = ∞."""
    if a == 0 or b == np.inf:
        return 0.0
    return a / b if b > 0 else float("inf")


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def integral_criterion_from_bounds(
    value: float | tuple[float, float],
    radii: Any,
    lower: Any = None,
    upper: Any = None,
    *,
    ratio: float = np.inf,
    epsilon: float = 0.0,
) -> IntegralCriterion:
    """Decide the integral criterion (T2) from f(x_0) and bounds on α(x_0, r) at some radii.

    α falls, so that the right endpoints bound the integral of √α from below (what "holds" rests
    on) and the left endpoints from above (what "fails" rests on).

    Parameters
    ----------
    value, radii, lower, upper, ratio
        As for `criterion_from_bounds`.
    epsilon : float, default 0
        In [0, 1): the slack ε that gradient descent asks for (2√f(x_0)/(1 − ε) on the left).

    Returns
    -------
    IntegralCriterion

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range.
    """
    (least, value), radii, low, high = _bounds(value, radii, lower, upper)
    epsilon = checks.nonnegative_number(epsilon, "epsilon")
    if epsilon >= 1:
        raise ValueError(f"epsilon must be below 1, but is {epsilon}.")
    needed = 2 * np.sqrt(value) / (1 - epsilon)
    widths = np.diff(radii, prepend=0.0)
    right = np.sqrt(low)
    below = np.cumsum(widths * right)
    left = np.sqrt(np.concatenate([[ratio], np.minimum(high, ratio)]))
    above = np.concatenate([[0.0], np.cumsum(widths * left[:-1])])
    proved = needed < SAFE * below
    radius, rate = np.inf, 0.0
    if proved.any():
        k = int(np.argmax(proved))
        radius = 0.0
        if needed > 0 and np.isfinite(right[k]):
            radius = radii[k] - (SAFE * below[k] - needed) / right[k]
        rate = low[k]
    # The integral's upper bound passes the least left side in step k, rising at the rate left[k].
    floor = 2 * np.sqrt(least) / (1 - epsilon)
    k = int(np.searchsorted(above, floor, side="right")) - 1
    starts = np.concatenate([[0.0], radii])
    fails_up_to = float(starts[k]) + _quotient(floor - above[k], left[k])
    fails_up_to = np.inf if left[k] == 0 else SAFE * fails_up_to
    verdict = "holds" if proved.any() else "fails" if fails_up_to >= radii[-1] else "undecided"
    return IntegralCriterion(
        verdict,
        value,
        float(needed),
        float(below[-1]),
        float(above[-1]),
        float(radius),
        float(rate),
        fails_up_to,
    )


def increasing_radii(value: Any) -> np.ndarray:
    """Return radii as a vector, positive and increasing, or raise with a clear sentence.

    For other modules of the package.
    """
    radii = np.atleast_1d(checks.finite_array(value, "radii"))
    if radii.ndim != 1 or radii[0] <= 0 or not (np.diff(radii) > 0).all():
        raise ValueError(f"radii must be positive and increasing, but are {checks.shown(radii)}.")
    return radii
