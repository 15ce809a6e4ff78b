"""Positive starts of every kind, and points of the balls around them, for several test files."""

import numpy as np

from plcore import activations, initialization
from plcore.network import FeedForward
from plcore.positive_start_bounds import (
    IMPROVEMENTS,
)

STAGES = [IMPROVEMENTS[:k] for k in range(len(IMPROVEMENTS) + 1)]
KINDS = [
    activations.smooth_leaky_relu(0.1),
    activations.smooth_leaky_relu(0.7),
    activations.tanh,
    activations.sigmoid,
    activations.shifted_sigmoid,
    activations.softplus,
    activations.shifted_softplus,
    activations.arctan,
    activations.arcsinh,
    activations.identity,
]


def gaussian(seed, n=10, d=20):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) / np.sqrt(d), rng.standard_normal(n)


def random_case(seed):
    """Any depth, widths, activation, data; hidden weights constant or not."""
    rng = np.random.default_rng([7, seed])
    depth, d = int(rng.integers(2, 5)), int(rng.integers(2, 7))
    n = int(rng.integers(1, d + 1))
    hidden = tuple(int(width) for width in rng.integers(1, 6, depth - 1))
    network = FeedForward((d, *hidden, 1), KINDS[seed % len(KINDS)])
    X = rng.standard_normal((n, d)) * rng.choice([0.3, 1.0, 3.0])
    start = initialization.positive(
        network, float(np.exp(rng.uniform(-1, 2))), float(np.exp(rng.uniform(-1, 1)))
    )
    if seed % 2:
        layers = network.layers(start)
        for weight, _ in layers[1:]:
            weight *= rng.uniform(0.7, 1.3, weight.shape)
        layers[-1][1][...] = 0.0
        layers[-1][1][...] = -network.forward(start, np.zeros((1, d)))
    return network, X, rng.standard_normal(n), start, rng


def points(network, start, radius, rng, count):
    """Points of the ball: random, one layer alone, all down in a layer, neurons saturated."""
    steps = rng.standard_normal((count, start.size))
    for index in range(count):
        kind = index % 5
        if kind == 4:
            continue
        keep = np.zeros(start.size)
        layers = network.layers(keep)
        chosen = [0, network.depth - 1, rng.integers(network.depth)][min(kind, 2)]
        layers[chosen][0][...] = layers[chosen][1][...] = 1.0
        if kind == 0:  # the first layer, every neuron along one direction
            layers[0][0][...] = rng.standard_normal(network.widths[0])
            layers[0][1][...] = rng.standard_normal()
            steps[index] = keep
        elif kind == 1:  # the output weights shrink
            steps[index] = -np.abs(keep) + 0.3 * steps[index] * rng.uniform()
        elif kind == 3:
            steps[index] *= 0.1 + keep
        else:
            steps[index] *= keep
    steps *= radius * (1 - 1e-12) / np.linalg.norm(steps, axis=1, keepdims=True)
    steps[count // 2 :] *= rng.uniform(size=(count - count // 2, 1))
    return start + steps
