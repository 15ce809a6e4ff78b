"""Why a gradient flow ends, what rounding does to it, how it transforms, and what is refused."""

import math

import numpy as np
import pytest
from bad_input import garbage_taken
from flow_problems import Changed, exact, rotated, small_network

from plcore import activations, toys
from plcore._flow_solver import FlowIntegration
from plcore._single_run import SingleRun
from plcore.flow import gradient_flow, gradient_flows
from plcore.flow_result import reach
from plcore.network import FeedForward
from plcore.objectives import LeastSquares, Objective, Quadratic

# --------------------------------------------------------------------------- why a flow ends


def test_leaving_the_ball():
    objective, vectors, eigenvalues = rotated(np.array([1.0, 5.0]))
    for radius in (1e-6, 0.5, 1.9):
        flow = gradient_flow(objective, 2 * vectors[:, 0], radius=radius, dense=True)
        assert flow.reason == "left the ball"
        expected = -0.5 / eigenvalues[0] * math.log1p(-radius / 2)
        assert flow.exit_time == flow.times[-1] == pytest.approx(expected, rel=1e-6)
        assert np.linalg.norm(flow.points[-1] - flow.points[0]) == pytest.approx(radius, rel=1e-9)
        assert flow.lengths[-1] == pytest.approx(radius, rel=1e-6)
        assert flow.losses[-1] == pytest.approx(objective.value(flow.points[-1]))
        np.testing.assert_allclose(flow.at(flow.exit_time), flow.points[-1], rtol=1e-9)
    inside = gradient_flow(objective, 2 * vectors[:, 0], radius=2.0)
    assert inside.reason == "tolerance"
    assert inside.exit_time is None


def test_a_loop_out_of_the_ball_and_back_is_noticed():
    """One step of an explicit solver may leave the ball and return: look inside the step."""

    class Hook(Objective):
        """|x − m(s)|² for a target that moves with s: the flow's path is a curved hook."""

        dimension = 2

        def _value_and_gradient(self, x):
            a, b = x[..., 0], x[..., 1] - 4 * x[..., 0] * (1 - x[..., 0])
            gradient = np.stack([2 * a - 2 * b * (4 - 8 * x[..., 0]), 2 * b], axis=-1)
            return a * a + b * b, gradient

        def _hessian_vector(self, x, v):
            step = 1e-6
            forward, back = (self._value_and_gradient(x + s * v)[1] for s in (step, -step))
            return (forward - back) / (2 * step)

    free = gradient_flow(Hook(), [1.0, 0.0], dense=True)
    assert free.reason == "tolerance"
    dense = free.at(np.linspace(0, 2.0, 20_001))
    distance = np.linalg.norm(dense - dense[0], axis=1)
    farthest = distance.max()
    at_steps = np.linalg.norm(free.points - free.points[0], axis=1).max()
    assert farthest > distance[-1] + 0.01  # it comes back
    radius = 0.5 * (farthest + at_steps)
    assert at_steps < radius < farthest
    assert gradient_flow(Hook(), [1.0, 0.0], radius=radius).reason == "left the ball"
    assert gradient_flow(Hook(), [1.0, 0.0], radius=farthest + 1e-6).reason == "tolerance"


@pytest.mark.parametrize("method", ["auto", "Radau"])
def test_a_saddle_holds_what_starts_on_its_stable_manifold(method):
    flow = gradient_flow(toys.hyperbola, [1.0, -1.0], method=method)
    assert flow.reason == "stalled"
    assert flow.losses[-1] == pytest.approx(1.0)
    assert np.abs(flow.points[-1]).max() < 1e-9
    assert flow.lengths[-1] == pytest.approx(math.sqrt(2), rel=1e-8)
    # With −u for y, u' = −2(1 + u²)u from u = 1: u = e^{−2t}/√(2 − e^{−4t}).
    decay = np.exp(-2 * flow.times)
    error = np.abs(flow.points[:, 0] - decay / np.sqrt(2 - decay**2))
    assert (error < 2e-6 * flow.points[:, 0]).all()
    # A millionth of a millionth beside it, the flow gets away, and late.
    beside = gradient_flow(toys.hyperbola, [1.0, -1.0 + 1e-12], method=method)
    assert beside.reason == "tolerance"
    assert beside.times[-1] > 10


