"""The search for a certificate: a proof, for one network, that descent from here will converge.

`certify` tries every argument of `jacobian_bounds` at many radii, chooses the best, and returns a
`Certificate` or, naming what failed and by how much, a `NotShown`.  It works in floating point
with a margin for rounding; `verification` proves its result in ball arithmetic.

>>> import numpy as np, plcore
>>> network = plcore.FeedForward((3, 5, 1), plcore.activations.tanh)
>>> problem = plcore.LeastSquares(network, np.eye(3), [1.0, -1.0, 2.0])
>>> start = plcore.initialization.positive(network, output_scale=1.0)
>>> run = plcore.gradient_descent(problem, start, 0.1, 60, record_path=True)
>>> [plcore.certify(problem, w).shown for w in run.path[[0, -1]]]
[False, True]
>>> plcore.certificates.first_certified(problem, run.path, range(0, 61, 10))[0]
10
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from . import checks, jacobian_bounds
from .bounds import ball_bounds
from .claims import FRACTIONS, Certificate, NotShown, digest
from .guarantees import Inequality
from .hypotheses import activations_smooth
from .jacobian_expansion import ROUNDS, Expansion
from .objectives import LeastSquares
from .positive_start_bounds import positive_start_bounds

__all__ = ["certify", "first_certified"]

# Bounds α itself at a positive start; `verification` has no proof of it in ball arithmetic.
POSITIVE_START = "positive start"
# The radii of the first look, over ten decades, and the numbers of radii of a certificate.
_SCALES = 2.0 ** np.arange(-30.0, 5.0)
_COUNTS = (1, 2, 4, 8, 16, 32)
# Rounds of the parameters' search while looking for the radius.
_LOOK = 8
# A certificate with fewer radii is quicker to verify; this part of the best rate will do.
_GOOD_RATE = 0.9
# Room for the rounding of the search and for the width of the balls of the verification.
_ABOVE, _BELOW = 1 + 1e-9, 1 - 1e-9


@dataclass(frozen=True)
class _Situation:
    """What does not depend on the radius or the argument."""

    problem: LeastSquares
    w: np.ndarray
    residual: float
    size: float  # ‖J(w)‖

    @cached_property
    def expansion(self) -> Expansion | None:
        """What "any n" computes once for all radii."""
        return jacobian_bounds.expanded(self.problem, self.w)

    def singular_values(self, argument: str, radii: np.ndarray, rounds: int = ROUNDS) -> np.ndarray:
        """Return m_j with a margin for rounding."""
        if argument == POSITIVE_START:
            found = positive_start_bounds(
                self.problem.network, self.problem.X, self.problem.y, self.w, radii
            )
            bounds = np.sqrt(self.problem.size / 4 * found.alphas)  # α = (4/n) m²
        elif argument == "any n" and self.expansion is not None:
            bounds = jacobian_bounds.expansion_bounds(self.expansion, radii, rounds)
        else:
            bounds = jacobian_bounds.BOUNDS[argument](self.problem, self.w, radii)
        return np.maximum(_BELOW * bounds - 1e-12 * self.size, 0.0)

    @np.errstate(over="ignore", invalid="ignore")  # no rate is shown where β is no number
    def curvatures(self, radii: np.ndarray) -> np.ndarray:
        """Return β on {v in B(w, r): S(v) ≤ S(w)} for each radius."""
        found = ball_bounds(self.problem.network, self.w, self.problem.X, radii)
        H = found.hessian
        jacobian = np.minimum(found.jacobian, self.size + H * radii)  # J is H-Lipschitz
        return _ABOVE * 2 / self.problem.size * (jacobian**2 + self.residual * H)

    def rates(
        self, reached: np.ndarray, least: np.ndarray, radii: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return ε, β and δ for each radius, from Σ m_j (s_j − s_{j−1}) and m there; δ ≥ 0."""
        with np.errstate(divide="ignore"):
            most = 1 - self.residual / np.maximum(reached, np.finfo(np.float64).tiny)
        # Of ε, (1 − ε) ε is greatest at ½; closer than this to equality is not shown.
        slack = np.where(most > 1e-6, np.minimum(0.5, (1 - 1e-6) * most), 0.0)
        beta = self.curvatures(radii)
        eta = (1 - 1e-12) * 2 * slack / beta
        rate = (1 - 1e-12) * (1 - slack) * eta * (4 / self.problem.size) * least**2
        return slack, beta, rate


