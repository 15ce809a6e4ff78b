"""Extreme but legal input: the right answer or an OverflowError in a sentence, and never NaN."""

import mpmath
import numpy as np
import oracles
import pytest
from strategies import EVERY, SMOOTH, case

from plcore import activations, initialization
from plcore.kernel import (
    extreme_eigenvalues,
    kernel_by_layer,
    paper_lower_bound,
    schur_lower_bound,
    tangent_kernel,
)
from plcore.network import FeedForward
from plcore.objectives import LeastSquares, Quadratic

SIZES = (1e-300, 1e-150, 1.0, 1e150, 1e300)


def exact_outputs(network, w, X):
    """f(x_i, w) with 60 digits and unbounded exponents, and the largest number on the way."""
    found, largest = [], mpmath.mpf(0)
    with mpmath.workdps(60):
        for x in X.tolist():
            h = mpmath.matrix(x)
            pairs = oracles.unpack(network.widths, w)
            for index, (W, b) in enumerate(pairs):
                z = mpmath.matrix(W.tolist()) * h + mpmath.matrix(b.tolist())
                if index < len(pairs) - 1:
                    h = z.apply(oracles.mpmath_activation(network.activations[index].name))
                largest = max(largest, *map(abs, z), *map(abs, h))
            found.append(z[0])
    return found, largest


def result_or_overflow(function, *arguments):
    """The arrays that `function` returns, without NaN; None if it says that numbers overflow."""
    try:
        results = function(*arguments)
    except OverflowError as error:
        if not str(error).endswith("leaves the range of float64 here: the arguments are too big."):
            raise
        return None
    results = results if isinstance(results, tuple) else (results,)
    assert not any(np.isnan(result).any() for result in results)
    return results


@pytest.mark.parametrize("activation", EVERY, ids=lambda each: each.name)
@pytest.mark.parametrize("size_of_w", SIZES)
@pytest.mark.parametrize("size_of_X", SIZES)
def test_right_or_refused_at_every_size(activation, size_of_w, size_of_X):
    rng = np.random.default_rng(0)
    network = FeedForward((2, 3, 1), activation)
    w = size_of_w * rng.uniform(0.5, 2, network.parameter_count)
    w *= rng.choice([-1, 1], w.size)
    X, y = size_of_X * rng.standard_normal((3, 2)), rng.standard_normal(3)
    exact, largest = exact_outputs(network, w, X)
    outputs = result_or_overflow(network.forward, w, X)
    if outputs is None:
        assert largest > 1e307
    else:
        for found, expected in zip(outputs[0], exact, strict=True):
            assert abs(found - expected) <= 1e-12 * max(map(abs, exact)) + 1e-300
    objective = LeastSquares(network, X, y)
    value = result_or_overflow(objective.value, w)
    if value is None:
        assert largest > 1e307
    else:
        squares = [(f - target) ** 2 for f, target in zip(exact, y.tolist(), strict=True)]
        expected = mpmath.fsum(squares) / 3
        if np.isinf(value[0]):
            assert expected > 1e307
        else:
            assert abs(value[0] - expected) <= 1e-11 * expected
    v = rng.standard_normal(w.size)
    for derived in (objective.value_and_gradient, objective.ratio, objective.hessian):
        result_or_overflow(derived, w)
    result_or_overflow(objective.hessian_vector, w, v)
    for bound in (tangent_kernel, kernel_by_layer, paper_lower_bound, schur_lower_bound):
        result_or_overflow(bound, network, w, X)


@pytest.mark.parametrize("activation", EVERY, ids=lambda each: each.name)
@pytest.mark.parametrize("exponent", [-498, 498])
def test_first_weights_and_inputs_of_opposite_sizes(activation, exponent):
    """(W_1, X) ↦ (2ᵏ W_1, 2⁻ᵏ X), about 1e±150: f stays and ∂/∂W_1 ↦ 2⁻ᵏ, to the last bit."""
    sample = case(FeedForward((3, 4, 2, 1), activation), 5, seed=3)
    network, w = sample.network, sample.w.copy()
    network.layers(w)[0][0][...] *= 2.0**exponent
    X = sample.X * 2.0**-exponent
    np.testing.assert_array_equal(network.forward(w, X), network.forward(sample.w, sample.X))
    objective = LeastSquares(network, X, sample.y)
    gradient = sample.objective.gradient(sample.w)
    network.layers(gradient)[0][0][...] *= 2.0**-exponent
    np.testing.assert_array_equal(objective.gradient(w), gradient)
    kernels = kernel_by_layer(network, sample.w, sample.X)
    kernels[0, 0] *= 2.0 ** (-2 * exponent)
    np.testing.assert_array_equal(kernel_by_layer(network, w, X), kernels)
    v = sample.normal(w.size)
    moved = sample.objective.hessian_vector(sample.w, v)
    network.layers(v)[0][0][...] *= 2.0**exponent
    network.layers(moved)[0][0][...] *= 2.0**-exponent
    np.testing.assert_array_equal(objective.hessian_vector(w, v), moved)


