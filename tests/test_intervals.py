"""Intervals contain what mpmath computes, with zero slack, and are tight; jets equal autograd."""

import types

import autograd
import autograd.numpy as anp
import mpmath
import numpy as np
import pytest
import strategies  # noqa: F401  (its profile makes hypothesis reproducible)
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp

from plcore.intervals import FUNCTIONS, Interval
from plcore.jets import jets

MPMATH = types.SimpleNamespace(
    arctan=mpmath.atan,
    cos=mpmath.cos,
    exp=mpmath.exp,
    log=mpmath.log,
    sin=mpmath.sin,
    sqrt=mpmath.sqrt,
    square=lambda x: x * x,
    tanh=mpmath.tanh,
)

# One formula that uses every operator and function; x and y may be anything.
FORMULAS = [
    lambda x, y: (x * x + y * y - 1) ** 2,
    lambda x, y: np.exp(-x) * np.sin(3 * y) / (2 + np.cos(x)) + np.tanh(x * y - 0.1),
    lambda x, y: np.arctan(x) ** 3 - np.sqrt(2 + y * y) * np.log(3 + np.square(x)),
    lambda x, y: 2.0**-1 / (x * x + 1) - x * y**5 + (x - 0.3) ** -2 * 0 + 7 - x / 3,
    lambda x, y: (0.1 * x - y) * (x + 0.7) * 2 / (5 + np.sin(x) * y**4) + (x - y) ** 0,
]


def transplanted(formula, module):
    """The same formula, with another module in numpy's place."""
    return types.FunctionType(formula.__code__, {"np": module}, closure=formula.__closure__)


def exact(formula, *point):
    with mp.workdps(60):
        return transplanted(formula, MPMATH)(*(mpmath.mpf(float(x)) for x in point))


def inside(interval, values):
    """Whether the ends enclose mpmath's numbers: compared exactly, as a double is an mpf."""
    return all(
        mpmath.mpf(float(low)) <= value <= mpmath.mpf(float(high))
        for low, high, value in zip(
            np.ravel(interval.low), np.ravel(interval.high), values, strict=True
        )
    )


def arguments(name, rng, count=400):
    """Arguments over many sizes, and where the function is hard: large angles, multiples of π."""
    x = rng.choice([-1, 1], count) * 10.0 ** rng.uniform(-12, 2, count)
    if name in ("sin", "cos"):
        near = np.pi / 2 * rng.integers(-3000, 3000, count)
        x = np.concatenate([x, near, np.nextafter(near, np.inf), x * 1e3])
    if name in ("log", "sqrt"):
        x = np.concatenate([np.abs(x), 1 + 1e-9 * x])
    return x


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_enclose_the_exact_value_tightly(name):
    x = arguments(name, np.random.default_rng(1))
    result = getattr(np, name)(Interval(x))
    with mp.workdps(60):
        values = [getattr(MPMATH, name)(mpmath.mpf(float(entry))) for entry in x]
    assert inside(result, values)
    sizes = np.array([abs(float(value)) for value in values])
    floor = 1e-13 if name in ("sin", "cos") else 0.0
    assert np.all(result.high - result.low <= 1e-11 * sizes + floor + 1e-300)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_enclose_their_range_over_wide_intervals(name):
    rng = np.random.default_rng(2)
    low = arguments(name, rng)
    high = low + np.abs(low) * rng.uniform(0, 3, low.size)
    result = getattr(np, name)(Interval(low, high))
    samples = np.linspace(low, high, 401)
    values = getattr(np, name)(samples)
    slack = 1e-12 * (1 + np.abs(values))
    assert np.all(result.low <= values + slack)
    assert np.all(values - slack <= result.high)
    # Tight: the ends are reached by samples, up to what the sampling misses.
    if name not in ("sin", "cos", "square"):
        assert np.all(result.low >= values.min(0) - 1e-11 * np.abs(values).max(0) - 1e-300)
        assert np.all(result.high <= values.max(0) + 1e-11 * np.abs(values).max(0) + 1e-300)


def test_sine_and_cosine_find_their_crests_and_troughs():
    turns = np.arange(-3, 4) * 2 * np.pi
    assert np.all(np.sin(Interval(turns + 1.5, turns + 1.6)).high == 1)
    assert np.all(np.sin(Interval(turns + 4.7, turns + 4.8)).low == -1)
    assert np.all(np.cos(Interval(turns - 0.1, turns + 0.1)).high == 1)
    narrow = np.sin(Interval(turns + 0.5, turns + 1.5))
    assert np.all(narrow.high < 0.9975)
    assert np.all(narrow.low > 0.4794)
    vast = np.cos(Interval(1e9, 1e9 + 1e-3))
    assert (vast.low, vast.high) == (-1, 1)


