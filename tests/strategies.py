"""Hypothesis strategies: networks of every admissible kind, and cases of parameters and data."""

from dataclasses import dataclass

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from plcore import activations
from plcore.network import FeedForward
from plcore.objectives import LeastSquares

# The same examples on every run and machine, and no clock.
settings.register_profile("reproducible", max_examples=60, derandomize=True, deadline=None)
settings.load_profile("reproducible")

# Twice differentiable activations, as the paper's theorems ask, and those that are not.
SMOOTH = (
    activations.tanh,
    activations.arctan,
    activations.arcsinh,
    activations.sigmoid,
    activations.shifted_sigmoid,
    activations.softplus,
    activations.shifted_softplus,
    activations.identity,
    activations.gelu,
    activations.smooth_leaky_relu(0.1),
    activations.smooth_leaky_relu(0.75),
)
ROUGH = (activations.relu, activations.leaky_relu(0.1), activations.squared_relu)
EVERY = SMOOTH + ROUGH
ADMISSIBLE = tuple(each for each in SMOOTH if each.strictly_increasing)


@dataclass(frozen=True)
class Case:
    """A network with one parameter vector and data, and the same thing as the oracles take it."""

    network: FeedForward
    w: np.ndarray
    X: np.ndarray
    y: np.ndarray
    seed: int

    @property
    def oracle(self):
        """The first two arguments of every oracle."""
        return self.network.widths, [each.name for each in self.network.activations]

    @property
    def objective(self):
        return LeastSquares(self.network, self.X, self.y)

    def normal(self, *shape):
        """Further standard normal numbers that belong to this case."""
        return np.random.default_rng([self.seed, 1]).standard_normal(shape)


def case(network, samples, seed, scale=1.0):
    """Gaussian parameters of LeCun's size times `scale`, biases too, and Gaussian data."""
    rng = np.random.default_rng(seed)
    w = scale * rng.standard_normal(network.parameter_count)
    for (weight, _), columns in zip(network.layers(w), network.widths[:-1], strict=True):
        weight /= np.sqrt(columns)
    X = rng.standard_normal((samples, network.widths[0]))
    return Case(network, w, X, rng.standard_normal(samples), seed)


@st.composite
def networks(draw, choices=EVERY, least_depth=2, greatest_depth=5, widest=6):
    """Networks of depth 2 to 5 whose hidden layers may have different activations."""
    depth = draw(st.integers(least_depth, greatest_depth))
    widths = draw(st.lists(st.integers(1, widest), min_size=depth, max_size=depth))
    listed = draw(st.lists(st.sampled_from(choices), min_size=depth - 1, max_size=depth - 1))
    return FeedForward((*widths, 1), listed)


@st.composite
def cases(draw, choices=EVERY, most_samples=6, **options):
    """A network with Gaussian parameters of several sizes and Gaussian data."""
    network = draw(networks(choices, **options))
    samples = draw(st.integers(1, most_samples))
    scale = draw(st.sampled_from([0.3, 1.0, 2.0]))
    return case(network, samples, draw(st.integers(0, 2**32 - 1)), scale)
