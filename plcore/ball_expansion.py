"""The second-order bound in balls: how small σ_min(J) can become around w, for any n.

Floating point only chooses here: orthogonal factors U and V, and the weights c and a of the
inequality below, for which any numbers are valid.

>>> import numpy as np, plcore
>>> from plcore.ball_expansion import Expansion
>>> from plcore.ball_networks import propagate
>>> from plcore.balls import ball
>>> network = plcore.FeedForward((1, 2, 1), plcore.activations.tanh)
>>> center = propagate(network.layers(np.ones(7)), ["tanh"], np.array([[1.0]]))
>>> expansion = Expansion(center)  # |∇f(w)| is about 1.695
>>> [expansion.exceeds(ball(0.001), ball(value))[0] for value in (1.69, 1.7)]
[1, -1]
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from . import balls
from .ball_networks import BallPass

__all__ = ["Expansion"]

_ROUNDS = 24
_CHUNK = 256  # parameters whose second derivatives are held at once
# A source of the remainder, by what it is made of and the index of its layer.
Source = tuple[str, int]


class Expansion:
    """Lower bounds on σ_min(J(v)) over balls, from the expansion of J(v) at w to second order.

    Statement.  Let U (n × n) and V (p × n) be any matrices, and c_b, a_k > 0 any numbers.  For
    |δ| ≤ s, ‖U‖ ‖V‖ σ_min(J(w + δ)) is at least the least eigenvalue of

        A(s) = sym(Uᵀ J V) − (s/2)(diag c + Σ_b G_b/c_b) − (‖U‖/2) Σ_k (a_k I + N_k(s)/a_k),

    with G_b the Gram matrix of S_1b … S_nb, S_ab = ½(T_ab + T_ba), T_ab = Σ_i U_ia ∇²f(x_i) V_b,
    and N_k = Σ_i λ_ki² P_ki: the P_ki are Gram matrices of tangents at w along the columns of V,
    the λ_ki bounds on how they enter the remainder.

    Proof.  For invertible U (else A is not positive) and a unit vector u at which |Jᵀu| = σ_min,
    a = U⁻¹u has |a| ≥ 1/‖U‖ and |VᵀJᵀUa| ≤ ‖V‖ σ_min: so ‖U‖‖V‖σ_min(J) ≥ σ_min(UᵀJV) ≥
    λ_min(sym UᵀJV).  For |u| = 1, uᵀ(Uᵀ(∇²f·δ)V)u = δ·Σ_b u_b Σ_a u_a S_ab has at most the size
    s Σ_b |u_b| √(uᵀG_b u) ≤ (s/2) Σ_b (c_b u_b² + uᵀG_b u/c_b).  What is left of ∇f(x_i, w + δ),
    along Vu, is at most Σ_k λ_ki √(uᵀP_ki u); multiplied by (Uu)_i and summed over i that is at
    most ‖U‖ Σ_k √(uᵀN_k u), and √q ≤ ½(a + q/a).

    Parameters
    ----------
    center : BallPass
        At w, with n ≤ p.

    Attributes
    ----------
    scale : arb
        An upper bound on ‖U‖ ‖V‖.
    """

    def __init__(self, center: BallPass) -> None:
        self.center = center
        self._n = n = len(center.outputs)
        one = balls.balls(np.ones((1, n)))
        self._extended = [np.concatenate([h, one]) for h in center.inputs]
        jacobian = [
            (g.T[:, :, None] * h.T[:, None, :]).reshape(n, -1)
            for g, h in zip(center.signals, self._extended, strict=True)
        ]
        left, self.singular, right = np.linalg.svd(
            np.concatenate([balls.middles(part) for part in jacobian], axis=1), full_matrices=False
        )
        # Ascending, as the least are what matters.
        left, self.singular, right = left[:, ::-1], self.singular[::-1], right[::-1]
        self._left = balls.balls(left)
        ends = np.cumsum([part.shape[1] for part in jacobian])[:-1]
        parts = [balls.balls(part) for part in np.split(right, ends, axis=1)]
        self._size = balls.spectral_norm_bound(self._left)
        gram: Any = sum(balls.product(part, part.T) for part in parts)
        self.scale = self._size * balls.root(balls.greatest_eigenvalue_bound(gram)[()])
        middle: Any = sum(
            balls.product(rows, part.T) for rows, part in zip(jacobian, parts, strict=True)
        )
        middle = balls.product(self._left.T, middle)
        self._middle = (middle + middle.T) / 2
        # Directions V_b layer by layer, (n, d_ℓ, d_{ℓ−1} + 1): weights, then the bias.
        self._directions = [
            part.reshape(n, len(g), len(h))
            for part, g, h in zip(parts, center.signals, self._extended, strict=True)
        ]
        self._forward()
        self._backward()

    def _forward(self) -> None:
        """Store ż_ℓ and ḣ_ℓ along each V_b, shapes (n directions, d_ℓ, n samples)."""
        n = self._n
        self._z: list[np.ndarray] = []
        self._h: list[np.ndarray] = []
        for index, slope in enumerate(self.center.slopes):
            direction = self._directions[index]
            shape = (n, direction.shape[1], n)
            z = balls.product(direction.reshape(-1, direction.shape[2]), self._extended[index])
            z = z.reshape(shape)
            if index:
                below = np.moveaxis(self._h[-1], 0, 1).reshape(-1, n * n)
                moved = balls.product(self.center.weights[index], below)
                z = z + np.moveaxis(moved.reshape(-1, n, n), 0, 1)
            self._z.append(z)
            self._h.append(slope * z)

    def _backward(self) -> None:
        """Store ġ_ℓ and Ẇ_ℓᵀg_ℓ along each V_b, shapes (n directions, ·, n samples)."""
        n, center = self._n, self.center
        g_tangent = 0 * balls.balls(np.ones((n, 1, n)))
        self._g = [g_tangent]
        self._pulled: list[np.ndarray] = []
        for index in range(len(center.weights) - 1, 0, -1):
            weight, activation = center.weights[index], center.activations[index - 1]
            own = np.swapaxes(self._directions[index][:, :, :-1], 1, 2)
            shape = own.shape[:2]
            pulled = balls.product(own.reshape(-1, own.shape[2]), center.signals[index])
            pulled = pulled.reshape(*shape, n)
            moved = np.moveaxis(g_tangent, 0, 1).reshape(-1, n * n)
            back = np.moveaxis(balls.product(weight.T, moved).reshape(-1, n, n), 0, 1) + pulled
            bend = activation.at(2, center.preactivations[index - 1]) * center.pulled[index - 1]
            g_tangent = bend * self._z[index - 1] + center.slopes[index - 1] * back
            self._g.append(g_tangent)
            self._pulled.append(pulled)
        self._g.reverse()
        self._pulled.reverse()

    @cached_property
    def _first_order(self) -> np.ndarray:
        """The Gram matrices G_b, shape (n, n, n)."""
        n = self._n
        turned = balls.matrix(self._left.T)
        total: list[Any] = [0] * n
        for index, (g, h) in enumerate(zip(self.center.signals, self._extended, strict=True)):
            # A few rows of the layer at a time: T_ab there for all a and b, then its transpose.
            few = max(1, _CHUNK // len(h))
            for begin in range(0, len(g), few):
                rows = slice(begin, begin + few)
                signal = np.moveaxis(self._g[index][:, rows], 2, 0)  # (i, b, row)
                block = signal[..., None] * h.T[:, None, None, :]
                if index:
                    tangent = np.moveaxis(self._h[index - 1], 2, 0)[:, :, None, :]
                    block[..., :-1] += g.T[:, None, rows, None] * tangent
                both = balls.product(turned, block.reshape(n, -1)).reshape(n, n, -1)
                both = both + np.swapaxes(both, 0, 1)
                for b in range(n):
                    part = balls.matrix(both[:, b])
                    total[b] = part * part.transpose() + total[b]
        return np.array([gram.tolist() for gram in total], dtype=object) / 4

    @cached_property
    def _sources(self) -> dict[Source, np.ndarray]:
        """Vectors along each V_b that the remainder is proportional to, (n, d, n or 1)."""
        found: dict[Source, np.ndarray] = {}
        for index, z in enumerate(self._z):
            found["z", index] = z
            found["h", index] = self._h[index]
        for index, pulled in enumerate(self._pulled, start=1):
            found["weight", index] = self._directions[index][:, :, :-1].reshape(self._n, -1, 1)
            found["pulled", index] = pulled
        return found

    def _forms(self, s: Any) -> dict[Source, np.ndarray]:
        """Return matrices F_ki with source k's part of the remainder at most tᵀF_ki t, (n, L, L).

        Statement.  Let t_ℓ be the norms of δ's layers, ζ_ℓ and χ_ℓ the changes of z_ℓ and h_ℓ, and
        Δ that of a tangent along V_b.  With ζ⁽²⁾ and χ⁽²⁾ for what is of second order,

        * ζ_ℓ = δW(h + χ) + δb + Wχ_{ℓ−1}, so ζ⁽²⁾_ℓ = δW χ_{ℓ−1} + Wχ⁽²⁾_{ℓ−1};
        * χ = σ(z+ζ) − σ(z), so |χ| ≤ min(c′, ‖D‖ + ½c″|ζ|)|ζ| and |χ⁽²⁾| ≤ ½c″|ζ|² + ‖D‖|ζ⁽²⁾|;
        * Δż_ℓ = Ẇχ_{ℓ−1} + δW ḣ_{ℓ−1} + (W + δW)Δḣ_{ℓ−1};
        * Δḣ = (σ′(z+ζ) − σ′(z))ż + σ′(z+ζ)Δż, so |Δḣ| ≤ c″|ζ||ż| + c′|Δż|.

        The remainder of ḟ = ż_L is Σ_ℓ g_ℓ·(Ẇχ⁽²⁾_{ℓ−1} + δWΔḣ_{ℓ−1}) plus, with b = Wᵀg one layer
        up, Σ_ℓ b_ℓ·{(σ′(z+ζ) − σ′ − σ″ζ)ż + σ″ζ⁽²⁾ż + (σ′(z+ζ) − σ′)Δż}.
        Below, |ζ| ≤ y·t, |χ| ≤ x·t, and quadratic parts are at most tᵀ(·)t, for |t| ≤ s.
        """
        center = self.center
        n, depth = self._n, len(center.weights)
        unit = balls.balls(np.eye(depth))
        x = wide_x = balls.balls(np.zeros((n, depth)))
        curved = wide_curved = balls.balls(np.zeros((n, depth, depth)))
        moved: dict[Source, np.ndarray] = {}  # bounds on Δḣ one layer below
        found: dict[Source, np.ndarray] = {}

        def add(to: dict[Source, np.ndarray], source: Source, value: np.ndarray) -> None:
            to[source] = to[source] + value if source in to else value

        for index in range(depth):
            own = unit[index] + balls.balls(np.zeros((n, 1)))
            size = balls.norm(center.inputs[index], 0) + s * balls.norm(x, 1)
            y = balls.root(size * size + 1)[:, None] * own + wide_x
            square = _symmetric(own, x) + wide_curved
            tangent: dict[Source, np.ndarray] = {}
            if index:
                length = balls.norm(center.signals[index], 0)
                add(found, ("pulled", index), curved)
                for source, vector in moved.items():
                    add(found, source, length[:, None, None] * _symmetric(own, vector))
                if index == depth - 1:
                    break
                tangent = {("weight", index): x, ("h", index - 1): own}
                for source, vector in moved.items():
                    add(tangent, source, (center.sizes[index] + s) * vector)
            activation, z = center.activations[index], center.preactivations[index]
            reach = s * balls.norm(y, 1)
            bends = activation.magnitude(2, z - reach, z + reach)
            slope = balls.greatest(activation.magnitude(1, z - reach, z + reach), 0)
            bend = balls.greatest(bends, 0)
            at_w = balls.greatest(abs(center.slopes[index]), 0)
            back = abs(center.pulled[index])
            twice = _symmetric(y, y)
            third = activation.steepest() / 2 * balls.greatest(back, 0)
            second = balls.greatest(back * abs(activation.at(2, z)), 0)
            add(found, ("z", index), _matrix(third) * twice + _matrix(second) * square)
            for source, vector in tangent.items():
                turned = _matrix(balls.greatest(back * bends, 0))
                add(found, source, turned * _symmetric(y, vector))
            moved = {source: slope[:, None] * vector for source, vector in tangent.items()}
            add(moved, ("z", index), bend[:, None] * y)
            above, scaled = center.sizes[index + 1], center.slope_sizes[index]
            half = bend * reach / 2
            x = balls.lesser(slope, at_w + half)[:, None] * y
            wide_x = balls.lesser(slope * above, scaled + above * half)[:, None] * y
            curved = _matrix(bend / 2) * twice + _matrix(at_w) * square
            wide_curved = _matrix(above * bend / 2) * twice + _matrix(scaled) * square
        return found

    def exceeds(self, radius: Any, value: Any) -> tuple[int, float]:
        """Decide whether λ_min(A(s)) > ‖U‖ ‖V‖ m.

        Parameters
        ----------
        radius, value : arb
            s > 0 and m ≥ 0.

        Returns
        -------
        verdict : int
            1 if it is proved, −1 if it is not so, 0 if undecided.
        least : float
            An estimate of λ_min(A(s)).
        """
        n = self._n
        squares = {
            source: (radius**2 * balls.greatest_eigenvalue_bound(form)) ** 2
            for source, form in self._forms(radius).items()
        }
        c, a = self._parameters(float(radius), squares)
        total = self._middle - (self.scale * value) * balls.balls(np.eye(n))
        weights = radius / 2 / balls.balls(c)
        total = total - (weights[:, None, None] * self._first_order).sum(axis=0)
        diagonal = radius / 2 * balls.balls(c)
        for number, (source, square) in zip(balls.balls(a), squares.items(), strict=True):
            vectors = self._sources[source]
            if vectors.shape[2] == 1:
                square = square.sum(keepdims=True)
            scaled = (square * vectors).reshape(n, -1)
            remainder = balls.product(scaled, vectors.reshape(n, -1).T)
            total = total - self._size / (2 * number) * remainder
            diagonal = diagonal + self._size / 2 * number
        total = total - np.diag(diagonal)
        guess = balls.middles(total)
        least = np.linalg.eigvalsh(guess)[0] if np.isfinite(guess).all() else np.nan
        return int(balls.definiteness(total)), float(least) + float(value)

    @cached_property
    def _guesses(self) -> tuple[np.ndarray, dict[Source, np.ndarray]]:
        """In floating point, the G_b and the Gram matrices P_ki, (n or 1, n, n)."""
        grams = {}
        for source, vectors in self._sources.items():
            rows = np.moveaxis(balls.middles(vectors), 2, 0)
            grams[source] = rows @ np.swapaxes(rows, 1, 2)
        return balls.middles(self._first_order), grams

    @np.errstate(all="ignore")  # whatever comes out, it only proves less
    def _parameters(self, s: float, squares: dict[Source, np.ndarray]) -> tuple[Any, Any]:
        """Choose c and a in floating point, by a smoothed alternating maximization of λ_min(A).

        For a density matrix ρ the best are c_b = √(tr ρG_b/ρ_bb) and a_k = √(tr ρN_k); ρ follows
        the lowest eigenvectors of A.
        """
        first, grams = self._guesses
        n = self._n
        remainders = []
        for source, square in squares.items():
            gram, weight = grams[source], balls.middles(square)
            weight = weight if len(gram) > 1 else weight.sum(keepdims=True)
            remainders.append(np.tensordot(weight, gram, 1))
        second = np.stack(remainders)
        density = np.zeros((n, n))
        density[0, 0] = 1
        c = np.sqrt(first[0, 0, 0]) + (self.singular - self.singular[0]) / (2 * s)
        c = np.maximum(c, 1e-30)
        best, chosen = -np.inf, (c, np.ones(len(second)))
        middle = np.diag(self.singular)
        for turn in range(_ROUNDS):
            a = np.maximum(np.sqrt(np.maximum(np.tensordot(second, density), 0)), 1e-30)
            matrix = middle - s / 2 * (np.diag(c) + np.tensordot(1 / c, first, 1))
            matrix = matrix - 0.5 * (a.sum() * np.eye(n) + np.tensordot(1 / a, second, 1))
            if not np.isfinite(matrix).all():
                break
            values, vectors = np.linalg.eigh(matrix)
            if values[0] > best:
                best, chosen = values[0], (c, a)
            weight = np.exp(-(values - values[0]) / (0.03 * max(self.singular[0], 1e-300)))
            new = (vectors * (weight / weight.sum())) @ vectors.T
            density = new if turn == 0 else 0.7 * density + 0.3 * new
            share = np.maximum(np.diag(density), 1e-12)
            c = np.sqrt(np.maximum(np.tensordot(first, density), 0) / share)
            c = np.maximum(c, 1e-30)
        return chosen


def _symmetric(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return (a bᵀ + b aᵀ)/2 for each pair of rows."""
    outer = one[:, :, None] * other[:, None, :]
    return (outer + np.swapaxes(outer, 1, 2)) / 2


def _matrix(values: np.ndarray) -> np.ndarray:
    return values[:, None, None]
