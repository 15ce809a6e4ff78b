"""Architectures against the network of the paper, and against plain loops over complex numbers."""

import pickle

import numpy as np
import pytest
from bad_input import assert_sentence
from strategies import EVERY, ROUGH

from plcore import (
    activations,
    bounds,
    certificates,
    criterion,
    initialization,
    kernel,
    positive_start,
)
from plcore.architectures import ConvolutionalResidual, FullyConnected, Residual, SquaredLoss
from plcore.curvature import top_curvature
from plcore.descent import gradient_descent
from plcore.flow import gradient_flow
from plcore.network import FeedForward
from plcore.objectives import LeastSquares
from plcore.piecewise import piecewise_polynomial

# Three pieces, the middle one a cubic; σ and σ′ are continuous.
SPLINE = piecewise_polynomial(
    [-1.0, 1.0], [[-1.0, -0.5], [0.0, 1.25, 0.5, -0.25], [-0.25, 2.0, -0.25]], "spline"
)
CUBE = piecewise_polynomial([], [[0.0, 1.0, -0.5, 0.25]], "cube")
TRIED = (activations.tanh, activations.sigmoid, *ROUGH, SPLINE, CUBE)
KINDS = {
    "fully connected": lambda sigma, biases: FullyConnected((4, 5, 3, 1), sigma, biases),
    "residual": lambda sigma, biases: Residual(4, 5, 2, sigma, biases=biases),
    "convolutional": lambda sigma, biases: ConvolutionalResidual(
        2, 2, 3, 3, 2, sigma, branch_scale=0.7, biases=biases
    ),
}
SAMPLES = 6


def each_case(test):
    test = pytest.mark.parametrize("biases", [True, False], ids=["biases", "no biases"])(test)
    test = pytest.mark.parametrize("kind", KINDS)(test)
    return pytest.mark.parametrize("sigma", TRIED, ids=lambda each: each.name)(test)


def case(kind, sigma, biases, seed=0, runs=()):
    network = KINDS[kind](sigma, biases)
    rng = np.random.default_rng(seed)
    w = network.gaussian_start(rng, runs, bias_deviation=0.7)
    X = rng.standard_normal((SAMPLES, network.input_dimension))
    return SquaredLoss(network, X, rng.standard_normal(SAMPLES)), w


# ---------------------------------------------------------------- the oracle: plain loops


def _value(sigma, u):
    """σ at one complex number, by the formulas that its name stands for."""
    if sigma.name == "tanh":
        return np.tanh(u)
    if sigma.name == "sigmoid":
        return 1 / (1 + np.exp(-u))
    if sigma.name == "relu":
        return u if u.real > 0 else 0 * u
    if sigma.name == "leaky_relu(0.1)":
        return u if u.real > 0 else 0.1 * u
    if sigma.name == "squared_relu":
        return u * u if u.real > 0 else 0 * u
    if sigma.name == "cube":
        return u - 0.5 * u**2 + 0.25 * u**3
    if u.real <= -1:
        return -1 - 0.5 * u
    return 1.25 * u + 0.5 * u**2 - 0.25 * u**3 if u.real <= 1 else -0.25 + 2 * u - 0.25 * u**2


class Reader:
    """Takes one layer after the other off a flat vector, entry by entry."""

    def __init__(self, w, biases):
        self.entries, self.biases = list(w), biases

    def affine(self, rows, columns):
        W = [[self.entries.pop(0) for _ in range(columns)] for _ in range(rows)]
        b = [self.entries.pop(0) if self.biases else 0.0 for _ in range(rows)]
        return lambda h: [
            sum(a * t for a, t in zip(row, h, strict=True)) + c for row, c in zip(W, b, strict=True)
        ]


