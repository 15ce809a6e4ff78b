"""How far residual and first-layer signals can turn within given budgets, near a positive start.

With q* the signal of the point's own weights and the start's slopes, f = X̃u + a with
|u| ≤ |q*| r_1 + |c| and |a| ≤ Δ, and |t_i − m̂·q*| ≤ τ; `least_push` puts this into
`ResidualDirection` and takes the worst length of q*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._residual_direction import ResidualDirection
from ._start_bounds import Reach, Start

__all__ = ["least_push"]

# Ends of the cells of ω/|q⁰| − 1.
_CELLS = np.array([-np.inf, -0.6, -0.4, -0.25, -0.15, -0.07, 0.0, 0.1, 0.25, 0.5, 1.0, np.inf])


@dataclass(frozen=True)
class _Turn:
    """Bounds over splits: |q* − q⁰|, |f(v) at W_1 = 0|, |t − m̂·q*|_∞ and |a|."""

    signal: np.ndarray
    constant: np.ndarray
    spread: np.ndarray
    remainder: np.ndarray


def _turn(start: Start, reach: Reach, widest: float) -> _Turn:
    r = reach.budgets
    slopes = [float(layer.slope.max()) for layer in start.layers]
    # Backward: |γ*_ℓ − γ̄_ℓ|, the change of the signal before the slopes of layer ℓ.
    still, moved, changes = 1.0, np.ones_like(r[0]), []
    for layer, budget, slope in zip(
        reversed(start.layers), reversed(r[1:]), reversed(slopes), strict=True
    ):
        still, moved = still * layer.size, moved * (layer.size + budget)
        changes.append(moved - still + 1e-13 * moved)
        still, moved = still * slope, moved * slope
    changes.reverse()
    signal = changes[0] * slopes[0]
    # Forward: gains G_ℓ of first-layer changes, and changes of z_ℓ with W_1 = 0.
    gain, base = np.ones_like(r[0]), np.zeros_like(r[0])
    entry = float(start.direction.max()) * np.ones_like(r[0])
    spread, remainder = np.zeros_like(r[0]), np.zeros_like(r[0])
    for index, layer in enumerate(start.layers):
        kept, change = start.signals[index], changes[index]
        bend, top = reach.bends[index], reach.top_slopes[index]
        together = gain * kept.max()
        if index == 0:
            together = together * 0 + float(np.linalg.norm(start.direction * kept))
        away = np.minimum(gain * r[0] * start.longest_input + base, reach.moves[index])
        spread = spread + bend * away * (together + entry * change)
        half = 0.5 * gain * r[0] * start.longest_input + base
        remainder = remainder + (kept.max() + change) * bend * gain * half * r[0] * widest
        budget = r[index + 1]
        h = float(np.linalg.norm(layer.h)) + top * base
        base = layer.size * top * base + budget * np.sqrt(np.square(h) + 1)
        entry = (layer.rows[2] + budget) * top * gain
        gain = reach.gains[index] * gain
    return _Turn(signal, base, spread, remainder)


def least_push(start: Start, reach: Reach, residuals: ResidualDirection) -> np.ndarray:
    """Return lower bounds on |J(v)ᵀe|/|e| that use where e can point, one for each split.

    The cells of ω = m̂·q* are those of a fixed grid of ω/|q⁰|, cut to where ω can be: with larger
    output weights on smaller budgets each cell shrinks within itself, so no bound falls.
    """
    plain = np.sqrt(residuals.least) * reach.signal
    if np.isnan(reach.signal).any():
        return plain
    turn = _turn(start, reach, float(np.sqrt(residuals.greatest)))
    below, above = _CELLS[:-1, None, None], _CELLS[1:, None, None]
    low = start.first_signal + np.maximum(start.first_signal * below, -turn.signal)
    high = start.first_signal + np.minimum(start.first_signal * above, turn.signal)
    reached = low <= high
    # |q*|² = |q*−q⁰|² + 2|q⁰|ω − |q⁰|².
    square = np.square(turn.signal) + start.first_signal * (2 * high - start.first_signal)
    length = np.sqrt(np.maximum(square, 0.0))
    room = turn.spread + 1e-12 * start.first_signal  # for rounding, where little is left
    least = np.maximum(low - room, reach.signal)
    most = np.maximum(high + room, least)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        part = np.where(reached & (least > 0), 0.5 * (most / least - 1), np.inf)
    ratio = residuals.least_ratio(length * reach.budgets[0] + turn.constant, turn.remainder, part)
    found = np.maximum(np.sqrt(ratio) * least, plain)
    return np.where(reached, found, np.inf).min(axis=0)
