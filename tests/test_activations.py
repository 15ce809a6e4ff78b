"""The tables of activations: formulas against mpmath, extrema, limits, ranges, names."""

import itertools
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import mpmath_derivative
from strategies import EVERY, SMOOTH

from plcore import activations
from plcore.activations import Activation

ORDERS = (0, 1, 2)
POINTS = [
    sign * size
    for size in (1e-8, 1e-3, 0.1, 0.5, 1.0, 2.5, 7.0, 15.0, 30.0, 300.0, 1e5)
    for sign in (1.0, -1.0)
]
DENSE = np.concatenate(
    [-np.geomspace(1e6, 50, 200), np.linspace(-50, 50, 40_001), np.geomspace(50, 1e6, 200)]
)
STRICTLY_INCREASING = {
    "tanh",
    "arctan",
    "arcsinh",
    "sigmoid",
    "shifted_sigmoid",
    "softplus",
    "shifted_softplus",
    "identity",
    "smooth_leaky_relu(0.1)",
    "smooth_leaky_relu(0.75)",
}

every = pytest.mark.parametrize("activation", EVERY, ids=lambda each: each.name)
orders = pytest.mark.parametrize("order", ORDERS)


def function(activation, order):
    return (activation.value, activation.derivative, activation.second_derivative)[order]


def bounded_orders(activation):
    """The orders whose range is known: one more than there are continuous derivatives."""
    return [order for order in ORDERS if order <= activation.smoothness + 1]


def test_every_activation_of_the_module_is_tested_here():
    module = {each for each in vars(activations).values() if isinstance(each, Activation)}
    assert module <= set(EVERY)


@every
@orders
def test_formula_against_mpmath_tails_included(activation, order):
    """Relative error 1e-13 down to the least normal number; overflow warnings are errors here."""
    computed = function(activation, order)(np.array(POINTS))
    for u, value in zip(POINTS, computed, strict=True):
        exact = mpmath_derivative(activation.name, order, u)
        assert abs(value - exact) <= 1e-13 * abs(exact) + 1e-307, u


@every
def test_value_at_zero_is_exact(activation):
    exact = {"sigmoid": 0.5, "softplus": math.log(2)}.get(activation.name, 0.0)
    assert activation.at_zero == exact
    assert float(activation.value(0.0)) == exact


@every
@orders
def test_listed_extrema_are_extrema(activation, order):
    """The next derivative, by mpmath, changes its sign within 1e-12 of each listed point."""
    for point in activation.extrema[order]:
        before = mpmath_derivative(activation.name, order + 1, point - 1e-12)
        after = mpmath_derivative(activation.name, order + 1, point + 1e-12)
        assert before * after < 0, point


@every
@orders
def test_no_extremum_is_missing(activation, order):
    """Between listed neighbours, and beyond the last, the function is monotone."""
    ends = [-np.inf, *sorted(activation.extrema[order]), np.inf]
    for low, high in itertools.pairwise(ends):
        values = function(activation, order)(DENSE[(low <= DENSE) & (high >= DENSE)])
        steps = np.diff(values)
        rounding = 1e-15 * np.abs(values[1:]) + 1e-300
        assert (steps >= -rounding).all() or (steps <= rounding).all()


@every
@orders
def test_limits(activation, order):
    for limit, sign in zip(activation.limits[order], (-1, 1), strict=True):
        near, far = function(activation, order)(sign * np.array([1e70, 1e150]))
        if math.isinf(limit):
            assert math.copysign(1, far) == math.copysign(1, limit)
            assert abs(far) > 2 * abs(near) > 200
        else:
            assert far == pytest.approx(limit, rel=1e-15, abs=1e-60)


@given(
    activation=st.sampled_from(EVERY),
    order=st.sampled_from(ORDERS),
    ends=st.tuples(*2 * [st.floats(-30, 30) | st.sampled_from([0.0, 1.0, -1.0])]),
)
def test_range_on_an_interval_encloses_and_is_attained(activation, order, ends):
    """Against 2,001 samples, which miss an extremum inside by less than 1e-3."""
    if order not in bounded_orders(activation):
        return
    low, high = sorted(ends)
    least, greatest = activation.range(order, low, high)
    values = function(activation, order)(np.linspace(low, high, 2001))
    slack = 4e-16 * np.abs(values).max()
    assert values.min() - 1e-3 <= least <= values.min() + slack
    assert values.max() - slack <= greatest <= values.max() + 1e-3


@every
@pytest.mark.parametrize(
    ("low", "high"),
    [(-np.inf, np.inf), (-np.inf, -3.0), (-np.inf, 0.5), (0.3, np.inf), (4.0, np.inf)],
)
def test_range_on_an_unbounded_interval(activation, low, high):
    for order in bounded_orders(activation):
        inside = DENSE[(low <= DENSE) & (high >= DENSE)]
        ends = [
            limit
            for limit, end in zip(activation.limits[order], (low, high), strict=True)
            if math.isinf(end)
        ]
        values = np.concatenate([function(activation, order)(inside), ends])
        least, greatest = activation.range(order, low, high)
        # equality of infinities, too
        np.testing.assert_allclose([least, greatest], [values.min(), values.max()], atol=1e-5)


def test_range_of_many_intervals_at_once():
    low, high = np.array([[-1.0], [0.5]]), np.array([1.0, 2.0, np.inf])
    least, greatest = activations.tanh.range(1, low, high)
    assert least.shape == greatest.shape == (2, 3)
    slope = activations.tanh.derivative
    np.testing.assert_array_equal(greatest, [[1.0] * 3, [slope(0.5)] * 3])
    np.testing.assert_array_equal(least, [[slope(1.0), slope(2.0), 0.0]] * 2)


