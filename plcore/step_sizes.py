"""The step-size theorems: Theorem 1.2 of the paper, and two sharper ones with their proofs.

Each function says how large a step the theorem admits, which rate it then promises, and which
hypothesis fails where one does; `guarantees.StepSize` holds the answer.

>>> from plcore.step_sizes import paper_step_size, sharp_step_size
>>> numbers = {"loss": 1.0, "alpha": 4.0, "radius": 3.0}  # x² from 1: L2 = β = 2
>>> paper = paper_step_size(**numbers, first=14.0, second=2.0, dimension=1)
>>> sharp = sharp_step_size(**numbers, curvature=2.0)
>>> print(f"{paper.largest:.3f} {sharp.largest:.3f}")
0.214 0.667
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import checks
from .guarantees import Inequality, StepSize

__all__ = ["integral_step_size", "paper_step_size", "sharp_step_size"]

# Where a strict inequality bounds ε, the best ε is approached, not attained: stay this far below.
_BELOW = 1 - 1e-6


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def paper_step_size(
    loss: float,
    alpha: float,
    radius: float,
    first: float,
    second: float,
    dimension: int,
    *,
    epsilon: float | None = None,
    step_size: float | None = None,
    best: str = "rate",
) -> StepSize:
    """Return what Theorem 1.2 of the paper says about gradient descent.

    Statement.  If 4 f(x_0) < (1−ε)² r² α with α = α(x_0, r) and some ε in (0, 1), and
    0 < η ≤ min{r/(L1 √p), 2ε/(L2 p)}, then gradient descent stays in B(x_0, r) and converges to a
    zero x* of f there, with f(x_k) ≤ (1−δ)^k f(x_0) and |x_k − x*| ≤ (1−δ)^{k/2} r.

    Assumptions.  f in C², f ≥ 0; L1 and L2 bound the absolute values of all first and all second
    partial derivatives on B(x_0, 2r).

    Constants.  δ = (1−ε)ηα.

    Reference.  Chatterjee, arXiv 2203.16462, Theorem 1.2; the best ε is ours.

    Given neither `epsilon` nor `step_size`, the function takes the ε and the η with the greatest
    δ, or with the greatest η.  With `epsilon` it takes the largest η for it; with `step_size` the
    least ε for that, 2ε = ηL2 p, which gives the greatest δ.

    Parameters
    ----------
    loss : float
        f(x_0) ≥ 0.
    alpha : float
        α(x_0, r), or a lower bound on it.
    radius : float
        r > 0.
    first, second : float
        L1 ≥ 0 and L2 > 0.
    dimension : int
        p.
    epsilon, step_size : float, optional
        One of the two may be prescribed.
    best : {"rate", "step"}
        What to make as large as possible where neither is.

    Returns
    -------
    StepSize

    Raises
    ------
    TypeError, ValueError
        If an argument is not a number of the stated sign, or both ε and η are prescribed.
    """
    radius = checks.positive_number(radius, "radius")
    first = checks.nonnegative_number(first, "first")
    second = checks.positive_number(second, "second")
    dimension = checks.positive_integer(dimension, "dimension")
    cap = math.inf if first == 0 else radius / (first * math.sqrt(dimension))
    return _conclude(
        "the paper's Theorem 1.2",
        _Profile.from_radius(loss, radius, alpha),
        second * dimension,
        "η < 2/(L2 p)",
        epsilon,
        step_size,
        best,
        cap,
    )


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def sharp_step_size(
    loss: float,
    alpha: float,
    radius: float,
    curvature: float,
    *,
    epsilon: float | None = None,
    step_size: float | None = None,
    best: str = "rate",
) -> StepSize:
    """Return what the dimension-free form of Theorem 1.2 says about gradient descent.

    Statement.  If 0 < η < 2/β and, with ε = ηβ/2, 4 f(x_0) < (1−ε)² r² α, then the conclusions of
    Theorem 1.2 hold.

    Assumptions.  f in C², f ≥ 0; β bounds the largest eigenvalue of ∇²f from above on
    {x in B(x_0, r): f(x) ≤ f(x_0)}.

    Constants.  δ = (1−ε)ηα, greatest at ε = min(½, 1−√κ) with κ = 4f(x_0)/(r²α); where that is
    1−√κ it is approached from below (by a millionth here).

    Reference.  Ours; statement and proof in the chapter on step sizes.

    Parameters and errors are those of `paper_step_size`, with ``curvature`` for β > 0.

    Returns
    -------
    StepSize
    """
    curvature = checks.positive_number(curvature, "curvature")
    profile = _Profile.from_radius(loss, radius, alpha)
    return _conclude("Theorem 1.2♯", profile, curvature, "η < 2/β", epsilon, step_size, best)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def integral_step_size(
    loss: float,
    radii: Any,
    alphas: Any,
    curvature: float,
    *,
    epsilon: float | None = None,
    step_size: float | None = None,
    best: str = "rate",
) -> StepSize:
    """Return what the integral form of Theorem 1.2♯ says about gradient descent.

    Statement.  Let 0 < η < 2/β and ε = ηβ/2.  If 2√f(x_0) < (1−ε) ∫₀^r √α(x_0, s) ds, let r* < r
    be the radius at which equality holds.  Then gradient descent stays in B(x_0, r*), its length
    is at most r*, and it converges to a zero x* of f there, with f(x_k) ≤ (1−δ)^k f(x_0) and
    |x_k − x*| ≤ min{(1−δ/2)^k r*, (1−δ)^{k/2} · 2√f(x_0)/((1−ε)√α(x_0, r*))}.

    Assumptions.  Those of `sharp_step_size`.

    Constants.  δ = (1−ε)ηα(x_0, r*).

    Reference.  Ours; statement and proof in the chapter on step sizes.

    Parameters and errors are those of `sharp_step_size`, except for the following.

    Parameters
    ----------
    loss : float
        f(x_0) ≥ 0.
    radii : array_like, shape (m,)
        0 < r_1 < … < r_m = r.
    alphas : array_like, shape (m,)
        Lower bounds on α(x_0, r_j).  As α falls with the radius, √α_j bounds √α(x_0, s) from below
        on [r_{j−1}, r_j], and the integral is a sum.
    curvature : float
        β > 0, for the largest radius.
    epsilon, step_size, best
        As in `paper_step_size`.

    Returns
    -------
    StepSize

    Examples
    --------
    >>> from plcore.step_sizes import integral_step_size
    >>> found = integral_step_size(1.0, [2.0, 3.0], [4.0, 1.0], curvature=2.0)
    >>> print(f"{found.largest:.3f}")  # 2 < (1 − ε)(2·2 + 1·1) for η = 2ε/β < 0.6
    0.600
    """
    curvature = checks.positive_number(curvature, "curvature")
    profile = _Profile.from_radii(loss, radii, alphas)
    return _conclude(
        "Theorem 1.2♯, integral form",
        profile,
        curvature,
        "η < 2/β",
        epsilon,
        step_size,
        best,
    )


@dataclass(frozen=True)
class _Profile:
    """f(x_0) and a step function below s ↦ √α(x_0, s), with its integral at the radii."""

    loss: float
    radii: np.ndarray
    roots: np.ndarray  # √α on [r_{j−1}, r_j], nonincreasing
    integrals: np.ndarray

    @classmethod
    def from_radius(cls, loss: float, radius: float, alpha: float) -> _Profile:
        """One radius; α = ∞ is allowed for f = 0."""
        if not (isinstance(alpha, float) and alpha == math.inf):
            alpha = checks.nonnegative_number(alpha, "alpha")
        return cls.from_radii(loss, [checks.positive_number(radius, "radius")], [alpha])

    @classmethod
    def from_radii(cls, loss: float, radii: Any, alphas: Any) -> _Profile:
        loss = checks.nonnegative_number(loss, "loss")
        radii = checks.finite_array(radii, "radii", ndim=1)
        alphas = checks.finite_array(alphas, "alphas", ndim=1, infinite=True)
        if alphas.shape != radii.shape:
            raise ValueError(
                f"There must be one alpha for each radius, but the shapes are {alphas.shape} and "
                f"{radii.shape}."
            )
        if (alphas < 0).any():
            raise ValueError(f"alphas must not be negative, but the least is {alphas.min()}.")
        if loss == 0:
            # Nothing moves; any finite constants do, also where f vanishes on a ball and α = ∞.
            alphas = np.where(np.isinf(alphas), 1.0, alphas)
        elif np.isinf(alphas).any():
            raise ValueError(
                "alpha can be infinite only where f vanishes on the ball, "
                f"but f at the start is {loss:.4g}."
            )
        gaps = np.diff(radii, prepend=0.0)
        if (gaps <= 0).any():
            raise ValueError("The radii must be positive and increasing.")
        # α falls with the radius, so a bound for a larger ball serves a smaller one.
        roots = np.sqrt(np.maximum.accumulate(alphas[::-1])[::-1])
        return cls(loss, radii, roots, np.cumsum(gaps * roots))

    def slack(self) -> np.ndarray:
        """For each r_j the ε up to which the run is sure to stay in B(x_0, r_j)."""
        need = 2 * math.sqrt(self.loss)
        with np.errstate(divide="ignore", invalid="ignore"):
            slack = 1 - need / self.integrals
        return np.where(self.integrals > 0, slack, -np.inf)

    def reach(self, epsilon: float) -> tuple[float, float]:
        """The radius r* with (1−ε) ∫₀^{r*} √α = 2√f(x_0), and √α there; ∞ and 0 if none."""
        need = 2 * math.sqrt(self.loss) / (1 - epsilon)
        if need >= self.integrals[-1]:
            return math.inf, 0.0
        j = int(np.searchsorted(self.integrals, need))
        before = self.integrals[j - 1] if j else 0.0
        inner = self.radii[j - 1] if j else 0.0
        return float(inner + (need - before) / self.roots[j]), float(self.roots[j])

    def distance_decay(
        self, reach: float, root: float, delta: float, part: float
    ) -> tuple[tuple[float, float], ...]:
        """Pairs (c, q) with |x_k − x*| ≤ c q^k, each."""
        if self.radii.size == 1:
            return ((float(self.radii[0]), math.sqrt(1 - delta)),)
        tail = 2 * math.sqrt(self.loss) / (part * root)
        return (reach, 1 - delta / 2), (tail, math.sqrt(1 - delta))


def _choose(profile: _Profile, ceiling: float, best: str) -> float:
    """The best ε ≤ `ceiling` where none is prescribed; 0 if no step size is admissible."""
    slack = np.clip(np.minimum(profile.slack() * _BELOW, min(ceiling, _BELOW)), 0, None)
    if best == "step":
        return float(slack.max())
    # For runs that stay within r_j: δ = (1−ε)(2ε/C)α_j grows with ε up to ½.
    slack = np.minimum(slack, 0.5)
    return float(slack[(slack * (1 - slack) * profile.roots**2).argmax()])


def _conclude(
    theorem: str,
    profile: _Profile,
    curvature: float,
    step_statement: str,
    epsilon: float | None,
    step_size: float | None,
    best: str,
    cap: float = math.inf,
) -> StepSize:
    """Apply a theorem: all three are one statement about √α, a curvature C and a cap on η."""
    checks.one_of(best, ("rate", "step"), "best")
    if epsilon is not None and step_size is not None:
        raise ValueError("epsilon and step_size cannot both be prescribed: one sets the other.")
    if step_size is not None:
        eta = checks.positive_number(step_size, "step_size")
        eps = 0.5 * eta * curvature
    else:
        if epsilon is not None:
            eps = checks.fraction(epsilon, "epsilon")
        else:
            eps = _choose(profile, 0.5 * cap * curvature, best)
        eta = min(cap, 2 * eps / curvature)
    part, whole = max(1 - eps, 0.0), float(profile.integrals[-1])
    hypotheses = [Inequality(step_statement, eta, 2 / curvature)]
    if math.isfinite(cap):
        hypotheses.append(Inequality("η ≤ r/(L1 √p)", eta, cap, strict=False))
    if profile.radii.size == 1:
        name, left, right = (
            "4 f(x₀) < (1−ε)² r² α",
            4 * profile.loss,
            (part * whole) * (part * whole),
        )
    else:
        name = "2 √f(x₀) < (1−ε) ∫₀ʳ √α(x₀, s) ds"
        left, right = 2 * math.sqrt(profile.loss), part * whole
    hypotheses.append(Inequality(name, left, right))
    reach, delta = math.inf, 0.0
    decay: tuple[tuple[float, float], ...] = ()
    if eta > 0 and all(hypothesis.holds for hypothesis in hypotheses):
        reach, root = profile.reach(eps)
        delta = part * eta * root * root
        if profile.loss > 0:
            # δ ≤ 1 is part of the conclusion, so more than that refutes α or the curvature.
            hypotheses.append(Inequality("(1−ε) η α ≤ 1", delta, 1 + 1e-12, strict=False))
        if hypotheses[-1].holds:
            delta = min(delta, 1.0)  # without loss nothing moves, and every δ is true
            decay = profile.distance_decay(reach, root, delta, part)
        else:
            reach, delta = math.inf, 0.0
    return StepSize(
        theorem=theorem,
        hypotheses=tuple(hypotheses),
        step_size=eta,
        largest=max(min(cap, 2 / curvature * float(profile.slack()[-1])), 0.0),
        epsilon=eps,
        delta=delta,
        loss=profile.loss,
        radius=float(profile.radii[-1]),
        reach=reach,
        curvature=curvature,
        distance_decay=decay,
    )
