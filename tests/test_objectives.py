"""The squared loss and its derivatives: autograd, Taylor slopes, closed forms, scaling laws."""

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import EVERY, SMOOTH, Case, case, cases

from plcore import activations
from plcore.kernel import tangent_kernel
from plcore.network import FeedForward
from plcore.objectives import LeastSquares, Objective, Quadratic

seeds = st.integers(0, 2**32 - 1)


def assert_close(computed, expected, tolerance=1e-12):
    """Equal shapes, and a difference of at most `tolerance` times the norm of `expected`."""
    assert np.shape(computed) == np.shape(expected)
    assert np.linalg.norm(computed - expected) <= tolerance * np.linalg.norm(expected)


def orthogonal(rng, size):
    return np.linalg.qr(rng.standard_normal((size, size)))[0]


# --------------------------------------------------------------------------- against autograd


@given(cases())
def test_value_and_gradient_against_autograd(case):
    """S = (1/n) Σ (y_i − f(x_i))² and ∇S: a lost factor 2 or 1/n is a relative error of 1/2."""
    value, gradient = case.objective.value_and_gradient(case.w)
    arguments = (*case.oracle, case.w, case.X, case.y)
    expected = oracles.gradient(*arguments)
    # The gradient is a sum over samples that may cancel: its size is that of |Jᵀ| |e|.
    scale = np.linalg.norm(case.objective.jacobian(case.w)) * np.sqrt(value / len(case.y))
    assert_close(value, oracles.loss(*arguments))
    assert np.linalg.norm(gradient - expected) <= 1e-12 * scale
    np.testing.assert_array_equal(case.objective.value(case.w), value)
    np.testing.assert_array_equal(case.objective.gradient(case.w), gradient)


def test_gradient_is_right_to_its_own_norm():
    """Without cancellation the bound 1e-12 holds against the gradient's own norm."""
    for activation in EVERY:
        sample = case(FeedForward((4, 5, 3, 1), activation), 6, seed=11)
        expected = oracles.gradient(*sample.oracle, sample.w, sample.X, sample.y)
        assert_close(sample.objective.gradient(sample.w), expected)


def test_loss_computed_by_hand():
    """f(x) = 2x + 1 on x = 1, 3 with y = 0, 5: residuals 3, 2, S = 13/2, ∂S/∂b_2 = 5."""
    network = FeedForward((1, 1, 1), activations.identity)
    w = np.array([2.0, 0.0, 1.0, 1.0])
    objective = LeastSquares(network, [[1.0], [3.0]], [0.0, 5.0])
    np.testing.assert_array_equal(objective.residual(w), [3.0, 2.0])
    assert objective.value(w) == 6.5
    # (2/n) Σ e_i (w_2 x_i, w_2, w_1 x_i + b_1, 1)
    np.testing.assert_array_equal(objective.gradient(w), [9.0, 5.0, 18.0, 5.0])
    np.testing.assert_array_equal(objective.jacobian(w), [[1, 1, 2, 1], [3, 1, 6, 1]])


@given(cases(SMOOTH))
def test_hessian_action_against_autograd(case):
    v = case.normal(case.w.size)
    computed = case.objective.hessian_vector(case.w, v)
    expected = oracles.hessian_vector(*case.oracle, case.w, case.X, case.y, v)
    scale = np.linalg.norm(case.objective.hessian(case.w)) * np.linalg.norm(v)
    assert np.linalg.norm(computed - expected) <= 1e-12 * scale


@given(cases(SMOOTH, greatest_depth=4, widest=4))
@settings(max_examples=50)
def test_hessian_is_symmetric_and_made_of_its_actions(case):
    hessian, v = case.objective.hessian(case.w), case.normal(case.w.size)
    scale = np.linalg.norm(hessian)
    assert np.linalg.norm(hessian - hessian.T) <= 1e-13 * scale
    action = case.objective.hessian_vector(case.w, v)
    assert np.linalg.norm(hessian @ v - action) <= 1e-13 * scale * np.linalg.norm(v)


