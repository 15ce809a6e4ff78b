"""Full-batch gradient descent on the squared loss of a network: the fast loop.

`descent.gradient_descent` calls it for a `LeastSquares` objective; the result is that of stepping
with the objective's own gradient, to rounding.  What makes it fast:

* Arrays have the axes (neuron, run, sample) and are allocated once.  The biases are a last column
  of the weights that acts on a constant row of activations, so that one product a layer gives the
  pre-activations of all runs, and one the gradient of weights and biases.
* Gradient descent moves W_1 within the span of the inputs alone.  With few samples the state of
  layer 1 is therefore z_1 = W_1 X + b_1, which moves by (signals)·(XᵀX + 11ᵀ) (columns of X here
  are inputs); W_1 is found at the end from the sum of the signals.
* σ(u) = s u + (1−s)(log(1+eᵘ) − c) takes four passes forward and two backward: shifting and
  scaling u and σ absorbs every constant, and the weights absorb the scales.
* Runs are stepped in blocks that stay in the processor's cache, below the size at which BLAS
  would start threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.linalg.blas import daxpy

from . import checks
from ._descent_layers import HiddenLayer, Softplus, SpanLayer, Tabulated, WeightLayer
from .network import FeedForward
from .objectives import LeastSquares

__all__ = ["descend"]

_CHUNK = 64  # steps between two looks at what has become of the runs
_BLOCK_ENTRIES = 10_000  # most entries of a layer's array: OpenBLAS adds vectors in threads beyond
_BLOCK_BYTES = 2**21  # most memory of a block: about a second-level cache


def descend(
    problem: LeastSquares, start: Any, step_size: Any, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Run w_{k+1} = w_k − η ∇S(w_k) and record the loss at every step.

    A run diverges when it leaves the floating-point numbers: from the first step at which its loss
    is not finite, its losses are ∞, and its final parameters are all ∞.  The other runs of the
    batch are not touched by it, and there is no warning.

    Parameters
    ----------
    problem : LeastSquares
        The objective; its data may have leading axes, one data set for each run.
    start : array_like, shape (..., p)
        Starting points; leading axes are independent runs.
    step_size : array_like
        Step sizes η ≥ 0, in units of squared length over loss; one number, or one for each run
        (broadcast against the runs).
    steps : int
        Number of steps, zero or more.

    Returns
    -------
    losses : numpy.ndarray, shape (..., steps + 1)
        S(w_0), …, S(w_steps).
    final : numpy.ndarray, shape (..., p)
        w_steps.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape, is not finite or is negative.
    """
    checks.instance(problem, LeastSquares, "problem")
    start = problem.check_point(start, "start")
    rates = checks.finite_array(step_size, "step_size")
    if (rates < 0).any():
        raise ValueError(f"step_size must not be negative, but its least entry is {rates.min()}.")
    steps = checks.positive_integer(steps, "steps", least=0)
    try:
        runs = np.broadcast_shapes(
            start.shape[:-1], rates.shape, problem.X.shape[:-2], problem.y.shape[:-1]
        )
    except ValueError:
        raise ValueError(
            f"step_size must be one number or one for each run, but has shape {rates.shape} "
            f"for runs of shape {start.shape[:-1]}."
        ) from None
    start = np.broadcast_to(start, (*runs, problem.dimension))
    rates = np.broadcast_to(rates, runs)
    targets = np.broadcast_to(problem.y, (*runs, problem.size))
    shared = problem.X.ndim == 2
    inputs = problem.X if shared else np.broadcast_to(problem.X, (*runs, *problem.X.shape[-2:]))
    total = math.prod(runs)
    losses = np.empty((total, steps + 1))
    final = np.empty((total, problem.dimension))
    with np.errstate(all="ignore"):
        for rows in _blocks(problem, total):
            place = np.unravel_index(rows, runs) if runs else ()
            losses[rows], final[rows] = _follow(
                problem.network,
                inputs if shared else inputs[place],
                targets[place].reshape(rows.size, -1),
                start[place].reshape(rows.size, -1),
                rates[place].reshape(-1),
                steps,
            )
    return losses.reshape(*runs, steps + 1), final.reshape(*runs, -1)