def certify(
    problem: LeastSquares, w: Any, *, arguments: Sequence[str] | None = None
) -> Certificate | NotShown:
    """Search for a proof that gradient descent from w converges to a zero of the squared loss.

    Statement.  If m(s) ≤ σ_min(J(v)) for every v in B(w, s), e is the residual and

        (T7)  |e(w)| < (1 − ε) ∫₀^r m(s) ds,

    and β bounds λ_max(∇²S) on {v in B(w, r): S(v) ≤ S(w)}, then there is a zero of S in B(w, r),
    and descent from w with a step size η ≤ 2ε/β converges to one, with
    S(w_k) ≤ (1 − δ)^k S(w), δ = (1 − ε) η (4/n) m(r)².

    Assumptions.  Any feedforward network with scalar output and smooth activations, any data.

    Constants.  m is the best of the functions of `jacobian_bounds`, the integral is bounded by
    right end points, and r and ε are those with the best rate.  For a positive start,
    `positive_start_bounds` bounds α itself, and m = √(nα/4).

    Parameters
    ----------
    problem : LeastSquares
        With one data set.
    w : array_like, shape (p,)
        The weights; `network.pack` makes them from a list of layers.
    arguments : sequence of str, optional
        Which of "plain", "first layer", "any n" and "positive start" to try.  If left out, the
        first three, which `verification` can prove in ball arithmetic; and if none of them does,
        at a positive start the fourth, whose certificate stays one of floating point.

    Returns
    -------
    Certificate or NotShown
        Its attribute ``shown`` is True for the one and False for the other.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape, or `w` has an entry that is not finite.

    References
    ----------
    Ours: (T2) with α ≥ (4/n) m², and Theorem 1.2♯.
    """
    prepared = _prepare(problem, w, arguments)
    if isinstance(prepared, NotShown):
        return prepared
    situation, tried = prepared
    best, most, overflows = None, [], []
    if arguments is None and not _obstacle(problem, situation.w, POSITIVE_START):
        tried = (*tried, POSITIVE_START)
    for argument in tried:
        if argument == POSITIVE_START and arguments is None and best is not None:
            break  # what `verification` can prove comes first
        try:
            found, inequality = _search(situation, argument)
        except OverflowError as error:
            overflows.append(str(error))
            continue
        most.append(inequality)
        if found is not None and (best is None or found.rate > best.rate):
            best = found
    if best is not None:
        return best
    if not most:
        return NotShown(overflows[0])
    closest = min(most, key=lambda inequality: inequality.left / max(inequality.right, 1e-300))
    if closest.right == 0:
        return NotShown(
            "No radius is left on which σ_min(J) could be bounded away from zero, although it is "
            "positive at w.",
            tuple(most),
        )
    times = closest.left / closest.right
    return NotShown(
        f"|e(w)| = {closest.left:.4g} is {times:.3g} times the most that the best argument allows, "
        f"{closest.right:.4g}; as a loss, {closest.left**2 / problem.size:.3g} against "
        f"{closest.right**2 / problem.size:.3g}.",
        tuple(most),
    )


