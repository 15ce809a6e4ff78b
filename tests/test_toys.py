"""Toy objectives: derivatives against autograd, bounds on boxes against mpmath, closed forms."""

import types

import autograd
import autograd.numpy as anp
import mpmath
import numpy as np
import pytest
from mpmath import mp

from plcore import toys
from plcore.toys import Formula

BOWL = toys.bowl(0.5, 3.0)
GALLERY = {
    name: BOWL if name == "bowl" else getattr(toys, name)
    for name in toys.__all__
    if name not in ("Enclosure", "Formula")
}
MPMATH = types.SimpleNamespace(exp=mpmath.exp, sin=mpmath.sin, tanh=mpmath.tanh)


def oracle(formula, module):
    """The objective as a function of its coordinates, with another module in numpy's place."""
    function = formula.function
    moved = types.FunctionType(
        function.__code__, {"np": module, "__builtins__": {}}, closure=function.__closure__
    )

    def value(*x):
        result = moved(*x)
        return sum(part**2 for part in result) if isinstance(result, tuple) else result

    return value


def exact_ratio(formula, point):
    """|∇f|²/f by mpmath's differentiation, at a point where f is not zero."""
    f, x = oracle(formula, MPMATH), [mpmath.mpf(float(c)) for c in point]
    orders = [[int(i == k) for i in range(len(x))] for k in range(len(x))]
    slope = [mpmath.diff(f, tuple(x), tuple(order)) for order in orders]
    value = f(*x)
    return sum(part**2 for part in slope) / value


@pytest.fixture(params=sorted(GALLERY))
def toy(request):
    return GALLERY[request.param]


def points(toy, count, seed=0):
    return np.random.default_rng(seed).uniform(-3, 3, (count, toy.dimension))


def test_derivatives_equal_autograd(toy):
    f = oracle(toy, anp)
    x = points(toy, 40)
    value, gradient = toy.value_and_gradient(x)
    hessian = toy.hessian(x)
    v = np.random.default_rng(1).standard_normal(x.shape)
    for k, point in enumerate(x):
        for got, expected in [
            (value[k], f(*point)),
            (gradient[k], autograd.grad(lambda p: f(*p))(point)),
            (hessian[k], autograd.hessian(lambda p: f(*p))(point)),
        ]:
            assert np.linalg.norm(got - expected) <= 1e-12 * np.linalg.norm(expected)
    np.testing.assert_allclose(toy.value(x), value, rtol=1e-14)
    product = np.einsum("kij,kj->ki", hessian, v)
    np.testing.assert_allclose(toy.hessian_vector(x, v), product, rtol=1e-13)


def test_points_may_have_any_leading_axes(toy):
    x = points(toy, 6).reshape(2, 3, toy.dimension)
    value, gradient = toy.value_and_gradient(x)
    assert value.shape == (2, 3)
    assert gradient.shape == x.shape
    assert toy.hessian(x).shape == (*x.shape, toy.dimension)
    np.testing.assert_allclose(gradient[1, 2], toy.gradient(x[1, 2]), rtol=1e-15)


def test_enclosures_contain_and_shrink_with_the_box(toy):
    x = points(toy, 2000)
    rng = np.random.default_rng(2)
    widths = {}
    for size in (0.2, 0.002):
        found = toy.enclose(x - size, x + size)
        inner = x + size * rng.uniform(-1, 1, x.shape)
        value, gradient = toy.value_and_gradient(inner)
        for part, exact in [
            (found.value, value),
            (found.gradient, gradient),
            (found.hessian, toy.hessian(inner)),
        ]:
            slack = 1e-13 * (1 + part.magnitude())
            assert np.all((part.low <= exact + slack) & (exact - slack <= part.high))
            assert part.shape == exact.shape
        widths[size] = np.median(found.value.high - found.value.low)
    assert widths[0.002] < 0.02 * widths[0.2]


def test_ratio_bounds_hold_with_zero_slack(toy):
    rng = np.random.default_rng(3)
    x = points(toy, 80)
    size = 10.0 ** rng.uniform(-8, 0, (80, 1))
    lower = toy.ratio_lower(x - size, x + size)
    inner = x + size * rng.uniform(-1, 1, x.shape)
    upper = toy.ratio_upper(inner)
    with mp.workdps(50):
        for k, point in enumerate(inner):
            ratio = exact_ratio(toy, point)
            assert mpmath.mpf(float(lower[k])) <= ratio <= mpmath.mpf(float(upper[k]))


def test_ratio_bounds_hold_on_thousands_of_boxes(toy):
    rng = np.random.default_rng(4)
    x = points(toy, 5000)
    size = 10.0 ** rng.uniform(-3, 0, (5000, 1))
    lower = toy.ratio_lower(x - size, x + size)
    for _ in range(5):
        inner = x + size * rng.uniform(-1, 1, x.shape)
        assert np.all(lower <= toy.ratio_upper(inner))
        assert np.all(toy.ratio(inner) <= toy.ratio_upper(inner))


def test_ratio_bounds_are_tight_on_small_boxes(toy):
    x = points(toy, 500)
    lower, upper = toy.ratio_lower(x, x), toy.ratio_upper(x)
    assert np.all(upper - lower <= 1e-8 * upper)
    size = 1e-5
    lower = toy.ratio_lower(x - size, x + size)
    assert np.median(lower / toy.ratio(x)) > 0.999


