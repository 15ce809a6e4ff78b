"""The four starts: exact values, laws of the random ones, reproducibility."""

import math

import mpmath
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from strategies import ADMISSIBLE, EVERY, networks

from plcore import activations, initialization
from plcore.network import FeedForward

NETWORK = FeedForward((30, 40, 50, 1), activations.tanh)
RANDOM = {
    "lecun": initialization.lecun,
    "absolute_lecun": initialization.absolute_lecun,
    "conditioned_lecun": lambda network, rng, runs=(): initialization.conditioned_lecun(
        network, 0.1, rng, runs
    ),
}

random_starts = pytest.mark.parametrize("start", RANDOM.values(), ids=RANDOM)


# --------------------------------------------------------------------------- positive


@given(networks(), st.floats(1e-3, 1e3), st.none() | st.floats(1e-3, 1e3))
def test_positive_start_entry_by_entry(network, output_scale, hidden):
    w = initialization.positive(network, output_scale, hidden)
    layers = oracles.unpack(network.widths, w)
    assert (layers[0][0] == 0).all()
    assert (layers[-1][0] == output_scale).all()
    for (W, _), columns in zip(layers[1:-1], network.widths[1:-2], strict=True):
        entry = 1 / columns if hidden is None else hidden
        assert (entry == W).all()
    assert all((b == 0).all() for _, b in layers[:-1])


@given(networks(), st.floats(0.1, 100))
def test_output_of_the_positive_start_is_zero_everywhere(network, output_scale):
    """Exactly where σ(0) = 0, and up to rounding where the last bias cancels (Remark 2.5)."""
    w = initialization.positive(network, output_scale)
    X = 10 * np.random.default_rng(0).standard_normal((5, network.widths[0]))
    outputs = oracles.outputs(network.widths, [each.name for each in network.activations], w, X)
    if all(each.at_zero == 0 for each in network.activations):
        assert (network.forward(w, X) == 0).all()
        assert (w[-1], math.copysign(1, w[-1])) == (0, 1)
    for found in (outputs, network.forward(w, X)):
        assert np.abs(found).max() <= 1e-14 * (abs(w[-1]) + 1e-3)


def test_last_bias_of_the_positive_start_by_hand():
    """softplus(0) = log 2: with 3 neurons and A = 2, b_L = −6 log 2."""
    w = initialization.positive(FeedForward((4, 3, 1), activations.softplus), 2.0)
    assert w[-1] == pytest.approx(-6 * math.log(2), rel=1e-15)


@pytest.mark.parametrize("activation", ADMISSIBLE, ids=lambda each: each.name)
def test_positive_start_is_not_a_dead_start(activation):
    """Remark 2.3: W_1 = 0, but every q_k is positive, so that W_1 moves."""
    network = FeedForward((3, 4, 5, 1), activation)
    J = network.jacobian(initialization.positive(network, 1.0), np.eye(3))
    assert (network.layers(J)[0][1] > 0).all()


# --------------------------------------------------------------------------- random starts


def test_lecun_moments():
    """Entries of W_ℓ: mean 0, variance 1/d_{ℓ−1}, normal (Kolmogorov–Smirnov); biases 0."""
    w = initialization.lecun(NETWORK, np.random.default_rng(0), 20)
    for (W, b), columns in zip(NETWORK.layers(w), NETWORK.widths, strict=False):
        standard = (W * math.sqrt(columns)).ravel()
        count = standard.size
        assert abs(standard.mean()) < 4 / math.sqrt(count)
        assert abs(standard.var() - 1) < 4 * math.sqrt(2 / count)
        assert stats.kstest(standard, "norm").pvalue > 1e-3
        assert (b == 0).all()


def test_absolute_lecun_is_the_absolute_value_of_lecun():
    signed = initialization.lecun(NETWORK, np.random.default_rng(5), 3)
    found = initialization.absolute_lecun(NETWORK, np.random.default_rng(5), 3)
    np.testing.assert_array_equal(found, np.abs(signed))


def truncated_normal(low, high):
    """The law of N(0, 1) conditioned on [low, high], by 60 digits and a table."""

    def distribution(points):
        with mpmath.workdps(60):
            tail = [mpmath.erfc(mpmath.mpf(float(t)) / mpmath.sqrt(2)) for t in points]
            ends = [mpmath.erfc(mpmath.mpf(t) / mpmath.sqrt(2)) for t in (low, high)]
            return np.array([float((ends[0] - t) / (ends[0] - ends[1])) for t in tail])

    return distribution


