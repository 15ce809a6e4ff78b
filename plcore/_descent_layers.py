"""The parts of the fast descent loop: activations and first layers at work on fixed arrays.

Each gives its work as a list of calls, (function, arguments), that are made again and again on the
same arrays; looking things up once is worth a tenth of a step where the arrays are small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from scipy.linalg.blas import daxpy, dgemm

from .activations import Activation

__all__ = ["Call", "HiddenLayer", "Softplus", "SpanLayer", "Tabulated", "WeightLayer", "add"]

Call = tuple[Callable[..., Any], tuple[Any, ...]]

_LOG_2 = math.log(2)


def add(factor: float, x: np.ndarray, y: np.ndarray) -> Call:
    """Return the call y += factor · x for arrays without gaps."""
    flat = y.reshape(-1)
    assert np.shares_memory(flat, y)
    return daxpy, (x.reshape(-1), flat, y.size, factor)


def add_product(factor: float, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> Call:
    """Return the call z += factor · x y for matrices without gaps."""
    # BLAS orders columns first, so it is given the transposes.
    return dgemm, (factor, y.T, x.T, 1.0, z.T, 0, 0, 1)


class HiddenLayer(Protocol):
    """An activation at work on fixed arrays: σ(z) = scale · φ(stretch · z + shift).

    The arrays hold stretch · z + shift and φ.
    """

    stretch: float
    shift: float
    scale: float

    def forward(self) -> list[Call]:
        """Compute φ."""

    def backward(self, signal: np.ndarray) -> list[Call]:
        """Multiply by σ′(z)."""


class Tabulated:
    """Any activation, by its own formulas."""

    stretch, shift, scale = 1.0, 0.0, 1.0

    def __init__(self, activation: Activation, z: np.ndarray, h: np.ndarray) -> None:
        self.activation, self.z, self.h = activation, z, h
        self.slope = np.empty_like(z)

    def forward(self) -> list[Call]:
        """Compute σ(z) and σ′(z)."""
        return [(self.activation.fused or self._separately, (self.z, self.h, self.slope))]

    def _separately(self, z: np.ndarray, value: np.ndarray, slope: np.ndarray) -> None:
        value[...], slope[...] = (function(z) for function in self.activation.functions[:2])

    def backward(self, signal: np.ndarray) -> list[Call]:
        """Multiply by σ′(z)."""
        return [(np.multiply, (signal, self.slope, signal))]


class Softplus:
    """σ(u) = s u + (1−s)(log(1+eᵘ) − c), from one exponential and one logarithm.

    With t = −(1−s)c, k = eᵗ and v = u + t, σ(u) = (1−s)(s/(1−s) v + log(eᵛ + k)) and
    σ′(u) = 1 − (1−s)k/(eᵛ + k).  The exponential is taken to the base 2, which is quicker.  It
    overflows for u beyond 700.
    """

    def __init__(self, s: float, c: float, z: np.ndarray, h: np.ndarray) -> None:
        t = -(1 - s) * c
        self.stretch, self.shift, self.scale = 1 / _LOG_2, t / _LOG_2, 1 - s
        self.k = math.exp(t)
        self.linear = _LOG_2 * s / (1 - s)
        self.decay = -(1 - s) * self.k
        self.z, self.h = z, h
        self.power, self.total, self.quotient = (np.empty_like(z) for _ in range(3))

    def forward(self) -> list[Call]:
        """Compute σ(z) and keep eᵛ + k."""
        calls: list[Call] = [
            (np.exp2, (self.z, self.power)),
            (np.add, (self.power, np.array(self.k), self.total)),
            (np.log, (self.total, self.h)),
        ]
        return [*calls, add(self.linear, self.z, self.h)] if self.linear else calls

    def backward(self, signal: np.ndarray) -> list[Call]:
        """Multiply by σ′(z)."""
        divide = np.divide, (signal, self.total, self.quotient)
        if self.linear:
            return [divide, add(self.decay, self.quotient, signal)]
        # σ′ = eᵛ/(eᵛ + k), which keeps its relative accuracy as it vanishes.
        return [divide, (np.multiply, (self.quotient, self.power, signal))]


class SpanLayer:
    """Layer 1 by its pre-activations: for few samples."""

    def __init__(
        self, W: np.ndarray, b: np.ndarray, X: np.ndarray, layer: HiddenLayer, z: np.ndarray
    ) -> None:
        self.W, self.b, self.X, self.z, self.layer = W, b, X, z, layer
        self.gram = X @ np.swapaxes(X, -1, -2) + 1.0
        first = np.swapaxes(W @ np.swapaxes(X, -1, -2) + b[..., None], 0, 1)
        self.initial = layer.stretch * first + layer.shift
        self.moved = np.zeros_like(z)
        self.state = [self.moved]

    def refresh(self) -> None:
        """Compute z from what has been summed up, so that its rounding errors do not pile up."""
        product = np.swapaxes(np.swapaxes(self.moved, 0, 1) @ self.gram, 0, 1)
        np.subtract(self.initial, self.layer.stretch * product, self.z)

    def forward(self) -> list[Call]:
        """Do nothing: z is there."""
        return []

    def backward(self, signal: np.ndarray, factor: float) -> list[Call]:
        """Step by −factor · signal."""
        stretched, n = -factor * self.layer.stretch, self.z.shape[-1]
        sum_up = add(factor, signal, self.moved)
        if self.X.ndim == 2:
            step, z = signal.reshape(-1, n), self.z.reshape(-1, n)
            return [add_product(stretched, step, self.gram, z), sum_up]
        product = np.empty_like(self.z)
        by_run = np.swapaxes(signal, 0, 1), self.gram, np.swapaxes(product, 0, 1)
        return [(np.matmul, by_run), add(stretched, product, self.z), sum_up]

    def parameters(self) -> tuple[np.ndarray, np.ndarray]:
        """Return W_1 and b_1."""
        moved = np.swapaxes(self.moved, 0, 1)
        return self.W - moved @ self.X, self.b - moved.sum(axis=-1)


class WeightLayer:
    """Layer 1 by its weights and biases: for many samples."""

    def __init__(
        self, W: np.ndarray, b: np.ndarray, X: np.ndarray, layer: HiddenLayer, z: np.ndarray
    ) -> None:
        self.X = np.concatenate([X, np.ones((*X.shape[:-1], 1))], axis=-1)
        self.layer, self.z, self.shared = layer, z, X.ndim == 2
        A = np.concatenate([layer.stretch * W, layer.stretch * b[..., None]], axis=-1)
        A[..., -1] += layer.shift
        # Axes (neuron, run, input) or, with data for each run, (run, neuron, input).
        self.A = np.ascontiguousarray(np.swapaxes(A, 0, 1) if self.shared else A)
        self.state = [self.A]

    def refresh(self) -> None:
        """Do nothing: each step computes z."""

    def forward(self) -> list[Call]:
        """Compute z."""
        columns = np.ascontiguousarray(np.swapaxes(self.X, -1, -2))
        z = self.z if self.shared else np.swapaxes(self.z, 0, 1)
        return [(np.matmul, (self.A, columns, z))]

    def backward(self, signal: np.ndarray, factor: float) -> list[Call]:
        """Step by −factor · signal."""
        stretched = -factor * self.layer.stretch
        if self.shared:
            n, columns = self.X.shape
            step, A = signal.reshape(-1, n), self.A.reshape(-1, columns)
            return [add_product(stretched, step, self.X, A)]
        product = np.empty_like(self.A)
        by_run = np.swapaxes(signal, 0, 1), self.X, product
        return [(np.matmul, by_run), add(stretched, product, self.A)]

    def parameters(self) -> tuple[np.ndarray, np.ndarray]:
        """Return W_1 and b_1."""
        A = np.swapaxes(self.A, 0, 1) if self.shared else self.A
        W, b = A[..., :-1], A[..., -1] - self.layer.shift
        return W / self.layer.stretch, b / self.layer.stretch
