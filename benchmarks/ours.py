"""The work done by plcore."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from workloads import SLOPE, Variants, Work

from plcore import activations, curvature, flow, kernel
from plcore.descent import gradient_descent
from plcore.network import FeedForward
from plcore.objectives import LeastSquares


def network_of(work: Work) -> FeedForward:
    """Return the network."""
    return FeedForward(work.widths, activations.smooth_leaky_relu(SLOPE))


def descent(work: Work) -> Callable[[], Any]:
    """Return W1, W2 or W3."""
    problem, start = LeastSquares(network_of(work), work.X, work.y), work.flat
    return lambda: gradient_descent(problem, start, work.step_size, work.steps).losses


def kernels(work: Work) -> Callable[[], Any]:
    """Return K2, or a single kernel."""
    network, w = network_of(work), work.flat
    return lambda: kernel.tangent_kernel(network, w, work.X)


def least_eigenvalue(work: Work) -> Callable[[], Any]:
    """Return K1."""
    network, w = network_of(work), work.flat
    return lambda: kernel.least_eigenvalue(kernel.tangent_kernel(network, w, work.X))


def top_curvature(work: Work) -> Callable[[], Any]:
    """Return H1."""
    problem, w = LeastSquares(network_of(work), work.X, work.y), work.flat
    return lambda: curvature.top_curvature(problem, w, 1e-6).value


def gradient_flow(work: Work) -> Callable[[], Any]:
    """Return G1: the time at which the loss is 1e-12 of the start."""
    problem, w = LeastSquares(network_of(work), work.X, work.y), work.flat

    def run() -> Any:
        found = flow.gradient_flow(problem, w, loss_tolerance=1e-12, rtol=1e-8)
        # The flow ends with a step; within it the logarithm of the loss is a line to 11 digits.
        (before, after), times = np.log(found.losses[-2:] / found.losses[0] / 1e-12), found.times
        return times[-2] + (times[-1] - times[-2]) * before / (before - after)

    return run


VARIANTS: dict[str, Variants] = {
    "descent": {"plcore": descent},
    "kernel": {"plcore": kernels},
    "one kernel": {"plcore": kernels},
    "least eigenvalue": {"plcore": least_eigenvalue},
    "curvature": {"plcore": top_curvature},
    "flow": {"plcore": gradient_flow},
}
