"""Feedforward networks of the paper's Section 2.1: shape, parameters, forward and backward pass.

A `FeedForward` is frozen and holds no parameters.  Parameters are one flat vector, ordered layer
by layer: the entries of W₁ row by row, then b₁, then W₂, b₂, and so on; W_ℓ is d_ℓ × d_{ℓ−1}.
Leading axes of a parameter array are independent runs.  Inside, samples come last: activations are
``(..., width, n)``, so that one matrix product serves all samples of all runs.

>>> from plcore import FeedForward, activations
>>> network = FeedForward((2, 3, 1), activations.tanh)
>>> hidden = [[1, 0], [0, 1], [1, 1]], [0, 0, 0]
>>> w = network.pack([hidden, ([[1, 1, -1]], [0.5])])
>>> print(network.parameter_count, network.forward(w, [[0, 0], [1, 2]]).round(4))
13 [0.5    1.2306]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from . import checks
from .activations import Activation

__all__ = ["FeedForward", "Trace"]

# Freed at once.  From then on glibc keeps up to 64 MB of freed memory for the next arrays; without
# it, each new one is fetched page by page from the system, a third of a forward pass at width 256.
np.empty(2**22 - 2**10)


@dataclass(frozen=True)
class Trace:
    """What one forward pass leaves behind; list index ℓ−1 belongs to layer ℓ.

    Attributes
    ----------
    weights : list of numpy.ndarray
        W_1 … W_L, shapes ``(..., d_ℓ, d_{ℓ−1})``.
    inputs : list of numpy.ndarray
        h_0 … h_{L−1}, shapes ``(..., d_{ℓ−1}, n)``.
    preactivations : list of numpy.ndarray
        z_1 … z_{L−1}, shapes ``(..., d_ℓ, n)``.
    slopes : list of numpy.ndarray
        σ_ℓ′(z_ℓ) for ℓ = 1 … L−1, shapes as `preactivations`.
    outputs : numpy.ndarray
        f(x_i, w), shape ``(..., n)``.
    """

    weights: list[np.ndarray]
    inputs: list[np.ndarray]
    preactivations: list[np.ndarray]
    slopes: list[np.ndarray]
    outputs: np.ndarray


def _transposed(array: np.ndarray) -> np.ndarray:
    return np.swapaxes(array, -1, -2)


@dataclass(frozen=True, init=False)
class FeedForward:
    """The network f(x, w) = z_L with h_0 = x, z_ℓ = W_ℓ h_{ℓ−1} + b_ℓ, h_ℓ = σ_ℓ(z_ℓ).

    The output layer is linear, as in Section 2.1 of the paper.

    Parameters
    ----------
    widths : sequence of int
        d_0, d_1, …, d_L: input dimension, hidden widths, and 1 for the scalar output.
    activation : Activation or sequence of Activation
        One for all hidden layers, or one for each.

    Attributes
    ----------
    widths : tuple of int
        As given.
    activations : tuple of Activation
        σ_1 … σ_{L−1}.

    Raises
    ------
    TypeError
        If a width is not an integer or an activation is not an `Activation`.
    ValueError
        If there are fewer than three widths, one is not positive, the last is not 1, or the number
        of activations does not fit.
    """

    widths: tuple[int, ...]
    activations: tuple[Activation, ...]

    def __init__(
        self, widths: Sequence[int], activation: Activation | Sequence[Activation]
    ) -> None:
        """Check and store the shape."""
        checked = tuple(
            checks.positive_integer(width, "each width")
            for width in checks.sequence(widths, "widths", "integers")
        )
        if len(checked) < 3:
            raise ValueError(f"widths must be (d, at least one hidden width, 1), not {checked}.")
        if checked[-1] != 1:
            raise ValueError(f"The last width must be 1 (a scalar output), but is {checked[-1]}.")
        hidden = len(checked) - 2
        if isinstance(activation, Activation):
            activation = (activation,) * hidden
        listed = checks.sequence(activation, "activation", "activations (or a single one)")
        for entry in listed:
            checks.instance(entry, Activation, "each activation")
        if len(listed) != hidden:
            raise ValueError(
                f"There must be one activation for each of the {hidden} hidden layers, "
                f"but there are {len(listed)}."
            )
        object.__setattr__(self, "widths", checked)
        object.__setattr__(self, "activations", listed)

    @property
    def depth(self) -> int:
        """The number L of weight matrices."""
        return len(self.widths) - 1

    @property
    def parameter_count(self) -> int:
        """The number p = Σ_ℓ d_ℓ (d_{ℓ−1} + 1) of parameters (2.1)."""
        return sum(rows * (columns + 1) for columns, rows in pairwise(self.widths))

    @property
    def smoothness(self) -> float:
        """The least number of continuous derivatives among the activations."""
        return min(activation.smoothness for activation in self.activations)

    def layers(self, w: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the views (W_ℓ, b_ℓ) of a parameter array, without copying.

        Parameters
        ----------
        w : numpy.ndarray, shape (..., p)
            Parameters.

        Returns
        -------
        list of (W, b)
            W_ℓ of shape ``(..., d_ℓ, d_{ℓ−1})`` and b_ℓ of shape ``(..., d_ℓ)``; writing into them
            writes into `w`.

        Raises
        ------
        TypeError, ValueError
            If `w` is not an array of real numbers whose last axis has p entries.
        """
        if not isinstance(w, np.ndarray) or w.dtype != np.float64:
            w = checks.finite_array(w, "w", least_ndim=1)
        self._check_count(w)
        views, start = [], 0
        for columns, rows in pairwise(self.widths):
            middle, stop = start + rows * columns, start + rows * (columns + 1)
            weight = w[..., start:middle].reshape(*w.shape[:-1], rows, columns)
            views.append((weight, w[..., middle:stop]))
            start = stop
        return views

    def pack(self, layers: Sequence[tuple[Any, Any]]) -> np.ndarray:
        """Return the flat parameters of a list of (W_ℓ, b_ℓ): the inverse of `layers`.

        Weights from PyTorch come in by one line:

            network.pack([(m.weight.detach(), m.bias.detach()) for m in linear_modules])

        Parameters
        ----------
        layers : sequence of (W, b)
            W_ℓ of shape ``(..., d_ℓ, d_{ℓ−1})``, b_ℓ of shape ``(..., d_ℓ)``; leading axes
            broadcast.

        Returns
        -------
        numpy.ndarray, shape (..., p)

        Raises
        ------
        TypeError
            If ``layers`` is not a sequence of pairs, or an array is not one of real numbers.
        ValueError
            If the number of layers or a shape does not fit, or an entry is not finite.
        """
        layers = checks.sequence(layers, "layers", "pairs (W, b)")
        if len(layers) != self.depth:
            raise ValueError(f"layers must be {self.depth} pairs (W, b), but are {len(layers)}.")
        parts: dict[str, np.ndarray] = {}
        for index, pair in enumerate(layers, start=1):
            pair = checks.sequence(pair, f"entry {index} of layers", "two arrays (W, b)")
            if len(pair) != 2:
                raise ValueError(f"Entry {index} of layers must be a pair, not {len(pair)} things.")
            rows, columns = self.widths[index], self.widths[index - 1]
            weight = checks.finite_array(pair[0], f"W_{index}", least_ndim=2)
            bias = checks.finite_array(pair[1], f"b_{index}", least_ndim=1, last=rows)
            if weight.shape[-2:] != (rows, columns):
                raise ValueError(
                    f"W_{index} must be {rows} × {columns} on its last two axes, "
                    f"but has shape {weight.shape}."
                )
            parts[f"W_{index}"] = weight.reshape(*weight.shape[:-2], rows * columns)
            parts[f"b_{index}"] = bias
        batch = checks.common_shape(**{name: part.shape[:-1] for name, part in parts.items()})
        wide = [np.broadcast_to(part, (*batch, part.shape[-1])) for part in parts.values()]
        return np.concatenate(wide, axis=-1)

    def check_inputs(self, X: Any) -> np.ndarray:
        """Return `X` as a checked float64 array of shape ``(..., n, d_0)``."""
        X = checks.finite_array(X, "X", least_ndim=2)
        if X.shape[-1] != self.widths[0]:
            raise ValueError(f"X must have d = {self.widths[0]} columns, not shape {X.shape}.")
        return X

    def check_parameters(self, w: Any) -> np.ndarray:
        """Return `w` as a checked float64 array of shape ``(..., p)``."""
        return self._check_count(checks.finite_array(w, "w", least_ndim=1))

    def check_pair(self, w: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return `w` and `X`, both checked, and with leading axes that broadcast."""
        w, X = self.check_parameters(w), self.check_inputs(X)
        checks.common_shape(w=w.shape[:-1], X=X.shape[:-2])
        return w, X

    def _check_count(self, w: np.ndarray) -> np.ndarray:
        if w.ndim == 0 or w.shape[-1] != self.parameter_count:
            raise ValueError(
                f"w must have p = {self.parameter_count} entries on its last axis for widths "
                f"{self.widths}, but has shape {w.shape}."
            )
        return w

    @np.errstate(over="ignore", invalid="ignore")
    def forward(self, w: Any, X: Any) -> np.ndarray:
        """Return the outputs f(x_i, w).

        Parameters
        ----------
        w : array_like, shape (..., p)
            Parameters; leading axes are independent runs.
        X : array_like, shape (..., n, d_0)
            Inputs, one a row; leading axes broadcast with those of `w`.

        Returns
        -------
        numpy.ndarray, shape (..., n)

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong type or shape, or an entry that is not finite.
        OverflowError
            If the outputs leave the range of float64.
        """
        return checks.within_range(self.propagate(*self.check_pair(w, X)).outputs, "The output")

    def propagate(self, w: np.ndarray, X: np.ndarray) -> Trace:
        """Return a `Trace`: the forward pass, and what backward passes need.

        The arguments are not checked.
        """
        layers = self.layers(w)
        h = _transposed(X)
        inputs, preactivations, slopes = [], [], []
        for (weight, bias), activation in zip(layers[:-1], self.activations, strict=True):
            inputs.append(h)
            z = weight @ h
            z += bias[..., None]
            if not np.isfinite(z).all():
                z = np.where(np.isfinite(z), z, np.nan)  # a sum that overflowed has no sign
            h, slope = activation.evaluate(z)
            preactivations.append(z)
            slopes.append(slope)
        weight, bias = layers[-1]
        inputs.append(h)
        outputs = (weight @ h)[..., 0, :] + bias
        return Trace([layer[0] for layer in layers], inputs, preactivations, slopes, outputs)

    def signals(self, trace: Trace, cotangent: np.ndarray | None = None) -> list[np.ndarray]:
        """Return the backward signals u_i g_ℓ(x_i), with g_L = 1, g_ℓ = D_ℓ W_{ℓ+1}ᵀ g_{ℓ+1}.

        The paper's q of (A.6) is g_1.

        Parameters
        ----------
        trace : Trace
            From `propagate`.
        cotangent : numpy.ndarray, shape (..., n), optional
            The factors u_i; all 1 if left out.

        Returns
        -------
        list of numpy.ndarray
            One array of shape ``(..., d_ℓ, n)`` for each layer ℓ = 1 … L.
        """
        if cotangent is None:
            cotangent = np.ones_like(trace.outputs)
        signal = cotangent[..., None, :]
        found = [signal]
        for weight, slope in zip(trace.weights[:0:-1], trace.slopes[::-1], strict=True):
            if weight.shape[-2] == 1:  # an outer product, slow as a matrix product
                signal = _transposed(weight) * signal
            else:
                signal = _transposed(weight) @ signal
            signal *= slope  # (A.6)
            found.append(signal)
        return found[::-1]

    def pull_back(self, trace: Trace, cotangent: np.ndarray) -> np.ndarray:
        """Return Jᵀu = Σ_i u_i ∇_w f(x_i, w), shape ``(..., p)``, for u of shape ``(..., n)``."""
        pairs = zip(self.signals(trace, cotangent), trace.inputs, strict=True)
        return self._flat([(signal @ _transposed(h), signal.sum(axis=-1)) for signal, h in pairs])

    def push_forward(self, trace: Trace, v: np.ndarray) -> tuple[np.ndarray, list[Any], list[Any]]:
        """Return Jv, shape ``(..., n)``, and the tangents ż_ℓ and ḣ_ℓ of the hidden layers."""
        directions = self.layers(v)
        z_tangents: list[Any] = []
        h_tangents: list[Any] = []
        tangent: Any = None
        for index, ((dW, db), h) in enumerate(zip(directions, trace.inputs, strict=True)):
            z_tangent = dW @ h + db[..., None]
            if tangent is not None:
                z_tangent = z_tangent + trace.weights[index] @ tangent
            if index == self.depth - 1:
                return z_tangent[..., 0, :], z_tangents, h_tangents
            tangent = trace.slopes[index] * z_tangent
            z_tangents.append(z_tangent)
            h_tangents.append(tangent)
        raise AssertionError("a network has an output layer")

    def pull_back_tangent(
        self,
        trace: Trace,
        v: np.ndarray,
        cotangent: np.ndarray,
        cotangent_tangent: np.ndarray,
        tangents: tuple[list[Any], list[Any]],
    ) -> np.ndarray:
        """Return the derivative of Jᵀu along v, for u that itself moves with u̇.

        That is Σ_i u_i ∇²f(x_i) v + Jᵀu̇, by forward mode over the backward pass.

        Parameters
        ----------
        trace : Trace
            From `propagate`.
        v : numpy.ndarray, shape (..., p)
            Direction in parameter space.
        cotangent, cotangent_tangent : numpy.ndarray, shape (..., n)
            u and u̇.
        tangents : pair of lists
            ż_ℓ and ḣ_ℓ, from `push_forward` with the same `v`.

        Returns
        -------
        numpy.ndarray, shape (..., p)
        """
        directions = self.layers(v)
        z_tangents, h_tangents = tangents
        signal, signal_tangent = cotangent[..., None, :], cotangent_tangent[..., None, :]
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for index in range(self.depth - 1, -1, -1):
            gradient = signal_tangent @ _transposed(trace.inputs[index])
            if index > 0:
                gradient = gradient + signal @ _transposed(h_tangents[index - 1])
            parts.append((gradient, signal_tangent.sum(axis=-1)))
            if index == 0:
                break
            weight, dW = trace.weights[index], directions[index][0]
            back = _transposed(weight) @ signal
            back_tangent = _transposed(weight) @ signal_tangent + _transposed(dW) @ signal
            curvature = self.activations[index - 1].functions[2](trace.preactivations[index - 1])
            slope = trace.slopes[index - 1]
            signal_tangent = curvature * z_tangents[index - 1] * back + slope * back_tangent
            signal = slope * back
        return self._flat(parts[::-1])

    @np.errstate(over="ignore", invalid="ignore")
    def jacobian(self, w: Any, X: Any) -> np.ndarray:
        """Return the Jacobian of w ↦ (f(x_i, w))_i, shape ``(..., n, p)``.

        Row i is the concatenation of g_ℓ(x_i) h_{ℓ−1}(x_i)ᵀ and g_ℓ(x_i) over the layers.

        Parameters
        ----------
        w : array_like, shape (..., p)
        X : array_like, shape (..., n, d_0)

        Raises
        ------
        TypeError, ValueError, OverflowError
            As `forward`.
        """
        w, X = self.check_pair(w, X)
        runs = np.broadcast_shapes(w.shape[:-1], X.shape[:-2])
        checks.room((*runs, X.shape[-2], self.parameter_count), "The Jacobian")
        trace = self.propagate(w, X)
        parts = []
        for signal, h in zip(self.signals(trace), trace.inputs, strict=True):
            rows = _transposed(signal)
            weight = rows[..., :, None] * _transposed(h)[..., None, :]
            parts += [weight.reshape(*weight.shape[:-2], -1), rows]
        return checks.within_range(np.concatenate(parts, axis=-1), "The Jacobian")

    def _flat(self, parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        batch = np.broadcast_shapes(*(weight.shape[:-2] for weight, _ in parts))
        flat = np.empty((*batch, self.parameter_count))
        for (weight, bias), (to_weight, to_bias) in zip(parts, self.layers(flat), strict=True):
            to_weight[...] = weight
            to_bias[...] = bias
        return flat