numbers = st.floats(-1e6, 1e6, allow_subnormal=True)


@st.composite
def pairs(draw):
    a, b = sorted([draw(numbers), draw(numbers)])
    return Interval(a, b), draw(st.floats(0, 1))


@given(pairs(), pairs())
def test_arithmetic_encloses_exactly(first, second):
    (x, s), (y, t) = first, second
    with mp.workdps(400):
        # Exact rational points of the two intervals.
        u, v = (
            mpmath.mpf(float(i.low)) * (1 - mpmath.mpf(w))
            + mpmath.mpf(float(i.high)) * mpmath.mpf(w)
            for i, w in ((x, s), (y, t))
        )
        cases = [(x + y, u + v), (x - y, u - v), (x * y, u * v), (-x, -u), (abs(x), abs(u))]
        cases += [(x**n, u**n) for n in range(6)]
        cases += [(x * x, u * u), (3.1 - x, mpmath.mpf(3.1) - u), (0.1 * y, mpmath.mpf(0.1) * v)]
        if y.low > 0 or y.high < 0:
            with np.errstate(over="ignore"):
                cases += [(x / y, u / v), (1 / y, 1 / v), (y**-3, v**-3)]
        for interval, value in cases:
            assert mpmath.mpf(float(interval.low)) <= value <= mpmath.mpf(float(interval.high))


def test_arithmetic_is_tight_and_keeps_exact_zeros():
    x = Interval(np.array([-1.0, 0.5]), np.array([2.0, 0.75]))
    for result, low, high in [
        (x * x, [0, 0.25], [4, 0.5625]),
        (x**3, [-1, 0.125], [8, 0.421875]),
        (x**4, [0, 0.0625], [16, 0.31640625]),
        (x - 1, [-2, -0.5], [1, -0.25]),
        (1 / Interval(x.low + 2, x.high + 2), [0.25, 4 / 11], [1, 0.4]),
    ]:
        np.testing.assert_allclose(result.low, low, rtol=1e-15, atol=1e-300)
        np.testing.assert_allclose(result.high, high, rtol=1e-15)
    zero = Interval(0.0)
    for result in (zero * x, x * 0.0, zero + zero, zero**2, np.sqrt(zero), zero / (x**2 + 1)):
        assert not result.low.any()
        assert not result.high.any()
    through = 1 / Interval(-1.0, 1.0)
    assert (through.low, through.high) == (-np.inf, np.inf)


def test_infinite_ends_stay_meaningful():
    with np.errstate(over="ignore", invalid="ignore"):
        huge = np.exp(Interval(800.0))
        assert huge.high == np.inf
        assert 1e308 < huge.low < np.inf
        product = huge * Interval(0.0, 1.0)
        assert (product.low, product.high) == (0, np.inf)
        assert np.exp(Interval(-800.0)).low == 0
        assert np.exp(Interval(-800.0)).high > 0


@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas_over_boxes_enclose_exact_values(formula):
    rng = np.random.default_rng(3)
    middle, width = rng.uniform(-2, 2, (60, 2)), 10.0 ** rng.uniform(-9, -0.5, (60, 1))
    box = [Interval(middle[:, k] - width[:, 0], middle[:, k] + width[:, 0]) for k in (0, 1)]
    result = formula(*box)
    for _ in range(4):
        point = middle + width * rng.uniform(-1, 1, (60, 2))
        assert inside(result, [exact(formula, *x) for x in point])
    # First-order tight: the excess is proportional to the width of the box.
    thin = width[:, 0] < 1e-6
    assert np.all((result.high - result.low)[thin] < 2e3 * width[thin, 0] + 1e-9)


@pytest.mark.parametrize("formula", FORMULAS)
def test_jets_equal_autograd(formula):
    rng = np.random.default_rng(4)
    point = rng.uniform(-2, 2, (50, 2))
    result = formula(*jets([point[:, 0], point[:, 1]]))
    first = formula(*jets([point[:, 0], point[:, 1]], order=1))
    assert first.hessian is None
    np.testing.assert_array_equal(first.gradient, result.gradient)
    oracle = transplanted(formula, anp)
    gradient = autograd.elementwise_grad

    def close(got, expected):
        assert np.abs(got - expected).max() <= 1e-12 * np.abs(expected).max(initial=1e-300)

    x, y = point.T
    close(result.value, oracle(x, y))
    for k in (0, 1):
        close(result.gradient[k], gradient(oracle, k)(x, y))
    for (i, j), entry in zip(((0, 0), (0, 1), (1, 1)), result.hessian, strict=True):
        expected = gradient(gradient(oracle, i), j)(x, y)
        close(np.zeros(50) if entry is None else entry, expected)