@pytest.mark.parametrize(("low", "high"), [(0.02, None), (0.1, 0.7), (0.15, None), (0.3, 5.0)])
def test_conditioned_start_has_the_truncated_law_in_the_bulk(low, high):
    w = initialization.conditioned_lecun(NETWORK, low, np.random.default_rng(7), 20, high)
    high = 2 * low if high is None else high
    layers = NETWORK.layers(w)
    for (W, b), columns in zip(layers[1:], NETWORK.widths[1:], strict=False):
        assert low <= W.min() <= W.max() <= high
        scale = math.sqrt(columns)
        law = stats.truncnorm(low * scale, high * scale)
        assert stats.kstest((W * scale).ravel(), law.cdf).pvalue > 1e-3
        assert (b == 0).all()
    unconditioned = initialization.lecun(NETWORK, np.random.default_rng(7), 20)
    np.testing.assert_array_equal(layers[0][0], NETWORK.layers(unconditioned)[0][0])


@pytest.mark.parametrize(
    ("low", "high"), [(1e-15, None), (1e-9, 3e-9), (5.0, None), (40.0, None), (40.0, 40.001)]
)
def test_conditioned_start_has_the_truncated_law_at_the_ends(low, high):
    """Boxes near zero, and so far out that scipy's own distribution function is 0/0."""
    network = FeedForward((1, 1, 2000, 1), activations.tanh)
    w = initialization.conditioned_lecun(network, low, np.random.default_rng(3), high=high)
    sample = network.layers(w)[1][0].ravel()
    high = 2 * low if high is None else high
    assert low <= sample.min() < sample.max() <= high
    assert stats.kstest(sample, truncated_normal(low, high)).pvalue > 1e-3
    assert np.unique(sample).size > 1900


@pytest.mark.parametrize("low", [1e4, 1e12, 1e200])
def test_conditioned_start_very_far_out(low):
    """The law shrinks to the lower end: the excess over it is about 1/low."""
    network = FeedForward((1, 1, 500, 1), activations.tanh)
    w = initialization.conditioned_lecun(network, low, np.random.default_rng(3))
    sample = network.layers(w)[1][0].ravel()
    assert ((sample >= low) & (sample <= low + 20 / low + 1e-15 * low)).all()


@random_starts
def test_shapes_and_runs(start):
    p = NETWORK.parameter_count
    for runs, shape in (((), (p,)), (4, (4, p)), ((2, 3), (2, 3, p)), ([2], (2, p))):
        w = start(NETWORK, np.random.default_rng(0), runs)
        assert w.shape == shape
        assert w.dtype == np.float64
    assert len({tuple(run[:5]) for run in start(NETWORK, np.random.default_rng(0), 7)}) == 7


@random_starts
def test_a_generator_decides_everything(start):
    """Equal seeds, equal starts; the global state is neither read nor changed."""
    first = start(NETWORK, np.random.default_rng(1), 2)
    np.testing.assert_array_equal(first, start(NETWORK, np.random.default_rng(1), 2))
    assert (first != start(NETWORK, np.random.default_rng(2), 2)).any()
    rng = np.random.default_rng(1)
    assert (start(NETWORK, rng) != start(NETWORK, rng)).any()


@random_starts
def test_only_streams_that_numpy_keeps_are_drawn(start):
    """`standard_normal` and `uniform` alone, which compared notebooks may use."""

    drawn = set()

    class Watched(np.random.Generator):
        def __getattribute__(self, name):
            drawn.add(name)
            return super().__getattribute__(name)

    start(NETWORK, Watched(np.random.PCG64(0)), 2)
    public = {name for name in drawn if not name.startswith("_")}
    assert "standard_normal" in public <= {"standard_normal", "uniform"}


@pytest.mark.parametrize("activation", EVERY, ids=lambda each: each.name)
def test_starts_do_not_depend_on_the_activation(activation):
    network = FeedForward(NETWORK.widths, activation)
    for start in RANDOM.values():
        np.testing.assert_array_equal(
            start(network, np.random.default_rng(0)), start(NETWORK, np.random.default_rng(0))
        )
