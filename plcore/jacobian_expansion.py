"""The Jacobian of a network around a centre: first order exactly, the remainder bounded on balls.

With J(w) = U Σ Vᵀ the singular value decomposition, UᵀJ(v)V = Σ + T[δ] + R(δ) for v = w + δ.
T[δ] is linear in δ and known exactly; `Expansion` bounds the quadratic forms of both terms by
n × n matrices, so that a lower bound on σ_min(J(v)) is the least eigenvalue of a matrix.

>>> import numpy as np
>>> from plcore import FeedForward, activations, initialization
>>> from plcore.jacobian_expansion import CentreValues, Expansion
>>> network = FeedForward((3, 5, 1), activations.tanh)
>>> w = initialization.positive(network, output_scale=2.0)
>>> expansion = Expansion(CentreValues(network, w, np.eye(3)))
>>> least = expansion.least_singular_values(np.array([0.01, 0.1]))
>>> bool(least[1] < least[0] < expansion.singular_values[0])
True
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from . import checks
from .activations import Activation
from .network import FeedForward

__all__ = ["ROUNDS", "CentreValues", "Expansion", "third_derivative_bound"]

# Rounds of alternating minimization over the free parameters of a bound.
ROUNDS = 24
_MOST_NUMBERS = 2**26

Forms = dict[tuple[str, int], np.ndarray]

# sup |σ‴| over the real line, in closed form.
_THIRD_DERIVATIVE = {
    "tanh": 2.0,
    "arctan": 2.0,
    "arcsinh": 1.0,
    "sigmoid": 1 / 8,
    "gelu": 0.7788,  # |u³ − 4u| φ(u) at u² = (7 − √33)/2, rounded up
    "identity": 0.0,
}


def third_derivative_bound(activation: Activation) -> float:
    """Return sup |σ‴| over the real line, and ∞ where no such bound is known here.

    Examples
    --------
    >>> from plcore import activations
    >>> from plcore.jacobian_expansion import third_derivative_bound
    >>> third_derivative_bound(activations.tanh)
    2.0
    """
    if activation.softplus_form is not None:
        return (1 - activation.softplus_form[0]) / (6 * math.sqrt(3))
    return _THIRD_DERIVATIVE.get(activation.name.removeprefix("shifted_"), math.inf)


def _norm(array: np.ndarray, axis: int) -> np.ndarray:
    return np.sqrt(np.square(array).sum(axis=axis))


class CentreValues:
    """What the bounds use of a network at one w; index ℓ counts from 0, samples come last.

    Attributes
    ----------
    trace : Trace
        The forward pass at w.
    signals, pulled : list of numpy.ndarray, shape (d, n)
        g_ℓ, and b_ℓ = W_{ℓ+1}ᵀ g_{ℓ+1} of the hidden layers, so that g_ℓ = D_ℓ b_ℓ.
    sizes, sloped_sizes : list
        ‖W_ℓ‖, and for each sample ‖W_ℓ D_{ℓ−1}‖, shape (n,) (None for the first layer).
    """

    def __init__(self, network: FeedForward, w: np.ndarray, X: np.ndarray) -> None:
        self.network, self.depth, self.samples = network, network.depth, len(X)
        self.w, self.X = w, X
        self.trace = trace = network.propagate(w, X)
        self.signals = network.signals(trace)
        for values in (trace.outputs, *self.signals, *trace.weights):
            checks.within_range(np.square(values), "The square of a signal or a weight")
        pairs = zip(trace.weights[1:], self.signals[1:], strict=True)
        self.pulled = [weight.T @ signal for weight, signal in pairs]
        self.sizes = [float(np.linalg.norm(weight, 2)) for weight in trace.weights]
        self.sloped_sizes = [None] + [
            np.linalg.norm(weight * slope.T[:, None, :], 2, axis=(-2, -1))
            for weight, slope in zip(trace.weights[1:], trace.slopes, strict=True)
        ]

    def ranges(self, layer: int, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bound |σ′| over all entries, (..., n), and |σ″| of each, (..., d, n), within z ± moves.

        `moves` has shape (..., n).
        """
        checks.within_range(moves, "The bound on a layer's change")
        z, activation = self.trace.preactivations[layer], self.network.activations[layer]
        low, high = z - moves[..., None, :], z + moves[..., None, :]
        slopes, curvatures = (
            np.maximum(*np.abs(activation.range(order, low, high))) for order in (1, 2)
        )
        return slopes.max(axis=-2), curvatures