def oracle(network, w, x):
    """f(x, w) for one input, in numbers that may be complex."""
    reader = Reader(w, network.biases)
    if isinstance(network, FullyConnected):
        h = list(x)
        for columns, rows, sigma in zip(
            network.widths[:-2], network.widths[1:-1], network.activations, strict=True
        ):
            h = [_value(sigma, u) for u in reader.affine(rows, columns)(h)]
        result = reader.affine(1, network.widths[-2])(h)[0]
    elif isinstance(network, Residual):
        scale = network.branch_scale or 1 / network.blocks
        h = [_value(network.activation, u) for u in reader.affine(network.width, len(x))(x)]
        for _ in range(network.blocks):
            z = reader.affine(network.width, network.width)(h)
            h = [a + scale * _value(network.activation, u) for a, u in zip(h, z, strict=True)]
        result = reader.affine(1, network.width)(h)[0]
    else:
        scale = network.branch_scale or 1 / network.blocks
        half = network.window // 2
        grid = [
            list(x[k * network.channels : (k + 1) * network.channels])
            for k in range(network.positions)
        ]
        for block in range(network.blocks + 1):
            layer = reader.affine(network.filters, network.window * len(grid[0]))
            new = []
            for place in range(network.positions):
                patch = []
                for k in range(place - half, place + half + 1):
                    inside = 0 <= k < network.positions
                    patch += grid[k] if inside else [0.0] * len(grid[0])
                z = [_value(network.activation, u) for u in layer(patch)]
                old = grid[place]
                new.append(
                    z if block == 0 else [a + scale * u for a, u in zip(old, z, strict=True)]
                )
            grid = new
        flat = [entry for row in grid for entry in row]
        result = reader.affine(1, len(flat))(flat)[0]
    assert not reader.entries
    return result


@each_case
def test_outputs_and_jacobian_against_plain_loops_and_complex_steps(sigma, kind, biases):
    """Im f(x, w + i h e_k)/h: exact up to h² for polynomials and analytic functions alike."""
    problem, w = case(kind, sigma, biases)
    network, step = problem.network, 1e-30
    outputs = np.array([oracle(network, w.astype(complex), x) for x in problem.X])
    np.testing.assert_allclose(network.forward(w, problem.X), outputs.real, rtol=1e-13, atol=1e-14)
    moved = w + 1j * step * np.eye(w.size)
    chosen = np.random.default_rng(1).choice(w.size, 12, replace=False)
    expected = [[oracle(network, moved[k], x).imag / step for k in chosen] for x in problem.X]
    J = problem.jacobian(w)
    assert J.shape == (SAMPLES, w.size)
    np.testing.assert_allclose(J[:, chosen], expected, rtol=1e-12, atol=1e-13 * np.abs(J).max())


@each_case
def test_derivatives_against_central_differences(sigma, kind, biases):
    problem, w = case(kind, sigma, biases, seed=3)
    step = 1e-6
    both = w + step * np.stack([np.eye(w.size), -np.eye(w.size)])
    residual, slope = problem.residual(both), problem.gradient(both)
    # No kink of a rough activation lies within a step: this start is at least 100 steps away.
    J = ((residual[0] - residual[1]) / (2 * step)).T
    np.testing.assert_allclose(problem.jacobian(w), J, rtol=1e-7, atol=1e-8 * np.abs(J).max())
    value = problem.value(both)
    gradient = (value[0] - value[1]) / (2 * step)
    size = np.abs(gradient).max()
    np.testing.assert_allclose(problem.gradient(w), gradient, rtol=1e-7, atol=1e-8 * size)
    hessian = (slope[0] - slope[1]) / (2 * step)
    size = np.abs(hessian).max()
    np.testing.assert_allclose(problem.hessian(w), hessian, rtol=1e-6, atol=1e-7 * size)


