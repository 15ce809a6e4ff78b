"""Piecewise polynomial activations: against the tables they repeat, and against dense grids."""

import math
import pickle

import numpy as np
import pytest
from bad_input import assert_sentence, garbage_taken

from plcore import activations
from plcore.piecewise import piecewise_polynomial

SPLINE = ([-1.0, 1.0], [[-1.0, -0.5], [0.0, 1.25, 0.5, -0.25], [-0.25, 2.0, -0.25]])
CASES = {
    "relu": (([0.0], [[0.0], [0.0, 1.0]]), 0),
    "leaky_relu(0.25)": (([0.0], [[0.0, 0.25], [0.0, 1.0]]), 0),
    "squared_relu": (([0.0], [[0.0], [0.0, 0.0, 1.0]]), 1),
    "identity": (([], [[0.0, 1.0]]), math.inf),
}


@pytest.mark.parametrize("name", CASES)
def test_it_repeats_the_tables_that_are_piecewise_polynomial(name):
    (breaks, pieces), smoothness = CASES[name]
    made, table = piecewise_polynomial(breaks, pieces), activations.named(name)
    u = np.concatenate([np.linspace(-3, 3, 61), [np.nextafter(0, 1), -np.nextafter(0, 1)]])
    assert made.smoothness == smoothness == table.smoothness
    for order in range(3):
        np.testing.assert_array_equal(made.functions[order](u), table.functions[order](u))
        assert made.limits[order] == table.limits[order]
    for order in range(min(3, int(min(smoothness, 1)) + 2)):
        for low, high in ((-2.0, 1.5), (-3.0, -1.0), (0.5, 0.7), (-np.inf, np.inf)):
            assert made.range(order, low, high) == table.range(order, low, high)


def test_pieces_and_their_derivatives():
    """Written out by hand: −1 − u/2, then (5u + 2u² − u³)/4, then −1/4 + 2u − u²/4."""
    spline = piecewise_polynomial(*SPLINE)
    assert spline.smoothness == 1
    u = np.array([-3.0, -1.0, 0.5, 1.0, 2.0])
    np.testing.assert_allclose(spline.value(u), [0.5, -0.5, 0.71875, 1.5, 2.75], rtol=1e-15)
    np.testing.assert_allclose(spline.derivative(u), [-0.5, -0.5, 1.5625, 1.5, 1.0], rtol=1e-15)
    # At a break the left piece's: σ″ jumps at both.
    np.testing.assert_allclose(spline.second_derivative(u), [0, 0, 0.25, -0.5, -0.5], atol=1e-15)
    assert np.isnan(spline.functions[0](np.array(np.nan)))


@pytest.mark.parametrize("order", [0, 1, 2])
def test_range_is_that_of_a_dense_grid(order):
    rng = np.random.default_rng(order)
    spline = piecewise_polynomial(*SPLINE)
    smooth = piecewise_polynomial([], [[0.3, -2.0, 0.0, 1.0, 0.1]])
    for sigma in (spline, smooth):
        for low, high in np.sort(rng.uniform(-4, 4, (40, 2)), axis=1):
            seen = sigma.functions[order](np.linspace(low, high, 20_001))
            least, greatest = sigma.range(order, low, high)
            spread = 1e-12 + 1e-3 * (greatest - least)
            assert least <= seen.min() + 1e-12 <= least + spread + 1e-12
            assert greatest >= seen.max() - 1e-12 >= greatest - spread - 1e-12


def test_listed_extrema_of_a_polynomial_have_zero_slope():
    sigma = piecewise_polynomial([], [[0.0, 0.0, 1.0, 0.0, -0.25]])  # u² − u⁴/4
    np.testing.assert_allclose(sigma.extrema[0], [-math.sqrt(2), 0, math.sqrt(2)], atol=1e-12)
    np.testing.assert_allclose(sigma.extrema[1], [-math.sqrt(2 / 3), math.sqrt(2 / 3)], rtol=1e-12)
    assert sigma.extrema[2] == (0.0,)
    assert sigma.limits == ((-math.inf,) * 2, (math.inf, -math.inf), (-math.inf,) * 2)


def test_smoothness_counts_the_derivatives_that_meet():
    """(u₊)^k has k − 1 continuous derivatives; thirds are not exact, and meet all the same."""
    for k in range(1, 6):
        power = [0.0] * k + [1.0]
        assert piecewise_polynomial([0.0], [[0.0], power]).smoothness == k - 1
    third = 1 / 3
    shifted = piecewise_polynomial([third], [[0.0], [third**2, -2 * third, 1.0]])
    assert shifted.smoothness == 1


def test_equal_tables_have_equal_names_and_travel():
    one, two = piecewise_polynomial(*SPLINE), piecewise_polynomial(*SPLINE)
    assert one == two != piecewise_polynomial(*SPLINE, "mine")
    copy = pickle.loads(pickle.dumps(one))
    u = np.linspace(-2, 2, 9)
    np.testing.assert_array_equal(copy.value(u), one.value(u))


def test_bad_input():
    arguments = {"breaks": [0.0], "coefficients": [[0.0], [0.0, 1.0]], "name": "mine"}
    taken = {"name": {"None", "text"}, "coefficients": {"ragged"}}
    for name in arguments:
        found = garbage_taken(piecewise_polynomial, arguments, name)
        assert found == taken.get(name, set()), name
    for breaks, pieces, pattern in (
        ([1.0, 0.0], [[0.0]] * 3, "breaks must increase"),
        ([0.0], [[0.0]], "one piece more than there are breaks, 2, but hold 1"),
        ([0.0], [[0.0], [1.0, 1.0]], "the value jumps"),
    ):
        with pytest.raises(ValueError, match=pattern) as caught:
            piecewise_polynomial(breaks, pieces)
        assert_sentence(caught.value)
