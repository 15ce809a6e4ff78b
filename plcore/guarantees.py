"""What a step-size theorem promises about gradient descent, and whether a run kept it.

>>> from plcore.guarantees import Inequality
>>> print(Inequality("η < 2/β", 0.5, 1.0))
holds: 0.5 against 1, 2 times
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import checks
from .results import Result, format_value

__all__ = ["DescentCheck", "Inequality", "StepSize"]


@dataclass(frozen=True)
class Inequality:
    """An inequality that a theorem assumes.

    Attributes
    ----------
    statement : str
        In symbols.
    left, right : float
        Its two sides.
    strict : bool
        Whether equality is ruled out.
    """

    statement: str
    left: float
    right: float
    strict: bool = True

    @property
    def holds(self) -> bool:
        """Whether the inequality holds, in floating-point arithmetic."""
        return self.left < self.right or (not self.strict and self.left == self.right)

    @property
    def margin(self) -> float:
        """How many times the right side is as large as the left."""
        return math.inf if self.left == 0 else self.right / self.left

    def __str__(self) -> str:
        """Return the two sides, the verdict and the margin."""
        verdict = "holds" if self.holds else "FAILS"
        times, excess = f"{self.margin:.3g}", self.margin - 1
        if 0 < abs(excess) < 5e-3:
            times = f"1 {'+' if excess > 0 else '-'} {abs(excess):.1g}"
        sides = f"{format_value(self.left)} against {format_value(self.right)}"
        return f"{verdict}: {sides}, {times} times"


@dataclass(frozen=True)
class DescentCheck(Result):
    """Whether a run kept both bounds of a step-size theorem.

    Attributes
    ----------
    holds : bool
        Whether both bounds held at every step, the rounding of float64 allowed for.
    loss_ratio, distance_ratio : float
        The largest ratio of what was seen to the bound, over the steps where the bound is well
        above rounding: at most 1 where the theorem holds, and the nearer to 1 the tighter.
    steps : int
        Steps compared.
    steps_at_rounding : int
        Those at which the loss bound had sunk into rounding, which says nothing more.
    """

    holds: bool
    loss_ratio: float
    distance_ratio: float
    steps: int
    steps_at_rounding: int


@dataclass(frozen=True)
class StepSize(Result):
    """What a step-size theorem says about gradient descent from one start.

    Attributes
    ----------
    theorem : str
        Which theorem.
    hypotheses : tuple of Inequality
        All that it assumes of the numbers given.
    step_size : float
        η; 0 where none was asked for and none is admissible.
    largest : float
        The supremum of the admissible step sizes; 0 where there are none.
    epsilon : float
        ε, the part of the decrease given up to curvature.
    delta : float
        δ of f(x_k) ≤ (1 − δ)^k f(x_0); 0 where a hypothesis fails, so that nothing is promised.
    loss : float
        f(x_0).
    radius : float
        r: the run stays within this distance of x_0.
    reach : float
        The length of the run is at most this, and less than `radius`; ∞ if a hypothesis fails.
    curvature : float
        The bound C on the second derivative along every segment of the run.
    distance_decay : tuple of (float, float)
        Pairs (c, q) with |x_k − x*| ≤ c q^k, each.
    """

    theorem: str = field(metadata={"show": False})
    hypotheses: tuple[Inequality, ...] = field(repr=False, metadata={"show": False})
    step_size: float
    largest: float
    epsilon: float
    delta: float
    loss: float
    radius: float
    reach: float
    curvature: float
    distance_decay: tuple[tuple[float, float], ...] = field(repr=False, metadata={"show": False})

    @property
    def applies(self) -> bool:
        """Whether every hypothesis holds."""
        return all(hypothesis.holds for hypothesis in self.hypotheses)

    def _title(self) -> str:
        return f"Step size by {self.theorem}"

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield from super()._rows()
        yield "applies", format_value(self.applies)
        for hypothesis in self.hypotheses:
            yield hypothesis.statement, str(hypothesis)

    def loss_bound(self, steps: Any) -> np.ndarray:
        """Return (1 − δ)^k f(x_0) for step numbers k, an integer or an array of them."""
        k = _step_numbers(steps)
        return self.loss * (1 - self.delta) ** k

    def distance_bound(self, steps: Any) -> np.ndarray:
        """Return the bound on |x_k − x*| for step numbers k, an integer or an array of them.

        That is (1 − δ)^{k/2} r for the theorems with one radius.  It bounds |x_k − x_m| for every
        m ≥ k as well, because it bounds the length that is still to come.
        """
        k = _step_numbers(steps)
        bounds = [scale * factor**k for scale, factor in self.distance_decay]
        return np.min(bounds, axis=0) if bounds else np.full(k.shape, np.inf)

    def steps_to(self, loss: float) -> float:
        """Return the number of steps after which f(x_k) ≤ `loss` is proved; ∞ if never.

        Raises
        ------
        TypeError, ValueError
            If `loss` is not a positive number.
        """
        loss = checks.positive_number(loss, "loss")
        if loss >= self.loss:
            return 0.0
        if self.delta == 0:
            return math.inf
        if self.delta == 1:
            return 1.0
        return float(math.ceil(math.log(loss / self.loss) / math.log1p(-self.delta)))

    def check(self, losses: Any, path: Any, limit: Any = None) -> DescentCheck:
        """Compare both bounds of the theorem with a recorded run.

        Rounding is allowed for as follows.  Each step is off by a few units u of the point's own
        rounding; √f has the slope √(C/2) at most where f ≥ 0 and the curvature is at most C; and
        what was off at one step shrinks by √(1 − δ) at each later one.  So √f may exceed its
        bound by 4 √p u (|x_0| + r) √(C/2) min(k + 1, 2/δ), with u = 2⁻⁵², and by the relative
        error that the rounding of δ makes in (1 − δ)^k; and no more.

        Parameters
        ----------
        losses : array_like, shape (steps + 1,)
            f(x_0), f(x_1), …
        path : array_like, shape (steps + 1, p)
            x_0, x_1, …
        limit : array_like, shape (p,), optional
            The limit x* where it is known.  The last point otherwise: the theorem's bound on
            |x_k − x*| bounds |x_k − x_m| for every m ≥ k too, so the check stays a fair one.

        Returns
        -------
        DescentCheck

        Raises
        ------
        ValueError
            If a hypothesis of the theorem fails, the shapes do not fit, or a value is not finite.

        Examples
        --------
        >>> from plcore import gradient_descent, toys
        >>> from plcore.step_sizes import sharp_step_size
        >>> said = sharp_step_size(1.0, 4.0, 3.0, curvature=2.0)  # f = x² from x_0 = 1
        >>> eta = said.step_size
        >>> run = gradient_descent(toys.parabola, [1.0], eta, 20, record_path=True)
        >>> said.check(run.losses, run.path).holds
        True
        """
        if not self.applies:
            failed = "; ".join(h.statement for h in self.hypotheses if not h.holds)
            raise ValueError(f"{self.theorem} promises nothing here, because this fails: {failed}.")
        losses = checks.finite_array(losses, "losses", ndim=1)
        path = checks.finite_array(path, "path", ndim=2)
        if path.shape[0] != losses.size:
            raise ValueError(
                f"losses and path must belong to the same steps, but their shapes are "
                f"{losses.shape} and {path.shape}."
            )
        dimension = path.shape[1]
        if limit is None:
            limit = path[-1]
        else:
            limit = checks.finite_array(limit, "limit", ndim=1, last=dimension)
        k = np.arange(losses.size)
        distance = np.linalg.norm(path - limit, axis=1)
        unit = 4 * math.sqrt(dimension) * np.finfo(float).eps
        size = float(np.linalg.norm(path[0])) + self.radius
        steady = np.minimum(k + 1, 2 / max(self.delta, 1e-300))
        drift = unit * size * steady
        loss_drift = math.sqrt(self.curvature / 2) * drift
        root, root_bound = np.sqrt(losses), np.sqrt(self.loss_bound(k))
        distance_bound = self.distance_bound(k)
        # δ itself is rounded, which moves (1 − δ)^k by this factor.
        relative = 1 + unit * (k + 1) / max(1 - self.delta, 1e-8)
        kept = (root <= root_bound * relative + loss_drift) & (
            distance <= distance_bound * relative + drift
        )
        # A ratio means something while rounding could change it by a thousandth at most.
        clear = root_bound > 2e3 * loss_drift
        near = distance_bound > 1e3 * drift
        return DescentCheck(
            holds=bool(kept.all()),
            loss_ratio=float(np.max((root[clear] / root_bound[clear]) ** 2, initial=0.0)),
            distance_ratio=float(np.max(distance[near] / distance_bound[near], initial=0.0)),
            steps=int(losses.size),
            steps_at_rounding=int((~clear).sum()),
        )


def _step_numbers(steps: Any) -> np.ndarray:
    k = checks.finite_array(steps, "steps")
    if (k < 0).any():
        raise ValueError(f"steps must not be negative, but the least is {k.min()}.")
    return k
