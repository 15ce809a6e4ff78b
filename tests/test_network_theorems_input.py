"""Garbage and extreme numbers for Theorems 2.1 and 2.8 and the derivative bounds of networks."""

import inspect
import math

import numpy as np
import pytest
from bad_input import garbage_taken

from plcore import activations, bounds, hypotheses, initialization, lecun_event, positive_start
from plcore.network import FeedForward
from plcore.objectives import LeastSquares

LEAKY = activations.smooth_leaky_relu(0.3)
NET = FeedForward((4, 3, 2, 1), LEAKY)
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((3, 4)), RNG.standard_normal(3)
START = initialization.positive(NET, 9.0)
LOSS = LeastSquares(NET, X, Y)
DATA = {"network": NET, "X": X, "y": Y}
CONSTANTS = positive_start.positive_start_constants(NET, X, Y, START)
ROWS = positive_start.positive_start_hypotheses(NET, X, Y)
SPECTRUM = hypotheses.input_spectrum(X)
EVENT = {"network": NET, "low": 2.0, "norm_bound": 0.1}

# fmt: off
CALLS = {
    "bounds.ball_bounds": (
        bounds.ball_bounds, {"network": NET, "w": START, "X": X, "radius": 0.1}),
    "bounds.curvature_bound": (
        bounds.curvature_bound, {"problem": LOSS, "w": START, "radius": 0.1, "sublevel": True}),
    "bounds.derivative_bounds": (
        bounds.derivative_bounds, {"problem": LOSS, "w": START, "radius": 0.1}),
    "bounds.residual_bound": (
        bounds.residual_bound, {"problem": LOSS, "w": START, "radius": 0.1}),
    "hypotheses.input_spectrum": (hypotheses.input_spectrum, {"X": X}),
    "hypotheses.one_data_set": (hypotheses.one_data_set, DATA),
    "lecun_event.best_event": (lecun_event.best_event, DATA),
    "lecun_event.event_probability": (lecun_event.event_probability, EVENT),
    "lecun_event.in_event": (lecun_event.in_event, {**EVENT, "w": START}),
    "lecun_event.largest_norm_bound": (
        lecun_event.largest_norm_bound, {**DATA, "low": 9.0}),
    "lecun_event.least_low": (lecun_event.least_low, {**DATA, "norm_bound": 0.1}),
    "lecun_event.lecun_condition": (
        lecun_event.lecun_condition, {**DATA, "low": 2.0, "norm_bound": 0.1}),
    "lecun_event.lecun_hypotheses": (lecun_event.lecun_hypotheses, DATA),
    "lecun_event.sample_event": (lecun_event.sample_event, {**EVENT, "rng": RNG, "runs": 2}),
    "positive_start.positive_start_constants": (
        positive_start.positive_start_constants,
        {**DATA, "start": None, "hidden": 0.5, "radius": 0.1, "count_paths": True}),
    "positive_start.positive_start_hypotheses": (
        positive_start.positive_start_hypotheses, {**DATA, "start": START}),
    "positive_start.PositiveStartConstants.pl_constant": (
        CONSTANTS.pl_constant, {"output_scale": 9.0}),
    "positive_start.PositiveStartConstants.criterion_ratio": (
        CONSTANTS.criterion_ratio, {"output_scale": 9.0}),
    "positive_start.PositiveStartConstants.criterion_holds": (
        CONSTANTS.criterion_holds, {"output_scale": 9.0}),
    "positive_start.PositiveStartConstants.scale_for_ratio": (
        CONSTANTS.scale_for_ratio, {"ratio": 0.2}),
}
# fmt: on

# Made by the package, or called with what it has made; `require` and the like take nothing.
TRUSTED = {
    "bounds.BallBounds",
    "hypotheses.Hypotheses",
    "hypotheses.Hypotheses.require",
    "hypotheses.Hypothesis",
    "hypotheses.InputSpectrum",
    "hypotheses.activations_increasing",
    "hypotheses.activations_smooth",
    "hypotheses.inputs_independent",
    "hypotheses.slope_range",
    "hypotheses.slopes_bounded",
    "hypotheses.zero_at_zero",
    "lecun_event.EventProbability",
    "lecun_event.LecunCondition",
    "lecun_event.format_probability",
    "positive_start.PositiveStartConstants",
}

# What of the garbage is good input after all.
SEED = {"a seed"}
ACCEPTED = {
    "bounds.ball_bounds radius": {"a seed", "a cube"},
    "bounds.curvature_bound radius": SEED,
    "bounds.derivative_bounds radius": SEED,
    "bounds.residual_bound radius": SEED,
    "bounds.curvature_bound sublevel": {"True"},
    "lecun_event.event_probability low": SEED,
    "lecun_event.event_probability norm_bound": SEED,
    "lecun_event.in_event low": SEED,
    "lecun_event.in_event norm_bound": SEED,
    "lecun_event.largest_norm_bound low": SEED,
    "lecun_event.least_low norm_bound": {"a seed", "None"},
    "lecun_event.lecun_condition low": SEED,
    "lecun_event.lecun_condition norm_bound": SEED,
    "lecun_event.sample_event low": SEED,
    "lecun_event.sample_event norm_bound": SEED,
    "lecun_event.sample_event runs": {"a seed", "an empty list"},
    "positive_start.positive_start_constants start": {"None"},
    "positive_start.positive_start_constants hidden": {"a seed", "None"},
    "positive_start.positive_start_constants radius": {"None"},
    "positive_start.positive_start_constants count_paths": {"True"},
    "positive_start.positive_start_hypotheses start": {"None"},
    "positive_start.PositiveStartConstants.pl_constant output_scale": {"a seed", "None"},
    "positive_start.PositiveStartConstants.criterion_ratio output_scale": {"a seed", "None"},
    "positive_start.PositiveStartConstants.criterion_holds output_scale": {"a seed", "None"},
    "positive_start.PositiveStartConstants.scale_for_ratio ratio": SEED,
}