def test_stalling_at_a_bad_minimum_and_at_a_degenerate_one():
    flow = gradient_flow(toys.tilted_well, [-2.0])
    assert flow.reason == "stalled"
    assert flow.losses[-1] == pytest.approx(1.1010088935932647)
    lifted = toys.Formula(lambda x: 1 + x**4, 1)
    flow = gradient_flow(lifted, [1.0])  # x = 1/√(1 + 8t): algebraic, never quite at rest
    assert flow.reason == "stalled"
    np.testing.assert_allclose(flow.points[:, 0], 1 / np.sqrt(1 + 8 * flow.times), rtol=1e-6)


def test_running_to_infinity():
    """For e^(−2x) the flow is x = ½ log(1 + 4t): the loss goes to 0 and there is no limit."""
    flow = gradient_flow(toys.runaway, [0.0], escape=6.0)
    assert flow.reason == "ran away"
    assert flow.points[-1, 0] > 6
    np.testing.assert_allclose(flow.points[:, 0], 0.5 * np.log1p(4 * flow.times), atol=1e-8)
    np.testing.assert_allclose(flow.lengths, flow.points[:, 0], atol=1e-8)
    assert flow.times.size < 100
    # No α > 0 holds for all time: any given one is refuted in the end.
    assert not flow.check(0.01).holds
    assert gradient_flow(toys.runaway, [0.0]).reason == "tolerance"
    # Without a limit on the distance it runs until float64 cannot hold the time.
    endless = gradient_flow(toys.Formula(lambda x: 1 + np.exp(-x), 1), [0.0])
    assert endless.reason == "ran away"
    assert endless.points[-1, 0] > 600


def test_trivial_starts():
    resting = gradient_flow(toys.hyperbola, [2.0, 0.5], alpha=1.0, dense=True)
    assert (resting.reason, resting.times.size) == ("tolerance", 1)
    assert resting.theorem.holds
    assert math.isnan(resting.measured_rate)
    np.testing.assert_array_equal(resting.at(0.0), [2.0, 0.5])
    critical = gradient_flow(toys.hyperbola, [0.0, 0.0])
    assert (critical.reason, critical.times.size) == ("stalled", 1)


def test_time_and_steps_run_out():
    objective, vectors, _ = rotated(np.array([1.0, 2.0]))
    flow = gradient_flow(objective, vectors[:, 0], time=0.3)
    assert (flow.reason, flow.times[-1]) == ("time", 0.3)
    assert (np.diff(flow.times) > 0).all()
    flow = gradient_flow(objective, vectors[:, 0], max_steps=3)
    assert (flow.reason, flow.times.size) == ("steps", 4)


def test_a_kink_ends_the_flow_without_an_error():
    """|x| has no gradient flow through 0 in C²: the solver's steps shrink, and it says so."""

    class Kink(Objective):
        dimension = 1

        def _value_and_gradient(self, x):
            return np.abs(x[..., 0]) + 1, np.sign(x)

        def _hessian_vector(self, x, v):
            return 0 * x * v

    flow = gradient_flow(Kink(), [1.0], max_steps=200)
    assert flow.reason in ("step size", "stalled", "steps")
    assert flow.losses[-1] == pytest.approx(1, abs=1e-6)


