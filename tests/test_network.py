"""The network: its order of parameters, outputs and derivatives against autograd, batches."""

import dataclasses
import pickle

import numpy as np
import oracles
import pytest
from hypothesis import given
from strategies import EVERY, SMOOTH, case, cases, networks

from plcore import activations
from plcore.network import FeedForward

NETWORK = FeedForward((3, 4, 2, 1), (activations.tanh, activations.softplus))


class Tensor:
    """Stands for a PyTorch tensor: it is no array, but numpy can make one of it."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)


def assert_close(computed, expected, tolerance=1e-12):
    """Equal shapes, and a difference of at most `tolerance` times the norm of `expected`."""
    assert np.shape(computed) == np.shape(expected)
    assert np.linalg.norm(computed - expected) <= tolerance * np.linalg.norm(expected)


def test_order_of_parameters_is_the_documented_one():
    """W_1 row by row, b_1, W_2, b_2: written out, and read in the same way by the oracle."""
    network = FeedForward((2, 3, 1), activations.tanh)
    w = np.arange(13.0)
    (W1, b1), (W2, b2) = network.layers(w)
    np.testing.assert_array_equal(W1, [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(b1, [6, 7, 8])
    np.testing.assert_array_equal(W2, [[9, 10, 11]])
    np.testing.assert_array_equal(b2, [12])
    for (W, b), (weight, bias) in zip(
        network.layers(w), oracles.unpack(network.widths, w), strict=True
    ):
        np.testing.assert_array_equal(W, weight)
        np.testing.assert_array_equal(b, bias)


def test_a_network_computed_by_hand():
    """f(x) = 2 tanh(3x₁ − x₂ + ½) − tanh(x₁ + x₂) + 7."""
    network = FeedForward((2, 2, 1), activations.tanh)
    w = network.pack([([[3, -1], [1, 1]], [0.5, 0]), ([[2, -1]], [7])])
    X = np.array([[0.1, 0.4], [-1.0, 2.0]])
    expected = 2 * np.tanh(3 * X[:, 0] - X[:, 1] + 0.5) - np.tanh(X.sum(axis=1)) + 7
    np.testing.assert_allclose(network.forward(w, X), expected, rtol=1e-15)


@given(networks())
def test_parameter_count_and_depth(network):
    """(2.1): p = Σ_ℓ d_ℓ (d_{ℓ−1} + 1)."""
    d = network.widths
    assert network.depth == len(d) - 1
    assert network.parameter_count == sum(d[i] * (d[i - 1] + 1) for i in range(1, len(d)))
    assert network.smoothness == min(each.smoothness for each in network.activations)


@given(networks())
def test_layers_are_views_and_pack_is_their_inverse(network):
    w = np.random.default_rng(0).standard_normal((2, 3, network.parameter_count))
    layers = network.layers(w)
    assert all(np.shares_memory(part, w) for pair in layers for part in pair)
    np.testing.assert_array_equal(network.pack(layers), w)
    layers[-1][0][1, 2] = 17.0
    layers[0][1][0, 1] = -3.0
    for (W, b), (weight, bias) in zip(
        network.layers(w[1, 2]), oracles.unpack(network.widths, w[1, 2]), strict=True
    ):
        np.testing.assert_array_equal(W, weight)
        np.testing.assert_array_equal(b, bias)
    assert (network.layers(w[1, 2])[-1][0] == 17).all()
    assert (network.layers(w[0, 1])[0][1] == -3).all()


def test_pack_broadcasts_leading_axes():
    rng = np.random.default_rng(0)
    shapes = [((5, 1, 4, 3), (4,)), ((2, 4), (3, 2)), ((1, 2), (5, 3, 1))]
    layers = [(rng.standard_normal(W), rng.standard_normal(b)) for W, b in shapes]
    w = NETWORK.pack(layers)
    assert w.shape == (5, 3, NETWORK.parameter_count)
    for (W, b), (weight, bias) in zip(NETWORK.layers(w), layers, strict=True):
        np.testing.assert_array_equal(W, np.broadcast_to(weight, W.shape))
        np.testing.assert_array_equal(b, np.broadcast_to(bias, b.shape))


@given(cases())
def test_outputs_and_jacobian_against_autograd(case):
    w, X = case.w, case.X
    assert_close(case.network.forward(w, X), oracles.outputs(*case.oracle, w, X))
    assert_close(case.network.jacobian(w, X), oracles.jacobian(*case.oracle, w, X))


@given(cases())
def test_jacobian_actions_against_autograd(case):
    """Jᵀu by the backward pass and Jv by the forward one, neither forming J."""
    J = oracles.jacobian(*case.oracle, case.w, case.X)
    u, v = case.normal(len(case.y)), case.normal(case.w.size)
    trace = case.network.propagate(case.w, case.X)
    scale = np.linalg.norm(J)
    backward = case.network.pull_back(trace, u) - J.T @ u
    forward = case.network.push_forward(trace, v)[0] - J @ v
    assert np.linalg.norm(backward) <= 1e-12 * scale * np.linalg.norm(u)
    assert np.linalg.norm(forward) <= 1e-12 * scale * np.linalg.norm(v)


@given(cases())
def test_signals_are_the_derivatives_by_the_biases(case):
    """g_ℓ(x_i) = ∂f(x_i)/∂b_ℓ; the paper's q is g_1 (A.6)."""
    J = oracles.jacobian(*case.oracle, case.w, case.X)
    signals = case.network.signals(case.network.propagate(case.w, case.X))
    for signal, (_, columns) in zip(signals, case.network.layers(J), strict=True):
        assert np.linalg.norm(signal.T - columns) <= 1e-12 * np.linalg.norm(J)