@each_case
def test_everything_follows_from_residual_and_jacobian(sigma, kind, biases):
    problem, w = case(kind, sigma, biases, seed=5, runs=(2, 3))
    e, J, n = problem.residual(w), problem.jacobian(w), SAMPLES
    value, gradient = problem.value_and_gradient(w)
    np.testing.assert_allclose(e, problem.network.forward(w, problem.X) - problem.y)
    np.testing.assert_allclose(value, (e**2).mean(axis=-1))
    np.testing.assert_array_equal(problem.value(w), value)
    size = np.abs(gradient).max()
    expected = 2 / n * np.einsum("...np,...n->...p", J, e)
    np.testing.assert_allclose(gradient, expected, rtol=1e-11, atol=1e-13 * size)
    K = problem.kernel(w)
    np.testing.assert_allclose(K, np.einsum("...ip,...jp->...ij", J, J), rtol=1e-12, atol=1e-13)
    ratio = 4 / n * np.einsum("...i,...ij,...j->...", e, K, e) / (e**2).sum(axis=-1)
    np.testing.assert_allclose(problem.ratio(w), ratio, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_hessian_is_symmetric_and_taylor_remainders_have_slopes_two_and_three(kind):
    problem, w = case(kind, activations.tanh, True, seed=7)
    hessian = problem.hessian(w)
    assert np.linalg.norm(hessian - hessian.T) <= 1e-13 * np.linalg.norm(hessian)
    v = np.random.default_rng(8).standard_normal(w.size)
    value, gradient = problem.value_and_gradient(w)
    bend = v @ problem.hessian_vector(w, v)
    t = np.geomspace(1e-4, 3e-3, 8)
    first = problem.value(w + t[:, None] * v) - value - t * (v @ gradient)
    for remainder, slope in ((first, 2), (first - 0.5 * t**2 * bend, 3)):
        fitted = np.polyfit(np.log(t), np.log(np.abs(remainder)), 1)[0]
        assert fitted == pytest.approx(slope, abs=0.05)


# ---------------------------------------------------------------- against the paper's network


@pytest.mark.parametrize("sigma", EVERY, ids=lambda each: each.name)
def test_fully_connected_is_the_feedforward_network(sigma):
    """Two implementations that share no line of differentiation."""
    rng = np.random.default_rng(11)
    plain, automatic = FeedForward((4, 6, 5, 1), sigma), FullyConnected((4, 6, 5, 1), sigma)
    assert plain.parameter_count == automatic.parameter_count
    assert plain.smoothness == automatic.smoothness
    w = automatic.gaussian_start(rng, (2, 3), bias_deviation=0.5)
    X, y = rng.standard_normal((3, 7, 4)), rng.standard_normal((2, 1, 7))  # data of their own
    one, two = LeastSquares(plain, X, y), SquaredLoss(automatic, X, y)
    for name in ("value", "residual", "gradient", "jacobian", "kernel", "ratio"):
        expected = getattr(one, name)(w)
        computed = getattr(two, name)(w)
        assert computed.shape == expected.shape
        size = np.abs(expected).max()
        np.testing.assert_allclose(computed, expected, rtol=1e-11, atol=1e-13 * size, err_msg=name)
    v = rng.standard_normal(w.shape)
    expected = one.hessian_vector(w, v)
    size = np.abs(expected).max()
    np.testing.assert_allclose(two.hessian_vector(w, v), expected, rtol=1e-9, atol=1e-12 * size)


def test_layers_that_differ_and_the_order_of_parameters():
    sigmas = (activations.relu, activations.tanh)
    plain, automatic = FeedForward((3, 4, 2, 1), sigmas), FullyConnected((3, 4, 2, 1), sigmas)
    w = np.arange(float(plain.parameter_count))
    for (W, b), (V, c) in zip(plain.layers(w), automatic.layers(w), strict=True):
        np.testing.assert_array_equal(W, V)
        np.testing.assert_array_equal(b, c)
    X = np.linspace(-1, 1, 6).reshape(2, 3)
    np.testing.assert_allclose(plain.forward(w / 30, X), automatic.forward(w / 30, X))
    assert automatic.smoothness == 0
    automatic.layers(w)[1][1][:] = -1.0  # views: writing goes through
    assert (w == -1).sum() == 2


def test_one_position_with_a_window_of_one_is_the_residual_network():
    rng = np.random.default_rng(2)
    line = ConvolutionalResidual(1, 4, 5, 1, 3, activations.tanh)
    plain = Residual(4, 5, 3, activations.tanh)
    assert line.layer_shapes == plain.layer_shapes
    w, X = plain.gaussian_start(rng, 3, bias_deviation=1.0), rng.standard_normal((6, 4))
    np.testing.assert_allclose(line.forward(w, X), plain.forward(w, X), rtol=1e-14)
    np.testing.assert_allclose(line.jacobian(w, X), plain.jacobian(w, X), rtol=1e-13, atol=1e-14)


def test_filters_move_with_the_input():
    """Away from the ends, an input moved by one position moves every h by one position."""
    network = ConvolutionalResidual(9, 1, 2, 3, 1, activations.tanh, biases=False)
    rng = np.random.default_rng(4)
    w = network.gaussian_start(rng)
    outputs = network.layers(w)[-1][0].reshape(9, 2)
    outputs[:] = 0.0
    outputs[4] = [1.0, -2.0]
    X = np.zeros((2, 9))
    X[0, 3:6] = X[1, 4:7] = rng.standard_normal(3)
    first = network.forward(w, X)[0]
    outputs[5], outputs[4] = outputs[4].copy(), 0.0
    assert network.forward(w, X)[1] == pytest.approx(first, rel=1e-14)


def test_a_residual_network_whose_branches_are_closed_is_a_shallow_one():
    rng = np.random.default_rng(6)
    deep = Residual(3, 4, 2, activations.sigmoid, branch_scale=1e-300)
    shallow = FullyConnected((3, 4, 1), activations.sigmoid)
    w, X = deep.gaussian_start(rng), rng.standard_normal((5, 3))
    own = np.concatenate([w[:16], w[-5:]])
    np.testing.assert_allclose(deep.forward(w, X), shallow.forward(own, X), rtol=1e-14)


# ---------------------------------------------------------------- the interface


@pytest.mark.parametrize("kind", KINDS)
def test_runs_do_not_mix(kind):
    """A batch that the Jacobian takes in several blocks, each run with data of its own."""
    problem, _ = case(kind, activations.relu, True)
    network, rng = problem.network, np.random.default_rng(9)
    runs = 5000 // network.parameter_count * 50
    w = network.gaussian_start(rng, runs, bias_deviation=1.0)
    X, y = rng.standard_normal((runs, 2, SAMPLES, network.input_dimension)), np.ones(SAMPLES)
    batch = SquaredLoss(network, X[:, 0], y)
    J, gradient = batch.jacobian(w), batch.gradient(w)
    H = batch.hessian_vector(w, w)
    for k in (0, runs // 2, runs - 1):
        single = SquaredLoss(network, X[k, 0], y)
        np.testing.assert_allclose(J[k], single.jacobian(w[k]), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(gradient[k], single.gradient(w[k]), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(H[k], single.hessian_vector(w[k], w[k]), rtol=1e-10, atol=1e-12)
    shared = network.jacobian(w[:, None], X[0])  # (runs, 1) and (2,) broadcast
    assert shared.shape == (runs, 2, SAMPLES, network.parameter_count)
    np.testing.assert_allclose(shared[-1, 1], network.jacobian(w[-1], X[0, 1]), rtol=1e-12)


def test_data_with_axes_of_its_own_gives_each_data_set_its_gradient():
    network, rng = Residual(2, 3, 1, activations.tanh), np.random.default_rng(1)
    w, X = network.gaussian_start(rng), rng.standard_normal((4, 5, 2))
    y = rng.standard_normal(5)
    gradient = SquaredLoss(network, X, y).gradient(w)
    assert gradient.shape == (4, network.parameter_count)
    for k in range(4):
        np.testing.assert_allclose(gradient[k], SquaredLoss(network, X[k], y).gradient(w))


@pytest.mark.parametrize("kind", KINDS)
def test_flow_descent_curvature_and_criterion_take_every_architecture(kind):
    problem, w = case(kind, activations.tanh, True, seed=13)
    flow = gradient_flow(problem, w, time=0.5)
    assert flow.reason == "time"
    assert np.abs(flow.defect).max() < 1e-6  # S(t) = S(0) exp(−∫R)
    fine = gradient_descent(problem, np.stack([w, w]), [1e-3, 5e-4], 1000)
    assert fine.losses[0, 500] == pytest.approx(flow.losses[-1], rel=2e-2)
    errors = np.abs([fine.losses[0, 500], fine.losses[1, 1000]] - flow.losses[-1])
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)  # first order in the step
    top = top_curvature(problem, w)
    greatest = np.linalg.eigvalsh(problem.hessian(w))[-1]
    assert top.value == pytest.approx(greatest, rel=1e-5)
    radii = np.array([0.05, 0.1])
    rng = np.random.default_rng(0)
    above = [
        criterion.pl_constant_search(problem, w, r, rng, starts=8, steps=30).value for r in radii
    ]
    assert 0 < above[1] < above[0] < problem.ratio(w)
    verdict = criterion.criterion_from_bounds(
        problem.value(w), radii, np.zeros(2), np.array(above), ratio=float(problem.ratio(w))
    )
    assert verdict.verdict == "fails"  # 4 S(w) ≥ r² α at radii this small, by the search's bound


def test_search_and_descent_agree_with_those_for_the_feedforward_network():
    rng = np.random.default_rng(14)
    plain, automatic = (make((3, 5, 1), activations.tanh) for make in (FeedForward, FullyConnected))
    X, y, w = rng.standard_normal((4, 3)), rng.standard_normal(4), initialization.lecun(plain, rng)
    one, two = LeastSquares(plain, X, y), SquaredLoss(automatic, X, y)
    found = [
        criterion.pl_constant_search(each, w, 0.5, np.random.default_rng(0), starts=8, steps=20)
        for each in (one, two)
    ]
    assert found[0].value == pytest.approx(found[1].value, rel=1e-6)
    runs = [gradient_descent(each, w, 0.1, 300) for each in (one, two)]
    np.testing.assert_allclose(runs[0].losses, runs[1].losses, rtol=1e-9, atol=1e-15)


def test_what_needs_a_bound_refuses_by_name():
    problem, w = case("residual", activations.tanh, True)
    refusals = [
        lambda: criterion.pl_constant(problem, w, [0.1]),
        lambda: criterion.criterion(problem, w),
        lambda: kernel.tangent_kernel(problem.network, w, problem.X),
        lambda: initialization.lecun(problem.network, np.random.default_rng(0)),
        lambda: positive_start.positive_start_constants(problem.network, problem.X, problem.y),
        lambda: bounds.derivative_bounds(problem, w, 0.1),
        lambda: certificates.certify(problem, w),
    ]
    for call in refusals:
        with pytest.raises(TypeError, match=r"Residual") as caught:
            call()
        assert_sentence(caught.value)


def test_networks_and_problems_travel_between_processes():
    for kind in KINDS:
        problem, w = case(kind, SPLINE, False)
        copy = pickle.loads(pickle.dumps(problem))
        assert copy.network == problem.network
        assert hash(copy.network) == hash(problem.network)
        np.testing.assert_array_equal(copy.gradient(w), problem.gradient(w))
        assert repr(problem) == f"SquaredLoss of {type(problem.network).__name__}"
        assert problem.network.smoothness == 1


# ---------------------------------------------------------------- starts


def test_starts_have_the_stated_variances():
    network = ConvolutionalResidual(4, 2, 5, 3, 1, activations.relu)
    for scaling, variance in (("lecun", 1.0), ("he", 2.0), ("standard", 0.0)):
        rng = np.random.default_rng(21)
        w = network.gaussian_start(rng, 4000, scaling=scaling, bias_deviation=0.3)
        for weight, bias in network.layers(w):
            columns = weight.shape[-1]
            expected = variance / columns if variance else 1.0
            assert np.var(weight) == pytest.approx(expected, rel=0.05)
            assert np.std(bias) == pytest.approx(0.3, rel=0.05)
        assert abs(np.mean(w)) < 0.01
    assert not any(b.any() for _, b in network.layers(network.gaussian_start(rng)))


def test_lecun_start_is_that_of_the_feedforward_network():
    plain, automatic = (
        make((3, 4, 2, 1), activations.tanh) for make in (FeedForward, FullyConnected)
    )
    one = initialization.lecun(plain, np.random.default_rng(5), (2, 3))
    np.testing.assert_array_equal(one, automatic.gaussian_start(np.random.default_rng(5), (2, 3)))


# ---------------------------------------------------------------- the edges of float64


@pytest.mark.parametrize("kind", KINDS)
def test_big_numbers_are_infinite_or_refused_and_never_nan(kind):
    problem, w = case(kind, activations.relu, True)
    assert problem.value(1e60 * w) == np.inf
    with pytest.raises(OverflowError):
        problem.gradient(1e80 * w)
    with pytest.raises(OverflowError):
        problem.network.forward(1e200 * w, problem.X)
    with pytest.raises(OverflowError):
        problem.value(1e200 * w)  # ∞ − ∞ somewhere: nothing can be said
    far = SquaredLoss(problem.network, problem.X, np.full(SAMPLES, 1e200))
    zero = np.zeros_like(w)
    assert far.value(zero) == np.inf
    assert far.ratio(zero) == pytest.approx(
        SquaredLoss(problem.network, problem.X, np.ones(SAMPLES)).ratio(zero)
    )