# --------------------------------------------------------------------------- rounding


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_rounding_ends_a_flow_at_a_zero_away_from_the_origin(scale):
    """√f cannot be known below the rounding of x; the flow ends there, and says so."""
    objective = Changed(Quadratic(np.diag([1.0, 3.0])), factor=scale, shift=1.0)
    flow = gradient_flow(objective, [3.0, 4.0], loss_tolerance=0.0, alpha=4 * scale)
    assert flow.reason == "rounding"
    assert 1e-31 < flow.losses[-1] / scale < 1e-25
    assert np.isfinite(flow.losses).all()
    assert (np.diff(flow.losses) < 0).all()
    check = flow.theorem
    assert check.holds
    assert check.records + check.records_at_rounding == flow.times.size
    # Down to a loss of 1e-20 nothing is left out, and a rate that is too large is still caught.
    assert flow.losses[check.records - 1] < 1e-20 * scale
    assert not flow.check(4.04 * scale).holds


def test_no_rounding_where_the_zero_is_the_origin():
    objective, vectors, eigenvalues = rotated(np.array([1.0, 2.0, 3.0]))
    flow = gradient_flow(objective, vectors[:, 0], loss_tolerance=1e-200, alpha=4 * eigenvalues[0])
    assert flow.reason == "tolerance"
    assert flow.theorem.records_at_rounding == 0
    assert flow.theorem.holds


def test_a_network_down_to_rounding():
    problem, start = small_network()
    flow = gradient_flow(problem, start, loss_tolerance=0.0)
    assert flow.reason == "rounding"
    assert flow.losses[-1] < 1e-25
    check = flow.check(flow.rates[: flow.check(1e-3).records].min())
    assert check.holds
    assert check.records_at_rounding > 0
    assert check.allowance <= 0.01
    assert math.sqrt(flow.losses[-1]) < 1000 * flow.noises[-1]


# --------------------------------------------------------------------------- transformation laws


@pytest.mark.parametrize("factor", [1e-9, 0.3, 1e7])
def test_a_factor_before_f_is_a_factor_before_time(factor):
    problem, start = small_network(widths=(3,))
    one = gradient_flow(problem, start, dense=True)
    other = gradient_flow(Changed(problem, factor=factor), start, dense=True)
    assert other.method == one.method
    assert other.times.size == pytest.approx(one.times.size, abs=10)
    times = np.linspace(0, 0.9 * one.times[-1], 50)
    np.testing.assert_allclose(other.at(times / factor), one.at(times), atol=1e-7)
    assert other.least_rate == pytest.approx(factor * one.least_rate, rel=1e-2)
    assert other.lengths[-1] == pytest.approx(one.lengths[-1], rel=1e-5)


def test_rotations_and_shifts():
    rng = np.random.default_rng(0)
    start = rng.standard_normal(4)
    rotation, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    matrix = np.diag([1.0, 2.0, 4.0, 8.0])
    flow = gradient_flow(Quadratic(matrix), start, time=1.0)
    turned = gradient_flow(Quadratic(rotation.T @ matrix @ rotation), start @ rotation, time=1.0)
    np.testing.assert_allclose(turned.points[-1], flow.points[-1] @ rotation, atol=1e-8)
    moved = gradient_flow(Changed(Quadratic(matrix), shift=0.5), start + 0.5, time=1.0)
    np.testing.assert_allclose(moved.points[-1], flow.points[-1] + 0.5, atol=1e-8)
    assert moved.lengths[-1] == pytest.approx(flow.lengths[-1], rel=1e-7)


def test_a_tighter_tolerance_is_a_smaller_error():
    objective, vectors, eigenvalues = rotated(np.array([1.0, 3.0]))
    start = vectors.sum(axis=1)
    errors = []
    for rtol in (1e-4, 1e-7, 1e-10):
        flow = gradient_flow(objective, start, rtol=rtol)
        solution = exact(vectors, eigenvalues, start, flow.times)
        size = np.linalg.norm(solution, axis=1)
        errors.append((np.linalg.norm(flow.points - solution, axis=1) / size).max())
    assert errors[0] < 1e-2
    assert errors[1] < errors[0] / 50
    assert errors[2] < errors[1] / 50


