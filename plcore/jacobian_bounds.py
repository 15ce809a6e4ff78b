"""Lower bounds on the least singular value of a network's Jacobian over balls of parameters.

Each function returns m(s) with σ_min(J(v)) ≥ m(s) for every v in B(w, s).  With e the residual,

    (T7)  |e(w)| < (1 − ε) ∫₀^r m(s) ds   for some ε in (0, 1)

then puts a zero of the squared loss within r of w, and descent from w converges to one.

>>> import numpy as np, plcore
>>> network = plcore.FeedForward((3, 5, 1), plcore.activations.tanh)
>>> problem = plcore.LeastSquares(network, np.eye(3), [1.0, -1.0, 2.0])
>>> w = plcore.initialization.positive(network, output_scale=2.0)
>>> m = plcore.jacobian_bounds.any_n(problem, w, [0.01, 0.1])
>>> bool(m[0] > m[1] > 4)
True
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from . import checks
from .bounds import ball_bounds
from .hypotheses import activations_smooth
from .jacobian_expansion import ROUNDS, CentreValues, Expansion, third_derivative_bound
from .objectives import LeastSquares

__all__ = [
    "BOUNDS",
    "any_n",
    "check_expandable",
    "expanded",
    "expansion_bounds",
    "first_layer",
    "plain",
    "splits",
]

_MOST_SPLITS = 150
# n² p numbers: the second derivatives that `any_n` holds at once take 8 bytes each.
LARGEST_EXPANSION = 2e8
# n L⁴: the remainder has up to 4 L forms in the L layers, which L steps of a recursion sum up.
_LARGEST_REMAINDER = 2e8


def _checked(problem: LeastSquares, w: Any, radii: Any) -> tuple[np.ndarray, np.ndarray]:
    checks.instance(problem, LeastSquares, "problem")
    if problem.X.ndim != 2 or problem.y.ndim != 1:
        raise ValueError(
            "problem must have one data set, but X and y have shapes "
            f"{problem.X.shape} and {problem.y.shape}."
        )
    smooth = activations_smooth(problem.network)
    if not smooth.holds:
        raise ValueError(smooth.detail)
    w = problem.check_point(checks.finite_array(w, "w", ndim=1))
    radii = checks.finite_array(radii, "radii", ndim=1)
    if radii[0] <= 0 or not (np.diff(radii) > 0).all():
        raise ValueError("radii must be positive and increasing, but are not.")
    return w, radii


def _monotone(bounds: np.ndarray) -> np.ndarray:
    """Return nonnegative, nonincreasing bounds: what holds on a ball holds on smaller ones."""
    return np.maximum.accumulate(np.maximum(bounds, 0.0)[::-1])[::-1]


@np.errstate(over="ignore", invalid="ignore")
def plain(problem: LeastSquares, w: Any, radii: Any) -> np.ndarray:
    """Return m(s) = σ_min(J(w)) − H s, at least 0.

    Statement.  σ_min(J(v)) ≥ m(s) for every v in B(w, s).

    Assumptions.  Activations with two continuous derivatives.

    Constants.  H bounds ‖Σ_i u_i ∇²f(x_i, v)‖ for |u| = 1 and v in B(w, s), by `ball_bounds`.

    Proof.  (J(v) − J(w))ᵀu = ∫₀¹ Σ_i u_i ∇²f(x_i, w + t(v−w)) (v−w) dt has norm at most H s.

    Parameters
    ----------
    problem : LeastSquares
        With one data set.
    w : array_like, shape (p,)
        The centre of the balls.
    radii : array_like, shape (N,)
        0 < s_1 < … < s_N.

    Returns
    -------
    numpy.ndarray, shape (N,)
        Nonnegative and nonincreasing; 0 says nothing.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape, or an activation is not smooth enough.
    OverflowError
        If a bound leaves the range of float64.

    References
    ----------
    Kantorovich's argument for Newton's method, with descent in its place.
    """
    w, radii = _checked(problem, w, radii)
    if problem.size > problem.dimension:
        return np.zeros(len(radii))
    least = float(np.linalg.svd(problem.jacobian(w), compute_uv=False)[-1])
    H = ball_bounds(problem.network, w, problem.X, radii).hessian
    return _monotone(least - H * radii)


def splits(depth: int) -> np.ndarray:
    """Return a cover of all splits Σ r_ℓ² ≤ s² of a squared radius over L layers.

    Statement.  For r ≥ 0 with Σ r_ℓ² ≤ s² there is a row q with r_ℓ² ≤ q_ℓ s² for every ℓ; so the
    least value over the rows of a function that falls in each r_ℓ is a bound for every split.

    Proof.  With k_ℓ = max(1, ⌈M r_ℓ²/s²⌉), k_ℓ − 1 is 0 or below M r_ℓ²/s², so Σ(k_ℓ − 1) < M.
    The rows are all k/M with Σ(k_ℓ − 1) = M − 1 (raise one k), cut off at 1.

    Parameters
    ----------
    depth : int
        L ≥ 1.

    Returns
    -------
    numpy.ndarray, shape (rows, L)
        At most 150 rows; M is the largest number up to 64 for which that is so.

    Examples
    --------
    >>> from plcore.jacobian_bounds import splits
    >>> len(splits(2)), len(splits(3))
    (64, 136)
    """
    depth = checks.positive_integer(depth, "depth")
    checks.room((_MOST_SPLITS, depth), "The cover")
    cells = 64
    while cells > 1 and math.comb(cells + depth - 2, depth - 1) > _MOST_SPLITS:
        cells -= 1
    if cells == 1:
        return np.ones((1, depth))
    rows = []
    for chosen in combinations_with_replacement(range(depth), cells - 1):
        rows.append(1 + np.bincount(chosen, minlength=depth))
    return np.minimum(np.array(rows) / cells, 1.0)


@np.errstate(over="ignore", invalid="ignore")
def first_layer(problem: LeastSquares, w: Any, radii: Any) -> np.ndarray:
    """Return m(s) = √μ · min over splits and samples of (|q(x_i, w)| − γ_i)₊.

    Statement.  σ_min(J(v)) ≥ m(s) for every v in B(w, s).

    Assumptions.  Activations with two continuous derivatives.  It says something only if
    μ = λ_min(X Xᵀ + 11ᵀ) > 0, so only for n ≤ d + 1.

    Constants.  q = g_1 is the backward signal of the paper's (A.6).  With budgets r_ℓ for the
    layers' changes, ζ_1 = r_1 √(|x|²+1) and, c′ and c″ bounding σ′ and |σ″| within reach,
    χ_ℓ = min(c′ζ_ℓ, ‖D_ℓ‖ζ_ℓ + ½c″ζ_ℓ²) bounds the change of h_ℓ,
    ζ_{ℓ+1} = min(‖W_{ℓ+1}‖χ_ℓ, ‖W_{ℓ+1}D_ℓ‖ζ_ℓ + ½‖W_{ℓ+1}‖c″ζ_ℓ²) + r_{ℓ+1}√((|h_ℓ|+χ_ℓ)²+1)
    that of z_{ℓ+1}; γ_L = 0, and γ_ℓ = max_k(c″_k|b_{ℓ,k}|)ζ_ℓ
    + min(c‖W_{ℓ+1}‖, ‖W_{ℓ+1}D_ℓ‖ + ‖W_{ℓ+1}‖c″ζ_ℓ)γ_{ℓ+1} + c r_{ℓ+1}(|g_{ℓ+1}| + γ_{ℓ+1}) with
    c = min(c′, ‖D_ℓ‖ + c″ζ_ℓ) bounds the change of g_ℓ.

    Proof.  J Jᵀ is at least the first layer's part (Q Qᵀ) ∘ (X Xᵀ + 11ᵀ), where Q has the rows
    q(x_i, v); by Schur its least eigenvalue is at least μ min_i |q(x_i, v)|² (T5).  And
    g_ℓ(v) − g_ℓ = (D_ℓ(v) − D_ℓ) b_ℓ + D_ℓ(v)[W_{ℓ+1}ᵀ(g_{ℓ+1}(v) − g_{ℓ+1}) + δWᵀ g_{ℓ+1}(v)].
    All bounds grow with each r_ℓ, so the rows of `splits` cover every δ.

    Parameters, returns and errors are those of `plain`.

    References
    ----------
    The paper's argument for Theorem 2.1, without positivity, from the values at w.
    """
    w, radii = _checked(problem, w, radii)
    X = problem.X
    gram = checks.within_range(X @ X.T + 1.0, "X Xᵀ")
    mu = float(np.linalg.eigvalsh(gram)[0]) if len(X) <= X.shape[1] + 1 else 0.0
    if mu <= 0:
        return np.zeros(len(radii))
    values = CentreValues(problem.network, w, X)
    whole = np.ones((1, values.depth))
    *_, ranges = _signal_change(values, radii[:, None] * whole, None)
    budgets = radii[:, None, None] * np.sqrt(splits(values.depth))
    ranges = [(slope[:, None], bends[:, None]) for slope, bends in ranges]
    change, _ = _signal_change(values, budgets, ranges)
    left = np.sqrt(np.square(values.signals[0]).sum(axis=0)) - change
    return _monotone(math.sqrt(mu) * left.min(axis=(-1, -2)))


def _signal_change(
    values: CentreValues,
    budgets: np.ndarray,
    ranges: list[tuple[np.ndarray, np.ndarray]] | None,
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Bound the change of q, (..., n), for budgets (..., L); return the ranges used, too.

    Where no ranges of the slopes are given, they are those that the budgets allow.
    """
    trace, depth = values.trace, values.depth
    r = [budgets[..., index, None] for index in range(depth)]
    lengths = [np.sqrt(np.square(h).sum(axis=0)) for h in trace.inputs]
    slopes = [np.abs(slope).max(axis=0) for slope in trace.slopes]
    zeta = r[0] * np.sqrt(lengths[0] ** 2 + 1)
    zetas, used = [], []
    for index in range(depth - 1):
        reached = values.ranges(index, zeta) if ranges is None else ranges[index]
        steepest, bend = reached[0], reached[1].max(axis=-2)
        zetas.append(zeta)
        used.append(reached)
        curved = 0.5 * bend * zeta**2
        chi = np.minimum(steepest * zeta, slopes[index] * zeta + curved)
        above, sloped = values.sizes[index + 1], values.sloped_sizes[index + 1]
        moved = np.minimum(above * chi, sloped * zeta + above * curved)
        zeta = moved + r[index + 1] * np.sqrt((lengths[index + 1] + chi) ** 2 + 1)
    gamma = np.zeros_like(zeta)
    for index in range(depth - 2, -1, -1):
        steepest, bends = used[index]
        bend, zeta = bends.max(axis=-2), zetas[index]
        slope = np.minimum(steepest, slopes[index] + bend * zeta)
        above, sloped = values.sizes[index + 1], values.sloped_sizes[index + 1]
        size = np.sqrt(np.square(values.signals[index + 1]).sum(axis=0))
        bent = (bends * np.abs(values.pulled[index])).max(axis=-2)
        pulled = np.minimum(slope * above, sloped + above * bend * zeta)
        gamma = bent * zeta + pulled * gamma + slope * r[index + 1] * (size + gamma)
    return gamma, used


