"""Networks in balls: the passes hold the true values; what is proved around w is true and sharp."""

import itertools

import mpmath
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from strategies import SMOOTH, case, cases

from plcore import activations, bounds, jacobian_bounds
from plcore.ball_expansion import Expansion
from plcore.ball_networks import derivative_bounds, propagate
from plcore.ball_signals import first_layer_gram, shortest_signal, splits
from plcore.balls import ball, middles, working_precision
from plcore.network import FeedForward

TANH, GELU = activations.tanh, activations.gelu
LEAKY, SIGMOID = activations.smooth_leaky_relu(0.2), activations.sigmoid
SHAPES = [
    case(FeedForward((4, 6, 1), TANH), 4, 0),
    case(FeedForward((5, 4, 3, 1), [TANH, GELU]), 5, 1),
    case(FeedForward((2, 3, 4, 3, 1), [LEAKY, activations.arctan, SIGMOID]), 3, 2),
    case(FeedForward((1, 1, 1), activations.arcsinh), 1, 3),
]
IDS = [str(each.network.widths) for each in SHAPES]


@pytest.fixture(autouse=True)
def _many_bits():
    with working_precision(128):
        yield


def at(each):
    names = [activation.name for activation in each.network.activations]
    return propagate(each.network.layers(each.w), names, each.X)