def _prepare(
    problem: LeastSquares, w: Any, arguments: Sequence[str] | None
) -> tuple[_Situation, tuple[str, ...]] | NotShown:
    """Check the arguments and the hypotheses that no radius can mend."""
    checks.instance(problem, LeastSquares, "problem")
    if problem.X.ndim != 2 or problem.y.ndim != 1:
        raise ValueError(
            "problem must have one data set, but X and y have shapes "
            f"{problem.X.shape} and {problem.y.shape}."
        )
    w = problem.check_point(checks.finite_array(w, "w", ndim=1))
    if arguments is None:
        arguments = tuple(jacobian_bounds.BOUNDS)
    if not (tried := checks.sequence(arguments, "arguments", "names of arguments")):
        raise ValueError("arguments must name at least one argument, but is empty.")
    for name in tried:
        checks.one_of(name, (*jacobian_bounds.BOUNDS, POSITIVE_START), "each of arguments")
    network, n, p = problem.network, problem.size, problem.dimension
    smooth = activations_smooth(network)
    if not smooth.holds:
        return NotShown(smooth.detail)
    if n > p:
        return NotShown(
            f"The Jacobian must have full row rank n, but n = {n} samples exceed the "
            f"p = {p} parameters.",
            (Inequality("n ≤ p", n, p, strict=False),),
        )
    try:
        residual = problem.residual(w)
        singular = np.linalg.svd(problem.jacobian(w), compute_uv=False)
        with np.errstate(over="ignore"):
            length = math.hypot(*residual)  # also where the squares underflow
            scale = np.linalg.norm(problem.y) + np.linalg.norm(residual + problem.y)
            checks.within_range(np.square(length + scale), "The loss")
    except OverflowError as error:
        return NotShown(str(error))
    floor = max(n, p) * np.finfo(np.float64).eps * float(singular[0])
    if singular[-1] <= floor:
        return _rank_deficient(problem, singular, floor)
    residual_bound = float(length * (1 + 1e-12) + 1e-14 * scale)
    obstacles = {name: _obstacle(problem, w, name) for name in tried}
    tried = tuple(name for name in tried if not obstacles[name])
    if not tried:
        return NotShown(" ".join(obstacles.values()))
    return _Situation(problem, w, residual_bound, float(singular[0])), tried


def _obstacle(problem: LeastSquares, w: np.ndarray, argument: str) -> str:
    """Return why an argument cannot say anything here, as a sentence; empty if it can."""
    n, d = problem.X.shape
    if argument == "first layer" and n > d + 1:
        return f"The first-layer argument needs n ≤ d + 1, but n = {n} exceeds d + 1 = {d + 1}."
    try:
        if argument == "any n":
            jacobian_bounds.check_expandable(problem)
        if argument == POSITIVE_START:
            positive_start_bounds(problem.network, problem.X, problem.y, w, [1.0])
    except (ValueError, OverflowError) as error:
        return str(error)
    return ""


def _rank_deficient(problem: LeastSquares, singular: np.ndarray, floor: float) -> NotShown:
    order = np.lexsort(problem.X.T)
    same = np.flatnonzero((np.diff(problem.X[order], axis=0) == 0).all(axis=1))
    cause = ""
    if same.size:
        one, other = sorted(int(order[same[0] + shift]) for shift in (0, 1))
        cause = f": samples {one} and {other} have the same input"
    return NotShown(
        "The Jacobian must have full row rank n, but its least singular value is "
        f"{singular[-1]:.3g}, zero up to rounding beside the greatest, {singular[0]:.3g}{cause}.",
        (Inequality("rounding < σ_min(J(w))", floor, float(singular[-1])),),
    )


def _search(situation: _Situation, argument: str) -> tuple[Certificate | None, Inequality]:
    """Return the best certificate by one argument, and how far (T7) is from failing."""
    e, name = situation.residual, f"({argument})"
    radii = _candidates(situation, argument)
    if radii is None:
        return None, Inequality(f"|e(w)| < ∫m {name}", e, 0.0)
    m = situation.singular_values(argument, radii, _LOOK)
    reached = np.cumsum(m * np.diff(radii, prepend=0.0))
    rates = situation.rates(reached, m, radii)[2]
    best: Certificate | None = None
    if rates.max() > 0:
        far, enough = float(radii[int(rates.argmax())]), _GOOD_RATE * float(rates.max())
        for count in _COUNTS:
            found = _conclude(situation, argument, _evenly(far, count))
            if found is not None and (best is None or found.rate > best.rate):
                best = found
            if best is not None and best.rate >= enough:
                break
    far = float(radii[max(int(np.count_nonzero(m)) - 1, 0)])
    most = float(reached[-1])
    if best is None:
        fine = _evenly(far, _COUNTS[-1])
        best = _conclude(situation, argument, fine)
        most = max(most, float(situation.singular_values(argument, fine).sum() * fine[0]))
    return best, Inequality(f"|e(w)| < ∫m up to r = {far:.3g} {name}", e, most)


def _evenly(radius: float, count: int) -> np.ndarray:
    return radius * np.arange(1, count + 1) / count