@pytest.mark.parametrize("label", CALLS)
def test_every_argument_refuses_garbage_in_a_sentence(label):
    function, arguments = CALLS[label]
    function(**arguments)
    for name in arguments:
        assert garbage_taken(function, arguments, name) == ACCEPTED.get(f"{label} {name}", set())


def test_no_public_function_is_forgotten():
    offered = set()
    for module in (bounds, hypotheses, lecun_event, positive_start):
        prefix = module.__name__.rpartition(".")[2]
        for name in module.__all__:
            thing = getattr(module, name)
            offered.add(f"{prefix}.{name}")
            if inspect.isclass(thing):
                own = [key for key, value in vars(thing).items() if inspect.isfunction(value)]
                offered |= {f"{prefix}.{name}.{key}" for key in own if key[0] != "_"}
    assert offered == set(CALLS) | TRUSTED


SIZES = (1e-300, 1e-160, 1e-8, 1.0, 1e8, 1e160, 1e300)


def answer_or_overflow(function, *arguments, **options):
    """The result, or None if the function says that numbers overflow."""
    try:
        return function(*arguments, **options)
    except OverflowError as error:
        if not str(error).endswith("leaves the range of float64 here: the arguments are too big."):
            raise
        return None


@pytest.mark.parametrize("activation", [LEAKY, activations.tanh], ids=lambda one: one.name)
@pytest.mark.parametrize("size_of_X", SIZES)
@pytest.mark.parametrize("size_of_y", SIZES)
def test_positive_start_at_every_size(activation, size_of_X, size_of_y):
    for widths in ((4, 3, 1), (4, 3, 2, 1)):
        network = FeedForward(widths, activation)
        for hidden in SIZES:
            found = answer_or_overflow(
                positive_start.positive_start_constants,
                *(network, size_of_X * X, size_of_y * Y),
                hidden=hidden,
            )
            if found is None:
                continue
            assert found.required_scale > 0  # in particular not NaN
            assert found.radius > 0
            alpha = answer_or_overflow(found.pl_constant, 10.0)
            assert alpha is None or 0 <= alpha.value < math.inf
            if found.required_scale < 1e100 and alpha is not None:
                ratio = answer_or_overflow(found.criterion_ratio, 2 * found.required_scale)
                assert ratio is None or not math.isnan(ratio)


@pytest.mark.parametrize("size_of_X", SIZES)
@pytest.mark.parametrize("size_of_y", SIZES)
def test_lecun_event_at_every_size(size_of_X, size_of_y):
    """Homogeneity: only |y|²/λ and Λ/λ enter (T8), so sizes that cancel change nothing."""
    data = NET, size_of_X * X, size_of_y * Y
    least = answer_or_overflow(lecun_event.least_low, *data)
    plain = lecun_event.least_low(NET, X, Y)
    if least is not None:
        share = (math.log(size_of_y) - math.log(size_of_X)) / NET.depth
        assert math.log(least) == pytest.approx(math.log(plain) + share, abs=1e-9)
    for low in SIZES:
        for tau in SIZES:
            condition = lecun_event.lecun_condition(*data, low, tau)
            assert not math.isnan(condition.log_left)
            assert not math.isnan(condition.log_right)
        tau = answer_or_overflow(lecun_event.largest_norm_bound, *data, low)
        assert tau is None or tau >= 0


@pytest.mark.parametrize("low", SIZES)
@pytest.mark.parametrize("tau", SIZES)
def test_probabilities_and_draws_at_every_size(low, tau):
    found = answer_or_overflow(lecun_event.event_probability, NET, low, tau)
    if found is not None:
        assert found.log_norm <= 0
        assert (found.log_layers <= 0).all()
        assert math.isfinite(found.log)
        assert 0 <= found.norm_markov <= 1
    if 1e-10 < low < 1e10:
        starts = lecun_event.sample_event(NET, low, tau, np.random.default_rng(0), 5)
        assert lecun_event.in_event(NET, starts, low, tau).all()
        if tau > 1e-100:
            assert np.abs(NET.layers(starts)[0][0]).max() > 0


@pytest.mark.parametrize("size_of_w", SIZES)
@pytest.mark.parametrize("size_of_X", SIZES)
@pytest.mark.parametrize("radius", [0.0, *SIZES])
def test_ball_bounds_at_every_size(size_of_w, size_of_X, radius):
    w = size_of_w * np.random.default_rng(0).standard_normal(NET.parameter_count)
    for network in (NET, FeedForward(NET.widths, activations.tanh)):
        found = answer_or_overflow(bounds.ball_bounds, network, w, size_of_X * X, radius)
        if found is not None:
            for name in ("output_change", "gradient", "curvature", "jacobian", "jacobian_column"):
                assert not np.isnan(getattr(found, name)).any(), name
