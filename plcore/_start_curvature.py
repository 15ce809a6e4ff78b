"""An upper bound on the curvature of the loss near a positive start, for given budgets.

Along a unit direction whose part in layer ℓ has norm t_ℓ, the tangents obey |ż_ℓ| ≤ M_ℓ·t for each
sample and (Σ_i |ż_ℓi|²)^½ ≤ N_ℓ·t for all together; N_L bounds J, and both bound ∇²f.
"""

from __future__ import annotations

import numpy as np

from . import checks
from ._start_bounds import Layer, Reach, Start

__all__ = ["greatest_curvature", "reach_below"]

_PASSES = 2
_FARTHEST = 1e3


def reach_below(start: Start, budgets: list[np.ndarray], output: float) -> Reach:
    """Bound pre-activations and slopes at points where no output exceeds `output` in size.

    Where all weights that lead out of a layer are equal, the output shows how far the neurons of
    the layer have moved together, and its own budget how far apart; and so layer by layer down
    to the second.
    """
    reach = start.reach(budgets, shared=True)
    if any(least != greatest for least, greatest in (layer.entries for layer in start.layers)):
        return reach
    first = np.full_like(budgets[0], np.inf)
    for _ in range(_PASSES):
        caps = [(first, first)]
        rise = fall = output + reach.owns[-1]
        for index in range(len(start.layers) - 1, 0, -1):
            layer, own = start.layers[index], reach.owns[index - 1]
            width, weight = len(layer.z), layer.entries[0]
            apart = reach.top_slopes[index] * own / np.sqrt(width)
            rise = _needed(layer, rise / (weight * width) + apart, 1.0)
            fall = _needed(layer, fall / (weight * width) + apart, -1.0)
            most, down = (np.sqrt(width) * by + own for by in (np.maximum(rise, fall), fall))
            caps.insert(1, (most, down))
        reach = start.reach(budgets, shared=True, caps=caps)
    return reach


def _needed(layer: Layer, change: np.ndarray, sign: float) -> np.ndarray:
    """Return how far z̄ must move for σ(z) to change by as much; rounded up, ∞ where it cannot."""
    function, z = layer.activation.functions[0], float(layer.z[0])
    at_start = float(function(np.array([z]))[0])
    below, above = np.zeros_like(change), np.full_like(change, _FARTHEST)
    reached = np.abs(function(z + sign * above) - at_start) >= change
    for _ in range(44):
        middle = 0.5 * (below + above)
        enough = np.abs(function(z + sign * middle) - at_start) >= change
        below, above = np.where(enough, below, middle), np.where(enough, middle, above)
    return np.where(reached, above * (1 + 1e-9) + 1e-9, np.inf)


@np.errstate(over="ignore", invalid="ignore")
def greatest_curvature(
    start: Start, reach: Reach, residual: float, widest: float, samples: int
) -> np.ndarray:
    """Return upper bounds on n λ_max(∇²S)/2 where |e| ≤ `residual`, one for each split.

    Parameters
    ----------
    start : Start
    reach : Reach
        From ``start.reach``.
    residual : float
        A bound on |e|.
    widest : float
        A bound on ‖X̃‖.
    samples : int
        n.
    """
    r = reach.budgets
    shape = r[0].shape
    depth, root = start.depth, np.sqrt(samples)
    unit = np.eye(depth)
    signals = [np.ones(shape)]  # |g_L|, …, |g_2|
    for gain in reach.gains[:0:-1]:
        signals.append(signals[-1] * gain)
    signals.reverse()
    each = start.longest_input * np.ones(shape)[..., None] * unit[0]
    whole = widest * np.ones(shape)[..., None] * unit[0]
    moved = r[0] * widest  # the Frobenius norm of the changes of Z_ℓ
    form = np.zeros((*shape, depth, depth))
    for index, layer in enumerate(start.layers):
        top, signal = reach.top_slopes[index], signals[index]
        budget = r[index + 1]
        cross = (signal * top)[..., None, None] * (unit[index + 1][:, None] * whole[..., None, :])
        bend = reach.bends[index] * (layer.column + budget) * signal
        square = bend[..., None, None] * (whole[..., :, None] * each[..., None, :])
        form += cross + np.swapaxes(cross, -1, -2)
        form += 0.5 * (square + np.swapaxes(square, -1, -2))
        h = float(np.linalg.norm(layer.h))
        one = np.sqrt(np.square(h + top * reach.moves[index]) + 1)
        all_of = root * np.sqrt(h * h + 1) + top * moved
        each = one[..., None] * unit[index + 1] + reach.gains[index][..., None] * each
        whole = all_of[..., None] * unit[index + 1] + reach.gains[index][..., None] * whole
        moved = layer.size * top * moved + budget * all_of
    checks.within_range(form, "The bound on ∇²S")
    bending = np.linalg.eigvalsh(form)[..., -1]
    return np.square(whole).sum(axis=-1) + residual * bending
