"""Balls hold the true numbers, are narrow, and leave no setting changed."""

from itertools import pairwise

import flint
import mpmath
import numpy as np
import pytest
from flint import arb
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf
from oracles import mpmath_activation
from strategies import ROUGH, SMOOTH

from plcore import balls as ball_arithmetic
from plcore.ball_activations import ball_activation
from plcore.balls import (
    ball,
    balls,
    definiteness,
    greater,
    greatest,
    greatest_eigenvalue_bound,
    least,
    lesser,
    middles,
    norm,
    product,
    root,
    spectral_norm_bound,
    working_precision,
)

DIGITS = 50


@pytest.fixture(autouse=True)
def _many_bits():
    with working_precision(128), mp.workdps(DIGITS):
        yield


def ends(x):
    """Both ends of a ball as mpmath numbers, exactly."""
    return tuple(
        mpmath.ldexp(int(m), int(e)) for m, e in (x.lower().man_exp(), x.upper().man_exp())
    )


def assert_holds(x, value, width=1e-30):
    """The ball holds `value`, known to 50 digits, and is no wider than a small multiple of it."""
    low, high = ends(x)
    slop = abs(value) * mpf(10) ** (3 - DIGITS) + mpf(10) ** -400
    assert low - slop <= value <= high + slop, (x, value)
    assert high - low <= width * max(abs(value), mpf(width)), (x, value)


# --- precision ----------------------------------------------------------------------------------


def test_the_precision_comes_back_also_after_an_error():
    before = flint.ctx.prec
    with working_precision(77):
        assert flint.ctx.prec == 77
        with pytest.raises(RuntimeError, match="300"), working_precision(300):
            raise RuntimeError(flint.ctx.prec)
        assert flint.ctx.prec == 77
    assert flint.ctx.prec == before


def test_a_float_is_taken_exactly_at_any_precision():
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.standard_normal(50), [0.1, 5e-324, 1.7e308, -0.0, 1e-310]])
    with working_precision(10):
        taken = balls(numbers)
        single = ball(0.1)
    assert all(x.is_exact() for x in taken)
    assert single == arb(0.1)
    assert [float(ends(x)[0]) for x in taken] == numbers.tolist()
    assert middles(taken).tolist() == numbers.tolist()


# --- arrays -------------------------------------------------------------------------------------


def test_products_and_norms_hold_the_exact_ones():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((4, 7)) * 10.0 ** rng.integers(-9, 9, (4, 7)), rng.random((7, 3))
    exact = [
        [mpmath.fsum(mpf(x) * mpf(y) for x, y in zip(row, column, strict=True)) for column in b.T]
        for row in a
    ]
    found = product(balls(a), balls(b))
    assert found.shape == (4, 3)
    for i in range(4):
        for j in range(3):
            assert_holds(found[i, j], exact[i][j], 1e-25)
    for axis, vectors in ((0, a.T), (1, a)):
        for x, vector in zip(norm(balls(a), axis), vectors, strict=True):
            assert_holds(x, mpmath.sqrt(mpmath.fsum(mpf(v) ** 2 for v in vector)))
    assert_holds(norm(balls(a)), mpmath.sqrt(mpmath.fsum(mpf(v) ** 2 for v in a.ravel())))


def test_least_and_greatest():
    a = np.array([[3.0, -1.0, 2.0], [0.5, 7.0, -4.0]])
    x = balls(a)
    assert middles(greatest(x, 0)).tolist() == [3, 7, 2]
    assert middles(least(x, 1)).tolist() == [-1, -4]
    assert (float(greatest(x)), float(least(x))) == (7, -4)
    wide = arb(1, 0.5)  # holds 1.1 and 1.4: which of it and 1.3 is greater is open
    assert greater(wide, arb(1.3)).contains(arb(1.3))
    assert greater(wide, arb(1.3)).contains(arb(1.4))
    assert lesser(wide, arb(1.3)).contains(arb(1.1))
    assert not lesser(wide, arb(1.3)).contains(arb(1.4))


def test_roots_and_norms_of_what_is_hardly_more_than_nothing():
    """The square of a small ball around 0 reaches below 0; the root must hold what is above."""
    tiny = np.array([arb(0, 1e-9), arb(0, 1e-12)], dtype=object)
    for found in (norm(tiny), root(arb(0, 1e-18))):
        assert found.contains(arb(0))
        assert found.contains(arb(9.9e-10))
        assert found < 1e-7
    nothing = root(arb("nan"))
    assert not nothing < 5
    assert not nothing > 5


# --- definiteness and eigenvalues ---------------------------------------------------------------


def exact_matrix(size, least, seed):
    """A symmetric integer matrix with a known least eigenvalue: QDQᵀ scaled, Q a reflection."""
    rng = np.random.default_rng(seed)
    v = rng.integers(-3, 4, size).astype(float)
    v[0] = 1.0
    square = float(v @ v)
    # (|v|² I − 2vvᵀ)² = |v|⁴ I, so qDq has |v|⁴ times the eigenvalues of D.
    q = square * np.eye(size) - 2 * np.outer(v, v)
    diagonal = np.concatenate([[least], least + rng.integers(0, 50, size - 1)])
    return q @ np.diag(diagonal) @ q, square**2


