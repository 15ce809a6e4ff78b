"""The first-layer bound in balls: how short the signal q = g_1 can become around w.

>>> from plcore.ball_signals import splits
>>> numbers, parts = splits(3)
>>> parts, len(numbers)
(16, 136)
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np

from . import balls
from .ball_networks import BallPass, layer_gram

__all__ = ["first_layer_gram", "shortest_signal", "splits"]

_MOST_SPLITS, _FINEST = 150, 64


def first_layer_gram(center: BallPass) -> np.ndarray:
    """Return X Xᵀ + 11ᵀ in balls; its least eigenvalue is μ."""
    return layer_gram(center.inputs[0])


def splits(depth: int) -> tuple[np.ndarray, int]:
    """Return vectors k of `depth` positive integers, and M, that cover every split of a budget.

    Statement.  Whenever Σ r_ℓ² ≤ s², one of the k has r_ℓ² ≤ s² min(k_ℓ/M, 1) for every ℓ.

    Proof.  Take k_ℓ = max(1, ⌈M r_ℓ²/s²⌉), so that k_ℓ − 1 ≤ M r_ℓ²/s², strictly where r_ℓ > 0.
    Then Σ (k_ℓ − 1) < M or is 0, hence at most M − 1, and one entry may be raised until the sum is
    M − 1: all those k are listed.
    """
    most = 1
    while most < _FINEST and math.comb(most + depth - 1, depth - 1) <= _MOST_SPLITS:
        most += 1
    # Stars and bars: the gaps between depth − 1 chosen places out of most − 1 + depth − 1.
    places = most - 1 + depth - 1
    rows = []
    for bars in combinations(range(places), depth - 1):
        ends = np.array([-1, *bars, places])
        rows.append(np.diff(ends))
    return np.array(rows), most


def shortest_signal(center: BallPass, radius: Any) -> Any:
    """Return a lower bound on min_i |q(x_i, v)| over v in B(w, s); not positive if it says nothing.

    Statement.  Let layer ℓ of v − w have the Frobenius norm r_ℓ.  For each sample,
    ζ_ℓ, χ_ℓ and γ_ℓ bound the changes of z_ℓ, h_ℓ and g_ℓ, with c′ and c″ bounds on σ′ and σ″
    over the intervals z ± ζ that the whole budget s reaches:

    * ζ_1 = r_1 |(x, 1)|, χ = min(c′ζ, ‖D‖ζ + ½c″ζ²), since σ(z + ζ) − σ(z) = σ′(z)ζ + ½σ″(·)ζ²;
    * ζ_{ℓ+1} = min(‖W_{ℓ+1}‖χ_ℓ, ‖W_{ℓ+1}D_ℓ‖ζ_ℓ + ½‖W_{ℓ+1}‖c″ζ_ℓ²) + r_{ℓ+1}|(|h_ℓ| + χ_ℓ, 1)|;
    * γ_L = 0, and as g_ℓ(v) − g_ℓ is (D(v) − D)Wᵀg_{ℓ+1} + D(v)[Wᵀ(g_{ℓ+1}(v) − g_{ℓ+1}) +
      ΔWᵀg_{ℓ+1}(v)], with κ = min(c′, ‖D‖ + c″ζ) ≥ ‖D(v)‖:
      γ_ℓ = max_k c″_k|(Wᵀg_{ℓ+1})_k| ζ_ℓ + min(κ‖W‖, ‖WD‖ + c″ζ_ℓ‖W‖) γ_{ℓ+1} +
      κ r_{ℓ+1} (|g_{ℓ+1}| + γ_{ℓ+1}).

    All of them grow with every r_ℓ, so that the least of |q| − γ_1 over the `splits` is a bound.

    Parameters
    ----------
    center : BallPass
        At w.
    radius : arb
        s > 0.
    """
    numbers, most = splits(len(center.weights))
    shares = balls.root(balls.balls(np.minimum(numbers, most)) / balls.ball(most))
    bends = _bends(center, radius)
    budgets = radius * shares.T[:, :, None]  # (L, splits, 1)
    zetas, _ = _forward(center, budgets, bends)
    lengths = [balls.norm(signal, 0) for signal in center.signals]
    gamma = 0 * zetas[0]
    for index in range(len(center.weights) - 2, -1, -1):
        zeta, (slope, bend, entries) = zetas[index], bends[index]
        size, scaled = center.sizes[index + 1], center.slope_sizes[index]
        reached = balls.lesser(slope, balls.greatest(abs(center.slopes[index]), 0) + bend * zeta)
        turned = balls.greatest(entries * abs(center.pulled[index]), 0) * zeta
        carried = balls.lesser(reached * size, scaled + bend * zeta * size) * gamma
        added = reached * budgets[index + 1] * (lengths[index + 1] + gamma)
        gamma = turned + carried + added
    return balls.least(lengths[0] - gamma)


def _bends(center: BallPass, radius: Any) -> list[tuple[Any, Any, Any]]:
    """Return, layer by layer, (c′, c″, c″_k) on what any part of the ball reaches."""
    found: list[tuple[Any, Any, Any]] = []
    budgets = [radius] * len(center.weights)
    for index, activation in enumerate(center.activations):
        zeta = _forward(center, budgets, found)[1]
        z = center.preactivations[index]
        low, high = z - zeta, z + zeta
        entries = activation.magnitude(2, low, high)
        slopes = activation.magnitude(1, low, high)
        found.append((balls.greatest(slopes, 0), balls.greatest(entries, 0), entries))
    return found


def _forward(
    center: BallPass, budgets: Any, bends: list[tuple[Any, Any, Any]]
) -> tuple[list[Any], Any]:
    """Return ζ_1 … as far as `bends` goes, and the ζ after them."""
    h = center.inputs[0]
    zeta = budgets[0] * balls.root((h * h).sum(axis=0) + 1)
    zetas = []
    for index, (slope, bend, _) in enumerate(bends):
        zetas.append(zeta)
        if index + 1 == len(center.weights):
            break
        largest = balls.greatest(abs(center.slopes[index]), 0)
        curved = bend * zeta * zeta / 2
        change = balls.lesser(slope * zeta, largest * zeta + curved)
        size, scaled = center.sizes[index + 1], center.slope_sizes[index]
        passed = balls.lesser(size * change, scaled * zeta + size * curved)
        reach = balls.norm(center.inputs[index + 1], 0) + change
        zeta = passed + budgets[index + 1] * balls.root(reach * reach + 1)
    return zetas, zeta