@every
def test_magnitude_is_the_larger_end_of_the_range(activation):
    radius = np.array([0.0, 0.3, 2.0, 20.0])
    for order in bounded_orders(activation):
        values = function(activation, order)(np.linspace(-radius, radius, 4001))
        np.testing.assert_allclose(
            activation.magnitude(order, radius), np.abs(values).max(axis=0), atol=1e-4
        )


@every
@pytest.mark.parametrize("greatest", [30, 690, 720, np.inf])
def test_fused_is_value_and_slope(activation, greatest):
    """Up to several sizes, as the formula may change where the exponential ends."""
    u = np.concatenate([DENSE, [0.0, -0.0, 1e-300, 699.0, 715.0], POINTS])
    u = u[u <= greatest]
    kept = u.copy()
    value, slope = activation.evaluate(u)
    np.testing.assert_array_equal(u, kept)
    error = np.abs(value - activation.value(u))
    assert (error <= 1e-15 * np.maximum(1, np.abs(value))).all()
    np.testing.assert_allclose(slope, activation.derivative(u), rtol=0, atol=1e-15)
    if activation.strictly_increasing:
        assert (slope >= 0).all()


@every
def test_smoothness_is_where_continuity_at_zero_stops(activation):
    jumps = [
        abs(float(function(activation, order)(1e-9) - function(activation, order)(-1e-9)))
        for order in ORDERS
    ]
    for order, jump in zip(ORDERS, jumps, strict=True):
        if order <= activation.smoothness:
            assert jump < 1e-8
        elif order == activation.smoothness + 1:
            assert jump > 0.1
    assert (activation in SMOOTH) == (activation.smoothness == math.inf)


@every
def test_strictly_increasing(activation):
    assert activation.strictly_increasing == (activation.name in STRICTLY_INCREASING)
    if activation.strictly_increasing:
        assert (activation.derivative(np.linspace(-30, 30, 2001)) > 0).all()


def test_a_slope_that_dips_below_zero_is_found():
    """σ(u) = u + 2/(1 + u²) has a negative slope near u = 0.6, although σ′(0) = 1 = σ′(±∞)."""
    root = 1 / math.sqrt(3)
    wavy = Activation(
        "wavy",
        (
            lambda u: u + 2 / (1 + u * u),
            lambda u: 1 - 4 * u / (1 + u * u) ** 2,
            lambda u: 4 * (3 * u * u - 1) / (1 + u * u) ** 3,
        ),
        ((), (-root, root), (-1.0, 0.0, 1.0)),
        ((-math.inf, math.inf), (1.0, 1.0), (0.0, 0.0)),
    )
    assert not wavy.strictly_increasing
    assert wavy.range(1, -2.0, 2.0)[0] < -0.29


@every
def test_shifted_vanishes_at_zero_and_changes_nothing_else(activation):
    shifted = activation.shifted()
    assert shifted.at_zero == 0
    u = np.array(POINTS)
    np.testing.assert_allclose(
        shifted.value(u), activation.value(u) - activation.at_zero, rtol=1e-15, atol=1e-15
    )
    np.testing.assert_array_equal(shifted.derivative(u), activation.derivative(u))
    np.testing.assert_array_equal(shifted.second_derivative(u), activation.second_derivative(u))
    assert shifted.limits[0] == tuple(end - activation.at_zero for end in activation.limits[0])
    assert shifted.shifted() is shifted
    assert activations.named(shifted.name) == shifted
    again = activations.named(shifted.name).value(u)
    np.testing.assert_allclose(again, shifted.value(u), rtol=1e-14, atol=1e-15)


@given(s=st.floats(1e-6, 1 - 1e-6), u=st.floats(-30, 30))
def test_smooth_leaky_relu_keeps_its_bounds(s, u):
    """Remark 2.5's family: σ(0) = 0, s < σ′ < 1, 0 < σ″ ≤ (1 − s)/4."""
    activation = activations.smooth_leaky_relu(s)
    assert activation.at_zero == 0
    assert s <= activation.derivative(u) <= 1
    assert 0 < activation.second_derivative(u) <= (1 - s) / 4 * (1 + 1e-15)
    assert activation.second_derivative(0.0) == (1 - s) / 4
    assert activations.named(activation.name) == activation


@every
def test_name_and_pickle_round_trip(activation):
    for twin in (activations.named(activation.name), pickle.loads(pickle.dumps(activation))):
        assert twin == activation
        assert hash(twin) == hash(activation)
        for order in ORDERS:
            np.testing.assert_array_equal(
                function(twin, order)(np.array(POINTS)),
                function(activation, order)(np.array(POINTS)),
            )


def test_equality_is_by_name():
    assert len(set(EVERY)) == len(EVERY)
    assert activations.smooth_leaky_relu(0.1) == activations.smooth_leaky_relu()
    assert activations.smooth_leaky_relu(0.1) != activations.smooth_leaky_relu(0.2)
    assert activations.smooth_leaky_relu(0.1) != activations.leaky_relu(0.1)
    assert activations.named("smooth_leaky_relu") == activations.smooth_leaky_relu()


@every
def test_softplus_form(activation):
    """The numbers (s, c) that the fast descent loop takes instead of the formulas."""
    if activation.softplus_form is None:
        assert "softplus" not in activation.name
        assert "smooth" not in activation.name
        return
    s, c = activation.softplus_form
    expected = s * DENSE + (1 - s) * (np.logaddexp(0, DENSE) - c)
    np.testing.assert_allclose(activation.value(DENSE), expected, rtol=1e-14, atol=1e-14)


def test_shifted_by_name():
    """What vanishes at zero already is its own shift."""
    assert activations.named("shifted_gelu") == activations.gelu
    assert activations.named("shifted_tanh") == activations.tanh
