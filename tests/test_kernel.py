"""The tangent kernel by (T4), its eigenvalues, and the lower bounds (A.8) and (T5)."""

import tracemalloc

import mpmath
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import ADMISSIBLE, case, cases

from plcore import activations
from plcore.initialization import lecun, positive
from plcore.kernel import (
    extreme_eigenvalues,
    kernel_by_layer,
    least_eigenvalue,
    paper_lower_bound,
    schur_lower_bound,
    tangent_kernel,
)
from plcore.network import FeedForward


def assert_close(computed, expected, tolerance=1e-12):
    """Equal shapes, and a difference of at most `tolerance` times the norm of `expected`."""
    assert np.shape(computed) == np.shape(expected)
    assert np.linalg.norm(computed - expected) <= tolerance * np.linalg.norm(expected)


# --------------------------------------------------------------------------- the kernel


@given(cases())
def test_kernel_is_jacobian_times_transpose(case):
    """(T4) against J Jᵀ with the oracle's J, and with the network's own."""
    K = tangent_kernel(case.network, case.w, case.X)
    assert_close(K, oracles.kernel(*case.oracle, case.w, case.X))
    J = case.network.jacobian(case.w, case.X)
    assert_close(K, J @ J.T)
    np.testing.assert_array_equal(K, case.objective.kernel(case.w))
    np.testing.assert_allclose(K, K.T, rtol=1e-14, atol=1e-14 * np.trace(K))


@given(cases())
def test_summands_are_the_blocks_of_the_jacobian(case):
    """Layer by layer, weights and biases apart, each J_block J_blockᵀ; together they are K."""
    summands = kernel_by_layer(case.network, case.w, case.X)
    n = len(case.y)
    assert summands.shape == (case.network.depth, 2, n, n)
    J = oracles.jacobian(*case.oracle, case.w, case.X)
    for (by_weights, by_biases), (W, b) in zip(summands, case.network.layers(J), strict=True):
        weights = W.reshape(n, -1)
        scale = 1e-12 * np.linalg.norm(J) ** 2
        assert np.linalg.norm(by_weights - weights @ weights.T) <= scale
        assert np.linalg.norm(by_biases - b @ b.T) <= scale
    assert_close(summands.sum(axis=(0, 1)), tangent_kernel(case.network, case.w, case.X))


@given(cases(most_samples=4, greatest_depth=4))
def test_a_batch_is_a_loop_over_runs(case):
    network, n, d = case.network, len(case.y), case.network.widths[0]
    w = case.w + 0.1 * case.normal(2, 3, case.w.size)
    for X in (case.X, case.normal(2, 3, n, d), case.normal(3, n, d)):
        each = np.broadcast_to(X, (2, 3, n, d))
        found = [function(network, w, X) for function in (tangent_kernel, paper_lower_bound)]
        schur = schur_lower_bound(network, w, X)
        blocks = kernel_by_layer(network, w, X)
        for i in np.ndindex(2, 3):
            arguments = network, w[i], each[i]
            assert_close(found[0][i], tangent_kernel(*arguments), 1e-13)
            assert_close(blocks[(slice(None), slice(None), *i)], kernel_by_layer(*arguments), 1e-13)
            size = np.trace(found[0][i])
            assert found[1][i] == pytest.approx(paper_lower_bound(*arguments), abs=1e-12 * size)
            assert schur[i] == pytest.approx(schur_lower_bound(*arguments), abs=1e-12 * size)


@pytest.mark.parametrize(
    ("runs", "data"), [((3000,), ()), ((3, 1000), (1000,)), ((), (3000,)), ((2, 1), (1, 3))]
)
def test_many_runs_are_taken_in_blocks(runs, data):
    """More runs than fit one block, sharing data or not, against J Jᵀ of each."""
    network = FeedForward((3, 4, 2, 1), activations.softplus)
    rng = np.random.default_rng(0)
    w, X = rng.standard_normal((*runs, network.parameter_count)), rng.standard_normal((*data, 4, 3))
    K, J = tangent_kernel(network, w, X), network.jacobian(w, X)
    assert K.shape == (*np.broadcast_shapes(runs, data), 4, 4)
    expected = J @ np.swapaxes(J, -1, -2)
    scale = np.linalg.norm(expected, axis=(-2, -1), keepdims=True)
    assert (np.abs(K - expected) <= 1e-13 * scale).all()


# --------------------------------------------------------------------------- eigenvalues