def _candidates(situation: _Situation, argument: str) -> np.ndarray | None:
    """Return radii of all sizes up to where m vanishes, denser where the integral grows."""
    m = situation.singular_values(argument, _SCALES, _LOOK)
    positive = int(np.count_nonzero(m))
    if positive == 0:
        return None
    end = float(_SCALES[min(positive, len(_SCALES) - 1)])
    return np.unique(np.concatenate([_SCALES[:positive], _evenly(end, 24)]))


def _conclude(situation: _Situation, argument: str, radii: np.ndarray) -> Certificate | None:
    """Return the certificate that rests on these radii, if (T7) comes out."""
    problem = situation.problem
    m = situation.singular_values(argument, radii)
    if m[-1] <= 0:
        m, radii = m[m > 0], radii[m > 0]
    if not m.size:
        return None
    reached = np.cumsum(m * np.diff(radii, prepend=0.0))
    slacks, betas, rates = situation.rates(reached, m, radii)
    last = int(rates.argmax())
    slack, beta, rate = float(slacks[last]), float(betas[last]), float(rates[last])
    if rate <= 0:
        return None
    first, second = (_steps(rate, fraction) for fraction in FRACTIONS)
    return Certificate(
        widths=problem.network.widths,
        activations=tuple(one.name for one in problem.network.activations),
        samples=problem.size,
        digest=digest(problem, situation.w),
        argument=argument,
        residual=situation.residual,
        radii=radii[: last + 1],
        singular_values=m[: last + 1],
        slack=slack,
        curvature=beta,
        step_size=(1 - 1e-12) * 2 * slack / beta,
        rate=rate,
        steps=(first, second),
    )


def _steps(rate: float, fraction: float) -> int:
    """Return a k with (1 − δ)^k ≤ fraction, with room for rounding."""
    if rate >= 1:
        return 1
    return max(1, math.ceil((1 + 1e-12) * math.log(fraction) / math.log1p(-rate)))


def first_certified(
    problem: LeastSquares,
    path: Any,
    at: Any = None,
    *,
    arguments: Sequence[str] | None = None,
    scan: bool = False,
) -> tuple[int | None, Certificate | NotShown]:
    """Return the first of the listed steps of a run at which `certify` finds a certificate.

    A certificate at one step does not imply one at the next.  With ``scan=True`` every listed step
    is tried in turn.  Otherwise a bisection finds a step that is certified while the one listed
    before it is not: the first one, if once certified means certified from then on.

    Parameters
    ----------
    problem : LeastSquares
        With one data set.
    path : array_like, shape (steps + 1, p)
        The points of a run, as `gradient_descent` records them.
    at : array_like of int, optional
        The steps to look at, increasing; all if left out.
    arguments : sequence of str, optional
        As in `certify`.
    scan : bool, default False
        Whether to try every listed step in turn.

    Returns
    -------
    step : int or None
        None if no listed step was found certified.
    result : Certificate or NotShown
        At that step, or at the last one listed.

    Raises
    ------
    TypeError, ValueError
        As `certify`; also if the steps are not increasing integers within the path.
    """
    path = checks.finite_array(path, "path", ndim=2)
    scan = checks.flag(scan, "scan")
    if at is None:
        at = np.arange(len(path))
    steps = checks.finite_array(at, "at", ndim=1)
    if (steps != np.round(steps)).any() or (np.diff(steps) <= 0).any():
        raise ValueError("at must hold increasing integers, but does not.")
    if steps[0] < 0 or steps[-1] >= len(path):
        raise ValueError(
            f"at must hold steps from 0 to {len(path) - 1}, but goes from {steps[0]:g} to "
            f"{steps[-1]:g}."
        )
    numbers = [int(step) for step in steps]

    def result(index: int) -> Certificate | NotShown:
        return certify(problem, path[numbers[index]], arguments=arguments)

    if scan:
        for index in range(len(numbers)):
            found = result(index)
            if found.shown:
                return numbers[index], found
        return None, found
    low, high, found = -1, len(numbers) - 1, result(len(numbers) - 1)
    if not found.shown:
        return None, found
    while high - low > 1:
        middle = (low + high) // 2
        attempt = result(middle)
        if attempt.shown:
            high, found = middle, attempt
        else:
            low = middle
    return numbers[high], found