def any_n(problem: LeastSquares, w: Any, radii: Any) -> np.ndarray:
    """Return the least eigenvalue of the symmetrized second-order expansion of J at w, at least 0.

    Statement.  σ_min(J(v)) ≥ m(s) for every v in B(w, s).

    Assumptions.  Activations with three bounded derivatives.  It says something only if J(w) has
    full row rank, so only for n ≤ p, but for any number n of samples up to there.

    Constants and proof.  `jacobian_expansion.Expansion`.  The term of first order is exact at w:
    as s → 0, m(s) = σ_min(J(w)) − s |∇σ_min| + O(s²) where the least singular value is simple.

    Parameters, returns and errors are those of `plain`; in addition a ValueError if no bound on
    the third derivative of an activation is known, or n² p or n L⁴ exceeds 2·10⁸.
    """
    w, radii = _checked(problem, w, radii)
    expansion = expanded(problem, w)
    return np.zeros(len(radii)) if expansion is None else expansion_bounds(expansion, radii)


@np.errstate(over="ignore", invalid="ignore")
def expanded(problem: LeastSquares, w: np.ndarray) -> Expansion | None:
    """Return the expansion at a checked w; None if J(w) has not full row rank.

    For other modules of the package.
    """
    check_expandable(problem)
    if problem.size > problem.dimension:
        return None
    expansion = Expansion(CentreValues(problem.network, w, problem.X))
    return None if expansion.singular_values[0] <= 0 else expansion


