"""Theorem 2.1: its inequality inside the ball, its constants' scaling, and that it delivers."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import ADMISSIBLE

from plcore import activations, bounds, initialization, step_sizes
from plcore.descent import gradient_descent
from plcore.flow import gradient_flow
from plcore.network import FeedForward
from plcore.objectives import LeastSquares
from plcore.positive_start import positive_start_constants

LEAKY = activations.smooth_leaky_relu(0.3)


def data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) / np.sqrt(d), rng.standard_normal(n)


def in_ball(points, start, radius):
    """The points of an array moved into the ball, a hair inside, those in it left alone."""
    step = points - start
    length = np.linalg.norm(step, axis=-1, keepdims=True)
    return start + step * np.minimum(1, radius * (1 - 1e-12) / np.maximum(length, 1e-300))


def random_and_worst_points(problem, start, radius, rng, count=60):
    """Points all over the ball, corners that shrink or saturate, and ends of descents on R."""
    network, p = problem.network, start.size
    steps = rng.standard_normal((count, p))
    steps[count // 2 :] *= np.abs(rng.standard_normal((count - count // 2, p))) ** 3  # few entries
    sphere = start + radius * steps / np.linalg.norm(steps, axis=1, keepdims=True)
    inside = start + rng.uniform(size=(count, 1)) ** 2 * (sphere - start)
    corners = []
    for _ in range(count // 3):
        direction = np.zeros(p)
        for index, (weight, bias) in enumerate(network.layers(direction)):
            weight[...] = -rng.uniform() if index else 0.0
            if index == 0:  # push a neuron of the first layer where its slope is small
                row = rng.integers(len(weight))
                weight[row] = rng.choice([-3, 3]) * rng.uniform() * problem.X[0]
                bias[row] = rng.choice([-1, 1]) * rng.uniform()
        corners.append(direction / np.linalg.norm(direction))
        single = np.zeros(p)
        single[rng.integers(p)] = rng.choice([-1, 1])
        corners.append(single)
    points = np.concatenate([sphere, inside, start + radius * np.array(corners)])
    points = in_ball(points, start, radius)
    return np.concatenate([points, descend_on_ratio(problem, start, radius, points[::4])])


def descend_on_ratio(problem, start, radius, points, steps=25):
    """Projected descent on log R = log|∇S|² − log S, with a step that halves when R rises."""
    x, length = points, np.full((len(points), 1), 0.2 * radius)
    ratio = problem.ratio(x)
    for _ in range(steps):
        value, slope = problem.value_and_gradient(x)
        square = np.square(slope).sum(axis=-1)
        ascent = 2 * problem.hessian_vector(x, slope) / square[:, None] - slope / value[:, None]
        ascent /= np.maximum(np.linalg.norm(ascent, axis=-1, keepdims=True), 1e-300)
        moved = in_ball(x - length * ascent, start, radius)
        new = problem.ratio(moved)
        better = new < ratio
        x, ratio = np.where(better[:, None], moved, x), np.where(better, new, ratio)
        length = np.where(better[:, None], 1.3 * length, 0.5 * length)
    return x


@pytest.mark.parametrize("widths", [(4,), (3, 3), (2, 3, 2), (2, 2, 2, 2)])
@pytest.mark.parametrize("activation", ADMISSIBLE, ids=lambda one: one.name)
def test_the_bounds_hold_everywhere_in_the_ball(widths, activation):
    rng = np.random.default_rng([len(widths), len(activation.name)])
    for scale in (0.7, 1.02, 2.0):  # of A₀: the bound on α does not need the criterion
        X, y = data(3, 5, seed=int(10 * scale))
        X *= scale
        network = FeedForward((5, *widths, 1), activation)
        hidden = 0.3 * scale if scale > 1 else None
        design = positive_start_constants(network, X, y, hidden=hidden)
        start = initialization.positive(network, scale * design.required_scale, hidden)
        problem, r = LeastSquares(network, X, y), design.radius
        constants = positive_start_constants(network, X, y, start)
        points = random_and_worst_points(problem, start, r, rng)
        # Step by step, as in the proof: |z_ℓ| ≤ M_ℓ, slopes ≥ θ_ℓ, q ≥ (A − r) G, R ≥ α.
        trace = network.propagate(points, X)
        for z, slope, M, theta in zip(
            trace.preactivations,
            trace.slopes,
            constants.preactivation_bounds,
            constants.least_slopes,
            strict=True,
        ):
            assert np.abs(z).max() <= M
            assert slope.min() >= theta * (1 - 1e-12)
        q = network.signals(trace)[0]
        floor = (constants.output_scale - r) * constants.path_gain
        assert q.min() >= floor * (1 - 1e-12)
        ratios = problem.ratio(points)
        assert (ratios >= constants.pl_constant().value).all()
        assert constants.pl_constant().value > 0


def worst_ratio(network, X, y, scale=1.02):
    constants = positive_start_constants(network, X, y)
    A = scale * constants.required_scale
    start, problem = initialization.positive(network, A), LeastSquares(network, X, y)
    points = random_and_worst_points(problem, start, constants.radius, np.random.default_rng(0))
    return problem.ratio(points).min() / constants.pl_constant(A).value


def test_the_bound_is_not_vacuous():
    X, y = data(3, 5)
    shallow = FeedForward((5, 4, 1), LEAKY)
    deep = FeedForward((5, 3, 3, 1), LEAKY)
    # How many times the bound lies below the least ratio that was found (53 and 59).
    assert 1 < worst_ratio(shallow, X, y) < 80
    assert 1 < worst_ratio(deep, X, y) < 80
    assert 1 < positive_start_constants(shallow, X, y).required_scale < 30
    assert 1 < positive_start_constants(deep, X, y).required_scale < 1000


def test_the_bound_is_attained_in_a_limit():
    """One linear neuron, one long input: at W_2 = A − r, W_1 = 0 only W_1's gradient counts."""
    network = FeedForward((1, 1, 1), activations.identity)
    X, y = np.array([[1e4]]), np.array([1e4])
    constants = positive_start_constants(network, X, y)
    A = 1.5 * constants.required_scale
    point = network.pack([([[0.0]], [0.0]), ([[A - constants.radius]], [0.0])])
    ratio = LeastSquares(network, X, y).ratio(point)
    assert ratio == pytest.approx(constants.pl_constant(A).value, rel=1e-6)
    assert ratio >= constants.pl_constant(A).value