def around(each, radius, count, seed=0):
    """Weights in B(w, radius), most on its boundary, some in a single layer or towards zero."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        step = rng.standard_normal(each.w.size)
        if number % 3 == 1:
            mask = np.zeros(each.w.size)
            weight, bias = each.network.layers(mask)[rng.integers(each.network.depth)]
            weight[...], bias[...] = 1, 1
            step = step * mask
        if number % 5 == 2:
            step = -each.w + 0.1 * step
        found.append(each.w + radius * step / np.linalg.norm(step) * (1 - 1e-12))
    return found


def holds(x, value, width=1e-30):
    low, high = (
        mpmath.ldexp(int(m), int(e)) for m, e in (x.lower().man_exp(), x.upper().man_exp())
    )
    slop = abs(value) * mpf(10) ** -46
    return low - slop <= value <= high + slop and high - low <= width * (1 + abs(value))


# --- both passes --------------------------------------------------------------------------------


def exact_outputs(each, w, X):
    """The network of theory in mpmath, entry by entry."""
    widths, names = each.oracle
    pairs, position = [], 0
    for inputs, outputs in itertools.pairwise(widths):
        rows = [w[position + k * inputs : position + (k + 1) * inputs] for k in range(outputs)]
        position += inputs * outputs
        pairs.append((rows, w[position : position + outputs]))
        position += outputs
    found = []
    for x in X:
        h = [mpf(float(u)) for u in x]
        for layer, (rows, bias) in enumerate(pairs):
            z = [mpmath.fdot(row, h) + b for row, b in zip(rows, bias, strict=True)]
            h = [oracles.mpmath_activation(names[layer])(u) for u in z] if layer < len(names) else z
        found.append(h[0])
    return found


@pytest.mark.parametrize("each", SHAPES, ids=IDS)
def test_outputs_hold_fifty_digits_and_are_narrow(each):
    with mp.workdps(50):
        exact = exact_outputs(each, [mpf(float(v)) for v in each.w], each.X)
        assert all(holds(x, v) for x, v in zip(at(each).outputs, exact, strict=True))


@pytest.mark.parametrize("each", SHAPES[:3], ids=IDS[:3])
def test_signals_and_kernel_hold_the_derivatives_of_the_outputs(each):
    """The derivatives by the biases are the signals; the kernel, by central differences, too."""
    center = at(each)
    with mp.workdps(70):
        w = [mpf(float(v)) for v in each.w]
        step = mpf(10) ** -18
        rows = []
        for j in range(len(w)):
            moved = [
                exact_outputs(each, [*w[:j], w[j] + d, *w[j + 1 :]], each.X) for d in (step, -step)
            ]
            rows.append([(a - b) / (2 * step) for a, b in zip(*moved, strict=True)])
        place = np.zeros(each.w.size)
        for layer, (_, bias) in enumerate(each.network.layers(place)):
            bias[...] = layer + 1
        for layer, signal in enumerate(center.signals):
            for k, j in enumerate(np.flatnonzero(place == layer + 1)):
                for i in range(len(each.X)):
                    assert (
                        abs(mpf(str(signal[k, i].mid().str(40, radius=False))) - rows[j][i]) < 1e-25
                    )
        kernel = center.kernel
        for i, j in itertools.product(range(len(each.X)), repeat=2):
            exact = mpmath.fsum(row[i] * row[j] for row in rows)
            assert abs(mpf(str(kernel[i, j].mid().str(40, radius=False))) - exact) < 1e-24
            assert kernel[i, j].rad() < 1e-33 * (1 + abs(float(exact)))


@given(cases(SMOOTH))
@settings(max_examples=25)
def test_passes_agree_with_autograd(each):
    center = at(each)
    assert np.allclose(middles(center.outputs), oracles.outputs(*each.oracle, each.w, each.X))
    K = oracles.kernel(*each.oracle, each.w, each.X)
    assert np.allclose(middles(center.kernel), K, rtol=1e-9, atol=1e-9 * np.abs(K).max())
    for size, (weight, _) in zip(center.sizes, each.network.layers(each.w), strict=True):
        assert float(size) == pytest.approx(np.linalg.norm(weight, 2), rel=1e-11)
    trace = each.network.propagate(each.w, each.X)
    for index, found in enumerate(center.slope_sizes):
        for i, x in enumerate(found):
            matrix = trace.weights[index + 1] * trace.slopes[index][:, i]
            assert float(x) == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-11)


# --- second derivatives and the Jacobian on a ball ------------------------------------------------


def hessians(each, v):
    """∇²f(x_i, v) for every i, shape (n, p, p), by central differences of the Jacobian."""
    step = 1e-5
    moves = step * np.eye(v.size)
    ahead, behind = each.network.jacobian(np.stack([v + moves, v - moves]), each.X)
    return np.moveaxis(ahead - behind, 0, 1) / (2 * step)


def test_the_central_differences_are_good_enough():
    each = SHAPES[1]
    slope = oracles.autograd.jacobian(lambda u: oracles.jacobian(*each.oracle, u, each.X)[2])
    assert np.allclose(hessians(each, each.w)[2], slope(each.w), atol=1e-8)


@pytest.mark.parametrize("each", SHAPES, ids=IDS)
@pytest.mark.parametrize("radius", [0.01, 0.3])
def test_derivative_bounds_hold_on_the_ball(each, radius):
    found = derivative_bounds(at(each), ball(radius))
    rng = np.random.default_rng(5)
    largest = steepest = 0.0
    for v in around(each, radius, 15):
        H = hessians(each, v)
        for _ in range(8):
            u = rng.standard_normal(len(each.X))
            combined = np.tensordot(u / np.linalg.norm(u), H, 1)
            largest = max(largest, np.abs(np.linalg.eigvalsh(combined)).max())
        J = each.network.jacobian(v, each.X)
        steepest = max(steepest, np.linalg.norm(J, 2))
    assert largest <= float(found.hessian) + 1e-8
    assert steepest <= float(found.jacobian)
    # Not vacuous, and no worse than the search's own bound, to whose statement it is written.
    other = bounds.ball_bounds(each.network, each.w, each.X, radius)
    assert float(found.hessian) == pytest.approx(float(other.hessian), rel=1e-9)
    assert float(found.jacobian) <= float(other.jacobian) * (1 + 1e-9)
    assert float(found.hessian) <= 60 * largest
    assert float(found.jacobian) <= 6 * steepest


def test_the_jacobian_bound_is_exact_in_the_limit():
    each = SHAPES[1]
    J = np.linalg.norm(oracles.jacobian(*each.oracle, each.w, each.X), 2)
    assert float(derivative_bounds(at(each), ball(1e-12)).jacobian) == pytest.approx(J, rel=1e-9)


# --- the first-layer bound ------------------------------------------------------------------------


@given(st.integers(2, 12), st.data())
def test_splits_cover_every_split(depth, data):
    numbers, most = splits(depth)
    assert numbers.shape[1] == depth
    assert (numbers >= 1).all()
    assert (numbers.sum(axis=1) == most - 1 + depth).all()
    assert len(np.unique(numbers, axis=0)) == len(numbers) <= 150
    parts = data.draw(st.lists(st.integers(0, 1000), min_size=depth, max_size=depth))
    total = max(sum(parts), 1)
    # Exact: r_ℓ²/s² = part/total is to be at most min(k_ℓ/M, 1).
    below = np.array(parts)[None] * most <= np.minimum(numbers, most) * total
    assert below.all(axis=1).any()


def shortest_at(each, v):
    trace = each.network.propagate(v, each.X)
    return np.linalg.norm(each.network.signals(trace)[0], axis=0).min()


@pytest.mark.parametrize("each", SHAPES, ids=IDS)
def test_the_shortest_signal_is_no_longer_than_any_in_the_ball(each):
    center = at(each)
    at_w = shortest_at(each, each.w)
    before = at_w
    for radius in (1e-9, 0.01, 0.05, 0.2):
        found = float(shortest_signal(center, ball(radius)))
        assert found <= min(shortest_at(each, v) for v in around(each, radius, 60)) * (1 + 1e-12)
        assert found <= before  # a greater ball, a shorter signal
        before = found
    assert float(shortest_signal(center, ball(1e-9))) == pytest.approx(at_w, rel=1e-6)
    assert shortest_signal(center, ball(1e-9)).rad() < 1e-30


@pytest.mark.parametrize("each", SHAPES[:2], ids=IDS[:2])
def test_the_first_layer_bound_is_that_of_the_search(each):
    radii = np.array([0.001, 0.02, 0.1])
    found = jacobian_bounds.first_layer(each.objective, each.w, radii)
    least = np.linalg.eigvalsh(middles(first_layer_gram(at(each))))[0]
    mine = [float(shortest_signal(at(each), ball(s))) * np.sqrt(least) for s in radii]
    assert np.maximum(mine, 0) == pytest.approx(found, rel=1e-9, abs=1e-12)


# --- the second-order bound -----------------------------------------------------------------------


def proved(expansion, radius, top):
    """The greatest m that the expansion proves at a radius, by bisection."""
    low, high = 0.0, top
    if expansion.exceeds(ball(radius), ball(0.0))[0] <= 0:
        return 0.0
    for _ in range(34):
        middle = 0.5 * (low + high)
        if expansion.exceeds(ball(radius), ball(middle))[0] > 0:
            low = middle
        else:
            high = middle
    return low


def least_at(each, v):
    return np.linalg.svd(each.network.jacobian(v, each.X), compute_uv=False)[-1]


def downhill(each, radius, steps=25):
    """A point of the ball with a small least singular value: projected descent by its gradient."""
    v = each.w.copy()
    for count in range(steps):
        left, _, right = np.linalg.svd(each.network.jacobian(v, each.X), full_matrices=False)
        slope = np.einsum("ipq,i,p->q", hessians(each, v), left[:, -1], right[-1])
        v = v - radius / (1 + count) * slope / np.linalg.norm(slope)
        length = np.linalg.norm(v - each.w)
        if length > radius:
            v = each.w + (v - each.w) * (radius / length)
    return v


@pytest.mark.parametrize("each", SHAPES[:3], ids=IDS[:3])
def test_what_the_expansion_proves_is_true_on_the_ball(each):
    expansion = Expansion(at(each))
    at_w = least_at(each, each.w)
    assert float(expansion.scale) == pytest.approx(1, abs=1e-11)
    assert proved(expansion, 1e-9, 2 * at_w) == pytest.approx(at_w, rel=1e-6)
    ratios = []
    for radius in (0.003, 0.01, 0.03):
        bound = proved(expansion, radius, 2 * at_w)
        worst = min(least_at(each, v) for v in [*around(each, radius, 30), downhill(each, radius)])
        assert bound <= worst * (1 + 1e-12)
        ratios.append((at_w - worst) / (at_w - bound))
        other = jacobian_bounds.any_n(each.objective, each.w, [radius])[0]
        assert other * (1 - 1e-9) - 1e-11 <= bound <= other * (1 + 1e-4) + 1e-11
    # The true decrease is at least this part of the one that is allowed for.
    assert ratios[0] > 0.35


def test_the_expansion_is_exact_to_first_order():
    """σ_min(w) − m(s) = s|∇σ_min| + O(s²): the Gram matrices are those of the true derivatives."""
    each = SHAPES[1]
    J = oracles.jacobian(*each.oracle, each.w, each.X)
    left, values, right = np.linalg.svd(J, full_matrices=False)
    slope = np.einsum("ipq,i,p->q", hessians(each, each.w), left[:, -1], right[-1])
    s = 1e-6
    decrease = values[-1] - proved(Expansion(at(each)), s, values[-1])
    assert decrease == pytest.approx(s * np.linalg.norm(slope), rel=1e-3)


def test_any_parameters_of_the_expansion_are_valid(monkeypatch):
    """Bad choices cost sharpness, not truth."""
    each = SHAPES[0]
    expansion = Expansion(at(each))
    good = proved(expansion, 0.01, 5.0)
    worst = least_at(each, downhill(each, 0.01))
    rng = np.random.default_rng(0)
    for _ in range(5):
        n = len(each.X)
        monkeypatch.setattr(
            Expansion,
            "_parameters",
            lambda self, s, squares, n=n: (
                np.exp(rng.uniform(-1, 1, n)),
                np.exp(rng.uniform(-12, -6, len(squares))),
            ),
        )
        assert proved(expansion, 0.01, 5.0) <= min(good * (1 + 1e-6), worst)
