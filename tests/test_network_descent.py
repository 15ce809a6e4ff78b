"""The fast descent loop against the plain one that steps with the objective's own gradient."""

import time

import numpy as np
import pytest
from bad_input import garbage_taken
from strategies import EVERY, case

from plcore import activations, initialization
from plcore.curvature import top_curvature
from plcore.network import FeedForward
from plcore.network_descent import descend
from plcore.objectives import LeastSquares

LEAKY = activations.smooth_leaky_relu(0.1)


def plain_descent(problem, w, step_size, steps):
    """w ← w − η∇S(w), with the gradient of `LeastSquares`, which has oracles of its own."""
    losses = []
    for _ in range(steps):
        value, gradient = problem.value_and_gradient(w)
        losses.append(value)
        w = w - np.asarray(step_size)[..., None] * gradient
    return np.stack([*losses, problem.value(w)], axis=-1), w


def gaussian(activation, widths, n, runs=(), data=(), seed=0, scale=1.0):
    """A problem with Gaussian data, one set for each of `data`, and LeCun starts with biases."""
    rng = np.random.default_rng(seed)
    network = FeedForward(widths, activation)
    X = rng.standard_normal((*data, n, widths[0])) / np.sqrt(widths[0])
    problem = LeastSquares(network, X, rng.standard_normal((*data, n)))
    w = scale * initialization.lecun(network, rng, runs)
    return problem, w + 0.1 * rng.standard_normal(w.shape)


def safe_steps(problem, w, fraction=0.1):
    """A step size for each run at which descent is stable and forgets its rounding errors."""
    return fraction / top_curvature(problem, w, 1e-2).value


def assert_same(found, expected, tolerance):
    """√loss to `tolerance` of its start, parameters to `tolerance` of their size."""
    roots, final = np.sqrt(expected[0]), expected[1]
    assert (np.abs(np.sqrt(found[0]) - roots) <= tolerance * roots[..., :1]).all()
    assert np.linalg.norm(found[1] - final) <= tolerance * np.linalg.norm(final)


@pytest.mark.parametrize("activation", EVERY, ids=lambda each: each.name)
@pytest.mark.parametrize(("widths", "n"), [((6, 5, 4, 1), 5), ((2, 5, 4, 1), 9)])
@pytest.mark.parametrize("data", [(), (3,)])
def test_every_activation(activation, widths, n, data):
    problem, w = gaussian(activation, widths, n, (3,), data)
    eta = safe_steps(problem, w)
    assert_same(descend(problem, w, eta, 300), plain_descent(problem, w, eta, 300), 1e-12)


