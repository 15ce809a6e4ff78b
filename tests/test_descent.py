"""Gradient descent itself: what is recorded, how runs are batched, how divergence is kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plcore import activations, toys
from plcore.descent import DescentResult, gradient_descent
from plcore.network import FeedForward
from plcore.objectives import LeastSquares, Objective, Quadratic


def random_quadratic(rng, dimension, least=0.1, greatest=10.0):
    basis = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
    spectrum = np.exp(rng.uniform(np.log(least), np.log(greatest), dimension))
    return Quadratic((basis * spectrum) @ basis.T)


def small_problem(rng, n=5, d=3):
    network = FeedForward((d, 4, 3, 1), activations.smooth_leaky_relu(0.1))
    problem = LeastSquares(network, rng.standard_normal((n, d)), rng.standard_normal(n))
    return problem, 0.5 * rng.standard_normal((3, problem.dimension))


class Cubic(Objective):
    """f(x) = (x − 1)² (x + 2)², for which NaN, ∞ and finite values are all within reach."""

    dimension = 1

    def _value_and_gradient(self, x):
        a, b = x - 1, x + 2
        return (a * a * b * b)[..., 0], 2 * a * b * (a + b)

    def _hessian_vector(self, x, v):
        a, b = x - 1, x + 2
        return 2 * ((a + b) ** 2 + 2 * a * b) * v


def test_a_quadratic_run_is_the_closed_form():
    """x_k = (1 − 2ηλ)^k x_0 in each eigendirection."""
    spectrum = np.array([0.5, 1.0, 3.0])
    objective, eta, start = Quadratic(np.diag(spectrum)), 0.2, np.array([1.0, -2.0, 0.5])
    run = gradient_descent(objective, start, eta, 40, record_path=True)
    k = np.arange(41)[:, None]
    exact = (1 - 2 * eta * spectrum) ** k * start
    np.testing.assert_allclose(run.path, exact, rtol=1e-13)
    np.testing.assert_allclose(run.losses, (spectrum * exact**2).sum(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(run.final, run.path[-1])
    assert run.steps == 40
    assert not run.diverged


@pytest.mark.parametrize("kind", ["quadratic", "network"])
def test_the_recorded_losses_are_the_objective_along_the_path(kind):
    rng = np.random.default_rng(1)
    if kind == "quadratic":
        objective, start = random_quadratic(rng, 4), rng.standard_normal((3, 4))
    else:
        objective, start = small_problem(rng)
    run = gradient_descent(objective, start, [0.01, 0.03, 0.09], 30, record_path=True)
    assert run.path.shape == (3, 31, objective.dimension)
    np.testing.assert_array_equal(run.path[:, 0], start)
    expected = np.stack([objective.value(run.path[:, k]) for k in range(31)], axis=1)
    np.testing.assert_allclose(run.losses, expected, rtol=1e-13)
    moved = np.diff(run.path, axis=1)
    for k in range(30):
        step = -run.step_size[:, None] * objective.gradient(run.path[:, k])
        np.testing.assert_allclose(moved[:, k], step, rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize("record_path", [False, True])
def test_a_batch_is_a_loop(record_path):
    """Runs with own starts, own step sizes and own data: the same as one after another."""
    rng = np.random.default_rng(2)
    network = FeedForward((3, 4, 1), activations.tanh)
    X, y = rng.standard_normal((2, 1, 6, 3)), rng.standard_normal((2, 1, 6))
    start = rng.standard_normal((3, network.parameter_count))
    steps = np.array([0.01, 0.1, 0.3])
    run = gradient_descent(LeastSquares(network, X, y), start, steps, 25, record_path=record_path)
    assert run.losses.shape == (2, 3, 26)
    assert run.step_size.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            one = LeastSquares(network, X[i, 0], y[i, 0])
            alone = gradient_descent(one, start[j], steps[j], 25, record_path=record_path)
            np.testing.assert_allclose(run.losses[i, j], alone.losses, rtol=1e-11)
            np.testing.assert_allclose(run.final[i, j], alone.final, rtol=1e-10, atol=1e-12)


def test_the_fast_loop_for_networks_gives_what_stepping_gives():
    problem, start = small_problem(np.random.default_rng(3))
    fast = gradient_descent(problem, start, [[0.01], [0.05]], 300)
    plain = gradient_descent(problem, start, [[0.01], [0.05]], 300, record_path=True)
    assert fast.path is None
    np.testing.assert_allclose(fast.losses, plain.losses, rtol=1e-8)
    np.testing.assert_allclose(fast.final, plain.final, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("record_path", [False, True])
def test_a_diverged_run_is_infinite_and_disturbs_no_other(record_path):
    """No NaN, no warning (warnings are errors here), and the neighbour's run is untouched."""
    start = [[0.9], [50.0], [0.9]]
    run = gradient_descent(Cubic(), start, [0.01, 1.0, 0.01], 200, record_path=record_path)
    np.testing.assert_array_equal(run.diverged, [False, True, False])
    first = int(np.isinf(run.losses[1]).argmax())
    assert 0 < first < 20
    assert np.isfinite(run.losses[1, :first]).all()
    assert np.isposinf(run.losses[1, first:]).all()
    assert np.isinf(run.final[1]).all()
    alone = gradient_descent(Cubic(), [0.9], 0.01, 200)
    np.testing.assert_array_equal(run.losses[[0, 2]], [alone.losses, alone.losses])
    if record_path:
        assert np.isinf(run.path[1, first:]).all()
        assert np.isfinite(run.path[1, :first]).all()
    assert not np.isnan(run.losses).any()


