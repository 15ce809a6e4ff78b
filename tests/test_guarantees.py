"""The integral form of the step-size theorem, the check of a run, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plcore import guarantees, toys
from plcore.boxes import least_over_balls
from plcore.derivatives import curvature_bound
from plcore.descent import gradient_descent
from plcore.objectives import Quadratic
from plcore.step_sizes import integral_step_size, paper_step_size, sharp_step_size

profiles = st.lists(st.tuples(st.floats(0.05, 2), st.floats(0.2, 1)), min_size=1, max_size=8)


def integral(radii, alphas, upper):
    """∫₀^upper of √α for the step function that is α_j on (r_{j−1}, r_j]: written out."""
    total, inner = 0.0, 0.0
    for outer, alpha in zip(radii, alphas, strict=True):
        total += max(min(outer, upper) - inner, 0.0) * math.sqrt(alpha)
        inner = outer
    return total


# --------------------------------------------------------------------------- integral form


@settings(max_examples=200, deadline=None)
@given(profiles, st.floats(0.01, 0.98), st.floats(0.5, 5))
def test_the_integral_form_by_its_definition(profile, part, beta_factor):
    """r* solves (1−ε) ∫₀^{r*} √α = 2√f(x_0); δ takes α there; no other ε does better."""
    radii = np.cumsum([gap for gap, _ in profile])
    alphas = np.cumprod([fall for _, fall in profile])
    whole = integral(radii, alphas, radii[-1])
    loss, beta = (part * whole / 2) ** 2, beta_factor * alphas[0]
    found = integral_step_size(loss, radii, alphas, beta)
    assert found.applies
    assert found.largest == pytest.approx(2 * (1 - part) / beta, rel=1e-9)
    need = 2 * math.sqrt(loss) / (1 - found.epsilon)
    assert integral(radii, alphas, found.reach) == pytest.approx(need, rel=1e-9)
    j = int(np.searchsorted(radii, found.reach * (1 - 1e-12)))
    assert found.step_size == pytest.approx(2 * found.epsilon / beta, rel=1e-12)
    delta = (1 - found.epsilon) * found.step_size * alphas[j]
    assert found.delta == pytest.approx(delta, rel=1e-9)
    for epsilon in np.linspace(1e-3, 1 - part - 1e-3, 50):
        if 0 < epsilon < 1 - part:
            other = integral_step_size(loss, radii, alphas, beta, epsilon=epsilon)
            assert other.applies
            assert other.delta <= found.delta * (1 + 1e-5)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 0.99), st.integers(2, 9))
def test_one_alpha_cut_in_pieces_gives_the_one_radius_theorem(kappa, pieces):
    alpha, radius, beta = 2.0, 3.0, 5.0
    loss = kappa * radius**2 * alpha / 4
    one = sharp_step_size(loss, alpha, radius, beta)
    radii = np.linspace(0, radius, pieces + 1)[1:]
    many = integral_step_size(loss, radii, np.full(pieces, alpha), beta)
    for name in ("step_size", "epsilon", "delta", "largest", "reach", "loss_bound"):
        first, second = getattr(one, name), getattr(many, name)
        if callable(first):
            first, second = first(7), second(7)
        assert second == pytest.approx(first, rel=1e-9)
    # One radius: |x_k − x*| ≤ (1−δ)^{k/2} r; the integral form knows the reach as well.
    k = np.arange(50)
    assert (many.distance_bound(k) <= one.distance_bound(k) * (1 + 1e-9)).all()


def test_a_bound_for_a_larger_ball_serves_a_smaller_one():
    plain = integral_step_size(0.5, [1.0, 2.0, 3.0], [1.0, 1.0, 0.5], 5.0)
    repaired = integral_step_size(0.5, [1.0, 2.0, 3.0], [0.2, 1.0, 0.5], 5.0)
    assert repaired.delta == plain.delta
    assert repaired.reach == plain.reach


def test_the_integral_form_reaches_where_the_criterion_fails_at_every_radius():
    """x ↦ tanh² x from 0.5: 4f ≥ r²α for all r, while 2√f(x_0) < ∫√α, which is 2 tanh(x_0 + r)
    − 2 tanh x_0 in closed form.  The run keeps what is promised."""
    objective, start = toys.saturating, np.array([0.5])
    loss = float(objective.value(start))
    every = np.linspace(0.01, 6, 4000)
    exact = 4 / np.cosh(0.5 + every) ** 4
    assert (4 * loss >= every**2 * exact).all()
    radii = np.linspace(0, 2.5, 401)[1:]
    alphas = least_over_balls(
        lambda low, high: objective.ratio_lower(low, high), objective.ratio_upper,
        start, radii, tolerance=1e-4, box_limit=100_000,
    ).lower  # fmt: skip
    assert (alphas <= 4 / np.cosh(0.5 + radii) ** 4).all()
    beta = float(curvature_bound(objective, start, 2.5))
    promise = integral_step_size(loss, radii, alphas, beta)
    assert promise.applies
    whole = 2 * math.tanh(3.0) - 2 * math.tanh(0.5)
    need = [item for item in promise.hypotheses if "∫" in item.statement]
    assert need[0].right / (1 - promise.epsilon) == pytest.approx(whole, rel=0.02)
    run = gradient_descent(objective, start, promise.step_size, 400, record_path=True)
    found = promise.check(run.losses, run.path, [0.0])
    assert found.holds
    assert np.abs(run.path - start).max() <= promise.reach
    assert not sharp_step_size(loss, alphas[200], radii[200], beta).applies


# --------------------------------------------------------------------------- checks of a run


def bowl_run(eta, steps=30):
    return gradient_descent(Quadratic(np.eye(2)), [3.0, 4.0], eta, steps, record_path=True)


def test_a_run_that_breaks_a_bound_is_found():
    """On |x|² the promise is exact, so everything slower breaks it, and so does any tampering."""
    promise = sharp_step_size(25.0, 4.0, 6.0, 2.0, step_size=0.1)
    fine, slow, fast = bowl_run(0.1), bowl_run(0.099), bowl_run(0.101)
    assert promise.check(fine.losses, fine.path, [0, 0]).holds
    assert promise.check(fast.losses, fast.path, [0, 0]).holds
    broken = promise.check(slow.losses, slow.path, [0, 0])
    assert not broken.holds
    assert broken.loss_ratio > 1.01
    late = fine.losses.copy()
    late[20] *= 1 + 1e-9
    assert not promise.check(late, fine.path, [0, 0]).holds
    far = fine.path.copy()
    far[10] *= 1.3
    found = promise.check(fine.losses, far, [0, 0])
    assert not found.holds
    assert found.distance_ratio > 1
    assert not promise.check(fine.losses, fine.path, [2.0, 3.0]).holds


def test_rounding_is_told_from_a_broken_bound():
    """Runs that sink to rounding keep the bound; the same level without rounding would not.

    f = |x − c|² far from the origin: x carries an error of u|c|, and f one of u²|c|².
    """
    c = 1e3 * np.array([1.0, 1.0])
    objective = toys.Formula(lambda x, y: (x - 1e3, y - 1e3), 2)
    start = c + np.array([3.0, 4.0])
    promise = sharp_step_size(25.0, 4.0, 7.0, 2.0, step_size=0.2)
    run = gradient_descent(objective, start, 0.2, 200, record_path=True)
    found = promise.check(run.losses, run.path, c)
    assert found.holds
    assert found.steps_at_rounding > 100
    assert run.losses[-1] > 1e3 * promise.loss_bound(200)  # rounding, seen and allowed for
    assert not promise.check(np.maximum(run.losses, 1e-15), run.path, c).holds


def test_a_last_point_can_stand_for_the_limit():
    promise = sharp_step_size(25.0, 4.0, 6.0, 2.0, step_size=0.1)
    run = bowl_run(0.1)
    with_last, with_limit = (promise.check(run.losses, run.path, x) for x in (None, [0, 0]))
    assert with_last.holds
    assert with_last.distance_ratio <= with_limit.distance_ratio


def test_the_predicted_number_of_steps():
    """`steps_to` is the first step at which the loss bound is that low, and the run is there."""
    promise = sharp_step_size(25.0, 4.0, 6.0, 2.0, step_size=0.1)
    for loss in (20.0, 1.0, 1e-6, 1e-12):
        k = promise.steps_to(loss)
        assert promise.loss_bound(k) <= loss < promise.loss_bound(k - 1)
        assert bowl_run(0.1, 100).steps_to(loss) <= k
    assert promise.steps_to(25.0) == 0
    assert sharp_step_size(1e-9, 2.0, 10.0, 1.0).steps_to(1e-300) == 1


def test_a_start_at_zero_loss_is_the_trivial_case():
    promise = sharp_step_size(0.0, math.inf, 1.0, 2.0)
    assert promise.applies
    assert promise.delta <= 1
    assert promise.reach == 0
    run = gradient_descent(Quadratic(np.eye(2)), [0.0, 0.0], promise.step_size, 5, record_path=True)
    assert promise.check(run.losses, run.path).holds


def test_the_answer_reads_well():
    promise = paper_step_size(1.0, 4.0, 3.0, 2.0, 2.0, 3)
    text = str(promise)
    for part in ("Theorem 1.2", "η ≤ r/(L1 √p)", "4 f(x₀) < (1−ε)² r² α", "applies", "holds:"):
        assert part in text
    assert "distance decay" not in text
    assert "&lt;" in promise._repr_html_()


# --------------------------------------------------------------------------- bad input

FINE = {"loss": 1.0, "alpha": 4.0, "radius": 3.0, "curvature": 2.0}


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"loss": -1.0}, ValueError, "loss must not be negative, but is -1.0"),
        ({"loss": np.nan}, ValueError, "loss must be a finite number, but is nan"),
        ({"alpha": -4.0}, ValueError, "alpha must not be negative, but is -4.0"),
        ({"alpha": np.nan}, ValueError, "alpha must be a finite number"),
        ({"alpha": np.inf}, ValueError, "alpha can be infinite only where f vanishes"),
        ({"alpha": "big"}, TypeError, "alpha must be a real number"),
        ({"radius": 0.0}, ValueError, "radius must be positive"),
        ({"curvature": 0.0}, ValueError, "curvature must be positive"),
        ({"curvature": [2.0]}, TypeError, "curvature must be a real number"),
        ({"epsilon": 1.0}, ValueError, "epsilon must lie strictly between 0 and 1"),
        ({"step_size": -0.1}, ValueError, "step_size must be positive"),
        ({"step_size": 0.1, "epsilon": 0.5}, ValueError, "cannot both be prescribed"),
        ({"best": "speed"}, ValueError, "best must be one of 'rate', 'step', but is 'speed'"),
    ],
)
def test_bad_numbers_are_refused_in_a_sentence(changes, error, sentence):
    with pytest.raises(error, match=sentence):
        sharp_step_size(**{**FINE, **changes})


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"first": -1.0}, ValueError, "first must not be negative"),
        ({"second": 0.0}, ValueError, "second must be positive"),
        ({"dimension": 0}, ValueError, "dimension must be at least 1"),
        ({"dimension": 2.0}, TypeError, "dimension must be an integer"),
    ],
)
def test_bad_derivative_bounds_are_refused(changes, error, sentence):
    fine = {"loss": 1.0, "alpha": 4.0, "radius": 3.0, "first": 1.0, "second": 2.0, "dimension": 2}
    with pytest.raises(error, match=sentence):
        paper_step_size(**{**fine, **changes})


@pytest.mark.parametrize(
    ("radii", "alphas", "sentence"),
    [
        ([1.0, 2.0], [1.0], "one alpha for each radius"),
        ([2.0, 1.0], [1.0, 1.0], "radii must be positive and increasing"),
        ([0.0, 1.0], [1.0, 1.0], "radii must be positive and increasing"),
        ([], [], "radii must not be empty"),
        ([1.0, np.inf], [1.0, 1.0], "radii must be finite"),
        ([1.0, 2.0], [1.0, -1.0], "alphas must not be negative, but the least is -1.0"),
        ([1.0, 2.0], [np.inf, 1.0], "alpha can be infinite only where f vanishes"),
        ([1.0, 2.0], [np.nan, 1.0], "alphas must not be NaN"),
        (1.0, 1.0, "radii must have 1 axes"),
    ],
)
def test_bad_profiles_are_refused(radii, alphas, sentence):
    with pytest.raises(ValueError, match=sentence):
        integral_step_size(0.1, radii, alphas, 2.0)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda s, r: s.steps_to(0.0), ValueError, "loss must be positive"),
        (lambda s, r: s.check(r.losses[:-1], r.path), ValueError, "belong to the same steps"),
        (lambda s, r: s.check(r.losses, r.path, [0.0]), ValueError, "limit must have 2 entries"),
        (lambda s, r: s.check(r.losses * np.nan, r.path), ValueError, "losses must be finite"),
        (lambda s, r: s.check([r.losses], r.path), ValueError, "losses must have 1 axes"),
        (lambda s, r: s.loss_bound([3, -1]), ValueError, "steps must not be negative.*-1"),
        (lambda s, r: s.loss_bound("k"), TypeError, "steps must be an array of real numbers"),
    ],
)
def test_bad_questions_to_a_promise_are_refused(call, error, sentence):
    promise = sharp_step_size(25.0, 4.0, 6.0, 2.0, step_size=0.1)
    with pytest.raises(error, match=sentence):
        call(promise, bowl_run(0.1))


def test_nothing_is_checked_where_nothing_is_promised():
    run = bowl_run(0.1)
    with pytest.raises(ValueError, match=r"promises nothing here, because this fails: 4 f\(x₀\)"):
        sharp_step_size(25.0, 4.0, 4.0, 2.0).check(run.losses, run.path)


def test_rounding_is_allowed_its_share_and_no_more():
    """One unit a step at δ near 0, and relative ones for δ itself: twice as much is refused."""
    promise = sharp_step_size(1.0, 4.0, 3.0, 2.0, step_size=1e-3)
    k = np.arange(4)
    bound = promise.loss_bound(k)
    path = np.zeros((4, 1))
    unit = 4 * np.finfo(float).eps
    relative = 1 + unit * (k + 1) / (1 - promise.delta)
    drift = math.sqrt(promise.curvature / 2) * unit * promise.radius * (k + 1)
    for index in k:
        for share, holds in ((0.9, True), (1.2, False)):
            roots = np.sqrt(bound)
            most = roots[index] * relative[index] + drift[index]
            roots[index] += share * (most - roots[index])
            assert promise.check(roots**2, path).holds == holds, (index, share)


def test_a_margin_close_to_one_is_told_apart_from_it():
    assert "1 + 0.0004 times" in str(guarantees.Inequality("a ≤ b", 1.0, 1.0004))
    assert "1 - 0.0004 times" in str(guarantees.Inequality("a ≤ b", 1.0, 1 - 0.0004))
