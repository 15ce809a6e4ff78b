"""Gradient flow against exact solutions and other solvers, and the bounds of Theorem 1.1."""

import dataclasses
import math

import mpmath
import numpy as np
import pytest
from flow_problems import Changed, exact, rotated, small_network
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from plcore import criterion, toys
from plcore.flow import gradient_flow
from plcore.flow_result import reach

# --------------------------------------------------------------------------- exact solutions


@pytest.mark.parametrize(
    ("condition", "method", "used"),
    [
        (1.0, "auto", "DOP853"),
        (100.0, "auto", "DOP853"),
        (100.0, "RK45", "RK45"),
        (100.0, "Radau", "Radau"),
        (1e4, "auto", "DOP853, then Radau"),
        (1e8, "auto", "DOP853, then Radau"),
        (1e8, "Radau", "Radau"),
    ],
)
def test_quadratics_follow_the_matrix_exponential(condition, method, used):
    objective, vectors, eigenvalues = rotated(np.geomspace(1 / condition, 1, 12))
    start = vectors @ np.random.default_rng(1).uniform(0.5, 1.0, 12)
    flow = gradient_flow(objective, start, method=method, dense=True)
    assert flow.reason == "tolerance"
    assert flow.method == used
    assert flow.losses[-1] <= 1e-12 * flow.losses[0] < flow.losses[-2]
    solution = exact(vectors, eigenvalues, start, flow.times)
    size = np.linalg.norm(solution, axis=1)
    assert (np.linalg.norm(flow.points - solution, axis=1) < 2e-6 * size).all()
    np.testing.assert_allclose(flow.losses, [x @ objective.matrix @ x for x in flow.points], 1e-7)
    assert flow.times.size < 1500  # an explicit solver alone would need 1e9 of them
    # Between the steps too. Near the limit of stability DOP853 takes long steps now and then, over
    # which its interpolant has up to 2e-4: which ones, rounding decides.
    between = np.concatenate([[0.0], np.sqrt(flow.times[1:-1] * flow.times[2:]), flow.times[-1:]])
    solution = exact(vectors, eigenvalues, start, between)
    error = np.linalg.norm(flow.at(between) - solution, axis=1)
    assert (error < 1e-3 * np.linalg.norm(solution, axis=1)).all()
    assert flow.at(between.reshape(-1, 1)).shape == (between.size, 1, 12)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_flow_restarted_on_the_way_goes_on(part):
    """Lemma A.1: φ(t + s, x) = φ(s, φ(t, x)), for a network and for a quadratic."""
    objective, vectors, _ = rotated(np.array([1.0, 3.0, 20.0]))
    for problem, start in (small_network(), (objective, vectors.sum(axis=1))):
        whole = gradient_flow(problem, start, time=4.0, loss_tolerance=0.0, dense=True)
        t = 4.0 * part
        rest = gradient_flow(problem, whole.at(t), time=4.0 - t, loss_tolerance=0.0, dense=True)
        s = np.linspace(0, 4.0 - t, 7)
        np.testing.assert_allclose(rest.at(s), whole.at(t + s), atol=1e-6)
        gone = np.interp(t, whole.times, whole.lengths)
        assert gone + rest.lengths[-1] == pytest.approx(whole.lengths[-1], rel=0.05)


@pytest.mark.parametrize("method", ["DOP853", "RK45"])
def test_the_time_to_a_loss(method):
    objective, vectors, eigenvalues = rotated(np.array([1.0, 4.0]))
    start = vectors.sum(axis=1)
    flow = gradient_flow(objective, start, method=method)
    for part in (0.9, 0.1, 1e-3, 1e-9, 1e-12):
        loss = part * flow.losses[0]
        point = exact(vectors, eigenvalues, start, [flow.time_to(loss)])[0]
        assert objective.value(point) == pytest.approx(loss, rel=1e-4)
    assert flow.time_to(flow.losses[0]) == 0
    assert flow.time_to(2 * flow.losses[0]) == 0
    assert flow.time_to(flow.losses[-1]) == pytest.approx(flow.times[-1])
    assert flow.time_to(0.5 * flow.losses[-1]) == math.inf