@pytest.mark.parametrize("activation", [activations.smooth_leaky_relu(0.2), activations.arctan])
@pytest.mark.parametrize("widths", [(7,), (5, 4), (3, 2, 6)])
def test_the_quick_gradient_is_the_objective_s(activation, widths):
    rng = np.random.default_rng(0)
    net = FeedForward((4, *widths, 1), activation)
    problem = LeastSquares(net, rng.standard_normal((9, 4)), rng.standard_normal(9))
    quick = SingleRun(net, problem.X, problem.y)
    points = rng.standard_normal((3, net.parameter_count))
    found = [quick(w) for w in points]  # together: no result may live in a buffer
    for w, (value, gradient) in zip(points, found, strict=True):
        expected, slope = problem.value_and_gradient(w)
        assert value == pytest.approx(expected, rel=1e-14)
        np.testing.assert_allclose(gradient, slope, atol=1e-14 * np.linalg.norm(slope))


# --------------------------------------------------------------------------- form


def test_several_starts():
    starts = np.array([[1.0, 2.0], [2.0, 0.6]])
    flows = gradient_flows(toys.hyperbola, starts, time=0.5)
    assert len(flows) == 2
    for flow, start in zip(flows, starts, strict=True):
        alone = gradient_flow(toys.hyperbola, start, time=0.5)
        np.testing.assert_array_equal(flow.points, alone.points)


def test_what_a_person_sees():
    flow = gradient_flow(toys.parabola, [1.0], alpha=4.0)
    text = str(flow)
    for words in ("tolerance", "DOP853", "measured rate", "path length", "theorem's bounds held"):
        assert words in text
    assert "array of shape" not in text
    assert "length / its bound" in str(flow.theorem)
    assert not flow.points.flags.writeable
    assert "theorem" not in str(gradient_flow(toys.parabola, [1.0]))


FLOW = gradient_flow(toys.bowl(), [1.0, 1.0], time=1.0, dense=True)
CALLS = {
    "gradient_flow": (
        gradient_flow,
        {
            "objective": toys.bowl(),
            "start": [1.0, 1.0],
            "loss_tolerance": 1e-2,
            "time": 1.0,
            "radius": 1.0,
            "alpha": 4.0,
            "escape": 9.0,
            "rtol": 1e-6,
            "method": "RK45",
            "dense": False,
            "max_steps": 10,
        },
    ),
    "gradient_flows": (
        gradient_flows,
        {"objective": toys.bowl(), "starts": [[1.0, 1.0]], "time": 1e-3},
    ),
    "reach": (reach, {"loss": 1.0, "alpha": 2.0}),
    "check": (FLOW.check, {"alpha": 4.0, "radius": 2.0}),
    "at": (FLOW.at, {"times": [0.5]}),
    "time_to": (FLOW.time_to, {"loss": 1.0}),
}
ACCEPTED = {
    **{f"gradient_flow {name}": {"None", "a seed"} for name in ("time", "radius", "escape")},
    "gradient_flow alpha": {"None", "a seed"},
    "gradient_flow loss_tolerance": {"a seed"},
    "gradient_flow max_steps": {"a seed"},
    "gradient_flow dense": {"True"},
    "gradient_flows time": {"None", "a seed"},
    "reach loss": {"a seed"},
    "reach alpha": {"a seed"},
    "check alpha": {"a seed"},
    "check radius": {"None", "a seed"},
    "at times": {"a cube"},
    "time_to loss": {"a seed"},
}


@pytest.mark.parametrize("label", CALLS)
def test_garbage_is_refused(label):
    function, arguments = CALLS[label]
    function(**arguments)
    for name in arguments:
        assert garbage_taken(function, arguments, name) == ACCEPTED.get(f"{label} {name}", set())


