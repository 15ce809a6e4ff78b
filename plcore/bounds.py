"""Bounds on a network's first and second derivatives over balls of parameters.

Every parameter vector v in the closed ball B(w, r) has ‖V_ℓ‖ ≤ ‖W_ℓ‖ + r and so on; from that a
forward recursion bounds activations, a backward one bounds signals, and together they bound
∇f(x_i, v) and ∇²f(x_i, v).  From these come β, L1 and L2 of the step-size theorems.

>>> import numpy as np, plcore
>>> network = plcore.FeedForward((2, 4, 1), plcore.activations.tanh)
>>> problem = plcore.LeastSquares(network, np.eye(2), [1.0, -1.0])
>>> start = plcore.initialization.positive(network, output_scale=1.0)
>>> proved = plcore.bounds.curvature_bound(problem, start, 0.5)
>>> seen = plcore.curvature.top_curvature(problem, start)
>>> print(f"{seen.value:.2f} at the start, at most {proved.value:.1f} in the ball")
14.00 at the start, at most 27.7 in the ball
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import checks
from .network import FeedForward, Trace
from .objectives import LeastSquares
from .results import Bound, Result

__all__ = ["BallBounds", "ball_bounds", "curvature_bound", "derivative_bounds", "residual_bound"]


@dataclass(frozen=True)
class BallBounds(Result):
    """Upper bounds that hold at every v in B(w, r), for each sample.

    Attributes
    ----------
    radius : numpy.ndarray, shape (...)
        r.
    output_change : numpy.ndarray, shape (..., n)
        Bounds on |f(x_i, v) − f(x_i, w)|.
    gradient : numpy.ndarray, shape (..., n)
        Bounds on |∇f(x_i, v)|.
    curvature : numpy.ndarray, shape (..., n)
        H_i: bounds on ‖∇²f(x_i, v)‖.
    jacobian : numpy.ndarray, shape (...)
        Bounds on ‖J(v)‖.
    jacobian_column : numpy.ndarray, shape (...)
        Bounds on the norm of each single column of J(v).
    first_signal : numpy.ndarray, shape (..., n)
        Bounds on |q(x_i, v)|, the signal at the first layer.
    """

    radius: np.ndarray
    output_change: np.ndarray
    gradient: np.ndarray
    curvature: np.ndarray
    jacobian: np.ndarray
    jacobian_column: np.ndarray
    first_signal: np.ndarray = field(repr=False)

    @property
    def hessian(self) -> np.ndarray:
        """H = √(Σ H_i²), shape ``(...)``.

        It bounds ‖Σ_i u_i ∇²f(x_i, v)‖ for |u| = 1, so that J is H-Lipschitz on the ball.
        """
        # Scaling by a power of two is exact, and keeps the squares within the range of float64.
        exponent = np.frexp(self.curvature.max(axis=-1))[1]
        return np.ldexp(_norm(np.ldexp(self.curvature, -exponent[..., None]), -1), exponent)


def _norm(array: np.ndarray, axis: int) -> np.ndarray:
    return np.sqrt(np.square(array).sum(axis=axis))


def _spectral(matrix: np.ndarray) -> np.ndarray:
    """Return the spectral norm of a stack of matrices, by the smaller Gram matrix."""
    turned = np.swapaxes(matrix, -1, -2)
    with np.errstate(over="ignore", invalid="ignore"):
        gram = matrix @ turned if matrix.shape[-2] <= matrix.shape[-1] else turned @ matrix
    checks.within_range(gram, "The square of a weight")
    return np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[..., -1], 0.0))


@dataclass(frozen=True)
class _Layer:
    """What the forward recursion knows of one hidden layer h_ℓ (or of the input, h_0)."""

    change: np.ndarray  # on |h(v) − h(w)|, (..., n)
    norm: np.ndarray  # on |h(v)|, (..., n)
    entries: np.ndarray  # on each |h_k(v)|, (..., d, n)
    slopes: np.ndarray  # on each σ'(z_k), (..., d, n)
    curvatures: np.ndarray  # on each |σ''(z_k)|, (..., d, n)


def ball_bounds(network: FeedForward, w: Any, X: Any, radius: Any) -> BallBounds:
    """Bound a network's first and second derivatives on the closed ball B(w, r).

    Statement.  For every v with |v − w| ≤ r and every sample, the quantities of `BallBounds` hold.

    Assumptions.  Activations whose first two derivatives are bounded on bounded sets.

    Constants.  Each layer is allowed the whole budget r: ‖V_ℓ‖ ≤ s_ℓ = ‖W_ℓ‖ + r, and with
    η_ℓ ≥ |h_ℓ(v)|, the changes of z_ℓ obey ζ_{ℓ+1} = ‖W_{ℓ+1}‖ |Δh_ℓ| + r √(η_ℓ² + 1).
    c′_ℓ and c″ bound σ′ and σ″ on the ranges that are reached, γ_ℓ ≥ |g_ℓ(v)|.  Along a unit
    direction whose part in layer ℓ has norm t_ℓ, |ż_ℓ| ≤ a_ℓ·t with
    a_{ℓ+1} = √(η_ℓ² + 1) e_{ℓ+1} + s_{ℓ+1} c′_ℓ a_ℓ, and
    f̈ = Σ_ℓ [2 g_{ℓ+1}ᵀ V̇_{ℓ+1} ḣ_ℓ + Σ_k (W_{ℓ+1}ᵀ g_{ℓ+1})_k σ″_k ż_{ℓ,k}²]
    is at most tᵀQt for a nonnegative L × L matrix Q: H_i is the greatest eigenvalue of Q.

    Parameters
    ----------
    network : FeedForward
    w : array_like, shape (..., p)
        Centres.
    X : array_like, shape (..., n, d_0)
        Inputs, one a row.
    radius : array_like, shape (...)
        r ≥ 0, one for each centre or one for all.

    Returns
    -------
    BallBounds

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If shapes differ, a radius is negative, or an activation has no second derivative.
    OverflowError
        If a bound leaves the range of float64.

    References
    ----------
    Ours; the paper asks for such constants in Theorem 1.2 and Remark 2.6.
    """
    checks.instance(network, FeedForward, "network")
    w, X = network.check_parameters(w), network.check_inputs(X)
    radius = checks.finite_array(radius, "radius")
    if (radius < 0).any():
        raise ValueError(f"radius must not be negative, but is {radius.min()}.")
    for activation in network.activations:
        if activation.smoothness < 1:
            raise ValueError(
                f"The activations must have bounded second derivatives, but {activation.name} "
                f"has {activation.smoothness:g} continuous derivatives."
            )
    batch = checks.common_shape(w=w.shape[:-1], X=X.shape[:-2], radius=radius.shape)
    checks.room((*batch, X.shape[-2], network.depth, network.depth), "The bound on ∇²f")
    with np.errstate(over="ignore", invalid="ignore"):
        return _ball_bounds(network, network.propagate(w, X), radius)


def _ball_bounds(network: FeedForward, trace: Trace, radius: np.ndarray) -> BallBounds:
    """`ball_bounds` without its checks."""
    r = radius[..., None]
    sizes = [_spectral(weight)[..., None] for weight in trace.weights]
    layers, output_change = _forward(network, trace, sizes, r)
    signals, pulled = _backward(trace, sizes, layers, r)
    norms = [_signal_norm for _signal_norm, _ in signals]
    reach = [np.sqrt(layer.norm**2 + 1) for layer in layers]
    curvature = _curvature(sizes, layers, norms, pulled, reach, r)
    squares = [np.square(one * other) for one, other in zip(norms, reach, strict=True)]
    gradient = np.sqrt(_total(squares))
    # ‖J_ℓ‖² is at most its trace and, by Schur, at most max |g_ℓ|² times ‖[h_{ℓ−1}; 1]‖².
    blocks = []
    for h, layer, norm, square in zip(trace.inputs, layers, norms, squares, strict=True):
        extended = np.concatenate([h, np.ones((*h.shape[:-2], 1, h.shape[-1]))], axis=-2)
        spread = _spectral(extended) + _norm(layer.change, -1)
        blocks.append(np.minimum(square.sum(axis=-1), np.square(norm.max(axis=-1) * spread)))
    columns = []
    for layer, (_, entries) in zip(layers, signals, strict=True):
        squared = np.square(entries)
        weights = squared @ np.swapaxes(np.square(layer.entries), -1, -2)
        column = np.maximum(weights.max(axis=(-1, -2)), squared.sum(axis=-1).max(axis=-1))
        columns.append(np.where(np.isnan(column), np.inf, column))
    batch = np.broadcast_shapes(radius.shape, output_change.shape[:-1])
    return BallBounds(
        radius=np.broadcast_to(radius, batch),
        output_change=output_change,
        gradient=gradient,
        curvature=curvature,
        jacobian=np.sqrt(_total(blocks)),
        jacobian_column=np.sqrt(np.maximum.reduce(np.broadcast_arrays(*columns))),
        first_signal=np.broadcast_to(norms[0], output_change.shape),
    )


def _total(parts: list[np.ndarray]) -> np.ndarray:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _forward(
    network: FeedForward, trace: Trace, sizes: list[np.ndarray], r: np.ndarray
) -> tuple[list[_Layer], np.ndarray]:
    """Bound the activations on the ball; return the layers h_0 … h_{L−1} and |Δf|."""
    h = trace.inputs[0]
    none = np.zeros(1)
    layers = [_Layer(np.zeros(h.shape[-1]) * r, _norm(h, -2), np.abs(h), none, none)]
    for index, weight in enumerate(trace.weights):
        own = r * np.sqrt(layers[-1].norm ** 2 + 1)
        zeta = sizes[index] * layers[-1].change + own
        if index == len(trace.weights) - 1:
            return layers, zeta
        # Each entry of z moves by its own row of W at most.
        rows = _norm(weight, -1)[..., None]
        moves = rows * layers[-1].change[..., None, :] + own[..., None, :]
        z, h, activation = (
            trace.preactivations[index],
            trace.inputs[index + 1],
            network.activations[index],
        )
        checks.within_range(moves, "The bound on a layer's change")
        low, high = z - moves, z + moves
        least, greatest = activation.range(0, low, high)
        slopes = np.abs(activation.range(1, low, high)).max(axis=0)
        curvatures = np.abs(activation.range(2, low, high)).max(axis=0)
        entries = np.maximum(np.abs(least), np.abs(greatest))
        change = np.minimum(
            slopes.max(axis=-2) * zeta, _norm(np.maximum(greatest - h, h - least), -2)
        )
        norm = np.minimum(_norm(h, -2) + change, _norm(entries, -2))
        layers.append(_Layer(change, norm, entries, slopes, curvatures))
    raise AssertionError("a network has an output layer")


def _backward(
    trace: Trace, sizes: list[np.ndarray], layers: list[_Layer], r: np.ndarray
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[np.ndarray]]:
    """Bound the signals: (|g_ℓ|, each |g_ℓk|) for ℓ = 1 … L, and each |(W_{ℓ+1}ᵀ g_{ℓ+1})_k|."""
    n = trace.inputs[0].shape[-1]
    norm, entries = np.ones(n), np.ones((1, n))
    signals, pulled_back = [(norm, entries)], []
    for index in range(len(trace.weights) - 1, 0, -1):
        weight, layer = trace.weights[index], layers[index]
        turned = np.swapaxes(weight, -1, -2)
        columns = _norm(weight, -2)[..., None]
        moved = norm[..., None, :]
        pulled = np.minimum(
            np.abs(turned) @ entries + r[..., None] * moved, (columns + r[..., None]) * moved
        )
        length = np.minimum((sizes[index] + r) * norm, _norm(pulled, -2))
        entries = layer.slopes * pulled
        norm = np.minimum(layer.slopes.max(axis=-2) * length, _norm(entries, -2))
        signals.append((norm, entries))
        pulled_back.append(pulled)
    return signals[::-1], pulled_back[::-1]


def _curvature(
    sizes: list[np.ndarray],
    layers: list[_Layer],
    norms: list[np.ndarray],
    pulled: list[np.ndarray],
    reach: list[np.ndarray],
    r: np.ndarray,
) -> np.ndarray:
    """Return H_i, the greatest eigenvalue of the quadratic form Q in the layers' budgets t."""
    depth = len(sizes)
    batch = np.broadcast_shapes(r.shape, *(part.shape for part in (*norms, *reach)))
    form = np.zeros((*batch, depth, depth))
    tangent = reach[0][..., None]  # |ż_ℓ| ≤ tangent · t, (..., ℓ)
    for index in range(1, depth):
        layer = layers[index]
        slope = layer.slopes.max(axis=-2)
        bend = (layer.curvatures * pulled[index - 1]).max(axis=-2)
        cross = (norms[index] * slope)[..., None] * tangent
        form[..., index, :index] += cross
        form[..., :index, index] += cross
        square = tangent[..., :, None] * tangent[..., None, :]
        form[..., :index, :index] += bend[..., None, None] * square
        grown = ((sizes[index] + r) * slope)[..., None] * tangent
        own = np.broadcast_to(reach[index], grown.shape[:-1])
        tangent = np.concatenate([grown, own[..., None]], axis=-1)
    return np.linalg.eigvalsh(checks.within_range(form, "The bound on ∇²f"))[..., -1]


