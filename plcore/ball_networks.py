"""A feedforward network in balls: both passes, its kernel, and bounds around its weights.

Everything is enclosed for the exact network: float64 inputs and weights are taken as the numbers
that they are, and the activations as the functions of real numbers that they stand for.
Samples come last: activations are ``(width, n)``.

>>> import numpy as np, plcore
>>> from plcore.ball_networks import propagate
>>> network = plcore.FeedForward((1, 2, 1), plcore.activations.tanh)
>>> center = propagate(network.layers(np.ones(7)), ["tanh"], np.array([[1.0]]))
>>> bool(2.928 < center.outputs[0] < 2.929)  # 2 tanh(2) + 1
True
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from . import balls
from .ball_activations import BallActivation, ball_activation

__all__ = ["BallPass", "DerivativeBounds", "derivative_bounds", "layer_gram", "propagate"]


@dataclass(frozen=True)
class BallPass:
    """What a forward and a backward pass at w leave behind; index ℓ−1 belongs to layer ℓ.

    Attributes
    ----------
    activations : list of BallActivation
        σ_1 … σ_{L−1}.
    weights : list of numpy.ndarray of balls
        W_1 … W_L, shapes ``(d_ℓ, d_{ℓ−1})``.
    inputs : list of numpy.ndarray of balls
        h_0 … h_{L−1}, shapes ``(d_{ℓ−1}, n)``.
    preactivations : list of numpy.ndarray of balls
        z_1 … z_{L−1}.
    slopes : list of numpy.ndarray of balls
        σ_ℓ′(z_ℓ) for ℓ < L.
    signals : list of numpy.ndarray of balls
        g_1 … g_L, shapes ``(d_ℓ, n)``, with g_L = 1 and g_ℓ = D_ℓ W_{ℓ+1}ᵀ g_{ℓ+1}.
    pulled : list of numpy.ndarray of balls
        W_{ℓ+1}ᵀ g_{ℓ+1} for ℓ = 1 … L−1.
    outputs : numpy.ndarray of balls, shape (n,)
        f(x_1, w) … f(x_n, w).
    """

    activations: list[BallActivation]
    weights: list[np.ndarray]
    inputs: list[np.ndarray]
    preactivations: list[np.ndarray]
    slopes: list[np.ndarray]
    signals: list[np.ndarray]
    pulled: list[np.ndarray]
    outputs: np.ndarray

    @cached_property
    def sizes(self) -> list[Any]:
        """Upper bounds on ‖W_1‖ … ‖W_L‖."""
        return [balls.spectral_norm_bound(weight) for weight in self.weights]

    @cached_property
    def slope_sizes(self) -> list[np.ndarray]:
        """Upper bounds on ‖W_{ℓ+1} D_ℓ(x_i)‖ for ℓ = 1 … L−1, shapes ``(n,)``."""
        found = []
        for weight, slope in zip(self.weights[1:], self.slopes, strict=True):
            scaled = slope.T[:, None, :] * weight
            if len(weight) == 1:
                found.append(balls.norm(scaled[:, 0], 1))
                continue
            if weight.shape[0] > weight.shape[1]:
                scaled = np.swapaxes(scaled, 1, 2)
            grams = np.stack([balls.product(each, each.T) for each in scaled])
            found.append(balls.root(balls.greatest_eigenvalue_bound(grams)))
        return found

    @cached_property
    def kernel(self) -> np.ndarray:
        """The tangent kernel K(w) = J Jᵀ by (T4), shape ``(n, n)``."""
        total: Any = 0
        for signal, h in zip(self.signals, self.inputs, strict=True):
            total = total + balls.product(signal.T, signal) * layer_gram(h)
        return np.asarray(total, dtype=object)


def layer_gram(h: np.ndarray) -> np.ndarray:
    """Return hᵀh + 1, the inner products of the columns (h_i, 1)."""
    return balls.product(h.T, h) + 1


def propagate(layers: list[Any], names: list[str], X: np.ndarray) -> BallPass:
    """Run both passes in balls.

    Parameters
    ----------
    layers : list of (W, b)
        W_ℓ and b_ℓ in float64, as `FeedForward.layers` returns them.
    names : list of str
        The hidden layers' activations.
    X : numpy.ndarray, shape (n, d_0)
        Inputs in float64, one a row.

    Returns
    -------
    BallPass

    Raises
    ------
    ValueError
        If an activation is not twice continuously differentiable, or unknown.
    """
    activations = [ball_activation(name) for name in names]
    weights = [balls.balls(weight) for weight, _ in layers]
    biases = [balls.balls(bias)[:, None] for _, bias in layers]
    h = balls.balls(X.T)
    inputs, preactivations, slopes = [h], [], []
    for weight, bias, activation in zip(weights[:-1], biases[:-1], activations, strict=True):
        z = balls.product(weight, h) + bias
        h = activation.at(0, z)
        inputs.append(h)
        preactivations.append(z)
        slopes.append(activation.at(1, z))
    outputs = (balls.product(weights[-1], h) + biases[-1])[0]
    signal = balls.balls(np.ones((1, len(X))))
    signals, pulled = [signal], []
    for weight, slope in zip(weights[:0:-1], slopes[::-1], strict=True):
        back = balls.product(weight.T, signal)
        signal = slope * back
        pulled.append(back)
        signals.append(signal)
    return BallPass(
        activations, weights, inputs, preactivations, slopes, signals[::-1], pulled[::-1], outputs
    )


class DerivativeBounds(NamedTuple):
    """Upper bounds that hold at every v in B(w, r).

    Attributes
    ----------
    hessian : arb
        H, on ‖Σ_i u_i ∇²f(x_i, v)‖ for every |u| = 1: the Jacobian J is H-Lipschitz on the ball.
    jacobian : arb
        On ‖J(v)‖.
    """

    hessian: Any
    jacobian: Any


class _Layer(NamedTuple):
    """Upper bounds on one layer's output h_ℓ(v) on the ball, for each sample."""

    change: np.ndarray  # |h(v) − h(w)|, (n,)
    size: np.ndarray  # |h(v)|, (n,)
    reach: np.ndarray  # |(h(v), 1)|, (n,)
    slopes: Any  # |σ'(z_k)|, (d, n)
    curvatures: Any  # |σ''(z_k)|, (d, n)


