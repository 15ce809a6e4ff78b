"""The pieces of the bounds at positive starts against their formulas, one number at a time."""

import math

import numpy as np
import pytest
from scipy import optimize

from plcore import activations, initialization
from plcore._residual_direction import ResidualDirection
from plcore._start_bounds import Layer
from plcore._start_curvature import _needed, greatest_curvature
from plcore._start_direction import _turn
from plcore.network import FeedForward
from plcore.positive_start_bounds import Setting


def begun(widths, seed=0, activation=activations.tanh, n=4):
    rng = np.random.default_rng(seed)
    network = FeedForward(widths, activation)
    X, y = rng.standard_normal((n, widths[0])), rng.standard_normal(n)
    layers = [
        (np.zeros(W.shape) if index == 0 else rng.uniform(0.5, 1.5, W.shape), b)
        for index, (W, b) in enumerate(network.layers(initialization.positive(network, 1.0)))
    ]
    setting = Setting.from_start(network, X, y, network.pack(layers))
    return setting.begun, X, y


# ------------------------------------------------------------------------- curvature


def symmetric_top(entries, depth):
    form = np.zeros((depth, depth))
    for (i, j), value in entries.items():
        form[i, j] += value / 2
        form[j, i] += value / 2
    return np.linalg.eigvalsh(form)[-1]


def curvature_by_hand(start, reach, split, residual, widest, samples):
    """The recursions for M_ℓ, N_ℓ and the form of ∇²f, entry by entry, for one split."""
    depth = start.depth
    budgets = [float(r[split]) for r in reach.budgets]
    gains = [float(g[split]) for g in reach.gains]
    one, every = {0: start.longest_input}, {0: widest}  # M_1 and N_1
    shift = budgets[0] * widest
    entries = {}
    for k, layer in enumerate(start.layers):  # from z_{k+1} to z_{k+2}
        above = math.prod(gains[k + 1 :])  # |g_{k+2}|
        steepest = float(reach.top_slopes[k][split])
        bend = float(reach.bends[k][split]) * (layer.column + budgets[k + 1]) * above
        for i, a in every.items():
            entries[k + 1, i] = entries.get((k + 1, i), 0) + 2 * above * steepest * a
            for j, b in one.items():
                entries[i, j] = entries.get((i, j), 0) + bend * a * b
        size = np.linalg.norm(layer.h)
        single = math.hypot(size + steepest * float(reach.moves[k][split]), 1)
        together = math.sqrt(samples) * math.hypot(size, 1) + steepest * shift
        one = {i: gains[k] * a for i, a in one.items()} | {k + 1: single}
        every = {i: gains[k] * a for i, a in every.items()} | {k + 1: together}
        shift = layer.size * steepest * shift + budgets[k + 1] * together
    return sum(a * a for a in every.values()) + residual * symmetric_top(entries, depth)


@pytest.mark.parametrize("widths", [(3, 4, 1), (3, 4, 2, 1), (3, 2, 4, 3, 1)])
def test_the_curvature_is_its_recursion(widths):
    start, X, _ = begun(widths, activation=activations.smooth_leaky_relu(0.1))
    rng = np.random.default_rng(1)
    budgets = list(rng.uniform(0.05, 0.6, (start.depth, 5)))
    reach = start.reach(budgets, shared=True)
    widest = np.linalg.norm(np.column_stack([X, np.ones(4)]), 2)
    for residual in (0.0, 0.7, 20.0):
        found = greatest_curvature(start, reach, residual, widest, 4)
        expected = [curvature_by_hand(start, reach, k, residual, widest, 4) for k in range(5)]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_how_far_a_neuron_moves_for_a_change_of_its_value(sign):
    z = np.array([0.4, 0.4])
    layer = Layer(activations.tanh, z, np.tanh(z), 1 - np.tanh(z) ** 2, np.ones((1, 2)), None)
    change = np.array([1e-3, 0.1, 0.5, 1.7])
    with np.errstate(invalid="ignore"):
        exact = sign * (np.arctanh(np.tanh(0.4) + sign * change) - 0.4)
    found = _needed(layer, change, sign)
    within = np.isfinite(exact)
    assert (found[within] >= exact[within]).all()
    np.testing.assert_allclose(found[within], exact[within], rtol=2e-9, atol=2e-9)
    assert (found[~within] == np.inf).all()


