"""The step-size theorems: their constants, their limits, and runs that must keep their bounds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plcore import toys
from plcore.activations import smooth_leaky_relu
from plcore.bounds import curvature_bound as network_curvature
from plcore.bounds import derivative_bounds as network_derivatives
from plcore.boxes import least_over_balls
from plcore.derivatives import curvature_bound, derivative_bounds
from plcore.descent import gradient_descent
from plcore.initialization import positive
from plcore.network import FeedForward
from plcore.objectives import LeastSquares, Quadratic
from plcore.positive_start import positive_start_constants
from plcore.step_sizes import integral_step_size, paper_step_size, sharp_step_size

numbers = st.floats(1e-3, 1e3)
# f(x_0), α, r, L1, L2, p: what Theorem 1.2 is given
givens = st.tuples(numbers, numbers, numbers, numbers, numbers, st.integers(1, 500))


def random_quadratic(rng):
    """xᵀAx with a random spectrum in a random basis, a start, and a radius for the criterion."""
    p = int(rng.integers(1, 7))
    basis = np.linalg.qr(rng.standard_normal((p, p)))[0]
    spectrum = np.exp(rng.uniform(-2, 2, p))
    objective, start = Quadratic((basis * spectrum) @ basis.T), rng.standard_normal(p)
    loss, alpha = float(objective.value(start)), 4 * float(objective.eigenvalues[0])
    radius = 2 * math.sqrt(loss / alpha) * math.exp(rng.uniform(-0.2, 2))
    return objective, start, loss, alpha, radius


def toy_alphas(objective, start, radii):
    """Proved lower bounds on α(x_0, r) for all radii."""
    return least_over_balls(
        lambda low, high: objective.ratio_lower(low, high), objective.ratio_upper,
        np.asarray(start, float), np.asarray(radii), tolerance=1e-2, box_limit=50_000,
    ).lower  # fmt: skip


TOYS = [
    (toys.wavy, [0.35]), (toys.saturating, [0.25]), (toys.tilted_well, [1.2]),
    (toys.ring, [1.1, 0.1]), (toys.hyperbola, [1.3, 1.0]), (toys.rosenbrock, [0.95, 0.85]),
    (toys.himmelblau, [2.9, 2.1]), (toys.double_well, [1.1, 0.1]), (toys.bowl(), [1.0, -0.5]),
]  # fmt: skip


# --------------------------------------------------------------------------- constants


@settings(max_examples=200, deadline=None)
@given(givens, st.floats(0.01, 0.99))
def test_the_paper_s_step_size_is_its_formula(given_numbers, epsilon):
    loss, alpha, r, L1, L2, p = given_numbers
    found = paper_step_size(loss, alpha, r, L1, L2, p, epsilon=epsilon)
    eta = min(r / (L1 * math.sqrt(p)), 2 * epsilon / (L2 * p))
    assert found.step_size == pytest.approx(eta, rel=1e-12)
    slack = 4 * loss < (1 - epsilon) ** 2 * r**2 * alpha
    delta = (1 - epsilon) * eta * alpha
    assert found.applies == (slack and delta <= 1)
    assert found.delta == (pytest.approx(delta, rel=1e-12) if found.applies else 0.0)
    by_name = {item.statement: item for item in found.hypotheses}
    item = by_name["4 f(x₀) < (1−ε)² r² α"]
    assert item.holds == slack
    assert item.margin == pytest.approx((1 - epsilon) ** 2 * r**2 * alpha / (4 * loss), rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(givens)
def test_the_best_epsilon_beats_every_other(given_numbers):
    """Against a fine grid of ε: no better rate, no larger step."""
    loss, alpha, r, L1, L2, p = given_numbers
    rate = paper_step_size(loss, alpha, r, L1, L2, p)
    step = paper_step_size(loss, alpha, r, L1, L2, p, best="step")
    kappa = 4 * loss / (r**2 * alpha)
    assert (rate.largest > 0) == (kappa < 1) == rate.hypotheses[-1].holds or rate.delta == 0
    for epsilon in np.linspace(1e-3, 0.999, 300):
        if 4 * loss >= (1 - epsilon) ** 2 * r**2 * alpha:
            break
        eta = min(r / (L1 * math.sqrt(p)), 2 * epsilon / (L2 * p))
        assert eta <= step.step_size * (1 + 1e-5)
        assert eta <= rate.largest * (1 + 1e-12)
        if rate.applies:
            assert (1 - epsilon) * eta * alpha <= rate.delta * (1 + 1e-5)


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-6, 0.999), numbers, numbers)
def test_the_sharp_best_rate_in_closed_form(kappa, alpha, radius):
    """ε = min(½, 1 − √κ), approached from below; at ½ it is η = 1/β and δ = α/(2β)."""
    beta = 3 * alpha  # α ≤ 2β whenever the theorem applies
    found = sharp_step_size(kappa * radius**2 * alpha / 4, alpha, radius, beta)
    best = min(0.5, 1 - math.sqrt(kappa))
    assert found.applies
    assert found.epsilon == pytest.approx(best, rel=2e-6)
    assert found.delta == pytest.approx((1 - best) * 2 * best * alpha / beta, rel=3e-6)
    assert found.largest == pytest.approx(2 * (1 - math.sqrt(kappa)) / beta, rel=1e-9)
    if kappa < 0.249:
        assert found.step_size == pytest.approx(1 / beta, rel=1e-12)
        assert found.delta == pytest.approx(alpha / (2 * beta), rel=1e-12)
    assert found.reach <= radius
    assert found.reach == pytest.approx(math.sqrt(kappa) * radius / (1 - best), rel=1e-5)


@settings(max_examples=100, deadline=None)
@given(givens, numbers, numbers)
def test_scaling_the_objective_and_the_space(given_numbers, c, t):
    """f ↦ cf divides η by c; f ↦ f(·/t) multiplies it by t²; δ and ε are numbers and stay."""
    loss, alpha, r, L1, L2, p = given_numbers
    plain = paper_step_size(loss, alpha, r, L1, L2, p)
    scaled = paper_step_size(c * loss, c * alpha, r, c * L1, c * L2, p)
    wider = paper_step_size(loss, alpha / t**2, t * r, L1 / t, L2 / t**2, p)
    beta = max(0.8 * L2 * p, alpha)
    sharp = sharp_step_size(loss, alpha, r, beta)
    sharp_scaled = sharp_step_size(c * loss, c * alpha, r, c * beta)
    sharp_wider = sharp_step_size(loss, alpha / t**2, t * r, beta / t**2)
    for one, by_c, by_t in [(plain, scaled, wider), (sharp, sharp_scaled, sharp_wider)]:
        assert by_c.step_size == pytest.approx(one.step_size / c, rel=1e-6)
        assert by_t.step_size == pytest.approx(one.step_size * t**2, rel=1e-6)
        assert by_c.epsilon == pytest.approx(one.epsilon, rel=1e-6)
        assert by_t.epsilon == pytest.approx(one.epsilon, rel=1e-6)
        if one.applies and one.delta < 0.999:
            assert by_c.delta == pytest.approx(one.delta, rel=1e-6)
            assert by_t.delta == pytest.approx(one.delta, rel=1e-6)
            assert by_t.reach == pytest.approx(t * one.reach, rel=1e-6)


@settings(max_examples=100, deadline=None)
@given(givens, st.floats(0.01, 1))
def test_the_sharp_theorem_admits_every_step_of_the_paper_s(given_numbers, part):
    """As λ_max ≤ pL2, and with the same promise for the same step."""
    loss, alpha, r, L1, L2, p = given_numbers
    paper = paper_step_size(loss, alpha, r, L1, L2, p)
    sharp = sharp_step_size(loss, alpha, r, part * p * L2)
    assert sharp.largest >= paper.largest
    if paper.applies:
        same = sharp_step_size(loss, alpha, r, part * p * L2, step_size=paper.step_size)
        assert same.epsilon <= paper.epsilon * (1 + 1e-12)
        assert not same.applies or same.delta >= paper.delta * (1 - 1e-12)


def test_contradictory_constants_are_found_out():
    """δ ≤ 1 is a consequence, so α = 100 beside β = 1 cannot be: the smallest β for α is α/2."""
    found = sharp_step_size(1.0, 100.0, 10.0, 1.0)
    assert not found.applies
    assert found.delta == 0
    assert [item.holds for item in found.hypotheses] == [True, True, False]
    for item in found.hypotheses:
        assert item.strict == ("≤" not in item.statement)
    assert sharp_step_size(1e-9, 2.0, 10.0, 1.0).delta == 1.0  # |x|²/2: one step ends the run


# --------------------------------------------------------------------------- limits


def test_just_below_at_and_above_the_sharp_limit():
    loss, alpha, radius, beta = 1.0, 4.0, 2.0, 7.0
    largest = sharp_step_size(loss, alpha, radius, beta).largest
    assert largest == pytest.approx(2 * (1 - 0.5) / beta, rel=1e-12)
    cases = [(1 - 1e-9, True), (1 + 1e-9, False), (1.5, False), (3.0, False), (1e6, False)]
    for factor, admissible in cases:
        found = sharp_step_size(loss, alpha, radius, beta, step_size=factor * largest)
        assert found.applies == admissible, factor
        assert (found.delta > 0) == admissible
    # Beyond 2/β the number (1−ε)² grows again; that must not revive the criterion.
    beyond = sharp_step_size(loss, alpha, radius, beta, step_size=100.0)
    assert [item.holds for item in beyond.hypotheses] == [False, False]


def test_just_below_at_and_above_the_paper_s_limits():
    loose = {"loss": 1e-6, "alpha": 0.1, "radius": 2.0, "second": 0.5, "dimension": 4}
    cap = 2.0 / (8.0 * 2.0)  # r/(L1 √p) binds, and may be attained
    for factor, admissible in [(1 - 1e-9, True), (1, True), (1 + 1e-9, False), (5, False)]:
        found = paper_step_size(first=8.0, **loose, step_size=factor * cap)
        assert found.applies == admissible
        by_name = {item.statement: item.holds for item in found.hypotheses}
        assert by_name["η ≤ r/(L1 √p)"] == admissible
    assert paper_step_size(first=8.0, **loose).largest == cap
    curved = 2 / (0.5 * 4)  # 2ε/(L2 p) with ε < 1 binds, and may not
    for factor, admissible in [(0.99, True), (1, False), (1.01, False), (3, False)]:
        found = paper_step_size(first=0.1, **loose, step_size=factor * curved)
        assert found.applies == admissible


def test_the_criterion_itself_at_its_limit():
    """4 f(x_0) = r² α admits no step at all; a little slack admits a small one."""
    assert sharp_step_size(1.0, 4.0, 1.0, 4.0).largest == 0
    failed = sharp_step_size(1.0, 4.0, 1.0, 4.0)
    assert (failed.applies, failed.step_size, failed.delta) == (False, 0.0, 0.0)
    assert failed.reach == math.inf
    assert failed.steps_to(0.1) == math.inf
    assert "FAILS: 4 against 4, 1 times" in str(failed)
    assert sharp_step_size(1.0, 4.0, 0.5, 4.0).hypotheses[-1].margin == 0.25
    slack = sharp_step_size(1.0, 4.0, 1.001, 4.0)
    assert slack.applies
    assert 0 < slack.largest < 1e-3


def test_on_the_unit_bowl_the_limit_2_over_beta_is_sharp():
    """f = |x|² far inside the criterion: below 2/β proved, at it a cycle, above it divergence."""
    objective, start = Quadratic(np.eye(3)), np.array([1.0, -2.0, 0.5])
    loss = float(objective.value(start))
    largest = sharp_step_size(loss, 4.0, 1e9, 2.0).largest
    assert largest == pytest.approx(1.0, rel=1e-8)
    proved = sharp_step_size(loss, 4.0, 1e9, 2.0, step_size=0.999 * largest)
    assert proved.applies
    runs = gradient_descent(objective, [start] * 3, [proved.step_size, 1.0, 1.001], 3000).losses
    assert runs[0, -1] <= proved.loss_bound(3000) * (1 + 1e-9)
    assert runs[1, -1] == loss
    assert runs[2, -1] > 100 * loss


def test_on_the_unit_bowl_the_rate_is_exact():
    """f = |x|² has 1 − δ = (1 − 2η)², the true contraction, for every η up to 1."""
    objective, start = Quadratic(np.eye(2)), np.array([3.0, 4.0])
    for eta in (0.01, 0.2, 0.5, 0.9):
        promise = sharp_step_size(25.0, 4.0, 1e3, 2.0, step_size=eta)
        run = gradient_descent(objective, start, eta, 20, record_path=True)
        np.testing.assert_allclose(promise.loss_bound(np.arange(21)), run.losses, rtol=1e-9)
        found = promise.check(run.losses, run.path, [0.0, 0.0])
        assert found.holds
        assert found.loss_ratio == pytest.approx(1.0, rel=1e-9)


# --------------------------------------------------------------------------- runs


def test_no_quadratic_breaks_a_bound():
    """Every theorem, at its best rate, its largest step and in between, on 700 quadratics."""
    rng = np.random.default_rng(10)
    ratios, applied, attempts = [], 0, 0
    for _ in range(700):
        objective, start, loss, alpha, radius = random_quadratic(rng)
        L1, L2 = (float(bound) for bound in derivative_bounds(objective, start, 2 * radius))
        beta = float(curvature_bound(objective, start, radius))
        p = objective.dimension
        paper = paper_step_size(loss, alpha, radius, L1, L2, p)
        sharp = sharp_step_size(loss, alpha, radius, beta)
        assert paper.applies == sharp.applies == (4 * loss < radius**2 * alpha)
        attempts += 4
        if not paper.applies:
            continue
        assert beta <= p * L2 * (1 + 1e-12)
        assert sharp.delta >= paper.delta
        between = rng.uniform(0.01, 0.999) * sharp.largest
        for promise in (
            paper,
            sharp,
            sharp_step_size(loss, alpha, radius, beta, best="step"),
            sharp_step_size(loss, alpha, radius, beta, step_size=between),
        ):
            run = gradient_descent(objective, start, promise.step_size, 100, record_path=True)
            found = promise.check(run.losses, run.path, np.zeros(p))
            assert found.holds, (promise, found)
            assert promise.delta <= 1
            assert (np.linalg.norm(run.path - start, axis=1) <= promise.reach * (1 + 1e-9)).all()
            ratios.append((found.loss_ratio, found.distance_ratio))
            applied += 1
    assert applied > 0.8 * attempts
    loss_ratio, distance_ratio = np.max(ratios, axis=0)
    assert 0.99 < loss_ratio <= 1 + 1e-9  # attained at the start, at the least
    assert 0.9 < distance_ratio <= 1 + 1e-9


@pytest.mark.parametrize(("objective", "start"), TOYS, ids=lambda value: getattr(value, "name", ""))
def test_no_toy_breaks_a_bound(objective, start):
    """Starts around each toy's own, constants proved by intervals, all three theorems."""
    rng = np.random.default_rng(11)
    starts = np.array(start) + 0.05 * rng.standard_normal((4, objective.dimension))
    radii = np.geomspace(0.03, 3, 16)
    applied = 0
    for x in starts:
        loss = float(objective.value(x))
        alphas = toy_alphas(objective, x, radii)
        best = int(np.argmax(radii**2 * alphas))
        r, alpha = float(radii[best]), float(alphas[best])
        L1, L2 = (float(bound) for bound in derivative_bounds(objective, x, 2 * r))
        beta = float(curvature_bound(objective, x, r))
        widest = float(curvature_bound(objective, x, radii[-1]))
        for promise in (
            paper_step_size(loss, alpha, r, L1, L2, objective.dimension),
            sharp_step_size(loss, alpha, r, beta),
            sharp_step_size(loss, alpha, r, beta, best="step"),
            integral_step_size(loss, radii, alphas, widest),
            integral_step_size(loss, radii, alphas, widest, best="step"),
        ):
            if not promise.applies:
                continue
            applied += 1
            run = gradient_descent(objective, x, promise.step_size, 300, record_path=True)
            assert promise.check(run.losses, run.path).holds, promise
            assert (np.linalg.norm(run.path - x, axis=1) <= promise.reach * (1 + 1e-9)).all()
    assert applied >= 10