def residual_bound(problem: LeastSquares, w: Any, radius: float) -> Bound:
    """Return an upper bound on the residual norm |e(v)| over B(w, r).

    Parameters
    ----------
    problem : LeastSquares
        With one data set.
    w : array_like, shape (p,)
    radius : float
        r ≥ 0.

    Returns
    -------
    Bound

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape, or the radius is negative.
    """
    w, radius = _check(problem, w, radius)
    found = ball_bounds(problem.network, w, problem.X, radius)
    return Bound(
        _residual(problem, w, radius, found), "upper", "|e| on the ball", "forward recursion"
    )


def _residual(problem: LeastSquares, w: np.ndarray, radius: float, found: BallBounds) -> float:
    with np.errstate(over="ignore"):
        change = min(float(_norm(found.output_change, -1)), radius * float(found.jacobian))
        return math.hypot(*problem.residual(w)) + change


def _check(problem: LeastSquares, w: Any, radius: float) -> tuple[np.ndarray, float]:
    checks.instance(problem, LeastSquares, "problem")
    if problem.X.ndim != 2 or problem.y.ndim != 1:
        raise ValueError(
            "problem must have one data set, but X and y have shapes "
            f"{problem.X.shape} and {problem.y.shape}."
        )
    w = problem.check_point(checks.finite_array(w, "w", ndim=1))
    return w, checks.nonnegative_number(radius, "radius")