def derivative_bounds(center: BallPass, radius: Any) -> DerivativeBounds:
    """Bound the second derivatives of the outputs and the Jacobian on B(w, r).

    Statement.  Let |v − w| ≤ r.  Layer by layer, with R_ℓ ≥ |(h_ℓ(v), 1)| and c_ℓ ≥ |h_ℓ(v) −
    h_ℓ(w)|: z_{ℓ+1}(v) − z_{ℓ+1}(w) = W_{ℓ+1}(h_ℓ(v) − h_ℓ(w)) + (V_{ℓ+1} − W_{ℓ+1}) h_ℓ(v) + Δb
    has norm at most ‖W_{ℓ+1}‖ c_ℓ + r R_ℓ, and its k-th entry is at most |(W_{ℓ+1})_k| c_ℓ + r R_ℓ,
    which gives ranges of z, hence bounds on σ, σ′ and σ″ there.  Backwards, (V_{ℓ+1}ᵀ g_{ℓ+1})_k is
    at most Σ_j |W_jk| |g_j| + r |g|, and at most (|W_{·k}| + r)|g|.

    Along a line in a unit direction whose part in layer ℓ has norm t_ℓ, ż_ℓ is at most a_ℓ·t with
    a_1 = R_0 e_1 and a_{ℓ+1} = R_ℓ e_{ℓ+1} + (‖W_{ℓ+1}‖ + r) σ′_max a_ℓ, since
    ż_{ℓ+1} = V̇ h_ℓ + v̇ + V ḣ_ℓ.  As z̈_{ℓ+1} = 2 V̇ ḣ_ℓ + V ḧ_ℓ and ḧ = σ″ ż² + σ′ z̈,
    f̈ = Σ_ℓ [2 g_{ℓ+1}ᵀ V̇_{ℓ+1} ḣ_ℓ + Σ_k (V_{ℓ+1}ᵀ g_{ℓ+1})_k σ″_k ż_{ℓ,k}²] is at most tᵀQt with a
    nonnegative L × L matrix Q.  H_i is the greatest eigenvalue of Q, and H² = Σ_i H_i².

    ‖J_ℓ(v)‖² is at most Σ_i |g_ℓ(x_i)|² R_{ℓ−1}(x_i)² and, by Schur's bound on Hadamard products,
    at most max_i |g_ℓ(x_i)|² (‖[h_{ℓ−1}(w); 1]‖ + |c_{ℓ−1}|)²; ‖J‖² is at most the sum over ℓ,
    and (‖J(w)‖ + H r)².

    Parameters
    ----------
    center : BallPass
        At w.
    radius : arb
        r ≥ 0.

    Returns
    -------
    DerivativeBounds
    """
    layers = _forward(center, radius)
    sizes, pulled = _backward(center, layers, radius)
    hessian = balls.norm(_curvatures(center, layers, sizes, pulled, radius))
    total: Any = 0
    for h, layer, size in zip(center.inputs, layers, sizes, strict=True):
        ones = balls.balls(np.ones((1, h.shape[1])))
        extended = balls.spectral_norm_bound(np.concatenate([h, ones]))
        together = balls.greatest(size) * (extended + balls.norm(layer.change))
        total = total + balls.lesser(((size * layer.reach) ** 2).sum(), together**2)
    moved = balls.root(balls.greatest_eigenvalue_bound(center.kernel)[()]) + hessian * radius
    return DerivativeBounds(hessian, balls.lesser(balls.root(total), moved))