@pytest.mark.parametrize(
    ("toy", "zero", "limit"),
    [
        (toys.parabola, [0.0], 4),
        (BOWL, [0.0, 0.0], 2),
        (toys.wavy, [0.0], 16),
        (toys.tilted_well, [1.0], 2 * 8.6),
        (toys.double_well, [1.0, 0.0], 4),
        (toys.ring, [0.6, 0.8], 16),
        (toys.hyperbola, [0.5, 2.0], 17),
        (toys.saturating, [0.0], 4),
        # σ_min² of J = [[-1, 0], [-2√10, √10]]: trace 51, determinant 10.
        (toys.rosenbrock, [1.0, 1.0], 4 * (51 - np.sqrt(51**2 - 40)) / 2),
        # ∇²f = 2 JᵀJ with J = [[6, 1], [1, 4]]: trace 54, determinant 23².
        (toys.himmelblau, [3.0, 2.0], 4 * (54 - np.sqrt(54**2 - 4 * 529)) / 2),
    ],
)
def test_bounds_reach_the_limit_at_a_zero(toy, zero, limit):
    # There the quotient is 0/0; the infimum over a small ball tends to 2 λ_min(∇²f), or for one
    # residual to 4|∇g|².
    zero = np.array(zero)
    lower = toy.ratio_lower(zero - 1e-4, zero + 1e-4)
    assert 0.99 * limit < lower <= limit
    offsets = 1e-4 * np.stack([np.cos(t := np.linspace(0, 6.3, 20_000)), np.sin(t)], -1)
    near = toy.ratio(zero + offsets[:, : len(zero)])
    assert near[np.isfinite(near)].min() == pytest.approx(limit, rel=0.01)


def test_a_formula_that_vanishes_has_an_infinite_ratio():
    zero = Formula(lambda x: 0 * x, 1)
    assert zero.ratio_lower([-1.0], [2.0]) == np.inf
    assert zero.ratio_upper([0.5]) == np.inf
    zeros = Formula(lambda x, y: (0 * x, 0 * y), 2)
    assert zeros.ratio_lower([-1.0, 0.0], [2.0, 1.0]) == np.inf


def test_more_residuals_than_coordinates_are_bounded_too():
    # f = x² + (x − 1)² never vanishes: min of (4x − 2)²/f is 0 at x = 1/2.
    f = Formula(lambda x: (x, x - 1), 1)
    assert f.ratio_lower([0.4], [0.6]) == 0
    assert 1.9 < f.ratio_lower([0.999], [1.001]) * 0.5 < 2.0


def test_a_residual_without_one_coordinate():
    f = Formula(lambda x, y: (x, 2 * x + 3), 2)
    lower, ratio = f.ratio_lower([1.0, -1.0], [1.0, 1.0]), f.ratio([1.0, 0.0])
    assert lower == pytest.approx(ratio, rel=1e-9)
    assert f.hessian([1.0, 2.0]).tolist() == [[10.0, 0.0], [0.0, 0.0]]


def test_rounding_below_zero_is_cut_off_and_real_negatives_are_refused():
    square = Formula(lambda x: x * x - 2 * 0.3 * x + 0.09, 1)
    near = 0.3 + np.linspace(-3e-8, 3e-8, 101)[:, None]
    raw = square.function(near[:, 0])
    assert raw.min() < 0  # rounding does go below zero here
    assert square.value(near).min() == 0
    with pytest.raises(ValueError, match=r"parabola below must be nonnegative, but is -1 at \[0"):
        Formula(lambda x: x * x - 1, 1, name="parabola below").value([[2.0], [0.0]])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Formula("x", 1), TypeError, "function must be callable"),
        (lambda: Formula(lambda x: x * x, 1.0), TypeError, "dimension must be an integer"),
        (lambda: Formula(lambda x: x * x, 0), ValueError, "dimension must be at least 1"),
        (lambda: Formula(lambda x, y, z: x, 3), ValueError, "dimension must be 1 or 2"),
        (lambda: Formula(lambda x: (), 1), ValueError, "at least one residual"),
        (lambda: Formula(lambda x: (x,), 1, zeros=[[1.0]]), ValueError, "vanish at its zeros"),
        (lambda: Formula(lambda x: (x,), 1, zeros=[[0.0, 0.0]]), ValueError, "p = 1 entries"),
        (lambda: Formula(lambda x: np.arcsin(x), 1).gradient([0.5]), TypeError, "arcsin"),
        (lambda: toys.bowl(0.0), ValueError, "a must be positive"),
        (lambda: toys.bowl(1.0, "b"), TypeError, "b must be a real number"),
        (lambda: toys.ring.value([1.0]), ValueError, "p = 2 entries"),
        (lambda: toys.ring.value([1.0, np.nan]), ValueError, "finite"),
        (lambda: toys.ring.value("point"), TypeError, "array of real numbers"),
        (lambda: toys.ring.enclose([1.0, 0.0], [0.0, 1.0]), ValueError, "corners of boxes"),
        (lambda: toys.ring.enclose([[0.0, 0.0]], [1.0, 1.0]), ValueError, "corners of boxes"),
        (lambda: toys.ring.ratio_lower([0.0], [1.0]), ValueError, "p = 2 entries"),
        (lambda: toys.ring.ratio_upper([np.inf, 0.0]), ValueError, "finite"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_formula_is_shown_by_its_name():
    assert repr(toys.ring) == "Formula('ring', dimension=2)"
