"""Derivative bounds on balls: against exact Jacobians and Hessians, zero violations, not slack."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SMOOTH, cases

from plcore import activations, initialization
from plcore.bounds import ball_bounds, curvature_bound, derivative_bounds, residual_bound
from plcore.network import FeedForward
from plcore.objectives import LeastSquares

ROUNDING = 1 + 1e-9


def hessians(network, w, X):
    """∇²f(x_i, w) for each sample, shape (n, p, p)."""
    p, n = network.parameter_count, len(X)
    trace = network.propagate(np.broadcast_to(w, (p, p)).copy(), X)
    directions = np.eye(p)
    _, z_tangents, h_tangents = network.push_forward(trace, directions)
    return np.stack(
        [
            network.pull_back_tangent(
                trace, directions, np.tile(u, (p, 1)), np.zeros((p, n)), (z_tangents, h_tangents)
            )
            for u in np.eye(n)
        ]
    )


def points_of_ball(w, radius, rng, count, network):
    """Points on the sphere and inside; some push all weights of one sign, which adds up."""
    steps = rng.standard_normal((count, w.size))
    steps[::3] = np.abs(steps[::3]) * np.sign(w)
    steps[1::3] *= np.abs(steps[1::3]) ** 2
    for index in range(2, count, 3):  # one layer alone
        keep = np.zeros(w.size)
        weight, bias = network.layers(keep)[rng.integers(network.depth)]
        weight[...] = bias[...] = 1.0
        steps[index] *= keep
    steps *= radius * (1 - 1e-12) / np.linalg.norm(steps, axis=1, keepdims=True)
    steps[count // 2 :] *= rng.uniform(size=(count - count // 2, 1))
    return w + steps


def observed(network, w, v, X, rng):
    """What `ball_bounds` bounds, at one point v of the ball."""
    H, J = hessians(network, v, X), network.jacobian(v, X)
    u = rng.standard_normal((20, len(X)))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    u = np.concatenate([u, np.eye(len(X)), [np.ones(len(X)) / np.sqrt(len(X))]])
    trace = network.propagate(v, X)
    return {
        "output_change": np.abs(trace.outputs - network.forward(w, X)),
        "gradient": np.linalg.norm(J, axis=1),
        "curvature": np.abs(np.linalg.eigvalsh(H)).max(axis=1),
        "jacobian": np.linalg.norm(J, 2),
        "jacobian_column": np.linalg.norm(J, axis=0).max(),
        "first_signal": np.linalg.norm(network.signals(trace)[0], axis=0),
        "hessian": np.abs(np.linalg.eigvalsh(np.tensordot(u, H, 1))).max(),
    }


@settings(max_examples=120, deadline=None)
@given(case=cases(SMOOTH, widest=4, most_samples=4), log_radius=st.floats(-3, 0.7))
def test_every_bound_holds_throughout_the_ball(case, log_radius):
    radius, rng = 10**log_radius, np.random.default_rng([case.seed, 7])
    network, w, X = case.network, case.w, case.X
    found = ball_bounds(network, w, X, radius)
    for v in points_of_ball(w, radius, rng, 12, network):
        for name, value in observed(network, w, v, X, rng).items():
            assert (value <= getattr(found, name) * ROUNDING + 1e-13).all(), name


@settings(max_examples=60, deadline=None)
@given(case=cases(SMOOTH, widest=4, most_samples=4), log_radius=st.floats(-2, 0.3))
def test_the_loss_s_derivatives_stay_below_their_bounds(case, log_radius):
    radius, rng = 10**log_radius, np.random.default_rng([case.seed, 8])
    problem, w = case.objective, case.w
    first, second = derivative_bounds(problem, w, radius)
    beta_ball = curvature_bound(problem, w, radius, sublevel=False)
    beta = curvature_bound(problem, w, radius)
    error = residual_bound(problem, w, radius)
    assert beta.value <= beta_ball.value
    assert {b.direction for b in (first, second, beta, beta_ball, error)} == {"upper"}
    points = points_of_ball(w, radius, rng, 12, case.network)
    start_loss = problem.value(w)
    for v in points:
        H = problem.hessian(v)
        top = np.linalg.eigvalsh(0.5 * (H + H.T))[-1]
        assert np.abs(problem.gradient(v)).max() <= first.value * ROUNDING
        assert np.abs(H).max() <= second.value * ROUNDING
        assert top <= beta_ball.value * ROUNDING
        assert np.linalg.norm(problem.residual(v)) <= error.value * ROUNDING
        if problem.value(v) <= start_loss:
            assert top <= beta.value * ROUNDING


def tightness(network, X, radius, seed=0, runs=40):
    """Median over LeCun starts of bound / largest value seen in the ball, by name."""
    rng = np.random.default_rng(seed)
    ratios: dict[str, list[float]] = {}
    for w in initialization.lecun(network, rng, runs):
        found = ball_bounds(network, w, X, radius)
        seen: dict[str, np.ndarray] = {}
        for v in points_of_ball(w, radius, rng, 6, network):
            for name, value in observed(network, w, v, X, rng).items():
                seen[name] = np.maximum(seen.get(name, 0.0), value)
        for name, value in seen.items():
            ratios.setdefault(name, []).append(float(np.median(getattr(found, name) / value)))
    return {name: float(np.median(values)) for name, values in ratios.items()}


def test_the_bounds_are_not_vacuous():
    """Bound over the largest value seen in a small ball, in the median (seen: in the comments)."""
    X = np.random.default_rng(1).standard_normal((4, 6)) / np.sqrt(6)
    shallow = tightness(FeedForward((6, 5, 1), activations.tanh), X, 0.05)
    deep = tightness(FeedForward((6, 5, 5, 1), activations.smooth_leaky_relu(0.1)), X, 0.05)
    assert shallow["gradient"] < 1.1  # 1.05
    assert shallow["jacobian"] < 1.15  # 1.07
    assert shallow["curvature"] < 1.2  # 1.10
    assert shallow["hessian"] < 1.5  # 1.31
    assert deep["gradient"] < 1.25  # 1.14
    assert deep["jacobian"] < 1.25  # 1.15
    assert deep["curvature"] < 2  # 1.64
    assert deep["hessian"] < 2.2  # 1.83


def test_a_linear_network_of_depth_two_is_bounded_exactly():
    """Of f = W_2(W_1 x + b_1) + b_2 every derivative is known: H_i = √(|x|² + 1)."""
    rng = np.random.default_rng(0)
    network = FeedForward((3, 4, 1), activations.identity)
    X, w = rng.standard_normal((2, 3)), rng.standard_normal(network.parameter_count)
    found = ball_bounds(network, w, X, 2.0)
    exact = np.abs(np.linalg.eigvalsh(hessians(network, w, X))).max(axis=1)
    assert exact == pytest.approx(np.sqrt(np.square(X).sum(axis=1) + 1))
    assert found.curvature == pytest.approx(exact)


def test_the_recursion_for_three_scalar_linear_layers():
    """Written out by hand: f = W_3(W_2(W_1 x + b_1) + b_2) + b_3, every bound of the proof."""
    network = FeedForward((1, 1, 1, 1), activations.identity)
    x, r, (W_1, W_2, W_3) = 0.7, 0.3, (0.5, -1.1, 0.8)
    w = network.pack([([[W]], [b]) for W, b in [(W_1, 0.2), (W_2, -0.4), (W_3, 0.1)]])
    h_1, h_2 = W_1 * x + 0.2, W_2 * (W_1 * x + 0.2) - 0.4
    change_1 = r * np.hypot(x, 1)
    reach_0, reach_1 = np.hypot(x, 1), np.hypot(abs(h_1) + change_1, 1)
    change_2 = abs(W_2) * change_1 + r * reach_1
    reach_2 = np.hypot(abs(h_2) + change_2, 1)
    size_2, size_3 = abs(W_2) + r, abs(W_3) + r
    # 2 g_2 V_2 ḣ_1 + 2 g_3 V_3 ḣ_2 with |ḣ_1| ≤ reach_0 t_1, |ḣ_2| ≤ reach_1 t_2 + size_2 |ḣ_1|.
    form = np.zeros((3, 3))
    form[1, 0] = size_3 * reach_0
    form[2, 0], form[2, 1] = size_2 * reach_0, reach_1
    found = ball_bounds(network, w, [[x]], r)
    assert found.curvature == pytest.approx([np.linalg.eigvalsh(form)[-1]], rel=1e-12)
    assert found.output_change == pytest.approx([abs(W_3) * change_2 + r * reach_2], rel=1e-12)
    parts = (size_2 * size_3 * reach_0, size_3 * reach_1, reach_2)
    assert found.gradient == pytest.approx([np.linalg.norm(parts)], rel=1e-12)


def test_at_the_centre_of_a_ball_of_radius_zero_nothing_moves():
    rng = np.random.default_rng(0)
    network = FeedForward((3, 4, 2, 1), activations.tanh)
    X, w = rng.standard_normal((2, 3)), rng.standard_normal(network.parameter_count)
    found = ball_bounds(network, w, X, 0.0)
    assert (found.output_change == 0).all()
    jacobian = network.jacobian(w, X)
    assert (found.gradient >= np.linalg.norm(jacobian, axis=1)).all()
    q = network.signals(network.propagate(w, X))[0]
    assert (found.first_signal >= np.linalg.norm(q, axis=0)).all()


def test_the_jacobian_is_lipschitz_with_the_hessian_bound():
    rng = np.random.default_rng(3)
    network = FeedForward((4, 5, 4, 1), activations.arctan)
    X, w = rng.standard_normal((3, 4)), rng.standard_normal(network.parameter_count)
    H = float(ball_bounds(network, w, X, 0.5).hessian)
    for _ in range(200):
        v, u = points_of_ball(w, 0.5, rng, 3, network)[:2]
        change = np.linalg.norm(network.jacobian(v, X) - network.jacobian(u, X), 2)
        assert change <= H * np.linalg.norm(v - u)


@settings(max_examples=40, deadline=None)
@given(case=cases(SMOOTH, widest=4, most_samples=4))
def test_larger_balls_and_permuted_neurons(case):
    network, w, X = case.network, case.w, case.X
    rng = np.random.default_rng(case.seed)
    radii = np.array([0.0, 0.01, 0.3, 2.0])
    found = ball_bounds(network, np.tile(w, (4, 1)), X, radii)
    names = ("output_change", "gradient", "curvature", "jacobian", "jacobian_column", "hessian")
    for name in names:
        values = getattr(found, name)
        assert (np.diff(values, axis=0) >= -1e-12 * np.abs(values[1:])).all(), name
        single = getattr(ball_bounds(network, w, X, radii[2]), name)
        np.testing.assert_allclose(values[2], single, rtol=1e-12)
    # An orthogonal map of the inputs, undone in W_1, and a permutation of hidden neurons.
    layers = [list(pair) for pair in network.layers(w)]
    turn = np.linalg.qr(rng.standard_normal((network.widths[0],) * 2))[0]
    layers[0][0] = layers[0][0] @ turn
    for index in range(network.depth - 1):
        mix = rng.permutation(network.widths[index + 1])
        layers[index] = [part[mix] for part in layers[index]]
        layers[index + 1][0] = layers[index + 1][0][:, mix]
    moved = ball_bounds(network, network.pack(layers), X @ turn, radii[2])
    for name in ("output_change", "gradient", "curvature", "jacobian", "hessian"):
        np.testing.assert_allclose(getattr(moved, name), getattr(found, name)[2], rtol=1e-9)
    rows = rng.permutation(len(X))
    mixed = ball_bounds(network, w, X[rows], radii[2])
    np.testing.assert_allclose(mixed.curvature, found.curvature[2][rows], rtol=1e-12)
    np.testing.assert_allclose(mixed.hessian, found.hessian[2], rtol=1e-12)


def test_data_taken_twice_give_the_same_bounds_on_the_loss():
    rng = np.random.default_rng(0)
    network = FeedForward((3, 4, 1), activations.tanh)
    X, y, w = rng.standard_normal((2, 3)), rng.standard_normal(2), rng.standard_normal(21)
    problem = LeastSquares(network, X, y)
    twice = LeastSquares(network, np.tile(X, (2, 1)), np.tile(y, 2))
    for radius in (0.0, 0.4):
        one, other = curvature_bound(problem, w, radius), curvature_bound(twice, w, radius)
        assert other.value == pytest.approx(one.value, rel=1e-12)  # the same function S
        for b, c in zip(
            derivative_bounds(problem, w, radius), derivative_bounds(twice, w, radius), strict=True
        ):
            assert c.value == pytest.approx(b.value, rel=1e-12)


def network_and_data():
    rng = np.random.default_rng(0)
    network = FeedForward((3, 4, 1), activations.tanh)
    return network, rng.standard_normal(21), rng.standard_normal((2, 3)), rng.standard_normal(2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda n, w, X, y: ball_bounds(n, w, X, -1.0), ValueError, "must not be negative"),
        (lambda n, w, X, y: ball_bounds(n, w, X, np.nan), ValueError, "radius must be finite"),
        (lambda n, w, X, y: ball_bounds(n, w, X, "1"), TypeError, "radius must be an array"),
        (lambda n, w, X, y: ball_bounds(n, w[:5], X, 1.0), ValueError, "p = 21"),
        (lambda n, w, X, y: ball_bounds(n, w, X[:, :2], 1.0), ValueError, "d = 3 columns"),
        (lambda n, w, X, y: ball_bounds("n", w, X, 1.0), TypeError, "type FeedForward"),
        (
            lambda n, w, X, y: ball_bounds(n, np.tile(w, (2, 1)), X, np.ones(3)),
            ValueError,
            "leading axes of w and X and radius",
        ),
        (
            lambda n, w, X, y: ball_bounds(FeedForward((3, 4, 1), activations.relu), w, X, 1.0),
            ValueError,
            "relu has 0 continuous derivatives",
        ),
        (
            lambda n, w, X, y: curvature_bound(LeastSquares(n, X, y), w, -1.0),
            ValueError,
            "radius must not be negative",
        ),
        (
            lambda n, w, X, y: curvature_bound(LeastSquares(n, X, np.tile(y, (3, 1))), w, 1.0),
            ValueError,
            "one data set",
        ),
        (
            lambda n, w, X, y: derivative_bounds(LeastSquares(n, X, y), np.tile(w, (2, 1)), 1.0),
            ValueError,
            "w must have 1 axes",
        ),
        (lambda n, w, X, y: curvature_bound("p", w, 1.0), TypeError, "type LeastSquares"),
        (
            lambda n, w, X, y: curvature_bound(LeastSquares(n, X, y), w, 1.0, sublevel=1),
            TypeError,
            "True or False",
        ),
        (lambda n, w, X, y: residual_bound(LeastSquares(n, X, y), w, "1"), TypeError, "real numb"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call(*network_and_data())