NET, W = small_network()
ROWS = [
    (lambda: gradient_flow(toys.bowl(), [[1.0, 1.0]]), r"shape \(2,\), but has shape \(1, 2\)"),
    (lambda: gradient_flow(toys.bowl(), [1.0, 1.0, 1.0]), r"p = 2 entries"),
    (lambda: gradient_flow(toys.bowl(), [1.0, 1.0], rtol=0.5), r"between 1e-13 and 0.01.*0.5"),
    (lambda: gradient_flow(toys.bowl(), [1.0, 1.0], rtol=1e-15), r"between 1e-13 and 0.01"),
    (lambda: gradient_flow(toys.bowl(), [1.0, 1.0], method="Euler"), r"'Radau', but is 'Euler'"),
    (lambda: gradient_flow(toys.bowl(), [1.0, 1.0], time=0), r"time must be positive, but is 0"),
    (lambda: gradient_flow(toys.bowl(), [1.0, 1.0], max_steps=0), r"max_steps must be at least 1"),
    (lambda: gradient_flow(toys.bowl(), [1e200, 1.0]), r"f\(start\) must be finite"),
    (
        lambda: gradient_flow(LeastSquares(NET.network, NET.X, np.stack([NET.y, NET.y])), W),
        r"leading axes \(2,\) of its own",
    ),
    (lambda: gradient_flows(toys.bowl(), [1.0, 1.0]), r"\(m, 2\), but has shape \(2,\)"),
    (lambda: FLOW.at(1.5), r"between 0 and 1, the end of the flow, but reach from 1.5"),
    (lambda: FLOW.at(-0.1), r"between 0 and 1"),
    (lambda: gradient_flow(toys.bowl(), [1.0, 1.0]).at(0.0), r"dense=True"),
]


@pytest.mark.parametrize(("call", "pattern"), ROWS)
def test_each_refusal_says_what_is_wrong(call, pattern):
    with pytest.raises((ValueError, TypeError), match=pattern):
        call()


@pytest.mark.parametrize("method", ["auto", "DOP853", "RK45"])
def test_the_edge_of_the_domain_ends_the_flow(method):
    """x' = −1 from x = 1 comes to x = ½ at t = ½, beyond which there is no f."""

    class Edge(Objective):
        dimension = 1

        def _value_and_gradient(self, x):
            value = np.where(x[..., 0] > 0.5, 1 + x[..., 0], np.nan)
            return value, np.where(x > 0.5, 1.0, np.nan)

        def _hessian_vector(self, x, v):
            return 0 * v

    flow = gradient_flow(Edge(), [1.0], method=method)
    assert flow.reason == "step size"
    assert 0.5 < flow.points[-1, 0] < 0.5 + 1e-12
    assert flow.times[-1] == pytest.approx(0.5, abs=1e-12)


def test_a_start_within_rounding_of_its_zero_stays_where_it_is():
    far = Changed(Quadratic(np.eye(1)), shift=1e8)
    flow = gradient_flow(far, [1e8 + 2e-8], loss_tolerance=0.0)
    assert (flow.reason, flow.times.size) == ("rounding", 1)


def test_the_solver_s_jacobian_is_the_derivative_of_its_velocity():
    """For the implicit solver: against central differences, and at rest."""
    objective = toys.rosenbrock
    run = FlowIntegration(objective, np.array([1.3, 0.4]), 1e-8, "Radau", math.inf)
    assert run.begin()
    state = np.array([0.05, -0.02, 0.1, 0.2])
    found = run.jacobian(0.0, state)
    for k in range(4):
        step = np.zeros(4)
        step[k] = 1e-6
        difference = (run.velocity(0.0, state + step) - run.velocity(0.0, state - step)) / 2e-6
        np.testing.assert_allclose(found[:, k], difference, rtol=1e-6, atol=1e-7)
    zero = Quadratic(np.eye(2))
    run = FlowIntegration(zero, np.array([1.0, 0.0]), 1e-8, "Radau", math.inf)
    run.begin()
    rest = np.array([-1.0 / run.unit, 0.0, 0.0, 0.0])
    found = run.jacobian(0.0, rest)
    np.testing.assert_allclose(found[:2, :2], -2 * run.clock * np.eye(2))
    assert not found[2:].any()
