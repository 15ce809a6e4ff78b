"""Momentum, Adam, the line search and steps by curvature, against formulas written another way."""

import numpy as np
import pytest
from bad_input import garbage_taken

from plcore import activations, optimizers
from plcore.descent import gradient_descent
from plcore.initialization import lecun
from plcore.network import FeedForward
from plcore.objectives import LeastSquares
from plcore.optimizers import METHODS, best_step, rounded, train

RNG = np.random.default_rng(5)
NET = FeedForward((6, 5, 4, 1), activations.smooth_leaky_relu(0.1))
X, Y = RNG.standard_normal((3, 4, 6)) / 6**0.5, RNG.standard_normal((3, 4))
PROBLEM = LeastSquares(NET, X, Y)
START = lecun(NET, RNG, 3)
RATES = {
    "gradient descent": 0.05,
    "momentum": 0.02,
    "Adam": 0.03,
    "line search": 3.0,
    "curvature steps": 1.2,
}


def path(method, steps, rate=None):
    """The points of the first steps: each from a run of its own, stopped there."""
    rate = RATES[method] if rate is None else rate
    return np.array([train(PROBLEM, START, method, rate, k).final for k in range(steps + 1)])


def gradients(points):
    return np.array([PROBLEM.gradient(w) for w in points])


def test_gradient_descent_is_that_of_descent():
    run = train(PROBLEM, START, "gradient descent", 0.05, 300)
    other = gradient_descent(PROBLEM, START, 0.05, 300)
    assert np.allclose(run.losses, other.losses, rtol=1e-9)
    assert np.allclose(run.final, other.final, rtol=1e-7)
    assert np.array_equal(run.cost[0], np.arange(301))


def test_momentum_is_the_heavy_ball():
    """Polyak's form: x_{k+1} = x_k − η∇f(x_k) + 0.9 (x_k − x_{k−1})."""
    points = path("momentum", 12)
    g = gradients(points)
    for k in range(1, 12):
        ball = points[k] - RATES["momentum"] * g[k] + 0.9 * (points[k] - points[k - 1])
        assert np.allclose(points[k + 1], ball, rtol=1e-12, atol=1e-14)


def test_adam_is_the_ratio_of_weighted_means():
    """The bias-corrected means are weighted means of the gradients and of their squares so far."""
    points = path("Adam", 12)
    g = gradients(points)
    for k in range(12):
        ages = np.arange(k, -1, -1)
        mean = np.average(g[: k + 1], axis=0, weights=0.9**ages)
        square = np.average(g[: k + 1] ** 2, axis=0, weights=0.999**ages)
        moved = points[k] - RATES["Adam"] * mean / (np.sqrt(square) + 1e-8)
        assert np.allclose(points[k + 1], moved, rtol=1e-11, atol=1e-14)


def test_the_line_search_takes_the_first_step_that_meets_armijo():
    points = path("line search", 15)
    g, trial = gradients(points), np.full(3, RATES["line search"])
    cost = train(PROBLEM, START, "line search", RATES["line search"], 15).cost
    halved = 0
    for k in range(15):
        square = np.square(g[k]).sum(axis=-1)
        taken = np.linalg.norm(points[k + 1] - points[k], axis=-1) / np.sqrt(square)
        halvings = np.round(np.log2(trial / taken))
        assert np.allclose(taken, trial / 2**halvings, rtol=1e-10)
        assert (halvings >= 0).all()
        assert np.allclose(cost[:, k + 1] - cost[:, k], (2 + halvings) / 2)

        def meets(s, k=k, square=square):
            moved = PROBLEM.value(points[k] - s[:, None] * g[k])
            return moved <= PROBLEM.value(points[k]) - 1e-4 * s * square

        assert meets(taken).all()
        assert not (meets(2 * taken) & (halvings > 0)).any()
        halved += halvings.sum()
        trial = 2 * taken
    assert halved > 15


def test_curvature_steps_divide_by_the_greatest_eigenvalue():
    points = path("curvature steps", 11)
    g = gradients(points)
    for k in (0, 10):  # where it is measured
        top = np.linalg.eigvalsh(PROBLEM.hessian(points[k]))[:, -1]
        for i in range(3):
            step = np.linalg.norm(points[k + 1, i] - points[k, i]) / np.linalg.norm(g[k, i])
            assert RATES["curvature steps"] / step == pytest.approx(top[i], rel=0.01)
    between = np.linalg.norm(np.diff(points[:11], axis=0), axis=-1)
    steps = between / np.linalg.norm(g[:10], axis=-1)
    assert np.allclose(steps, steps[0], rtol=1e-9)  # and in between the old value serves


@pytest.mark.parametrize("method", METHODS)
def test_a_run_stops_at_its_target_and_does_not_depend_on_its_company(method):
    run = train(PROBLEM, START, method, RATES[method], 600, loss_target=1e-3)
    steps = run.steps_to(1e-3)
    assert np.isfinite(steps).all()
    assert len(set(steps)) == 3
    for i, k in enumerate(steps.astype(int)):
        assert run.losses[i, k] <= 1e-3 < run.losses[i, k - 1]
        assert (run.losses[i, k:] == run.losses[i, k]).all()
        assert run.cost_to(1e-3)[i] == run.cost[i, k] > 0
        alone = train(
            LeastSquares(NET, X[i], Y[i]), START[i], method, RATES[method], 600, loss_target=1e-3
        )
        assert alone.losses.shape == (601,)
        rtol = 0.01 if method == "curvature steps" else 1e-8  # λ is measured to 1 %
        assert np.allclose(alone.losses, run.losses[i], rtol=rtol)
    assert np.isinf(run.steps_to(1e-4)).all() == np.isinf(run.cost_to(1e-4)).all()
    # A method that only stops it: where each run rests is at the target.
    if method != "gradient descent":
        assert np.allclose(PROBLEM.value(run.final), run.losses[:, -1], rtol=1e-12)