@given(st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_eigenvalues_against_mpmath(size, seed):
    rng = np.random.default_rng(seed)
    K = rng.standard_normal((2, size, size))
    K = K @ np.swapaxes(K, -1, -2) - np.eye(size)
    least, greatest = extreme_eigenvalues(K)
    assert least.shape == greatest.shape == (2,)
    np.testing.assert_array_equal(least_eigenvalue(K), least)
    for i in range(2):
        exact = [float(value) for value in oracles.mpmath_eigenvalues(K[i])]
        slack = 1e-14 * size * np.linalg.norm(K[i])
        assert abs(least[i] - exact[0]) <= slack
        assert abs(greatest[i] - exact[-1]) <= slack


@pytest.mark.parametrize("size", [64, 65, 130])
def test_least_eigenvalue_on_both_sides_of_the_change_of_method(size):
    """A known spectrum, Q diag(…) Qᵀ, in a stack of odd shape."""
    rng = np.random.default_rng(size)
    spectrum = np.geomspace(1e-3, 10, size)
    stack = np.empty((2, 1, size, size))
    for block in stack.reshape(-1, size, size):
        Q = np.linalg.qr(rng.standard_normal((size, size)))[0]
        block[...] = (Q * spectrum) @ Q.T
    np.testing.assert_allclose(least_eigenvalue(stack), np.full((2, 1), 1e-3), rtol=1e-9)
    np.testing.assert_allclose(extreme_eigenvalues(stack)[1], np.full((2, 1), 10), rtol=1e-12)


# --------------------------------------------------------------------------- lower bounds


def exact_order(network, w, X):
    """(A.8), (T5) and λ_min(K), each from the oracle's J and 50-digit eigenvalues.

    J and X are taken as they are in floating point; what follows from them is exact.
    """
    J = oracles.jacobian(network.widths, [each.name for each in network.activations], w, X)
    q = network.layers(J)[0][1]  # ∂f(x_i)/∂b_1
    with mpmath.workdps(50):
        rows, inputs = mpmath.matrix(J.tolist()), mpmath.matrix(X.tolist())
        gram = inputs * inputs.T

        def least(matrix):
            return min(mpmath.eigsy(matrix, eigvals_only=True))

        squares = [[mpmath.mpf(entry) ** 2 for entry in row] for row in q.tolist()]
        by_neuron = mpmath.fsum(min(column) for column in zip(*squares, strict=True))
        by_sample = min(mpmath.fsum(row) for row in squares)
        return (
            float(by_neuron * max(least(gram), 0)),
            float(by_sample * max(least(gram + mpmath.ones(len(X))), 0)),
            float(least(rows * rows.T)),
        )


@given(cases(widest=5, most_samples=5))
def test_lower_bounds_are_lower_bounds(case):
    """(A.8) ≤ (T5) ≤ λ_min(K), and both bounds are the exact ones up to rounding."""
    paper = paper_lower_bound(case.network, case.w, case.X)
    schur = schur_lower_bound(case.network, case.w, case.X)
    exact_paper, exact_schur, exact_least = exact_order(case.network, case.w, case.X)
    rounding = 1e-13 * np.trace(tangent_kernel(case.network, case.w, case.X))
    slack = 1e-3 * rounding  # far above the rounding of mpmath where a matrix is singular
    assert exact_paper <= exact_schur + slack
    assert exact_schur <= exact_least + slack
    assert abs(paper - exact_paper) <= rounding
    assert abs(schur - exact_schur) <= rounding
    assert 0 <= paper <= schur + rounding
    n, d = case.X.shape
    if n > d:
        assert paper == 0
    if n > d + 1:
        assert schur == 0


@pytest.mark.parametrize("activation", ADMISSIBLE, ids=lambda each: each.name)
@pytest.mark.parametrize("widths", [(8, 5, 1), (8, 5, 4, 1), (8, 3, 4, 5, 1)])
def test_both_bounds_are_sharp_at_a_positive_start_with_orthonormal_inputs(activation, widths):
    """There K = |q|²(XXᵀ + 11ᵀ) + c 11ᵀ and XXᵀ = I, so λ_min(K) = |q|² = (A.8) = (T5)."""
    network = FeedForward(widths, activation)
    X = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0][:6]
    w = positive(network, 2.0)
    truth = least_eigenvalue(tangent_kernel(network, w, X))
    J = oracles.jacobian(widths, [activation.name] * (len(widths) - 2), w, X)
    assert truth == pytest.approx((network.layers(J)[0][1] ** 2).sum(axis=-1).min(), rel=1e-12)
    assert paper_lower_bound(network, w, X) == pytest.approx(truth, rel=1e-12)
    assert schur_lower_bound(network, w, X) == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_bounds_keep_a_good_part_of_the_truth_at_a_positive_start(seed):
    """Gaussian inputs, 12 samples in 20 dimensions: at least a third each, (T5) nearly all."""
    network = FeedForward((20, 10, 10, 1), activations.smooth_leaky_relu(0.1))
    X = np.random.default_rng(seed).standard_normal((12, 20))
    w = positive(network, 3.0)
    truth = least_eigenvalue(tangent_kernel(network, w, X))
    assert paper_lower_bound(network, w, X) >= truth / 3
    assert schur_lower_bound(network, w, X) >= 0.9 * truth