def curvature_bound(
    problem: LeastSquares, w: Any, radius: float, *, sublevel: bool = True
) -> Bound:
    """Return β, an upper bound on λ_max(∇²S), for Theorem 1.2♯.

    Statement.  λ_max(∇²S(v)) ≤ (2/n)(sup ‖J‖² + |e| H) for every v in B(w, r), where |e| is at
    most |e(w)| on D = {v in B(w, r): S(v) ≤ S(w)}.

    Parameters
    ----------
    problem, w, radius
        As in `residual_bound`, with the same errors; w is the start.
    sublevel : bool, default True
        Whether to bound on D, which is what Theorem 1.2♯ asks for, or on the whole ball.

    Returns
    -------
    Bound

    References
    ----------
    ∇²S = (2/n)(JᵀJ + Σ_i e_i ∇²f(x_i, ·)), with the bounds of `ball_bounds`.
    """
    w, radius = _check(problem, w, radius)
    sublevel = checks.flag(sublevel, "sublevel")
    found = ball_bounds(problem.network, w, problem.X, radius)
    error = math.hypot(*problem.residual(w))  # also where the squares underflow
    if not sublevel:
        error = _residual(problem, w, radius, found)
    with np.errstate(over="ignore", invalid="ignore"):
        value = 2 / problem.size * (np.square(found.jacobian) + error * found.hessian)
        value = float(checks.within_range(value, "The bound on λ_max(∇²S)"))
    where = "the sublevel set in the ball" if sublevel else "the ball"
    return Bound(value, "upper", f"λ_max(∇²S) on {where}", "second-derivative recursion")