def check_expandable(problem: LeastSquares) -> None:
    """Refuse with a ValueError what `any_n` cannot say anything about.

    For other modules of the package.
    """
    for activation in problem.network.activations:
        if not math.isfinite(third_derivative_bound(activation)):
            raise ValueError(
                f"No bound on the third derivative of {activation.name} is known, and the bound "
                "by second-order expansion needs one."
            )
    needed = problem.size**2 * problem.dimension
    if needed > LARGEST_EXPANSION:
        raise ValueError(
            f"The expansion needs n² p = {needed:.2g} second derivatives at once, and more than "
            f"{LARGEST_EXPANSION:.2g} are refused."
        )
    needed = problem.size * problem.network.depth**4
    if needed > _LARGEST_REMAINDER:
        raise ValueError(
            f"The expansion's remainder takes n L⁴ = {needed:.2g} operations a radius, and more "
            f"than {_LARGEST_REMAINDER:.2g} are refused."
        )


@np.errstate(over="ignore", invalid="ignore")
def expansion_bounds(expansion: Expansion, radii: np.ndarray, rounds: int = ROUNDS) -> np.ndarray:
    """Return m(s) of `any_n` for checked radii.  For other modules of the package."""
    return _monotone(expansion.least_singular_values(radii, rounds))


BOUNDS = {"plain": plain, "first layer": first_layer, "any n": any_n}
"""Each bound by the name of the argument that rests on it."""
