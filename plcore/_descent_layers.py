"""The parts of the fast descent loop: activations and first layers at work on fixed arrays."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from scipy.linalg.blas import daxpy, dgemm

from .activations import Activation

__all__ = ["HiddenLayer", "Softplus", "SpanLayer", "Tabulated", "WeightLayer"]

_LOG_2 = math.log(2)


class HiddenLayer(Protocol):
    """An activation at work on fixed arrays: σ(z) = scale · φ(stretch · z + shift).

    The arrays hold stretch · z + shift and φ.
    """

    stretch: float
    shift: float
    scale: float

    def forward(self) -> None:
        """Compute φ."""

    def backward(self, signal: np.ndarray) -> None:
        """Multiply a flat array by σ′(z)."""


class Tabulated:
    """Any activation, by its own formulas."""

    stretch, shift, scale = 1.0, 0.0, 1.0

    def __init__(self, activation: Activation, z: np.ndarray, h: np.ndarray) -> None:
        self.activation, self.z, self.h = activation, z, h
        self.slope = np.empty(z.size)

    def forward(self) -> None:
        """Compute σ(z) and σ′(z)."""
        if self.activation.fused is None:
            self.h[...] = self.activation.functions[0](self.z)
            self.slope[...] = self.activation.functions[1](self.z)
        else:
            self.activation.fused(self.z, self.h, self.slope)

    def backward(self, signal: np.ndarray) -> None:
        """Multiply by σ′(z)."""
        np.multiply(signal, self.slope, signal)


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
        self.power, self.total, self.quotient = (np.empty(z.size) for _ in range(3))

    def forward(self) -> None:
        """Compute σ(z) and keep eᵛ + k."""
        np.exp2(self.z, self.power)
        np.add(self.power, self.k, self.total)
        np.log(self.total, self.h)
        if self.linear:
            daxpy(self.z, self.h, a=self.linear)

    def backward(self, signal: np.ndarray) -> None:
        """Multiply by σ′(z)."""
        np.divide(signal, self.total, self.quotient)
        if self.linear:
            daxpy(self.quotient, signal, a=self.decay)
        else:  # σ′ = eᵛ/(eᵛ + k), which keeps its relative accuracy as it vanishes
            np.multiply(self.quotient, self.power, signal)


class SpanLayer:
    """Layer 1 by its pre-activations: for few samples."""

    def __init__(
        self, W: np.ndarray, b: np.ndarray, X: np.ndarray, layer: HiddenLayer, z: np.ndarray
    ) -> None:
        self.W, self.b, self.X = W, b, X
        self.gram = X @ np.swapaxes(X, -1, -2) + 1.0
        first = W @ np.swapaxes(X, -1, -2) + b[..., None]
        np.add(layer.stretch * np.swapaxes(first, 0, 1), layer.shift, z)
        self.stretch, self.z = layer.stretch, z
        self.moved = np.zeros(z.size)
        self.product = np.empty_like(z)

    @property
    def state(self) -> list[np.ndarray]:
        return [self.z, self.moved]

    def forward(self) -> None:
        """Do nothing: z is the state."""

    def backward(self, signal: np.ndarray, factor: float) -> None:
        """Step by −factor · signal."""
        if self.X.ndim == 2:
            n = self.z.shape[-1]
            step, z = signal.reshape(-1, n), self.z.reshape(-1, n)
            dgemm(-factor * self.stretch, self.gram, step.T, 1.0, z.T, overwrite_c=1)
        else:
            np.matmul(np.swapaxes(signal, 0, 1), self.gram, np.swapaxes(self.product, 0, 1))
            daxpy(self.product.reshape(-1), self.z.reshape(-1), a=-factor * self.stretch)
        daxpy(signal.reshape(-1), self.moved, a=factor)

    def parameters(self) -> tuple[np.ndarray, np.ndarray]:
        """Return W_1 and b_1."""
        moved = np.swapaxes(self.moved.reshape(self.z.shape), 0, 1)
        return self.W - moved @ self.X, self.b - moved.sum(axis=-1)


class WeightLayer:
    """Layer 1 by its weights and biases: for many samples."""

    def __init__(
        self, W: np.ndarray, b: np.ndarray, X: np.ndarray, layer: HiddenLayer, z: np.ndarray
    ) -> None:
        self.X = np.concatenate([X, np.ones((*X.shape[:-1], 1))], axis=-1)
        self.columns = np.ascontiguousarray(np.swapaxes(self.X, -1, -2))
        self.layer, self.z = layer, z
        weights = np.concatenate([layer.stretch * W, layer.stretch * b[..., None]], axis=-1)
        weights[..., -1] += layer.shift
        shared = X.ndim == 2
        self.A = np.ascontiguousarray(np.swapaxes(weights, 0, 1) if shared else weights)
        self.product = np.empty_like(self.A)

    @property
    def state(self) -> list[np.ndarray]:
        return [self.A]

    def forward(self) -> None:
        """Compute z."""
        if self.X.ndim == 2:
            np.matmul(self.A, self.columns, self.z)
        else:
            np.matmul(self.A, self.columns, np.swapaxes(self.z, 0, 1))

    def backward(self, signal: np.ndarray, factor: float) -> None:
        """Step by −factor · signal."""
        if self.X.ndim == 2:
            A = self.A.reshape(-1, self.X.shape[-1])
            step = signal.reshape(-1, self.X.shape[-2])
            dgemm(-factor * self.layer.stretch, self.X.T, step.T, 1.0, A.T, overwrite_c=1)
        else:
            np.matmul(np.swapaxes(signal, 0, 1), self.X, self.product)
            daxpy(self.product.reshape(-1), self.A.reshape(-1), a=-factor * self.layer.stretch)

    def parameters(self) -> tuple[np.ndarray, np.ndarray]:
        """Return W_1 and b_1."""
        A = np.swapaxes(self.A, 0, 1) if self.X.ndim == 2 else self.A
        return A[..., :-1] / self.layer.stretch, (
            A[..., -1] - self.layer.shift
        ) / self.layer.stretch
