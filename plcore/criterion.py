"""The local PL constant, the criterion of the paper and the integral criterion.

With B(x_0, r) the closed Euclidean ball, f ≥ 0, and ∞ for the infimum of nothing,

    (T1)   α(x_0, r) = inf { |∇f(x)|²/f(x) : x in B(x_0, r), f(x) ≠ 0 },
    (1.1)  4 f(x_0) < r² α(x_0, r)                 for some r > 0   [Chatterjee],
    (T2)   2 √f(x_0) < ∫₀^r √α(x_0, s) ds          for some r > 0   [ours].

α falls as r grows, so that r √α(x_0, r) ≤ ∫₀^r √α(x_0, s) ds: (1.1) implies (T2).

>>> from plcore import criterion, toys
>>> found = criterion.criterion(toys.ring, [0.9, 0.0])  # f = (x² + y² − 1)²
>>> print(f"{found.verdict}: 4f/(r²α) = {found.kappa:.2f} at {found.radius:.2f}")
holds: 4f/(r²α) = 0.22 at 0.45
>>> criterion.criterion(toys.ring, [0.1, 0.0]).verdict
'fails'
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import checks
from .boxes import least_over_balls
from .objectives import Objective
from .results import Bound, Estimate, Result
from .verdicts import (
    Criterion,
    IntegralCriterion,
    criterion_from_bounds,
    increasing_radii,
    integral_criterion_from_bounds,
)

__all__ = [
    "Criterion",
    "IntegralCriterion",
    "PLConstant",
    "PLSearch",
    "criterion",
    "criterion_from_bounds",
    "integral_criterion",
    "integral_criterion_from_bounds",
    "pl_constant",
    "pl_constant_search",
]

_NO_SHOW: dict[str, Any] = {"show": False}


# -- the local PL constant ----------------------------------------------------------------------


@dataclass(frozen=True)
class PLSearch(Estimate):
    """The least PL ratio that a search found in a ball: α is at most `value`, to rounding.

    Attributes
    ----------
    value : float
        The least ratio found.
    quantity, method : str
        What it is and where it comes from.
    point : numpy.ndarray, shape (p,)
        Where it was found.
    """

    point: np.ndarray = field(metadata=_NO_SHOW)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def pl_constant_search(
    objective: Objective,
    center: Any,
    radius: float,
    rng: np.random.Generator,
    *,
    starts: int = 64,
    steps: int = 200,
) -> PLSearch:
    """Search the ball B(center, radius) for the least ratio |∇f|²/f: α (T1) from above.

    Spectral projected gradient (Birgin, Martínez and Raydan 2000) on log(|∇f|²/f), whose gradient
    is 2∇²f∇f/|∇f|² − ∇f/f, from many starts at once: the centre, and points spread evenly over the
    sphere and the ball.  Points where f is below 10⁻¹² of its greatest value among the starts are
    left out, because rounding rules there.

    Parameters
    ----------
    objective : Objective
        Of any dimension; it needs a gradient and a Hessian-vector product.
    center : array_like, shape (p,)
    radius : float
        Positive.
    rng : numpy.random.Generator
        Draws the starts.
    starts, steps : int
        Number of starts and of descent steps.  The cost is starts × steps Hessian products.

    Returns
    -------
    PLSearch
        The value is ∞ if f vanishes at all points that were tried.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> from plcore import criterion, toys
    >>> rng = np.random.default_rng(0)
    >>> found = criterion.pl_constant_search(toys.ring, [0.9, 0.0], 0.4, rng)
    >>> print(f"{found.value:.4f}")  # exactly: 16 (0.9 − 0.4)² = 4
    4.0000
    """
    center = one_point(objective, center, "center")
    radius = checks.positive_number(radius, "radius")
    checks.generator(rng)
    starts, steps = (
        checks.positive_integer(number, name)
        for number, name in ((starts, "starts"), (steps, "steps"))
    )
    p = objective.dimension
    direction = rng.standard_normal((starts, p))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    depth = np.where(np.arange(starts) % 2, 1.0, rng.uniform(size=starts) ** (1 / p))
    x = center + radius * np.vstack([np.zeros(p), direction * depth[:, None]])
    floor = 1e-12 * objective.value(x).max()
    value, turn = _log_ratio(objective, x, floor)
    best, where = value, x
    recent = np.full((8, starts + 1), value)
    length = 0.1 * radius / np.maximum(np.linalg.norm(turn, axis=1), 1e-300)
    for step in range(steps):
        offset = x - length[:, None] * turn - center
        size = np.maximum(np.linalg.norm(offset, axis=1), radius)
        trial = center + offset * (radius / size)[:, None]
        value_trial, turn_trial = _log_ratio(objective, trial, floor)
        # Barzilai and Borwein's length, with a fall below the greatest of the last few values.
        move, change = trial - x, turn_trial - turn
        bend = (move * change).sum(axis=1)
        longer = np.square(move).sum(axis=1) / np.where(bend > 0, bend, 1.0)
        accepted = value_trial < recent.max(axis=0)
        length = np.where(accepted, np.where(bend > 0, longer, 4 * length), 0.25 * length)
        x, turn = (np.where(accepted[:, None], *pair) for pair in ((trial, x), (turn_trial, turn)))
        value = np.where(accepted, value_trial, value)
        recent[step % 8] = value
        length = np.minimum(length, radius / np.maximum(np.linalg.norm(turn, axis=1), 1e-300))
        better = value < best
        best, where = np.where(better, value, best), np.where(better[:, None], x, where)
    winner = int(np.argmin(best))
    method = f"projected gradients from {starts} random points and the centre; from above"
    return PLSearch(float(np.exp(best[winner])), _quantity(radius), method, where[winner])


def _log_ratio(objective: Objective, x: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return log(|∇f|²/f), ∞ where f ≤ `floor`, and its gradient, 0 where there is none."""
    f, slope = objective.value_and_gradient(x)
    square = np.square(slope).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value = np.where(f > floor, np.log(square / f), np.inf)
        turn = 2 * objective.hessian_vector(x, slope) / square[:, None] - slope / f[:, None]
    return value, np.where(np.isfinite(turn).all(axis=1)[:, None], turn, 0.0)