@pytest.mark.parametrize("activation", SMOOTH, ids=lambda each: each.name)
@pytest.mark.parametrize("depth", [2, 3, 5])
def test_taylor_remainders_have_slopes_two_and_three(activation, depth):
    """log-log slopes in t over several directions v, lest a derivative vanish along one."""
    sample = case(FeedForward((3, *range(4, depth + 3), 1), activation), 5, seed=depth)
    w, v, objective = sample.w, sample.normal(8, sample.w.size), sample.objective
    value, gradient = objective.value_and_gradient(w)
    curvature = (v * objective.hessian_vector(w, v)).sum(axis=-1)
    t = np.geomspace(1e-4, 3e-3, 8)[:, None]
    first = objective.value(w + t[..., None] * v) - value - t * (v @ gradient)
    second = first - 0.5 * t**2 * curvature
    for remainder, slope in ((first, 2), (second, 3)):
        size = np.linalg.norm(remainder, axis=-1)
        assert np.polyfit(np.log(t[:, 0]), np.log(size), 1)[0] == pytest.approx(slope, abs=0.05)


# --------------------------------------------------------------------------- identities


@given(cases())
def test_ratio_is_the_kernel_quotient(case):
    """R = |∇S|²/S = (4/n) eᵀKe/|e|², with K from the oracle."""
    K = oracles.kernel(*case.oracle, case.w, case.X)
    e = oracles.outputs(*case.oracle, case.w, case.X) - case.y
    expected = 4 / len(e) * (e @ K @ e) / (e @ e)
    ratio = case.objective.ratio(case.w)
    assert abs(ratio - expected) <= 1e-12 * 4 / len(e) * np.trace(K)
    value, gradient = case.objective.value_and_gradient(case.w)
    assert ratio == pytest.approx(gradient @ gradient / value, rel=1e-13)


def test_ratio_is_infinite_at_an_exact_fit():
    network = FeedForward((2, 3, 1), activations.tanh)
    objective = LeastSquares(network, np.eye(2), np.zeros(2))
    points = np.stack([np.zeros(network.parameter_count), np.ones(network.parameter_count)])
    assert np.isinf(objective.ratio(points)).tolist() == [True, False]
    assert np.isinf(Quadratic(np.eye(2)).ratio(np.zeros(2)))


@given(cases(), st.integers(-500, 500))
def test_ratio_does_not_depend_on_the_size_of_the_residual(case, exponent):
    """S may leave the range of float64; |∇S|²/S is (4/n) eᵀKe/|e|² all the same."""
    *rest, (W, b) = case.network.layers(case.w)
    w = case.network.pack([*rest, (0 * W, 0 * b)])  # f = 0, so that e = −y
    ratio = LeastSquares(case.network, case.X, case.y).ratio(w)
    scaled = LeastSquares(case.network, case.X, np.ldexp(case.y, exponent)).ratio(w)
    assert scaled == ratio


# --------------------------------------------------------------------------- Quadratic