@pytest.mark.parametrize("depth", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("n", [4, 20])
@pytest.mark.parametrize("data", [(), (2,)])
def test_every_depth(depth, n, data):
    """Layers of width 1, of different widths and with different activations among them."""
    widths = (7, *(6, 1, 5, 4, 3)[: depth - 1], 1)
    listed = (LEAKY, activations.tanh, activations.shifted_softplus, LEAKY, activations.gelu)
    problem, w = gaussian(listed[: depth - 1], widths, n, (2,), data, seed=depth)
    eta = safe_steps(problem, w)
    found = descend(problem, w, eta, 300)
    assert_same(found, plain_descent(problem, w, eta, 300), 1e-12)
    assert (found[0][:, -1] < found[0][:, 0]).all()


def test_thousands_of_steps_down_to_rounding():
    problem, w = gaussian(LEAKY, (10, 8, 8, 1), 6, (2,), seed=5)
    losses, final = descend(problem, w, 0.1, 5000)
    assert (losses[:, -1] < 1e-28 * losses[:, 0]).all()
    assert_same((losses, final), plain_descent(problem, w, [0.1, 0.1], 5000), 1e-13)
    assert (problem.value(final) < 1e-28).all()


@pytest.mark.parametrize("activation", [LEAKY, activations.tanh], ids=lambda each: each.name)
def test_both_forms_of_the_first_layer_agree(activation):
    """Samples three times over leave S as it is, but make them too many for the span."""
    problem, w = gaussian(activation, (4, 6, 5, 1), 4, (3,))
    tripled = LeastSquares(problem.network, np.tile(problem.X, (3, 1)), np.tile(problem.y, 3))
    eta = safe_steps(problem, w)
    assert_same(descend(problem, w, eta, 500), descend(tripled, w, eta, 500), 1e-13)


def test_the_first_weights_move_within_the_span_of_the_inputs():
    problem, w = gaussian(LEAKY, (30, 6, 1), 4)
    moved = problem.network.layers(descend(problem, w, 0.1, 200)[1] - w)[0][0]
    outside = moved - moved @ np.linalg.pinv(problem.X) @ problem.X
    assert np.linalg.norm(moved) > 0.01
    assert np.linalg.norm(outside) < 1e-14


@pytest.mark.parametrize("runs", [1, 3, 7])
@pytest.mark.parametrize("data", [False, True])
def test_a_batch_is_a_loop_over_runs(runs, data):
    problem, w = gaussian(LEAKY, (5, 6, 4, 1), 5, (runs,), (runs,) if data else ())
    eta = np.linspace(0.02, 0.1, runs)
    found = descend(problem, w, eta, 150)
    for run in range(runs):
        one = problem
        if data:
            one = LeastSquares(problem.network, problem.X[run], problem.y[run])
        alone = descend(one, w[run], eta[run], 150)
        assert_same((found[0][run], found[1][run]), alone, 1e-14)


def test_several_blocks_of_runs():
    """More runs than are stepped together."""
    problem, w = gaussian(LEAKY, (8, 20, 20, 1), 20, (71,))
    losses, final = descend(problem, w, 0.05, 20)
    for run in (0, 24, 25, 47, 70):
        alone = descend(problem, w[run], 0.05, 20)
        assert_same((losses[run], final[run]), alone, 1e-14)


def test_leading_axes_broadcast():
    """Step sizes (2, 1), starts (3,), inputs shared, targets (3,): runs of shape (2, 3)."""
    rng = np.random.default_rng(3)
    network = FeedForward((4, 5, 1), LEAKY)
    X, y = rng.standard_normal((6, 4)), rng.standard_normal((3, 6))
    problem, w = LeastSquares(network, X, y), initialization.lecun(network, rng, 3)
    eta = np.array([[0.01], [0.03]])
    kept = w.copy()
    losses, final = descend(problem, w, eta, 100)
    assert losses.shape == (2, 3, 101)
    assert final.shape == (2, 3, network.parameter_count)
    np.testing.assert_array_equal(w, kept)
    for i in np.ndindex(2, 3):
        one = LeastSquares(network, X, y[i[1]])
        alone = descend(one, w[i[1]], eta[i[0], 0], 100)
        assert_same((losses[i], final[i]), alone, 1e-14)


def test_no_steps_and_steps_of_size_zero():
    problem, w = gaussian(LEAKY, (4, 5, 1), 3, (2,))
    losses, final = descend(problem, w, 0.1, 0)
    np.testing.assert_allclose(losses, problem.value(w)[:, None], rtol=1e-14)
    np.testing.assert_allclose(final, w, rtol=0, atol=1e-15)
    losses, final = descend(problem, w, [0.0, 0.0], 130)
    np.testing.assert_allclose(losses, np.tile(losses[:, :1], 131), rtol=0)
    np.testing.assert_allclose(final, w, rtol=0, atol=1e-15)


# ----------------------------------------------------------------------------- divergence


@pytest.mark.parametrize("activation", [LEAKY, activations.tanh], ids=lambda each: each.name)
@pytest.mark.parametrize("n", [4, 15])
def test_runs_that_diverge_leave_the_others_alone(activation, n):
    """Nor is there a warning: pytest makes an error of it."""
    problem, w = gaussian(activation, (5, 6, 4, 1), n, (6,))
    eta = np.array([0.05, 1e3, 0.02, 1e200, 0.05, 30.0])
    losses, final = descend(problem, w, eta, 400)
    assert not np.isnan(losses).any()
    gone = np.isinf(losses).any(axis=-1)
    assert gone.sum() >= (3 if activation is LEAKY else 1)
    assert gone[3]
    for run in range(6):
        if gone[run]:
            first = np.isinf(losses[run]).argmax()
            assert first > 0
            assert np.isinf(losses[run, first:]).all()
            assert np.isposinf(final[run]).all()
        else:
            alone = descend(problem, w[run], eta[run], 400)
            assert_same((losses[run], final[run]), alone, 1e-13)
    assert not gone[[0, 2, 4]].any()


def test_the_step_at_which_a_run_is_gone_is_the_plain_loops():
    problem, w = gaussian(LEAKY, (5, 6, 4, 1), 4, (3,))
    eta = np.array([3.0, 5.0, 20.0])
    losses = descend(problem, w, eta, 300)[0]
    assert np.isinf(losses[:, -1]).all()
    for run in range(3):
        point, k = w[run], 0
        with np.errstate(all="ignore"):
            while np.isfinite(problem._value(point)):
                point = point - eta[run] * problem._value_and_gradient(point)[1]
                k += 1
        # Next to overflow, rounding may decide about one step.
        assert abs(int(np.isinf(losses[run]).argmax()) - k) <= 1
        before = losses[run, : max(k - 20, 1)]
        assert np.isfinite(before).all()


def test_a_start_whose_loss_overflows():
    problem, w = gaussian(LEAKY, (5, 6, 4, 1), 4, (2,))
    w[1] *= 1e200
    losses, final = descend(problem, w, 0.05, 100)
    assert np.isposinf(losses[1]).all()
    assert np.isposinf(final[1]).all()
    assert_same((losses[0], final[0]), descend(problem, w[0], 0.05, 100), 1e-14)
    losses, final = descend(problem, w[1], 0.05, 100)
    assert np.isposinf(losses).all()
    assert np.isposinf(final).all()


def test_inputs_whose_squares_overflow():
    """The loss at the start is there; with an ordinary step, that is all."""
    problem, w = gaussian(LEAKY, (5, 6, 4, 1), 4)
    problem.network.layers(w)[0][0][...] *= 1e-160
    huge = LeastSquares(problem.network, 1e160 * problem.X, problem.y)
    losses = descend(huge, w, 0.05, 3)[0]
    assert losses[0] == pytest.approx(huge.value(w), rel=1e-13)
    assert np.isposinf(losses[1:]).all()


@pytest.mark.parametrize(
    "activation",
    [LEAKY, activations.softplus, activations.shifted_softplus],
    ids=lambda each: each.name,
)
@pytest.mark.parametrize("n", [3, 9])
def test_preactivations_beyond_the_exponential(activation, n):
    """e^z overflows, but σ(z) is about z, and the run is like any other."""
    rng = np.random.default_rng(0)
    network = FeedForward((3, 4, 4, 1), activation)
    X = rng.uniform(500, 2000, (n, 3)) * rng.choice([-1, 1], (n, 1))
    problem = LeastSquares(network, X, rng.standard_normal(n))
    w = rng.uniform(0.1, 1, (2, network.parameter_count))
    z = network.propagate(w, X).preactivations[0]
    assert z.max() > 1000
    eta = 0.1 / top_curvature(problem, w, 1e-2).value
    assert_same(descend(problem, w, eta, 200), plain_descent(problem, w, eta, 200), 1e-11)


# ----------------------------------------------------------------------- cost and refusals


def test_time_is_linear_in_steps_and_runs():
    """Wide margins on processor time: four times the work takes two to eight times as long."""
    problem, w = gaussian(LEAKY, (20, 10, 10, 1), 20, (160,))

    def seconds(runs, steps):
        found = []
        for _ in range(3):
            start = time.process_time()
            descend(problem, w[:runs], 0.01, steps)
            found.append(time.process_time() - start)
        return min(found)

    few = seconds(40, 250)
    assert 2 < seconds(40, 1000) / few < 8
    assert 2 < seconds(160, 250) / few < 8


def test_bad_arguments_are_refused_in_a_sentence():
    sample = case(FeedForward((3, 4, 1), LEAKY), 5, seed=0)
    arguments = {"problem": sample.objective, "start": sample.w, "step_size": 0.1, "steps": 3}
    assert garbage_taken(descend, arguments, "problem") == set()
    assert garbage_taken(descend, arguments, "start") == set()
    assert garbage_taken(descend, arguments, "step_size") == {"a seed", "a cube"}
    with pytest.raises(ValueError, match="step_size must not be negative"):
        descend(sample.objective, sample.w, [0.1, -0.1], 3)
    with pytest.raises(ValueError, match=r"one for each run, but has shape \(2,\)"):
        descend(sample.objective, np.tile(sample.w, (3, 1)), [0.1, 0.2], 3)
    with pytest.raises(ValueError, match="steps must be at least 0"):
        descend(sample.objective, sample.w, 0.1, -1)
    with pytest.raises(TypeError, match="steps must be an integer"):
        descend(sample.objective, sample.w, 0.1, 1.0)
