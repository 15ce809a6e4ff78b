"""Problems with weights that almost fit them, and certificates of those."""

import numpy as np

import plcore
from plcore import activations
from plcore.claims import Certificate
from plcore.network import FeedForward
from plcore.objectives import LeastSquares


def fitted(problem, w, residual):
    """Weights near w with |e| about `residual`, by damped Gauss-Newton steps."""
    for _ in range(60):
        e = problem.residual(w)
        size = np.linalg.norm(e)
        if size < 1.5 * residual:
            break
        step = np.linalg.lstsq(problem.jacobian(w), e, rcond=None)[0]
        w = w - min(0.5, 1 - residual / size) * step
    return w


def example(widths, n, residual, *, seed=0, activation=activations.tanh):
    rng = np.random.default_rng(seed)
    network = FeedForward(widths, activation)
    X = rng.standard_normal((n, widths[0])) / np.sqrt(widths[0])
    problem = LeastSquares(network, X, 0.5 * rng.standard_normal(n))
    w = plcore.initialization.lecun(network, rng)
    return problem, fitted(problem, w, residual)


def certified(problem, w, argument):
    found = plcore.certify(problem, w, arguments=[argument])
    assert isinstance(found, Certificate), found
    return found