@given(seeds, st.integers(1, 6))
def test_quadratic_closed_forms(seed, size):
    """f = xᵀAx, ∇f = 2Ax, ∇²f = 2A, and R ≥ 4 λ_min with equality in the eigendirection."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((size, size))
    A = root @ root.T + 0.01 * np.eye(size)
    f = Quadratic(A)
    x, v = rng.standard_normal((2, 4, size))
    np.testing.assert_allclose(f.value(x), np.einsum("ri,ij,rj->r", x, A, x), rtol=1e-12)
    assert_close(f.gradient(x), 2 * x @ A)
    assert_close(f.hessian_vector(x, v), 2 * v @ A)
    assert_close(f.hessian(x), np.broadcast_to(2 * A, (4, size, size)))
    values, vectors = np.linalg.eigh(A)
    assert (f.ratio(x) >= 4 * values[0] * (1 - 1e-9)).all()
    np.testing.assert_allclose(f.ratio(vectors.T), 4 * values, rtol=1e-8)


def test_ratio_of_the_squared_norm_is_exactly_four():
    x = np.random.default_rng(0).standard_normal((100, 3))
    assert Quadratic(np.eye(3)).ratio(x) == pytest.approx(4, rel=1e-15)
    huge = Quadratic(np.eye(3)).ratio(np.array([[1e-150, 0, 0], [1e154, 0, 0], [0, -3.0, 0]]))
    np.testing.assert_allclose(huge, 4, rtol=1e-13)


# --------------------------------------------------------------------------- batches


@given(cases(SMOOTH, most_samples=4, greatest_depth=4))
@settings(max_examples=50)
def test_a_batch_is_a_loop_over_runs(case):
    network, n, d = case.network, len(case.y), case.network.widths[0]
    w, v = case.w + 0.1 * case.normal(3, 2, case.w.size), case.normal(3, 2, case.w.size)
    for X, y in ((case.X, case.y), (case.normal(3, 2, n, d), case.normal(2, n))):
        objective = LeastSquares(network, X, y)
        value, gradient = objective.value_and_gradient(w)
        found = [value, gradient, objective.ratio(w), objective.hessian_vector(w, v)]
        found += [objective.residual(w), objective.kernel(w), objective.jacobian(w)]
        X, y = np.broadcast_to(X, (3, 2, n, d)), np.broadcast_to(y, (3, 2, n))
        for i in np.ndindex(3, 2):
            one = LeastSquares(network, X[i], y[i])
            expected = [one.value(w[i]), one.gradient(w[i]), one.ratio(w[i])]
            expected += [one.hessian_vector(w[i], v[i]), one.residual(w[i])]
            expected += [one.kernel(w[i]), one.jacobian(w[i])]
            for whole, single in zip(found, expected, strict=True):
                assert np.shape(whole[i]) == np.shape(single)
                np.testing.assert_allclose(whole[i], single, rtol=1e-11, atol=1e-12)


def test_hessian_of_runs_with_data_of_their_own():
    rng = np.random.default_rng(2)
    network = FeedForward((3, 2, 1), activations.tanh)
    X, y = rng.standard_normal((4, 5, 3)), rng.standard_normal((4, 5))
    w = rng.standard_normal((4, network.parameter_count))
    hessians = LeastSquares(network, X, y).hessian(w)
    for i in range(4):
        assert_close(hessians[i], LeastSquares(network, X[i], y[i]).hessian(w[i]))
    one = LeastSquares(network, X, y).hessian(w[0])
    assert_close(one[3], LeastSquares(network, X[3], y[3]).hessian(w[0]))


def test_one_direction_at_many_points_and_many_directions_at_one():
    sample = case(FeedForward((3, 4, 1), activations.tanh), 5, seed=1)
    objective, p = sample.objective, sample.w.size
    v, points = sample.normal(6, p), sample.w + sample.normal(6, p)
    hessian = objective.hessian(sample.w)
    assert_close(objective.hessian_vector(sample.w, v), v @ hessian)
    expected = np.stack([objective.hessian(point) @ v[0] for point in points])
    assert_close(objective.hessian_vector(points, v[0]), expected)


def test_an_objective_written_by_a_user():
    """Two trusted methods are all that it takes: here f(x) = x₁⁴ + x₂²."""

    class Quartic(Objective):
        dimension = 2

        def _value_and_gradient(self, x):
            gradient = np.stack([4 * x[..., 0] ** 3, 2 * x[..., 1]], axis=-1)
            return x[..., 0] ** 4 + x[..., 1] ** 2, gradient

        def _hessian_vector(self, x, v):
            return np.stack([12 * x[..., 0] ** 2 * v[..., 0], 2 * v[..., 1]], axis=-1)

    f = Quartic()
    assert f.value([2.0, 1.0]) == 17
    np.testing.assert_array_equal(f.hessian([2.0, 1.0]), [[48, 0], [0, 2]])
    assert f.ratio([2.0, 1.0]) == (32**2 + 4) / 17
    with pytest.raises(ValueError, match=r"x must have p = 2 entries"):
        f.value([1.0, 2.0, 3.0])


# --------------------------------------------------------------------------- scaling laws


def transformed(case, w, X=None, y=None):
    X, y = (case.X if X is None else X), (case.y if y is None else y)
    return Case(case.network, w, X, y, case.seed)


def summary(case):
    value, gradient = case.objective.value_and_gradient(case.w)
    return value, gradient, tangent_kernel(case.network, case.w, case.X)


def assert_law(case, other, value, gradient, kernel, tolerance=1e-12):
    """`other` has the predicted value, gradient and kernel, relative to the sizes at `case`."""
    found = summary(other)
    size = np.linalg.norm(other.objective.jacobian(other.w))
    residual = np.linalg.norm(other.objective.residual(other.w))
    assert found[0] == pytest.approx(value, rel=10 * tolerance)
    assert np.linalg.norm(found[1] - gradient) <= tolerance * size * residual
    assert np.linalg.norm(found[2] - kernel) <= tolerance * size**2


@given(cases(), st.sampled_from([0.25, 3.0, -2.0]))
def test_scaled_outputs_and_targets(case, c):
    """(W_L, b_L, y) ↦ c: S ↦ c²S; ∇ of the last layer ↦ c, of the others ↦ c²; K likewise."""
    network = case.network
    *rest, (W, b) = network.layers(case.w)
    other = transformed(case, network.pack([*rest, (c * W, c * b)]), y=c * case.y)
    value, gradient, _ = summary(case)
    *earlier, (dW, db) = network.layers(gradient)
    expected = [*((c * c * G, c * c * g) for G, g in earlier), (c * dW, c * db)]
    J = network.jacobian(case.w, case.X)
    last = W.size + b.size
    kernel = c * c * J[:, :-last] @ J[:, :-last].T + J[:, -last:] @ J[:, -last:].T
    assert_law(case, other, c * c * value, network.pack(expected), kernel)


@given(cases(), seeds)
def test_rotated_inputs(case, seed):
    """x ↦ Qx with W_1 ↦ W_1 Qᵀ: S and K stay, ∂S/∂W_1 ↦ (∂S/∂W_1) Qᵀ, the rest stays."""
    network = case.network
    Q = orthogonal(np.random.default_rng(seed), network.widths[0])
    (W, b), *rest = network.layers(case.w)
    other = transformed(case, network.pack([(W @ Q.T, b), *rest]), X=case.X @ Q.T)
    value, gradient, kernel = summary(case)
    (dW, db), *others = network.layers(gradient)
    assert_law(case, other, value, network.pack([(dW @ Q.T, db), *others]), kernel)
    if network.smoothness >= 2:
        v = case.normal(case.w.size)
        (V, u), *kept = network.layers(v)
        action = other.objective.hessian_vector(other.w, network.pack([(V @ Q.T, u), *kept]))
        (H, h), *tail = network.layers(case.objective.hessian_vector(case.w, v))
        scale = np.linalg.norm(case.objective.hessian(case.w)) * np.linalg.norm(v)
        expected = network.pack([(H @ Q.T, h), *tail])
        assert np.linalg.norm(action - expected) <= 1e-12 * scale


@given(cases(), seeds)
def test_permuted_samples(case, seed):
    """S and ∇S stay; K is permuted."""
    order = np.random.default_rng(seed).permutation(len(case.y))
    other = transformed(case, case.w, X=case.X[order], y=case.y[order])
    value, gradient, kernel = summary(case)
    assert_law(case, other, value, gradient, kernel[np.ix_(order, order)])


@given(cases(), seeds)
def test_permuted_neurons(case, seed):
    """Rows of W_ℓ, b_ℓ and columns of W_{ℓ+1}: S and K stay, ∇S is permuted with them."""
    network, rng = case.network, np.random.default_rng(seed)

    def permuted(vector):
        layers = [(W.copy(), b.copy()) for W, b in network.layers(vector)]
        for index, order in enumerate(orders):
            layers[index] = (layers[index][0][order], layers[index][1][order])
            layers[index + 1] = (layers[index + 1][0][:, order], layers[index + 1][1])
        return network.pack(layers)

    orders = [rng.permutation(width) for width in network.widths[1:-1]]
    value, gradient, kernel = summary(case)
    assert_law(case, transformed(case, permuted(case.w)), value, permuted(gradient), kernel)


@given(cases([activations.tanh, activations.arctan, activations.arcsinh]), seeds)
def test_flipped_neurons_of_odd_activations(case, seed):
    """Signs of W_ℓ's rows, b_ℓ and W_{ℓ+1}'s columns: S and K stay, ∇S flips with them."""
    network, rng = case.network, np.random.default_rng(seed)
    signs = [rng.choice([-1.0, 1.0], width) for width in network.widths[1:-1]]
    layers = [(np.ones(W.shape), np.ones(b.shape)) for W, b in network.layers(case.w)]
    for index, sign in enumerate(signs):
        layers[index] = (layers[index][0] * sign[:, None], layers[index][1] * sign)
        layers[index + 1] = (layers[index + 1][0] * sign, layers[index + 1][1])
    flip = network.pack(layers)
    value, gradient, kernel = summary(case)
    assert_law(case, transformed(case, flip * case.w), value, flip * gradient, kernel)


@given(cases([activations.relu, activations.leaky_relu(0.1)], greatest_depth=2), seeds)
def test_rescaled_neurons_of_homogeneous_activations(case, seed):
    """(W_1, b_1) ↦ c (W_1, b_1), W_2 ↦ W_2/c by neurons: S stays, ∇S ↦ (1/c, c)."""
    network = case.network
    c = np.random.default_rng(seed).uniform(0.5, 2, network.widths[1])
    (W, b), (V, a) = network.layers(case.w)
    other = transformed(case, network.pack([(c[:, None] * W, c * b), (V / c, a)]))
    value, gradient, _ = summary(case)
    (dW, db), (dV, da) = network.layers(gradient)
    expected = network.pack([(dW / c[:, None], db / c), (dV * c, da)])
    J = network.jacobian(case.w, case.X)
    scale = network.pack([(0 * W + 1 / c[:, None], 1 / c), (0 * V + c, 1 + 0 * a)])
    assert_law(case, other, value, expected, (J * scale) @ (J * scale).T)


@given(cases(), st.integers(2, 3))
def test_repeated_samples(case, times):
    """The mean over samples is unchanged when each is repeated; K repeats in blocks."""
    other = transformed(case, case.w, np.tile(case.X, (times, 1)), np.tile(case.y, times))
    value, gradient, kernel = summary(case)
    assert_law(case, other, value, gradient, np.tile(kernel, (times, times)))


def test_least_squares_keeps_its_own_data():
    """Neither the caller's arrays, changed later, nor the objective's own can corrupt it."""
    network = FeedForward((3, 4, 1), activations.tanh)
    rng = np.random.default_rng(0)
    X, y, w = rng.standard_normal((2, 3)), rng.standard_normal(2), rng.standard_normal(21)
    problem = LeastSquares(network, X, y)
    before = problem.value(w), problem.gradient(w), problem.kernel(w)
    X *= 10
    y += 1
    after = problem.value(w), problem.gradient(w), problem.kernel(w)
    assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    assert problem.value(w) != LeastSquares(network, X, y).value(w)
    for array in (problem.X, problem.y):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0.0