@pytest.mark.parametrize("size", [1, 2, 5, 12, 30])
@pytest.mark.parametrize("seed", range(3))
def test_definiteness_decides_to_twenty_digits(size, seed):
    a, scale = exact_matrix(size, 3, seed)
    unit = balls(np.eye(size))
    below, above = arb(3) - arb("1e-20"), arb(3) + arb("1e-20")
    assert definiteness(balls(a) - below * arb(scale) * unit) == 1
    assert definiteness(balls(a) - above * arb(scale) * unit) == -1
    assert definiteness(balls(a) - 3 * arb(scale) * unit) <= 0
    if size > 1:
        with working_precision(40):
            assert definiteness(balls(a) - arb(3) * arb(scale) * unit + arb(0, 1) * unit) == 0


def test_definiteness_of_a_stack_and_of_what_is_no_number():
    stack = balls(np.array([[[2.0, 1.0], [1.0, 2.0]], [[1.0, 2.0], [2.0, 1.0]], np.eye(2)]))
    stack[2, 1, 1] = arb("nan")
    assert definiteness(stack).tolist() == [1, -1, 0]
    assert definiteness(balls([[-1.0, 0.0], [0.0, 1.0]])) == -1
    assert definiteness(balls([[0.0]])) == -1
    assert definiteness(balls([[1.0, 1.0], [1.0, 1.0]])) == -1
    untouched = balls([[2.0, 1.0], [1.0, 2.0]])
    definiteness(untouched)
    assert middles(untouched).tolist() == [[2, 1], [1, 2]]


def test_a_rank_deficient_gram_matrix_is_never_definite():
    rng = np.random.default_rng(3)
    a = rng.standard_normal((6, 4))
    gram = product(balls(a), balls(a).T)
    for bits in (53, 128, 512):
        with working_precision(bits):
            assert definiteness(gram) <= 0


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (3, 5), (8, 8), (1, 9)])
def test_spectral_norms_are_bounded_and_not_by_much(shape):
    a = np.random.default_rng(4).standard_normal(shape) * 1e-3
    with mp.workdps(30):
        exact = max(mpmath.svd_r(mpmath.matrix(a.tolist()), compute_uv=False))
    bound = ends(spectral_norm_bound(balls(a)))
    assert exact <= bound[0]
    assert bound[1] <= exact * (1 + mpf(2) ** -38)


def test_spectral_norms_at_the_edges():
    assert spectral_norm_bound(balls(np.zeros((2, 3)))) == 0
    assert not spectral_norm_bound(balls([[1e200]])) < 1e200
    assert float(spectral_norm_bound(balls([[1e200, 1e200]]))) == pytest.approx(2**0.5 * 1e200)
    stack = balls(np.array([np.diag([3.0, 1.0]), np.zeros((2, 2)), [[2.0, 1.0], [1.0, 2.0]]]))
    assert np.allclose(middles(greatest_eigenvalue_bound(stack)), [3, 0, 3])
    assert not (greatest_eigenvalue_bound(stack) < balls([3, 0, 3])).any()


def test_the_guess_behind_an_eigenvalue_bound_need_not_be_right(monkeypatch):
    """A wrong floating-point guess costs sharpness, not truth."""
    a = balls(np.diag([3.0, 1.0]))
    for wrong in (0.1, 2.9, np.nan):
        monkeypatch.setattr(
            ball_arithmetic.np.linalg, "eigvalsh", lambda m, wrong=wrong: np.array([wrong, wrong])
        )
        assert greatest_eigenvalue_bound(a)[()] >= 3


# --- activations --------------------------------------------------------------------------------


POINTS = (-30.0, -5.25, -1.0, -0.3, -1e-8, 0.0, 1e-200, 0.1, 0.7, 2.0, 9.5, 41.0)


@pytest.mark.parametrize("activation", SMOOTH, ids=lambda each: each.name)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_activations_hold_the_true_values(activation, order):
    function, table = mpmath_activation(activation.name), ball_activation(activation.name)
    found = table.at(order, balls(POINTS))
    for u, x in zip(POINTS, found, strict=True):
        with mp.workdps(120):
            value = mpmath.diff(function, mpf(u), order) if order else function(mpf(u))
        low, high = ends(x)
        slop = mpf(10) ** -42  # of the numerical derivative
        assert low - slop <= value <= high + slop, (u, x, value)
        assert high - low <= 1e-33 * (1 + abs(mpf(u)))
        assert float(value) == pytest.approx(
            float(activation.functions[order](np.array([u]))[0]), rel=1e-12, abs=1e-15
        )