def _blocks(problem: LeastSquares, total: int) -> Iterator[np.ndarray]:
    """Share out the runs among blocks, as evenly as can be."""
    widths, n = problem.network.widths, problem.size
    entries = max(widths[1:]) * n
    memory = 8 * (6 * sum(widths[1:]) * n + 2 * problem.dimension)
    most = max(1, min(_BLOCK_ENTRIES // entries, _BLOCK_BYTES // memory))
    yield from np.array_split(np.arange(total), -(-total // most))


def _follow(
    network: FeedForward,
    X: np.ndarray,
    y: np.ndarray,
    w: np.ndarray,
    rates: np.ndarray,
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Run one block: losses of shape (runs, steps + 1) and final parameters."""
    runs, n = y.shape
    losses, final = np.full((runs, steps + 1), math.inf), np.full_like(w, math.inf)
    residuals, mean = np.empty((_CHUNK, runs, n)), np.full(n, 1 / n)
    rows, done, swift = np.arange(runs), 0, True
    block = _Block(network, X, y, w, rates, swift)
    while done <= steps:
        kept = [array.copy() for array in block.state] if swift else []
        chunk = residuals[: steps + 1 - done, : rows.size]
        for k, residual in enumerate(chunk, start=done):
            block.forward(residual)
            if k < steps:
                block.backward(residual)
        values = np.square(chunk) @ mean
        finite = np.logical_and.accumulate(np.isfinite(values), axis=0)
        sound = finite[-1] & block.finite()
        if swift and not sound.all():
            # Either a run diverges, or an exponential overflowed that need not: take the chunk
            # again with each activation's own formulas.
            for array, old in zip(block.state, kept, strict=True):
                array[...] = old
            swift = False
        else:
            losses[rows, done : done + len(chunk)] = np.where(finite, values, math.inf).T
            done += len(chunk)
            if sound.all():
                continue
            rows, swift = rows[sound], True
            if not rows.size:
                return losses, final
        w = block.parameters()[sound if swift else slice(None)]
        block = _Block(network, X if X.ndim == 2 else X[rows], y[rows], w, rates[rows], swift)
    final[rows] = block.parameters()
    return losses, final


class _Block:
    """Runs that are stepped together.

    `outputs` of layer ℓ are h_ℓ and a constant row; the last hidden layer has the targets as one
    more row, so that one product gives the residual.
    """

    def __init__(
        self,
        network: FeedForward,
        X: np.ndarray,
        y: np.ndarray,
        w: np.ndarray,
        rates: np.ndarray,
        swift: bool,
    ) -> None:
        runs, n = y.shape
        self.network, hidden = network, network.widths[1:-1]
        self.rate = np.repeat(2 / n * rates, n).reshape(runs, n)
        self.scaled = np.empty((runs, n))
        self.z = [np.empty((width, runs, n)) for width in hidden]
        self.signals = [np.empty_like(z) for z in self.z]
        self.outputs = [np.ones((width + 1, runs, n)) for width in hidden[:-1]]
        self.outputs.append(np.ones((hidden[-1] + 2, runs, n)))
        self.outputs[-1][-1] = y
        self.layers: list[HiddenLayer] = []
        for activation, width, z, h in zip(
            network.activations, hidden, self.z, self.outputs, strict=True
        ):
            flat = z.reshape(-1), h[:width].reshape(-1)
            if swift and activation.softplus_form is not None:
                self.layers.append(Softplus(*activation.softplus_form, *flat))
            else:
                self.layers.append(Tabulated(activation, *flat))
            h[width] = 1 / self.layers[-1].scale
        (W, b), *rest = network.layers(w)
        few = n <= 2 * network.widths[0]
        self.first = (SpanLayer if few else WeightLayer)(W, b, X, self.layers[0], self.z[0])
        # Weights are stored as scale_{ℓ−1} · stretch_ℓ · (W_ℓ, b_ℓ + …), so that they act on φ and
        # give the next layer's z.  The signals that they carry back are factor_ℓ times the true.
        self.weights: list[np.ndarray] = []
        self.gradients: list[np.ndarray] = []
        self.steps: list[float] = []
        self.stretches = [layer.stretch for layer in self.layers[1:]] + [1.0]
        self.shifts = [layer.shift for layer in self.layers[1:]] + [0.0]
        self.scales = [layer.scale for layer in self.layers]
        factor = 1.0
        for (W, b), h, stretch, shift, scale in reversed(
            list(zip(rest, self.outputs, self.stretches, self.shifts, self.scales, strict=True))
        ):
            weights = np.zeros((runs, W.shape[-2], h.shape[0]))
            weights[..., : W.shape[-1]] = scale * stretch * W
            weights[..., W.shape[-1]] = scale * (stretch * b + shift)
            self.weights.insert(0, weights)
            self.gradients.insert(0, np.zeros_like(weights))
            self.steps.insert(0, -stretch * scale * scale / factor)
            factor *= stretch * scale
        self.weights[-1][..., -1] = -1.0
        self.first_step = 1 / factor
        self._make_views()

    def _make_views(self) -> None:
        """Name once the views that every step needs: axes (run, neuron, sample), and flat."""

        def by_run(array: np.ndarray) -> np.ndarray:
            return np.swapaxes(array, 0, 1)

        self.residual_products = self.scaled[:, None]
        self.h_by_run = [by_run(h) for h in self.outputs]
        self.h_by_sample = [np.swapaxes(h, -1, -2) for h in self.h_by_run]
        self.h_copies = [np.empty(h.shape) for h in self.h_by_sample]
        self.z_by_run = [by_run(z) for z in self.z]
        self.signals_by_run = [by_run(signal) for signal in self.signals]
        self.flat_signals = [signal.reshape(-1) for signal in self.signals]
        self.flat_weights = [weights.reshape(-1) for weights in self.weights]
        self.flat_gradients = [gradient.reshape(-1) for gradient in self.gradients]
        hidden = self.network.widths[1:-1]
        self.transposed = [
            np.swapaxes(weights[..., :width], -1, -2)
            for weights, width in zip(self.weights, hidden, strict=True)
        ]
        self.output_weights = np.swapaxes(self.weights[-1][:, 0, : hidden[-1], None], 0, 1)
        # The last gradient's column of the targets stays zero.
        self.output_gradient = self.gradients[-1][..., :-1]
        self.output_inputs = self.h_by_sample[-1][..., :-1]

    @property
    def state(self) -> list[np.ndarray]:
        """The arrays that a step changes and the next one needs."""
        return [*self.first.state, *self.weights]

    def finite(self) -> np.ndarray:
        """Return, for each run, whether its state is finite."""
        if all(np.isfinite(array).all() for array in self.state):
            return np.ones(len(self.rate), dtype=bool)
        return np.isfinite(self.parameters()).all(axis=-1)

    def forward(self, residual: np.ndarray) -> None:
        """Write the residuals, shape (runs, n)."""
        self.first.forward()
        self.layers[0].forward()
        for weights, h, z, layer in zip(
            self.weights, self.h_by_run, self.z_by_run[1:], self.layers[1:], strict=False
        ):
            np.matmul(weights, h, z)
            layer.forward()
        np.matmul(self.weights[-1], self.h_by_run[-1], residual[:, None])

    def backward(self, residual: np.ndarray) -> None:
        """Step, given the residuals of the last `forward`."""
        last = len(self.layers) - 1
        np.multiply(residual, self.rate, self.scaled)
        np.multiply(self.output_weights, self.scaled, self.signals[last])
        np.matmul(self.residual_products, self.output_inputs, self.output_gradient)
        daxpy(self.flat_gradients[last], self.flat_weights[last], a=self.steps[last])
        for index in range(last, 0, -1):
            signal, below = self.signals_by_run[index], index - 1
            self.layers[index].backward(self.flat_signals[index])
            # BLAS is quicker on a transposed copy than on the transposed view.
            np.copyto(self.h_copies[below], self.h_by_sample[below])
            np.matmul(signal, self.h_copies[below], self.gradients[below])
            np.matmul(self.transposed[below], signal, self.signals_by_run[below])
            daxpy(self.flat_gradients[below], self.flat_weights[below], a=self.steps[below])
        self.layers[0].backward(self.flat_signals[0])
        self.first.backward(self.signals[0], self.first_step)

    def parameters(self) -> np.ndarray:
        """Return the parameters, shape (runs, p)."""
        w = np.empty((len(self.rate), self.network.parameter_count))
        first, *rest = self.network.layers(w)
        first[0][...], first[1][...] = self.first.parameters()
        for (W, b), weights, stretch, shift, scale in zip(
            rest, self.weights, self.stretches, self.shifts, self.scales, strict=True
        ):
            W[...] = weights[..., : W.shape[-1]] / (scale * stretch)
            b[...] = (weights[..., W.shape[-1]] / scale - shift) / stretch
        return w