def test_schur_bound_where_the_papers_is_zero():
    """One sample more than dimensions: XXᵀ is singular, XXᵀ + 11ᵀ is not."""
    network = FeedForward((4, 6, 5, 1), activations.tanh)
    X = np.random.default_rng(0).standard_normal((5, 4))
    w = positive(network, 2.0)
    assert paper_lower_bound(network, w, X) == 0
    truth = least_eigenvalue(tangent_kernel(network, w, X))
    assert 0.5 * truth <= schur_lower_bound(network, w, X) <= truth * (1 + 1e-9)
    more = np.random.default_rng(0).standard_normal((6, 4))
    assert schur_lower_bound(network, w, more) == 0


def test_mixed_signs_collapse_the_papers_bound():
    """Remark 2.4: away from positive weights Σ_k min_i q_k² is far below min_i Σ_k q_k²."""
    network = FeedForward((20, 30, 30, 1), activations.smooth_leaky_relu(0.1))
    rng = np.random.default_rng(1)
    X, starts = rng.standard_normal((12, 20)), lecun(network, rng, 20)
    quotient = paper_lower_bound(network, starts, X) / schur_lower_bound(network, starts, X)
    assert (quotient < 0.5).all()
    assert np.median(quotient) < 0.25


def test_duplicated_inputs_make_the_kernel_singular():
    sample = case(FeedForward((6, 5, 1), activations.tanh), 3, seed=0)
    X = np.concatenate([sample.X, sample.X[:1]])
    K = tangent_kernel(sample.network, sample.w, X)
    assert abs(least_eigenvalue(K)) <= 1e-14 * np.trace(K)
    assert 0 <= schur_lower_bound(sample.network, sample.w, X) <= 1e-14 * np.trace(K)


def test_the_jacobian_is_never_formed():
    """Peak memory far below the n p numbers of J: 60 samples and about 100,000 parameters."""
    network = FeedForward((2000, 50, 1), activations.tanh)
    rng = np.random.default_rng(0)
    w, X = rng.standard_normal(network.parameter_count), rng.standard_normal((60, 2000))
    tracemalloc.start()
    tangent_kernel(network, w, X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.05 * 8 * 60 * network.parameter_count


def peak_memory(function, *arguments):
    """The most bytes that a call holds, its result included."""
    tracemalloc.start()
    function(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    ("widths", "n"), [((784, 256, 256, 1), 500), ((50, 300, 1), 100), ((20, 30, 30, 1), 600)]
)
def test_memory_is_the_square_of_the_samples_and_samples_times_widths(widths, n):
    network, rng = FeedForward(widths, activations.smooth_leaky_relu(0.1)), np.random.default_rng(0)
    w, X = rng.standard_normal(network.parameter_count), rng.standard_normal((n, widths[0]))
    allowed = 8 * (5 * n**2 + 6 * n * sum(widths[1:]) + n * widths[0] + 2 * w.size) + 2**16
    assert peak_memory(tangent_kernel, network, w, X) < allowed


def test_memory_beyond_the_result_does_not_grow_with_the_runs():
    network, rng = FeedForward((50, 10, 10, 1), activations.tanh), np.random.default_rng(0)
    X = rng.standard_normal((20, 50))
    for runs in (1000, 4000):
        w = rng.standard_normal((runs, network.parameter_count))
        result = 8 * runs * 20 * 20
        # The check that the result is finite takes a byte for each entry.
        assert peak_memory(tangent_kernel, network, w, X) < result + result / 8 + w.size + 2**22


@pytest.mark.parametrize("hidden", range(1, 5))
@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("name", ["tanh", "arctan", "smooth_leaky_relu(0.3)"])
def test_the_kernel_of_a_positive_start_with_equal_widths(name, m, hidden):
    """K = A² m s^(2(L−1)) (XXᵀ + c_L 11ᵀ) + 11ᵀ for hidden entries 1/m, against autograd."""
    widths, rng = (4, *(m,) * hidden, 1), np.random.default_rng(hidden)
    X, A = rng.standard_normal((5, 4)), 1.7
    activation = activations.named(name)
    w = positive(FeedForward(widths, activation), A, 1 / m)
    s = 0.65 if "0.3" in name else 1.0  # σ′(0) = s + (1 − s)/2 for the smooth leaky ReLU
    c = sum(s ** (-2 * j) for j in range(hidden))
    stated = A**2 * m * s ** (2 * hidden) * (X @ X.T + c) + 1
    found = oracles.kernel(widths, [name] * hidden, w, X)
    np.testing.assert_allclose(found, stated, rtol=1e-12)
    np.testing.assert_allclose(tangent_kernel(FeedForward(widths, activation), w, X), stated)