# ------------------------------------------------------------------------- direction


@pytest.mark.parametrize("widths", [(3, 4, 1), (3, 4, 3, 1)])
def test_what_turns_the_signal_is_its_recursion(widths):
    """q* against q⁰, f at W_1 = 0, and what is left of second order, as scalars."""
    start, X, _ = begun(widths, seed=2)
    rng = np.random.default_rng(3)
    budgets = list(rng.uniform(0.05, 0.4, (start.depth, 3)))
    reach = start.reach(budgets, shared=True)
    widest = np.linalg.norm(np.column_stack([X, np.ones(4)]), 2)
    turn = _turn(start, reach, widest)
    for split in range(3):
        r = [float(each[split]) for each in budgets]
        slopes = [float(layer.slope.max()) for layer in start.layers]
        changes = []
        for k in range(len(start.layers)):
            # The product of (‖W‖ + r) less that of ‖W‖, from the output down to layer k.
            far = near = 1.0
            for j in range(len(start.layers) - 1, k - 1, -1):
                inner = slopes[j] if j > k else 1.0
                far *= (start.layers[j].size + r[j + 1]) * inner
                near *= start.layers[j].size * inner
            changes.append(far - near)
        assert turn.signal[split] == pytest.approx(changes[0] * slopes[0], rel=1e-9)
        gain, base, entry = 1.0, 0.0, start.direction.max()
        spread = remainder = 0.0
        for k, layer in enumerate(start.layers):
            kept, bend = start.signals[k], float(reach.bends[k][split])
            steepest = float(reach.top_slopes[k][split])
            together = np.linalg.norm(start.direction * kept) if k == 0 else gain * kept.max()
            away = min(gain * r[0] * start.longest_input + base, float(reach.moves[k][split]))
            spread += bend * away * (together + entry * changes[k])
            half = gain * r[0] * start.longest_input / 2 + base
            remainder += (kept.max() + changes[k]) * bend * gain * half * (r[0] * widest)
            state = np.linalg.norm(layer.h) + steepest * base
            base = layer.size * steepest * base + r[k + 1] * math.hypot(state, 1)
            entry = (layer.rows[2] + r[k + 1]) * steepest * gain
            gain *= float(reach.gains[k][split])
        assert turn.constant[split] == pytest.approx(base, rel=1e-12)
        assert turn.spread[split] == pytest.approx(spread, rel=1e-9)
        assert turn.remainder[split] == pytest.approx(remainder, rel=1e-9)


# ------------------------------------------------------------------------- residuals


def data(seed=0, n=4, d=5, scale=1.0):
    rng = np.random.default_rng(seed)
    return scale * rng.standard_normal((n, d)), rng.standard_normal(n)


@pytest.mark.parametrize("power", [-30, 30])
def test_the_unit_of_the_targets_does_not_matter(power):
    X, y = data(scale=3.0)
    unit = 2.0**power
    arguments = np.random.default_rng(1).uniform(0, [0.15, 0.05, 0.05], (50, 3)).T
    arguments[:2] *= np.linalg.norm(y)
    found = ResidualDirection(X, y).least_ratio(*arguments)
    arguments[:2] *= unit
    other = ResidualDirection(X, unit * y).least_ratio(*arguments)
    np.testing.assert_allclose(other, found, rtol=1e-9)
    assert (found > 1.05 * ResidualDirection(X, y).least).mean() > 0.3


@pytest.mark.parametrize("part", [0.03, 0.1, 0.25])
def test_a_shift_of_the_residual_costs_no_more_than_it_must(part):
    """Without a first layer's reach, |e + y| ≤ Δ: bounds against a search on the sphere."""
    X, y = data(7)
    P, size = X @ X.T + 1, np.linalg.norm(y)
    rng = np.random.default_rng(0)

    def ratio(u):
        e = part * size * u / np.linalg.norm(u) - y
        return e @ P @ e / (e @ e)

    searched = min(optimize.minimize(ratio, rng.standard_normal(4)).fun for _ in range(8))
    (bound,) = ResidualDirection(X, y).least_ratio(
        np.zeros(1), np.array([part * size]), np.zeros(1)
    )
    assert 0.75 * searched < bound <= searched * (1 + 1e-9)
