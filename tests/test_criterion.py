"""α and both criteria against closed forms, exact scaling laws, and what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import settings

from plcore import activations, criterion, toys
from plcore.criterion import (
    criterion_from_bounds,
    integral_criterion,
    integral_criterion_from_bounds,
    pl_constant,
    pl_constant_search,
)
from plcore.network import FeedForward
from plcore.objectives import LeastSquares, Quadratic
from plcore.results import Bound, Estimate
from plcore.toys import Formula

RADII = np.linspace(0.05, 3, 60)
PLAIN_RING = Formula(lambda x, y: (x * x + y * y - 1) ** 2, 2)
SMALL = settings(max_examples=20)


def positive_part(value):
    return np.maximum(value, 0.0)


def bowl_constant(a, b, center, radius):
    """α of a x² + b y², a < b: at the least angle to the x-axis that the ball reaches."""
    angle = np.arctan2(abs(center[1]), abs(center[0]))
    reach = np.arcsin(np.minimum(radius / np.linalg.norm(center), 1))
    c, s = (f(positive_part(angle - reach)) ** 2 for f in (np.cos, np.sin))
    return 4 * (a * a * c + b * b * s) / (a * c + b * s)


# objective, centre, α as a function of the radii
CLOSED_FORMS = [
    (toys.parabola, [0.7], lambda r: 4 + 0 * r),
    (toys.quartic, [2.0], lambda r: 16 * positive_part(2 - r) ** 2),
    (toys.runaway, [-0.3], lambda r: 4 * np.exp(-2 * (r - 0.3))),
    (toys.saturating, [0.4], lambda r: 4 / np.cosh(0.4 + r) ** 4),
    (toys.bowl(1, 1), [0.3, -0.2], lambda r: 4 + 0 * r),
    (toys.bowl(1, 9), [0.5, 1.0], lambda r: bowl_constant(1, 9, [0.5, 1.0], r)),
    (toys.ring, [1.2, -1.6], lambda r: 16 * positive_part(2 - r) ** 2),
    (toys.hyperbola, [1.5, 2.0], lambda r: 4 * positive_part(2.5 - r) ** 2),
]


@pytest.mark.parametrize(("objective", "center", "exact"), CLOSED_FORMS)
def test_enclosures_of_alpha_hold_and_are_tight(objective, center, exact):
    found = pl_constant(objective, center, RADII)
    alpha = exact(RADII)
    slack = 1e-12 * alpha  # the closed form's own rounding
    assert np.all(found.lower <= alpha + slack)
    assert np.all(alpha - slack <= found.upper)
    # As promised: a relative gap of 1e-3, and of 1e-6 of the largest constant below that.
    assert np.all(found.upper - found.lower <= 1.001e-3 * found.upper + 1.001e-6 * found.upper[0])
    assert found.boxes < 400_000


@pytest.mark.parametrize(
    ("objective", "center"),
    [
        (toys.wavy, [2.0]),
        (toys.tilted_well, [1.2]),
        (toys.double_well, [0.9, 0.3]),
        (toys.rosenbrock, [0.5, 0.5]),
        (toys.himmelblau, [2.5, 2.5]),
        (toys.unattained, [2.0, 0.5]),
        (PLAIN_RING, [0.2, 0.1]),
    ],
)
def test_search_lands_between_the_proved_bounds(objective, center):
    radii = np.linspace(0.1, 1.2, 12)
    found = pl_constant(objective, center, radii)
    assert np.all(np.diff(found.lower) <= 0)
    assert np.all(np.diff(found.upper) <= 0)
    for k in (0, 5, 11):
        search = pl_constant_search(objective, center, radii[k], np.random.default_rng(k))
        assert isinstance(search, Estimate)
        assert found.lower[k] <= search.value * (1 + 1e-9)
        assert search.value <= found.upper[k] * 1.001 + 1e-6 * found.upper[0]
        assert np.linalg.norm(search.point - center) <= radii[k] * (1 + 1e-12)
        assert objective.ratio(search.point) == pytest.approx(search.value, rel=1e-9)


@pytest.mark.parametrize("center", [[0.0, 0.9], [1.5, -1.0], [-2.0, 1.0]])
def test_enclosures_agree_with_dense_sampling(center):
    found = pl_constant(toys.himmelblau, center, [0.3, 0.8])
    assert np.all(found.upper - found.lower <= 1.1e-3 * found.upper + 1.1e-6 * found.upper[0])
    rho, angle = np.meshgrid(np.linspace(0, 1, 300), np.linspace(0, 2 * np.pi, 900))
    disc = np.stack([rho * np.cos(angle), rho * np.sin(angle)], -1)
    for radius, lower, upper in zip(found.radii, found.lower, found.upper, strict=True):
        sampled = toys.himmelblau.ratio(center + radius * disc).min()
        assert lower <= sampled <= upper * 1.02 + 0.02


def test_a_plain_formula_has_an_honest_gap_on_its_valley():
    # Without residuals nothing is proved where f may be zero along a curve.
    found = pl_constant(PLAIN_RING, [1.0, 0.0], [0.1, 0.5], box_limit=4000)
    exact = 16 * (1 - np.array([0.1, 0.5])) ** 2
    assert np.all(found.lower <= exact)
    assert np.all(exact <= found.upper)
    assert found.lower[0] < 0.1 * exact[0]


def test_alpha_is_infinite_where_f_vanishes_and_zero_at_a_critical_point():
    found = pl_constant(Formula(lambda x, y: (0 * x,), 2), [0.0, 1.0], [1.0, 2.0])
    assert np.all(found.lower == np.inf)
    saddle = pl_constant(toys.hyperbola, [0.0, 0.0], [0.5, 1.0])
    assert np.all(saddle.lower == 0)
    assert np.all(saddle.upper < 1e-6)


def test_bounds_come_as_bounds():
    found = pl_constant(toys.quartic, [2.0], [0.5, 1.0])
    low, high = found.bound("lower"), found.bound("upper", 0)
    assert isinstance(low, Bound)
    assert (low.direction, low.quantity) == ("lower", "α(x0, 1)")
    assert low.value <= 16 <= found.upper[1]
    assert high.value == found.upper[0]
    with pytest.raises(ValueError, match="read-only"):
        found.lower[0] = 0


# ------------------------------------------------------------------ exact transformation laws


@SMALL
@given(st.floats(0.2, 3), st.floats(-2, 2), st.floats(0.1, 10), st.floats(0.2, 5))
def test_scaling_laws(radius, x0, c, t):
    # f ↦ c f: α ↦ c α.  f ↦ f(·/t): α(t x0, t r) = α(x0, r)/t².
    f = toys.wavy.function
    scaled = Formula(lambda x: c * f(x / t), 1, zeros=[[0.0]])
    plain = pl_constant(toys.wavy, [x0], radius)
    moved = pl_constant(scaled, [t * x0], t * radius)
    assert moved.lower[0] <= plain.upper[0] * c / t**2 * (1 + 1e-12)
    assert plain.lower[0] * c / t**2 <= moved.upper[0] * (1 + 1e-12)
    assert moved.upper[0] == pytest.approx(plain.upper[0] * c / t**2, rel=3e-3)


@SMALL
@given(st.floats(0, 2 * np.pi), st.floats(-2, 2), st.floats(0.2, 2))
def test_alpha_does_not_change_under_rotation(angle, x0, radius):
    a, b = float(np.cos(angle)), float(np.sin(angle))
    f = toys.double_well.function
    turned = Formula(lambda x, y: f(a * x + b * y, a * y - b * x), 2)
    center = np.array([a * x0 - b * 0.5, b * x0 + a * 0.5])
    plain = pl_constant(toys.double_well, [x0, 0.5], radius, tolerance=0.02)
    moved = pl_constant(turned, center, radius, tolerance=0.02, box_limit=10_000)
    assert moved.lower[0] <= plain.upper[0] * (1 + 1e-9)
    assert plain.lower[0] <= moved.upper[0] * (1 + 1e-9)


@SMALL
@given(st.floats(-3, 3), st.floats(-3, 3), st.sampled_from(sorted(toys.__all__[3:])))
def test_the_criterion_implies_the_integral_criterion(x, y, name):
    objective = toys.double_well if name == "bowl" else getattr(toys, name)
    start = [x, y][: objective.dimension]
    first = criterion.criterion(objective, start, tolerance=0.02)
    second = integral_criterion(objective, start, tolerance=0.02)
    if first.holds:
        assert second.holds
        assert second.radius <= first.path_length * (1 + 1e-9)
        assert second.rate >= first.rate
    if second.verdict == "fails":
        assert first.verdict != "holds"


# ------------------------------------------------------------------------------- the criteria


@pytest.mark.parametrize("distance", [0.3, 1.0, 7.0])
def test_the_factor_4_is_sharp_for_the_square_of_the_norm(distance):
    start = distance * np.array([0.6, -0.8])
    for factor, verdict in [(0.5, "fails"), (0.999, "fails"), (1.001, "holds"), (2, "holds")]:
        radii = factor * distance * np.linspace(0.01, 1, 100)
        for decide in (criterion.criterion, integral_criterion):
            assert decide(toys.bowl(1, 1), start, radii).verdict == verdict
    found = criterion.criterion(toys.bowl(1, 1), start)
    assert found.path_length == pytest.approx(distance, rel=1e-9)
    assert found.fails_up_to == pytest.approx(distance, rel=1e-9)
    assert integral_criterion(toys.bowl(1, 1), start).radius == pytest.approx(distance, rel=1e-9)


# Where each criterion begins or ends to hold, worked out by hand from α = 16(ρ - r)₊² on the ring
# and α = 4 sech⁴(x + r) for tanh²: sup r² α is ρ⁴ on the ring, and the integral of √α is 2ρ²;
# for tanh² the integral is 2(1 - tanh x0).
THRESHOLDS = [
    ("criterion", toys.ring, np.sqrt(2 / 3), +1),
    ("criterion", toys.ring, np.sqrt(2), -1),
    ("integral_criterion", toys.ring, np.sqrt(1 / 2), +1),
    ("integral_criterion", toys.saturating, np.arctanh(1 / 2), -1),
]


@pytest.mark.parametrize(("name", "objective", "threshold", "side"), THRESHOLDS)
def test_verdicts_change_at_the_exact_thresholds(name, objective, threshold, side):
    decide = getattr(criterion, name)
    for step, expected in [(+0.01, "holds"), (-0.01, "fails")]:
        start = np.zeros(objective.dimension)
        start[0] = threshold + side * step
        largest = start[0] if objective is toys.ring else 8.0
        found = decide(objective, start, np.linspace(largest / 400, largest, 400))
        assert found.verdict == expected


@pytest.mark.parametrize(
    ("objective", "start"),
    [
        (toys.quartic, [1.5]),
        (toys.runaway, [0.2]),
        (toys.tilted_well, [-0.9]),
        (toys.hyperbola, [1.0, -1.0]),
        (toys.ring, [0.1, 0.2]),
        (toys.himmelblau, [-0.3, -0.9]),
    ],
)
def test_neither_criterion_is_proved_where_no_zero_is_reached_or_alpha_dies(objective, start):
    for decide in (criterion.criterion, integral_criterion):
        found = decide(objective, start)
        assert not found.holds
        assert found.fails_up_to > 0
    assert criterion.criterion(objective, start).verdict == "fails"


def test_fields_of_a_verdict_fit_together():
    found = criterion.criterion(toys.ring, [0.95, 0.0])
    assert found.holds
    assert found.margin == pytest.approx(found.radius**2 * found.rate - 4 * found.value)
    assert found.kappa == pytest.approx(4 * found.value / (found.radius**2 * found.rate))
    assert found.path_length == pytest.approx(found.radius * np.sqrt(found.kappa))
    assert found.fails_up_to < found.smallest_radius < found.radius
    # r²·16(ρ - r)² is largest at r = ρ/2.
    assert found.radius == pytest.approx(0.475, rel=0.05)
    assert found.kappa == pytest.approx(4 * (1 - 0.95**2) ** 2 / 0.95**4, rel=0.01)
    # Exact: 2ρr* - r*² = ... from ∫ 4(ρ - s) ds = 2(1 - ρ²), r* = ρ - √(2ρ² - 1).
    second = integral_criterion(toys.ring, [0.95, 0.0], np.linspace(0.001, 0.9, 900))
    assert second.radius == pytest.approx(0.95 - np.sqrt(2 * 0.95**2 - 1), rel=2e-3)
    assert second.radius >= 0.95 - np.sqrt(2 * 0.95**2 - 1)
    assert second.fails_up_to <= 0.95 - np.sqrt(2 * 0.95**2 - 1)


def test_a_start_at_a_zero_is_trivial():
    found = criterion.criterion(toys.parabola, [0.0])
    assert (found.verdict, found.kappa, found.path_length) == ("holds", 0, 0)
    assert integral_criterion(toys.parabola, [0.0]).radius < 1e-12
    # x⁴ at 0: α = 0 on every ball, and 0 < 0 is false.
    assert criterion.criterion(toys.quartic, [0.0]).verdict != "holds"


@pytest.mark.parametrize("sampled", [50, 500])
def test_sums_enclose_a_known_integral(sampled):
    # α = e^(-2s): the integral up to r is 1 - e^(-r).
    radii = np.linspace(4 / sampled, 4, sampled)
    alpha = np.exp(-2 * radii)
    total = 1 - np.exp(-4)
    for needed in (0.2, 0.5, 0.9, 0.99 * total, 1.01 * total):
        found = integral_criterion_from_bounds((needed / 2) ** 2, radii, alpha, alpha, ratio=1.0)
        assert found.integral_lower <= total <= found.integral_upper
        assert found.integral_upper - found.integral_lower <= 4 / sampled
        if found.holds:
            exact = -np.log(1 - needed)
            assert found.fails_up_to <= exact <= found.radius
            assert found.radius - exact <= 2 * (4 / sampled) / (1 - needed)
            assert found.rate <= np.exp(-2 * exact)
        else:
            assert needed > total - 4 / sampled
    # With the slack ε of gradient descent on the left.
    found = integral_criterion_from_bounds(0.04, radii, alpha, alpha, epsilon=0.5)
    assert found.needed == pytest.approx(0.8)
    assert found.radius == pytest.approx(-np.log(0.2), abs=3 * 4 / sampled)


def test_refutations_reach_beyond_the_last_radius_as_far_as_they_should():
    # α ≤ 1 from radius 1 on (and is ∞ before, as far as anyone knows).
    first = criterion_from_bounds(4.0, [1.0, 2.0], upper=[1.0, 1.0], ratio=4.0)
    assert first.verdict == "fails"
    assert first.fails_up_to == pytest.approx(4.0)
    second = integral_criterion_from_bounds(4.0, [1.0, 2.0], upper=[1.0, 1.0], ratio=4.0)
    assert second.fails_up_to == pytest.approx(3.0)
    # Once α is zero nothing is ever gained.
    for decide in (criterion_from_bounds, integral_criterion_from_bounds):
        assert decide(4.0, [1.0, 2.0], upper=[1.0, 0.0], ratio=4.0).fails_up_to == np.inf
    # Without an upper bound before r_1 nothing is refuted.
    for decide in (criterion_from_bounds, integral_criterion_from_bounds):
        assert decide(4.0, [1.0], upper=[1.0]).fails_up_to == 0
    assert criterion_from_bounds(1.0, [1.0, 2.0]).verdict == "undecided"


def test_bounds_are_made_to_fall():
    # A lower bound at a large radius holds at every smaller one.
    found = criterion_from_bounds(0.2, [1.0, 2.0], [0.1, 1.0])
    assert found.smallest_radius == 1.0


# ------------------------------------------------------------------------ what it is good for


@pytest.mark.parametrize("name", ["ring", "hyperbola", "himmelblau", "rosenbrock", "wavy"])
def test_the_flow_from_every_proved_start_ends_at_a_zero_within_the_promised_radius(name):
    objective = getattr(toys, name)
    p = objective.dimension
    starts = np.random.default_rng(7).uniform(-4, 4, (25, p))
    radii = np.linspace(0.04, 3, 75)
    promised = [integral_criterion(objective, x, radii, tolerance=0.02) for x in starts]
    held = np.array([each.holds for each in promised])
    assert held.any()
    x, path, time = starts[held], 0.0, 0.0
    for _ in range(2000):  # small steps of Euler, shorter where the curvature is large
        slope = objective.gradient(x)
        step = 0.02 / (1 + np.abs(objective.hessian(x)).sum((1, 2)))
        x, time = x - step[:, None] * slope, time + step
        path = path + step * np.linalg.norm(slope, axis=1)
    value, radius, rate = (
        np.array([getattr(each, field) for each in promised])[held]
        for field in ("value", "radius", "rate")
    )
    assert np.all(objective.value(x) <= np.exp(-0.98 * rate * time) * value)
    assert np.all(path <= radius / 0.98)
    assert np.all(np.linalg.norm(x - starts[held], axis=1) <= radius)


# ------------------------------------------------------------------------------- search


def test_search_finds_the_lowest_eigenvalue_in_many_dimensions():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    eigenvalues = np.linspace(0.5, 4, 20)
    objective = Quadratic((turn * eigenvalues) @ turn.T)
    found = pl_constant_search(objective, np.zeros(20), 2.0, rng)
    assert found.value * (1 + 1e-9) >= 2
    assert found.value == pytest.approx(2, rel=1e-3)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(5)
    network = FeedForward((4, 3, 1), activations.tanh)
    objective = LeastSquares(network, rng.standard_normal((3, 4)), rng.standard_normal(3))
    return objective, rng.standard_normal(network.parameter_count)


def test_search_on_a_network(problem):
    objective, w = problem
    found = [
        pl_constant_search(objective, w, radius, np.random.default_rng(1))
        for radius in (0.1, 0.5, 1.0)
    ]
    values = [each.value for each in found]
    assert objective.ratio(w) >= values[0] > values[1] > values[2]
    for each, radius in zip(found, (0.1, 0.5, 1.0), strict=True):
        assert np.linalg.norm(each.point - w) <= radius * (1 + 1e-12)
        # (T3) at the point itself: the ratio is at least (4/n) λ_min(K).
        least = np.linalg.eigvalsh(objective.kernel(each.point))[0]
        assert each.value >= 4 / 3 * least * (1 - 1e-9)


def test_search_is_reproducible_and_stable_under_more_effort(problem):
    objective, w = problem
    once = [pl_constant_search(objective, w, 0.5, np.random.default_rng(2)).value for _ in range(2)]
    assert once[0] == once[1]
    twice = pl_constant_search(
        objective, w, 0.5, np.random.default_rng(3), starts=128, steps=400
    ).value
    assert twice == pytest.approx(once[0], rel=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_verdicts_err_on_the_safe_side_by_less_than_they_show(seed):
    """Within 2⁻⁴¹ of equality nothing is proved and nothing refuted; beyond 2⁻³⁹ it is."""
    radius, alpha = np.random.default_rng(seed).uniform(0.5, 2.0, 2)
    edge = radius * radius * alpha / 4
    for share, proved in ((1 - 2.0**-38, True), (1 - 2.0**-42, False), (1 + 2.0**-42, False)):
        loss = edge * share
        assert criterion_from_bounds(loss, [radius], [alpha]).holds == proved
        assert integral_criterion_from_bounds(loss, [radius], [alpha]).holds == proved