def test_closed_forms_for_depth_two_with_a_linear_activation():
    """θ_1 = 1, so that A₀(r) = r + t/r with t = |y|/√(n λ d_1) is least at r = √t: A₀ = 2√t."""
    X, y = data(3, 5)
    for width in (1, 4):
        network = FeedForward((5, width, 1), activations.identity)
        constants = positive_start_constants(network, X, y)
        root = np.linalg.svd(X)[1][-1]  # √(n λ)
        t = np.linalg.norm(y) / (root * math.sqrt(width))
        assert constants.required_scale == pytest.approx(2 * math.sqrt(t), rel=1e-9)
        assert constants.radius == pytest.approx(math.sqrt(t), rel=1e-4)


@pytest.mark.parametrize("activation", ADMISSIBLE, ids=lambda one: one.name)
def test_no_radius_does_better_for_depth_two(activation):
    network = FeedForward((5, 4, 1), activation)
    X, y = data(3, 5)
    best = positive_start_constants(network, X, y)
    for factor in (*np.geomspace(0.01, 100, 41), 0.999, 1.001):
        other = positive_start_constants(network, X, y, radius=factor * best.radius)
        assert best.required_scale <= other.required_scale * (1 + 1e-9)


def test_the_criterion_is_the_paper_s_and_turns_at_the_required_scale():
    for widths in [(5, 4, 1), (5, 3, 3, 1), (5, 2, 3, 2, 1)]:
        network, (X, y) = FeedForward(widths, activations.tanh), data(3, 5)
        design = positive_start_constants(network, X, y)
        start_at = [
            initialization.positive(network, factor * design.required_scale)
            for factor in (1 - 1e-9, 1 + 1e-9)
        ]
        below, above = (positive_start_constants(network, X, y, start) for start in start_at)
        assert not below.criterion_holds()
        assert above.criterion_holds()
        loss = LeastSquares(network, X, y).value(start_at[1])
        assert above.start_loss == pytest.approx(loss, rel=1e-12)
        left, right = 4 * loss, above.radius**2 * above.pl_constant().value  # (1.1)
        assert left / right == pytest.approx(above.criterion_ratio(), rel=1e-9)
        quarter = design.scale_for_ratio(0.25)
        assert design.criterion_ratio(quarter) == pytest.approx(0.25, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    activation=st.sampled_from(ADMISSIBLE),
    factor=st.floats(0.1, 10),
)
def test_transformation_laws(seed, widths, activation, factor):
    rng = np.random.default_rng(seed)
    network = FeedForward((5, *widths, 1), activation)
    X, y = data(4, 5, seed)
    radius = 0.2 * min(1 / max(widths), 1.0)
    plain = positive_start_constants(network, X, y, radius=radius)
    # Targets: A₀ − r and √S scale with y; α does not notice.
    scaled = positive_start_constants(network, X, factor * y, radius=radius)
    assert scaled.required_scale - radius == pytest.approx(
        factor * (plain.required_scale - radius), rel=1e-9
    )
    assert scaled.pl_constant(3.0).value == plain.pl_constant(3.0).value
    # Order of the samples, signs and order of the features: nothing changes.
    order, signs = rng.permutation(5), rng.choice([-1.0, 1.0], 5)
    rows = rng.permutation(4)
    moved = positive_start_constants(network, X[rows][:, order] * signs, y[rows], radius=radius)
    assert moved.required_scale == pytest.approx(plain.required_scale, rel=1e-6)
    # All data twice as a larger sample is dependent; appended zero columns only loosen M_1.
    wider = positive_start_constants(
        FeedForward((7, *widths, 1), activation), np.pad(X, [(0, 0), (0, 2)]), y, radius=radius
    )
    assert wider.required_scale >= plain.required_scale * (1 - 1e-6)
    assert wider.least_eigenvalue == pytest.approx(plain.least_eigenvalue, rel=1e-6)
    # Hidden neurons permuted: the constants of a start depend on its extreme entries only.
    start = initialization.positive(network, 2.0)
    shaken = network.pack(
        [
            (W * rng.uniform(1, 2, W.shape) if 0 < index < network.depth - 1 else W, b)
            for index, (W, b) in enumerate(network.layers(start))
        ]
    )
    if activation.at_zero != 0:
        return  # the last bias cancels the constant of `start`, not that of `shaken`
    found = positive_start_constants(network, X, y, shaken)
    turned = [list(pair) for pair in network.layers(shaken)]
    for index in range(network.depth - 1):
        mix = rng.permutation(network.widths[index + 1])
        turned[index][0] = turned[index][0][mix]
        turned[index + 1][0] = turned[index + 1][0][:, mix]
    again = positive_start_constants(network, X, y, network.pack(turned))
    assert again.required_scale == found.required_scale
    assert again.output_scale == found.output_scale


