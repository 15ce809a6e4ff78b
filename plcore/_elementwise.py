"""Formulas of the activation functions: σ, σ′ and σ″, entry by entry and without overflow.

`activations` makes tables of them.  Each takes a float64 array and returns one of its shape; the
`fused` ones write value and slope into given arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import special


def shifted_value(
    u: np.ndarray, *, base: Callable[[np.ndarray], np.ndarray], offset: float
) -> np.ndarray:
    return base(u) - offset


def shifted_softplus_value(u: np.ndarray) -> np.ndarray:
    # log(1 + e^u) - log 2 = max(u, 0) + log(1 + (e^-|u| - 1)/2): no overflow, and no
    # cancellation near zero.
    return np.maximum(u, 0) + np.log1p(0.5 * np.expm1(-np.abs(u)))


def smooth_leaky_value(u: np.ndarray, *, s: float) -> np.ndarray:
    return s * u + (1 - s) * shifted_softplus_value(u)


def smooth_leaky_slope(u: np.ndarray, *, s: float) -> np.ndarray:
    return s + (1 - s) * special.expit(u)


def smooth_leaky_curvature(u: np.ndarray, *, s: float) -> np.ndarray:
    decay = np.exp(-np.abs(u))
    return (1 - s) * decay / (1 + decay) ** 2


def smooth_leaky_fused(u: np.ndarray, value: np.ndarray, slope: np.ndarray, *, s: float) -> None:
    if u.size and not u.max() <= 700:  # beyond the reach of the exponential, or NaN among them
        value[...], slope[...] = smooth_leaky_value(u, s=s), smooth_leaky_slope(u, s=s)
        return
    # One exponential and one logarithm; the slope is 1 - (1 - s)/(1 + e^u).
    np.exp(u, out=slope)
    slope += 1.0
    np.log(slope, out=value)
    value -= math.log(2)
    value *= 1 - s
    value += s * u
    np.divide(s - 1, slope, out=slope)
    slope += 1.0


def tanh_slope(u: np.ndarray) -> np.ndarray:
    # 1/cosh² keeps its relative accuracy in the tails, where 1 - tanh² cancels.
    decay = np.exp(-2 * np.abs(u))
    return 4 * decay / (1 + decay) ** 2


def tanh_curvature(u: np.ndarray) -> np.ndarray:
    return -2 * np.tanh(u) * tanh_slope(u)


def tanh_fused(u: np.ndarray, value: np.ndarray, slope: np.ndarray) -> None:
    np.tanh(u, out=value)
    np.multiply(value, value, out=slope)
    np.subtract(1.0, slope, out=slope)


def sigmoid(u: np.ndarray) -> np.ndarray:
    return special.expit(u)  # a function of our own, because pickle searches for SciPy's by name


def sigmoid_slope(u: np.ndarray) -> np.ndarray:
    decay = np.exp(-np.abs(u))
    return decay / (1 + decay) ** 2


def sigmoid_curvature(u: np.ndarray) -> np.ndarray:
    return -np.tanh(u / 2) * sigmoid_slope(u)


def softplus_value(u: np.ndarray) -> np.ndarray:
    return np.maximum(u, 0) + np.log1p(np.exp(-np.abs(u)))


def shifted_sigmoid_value(u: np.ndarray) -> np.ndarray:
    return 0.5 * np.tanh(u / 2)


def arctan_slope(u: np.ndarray) -> np.ndarray:
    # hypot twice, because u² would overflow for large |u|.
    return 1 / np.hypot(1, u) / np.hypot(1, u)


def arctan_curvature(u: np.ndarray) -> np.ndarray:
    return -2 * u * arctan_slope(u) * arctan_slope(u)


def arcsinh_slope(u: np.ndarray) -> np.ndarray:
    return 1 / np.hypot(1, u)


def arcsinh_curvature(u: np.ndarray) -> np.ndarray:
    return -(u * arcsinh_slope(u)) * arctan_slope(u)


def normal_density(u: np.ndarray) -> np.ndarray:
    u = np.clip(u, -40, 40)  # the density underflows beyond; its square must not overflow
    return np.exp(-0.5 * u * u) / math.sqrt(2 * math.pi)


def gelu_value(u: np.ndarray) -> np.ndarray:
    return u * special.ndtr(u)


def gelu_slope(u: np.ndarray) -> np.ndarray:
    return special.ndtr(u) + np.clip(u, -40, 40) * normal_density(u)


def gelu_curvature(u: np.ndarray) -> np.ndarray:
    u = np.clip(u, -40, 40)
    return normal_density(u) * (2 - u * u)


def identity(u: np.ndarray) -> np.ndarray:
    return u + 0.0


def leaky_value(u: np.ndarray, *, s: float) -> np.ndarray:
    return np.where(u > 0, u, s * u)


def leaky_slope(u: np.ndarray, *, s: float) -> np.ndarray:
    return np.where(u > 0, 1.0, s)


def squared_relu_value(u: np.ndarray) -> np.ndarray:
    return np.square(np.maximum(u, 0))


def squared_relu_slope(u: np.ndarray) -> np.ndarray:
    return 2 * np.maximum(u, 0)


def squared_relu_curvature(u: np.ndarray) -> np.ndarray:
    return np.where(u > 0, 2.0, 0.0)