def derivative_bounds(problem: LeastSquares, w: Any, radius: float) -> tuple[Bound, Bound]:
    """Return L1 and L2, bounds on all first and all second partial derivatives of S on B(w, r).

    Theorem 1.2 asks for them on the ball of radius **2r**: pass that.

    Statement.  |∂_j S| ≤ (2/n) |e| |J e_j| and
    |∂_j ∂_k S| ≤ (2/n)(|J e_j| |J e_k| + |e| H) at every v in the ball.

    Parameters
    ----------
    problem, w, radius
        As in `residual_bound`, with the same errors.

    Returns
    -------
    tuple of two Bound
        L1 and L2.
    """
    w, radius = _check(problem, w, radius)
    found = ball_bounds(problem.network, w, problem.X, radius)
    error, column = _residual(problem, w, radius, found), float(found.jacobian_column)
    scale = 2 / problem.size
    with np.errstate(over="ignore", invalid="ignore"):
        second = scale * (np.square(column) + error * found.hessian)
        first, second = checks.within_range(np.array([scale * error * column, second]), "A bound")
    return (
        Bound(
            float(first), "upper", "L1, first partial derivatives of S", "residual and columns of J"
        ),
        Bound(float(second), "upper", "L2, second partial derivatives of S", "columns of J and H"),
    )
