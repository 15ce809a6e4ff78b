"""Objectives and starts whose gradient flows the tests know."""

import math

import numpy as np

from plcore import activations, initialization
from plcore.network import FeedForward
from plcore.objectives import LeastSquares, Objective, Quadratic


def rotated(eigenvalues, seed=0):
    """A quadratic with these eigenvalues, its eigenvectors (columns), and the same eigenvalues."""
    size = len(eigenvalues)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))
    matrix = (rotation * eigenvalues) @ rotation.T
    objective = Quadratic(0.5 * (matrix + matrix.T))
    found, vectors = np.linalg.eigh(objective.matrix)
    return objective, vectors, found


def exact(vectors, eigenvalues, start, times):
    """φ(t) = exp(−2At) x_0, shape (len(times), p)."""
    return (np.exp(-2 * np.outer(times, eigenvalues)) * (start @ vectors)) @ vectors.T


def small_network(n=6, d=8, widths=(5, 4), seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    net = FeedForward((d, *widths, 1), activations.smooth_leaky_relu(0.1))
    X, y = rng.standard_normal((n, d)) / math.sqrt(d), rng.standard_normal(n)
    return LeastSquares(net, X, y), scale * initialization.lecun(net, rng)


class Changed(Objective):
    """c f(x − shift), and the gradient times another factor, which a right objective never has."""

    def __init__(self, objective, factor=1.0, shift=0.0, gradient_factor=1.0):
        self.objective, self.factor, self.shift = objective, factor, shift
        self.gradient_factor, self.dimension = gradient_factor, objective.dimension

    def _value_and_gradient(self, x):
        value, gradient = self.objective._value_and_gradient(x - self.shift)
        return self.factor * value, self.gradient_factor * self.factor * gradient

    def _hessian_vector(self, x, v):
        return self.factor * self.objective._hessian_vector(x - self.shift, v)
