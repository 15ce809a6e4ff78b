"""The hypotheses of Theorem 2.1: each is noticed when it fails, and says so in a sentence."""

import numpy as np
import pytest

from plcore import activations, hypotheses, initialization
from plcore.network import FeedForward
from plcore.positive_start import positive_start_constants, positive_start_hypotheses

LEAKY = activations.smooth_leaky_relu(0.3)


def data(n, d):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, d)) / np.sqrt(d), rng.standard_normal(n)


def broken(**changes):
    """A start on which every hypothesis holds, except for the changes to its layers."""
    network = FeedForward((5, 3, 3, 1), LEAKY)
    layers = network.layers(initialization.positive(network, 100.0).copy())
    for name, (index, value) in changes.items():
        layers[index][0 if name.startswith("W") else 1].flat[0] = value
    return network, network.pack(layers)


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"W": (0, 0.1)}, "first-layer weights zero", "W_1 must be zero"),
        ({"b": (1, 0.1)}, "hidden biases zero", "hidden biases must be zero"),
        ({"W": (1, -0.5)}, "hidden weights positive", "W_2 has -0.5"),
        ({"W": (1, 0.0)}, "hidden weights positive", "must be positive"),
        ({"W": (2, -1.0)}, "output weights large", "must exceed the radius r = a/2 = 0.1667"),
        ({"W": (2, 0.1)}, "output weights large", "must exceed the radius"),
        ({"b": (2, 0.5)}, "output zero at the start", "last bias must be zero, but is 0.5"),
    ],
)
def test_each_hypothesis_on_the_start_has_its_message(changes, name, words):
    network, start = broken(**changes)
    X, y = data(3, 5)
    found = positive_start_hypotheses(network, X, y, start)
    assert [item.name for item in found.failures] == [name]
    assert name in str(found)
    assert "FAILS" in str(found)
    assert "FAILS" in found._repr_html_()
    with pytest.raises(ValueError, match=words):
        positive_start_constants(network, X, y, start)


@pytest.mark.parametrize("changes", [{"W": (0, 0.1)}, {"b": (1, 0.1)}])
def test_a_zero_output_is_said_only_where_it_is(changes):
    """With W_1 or a hidden bias not zero the outputs are not, whatever the last bias is."""
    network, start = broken(**changes)
    X, y = data(3, 5)
    assert np.abs(network.forward(start, X)).max() > 1e-3
    said = str(positive_start_hypotheses(network, X, y, start))
    assert "f(x, w₀) = 0" not in said
    assert "b_L = 0." in said
    _, good = broken()
    assert "f(x, w₀) = 0 for every x." in str(positive_start_hypotheses(network, X, y, good))


@pytest.mark.parametrize(
    ("activation", "X", "words"),
    [
        (LEAKY, np.ones((2, 3)), "numerical rank 1"),
        (LEAKY, np.eye(4)[:, :3], "n > d = 3"),
        (activations.relu, np.eye(3), "two continuous derivatives, but relu has 0"),
        (activations.squared_relu, np.eye(3), "squared_relu has 1"),
        (activations.gelu, np.eye(3), "slope everywhere, but that of gelu falls to -0.1"),
    ],
)
def test_each_hypothesis_on_network_and_data_has_its_message(activation, X, words):
    network = FeedForward((3, 2, 1), activation)
    assert not positive_start_hypotheses(network, X, np.ones(len(X))).all_hold
    with pytest.raises(ValueError, match=words):
        positive_start_constants(network, X, np.ones(len(X)))


def test_nearly_dependent_inputs_are_refused_at_rounding_only():
    network, y = FeedForward((3, 2, 1), LEAKY), np.ones(2)
    near = np.array([[1.0, 0, 0], [1.0, 1e-12, 0]])
    constants = positive_start_constants(network, near, y)
    assert constants.least_eigenvalue == pytest.approx(1e-24 / 4, rel=1e-3)
    assert constants.required_scale > 1e5
    near[1, 1] = 1e-17
    with pytest.raises(ValueError, match="numerical rank 1"):
        positive_start_constants(network, near, y)


def test_an_offset_is_allowed_when_the_last_bias_cancels_it_or_after_a_shift():
    X, y = data(3, 5)
    network = FeedForward((5, 3, 3, 1), activations.softplus)
    start = initialization.positive(network, 5.0)
    assert positive_start_hypotheses(network, X, y, start).all_hold
    assert positive_start_hypotheses(network, X, y).all_hold
    layers = network.layers(start.copy())
    layers[-1][1][...] = 0
    bare = network.pack(layers)
    with pytest.raises(ValueError, match=r"softplus has σ\(0\) = 0.6931; take its .shifted\(\)"):
        positive_start_constants(network, X, y, bare)
    shifted = FeedForward((5, 3, 3, 1), activations.softplus.shifted())
    assert positive_start_constants(shifted, X, y, bare).required_scale > 0


def test_several_failures_are_all_named():
    network = FeedForward((3, 2, 2, 1), [activations.relu, activations.gelu])
    start = -np.ones(network.parameter_count)
    with pytest.raises(ValueError, match="does not apply") as caught:
        positive_start_constants(network, np.ones((2, 3)), np.ones(2), start)
    for words in ("rank 1", "relu", "W_1", "biases", "hidden weights", "output weights"):
        assert words in str(caught.value)


def test_the_spectrum_of_the_inputs():
    X = np.random.default_rng(0).standard_normal((4, 6))
    values = np.linalg.eigvalsh(X @ X.T / 4)
    spectrum = hypotheses.input_spectrum(X)
    assert spectrum.least == pytest.approx(values[0])
    assert spectrum.greatest == pytest.approx(values[-1])
