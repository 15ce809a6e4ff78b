"""Public functions at random legal arguments of any size: an answer without NaN, or a sentence.

Every warning is an error here, as in all tests.
"""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import ADMISSIBLE, EVERY, SMOOTH

import plcore
from plcore import (
    applicability,
    bound_trials,
    bounds,
    criterion,
    curvature,
    derivatives,
    infinite_width,
    initialization,
    jacobian_bounds,
    kernel,
    lecun_event,
    network_descent,
    optimizers,
    positive_start,
    positive_start_bounds,
    positive_start_descent,
    step_sizes,
    toys,
    verdicts,
    wide_networks,
    worst_points,
)
from plcore.piecewise import piecewise_polynomial

SIZES = (0, 0, 0, 0, -5, 5, -20, 20, -80, 80, -150, 150, -160, 160, -300, 300, -320, -323)
NEARLY_ONE = [each for each in ADMISSIBLE if each.softplus_form and each.softplus_form[0]]
TOYS = [
    getattr(toys, name) for name in toys.__all__ if isinstance(getattr(toys, name), toys.Formula)
]


class Draw:
    """Legal arguments from one seed."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def size(self):
        return 10.0 ** self.rng.choice(SIZES)

    def array(self, *shape):
        array, kind = self.rng.standard_normal(shape) * self.size(), self.rng.random()
        if kind < 0.1:
            array = array * self.rng.choice([0.0, -0.0])
        elif kind < 0.2:
            array = np.sign(array) * 5e-324
        elif kind < 0.3 and len(shape) > 1 and shape[0] > 1:
            array[1] = array[0]
        elif kind < 0.4 and len(shape) > 1:
            array = np.eye(*shape) * self.size()
        elif kind < 0.5:
            array = np.asfortranarray(array)
        return np.clip(array, -1.7e308, 1.7e308)

    def number(self):
        return float(np.clip(abs(self.rng.standard_normal()) * self.size(), 5e-324, 1.7e308))

    def radii(self):
        found = np.unique(np.abs(self.array(3)))
        return found[found > 0] if found.any() else np.array([1.0])

    def one_of(self, listed):
        return listed[int(self.rng.integers(len(listed)))]

    def network(self, choices=EVERY):
        widths = (*(int(width) for width in self.rng.integers(1, 4, self.rng.integers(2, 5))), 1)
        return plcore.FeedForward(widths, [self.one_of(choices) for _ in widths[2:]])

    def problem(self, choices=EVERY):
        network, n = self.network(choices), int(self.rng.integers(1, 5))
        w = self.rng.standard_normal(network.parameter_count)
        for weight, bias in network.layers(w):
            weight *= self.size()
            bias *= self.one_of([1.0, self.size()])
        problem = plcore.LeastSquares(network, self.array(n, network.widths[0]), self.array(n))
        return problem, np.clip(w, -1.7e308, 1.7e308)

    def started(self, choices=ADMISSIBLE):
        network = self.network(choices)
        n = int(self.rng.integers(1, network.widths[0] + 1))
        X, y = self.array(n, network.widths[0]), self.array(n)
        return network, X, y, initialization.positive(network, self.number())

    def toy(self):
        toy = self.one_of(TOYS)
        return toy, self.array(toy.dimension)


def _wide(draw):
    network = wide_networks.WideNetwork(2, 3, int(draw.rng.integers(1, 4)), draw.one_of(EVERY))
    return network, draw.array(3, 2), network.draw(draw.rng) * draw.size()


def _with_problem(function, choices=EVERY):
    return lambda draw: function(draw, *draw.problem(choices))


def _with_start(function, choices=ADMISSIBLE):
    return lambda draw: function(draw, *draw.started(choices))


def _with_toy(function):
    return lambda draw: function(draw, *draw.toy())


CALLS = {
    "kernels": _with_problem(
        lambda d, p, w: [
            of(p.network, w, p.X)
            for of in (
                kernel.tangent_kernel, kernel.kernel_by_layer, kernel.schur_lower_bound,
                kernel.paper_lower_bound,
            )
        ]
    ),
    "objective": _with_problem(lambda d, p, w: [p.gradient(w), p.hessian(w), p.kernel(w)]),
    "ratio": _with_problem(lambda d, p, w: p.ratio(w)),
    "ball_bounds": _with_problem(
        lambda d, p, w: (lambda b: [b, b.hessian])(
            bounds.ball_bounds(p.network, w, p.X, d.radii())
        ), SMOOTH
    ),
    "curvature_bound": _with_problem(
        lambda d, p, w: bounds.curvature_bound(p, w, d.number(), sublevel=bool(d.one_of([0, 1]))),
        SMOOTH,
    ),
    "derivative_bounds": _with_problem(
        lambda d, p, w: bounds.derivative_bounds(p, w, d.number()), SMOOTH
    ),
    "residual_bound": _with_problem(
        lambda d, p, w: bounds.residual_bound(p, w, d.number()), SMOOTH
    ),
    "plain": _with_problem(lambda d, p, w: jacobian_bounds.plain(p, w, d.radii()), SMOOTH),
    "first_layer": _with_problem(
        lambda d, p, w: jacobian_bounds.first_layer(p, w, d.radii()), SMOOTH
    ),
    "any_n": _with_problem(lambda d, p, w: jacobian_bounds.any_n(p, w, d.radii()), SMOOTH),
    "certify": _with_problem(lambda d, p, w: plcore.certify(p, w), EVERY),
    "top_curvature": _with_problem(lambda d, p, w: curvature.top_curvature(p, w)),
    "positive_start_bounds": _with_start(
        lambda d, n, X, y, s: positive_start_bounds.positive_start_bounds(n, X, y, s, d.radii())
    ),
    "positive_start_descent": _with_start(
        lambda d, *a: positive_start_descent.positive_start_descent(*a)
    ),
    "positive_start_curvature": _with_start(
        lambda d, *a: positive_start_descent.positive_start_curvature(*a, d.number())
    ),
    "positive_start_constants": _with_start(
        lambda d, n, X, y, s: positive_start.positive_start_constants(n, X, y)
    ),
    "worst_points": _with_start(
        lambda d, n, X, y, s: worst_points.worst_points(
            plcore.LeastSquares(n, X, y), s, d.rng, radii=d.radii()[:1], effort=0.02
        )
    ),
    "vanishing_radius": _with_start(
        lambda d, n, X, y, s: worst_points.vanishing_radius(plcore.LeastSquares(n, X, y), s)
    ),
    "count_violations": _with_start(
        lambda d, n, X, y, s: bound_trials.count_violations(
            plcore.LeastSquares(n, X, y), s, 9, d.rng
        )
    ),
    "best_event": _with_start(
        lambda d, n, X, y, s: lecun_event.best_event(n, X, y), NEARLY_ONE
    ),
    "lecun_condition": _with_start(
        lambda d, n, X, y, s: [
            lecun_event.lecun_condition(n, X, y, d.number(), d.number()),
            lecun_event.largest_norm_bound(n, X, y, d.number()),
            lecun_event.event_probability(n, d.number(), d.number()),
        ], NEARLY_ONE
    ),
    "conditioned_lecun": lambda d: initialization.conditioned_lecun(
        d.network(), d.number(), d.rng, 2
    ),
    "descend": _with_problem(
        lambda d, p, w: [
            np.where(np.isinf(part), 0, part)
            for part in network_descent.descend(p, w, d.number(), 9)
        ]
    ),
    "gradient_descent": _with_problem(
        lambda d, p, w: plcore.gradient_descent(p, w, d.number(), 9)
    ),
    "train": _with_problem(
        lambda d, p, w: optimizers.train(p, w, d.one_of(optimizers.METHODS), d.number(), 5)
    ),
    "wide_networks": lambda d: (lambda n, X, w: [n.outputs(w, X), n.gram(w, X)])(*_wide(d)),
    "train_wide": lambda d: (
        lambda n, X, w: wide_networks.train_wide(n, X, d.array(3), w, d.number(), 4, records=2)
    )(*_wide(d)),
    "fully_connected_gram": lambda d: infinite_width.fully_connected_gram(
        d.array(2, 2), d.one_of(EVERY), 2, tolerance=1e-4
    ),
    "residual_gram": lambda d: infinite_width.residual_gram(
        d.array(2, 2), d.one_of(EVERY), 2, residual_scale=d.number(), tolerance=1e-4
    ),
    "limit_hypotheses": lambda d: infinite_width.limit_hypotheses(d.array(3, 2), d.one_of(EVERY)),
    "formulas": _with_toy(lambda d, f, x: [f.gradient(x), f.ratio(x)]),
    "pl_constant": _with_toy(
        lambda d, f, x: criterion.pl_constant(f, x, d.radii(), box_limit=500)
    ),
    "pl_constant_search": _with_toy(
        lambda d, f, x: criterion.pl_constant_search(f, x, d.number(), d.rng, starts=3, steps=5)
    ),
    "derivatives": _with_toy(
        lambda d, f, x: derivatives.curvature_bound(f, x, d.number(), tolerance=0.5)
    ),
    "sharp_step_size": lambda d: step_sizes.sharp_step_size(*(d.number() for _ in range(4))),
    "paper_step_size": lambda d: step_sizes.paper_step_size(*(d.number() for _ in range(5)), 3),
    "criterion_from_bounds": lambda d: (
        lambda r: [
            of(d.number(), r, np.sort(np.abs(d.array(len(r))))[::-1])
            for of in (verdicts.criterion_from_bounds, verdicts.integral_criterion_from_bounds)
        ]
    )(d.radii()),
    "applicable_theorems": _with_problem(
        lambda d, p, w: applicability.applicable_theorems(p.network, p.X, p.y, w)
    ),
    "piecewise_polynomial": lambda d: (lambda a: [a.value(d.array(4)), a.range(1, -1, 1)])(
        piecewise_polynomial([0.0], [[0.0, c := float(d.array(1)[0])], [0.0, 2 * c / 3]])
    ),
}  # fmt: skip


def holds_nan(value, depth=0):
    """Whether a result, or what it consists of, is NaN; its text is made on the way."""
    if isinstance(value, np.ndarray | float | np.floating):
        return np.asarray(value).dtype.kind == "f" and bool(np.isnan(value).any())
    if isinstance(value, list | tuple):
        return any(holds_nan(part, depth + 1) for part in value)
    if dataclasses.is_dataclass(value) and depth < 3:
        assert str(value)
        parts = (getattr(value, field.name) for field in dataclasses.fields(value))
        return any(holds_nan(part, depth + 1) for part in parts)
    return False


@pytest.mark.parametrize("name", CALLS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=8)
def test_an_answer_or_a_sentence(name, seed):
    try:
        found = CALLS[name](Draw(seed))
    except np.linalg.LinAlgError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        found = str(error)
    if isinstance(found, str):
        assert found.endswith("."), found
        assert "\n" not in found
        assert len(found) < 300, found
    else:
        assert not holds_nan(found), found


# --- what the fuzzing found -----------------------------------------------------------------------


def test_squares_that_overflow_in_a_step_size():
    found = step_sizes.sharp_step_size(1e300, 1e300, 1e300, 1.0)
    assert "4 f(x₀) < (1−ε)² r² α" in [each.statement for each in found.hypotheses if each.holds]
    assert step_sizes.sharp_step_size(1.0, 1e-300, 1e200, 5e-324).step_size > 0


def test_an_overflow_in_one_argument_does_not_hide_another(monkeypatch):
    network = plcore.FeedForward((2, 3, 1), SMOOTH[0])
    w = np.linspace(-1, 1, network.parameter_count)
    X = np.eye(2)
    problem = plcore.LeastSquares(network, X, network.forward(w, X) + 1e-9)

    def overflows(*arguments):
        raise OverflowError("It leaves the range of float64 here: the arguments are too big.")

    monkeypatch.setitem(jacobian_bounds.BOUNDS, "first layer", overflows)
    assert plcore.certify(problem, w).argument in ("plain", "any n")
    only = plcore.certify(problem, w, arguments=["first layer"])
    assert not only.shown
    assert only.reason.startswith("It leaves the range")


def test_the_expansion_of_what_overflows_says_nothing():
    network = plcore.FeedForward((1, 1, 1), SMOOTH[0])
    problem = plcore.LeastSquares(network, [[1e-20]], [0.0])
    for size in (1e60, 1e100, 1e140):
        w = np.array([1.0, 0.0, size, 0.0])
        try:
            found = jacobian_bounds.any_n(problem, w, [1e-9, 1e20, 1e60])
        except OverflowError:
            continue
        assert (found >= 0).all()


def test_an_event_out_of_range_is_refused():
    network = plcore.FeedForward((1, 2, 1), NEARLY_ONE[0])
    with pytest.raises(OverflowError, match="least a leaves the range of float64"):
        lecun_event.best_event(network, [[1e-320]], [1e300])


def test_a_zero_of_the_objective_is_reached_at_once():
    found = verdicts.integral_criterion_from_bounds(0.0, [1.0, 32.0], [4.0, 4.0])
    assert found.holds
    assert found.radius == 0


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_distances_of_boxes_whose_squares_leave_the_range(size):
    """α of |x|² is 4 on every ball, at any size."""
    found = criterion.pl_constant(toys.bowl(1.0, 1.0), [size / 4, size / 4], [size / 8])
    assert found.lower[0] <= 4 * (1 + 1e-9)
    assert found.upper[0] >= 4 * (1 - 1e-9)


@pytest.mark.parametrize("seed", range(30))
def test_flows_of_any_size_end_with_a_reason(seed):
    draw = Draw(seed)
    objective, start = draw.toy() if seed % 2 else draw.problem()
    try:
        found = plcore.gradient_flow(objective, start, max_steps=60)
    except (ValueError, OverflowError) as error:
        found = str(error)
    if isinstance(found, str):
        assert found.endswith(".")
    else:
        assert found.reason
        assert not np.isnan(found.losses).any()
        assert not np.isnan(found.points).any()


@pytest.mark.parametrize(("message", "passed"), [("f is wrong.", True), ("infs or NaNs", False)])
def test_a_solver_hands_on_what_is_wrong_with_an_objective(monkeypatch, message, passed):
    def fails(self):
        raise ValueError(message)

    monkeypatch.setattr("scipy.integrate.DOP853.step", fails)
    if passed:
        with pytest.raises(ValueError, match=r"f is wrong\."):
            plcore.gradient_flow(toys.bowl(), [1.0, 1.0])
    else:
        assert plcore.gradient_flow(toys.bowl(), [1.0, 1.0]).reason == "step size"