@pytest.mark.parametrize("method", ["gradient descent", "momentum"])
def test_a_run_that_diverges_leaves_the_others_alone(method):
    rates = np.array([RATES[method], 1e4, RATES[method]])
    run = train(PROBLEM, START, method, rates, 200)
    calm = train(PROBLEM, START, method, RATES[method], 200)
    assert np.isinf(run.losses[1, -1])
    assert np.isinf(run.final[1]).all()
    assert np.isinf(run.steps_to(1e-3)[1])
    for i in (0, 2):
        assert np.allclose(run.losses[i], calm.losses[i], rtol=1e-8)


def test_runs_may_share_their_data():
    shared = LeastSquares(NET, X[0], Y[0])
    for method in METHODS:
        together = train(shared, START, method, RATES[method], 20)
        apart = [train(shared, w, method, RATES[method], 20).losses for w in START]
        rtol = 0.01 if method == "curvature steps" else 1e-9
        assert np.allclose(together.losses, apart, rtol=rtol)


def brute_force(method, grid, steps):
    """The least median number of steps to 1e-4 over a dense grid, without giving any up."""
    medians = [
        np.median(train(PROBLEM, START, method, step, steps, loss_target=1e-4).steps_to(1e-4))
        for step in grid
    ]
    return min(medians)


@pytest.mark.parametrize(("method", "guess"), [("gradient descent", 1e-3), ("Adam", 3.0)])
def test_the_search_finds_the_best_of_a_dense_grid(method, guess):
    """From a guess that is far off, up or down."""
    step, tried = best_step(PROBLEM, START, method, guess, 4000, (1e-2, 1e-4))
    assert (np.diff(tried[:, 0]) > 0).all()
    assert step in tried[:, 0]
    found = tried[tried[:, 0] == step, 1][0]
    assert found == tried[:, 1].min()
    run = train(PROBLEM, START, method, step, 4000, loss_target=1e-4)
    assert np.median(run.steps_to(1e-4)) == found
    least = brute_force(method, np.geomspace(step / 4, 4 * step, 21), int(1.2 * found))
    assert found <= 1.15 * least


def test_the_search_falls_back_to_what_is_reached():
    """Nothing comes to 1e-300: then the runs that come to 1e-2 first are the best."""
    step, tried = best_step(PROBLEM, START, "gradient descent", 0.1, 100, (1e-2, 1e-300))
    assert np.isinf(tried[:, 1]).all()
    times = [
        np.median(train(PROBLEM, START, "gradient descent", s, 100).steps_to(1e-2))
        for s in tried[:, 0]
    ]
    assert tried[np.argmin(times), 0] == step


@pytest.mark.parametrize("method", ["gradient descent", "momentum"])
def test_the_search_comes_down_from_where_every_run_diverges(method):
    """At 1000 times the best step all diverge, and so they do at the next few halvings."""
    near, tried = best_step(PROBLEM, START, method, 0.05, 4000, (1e-2, 1e-4))
    least, guess = tried[:, 1].min(), 1000 * near
    far = train(PROBLEM, START, method, [[guess], [guess / 2], [guess / 4]], 4000).losses[..., -1]
    assert np.isinf(np.median(far, axis=-1)).all()
    step, tried = best_step(PROBLEM, START, method, guess, 4000, (1e-2, 1e-4))
    assert near / 2 < step < 2 * near
    assert tried[:, 1].min() <= 1.1 * least


def test_the_search_ends_where_no_step_size_helps():
    """Targets beyond what can be squared: every loss is infinite, whatever the step size."""
    hopeless = LeastSquares(NET, X, Y * 1e200)
    step, tried = best_step(hopeless, START, "gradient descent", 0.1, 3, (1e-2,))
    assert step == 0.1
    assert np.isinf(tried[:, 1]).all()
    assert 60 < len(tried) < 80


def test_rounding_to_three_digits():
    assert rounded(0.0123456) == 0.0123
    assert rounded(98765.0) == 98800.0


CALLS = {
    "train": (
        train,
        {
            "problem": PROBLEM,
            "start": START,
            "method": "Adam",
            "step_size": 0.1,
            "steps": 2,
            "loss_target": 0.1,
        },
    ),
    "best_step": (
        best_step,
        {
            "problem": PROBLEM,
            "start": START,
            "method": "Adam",
            "guess": 0.1,
            "steps": 3,
            "losses": (0.1, 0.01),
        },
    ),
    "rounded": (rounded, {"step_size": 0.1}),
    "Training.steps_to": (train(PROBLEM, START, "Adam", 0.1, 2).steps_to, {"loss": 0.1}),
    "Training.cost_to": (train(PROBLEM, START, "Adam", 0.1, 2).cost_to, {"loss": 0.1}),
}
HARMLESS = {"a seed", "a huge integer"}


@pytest.mark.parametrize("name", CALLS)
def test_garbage_is_refused_in_a_sentence(name):
    function, arguments = CALLS[name]
    for argument in arguments:
        assert garbage_taken(function, arguments, argument) <= HARMLESS, argument


def test_every_public_name_is_tested():
    assert {*(name.split(".")[0] for name in CALLS), "METHODS"} == set(optimizers.__all__)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train(PROBLEM, START, "Newton", 0.1, 2), "method must be one of"),
        (lambda: train(PROBLEM, START, "Adam", 0.0, 2), "step_size must be positive"),
        (lambda: train(PROBLEM, START, "Adam", [0.1, 0.2], 2), "step_size"),
        (lambda: best_step(PROBLEM, START, "Adam", 0.1, 9, []), "losses"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