def _forward(center: BallPass, r: Any) -> list[_Layer]:
    """Return bounds on h_0 … h_{L−1}."""
    size = balls.norm(center.inputs[0], 0)
    layers = [_Layer(0 * size, size, balls.root(size * size + 1), None, None)]
    for index, activation in enumerate(center.activations):
        weight, before = center.weights[index], layers[-1]
        own = r * before.reach
        moves = balls.norm(weight, 1)[:, None] * before.change + own
        zeta = center.sizes[index] * before.change + own
        z, h = center.preactivations[index], center.inputs[index + 1]
        low, high = z - moves, z + moves
        least, most = activation.range(0, low, high)
        slopes = activation.magnitude(1, low, high)
        change = balls.lesser(
            balls.greatest(slopes, 0) * zeta, balls.norm(balls.greater(most - h, h - least), 0)
        )
        size = balls.lesser(balls.norm(h, 0) + change, balls.norm(balls.greater(most, -least), 0))
        reach = balls.root(size * size + 1)
        curvatures = activation.magnitude(2, low, high)
        layers.append(_Layer(change, size, reach, slopes, curvatures))
    return layers


def _backward(
    center: BallPass, layers: list[_Layer], r: Any
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return bounds on |g_1| … |g_L| and on each |(V_{ℓ+1}ᵀ g_{ℓ+1})_k|, ℓ = 1 … L−1."""
    size = balls.balls(np.ones(center.outputs.shape))
    entries = size[None, :]
    sizes, pulled_back = [size], []
    for index in range(len(center.weights) - 1, 0, -1):
        weight, slopes = center.weights[index], layers[index].slopes
        columns = balls.norm(weight, 0)[:, None]
        pulled = balls.lesser(
            balls.product(abs(weight).T, entries) + r * size, (columns + r) * size
        )
        length = balls.lesser((center.sizes[index] + r) * size, balls.norm(pulled, 0))
        entries = slopes * pulled
        size = balls.lesser(balls.greatest(slopes, 0) * length, balls.norm(entries, 0))
        sizes.append(size)
        pulled_back.append(pulled)
    return sizes[::-1], pulled_back[::-1]


def _curvatures(
    center: BallPass,
    layers: list[_Layer],
    sizes: list[np.ndarray],
    pulled: list[np.ndarray],
    r: Any,
) -> np.ndarray:
    """Return H_i, bounds on ‖∇²f(x_i, v)‖, shape (n,)."""
    depth = len(center.weights)
    unit = balls.balls(np.eye(depth))
    tangent = layers[0].reach[:, None] * unit[0]  # |ż_1| ≤ tangent · t, (n, L)
    form = 0 * tangent[:, :, None] * unit
    for index in range(1, depth):
        layer = layers[index]
        slope = balls.greatest(layer.slopes, 0)
        bend = balls.greatest(layer.curvatures * pulled[index - 1], 0)
        cross = (sizes[index] * slope)[:, None, None] * (unit[index][:, None] * tangent[:, None, :])
        form = form + cross + np.swapaxes(cross, 1, 2)
        form = form + bend[:, None, None] * (tangent[:, :, None] * tangent[:, None, :])
        grown = ((center.sizes[index] + r) * slope)[:, None] * tangent
        tangent = layer.reach[:, None] * unit[index] + grown
    return balls.greatest_eigenvalue_bound(form)