def _symmetric(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the symmetric part of the outer product along the last axis."""
    product = one[..., :, None] * other[..., None, :]
    return 0.5 * (product + np.swapaxes(product, -1, -2))


def _column(values: np.ndarray) -> np.ndarray:
    return values[..., None]


def _matrix(values: np.ndarray) -> np.ndarray:
    return values[..., None, None]


class Expansion:
    """Second-order expansion of J at w, for lower bounds on σ_min(J(v)).

    Statement.  For every choice of c_b > 0 and a_k > 0, and every v in B(w, s),

      σ_min(J(v)) ≥ λ_min( Σ − (s/2)(diag c + Σ_b G_b/c_b) − ½ Σ_k (a_k I + N_k(s)/a_k) ).

    Here S_ab = ½(T_ab + T_ba), T_ab = Σ_i U_ia ∇²f(x_i, w) V_b, G_b is the Gram matrix of
    S_1b, …, S_nb, and N_k(s) = Σ_i λ_ki(s)² P_ki: the P_ki are Gram matrices of tangents at w
    along the V_b (`sources`), the λ_ki bounds on how they enter the remainder (`forms`).

    Proof.  σ_min(J(v)) ≥ σ_min(UᵀJ(v)V) ≥ λ_min of its symmetric part, since U is orthogonal
    and V has orthonormal columns.  For |u| = 1, uᵀT[δ]u = δ·Σ_b u_b Σ_a u_a S_ab is at most
    s Σ_b |u_b| (uᵀG_b u)^½, and |uᵀUᵀR(δ)Vu| at most Σ_i |(Uu)_i| Σ_k λ_ki (uᵀP_ki u)^½, so at
    most Σ_k (uᵀN_k u)^½ by Cauchy–Schwarz; then √(pq) ≤ ½(a p + q/a).

    Parameters
    ----------
    values : CentreValues
        With n ≤ p.

    Attributes
    ----------
    singular_values : numpy.ndarray, shape (n,)
        Those of J(w), ascending.
    """

    def __init__(self, values: CentreValues) -> None:
        self.values = values
        J = values.network.jacobian(values.w, values.X)
        left, singular, right = np.linalg.svd(J, full_matrices=False)
        self.singular_values = singular[::-1].copy()
        self._left, self._right = left[:, ::-1], np.ascontiguousarray(right[::-1])

    @cached_property
    def _tangents(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """ż_ℓ and ḣ_ℓ at w along each V_b, shape (n, d, samples)."""
        values = self.values
        _, z_tangents, h_tangents = values.network.push_forward(values.trace, self._right)
        return z_tangents, h_tangents

    @cached_property
    def first_order(self) -> np.ndarray:
        """The Gram matrices G_b, shape (n, n, n)."""
        values, trace = self.values, self.values.trace
        network, n = values.network, values.samples
        z_tangents, h_tangents = self._tangents
        directions = network.layers(self._right)
        signal_tangent = np.zeros((n, 1, n))
        parts: list[np.ndarray] = []
        for index in range(values.depth - 1, -1, -1):
            moved = np.swapaxes(signal_tangent, -1, -2)
            block = moved[..., None] * trace.inputs[index].T[:, None, :]
            if index > 0:
                tangent = np.swapaxes(h_tangents[index - 1], -1, -2)
                block += values.signals[index].T[:, :, None] * tangent[..., None, :]
            parts += [moved, block.reshape(n, n, -1)]
            if index == 0:
                break
            back = trace.weights[index].T @ signal_tangent
            back += np.swapaxes(directions[index][0], -1, -2) @ values.signals[index]
            z = trace.preactivations[index - 1]
            bend = network.activations[index - 1].functions[2](z) * values.pulled[index - 1]
            signal_tangent = bend * z_tangents[index - 1] + trace.slopes[index - 1] * back
        rotated = self._left.T @ np.concatenate(parts, axis=-1)  # (b, a, p)
        rotated = 0.5 * (rotated + np.swapaxes(rotated, 0, 1))
        grams = rotated @ np.swapaxes(rotated, -1, -2)
        return checks.within_range(grams, "The Gram matrix of the second derivatives")

    @cached_property
    def sources(self) -> Forms:
        """The Gram matrices P_ki, shape (samples, n, n) or (1, n, n), for each source k.

        ("z", ℓ): ż_ℓ.  ("h", ℓ): ḣ_ℓ.  ("weight", ℓ): the V_b's own part Ẇ_ℓ of layer ℓ, the same
        for all samples.  ("pulled", ℓ): Ẇ_ℓᵀ g_ℓ.
        """
        found: Forms = {}

        def gram(tangent: np.ndarray) -> np.ndarray:
            tangent = np.moveaxis(tangent, -1, 0)
            return tangent @ np.swapaxes(tangent, -1, -2)

        directions = self.values.network.layers(self._right)
        for index, (z_tangent, h_tangent) in enumerate(zip(*self._tangents, strict=True)):
            found["z", index] = gram(z_tangent)
            found["h", index] = gram(h_tangent)
        for index in range(1, self.values.depth):
            weight = directions[index][0]
            flat = weight.reshape(len(weight), -1)
            found["weight", index] = (flat @ flat.T)[None]
            pulled = np.swapaxes(weight, -1, -2) @ self.values.signals[index]
            found["pulled", index] = gram(pulled)
        return found

    def forms(self, radii: np.ndarray) -> Forms:
        """Return F_ki(s): the part of the remainder that source k carries is at most tᵀFt.

        t holds the norms of δ in the L layers, |t| ≤ s; shape ``(N, n, L, L)`` for N radii.

        Proof.  For the changes ζ_ℓ of z_ℓ and χ_ℓ of h_ℓ the recursion keeps |ζ_ℓ| ≤ y·t,
        |χ_ℓ| ≤ x·t (vectors y, x ≥ 0) and their parts of second order ≤ tᵀYt, tᵀXt.  Along a
        fixed direction with tangents ż, ḣ and weights Ẇ at w,
        Δż_ℓ = Ẇ_ℓ χ_{ℓ−1} + δW_ℓ ḣ_{ℓ−1} + (W_ℓ + δW_ℓ) Δḣ_{ℓ−1} and
        Δḣ_ℓ = [σ′(z+ζ) − σ′(z)] ż_ℓ + σ′(z+ζ) Δż_ℓ.  Taking off the terms of first order and
        pulling the rest back to the output by the signals g_ℓ, b_ℓ at w, the remainder of ḟ is
        Σ_ℓ b_ℓ·{[σ′(z+ζ) − σ′ − σ″ζ] ż + σ″ ζ⁽²⁾ ż + [σ′(z+ζ) − σ′] Δż}_ℓ
        + Σ_ℓ g_ℓ·(Ẇ_ℓ χ⁽²⁾_{ℓ−1} + δW_ℓ Δḣ_{ℓ−1}); each product is bounded by norms.
        """
        values, depth = self.values, self.values.depth
        trace, network = values.trace, values.network
        s = radii[:, None]
        shape = (len(radii), values.samples)
        x = bent_x = np.zeros((*shape, depth))
        second_x = bent_second = np.zeros((*shape, depth, depth))
        change: Forms = {}  # bounds on Δḣ of the layer below, for each source
        found: Forms = {}

        def add(forms: Forms, source: tuple[str, int], form: np.ndarray) -> None:
            forms[source] = forms[source] + form if source in forms else form

        for index in range(depth):
            own = np.broadcast_to(np.eye(depth)[index], (*shape, depth))
            reach = np.sqrt((_norm(trace.inputs[index], 0) + s * _norm(x, -1)) ** 2 + 1)
            y = _column(reach) * own + bent_x
            second = _symmetric(own, x) + bent_second
            z_change: Forms = {}
            if index > 0:
                size = _norm(values.signals[index], 0)
                add(found, ("pulled", index), second_x)
                for source, vector in change.items():
                    add(found, source, _matrix(size) * _symmetric(own, vector))
                if index == depth - 1:
                    break
                z_change = {("weight", index): x, ("h", index - 1): own}
                for source, vector in change.items():
                    add(z_change, source, _column(values.sizes[index] + s) * vector)
            moves = s * _norm(y, -1)
            slope, bends = values.ranges(index, moves)
            bend = bends.max(axis=-2)
            third = third_derivative_bound(network.activations[index])
            centre = np.abs(trace.slopes[index]).max(axis=0)
            pulled = np.abs(values.pulled[index])
            curvature = network.activations[index].functions[2](trace.preactivations[index])
            square = _symmetric(y, y)
            form = _matrix(0.5 * third * pulled.max(axis=0)) * square
            form = form + _matrix((pulled * np.abs(curvature)).max(axis=0)) * second
            add(found, ("z", index), form)
            pulled_bend = _matrix((pulled * bends).max(axis=-2))
            change = {source: _column(slope) * vector for source, vector in z_change.items()}
            for source, vector in z_change.items():
                add(found, source, pulled_bend * _symmetric(y, vector))
            change["z", index] = _column(bend) * y
            half = 0.5 * bend
            above, sloped = values.sizes[index + 1], values.sloped_sizes[index + 1]
            x = _column(np.minimum(slope, centre + half * moves)) * y
            bent_x = _column(np.minimum(above * slope, sloped + above * half * moves)) * y
            second_x = _matrix(half) * square + _matrix(centre) * second
            bent_second = _matrix(above * half) * square + _matrix(sloped) * second
        return found

    def remainders(self, radii: np.ndarray) -> np.ndarray:
        """Return the matrices N_k(s), shape (sources, N, n, n)."""
        # A few radii at a time: there are up to 4 L forms of n L² numbers for each.
        parts = -(-len(radii) * 4 * self.values.samples * self.values.depth**3 // _MOST_NUMBERS)
        if (parts := min(parts, len(radii))) > 1:
            pieces = [self.remainders(piece) for piece in np.array_split(radii, parts)]
            return np.concatenate(pieces, axis=1)
        found = []
        for source, form in self.forms(radii).items():
            checks.within_range(form, "The bound on the remainder")
            greatest = radii[:, None] ** 2 * np.linalg.eigvalsh(form)[..., -1]
            grams = self.sources[source]
            squares = greatest**2
            if len(grams) == 1:
                squares = squares.sum(axis=-1, keepdims=True)
            flat = squares @ grams.reshape(len(grams), -1)
            found.append(flat.reshape(len(radii), *grams.shape[1:]))
        return checks.within_range(np.stack(found), "The bound on the remainder")

    def least_singular_values(self, radii: np.ndarray, rounds: int = ROUNDS) -> np.ndarray:
        """Return lower bounds on σ_min(J(v)) over B(w, s), one for each radius; may be negative.

        The free parameters c and a come from `rounds` rounds of alternating minimization: for a
        density matrix ρ near the lowest eigenvector, the best are c_b = √(tr ρG_b / ρ_bb) and
        a_k = √(tr ρN_k).  Any values are valid; the best bound of all rounds is returned.
        """
        singular, n = self.singular_values, self.values.samples
        grams = self.first_order.reshape(n, n * n)
        remainders = self.remainders(radii)
        flat = remainders.reshape(*remainders.shape[:2], n * n)
        s = radii[:, None]
        density = np.zeros((len(radii), n, n))
        density[:, 0, 0] = 1
        scale = max(float(singular[0]), np.finfo(np.float64).tiny)
        least = math.sqrt(float(self.first_order[0, 0, 0]))
        c = np.maximum(least + 0.5 * (singular - singular[0]) / s, 1e-30)
        best = np.full(len(radii), -np.inf)
        diagonal = np.arange(n)
        for count in range(rounds):
            traces = np.einsum("krm,rm->kr", flat, density.reshape(-1, n * n))
            a = np.sqrt(np.maximum(traces, 1e-60))
            form = (0.5 * s / c) @ grams + 0.5 * np.einsum("krm,kr->rm", flat, 1 / a)
            form = -form.reshape(-1, n, n)
            form[:, diagonal, diagonal] += singular - 0.5 * s * c - 0.5 * _column(a.sum(axis=0))
            sound = np.isfinite(form).all(axis=(1, 2))  # else these parameters say nothing
            eigenvalues, vectors = np.linalg.eigh(np.where(sound[:, None, None], form, 0.0))
            best = np.where(sound, np.maximum(best, eigenvalues[:, 0]), best)
            weights = np.exp(-(eigenvalues - eigenvalues[:, :1]) / (0.03 * scale))
            weights /= weights.sum(axis=-1, keepdims=True)
            new = (vectors * weights[:, None, :]) @ np.swapaxes(vectors, -1, -2)
            density = new if count == 0 else 0.7 * density + 0.3 * new
            share = np.maximum(np.einsum("rbb->rb", density), 1e-12)
            c = np.sqrt(np.maximum(density.reshape(-1, n * n) @ grams.T, 1e-60) / share)
        return best