def test_the_path_count_only_helps():
    network, (X, y) = FeedForward((5, 3, 4, 2, 1), LEAKY), data(3, 5)
    counted = positive_start_constants(network, X, y)
    plain = positive_start_constants(network, X, y, count_paths=False)
    assert counted.path_gain == pytest.approx(4 * 2 * plain.path_gain)
    assert counted.required_scale < plain.required_scale


def test_layers_may_differ():
    network = FeedForward((5, 2, 3, 1), [activations.tanh, LEAKY])
    X, y = data(3, 5)
    constants = positive_start_constants(network, X, y)
    M_1 = constants.radius * (np.abs(X).max() * 5 + 1)
    M_2 = (constants.greatest_hidden + constants.radius) * 2 * np.tanh(M_1) + constants.radius
    assert constants.preactivation_bounds == pytest.approx([M_1, M_2])
    assert constants.least_slopes == pytest.approx(
        [np.cosh(M_1) ** -2, 0.3 + 0.7 / (1 + np.exp(M_2))]
    )
    # a = b = 1/2, r = 1/4, and three paths lead from each first-layer neuron to the output.
    assert (constants.least_hidden, constants.greatest_hidden, constants.radius) == (0.5, 0.5, 0.25)
    gain = 0.25 * 3 * np.prod(constants.least_slopes)
    assert constants.path_gain == pytest.approx(gain)
    root = np.sqrt(2 * np.linalg.eigvalsh(X @ X.T)[0])  # √(n λ d_1)
    required = 0.25 + np.linalg.norm(y) / (0.25 * gain * root)  # (T6)
    assert constants.required_scale == pytest.approx(required)
    alpha = 4 * np.linalg.eigvalsh(X @ X.T)[0] / 3 * 2 * (9.75 * gain) ** 2
    assert constants.pl_constant(10.0).value == pytest.approx(alpha)