def _quantity(radius: float) -> str:
    return f"α(x0, {radius:.4g})"


@dataclass(frozen=True)
class PLConstant(Result):
    """Proved enclosures lower ≤ α(x_0, r) ≤ upper for a growing family of radii.

    Attributes
    ----------
    center : numpy.ndarray, shape (p,)
        x_0.
    radii : numpy.ndarray, shape (m,)
        Positive and increasing.
    lower, upper : numpy.ndarray, shape (m,)
        The bounds on α at each radius.
    boxes : int
        How many boxes the proof looked at.
    """

    center: np.ndarray
    radii: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    boxes: int = field(metadata=_NO_SHOW)

    def bound(self, direction: str, index: int = -1) -> Bound:
        """Return the "lower" or "upper" bound at one radius, the largest by default."""
        checks.one_of(direction, ("lower", "upper"), "direction")
        value, radius = float(getattr(self, direction)[index]), float(self.radii[index])
        reason = f"interval arithmetic on {self.boxes} boxes"
        return Bound(value, direction, _quantity(radius), reason)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def pl_constant(
    objective: Objective,
    center: Any,
    radii: Any,
    *,
    tolerance: float = 1e-3,
    box_limit: int = 400_000,
) -> PLConstant:
    """Enclose α(x_0, r) (T1) rigorously, for many radii in one branch and bound.

    Parameters
    ----------
    objective : Objective
        With `ratio_lower` and `ratio_upper`, as `toys.Formula` has them.
    center : array_like, shape (p,)
    radii : float or array_like, shape (m,)
        Positive and increasing.
    tolerance : float, default 1e-3
        Stop when ``upper - lower <= tolerance * upper + tolerance**2 * upper[0]`` at all radii.
    box_limit : int
        Stop after about this many boxes; the bounds are then wider, and still proved.

    Returns
    -------
    PLConstant

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range, or the objective has no bounds on boxes.

    Examples
    --------
    >>> from plcore import criterion, toys
    >>> found = criterion.pl_constant(toys.bowl(1.0, 4.0), [1.0, 0.0], [0.5, 1.0])
    >>> bool((found.lower <= 4).all() and (4 <= found.upper).all())  # α = 4 min(1, 4)
    True
    """
    needs_boxes(objective)
    center = one_point(objective, center, "center")
    radii = increasing_radii(radii)
    tolerance = checks.fraction(tolerance, "tolerance")
    box_limit = checks.positive_integer(box_limit, "box_limit")
    lower, upper, boxes = least_over_balls(
        objective.ratio_lower,  # type: ignore[attr-defined]
        objective.ratio_upper,  # type: ignore[attr-defined]
        center,
        radii,
        tolerance=tolerance,
        box_limit=box_limit,
    )
    return PLConstant(center, radii, lower, upper, boxes)