@pytest.mark.parametrize("formula", FORMULAS)
def test_jets_over_boxes_enclose_exact_derivatives(formula):
    rng = np.random.default_rng(5)
    middle, width = rng.uniform(-2, 2, (12, 2)), 10.0 ** rng.uniform(-6, -1, (12, 1))
    low, high = middle - width, middle + width
    result = formula(*jets([Interval(low[:, k], high[:, k]) for k in (0, 1)]))
    point = middle + width * rng.uniform(-1, 1, (12, 2))
    oracle = transplanted(formula, MPMATH)
    with mp.workdps(60):
        for order, part in [
            ((1, 0), result.gradient[0]),
            ((0, 1), result.gradient[1]),
            ((2, 0), result.hessian[0]),
            ((1, 1), result.hessian[1]),
            ((0, 2), result.hessian[2]),
        ]:
            values = [
                mpmath.diff(oracle, tuple(map(mpmath.mpf, map(float, x))), order) for x in point
            ]
            assert inside(Interval(np.zeros(12)) if part is None else part, values)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Interval(2.0, 1.0), ValueError, "at most high"),
        (lambda: Interval(np.nan), ValueError, "NaN"),
        (lambda: Interval("a"), TypeError, "real numbers"),
        (lambda: Interval(1.0) ** 0.5, TypeError, "whole number"),
        (lambda: np.arcsin(Interval(0.5)), TypeError, "arcsin cannot be enclosed"),
        (lambda: np.add.reduce(Interval(0.5)), TypeError, "add.reduce"),
        (lambda: np.log(Interval(-1.0, 1.0)), ValueError, "positive"),
        (lambda: np.sqrt(Interval(-2.0, -1.0)), ValueError, "square root"),
        (lambda: np.arcsin(jets([0.5])[0]), TypeError, "arcsin cannot be enclosed"),
        (lambda: jets([0.5])[0] ** 0.5, TypeError, "whole number"),
    ],
)
def test_refusals_name_what_came(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_intervals_among_arrays_and_numbers():
    """Whatever stands on the left, and by whatever name, it is the same arithmetic."""
    box = Interval([-1.0, 0.5], 2.0)
    assert box.shape == (2,)
    assert box.contains(0.0).tolist() == [True, False]
    again = eval(repr(box), {"Interval": Interval, "array": np.array})
    common = box.intersect(Interval([-3.0, 1.0], [0.0, 9.0]))
    assert (common.low.tolist(), common.high.tolist()) == ([-1.0, 1.0], [0.0, 2.0])
    for one, other in (
        (again, box),
        (+box, box),
        (np.float64(3.0) * box, 3.0 * box),
        (np.array([1.0, 2.0]) - box, -(box - np.array([1.0, 2.0]))),
        (np.power(box, 3), box**3),
    ):
        np.testing.assert_array_equal([one.low, one.high], [other.low, other.high])


@pytest.mark.parametrize("order", [1, 2])
def test_jets_among_arrays_and_numbers(order):
    """f = (c − x)·3·x²/(c x) in every spelling: gradient 3c − 6x over c, Hessian −6/c."""
    c, point = np.array([2.0, -4.0]), np.array([0.3, -0.2])
    (x,) = jets([point], order=order)
    for result in (
        (c - x) * np.power(x, 2) * 3.0 / (c * x),
        np.float64(3.0) * (c - (+x)) * x**1 * (1.0 / c),
        np.multiply(3.0, np.subtract(c, x)) * x**2 / x / c,
    ):
        np.testing.assert_allclose(result.value, 3 * (c - point) * point / c, rtol=1e-14)
        np.testing.assert_allclose(result.gradient[0], (3 * c - 6 * point) / c, rtol=1e-13)
        if order == 2:
            np.testing.assert_allclose(result.hessian[0], -6 / c, rtol=1e-12)
    with pytest.raises(TypeError, match=r"multiply\.outer cannot be enclosed"):
        np.multiply.outer(c, x)