class Strict(Cubic):
    """The same, for finite points alone."""

    def _value_and_gradient(self, x):
        assert np.isfinite(x).all()
        return super()._value_and_gradient(x)


def test_an_objective_is_asked_for_finite_points_only():
    run = gradient_descent(Strict(), [[0.9], [50.0], [50.0]], [0.01, 1.0, 1e305], 100)
    np.testing.assert_array_equal(run.diverged, [False, True, True])
    run = gradient_descent(toys.hyperbola, [[1.3, 1.0], [9.0, 9.0]], [[0.1], [1.0], [1e200]], 50)
    np.testing.assert_array_equal(run.diverged, [[False, True], [True, True], [True, True]])


def test_a_network_diverges_without_nan():
    problem, start = small_problem(np.random.default_rng(4))
    for record_path in (False, True):
        run = gradient_descent(problem, start, [0.01, 50.0, 1e4], 400, record_path=record_path)
        assert not np.isnan(run.losses).any()
        assert not run.diverged[0]
        assert run.diverged[2]
        assert np.isinf(run.final[2]).all()


def test_the_limit_of_stability_on_a_quadratic():
    """Just below, at, and above 1/λ_max: decrease, a cycle of two, growth."""
    objective = Quadratic(np.diag([1.0, 4.0]))
    below, at, above, far = gradient_descent(
        objective, [0.0, 1.0], 0.25 * np.array([1 - 1e-3, 1, 1 + 1e-3, 3]), 2000
    ).losses
    assert below[-1] < 1e-3 * below[0]
    assert at[-1] == at[0]
    assert above[-1] > 1e3 * above[0]
    assert np.isposinf(far[-1])


def test_a_loss_target_stops_once_all_runs_are_there_or_gone():
    objective = Quadratic(np.eye(1))
    run = gradient_descent(
        objective, [[1.0], [1.0], [1.0]], [0.1, 0.3, 5.0], 10_000, loss_target=1e-6,
        record_path=True,
    )  # fmt: skip
    # 0.8^(2k) ≤ 1e-6 first at k = 31; the third has not overflowed by then, so the batch goes on.
    np.testing.assert_array_equal(run.steps_to(1e-6), [31, 8, np.inf])
    assert run.diverged[2]
    assert run.losses.shape[1] == run.path.shape[1] == int(np.isinf(run.losses[2]).argmax()) + 1
    pair = gradient_descent(objective, [[1.0], [1.0]], [0.1, 0.3], 10_000, loss_target=1e-6)
    assert pair.losses.shape == (2, 32)
    assert gradient_descent(objective, [0.0], 0.1, 50, loss_target=0).losses.shape == (1,)


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-3, 0.999), st.floats(1e-3, 1e3), st.integers(3, 60))
def test_the_fitted_rate_of_a_geometric_sequence_is_exact(delta, scale, steps):
    losses = scale * (1 - delta) ** np.arange(steps + 1)
    run = DescentResult(np.array(1.0), losses, np.zeros(1))
    assert run.rate() == pytest.approx(delta, rel=1e-9)
    assert run.rate(1, 3) == pytest.approx(delta, rel=1e-9)
    assert np.isnan(run.rate(floor=2 * scale))