def test_flow_of_constants_through_an_extreme_network_is_harmless():
    """A slope that underflows gives A₀ = ∞ and α ≥ 0, not a NaN or an error."""
    network, (X, y) = FeedForward((5, 3, 3, 1), activations.tanh), data(3, 5)
    constants = positive_start_constants(network, X, y, hidden=1e4)
    assert constants.required_scale == math.inf
    assert constants.pl_constant(1e6).value == 0
    assert not constants.criterion_holds(1e6)


@pytest.mark.parametrize(
    ("widths", "activation"),
    [
        ((3, 4, 1), activations.arcsinh),
        ((3, 3, 1), activations.softplus),
        ((5, 4, 1), LEAKY),
        ((5, 3, 3, 1), activations.smooth_leaky_relu(0.5)),
        ((5, 3, 3, 1), activations.arctan),
    ],
    ids=str,
)
def test_descent_just_above_the_required_scale_converges_as_promised(widths, activation):
    rng = np.random.default_rng(0)
    X = np.linalg.qr(rng.standard_normal((widths[0], widths[0])))[0][:3]
    y = rng.standard_normal(3)
    network = FeedForward(widths, activation)
    design = positive_start_constants(network, X, y)
    for scale in (1.05 * design.required_scale, design.scale_for_ratio(0.25)):
        start, problem = initialization.positive(network, scale), LeastSquares(network, X, y)
        constants = positive_start_constants(network, X, y, start)
        alpha, r = constants.pl_constant().value, constants.radius
        beta = bounds.curvature_bound(problem, start, r).value
        sharp = step_sizes.sharp_step_size(constants.start_loss, alpha, r, beta)
        first, second = (b.value for b in bounds.derivative_bounds(problem, start, 2 * r))
        paper = step_sizes.paper_step_size(
            constants.start_loss, alpha, r, first, second, network.parameter_count
        )
        assert sharp.applies
        assert paper.applies
        assert 0 < paper.step_size < sharp.step_size
        for promise, steps in ((sharp, 1500), (paper, 300)):
            run = gradient_descent(problem, start, promise.step_size, steps, record_path=True)
            assert promise.check(run.losses, run.path).holds
        flow = gradient_flow(problem, start, radius=r, alpha=alpha)
        assert flow.reason == "tolerance"
        assert flow.theorem.holds
        needed = sharp.steps_to(1e-8 * constants.start_loss)
        run = gradient_descent(problem, start, sharp.step_size, int(min(needed, 30_000)))
        assert needed > 30_000 or run.losses[-1] <= 1e-8 * constants.start_loss


@pytest.mark.parametrize("widths", [(5, 4, 1), (5, 3, 4, 1), (5, 2, 3, 2, 1)], ids=str)
@pytest.mark.parametrize("activation", ADMISSIBLE, ids=lambda one: one.name)
def test_the_first_gradient(widths, activation):
    """Remark 2.3: W_1 moves along Xᵀy, no other weight matrix moves if σ(0) = 0."""
    network, (X, y) = FeedForward(widths, activation), data(4, 5)
    start, problem = initialization.positive(network, 1.7), LeastSquares(network, X, y)
    g = [each[:, 0] for each in network.signals(network.propagate(start, X))]
    assert all((each > 0).all() for each in g)
    for index, (weight, bias) in enumerate(network.layers(problem.gradient(start))):
        np.testing.assert_allclose(bias, -2 * y.mean() * g[index], rtol=1e-10)
        if index == 0:
            np.testing.assert_allclose(weight, -2 / 4 * np.outer(g[0], y @ X), rtol=1e-10)
        elif activation.at_zero == 0:
            assert not weight.any()
    if activation.at_zero == 0:
        flat = sum(each @ each for each in g)
        np.testing.assert_allclose(problem.kernel(start), g[0] @ g[0] * X @ X.T + flat, rtol=1e-10)