def test_a_network_keeps_what_is_promised():
    """Positive start of Theorem 2.1, α and curvature proved for the network."""
    rng = np.random.default_rng(12)
    network = FeedForward((6, 5, 1), smooth_leaky_relu(0.3))
    X, y = rng.standard_normal((3, 6)), rng.standard_normal(3)
    scale = 4 * positive_start_constants(network, X, y).required_scale
    start = positive(network, scale)
    found = positive_start_constants(network, X, y, start)
    problem, r = LeastSquares(network, X, y), found.radius
    loss, alpha = float(problem.value(start)), float(found.pl_constant())
    L1, L2 = (float(bound) for bound in network_derivatives(problem, start, 2 * r))
    beta = float(network_curvature(problem, start, r))
    paper = paper_step_size(loss, alpha, r, L1, L2, problem.dimension)
    sharp = sharp_step_size(loss, alpha, r, beta)
    assert paper.applies
    assert sharp.applies
    assert sharp.step_size > paper.step_size
    for promise in (paper, sharp):
        run = gradient_descent(problem, start, promise.step_size, 400, record_path=True)
        assert promise.check(run.losses, run.path).holds
        assert run.losses[-1] < 0.99 * run.losses[0]


def test_a_profile_without_room_reaches_nowhere():
    """With ε so near 1 that (1−ε) ∫√α never comes to 2√f, the run may leave every ball."""
    profile = integral_step_size(1.0, [1.0, 2.0], [9.0, 4.0], 3.0, step_size=1e-6)
    assert profile.applies
    assert profile.reach < 2
    short = integral_step_size(1.0, [1.0, 2.0], [0.9, 0.4], 3.0)
    assert not short.applies
    assert short.reach == math.inf