@pytest.mark.parametrize("activation", SMOOTH, ids=lambda each: each.name)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_turns_are_all_turns(activation, order):
    """Between neighbouring turns the function is monotone; at each of them its slope changes sign.

    The next derivative's sign, in balls on a fine cover of [−12, 12] less small neighbourhoods of
    the turns, is constant between them: by the mean value theorem on cells, from point values here.
    """
    table = ball_activation(activation.name)
    turns = sorted(float(point) for point in table.turns[order]())
    listed = activation.extrema[order]
    assert turns == pytest.approx(list(listed), abs=1e-12)
    grid = np.linspace(-12, 12, 4801)
    values = table.at(order, balls(grid))
    rises = np.array([b > a for a, b in pairwise(values)])
    falls = np.array([b < a for a, b in pairwise(values)])
    pieces = np.searchsorted(turns, grid, side="right")
    for piece in range(len(turns) + 1):
        inside = (pieces[:-1] == piece) & (pieces[1:] == piece)
        if order and activation.name == "identity":
            assert not (rises | falls).any()
        else:
            assert rises[inside].all() or falls[inside].all()
    for point in turns:
        k = np.searchsorted(grid, point)
        assert rises[k - 2] != rises[k + 1]


def test_the_turn_of_gelu_is_enclosed():
    (turn,) = ball_activation("gelu").turns[0]()
    slope = ball_activation("gelu").functions[1]
    with working_precision(200):
        assert slope(turn.lower()) < 0 < slope(turn.upper())
    assert turn.rad() < 1e-38


@given(
    st.sampled_from([each.name for each in SMOOTH]),
    st.integers(0, 2),
    st.floats(-8, 8),
    st.floats(0, 6),
    st.floats(0, 1),
)
def test_ranges_hold_all_values_and_are_attained(name, order, low, width, share):
    table = ball_activation(name)
    high = low + width
    least_, greatest_ = (x[0] for x in table.range(order, balls([low]), balls([high])))
    inside = arb(low) + arb(share) * (arb(high) - arb(low))
    value = table.functions[order](inside)
    assert not value < least_
    assert not value > greatest_
    assert not table.magnitude(order, balls([low]), balls([high]))[0] < abs(value)
    # Attained: as low and as high as at an end or a turn, up to the balls' own widths.
    grid = table.at(order, balls(np.linspace(low, high, 201)))
    rough = 1e-3 * (1 + width)
    assert float(least(grid)) - float(least_) <= rough
    assert float(greatest_) - float(greatest(grid)) <= rough
    for x in (least_, greatest_):
        assert x.rad() < 1e-30


def test_ranges_of_intervals_whose_ends_are_balls():
    table = ball_activation("tanh")
    low, high = np.array([arb(0, 1e-3)], dtype=object), balls([1.0])
    least_, greatest_ = table.range(1, low, high)  # the turn at 0 may be inside, or just outside
    assert greatest_[0].contains(arb(1))
    assert not least_[0] > arb(1).sech() ** 2


def test_extreme_arguments_give_no_false_number():
    for activation in SMOOTH:
        table = ball_activation(activation.name)
        for order in range(3):
            for u in (-1e300, -1e9, 1e9, 1e300):
                found = table.functions[order](arb(u))
                with np.errstate(all="ignore"):
                    value = float(activation.functions[order](np.array([u]))[0])
                if np.isfinite(value):
                    assert not found < value - 1e-15 * (1 + abs(value)), (activation.name, order, u)
                    assert not found > value + 1e-15 * (1 + abs(value)), (activation.name, order, u)


@pytest.mark.parametrize("activation", SMOOTH, ids=lambda each: each.name)
def test_the_steepest_curvature_is_the_greatest_third_derivative(activation):
    bound = ball_activation(activation.name).steepest()
    function = mpmath_activation(activation.name)
    grid = np.linspace(-4, 4, 161)
    with mp.workdps(60):
        sizes = [abs(mpmath.diff(function, mpf(u), 3)) for u in grid]
        low, high = ends(bound)
        assert max(sizes) <= high + mpf(10) ** -30
        assert low <= max(sizes) * (1 + mpf("0.002")) + mpf(10) ** -30


@pytest.mark.parametrize(
    "name",
    [*(each.name for each in ROUGH), "swish", "", "smooth_leaky_relu", "smooth_leaky_relu(2.0)"],
)
def test_activations_without_two_derivatives_are_refused(name):
    with pytest.raises(ValueError, match="twice continuously differentiable"):
        ball_activation(name)


@pytest.mark.parametrize(("radius", "excess"), [(0.0, 1e-11), (1e-9, 1e-7), (1e-4, 1e-2)])
def test_an_eigenvalue_bound_is_as_near_as_the_balls_allow(radius, excess):
    """The Frobenius norm, twice the eigenvalue here, is the last resort alone."""
    matrix = ball_arithmetic.balls(np.eye(4)) + np.full((4, 4), arb(0, radius))
    top = float(ball_arithmetic.greatest_eigenvalue_bound(matrix)[()].upper())
    assert 1 + 4 * radius <= top <= 1 + excess