@pytest.mark.parametrize("activation", SMOOTH, ids=lambda each: each.name)
@pytest.mark.parametrize("depth", [2, 3, 5])
def test_first_order_remainder_has_slope_two(activation, depth):
    """log-log slope of |f(w + tv) − f(w) − tJv| in t."""
    sample = case(FeedForward((3, *range(3, depth + 2), 1), activation), 4, seed=depth)
    w, X, v = sample.w, sample.X, sample.normal(sample.w.size)
    f, moved = sample.network.forward(w, X), sample.network.jacobian(w, X) @ v
    t = np.geomspace(1e-5, 1e-3, 9)
    moved_outputs = sample.network.forward(w + t[:, None] * v, X)
    remainder = np.linalg.norm(moved_outputs - f - t[:, None] * moved, axis=-1)
    assert np.polyfit(np.log(t), np.log(remainder), 1)[0] == pytest.approx(2, abs=0.02)


@given(cases(most_samples=4, greatest_depth=4))
def test_a_batch_is_a_loop_over_runs(case):
    """Runs that share data, runs with data of their own, and axes that broadcast."""
    network, d = case.network, case.network.widths[0]
    w = case.w + 0.1 * case.normal(3, 2, case.w.size)
    n = len(case.y)
    for X in (case.X, case.normal(3, 2, n, d), case.normal(2, n, d), case.normal(3, 1, n, d)):
        outputs, jacobians = network.forward(w, X), network.jacobian(w, X)
        assert outputs.shape == (3, 2, n)
        each = np.broadcast_to(X, (3, 2, n, d))
        for index in np.ndindex(3, 2):
            assert_close(outputs[index], network.forward(w[index], each[index]), 1e-14)
            assert_close(jacobians[index], network.jacobian(w[index], each[index]), 1e-14)


def test_one_run_on_several_data_sets():
    rng = np.random.default_rng(3)
    w, X = rng.standard_normal(NETWORK.parameter_count), rng.standard_normal((4, 6, 3))
    outputs, jacobians = NETWORK.forward(w, X), NETWORK.jacobian(w, X)
    for i in range(4):
        assert_close(outputs[i], NETWORK.forward(w, X[i]), 1e-14)
        assert_close(jacobians[i], NETWORK.jacobian(w, X[i]), 1e-14)


def test_whatever_numpy_can_read_is_an_array():
    rng = np.random.default_rng(0)
    layers = NETWORK.layers(rng.integers(-3, 4, NETWORK.parameter_count).astype(float))
    w, X = NETWORK.pack(layers), rng.integers(-3, 4, (5, 3)).astype(float)
    tensors = [(Tensor(W), Tensor(b)) for W, b in layers]
    np.testing.assert_array_equal(NETWORK.pack(tensors), w)
    expected = NETWORK.forward(w, X)
    for kind in (Tensor, np.ndarray.tolist, np.float32, np.int8, np.asfortranarray):
        np.testing.assert_array_equal(NETWORK.forward(kind(w), kind(X)), expected)
    assert NETWORK.forward(np.float32(w), X).dtype == np.float64


def test_arguments_are_left_alone():
    rng = np.random.default_rng(0)
    w, X = rng.standard_normal(NETWORK.parameter_count), rng.standard_normal((5, 3))
    kept = w.copy(), X.copy()
    w.flags.writeable = X.flags.writeable = False
    NETWORK.forward(w, X)
    NETWORK.jacobian(w, X)
    np.testing.assert_array_equal(w, kept[0])
    np.testing.assert_array_equal(X, kept[1])


def test_a_network_is_a_value():
    """Frozen, equal and hashed by shape and activations, and it survives pickling."""
    twin = FeedForward([3, np.int64(4), 2, 1], [activations.tanh, activations.named("softplus")])
    assert twin == NETWORK
    assert hash(twin) == hash(NETWORK)
    assert pickle.loads(pickle.dumps(NETWORK)) == NETWORK
    assert FeedForward((3, 4, 2, 1), activations.tanh) != NETWORK
    with pytest.raises(dataclasses.FrozenInstanceError):
        NETWORK.widths = (1, 1, 1)
    assert {len(FeedForward((2, 3, 1), each).activations) for each in EVERY} == {1}