@pytest.mark.parametrize("activation", EVERY, ids=lambda each: each.name)
def test_an_entry_that_is_not_a_number_stays_alone(activation):
    """One run's overflow reaches the activation as NaN, beside another run's large numbers."""
    u = np.array([800.0, -800.0, 0.5])
    alone, beside = activation.evaluate(u), activation.evaluate(np.append(u, np.nan))
    for expected, found in zip(alone, beside, strict=True):
        np.testing.assert_allclose(found[:3], expected, rtol=1e-15)
    assert np.isnan(beside[0][3])


def test_a_run_that_overflows_does_not_hide_the_others():
    """Its loss is ∞, theirs are theirs; a gradient that is not there is refused."""
    sample = case(FeedForward((2, 3, 1), activations.tanh), 4, seed=0)
    w = np.stack([sample.w, sample.w])
    w[1, -1] = 1e200
    value = sample.objective.value(w)
    assert value[0] == sample.objective.value(sample.w)
    assert value[1] == np.inf
    assert (sample.objective.gradient(w)[1][-1]) == 2e200
    w[1, -1] = 1e308
    with pytest.raises(OverflowError, match="gradient leaves the range of float64"):
        sample.objective.gradient(w)


def test_a_sum_that_overflows_is_not_trusted():
    """tanh(∞) is a number, but 1e600 − 2e600 may come out as +∞: it is refused."""
    network = FeedForward((2, 1, 1), activations.tanh)
    w, X = np.array([1e300, -2e300, 0.0, 3.0, 0.5]), np.array([[1e300, 1e300]])
    objective = LeastSquares(network, X, [0.0])
    for function in (objective.value, objective.gradient, objective.jacobian, objective.kernel):
        with pytest.raises(OverflowError, match="leaves the range"):
            function(w)
    with pytest.raises(OverflowError, match="The output leaves the range"):
        schur_lower_bound(network, w, X)


def test_ratio_where_the_loss_overflows():
    """R is the quotient of the kernel even where S and |∇S|² are too big for float64."""
    sample = case(FeedForward((2, 3, 1), activations.tanh), 4, seed=0)
    objective = LeastSquares(sample.network, sample.X, sample.y - 1e200)
    assert objective.value(sample.w) == np.inf
    K, e = objective.kernel(sample.w), objective.residual(sample.w) / 1e200
    assert objective.ratio(sample.w) == pytest.approx(e @ K @ e / (e @ e), rel=1e-13)


def test_quadratic_of_extreme_size():
    bowl = Quadratic(np.diag([1.0, 4.0]))
    assert bowl.value([1e200, 0.0]) == np.inf
    np.testing.assert_array_equal(bowl.gradient([1e200, 1e-200]), [2e200, 8e-200])
    with pytest.raises(OverflowError, match="The gradient"):
        bowl.gradient([0.0, 1e308])
    with pytest.raises(OverflowError, match="The value"):
        bowl.ratio([1e200, 0.0])
    assert Quadratic(1e300 * np.eye(2)).ratio([1e-100, 0.0]) == pytest.approx(4e300)


@pytest.mark.parametrize("activation", SMOOTH, ids=lambda each: each.name)
def test_one_sample_width_one_depth_fifty(activation):
    sample = case(FeedForward((1,) * 51, activation), 1, seed=4)
    w, X, y = sample.w, sample.X, sample.y
    w[0] += 2.0
    arguments = (*sample.oracle, w, X, y)
    objective = LeastSquares(sample.network, X, y)
    np.testing.assert_allclose(objective.value(w), oracles.loss(*arguments), rtol=1e-12)
    for found, expected in (
        (objective.gradient(w), oracles.gradient(*arguments)),
        (objective.kernel(w), oracles.kernel(*sample.oracle, w, X)),
    ):
        assert np.linalg.norm(found - expected) <= 1e-11 * np.linalg.norm(expected)
    assert schur_lower_bound(sample.network, w, X) <= objective.kernel(w)[0, 0]


def test_one_hot_and_repeated_inputs():
    """X = I twice over: outputs, loss and gradient of the repeated data are those of I."""
    network = FeedForward((6, 4, 1), activations.smooth_leaky_relu(0.1))
    sample = case(network, 6, seed=8)
    once = LeastSquares(network, np.eye(6), sample.y)
    twice = LeastSquares(network, np.tile(np.eye(6), (2, 1)), np.tile(sample.y, 2))
    expected = oracles.outputs(*sample.oracle, sample.w, np.eye(6))
    np.testing.assert_allclose(once.residual(sample.w) + sample.y, expected, rtol=1e-13)
    assert twice.value(sample.w) == pytest.approx(once.value(sample.w), rel=1e-14)
    np.testing.assert_allclose(twice.gradient(sample.w), once.gradient(sample.w), atol=1e-14)
    least, greatest = extreme_eigenvalues(twice.kernel(sample.w))
    assert abs(least) <= 1e-14 * greatest
    assert greatest == pytest.approx(2 * extreme_eigenvalues(once.kernel(sample.w))[1])
    assert schur_lower_bound(network, sample.w, twice.X) == 0
    assert paper_lower_bound(network, sample.w, once.X) > 0


def test_starts_of_extreme_size():
    network = FeedForward((2, 10, 1), activations.sigmoid)
    with pytest.raises(OverflowError, match="The output"):
        initialization.positive(network, 1e308)
    tiny = initialization.positive(network, 5e-324)
    assert (network.forward(tiny, np.eye(2)) == 0).all()