@pytest.mark.parametrize("condition", [3.0, 1e8])
def test_path_length(condition):
    objective, vectors, eigenvalues = rotated(np.geomspace(1 / condition, 1, 5))
    # Straight: along an eigenvector the length is the distance.
    for k in (0, 4):
        flow = gradient_flow(objective, 2 * vectors[:, k])
        gone = 2 * -np.expm1(-2 * eigenvalues[k] * flow.times)
        np.testing.assert_allclose(flow.lengths, gone, rtol=1e-7, atol=1e-9)
    # Bent: the integral of the speed |2 A φ|.
    start = vectors.sum(axis=1)
    flow = gradient_flow(objective, start)

    def speed(log_time):
        return math.exp(log_time) * np.linalg.norm(
            2 * eigenvalues * np.exp(-2 * eigenvalues * math.exp(log_time))
        )

    end = math.log(flow.times[-1])
    length = integrate.quad(speed, -35, end, epsabs=1e-12, epsrel=1e-11, limit=500)[0]
    assert flow.lengths[-1] == pytest.approx(length, rel=1e-7)
    assert flow.lengths[-1] > np.linalg.norm(flow.points[-1] - start) + 0.01


# --------------------------------------------------------------------------- other solvers


def test_against_taylor_series_in_many_digits():
    """(xy − 1)² from (2, −1/2), which first nears the saddle; mpmath's solver has 25 digits."""
    with mpmath.workdps(25):
        solution = mpmath.odefun(
            lambda t, x: [-2 * (x[0] * x[1] - 1) * x[1], -2 * (x[0] * x[1] - 1) * x[0]],
            0,
            [mpmath.mpf(2), mpmath.mpf("-0.5")],
        )
        expected = np.array([[float(part) for part in solution(t)] for t in (0.1, 0.4, 1.0)])
    for method in ("DOP853", "RK45", "Radau"):
        flow = gradient_flow(toys.hyperbola, [2.0, -0.5], time=1.0, method=method, dense=True)
        assert flow.reason == "time"
        assert flow.times[-1] == 1.0
        np.testing.assert_allclose(flow.points[-1], expected[-1], rtol=1e-6)
        np.testing.assert_allclose(flow.at([0.1, 0.4, 1.0]), expected, rtol=1e-5)


