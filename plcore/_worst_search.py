"""The machinery of `worst_points`: descent on log R over many spheres around a start at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .network import FeedForward
from .objectives import LeastSquares

__all__ = ["Inner", "search_spheres"]

# Of each radius: new starts in the first round and later, and survivors of a round.
_FIRST, _LATER, _KEPT = 8, 3, 3
# Descent steps of the rounds; between two of them the radii exchange what they have found.
_ROUNDS = (30, 40, 40, 50)
_DENSE, _POLISH = 4, 40  # dense radii for each given one, and descent steps there
_BETWEEN = 5  # points tried between two neighbouring dense radii
_MEMORY = 6  # pairs of the L-BFGS recurrence
_BLOCK = 512  # points evaluated together


class Inner:
    """The problem without the input directions that no input has, where n < d."""

    def __init__(self, problem: LeastSquares, start: np.ndarray) -> None:
        X, network = problem.X, problem.network
        self.full_network, self.full_start = network, start
        self.basis: np.ndarray | None = None
        if len(X) < X.shape[1]:
            basis, upper = np.linalg.qr(X.T)
            self.basis, X = basis.T, upper.T
            network = FeedForward((len(basis.T), *network.widths[1:]), network.activations)
        self.network, self.X, self.y = network, np.ascontiguousarray(X), problem.y
        self.scale = math.log(4 / len(X))
        self.start = self.reduce(start)
        self.inverse = np.linalg.pinv(self.X)
        self.turning = float(len(X) * problem.value(start))

    def reduce(self, w: np.ndarray) -> np.ndarray:
        """Return the coordinates that matter of points of shape (..., p)."""
        if self.basis is None:
            return w
        (W, b), *rest = self.full_network.layers(w)
        return self.network.pack([(W @ self.basis.T, b), *rest])

    def lift(self, w: np.ndarray) -> np.ndarray:
        """Return the points of the full space nearest to the start with these coordinates."""
        if self.basis is None:
            return w
        (W, b), *rest = self.network.layers(w)
        (first, _), *_ = self.full_network.layers(self.full_start)
        first = first + (W - self.network.layers(self.start)[0][0]) @ self.basis
        return self.full_network.pack([(first, b), *rest])

    def critical_points(self) -> np.ndarray:
        """Return the points of `vanishing_radius` for ℓ = 2 … L, the nearest first."""
        points = np.repeat(self.start[None], self.network.depth - 1, axis=0)
        layers = self.network.layers(points)
        layers[0][0][...] = 0.0
        for index, (W, _) in enumerate(layers[1:]):
            W[index] = 0.0
        output = self.network.propagate(points, self.X).outputs
        layers[-1][1][:, 0] += self.y.mean() - output[:, 0]
        size = np.linalg.norm(points - self.start, axis=1)
        return points[np.argsort(size, kind="stable")]

    def floor(self, residual: np.ndarray) -> np.ndarray:
        """Return the size of |e|² up to which rounding rules R."""
        output = residual + self.y
        return 1e-14 * (np.square(output).sum(axis=-1) + np.square(self.y).sum())

    def values(self, w: np.ndarray) -> np.ndarray:
        """Return log R at points of shape (k, p), ∞ where S is nil."""
        found = np.empty(len(w))
        for k in range(0, len(w), _BLOCK):
            with np.errstate(all="ignore"):
                trace = self.network.propagate(w[k : k + _BLOCK], self.X)
                e = trace.outputs - self.y
                square = np.square(e).sum(axis=-1)
                slope = self.network.pull_back(trace, e)
                value = np.log(_dot(slope, slope) / square) + self.scale
                usable = np.isfinite(value) & (square > self.floor(e))
            found[k : k + _BLOCK] = np.where(usable, value, np.inf)
        return found

    def log_ratio(self, w: np.ndarray, share: Any = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Return log R + share · log(1 + S/S(w_0)) and its gradient; ∞ and 0 where S is nil."""
        parts = [
            self._log_ratio(w[k : k + _BLOCK], np.broadcast_to(share, len(w))[k : k + _BLOCK])
            for k in range(0, len(w), _BLOCK)
        ]
        value, turn = zip(*parts, strict=True)
        return np.concatenate(value), np.concatenate(turn)

    def _log_ratio(self, w: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        network = self.network
        with np.errstate(all="ignore"):
            trace = network.propagate(w, self.X)
            e = trace.outputs - self.y
            square = np.square(e).sum(axis=-1)
            slope = network.pull_back(trace, e)
            size = _dot(slope, slope)
            moved, *tangents = network.push_forward(trace, slope)
            turn = network.pull_back_tangent(trace, slope, e, moved, (tangents[0], tangents[1]))
            turn *= (2 / size)[:, None]
            turn -= (2 / square - 2 * share / (self.turning + square))[:, None] * slope
            value = np.log(size / square) + self.scale + share * np.log1p(square / self.turning)
            usable = np.isfinite(value) & np.isfinite(turn).all(axis=-1) & (square > self.floor(e))
        return np.where(usable, value, np.inf), np.where(usable[:, None], turn, 0.0)


def search_spheres(
    inner: Inner,
    radii: np.ndarray,
    rng: np.random.Generator,
    effort: float,
    guesses: np.ndarray | None,
) -> np.ndarray:
    """Return points, shape (k, p), with small R at distances up to the largest radius.

    `guesses` are moves away from the start, of which only the directions count.
    """
    first, later, kept = (math.ceil(effort * number) for number in (_FIRST, _LATER, _KEPT))
    m = len(radii)
    directions = _new_directions(inner, rng, m * first).reshape(m, first, -1)
    if guesses is not None:
        guesses = _unit(guesses[np.linalg.norm(guesses, axis=1) > 0])
        if len(guesses):
            known = _best_elsewhere(inner, radii, guesses, 2 * kept)
            directions = np.concatenate([directions, known], axis=1)
    for turn, steps in enumerate(_ROUNDS):
        count = directions.shape[1]
        # In the first rounds every other run leaves the plateaus where S is large.
        share = np.tile(np.arange(count) % 2.0 * (turn < 2), m)
        u, value = _descend(
            inner, directions.reshape(m * count, -1), np.repeat(radii, count), share, steps
        )
        order = np.argsort(value.reshape(m, count), axis=1)[:, :kept, None]
        own = np.take_along_axis(u.reshape(m, count, -1), order, axis=1)
        if turn == len(_ROUNDS) - 1:
            break
        shared = own[:, :2].reshape(-1, own.shape[-1])
        other = _best_elsewhere(inner, radii, shared, kept)
        if turn == len(_ROUNDS) - 2:
            directions = np.concatenate([own[:, :2], other[:, :2]], axis=1)
        else:
            new = _new_directions(inner, rng, m * later).reshape(m, later, -1)
            directions = np.concatenate([own, other, new], axis=1)
    # Last, radii between the given ones, from the best of what is known and of its mixtures.
    moves = radii[:, None] * own[:, 0]
    critical = inner.critical_points() - inner.start
    moves = np.concatenate([moves, critical[np.linalg.norm(critical, axis=1) > radii[-1]][:1]])
    known = _unit(np.concatenate([own[:, :2].reshape(-1, moves.shape[1]), _between(moves, 3)]))
    dense = np.interp(
        np.arange(1, _DENSE * m + 1) / _DENSE, np.arange(m + 1), np.append(0.0, radii)
    )
    directions = _best_elsewhere(inner, dense, known, 1)[:, 0]
    u, value = _descend(inner, directions, dense, np.zeros(len(dense)), _POLISH)
    moves = np.concatenate([dense[:, None] * u, moves[m:]])
    return inner.start + np.concatenate([moves, _between(moves, _BETWEEN)])


def _between(moves: np.ndarray, parts: int) -> np.ndarray:
    """Return points on the way to the first of the moves, and between neighbours."""
    share = np.arange(1, parts)[:, None, None] / parts
    steps = np.concatenate([np.zeros_like(moves[:1]), moves])
    size = np.linalg.norm(steps, axis=-1, keepdims=True)
    wanted = (1 - share) * size[:-1] + share * size[1:]
    mixed = (1 - share) * steps[:-1] + share * steps[1:]
    ahead, behind = (
        np.broadcast_to(steps[1:], mixed.shape),
        np.broadcast_to(steps[:-1], mixed.shape),
    )
    return np.concatenate(
        [(wanted * _unit(v)).reshape(-1, moves.shape[-1]) for v in (mixed, ahead, behind)]
    )


def _unit(u: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(u, axis=-1, keepdims=True)
    return u / np.where(length > 0, length, 1.0)


def _best_elsewhere(inner: Inner, radii: np.ndarray, u: np.ndarray, count: int) -> np.ndarray:
    """Return for each radius the `count` directions out of `u` with the least R there."""
    points = (radii[:, None, None] * u).reshape(-1, u.shape[-1])
    value = inner.values(inner.start + points).reshape(len(radii), len(u))
    return u[np.argsort(value, axis=1)[:, :count]]


def _new_directions(inner: Inner, rng: np.random.Generator, count: int) -> np.ndarray:
    """Return random unit vectors, with random shares of the layers and these traits at random.

    Alike: all neurons of a layer move in the same way.  Pulled: the outputs of the first layer
    follow the targets, but for some samples that are pulled far out, where they saturate.  Split:
    some neurons of the hidden layers saturate, as many at either end.  Shrunk: most of the way to
    a critical point of `vanishing_radius`.
    """
    network, n = inner.network, len(inner.X)
    u = rng.standard_normal((count, network.parameter_count))
    alike, pulled, split, shrunk = rng.uniform(size=(4, count)) < [[0.6], [0.5], [0.2], [0.4]]
    layers = network.layers(u)
    far = rng.uniform(size=(count, 1, n)) < rng.uniform(size=(count, 1, 1))
    follow = inner.y * rng.standard_normal((count, 1, 1))
    goal = np.where(far, 3 * rng.standard_normal((count, 1, n)), follow)
    layers[0][0][pulled] = (goal @ inner.inverse.T)[pulled]
    for index, (W, b) in enumerate(layers):
        W[alike] = W[alike][:, :1] if index == 0 else W[alike][:, :1, :1]
        b[alike] = b[alike][:, :1]
    for _, b in layers[:-1]:
        signs = rng.permuted(np.resize([1.0, -1.0], b.shape), axis=-1)
        signs *= rng.uniform(size=b.shape) < rng.uniform(size=(count, 1))
        b[split] = 3 * signs[split]
    shares = rng.standard_exponential((count, network.depth)) ** 2
    for (W, b), share in zip(layers, shares.T, strict=True):
        length = np.sqrt(np.square(W).sum(axis=(-1, -2)) + np.square(b).sum(axis=-1))
        share = share / np.where(length > 0, length, 1.0)
        W *= share[:, None, None]
        b *= share[:, None]
    u = _unit(u)
    ways = _unit(inner.critical_points() - inner.start)
    way = ways[rng.integers(len(ways), size=count)] + rng.uniform(size=(count, 1)) * u
    return _unit(np.where(shrunk[:, None], way, u))


def _descend(
    inner: Inner, u: np.ndarray, radius: np.ndarray, share: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Take L-BFGS steps on u ↦ log R(w_0 + r u), |u| = 1, and return u and log R.

    All runs advance together; a step that fails Armijo's test is shortened in the next round.
    """

    def evaluate(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, turn = inner.log_ratio(inner.start + radius[:, None] * u, share)
        turn *= radius[:, None]
        turn -= _dot(turn, u)[:, None] * u
        return value, turn

    runs = len(u)
    value, turn = evaluate(u)
    moves, changes = np.zeros((2, _MEMORY, *u.shape))
    weights = np.zeros((_MEMORY, runs))
    scale = 0.1 / np.maximum(np.sqrt(_dot(turn, turn)), 1e-300)
    direction, length = -scale[:, None] * turn, np.ones(runs)
    slot = 0
    for _ in range(steps):
        trial = _unit(u + length[:, None] * direction)
        new_value, new_turn = evaluate(trial)
        taken = new_value <= value + 1e-4 * length * _dot(direction, turn)
        taken &= new_value < np.inf
        move, change = trial - u, new_turn - turn
        bend = _dot(move, change)
        good = taken & (bend > 1e-200)
        good &= bend > 1e-10 * np.sqrt(_dot(move, move) * _dot(change, change))
        moves[slot], changes[slot] = move, change
        weights[slot] = np.where(good, 1 / np.where(good, bend, 1.0), 0.0)
        scale = np.where(good, bend / np.where(good, _dot(change, change), 1.0), scale)
        slot = (slot + 1) % _MEMORY
        u = np.where(taken[:, None], trial, u)
        value = np.where(taken, new_value, value)
        turn = np.where(taken[:, None], new_turn, turn)
        length = np.where(taken, 1.0, 0.25 * length)
        stuck = length < 1e-6
        weights[:, stuck] = 0.0
        scale[stuck] = 1e-3 / np.maximum(np.sqrt(_dot(turn[stuck], turn[stuck])), 1e-300)
        length[stuck] = 1.0
        # The two loops of the L-BFGS recurrence, newest pair first, then back.
        q, factors = turn.copy(), []
        order = [(slot - 1 - k) % _MEMORY for k in range(_MEMORY)]
        for k in order:
            factors.append(weights[k] * _dot(moves[k], q))
            q -= factors[-1][:, None] * changes[k]
        q *= scale[:, None]
        for k, factor in zip(order[::-1], factors[::-1], strict=True):
            q += (factor - weights[k] * _dot(changes[k], q))[:, None] * moves[k]
        q -= _dot(q, u)[:, None] * u
        uphill = _dot(q, turn) <= 0
        q = np.where(uphill[:, None], scale[:, None] * turn, q)
        q *= np.minimum(1.0, 0.5 / np.maximum(np.sqrt(_dot(q, q)), 1e-300))[:, None]
        renewed = (taken | stuck)[:, None]
        direction = np.where(renewed, -q, direction)
    if share.any():
        value = inner.values(inner.start + radius[:, None] * u)
    return u, value


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", a, b)
