"""Extreme eigenvalues of the Hessian against dense ones and ARPACK's."""

import numpy as np
import pytest
from bad_input import garbage_taken
from hypothesis import given, settings
from scipy.sparse.linalg import LinearOperator, eigsh
from strategies import SMOOTH, case, cases

from plcore import activations, initialization, toys
from plcore.curvature import Curvature, bottom_curvature, top_curvature
from plcore.descent import gradient_descent
from plcore.network import FeedForward
from plcore.objectives import LeastSquares, Quadratic

LEAKY = activations.smooth_leaky_relu(0.1)


def spectrum(objective, w):
    """All eigenvalues, of the symmetric part of the dense Hessian."""
    H = objective.hessian(w)
    return np.linalg.eigvalsh((H + np.swapaxes(H, -1, -2)) / 2)


def gaussian(widths, n, runs=(), data=(), seed=0, activation=LEAKY):
    rng = np.random.default_rng(seed)
    network = FeedForward(widths, activation)
    X = rng.standard_normal((*data, n, widths[0])) / np.sqrt(widths[0])
    problem = LeastSquares(network, X, rng.standard_normal((*data, n)))
    return problem, initialization.lecun(network, rng, runs)


@settings(max_examples=100)
@given(cases(SMOOTH, most_samples=8, greatest_depth=4))
def test_against_the_dense_hessian(sample):
    """Few and many samples, any activations and depths; both ends, to rounding."""
    eigenvalues = spectrum(sample.objective, sample.w)
    scale = np.abs(eigenvalues).max()
    for found, expected in (
        (top_curvature(sample.objective, sample.w, 1e-13), eigenvalues[-1]),
        (bottom_curvature(sample.objective, sample.w, 1e-13), eigenvalues[0]),
    ):
        assert abs(found.value - expected) <= 1e-11 * scale
        assert found.products <= 3 * sample.w.size


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6, 1e-9])
@pytest.mark.parametrize("n", [6, 30])
def test_the_error_is_what_it_says(tolerance, n):
    """At starts and on the way down; the Ritz value lies inside the spectrum, up to rounding."""
    problem, w = gaussian((10, 8, 6, 1), n, (20,))
    points = np.concatenate([w, gradient_descent(problem, w, 0.05, 200).final])
    eigenvalues = spectrum(problem, points)
    top, bottom = top_curvature(problem, points, tolerance), bottom_curvature(problem, points)
    scale = np.abs(eigenvalues).max(axis=-1)
    error = eigenvalues[:, -1] - top.value
    assert (error >= -1e-13 * scale).all()
    # The gap is that of Ritz values, so that the bound is good to a part of itself.
    assert (error <= 1.2 * np.minimum(top.error, tolerance * scale) + 1e-13 * scale).all()
    assert (top.error <= tolerance * scale).all()
    nearest = np.abs(eigenvalues - top.value[:, None]).min(axis=-1)
    assert (nearest <= top.residual + 1e-13 * scale).all()
    assert (bottom.value >= eigenvalues[:, 0] - 1e-13 * scale).all()
    assert (bottom.value <= eigenvalues[:, 0] + 1e-6 * scale).all()


@pytest.mark.parametrize("n", [40, 90])
def test_against_arpack_with_a_third_of_its_products(n):
    problem, w = gaussian((60, 30, 30, 1), n, seed=2)
    count = 0

    def product(v):
        nonlocal count
        count += 1
        return problem.hessian_vector(w, v)

    operator = LinearOperator((w.size, w.size), matvec=product, dtype=float)
    expected = eigsh(operator, k=1, which="LA", tol=1e-6, return_eigenvectors=False)[0]
    found = top_curvature(problem, w)
    assert found.value == pytest.approx(expected, rel=1e-6)
    assert found.products <= count / 3


@pytest.mark.parametrize("data", [(), (5,)])
@pytest.mark.parametrize("n", [4, 12])
def test_a_batch_is_a_loop_over_points(data, n):
    problem, w = gaussian((6, 5, 4, 1), n, (5,), data)
    for curvature in (top_curvature, bottom_curvature):
        found = curvature(problem, w, 1e-10)
        assert found.value.shape == found.error.shape == found.residual.shape == (5,)
        for k in range(5):
            one = LeastSquares(problem.network, problem.X[k], problem.y[k]) if data else problem
            alone = curvature(one, w[k], 1e-10)
            assert isinstance(alone.value, float)
            assert found.value[k] == pytest.approx(alone.value, rel=1e-9, abs=1e-10)
    stacked = top_curvature(problem, np.stack([w, 2 * w]), 1e-10)
    assert stacked.value.shape == (2, 5)
    np.testing.assert_allclose(stacked.value[0], top_curvature(problem, w, 1e-10).value, rtol=1e-9)


