"""What the functions on positive starts refuse, do not claim, and how they answer."""

import time

import numpy as np
import pytest
from bad_input import assert_sentence, garbage_taken
from positive_starts import gaussian

from plcore import activations, initialization
from plcore.network import FeedForward
from plcore.positive_start_bounds import (
    Setting,
    certified_output_scale,
    positive_start_bounds,
)
from plcore.positive_start_descent import positive_start_curvature, positive_start_descent


def test_what_is_not_shown_is_not_claimed():
    network = FeedForward((20, 10, 1), activations.tanh)
    X, y = gaussian(1012)
    start = initialization.positive(network, 0.05)
    found = positive_start_descent(network, X, y, start)
    assert not found.certified
    assert found.step_size == found.rate == 0
    assert found.steps_to(1e-3) == np.inf
    assert not positive_start_bounds(network, X, y, start).integral_criterion().holds
    # Six inputs in two dimensions: no scale is enough.
    rng = np.random.default_rng(0)
    network = FeedForward((2, 4, 1), activations.tanh)
    found = certified_output_scale(network, rng.standard_normal((6, 2)), np.ones(6), hidden=1.0)
    assert found.scale == np.inf


def test_results_are_frozen_and_readable():
    network = FeedForward((20, 10, 1), activations.tanh)
    X, y = gaussian(1013)
    start = initialization.positive(network, 10.0)
    bounds = positive_start_bounds(network, X, y, start)
    descent = positive_start_descent(network, X, y, start)
    for result, words in ((bounds, "lower bounds on α"), (descent, "η, step size")):
        assert words in str(result)
        assert words in result._repr_html_()
    with pytest.raises(ValueError, match="read-only"):
        bounds.alphas[0] = 1.0
    with pytest.raises(AttributeError):
        descent.step_size = 1.0


def test_a_call_is_quick():
    network = FeedForward((20, 10, 10, 10, 1), activations.smooth_leaky_relu(0.1))
    X, y = gaussian(1014)
    start = initialization.positive(network, 1.0, 1.0)
    for call in (positive_start_bounds, positive_start_descent):
        begun = time.process_time()
        call(network, X, y, start)
        assert time.process_time() - begun < 1.0


def arguments():
    network = FeedForward((3, 4, 1), activations.tanh)
    X, y = np.eye(3)[:2], np.array([1.0, -1.0])
    return {"network": network, "X": X, "y": y}, initialization.positive(network, 2.0)


@pytest.mark.parametrize(
    ("function", "name", "fine"),
    [
        (positive_start_bounds, "network", set()),
        (positive_start_bounds, "X", set()),
        (positive_start_bounds, "y", set()),
        (positive_start_bounds, "start", set()),
        (positive_start_bounds, "radii", {"None"}),
        (positive_start_bounds, "improvements", {"an empty list"}),
        (positive_start_curvature, "start", set()),
        (positive_start_curvature, "radius", {"a seed"}),
        (positive_start_descent, "start", set()),
        (positive_start_descent, "best", set()),
        (certified_output_scale, "hidden", {"None", "a seed"}),
        (certified_output_scale, "criterion", set()),
        (certified_output_scale, "improvements", {"an empty list"}),
    ],
)
def test_garbage_is_refused(function, name, fine):
    given, start = arguments()
    if function is not certified_output_scale:
        given["start"] = start
    if function is positive_start_curvature:
        given["radius"] = 1.0
    assert garbage_taken(function, given, name) <= fine


@pytest.mark.parametrize(
    ("layer", "entry", "words"),
    [
        (0, ("W", 0.1), "W_1 must be zero"),
        (0, ("b", 0.1), "hidden biases must be zero"),
        (1, ("W", -0.1), "must be positive"),
        (1, ("b", 0.5), "output at the start must be zero"),
    ],
)
def test_starts_that_are_not_positive_are_refused(layer, entry, words):
    given, start = arguments()
    part, value = entry
    weight, bias = given["network"].layers(start)[layer]
    (weight if part == "W" else bias).flat[0] = value
    with pytest.raises(ValueError, match=words) as caught:
        positive_start_bounds(**given, start=start)
    assert_sentence(caught.value)


def test_unsuitable_activations_and_no_targets_are_refused():
    X, y = np.eye(3)[:2], np.ones(2)
    for kind, words in ((activations.gelu, "positive slope"), (activations.leaky_relu(0.1), "two")):
        network = FeedForward((3, 4, 1), kind)
        start = initialization.positive(network, 2.0)
        with pytest.raises(ValueError, match=words):
            positive_start_bounds(network, X, y, start)
    network = FeedForward((3, 4, 1), activations.tanh)
    with pytest.raises(ValueError, match="must not be zero"):
        certified_output_scale(network, X, np.zeros(2))
    start = initialization.positive(network, 2.0)
    assert positive_start_bounds(network, X, np.zeros(2), start).loss == 0
    assert Setting(network, X, y).size == pytest.approx(np.sqrt(2))