def test_the_fitted_rate_leaves_out_what_is_not_usable():
    losses = np.array([[1.0, 0.5, 0.25, 1e-30], [1.0, 0.5, 0.25, np.inf], [1.0, 0.0, 0.0, 0.0]])
    run = DescentResult(np.ones(3), losses, np.zeros((3, 1)))
    np.testing.assert_allclose(run.rate(floor=1e-20)[:2], 0.5, rtol=1e-13)
    assert np.isnan(run.rate()[2])
    np.testing.assert_array_equal(run.steps_to(0.3), [2, 2, 1])


def test_zero_steps_record_the_start():
    run = gradient_descent(Quadratic(np.eye(2)), [1.0, 1.0], 0.1, 0, record_path=True)
    np.testing.assert_array_equal(run.losses, [2.0])
    np.testing.assert_array_equal(run.path, [[1.0, 1.0]])


def test_results_are_read_only_and_the_caller_keeps_the_start():
    start = np.ones((2, 2))
    run = gradient_descent(Quadratic(np.eye(2)), start, 0.1, 3)
    with pytest.raises(ValueError, match="read-only"):
        run.losses[0] = 0
    np.testing.assert_array_equal(start, np.ones((2, 2)))
    assert "losses" in str(run)
    assert "<table>" in run._repr_html_()


FINE = {"start": [1.0, 1.0], "step_size": 0.1, "steps": 3}


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"objective": "x²"}, TypeError, "objective must be of type Objective"),
        ({"start": [1.0]}, ValueError, r"start must have p = 2 entries .* shape \(1,\)"),
        ({"start": [1.0, np.nan]}, ValueError, r"start must be finite, but is nan at index \(1,\)"),
        ({"start": "here"}, TypeError, "start must be an array of real numbers"),
        ({"step_size": 0}, ValueError, "step_size must be positive, but its least entry is 0.0"),
        ({"step_size": [0.1, -1]}, ValueError, "step_size must be positive"),
        ({"step_size": np.inf}, ValueError, "step_size must be finite"),
        (
            {"start": np.ones((3, 2)), "step_size": [0.1, 0.2]},
            ValueError,
            r"step_size must match the leading axes of start .* \(2,\) and start \(3, 2\)",
        ),
        ({"steps": -1}, ValueError, "steps must be at least 0, but is -1"),
        ({"steps": 2.0}, TypeError, "steps must be an integer"),
        ({"record_path": 1}, TypeError, "record_path must be True or False"),
        ({"loss_target": -1.0}, ValueError, "loss_target must not be negative"),
        ({"loss_target": "low"}, TypeError, "loss_target must be a real number"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(changes, error, sentence):
    arguments = {"objective": Quadratic(np.eye(2)), **FINE, **changes}
    with pytest.raises(error, match=sentence):
        gradient_descent(**arguments)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda run: run.steps_to(-1.0), ValueError, "loss must not be negative"),
        (lambda run: run.rate(2, 2), ValueError, "0 <= first < last <= 3"),
        (lambda run: run.rate(0, 9), ValueError, "0 <= first < last <= 3"),
        (lambda run: run.rate(0.5), TypeError, "first must be an integer"),
        (lambda run: run.rate(floor=-1), ValueError, "floor must not be negative"),
    ],
)
def test_bad_questions_to_a_run_are_refused(call, error, sentence):
    run = gradient_descent(Quadratic(np.eye(2)), **FINE)
    with pytest.raises(error, match=sentence):
        call(run)


def test_all_runs_lost_at_once():
    objective = Quadratic(np.eye(2))
    run = gradient_descent(objective, [1.0, 1.0], 1e200, 40)
    assert np.isinf(run.losses[2:]).all()
    assert np.isinf(run.final).all()