def needs_boxes(objective: Any) -> None:
    """Raise a TypeError if the objective has no proved bounds on boxes."""
    if not (hasattr(objective, "ratio_lower") and hasattr(objective, "ratio_upper")):
        raise TypeError(
            "objective must offer bounds on boxes, as plcore.toys.Formula does, but is "
            f"{objective!r}; pl_constant_search takes any objective."
        )


def one_point(objective: Objective, value: Any, name: str) -> np.ndarray:
    """Return `value` as one point of the objective's space, or raise with a clear sentence."""
    checks.instance(objective, Objective, "objective")
    point = objective.check_point(value, name)
    if point.ndim != 1:
        raise ValueError(f"{name} must be one point, but has shape {point.shape}.")
    return point


def criterion(
    objective: Objective, start: Any, radii: Any = None, *, tolerance: float = 1e-3
) -> Criterion:
    """Decide the paper's criterion (1.1) at a start, rigorously.

    Parameters
    ----------
    objective : Objective
        With bounds on boxes, as for `pl_constant`.
    start : array_like, shape (p,)
        The point x_0.
    radii : array_like, shape (m,), optional
        Where to look; by default from a fraction of 2f/|∇f|, below which (1.1) cannot hold, to 32
        times that.
    tolerance : float
        As for `pl_constant`.

    Returns
    -------
    Criterion

    Raises
    ------
    TypeError, ValueError
        As `pl_constant`.

    Examples
    --------
    >>> from plcore import criterion, toys
    >>> found = criterion.criterion(toys.quartic, [1.0])  # f = x⁴: no radius will do
    >>> found.verdict
    'fails'
    """
    value, ratio, constant = _constant_at(objective, start, radii, tolerance)
    return criterion_from_bounds(value, constant.radii, constant.lower, constant.upper, ratio=ratio)


def integral_criterion(
    objective: Objective,
    start: Any,
    radii: Any = None,
    *,
    epsilon: float = 0.0,
    tolerance: float = 1e-3,
) -> IntegralCriterion:
    """Decide the integral criterion (T2) at a start, rigorously.

    The denser the radii, the closer the sums are to the integral.  Parameters and errors as
    `criterion`; `epsilon` as for `integral_criterion_from_bounds`.

    Examples
    --------
    >>> from plcore import toys
    >>> from plcore.criterion import criterion, integral_criterion
    >>> tests = criterion, integral_criterion
    >>> [test(toys.ring, [0.75, 0.0]).verdict for test in tests]
    ['fails', 'holds']
    """
    value, ratio, constant = _constant_at(objective, start, radii, tolerance)
    return integral_criterion_from_bounds(
        value, constant.radii, constant.lower, constant.upper, ratio=ratio, epsilon=epsilon
    )


def _constant_at(
    objective: Any, start: Any, radii: Any, tolerance: float
) -> tuple[tuple[float, float], float, PLConstant]:
    """Return bounds on f(x_0), an upper bound on |∇f(x_0)|²/f(x_0), and α around x_0."""
    needs_boxes(objective)
    start = one_point(objective, start, "start")
    box = objective.enclose(start, start).value
    if radii is None:
        f, slope = objective.value_and_gradient(start)
        size = float(np.linalg.norm(slope))
        scale = 2 * float(f) / size if f > 0 and size > 0 else 1.0
        radii = scale * np.concatenate([np.arange(1, 16) / 16, np.geomspace(1, 32, 51)])
    constant = pl_constant(objective, start, radii, tolerance=tolerance)
    return (float(box.low), float(box.high)), float(objective.ratio_upper(start)), constant