def test_quadratics_and_other_objectives():
    """As many products as there are different eigenvalues, and curvatures of the plane's toys."""
    matrix = np.diag([0.5, 2.0, 2.0, 7.0])
    top, bottom = (f(Quadratic(matrix), np.ones(4)) for f in (top_curvature, bottom_curvature))
    assert top.value == pytest.approx(14, rel=1e-14)
    assert bottom.value == pytest.approx(1, rel=1e-13)
    assert top.products <= 3
    assert top_curvature(Quadratic([[3.0]]), [1.0]).value == 6
    zero = top_curvature(Quadratic(np.zeros((2, 2))), [1.0, 1.0])
    assert (zero.value, zero.error, zero.products) == (0, 0, 1)
    rosenbrock = toys.rosenbrock
    points = np.random.default_rng(0).standard_normal((7, 2))
    expected = spectrum(rosenbrock, points)
    for function, column in ((top_curvature, 1), (bottom_curvature, 0)):
        found = function(rosenbrock, points, 1e-12)
        np.testing.assert_allclose(found.value, expected[:, column], rtol=1e-9)


def test_an_eigenvector_outside_the_range_of_the_transposed_jacobian():
    """At w = 0 the Jacobian sees the last bias alone; the residual's curvature is greater."""
    rng = np.random.default_rng(0)
    network = FeedForward((4, 3, 1), activations.tanh)
    problem = LeastSquares(network, rng.standard_normal((6, 4)), 50 + rng.standard_normal(6))
    w = np.zeros(network.parameter_count)
    eigenvalues = spectrum(problem, w)
    assert eigenvalues[-1] > 20
    assert top_curvature(problem, w).value == pytest.approx(eigenvalues[-1], rel=1e-6)
    assert bottom_curvature(problem, w).value == pytest.approx(eigenvalues[0], rel=1e-6)


def test_parity_hides_nothing():
    """Odd network, symmetric inputs: the kernel's two halves do not see each other."""
    rng = np.random.default_rng(1)
    network = FeedForward((3, 6, 1), activations.tanh)
    X = rng.standard_normal((8, 3))
    problem = LeastSquares(network, np.concatenate([X, -X]), rng.standard_normal(16))
    w = initialization.lecun(network, rng, 20)
    found = top_curvature(problem, 3 * w).value
    np.testing.assert_allclose(found, spectrum(problem, 3 * w)[:, -1], rtol=2e-6)


def test_the_least_eigenvalue_is_zero_where_the_loss_is():
    """∇²S = (2/n) JᵀJ at an interpolating point, singular because p > n."""
    problem, w = gaussian((10, 8, 6, 1), 4)
    final = gradient_descent(problem, w, 0.3, 20_000).final
    assert problem.value(final) < 1e-28
    found = bottom_curvature(problem, final)
    assert -1e-12 < found.value <= 0
    K = problem.kernel(final)
    expected = 2 / 4 * np.linalg.eigvalsh(K)[-1]
    assert top_curvature(problem, final, 1e-12).value == pytest.approx(expected, rel=1e-11)


def test_too_few_products_leave_an_error_that_says_so():
    problem, w = gaussian((10, 8, 6, 1), 12)
    found = bottom_curvature(problem, w, 1e-12, most_products=3)
    assert found.products == 3
    assert found.error > 1e-3
    assert found.value > spectrum(problem, w)[0] + 1e-3
    assert top_curvature(problem, w, most_products=1).error == pytest.approx(
        top_curvature(problem, w, most_products=1).residual
    )


def test_the_start_vector_is_the_generators():
    problem, w = gaussian((10, 8, 6, 1), 12)
    one, same = top_curvature(problem, w), top_curvature(problem, w)
    assert one.value == same.value
    other = top_curvature(problem, w, rng=np.random.default_rng(7))
    assert other.value != one.value
    assert other.value == pytest.approx(one.value, rel=2e-6)
    assert isinstance(one, Curvature)
    assert float(one) == one.value
    assert "products" in str(one)


def test_bad_arguments_are_refused_in_a_sentence():
    sample = case(FeedForward((3, 4, 1), LEAKY), 5, seed=0)
    arguments = {"objective": sample.objective, "x": sample.w, "tolerance": 1e-3}
    arguments |= {"most_products": 5, "rng": np.random.default_rng(0)}
    for function in (top_curvature, bottom_curvature):
        taken = {name: garbage_taken(function, arguments, name) for name in arguments}
        assert taken == {
            "objective": set(),
            "x": set(),
            "tolerance": {"a seed"},
            "most_products": {"a seed"},
            "rng": {"None"},
        }
        with pytest.raises(OverflowError, match="range of float64"):
            function(sample.objective, 1e200 * sample.w)