def test_a_network_against_another_solver():
    problem, start = small_network()
    flow = gradient_flow(problem, start, dense=True, alpha=0.01)
    other = integrate.solve_ivp(
        lambda t, w: -problem.gradient(w),
        (0, flow.times[-1]),
        start,
        method="LSODA",
        rtol=1e-11,
        atol=1e-13,
        t_eval=np.linspace(0, flow.times[-1], 9),
    )
    np.testing.assert_allclose(flow.at(other.t), other.y.T, atol=1e-7)
    implicit = gradient_flow(problem, start, method="Radau", time=flow.times[-1], rtol=1e-7)
    np.testing.assert_allclose(implicit.points[-1], flow.points[-1], atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_the_exponential_of_the_integrated_rate(seed):
    """S(t) = S(0) exp(−∫R), the integral taken afresh by Gauss's rule on the interpolant."""
    problem, start = small_network(seed=seed)
    flow = gradient_flow(problem, start, dense=True)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    half = 0.5 * np.diff(flow.times)
    middle = 0.5 * (flow.times[1:] + flow.times[:-1])
    rates = problem.ratio(flow.at(middle[:, None] + half[:, None] * nodes))
    decay = np.concatenate([[0.0], np.cumsum(half * (rates @ weights))])
    np.testing.assert_allclose(np.log(flow.losses / flow.losses[0]), -decay, atol=1e-6)
    np.testing.assert_allclose(flow.exponents, decay, atol=1e-6)
    assert np.abs(flow.defect).max() < 1e-6
    np.testing.assert_allclose(flow.rates, problem.ratio(flow.points), rtol=1e-12)
    assert flow.least_rate <= flow.measured_rate <= flow.rates.max()
    assert flow.final_rate == flow.rates[-1]
    kernel = problem.kernel(flow.points[-1])
    residual = problem.residual(flow.points[-1])
    quotient = residual @ kernel @ residual / (residual @ residual)
    assert flow.final_rate == pytest.approx(4 / problem.size * quotient, rel=1e-6)


# --------------------------------------------------------------------------- Theorem 1.1


@pytest.mark.parametrize(
    ("objective", "box"),
    [
        (toys.bowl(1.0, 4.0), 2.0),
        (toys.ring, 2.0),
        (toys.hyperbola, 2.5),
        (toys.rosenbrock, 1.5),
        (toys.himmelblau, 5.0),
        (toys.wavy, 3.0),
        (toys.saturating, 0.9),
        (toys.tilted_well, 1.5),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_bounds_hold_wherever_the_criterion_does(objective, box):
    rng = np.random.default_rng(3)
    shown = 0
    for start in rng.uniform(-box, box, (60, objective.dimension)):
        found = criterion.criterion(objective, start, tolerance=0.05)
        if not found.holds or shown == 5:
            continue
        shown += 1
        flow = gradient_flow(objective, start, alpha=found.rate, radius=found.radius)
        assert flow.reason == "tolerance"
        check = flow.theorem
        assert check.holds
        assert check.criterion
        assert check.resolved
        assert check.rate_ratio <= 1 + 1e-6
        assert check.distance_ratio <= 1 + 1e-6
        assert check.length_ratio <= 1 + 1e-6
        assert flow.lengths[-1] <= reach(flow.losses[0], found.rate) * (1 + 1e-6) < found.radius
        assert flow.least_rate >= found.rate
    assert shown >= 2


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.floats(1, 50), st.floats(0.1, 10), st.integers(0, 10**6))
def test_the_true_rate_is_accepted_and_one_per_cent_more_is_not(size, condition, scale, seed):
    objective, vectors, eigenvalues = rotated(scale * np.linspace(1, condition, size), seed)
    flow = gradient_flow(objective, 3 * vectors[:, 0], alpha=4 * eigenvalues[0])
    tight = flow.theorem
    assert tight.holds
    for ratio in (tight.rate_ratio, tight.distance_ratio, tight.length_ratio):
        assert ratio == pytest.approx(1, abs=1e-5)
    assert not tight.criterion  # r = r* is the equality
    assert tight.radius == pytest.approx(3)
    assert flow.check(4 * eigenvalues[0], radius=3.03).criterion
    more = flow.check(4.04 * eigenvalues[0])
    assert more.resolved
    assert not more.holds
    assert more.rate_ratio == pytest.approx(1.01, rel=1e-5)
    less = flow.check(3.96 * eigenvalues[0])
    assert less.holds
    assert less.rate_ratio == pytest.approx(0.99, rel=1e-5)


def test_each_bound_is_checked_by_itself():
    objective, vectors, eigenvalues = rotated(np.array([1.0, 9.0]))
    flow = gradient_flow(objective, vectors.sum(axis=1))
    alpha = 4 * eigenvalues[0]
    assert flow.check(alpha).holds
    # A ball that the limit is not in.
    small = flow.check(alpha, radius=1.3)
    assert small.rate_ratio <= 1
    assert small.length_ratio <= 1 + 1e-6
    assert small.distance_ratio > 1.05
    assert not small.holds
    # Twice the true lengths: nothing but the length is off.
    longer = dataclasses.replace(flow, lengths=3 * flow.lengths).check(alpha)
    assert longer.rate_ratio <= 1
    assert longer.length_ratio > 1.05
    assert not longer.holds


def test_a_wrong_gradient_shows_nothing():
    problem, start = small_network()
    right = gradient_flow(problem, start)
    assert right.check(0.5 * right.least_rate).holds
    for factor in (0.5, 1.02, 2.0):
        flow = gradient_flow(Changed(problem, gradient_factor=factor), start)
        check = flow.check(0.5 * flow.least_rate)
        assert not check.resolved
        assert not check.holds
        assert np.abs(flow.defect).max() > 0.01


def test_reach():
    assert reach(9.0, 4.0) == 3.0
    assert reach(0.0, 1.0) == 0.0
    objective, vectors, eigenvalues = rotated(np.array([1.0, 5.0]))
    assert reach(objective.value(vectors[:, 0]), 4 * eigenvalues[0]) == pytest.approx(1)


def test_a_flow_is_shown_without_its_arrays():
    flow = gradient_flow(toys.hyperbola, [2.0, 1.0])
    for name in ("rates", "points"):
        assert f"{name}=" not in repr(flow)
    assert flow.time_to(flow.losses[0]) == 0
