"""The curvature at positive starts and the certified descent: bounds, not slack, and kept."""

import numpy as np
import pytest
from positive_starts import KINDS, gaussian, points, random_case

from plcore import activations, gradient_descent, initialization
from plcore._start_curvature import reach_below
from plcore.bounds import curvature_bound, derivative_bounds
from plcore.network import FeedForward
from plcore.objectives import LeastSquares
from plcore.positive_start_bounds import (
    Setting,
    certified_output_scale,
    positive_start_bounds,
)
from plcore.positive_start_descent import positive_start_curvature, positive_start_descent
from plcore.step_sizes import integral_step_size, paper_step_size, sharp_step_size


@pytest.mark.parametrize("seed", range(12))
def test_no_point_curves_more(seed):
    network, X, y, start, rng = random_case(seed)
    problem = LeastSquares(network, X, y)
    loss = problem.value(start)
    for radius in (0.01, 0.3, 2.0):
        beta = positive_start_curvature(network, X, y, start, radius)
        assert beta.value <= curvature_bound(problem, start, radius).value * (1 + 1e-9)
        v = points(network, start, radius, rng, 40)
        v = np.vstack([start, v[problem.value(v) <= loss]])[:15]
        assert np.linalg.eigvalsh(problem.hessian(v))[:, -1].max() <= beta.value


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[2], KINDS[5]])
@pytest.mark.parametrize("depth", [3, 4])
def test_small_outputs_keep_the_neurons_together(depth, kind):
    """Where the loss is at most that of the start, no layer has moved more than is proved."""
    network = FeedForward((20, *(10,) * (depth - 1), 1), kind)
    X, y = gaussian(1021)
    start = initialization.positive(network, 3.0, 1.0)
    setting = Setting.from_start(network, X, y, start)
    problem, rng = LeastSquares(network, X, y), np.random.default_rng(depth)
    output = np.abs(y).max() + np.linalg.norm(y)
    tried = 0
    for radius in (0.02, 0.1, 0.5):
        budgets = [radius * np.ones(1)] * depth
        plain = setting.begun.reach(budgets, True)
        bound = reach_below(setting.begun, budgets, output)
        assert all(a <= b for a, b in zip(bound.moves, plain.moves, strict=True))
        v = points(network, start, radius, rng, 400)
        v = v[problem.value(v) <= problem.value(start)]
        tried += len(v)
        for point in v:
            state = X
            for index, (weight, bias) in enumerate(network.layers(point)[:-1]):
                z = state @ weight.T + bias
                moved = z - setting.begun.layers[index].z
                assert np.linalg.norm(moved, axis=1).max() <= bound.moves[index]
                assert moved.max() <= bound.moves[index]
                slopes = network.activations[index].derivative(z)
                assert slopes.max() <= bound.top_slopes[index]
                state = network.activations[index].value(z)
    assert tried > 60
    # A first layer that is free to move all of the second: most is gained.
    budgets = [np.ones(1)] + [0.05 * np.ones(1)] * (depth - 1)
    plain, bound = setting.begun.reach(budgets, True), reach_below(setting.begun, budgets, output)
    assert bound.moves[-1] < 0.5 * plain.moves[-1]
    # Unequal weights: nothing is gained, and nothing claimed.
    network.layers(start)[1][0][0, 0] *= 1.01
    network.layers(start)[-1][1][...] -= network.forward(start, np.zeros((1, 20)))
    begun = Setting.from_start(network, X, y, start).begun
    found = reach_below(begun, budgets, output)
    assert found.moves[-1] == begun.reach(budgets, True).moves[-1]


def test_the_curvature_is_not_slack():
    network = FeedForward((20, 10, 10, 1), activations.smooth_leaky_relu(0.1))
    X, y = gaussian(1009)
    start = initialization.positive(network, 20.0, 1.0)
    problem = LeastSquares(network, X, y)
    true = np.linalg.eigvalsh(problem.hessian(start))[-1]
    assert true < positive_start_curvature(network, X, y, start, 1e-4).value < 1.1 * true
    assert positive_start_curvature(network, X, y, start, 0.1).value < 1.6 * true


@pytest.mark.parametrize("depth", [2, 3])
def test_descent_at_the_certified_step_keeps_its_promise(depth):
    network = FeedForward((20, *(10,) * (depth - 1), 1), activations.smooth_leaky_relu(0.1))
    X, y = gaussian(1010)
    scale = 3 * certified_output_scale(network, X, y, hidden=1.0).scale
    start = initialization.positive(network, scale, 1.0)
    problem = LeastSquares(network, X, y)
    for best in ("rate", "step"):
        found = positive_start_descent(network, X, y, start, best=best)
        assert found.certified
        assert found.step_size == pytest.approx(2 * found.epsilon / found.curvature)
        run = gradient_descent(
            problem, start, step_size=found.step_size, steps=400, record_path=True
        )
        assert found.step.check(run.losses, run.path).holds
        steps = found.steps_to(1e-3 * found.loss)
        if steps <= 400:
            assert run.losses[int(steps)] <= 1e-3 * found.loss
    # Far above it, descent does fail.
    with np.errstate(over="ignore", invalid="ignore"):
        wild = gradient_descent(problem, start, step_size=60 * found.step_size, steps=400)
    assert not wild.losses[-1] < 1e-3 * found.loss


def test_the_theorems_of_chapter_3_take_these_bounds():
    """On one start: the paper's own step, the dimension-free one, and the integral one."""
    network = FeedForward((20, 10, 1), activations.smooth_leaky_relu(0.1))
    X, y = gaussian(1011)
    start = initialization.positive(network, 12.0)
    problem = LeastSquares(network, X, y)
    found = positive_start_bounds(network, X, y, start)
    one = found.criterion()
    first, second = derivative_bounds(problem, start, 2 * one.radius)
    beta = positive_start_curvature(network, X, y, start, one.radius).value
    paper = paper_step_size(
        found.loss, one.rate, one.radius, first.value, second.value, network.parameter_count
    )
    sharp = sharp_step_size(found.loss, one.rate, one.radius, beta)
    whole = positive_start_descent(network, X, y, start)
    assert paper.applies
    assert sharp.applies
    assert whole.certified
    assert 100 * paper.step_size < sharp.step_size
    assert sharp.delta < whole.rate * 1.01
    beta = positive_start_curvature(network, X, y, start, found.radii[-1]).value
    assert integral_step_size(found.loss, found.radii, found.alphas, beta).applies