def test_equal_neurons_stay_equal():
    network, (X, y) = FeedForward((5, 3, 4, 1), activations.tanh), data(4, 5)
    start, problem = initialization.positive(network, 2.0), LeastSquares(network, X, y)
    final = gradient_descent(problem, start, 0.05, 300).final
    moved = network.layers(final)
    assert np.abs(moved[0][0]).max() > 0.1
    for weight, bias in moved[:-1]:
        assert np.ptp(weight, axis=0).max() < 1e-12
        assert np.ptp(bias) < 1e-12
    shaken = start + 1e-3 * np.random.default_rng(0).standard_normal(start.size)
    final = gradient_descent(problem, shaken, 0.05, 300).final
    assert np.ptp(network.layers(final)[0][0], axis=0).max() > 1e-3


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda n, X, y: positive_start_constants(n, X[0], y), ValueError, "X must have 2 axes"),
        (lambda n, X, y: positive_start_constants(n, X, y[:2]), ValueError, "3 rows and y has 2"),
        (lambda n, X, y: positive_start_constants(n, X, y * np.nan), ValueError, "y must be fin"),
        (lambda n, X, y: positive_start_constants("n", X, y), TypeError, "type FeedForward"),
        (lambda n, X, y: positive_start_constants(n, X, y, np.ones(3)), ValueError, "p = 34"),
        (lambda n, X, y: positive_start_constants(n, X, y, hidden=-1), ValueError, "hidden must"),
        (lambda n, X, y: positive_start_constants(n, X, y, hidden="a"), TypeError, "hidden must"),
        (lambda n, X, y: positive_start_constants(n, X, y, radius=0.5), ValueError, "below the l"),
        (lambda n, X, y: positive_start_constants(n, X, y, radius=0), ValueError, "positive"),
        (lambda n, X, y: positive_start_constants(n, X, y, count_paths=1), TypeError, "True or"),
        (
            lambda n, X, y: positive_start_constants(n, X, y, np.ones(34), hidden=1.0),
            ValueError,
            "either start or hidden",
        ),
        (lambda n, X, y: positive_start_constants(n, X, y).pl_constant(), ValueError, "must be g"),
        (
            lambda n, X, y: positive_start_constants(n, X, y).pl_constant(-1.0),
            ValueError,
            "output_scale must be positive",
        ),
        (lambda n, X, y: positive_start_constants(n, X, y).scale_for_ratio(0), ValueError, "ratio"),
    ],
)
def test_bad_input(call, error, words):
    network = FeedForward((5, 3, 3, 1), LEAKY)
    with pytest.raises(error, match=words):
        call(network, *data(3, 5))


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.0])
def test_nothing_is_proved_for_zero_targets_below_the_radius(scale):
    """S(w_0) = 0, but in the ball W_2 and a W_1 can be turned to what makes α = 0."""
    network = FeedForward((2, 1, 1), activations.tanh)
    constants = positive_start_constants(network, np.eye(2), np.zeros(2))
    assert constants.radius == constants.required_scale == 1.0
    assert not constants.criterion_holds(scale)
    assert constants.criterion_holds(1.001)


def test_the_result_shows_every_constant_and_is_read_only():
    network, (X, y) = FeedForward((5, 3, 3, 1), LEAKY), data(3, 5)
    constants = positive_start_constants(network, X, y)
    text = str(constants)
    for symbol in ("a,", "b,", "r,", "c,", "M,", "θ,", "G,", "λ,", "d₁,", "A₀,", "S(w₀)"):
        assert symbol in text
    assert len(text.splitlines()) < 20
    with pytest.raises(ValueError, match="read-only"):
        constants.least_slopes[0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        constants.radius = 1.0
    assert positive_start_constants(network, X, 0 * y).criterion_ratio(5.0) == 0.0
