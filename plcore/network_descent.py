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

>>> import numpy as np, plcore
>>> network = plcore.FeedForward((2, 4, 1), plcore.activations.tanh)
>>> problem = plcore.LeastSquares(network, np.eye(2), [1.0, -1.0])
>>> rng = np.random.default_rng(0)
>>> starts = plcore.initialization.lecun(network, rng, runs=3)
>>> quick = plcore.network_descent.descend(problem, starts, 0.1, steps=100)
>>> plain = plcore.gradient_descent(problem, starts, 0.1, 100, record_path=True)
>>> np.allclose(quick[0], plain.losses, rtol=1e-10)
True
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import checks
from ._descent_layers import Call, HiddenLayer, Softplus, SpanLayer, Tabulated, WeightLayer, add
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
    checks.room((total, steps + 1), "The record of the losses")
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
        block.first.refresh()
        for k, residual in enumerate(chunk, start=done):
            for function, arguments in block.forward:
                function(*arguments)
            np.copyto(residual, block.residual)
            if k < steps:
                for function, arguments in block.backward:
                    function(*arguments)
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
    """Runs that are stepped together: arrays, and the calls that make a step.

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
        hidden = network.widths[1:-1]
        self.network, self.residual = network, np.empty((runs, n))
        self.z = [np.empty((width, runs, n)) for width in hidden]
        self.outputs = [np.ones((width + 1, runs, n)) for width in hidden[:-1]]
        self.outputs.append(np.ones((hidden[-1] + 2, runs, n)))
        self.outputs[-1][-1] = y
        self.layers: list[HiddenLayer] = []
        for activation, width, z, h in zip(
            network.activations, hidden, self.z, self.outputs, strict=True
        ):
            if swift and activation.softplus_form is not None:
                self.layers.append(Softplus(*activation.softplus_form, z, h[:width]))
            else:
                self.layers.append(Tabulated(activation, z, h[:width]))
            h[width] = 1 / self.layers[-1].scale
        (W, b), *rest = network.layers(w)
        few = n <= 2 * network.widths[0] and np.isfinite(np.vdot(X, X))
        self.first = (SpanLayer if few else WeightLayer)(W, b, X, self.layers[0], self.z[0])
        # Weights are stored as scale_{ℓ−1} · stretch_ℓ · (W_ℓ, b_ℓ + …), so that they act on φ and
        # give the next layer's stretched z.
        self.stretches = [layer.stretch for layer in self.layers[1:]] + [1.0]
        self.shifts = [layer.shift for layer in self.layers[1:]] + [0.0]
        self.scales = [layer.scale for layer in self.layers]
        self.weights = []
        for (W, b), h, stretch, shift, scale in zip(
            rest, self.outputs, self.stretches, self.shifts, self.scales, strict=True
        ):
            weights = np.zeros((runs, W.shape[-2], len(h)))
            weights[..., : W.shape[-1]] = scale * stretch * W
            weights[..., W.shape[-1]] = scale * (stretch * b + shift)
            self.weights.append(weights)
        self.weights[-1][..., -1] = -1.0
        self.state = [*self.first.state, *self.weights]
        self.forward = self._forward()
        self.backward = self._backward(2 / n * rates)

    def _forward(self) -> list[Call]:
        """Return the calls that write the residuals."""
        calls = [*self.first.forward(), *self.layers[0].forward()]
        for weights, h, z, layer in zip(
            self.weights, self.outputs, self.z[1:], self.layers[1:], strict=False
        ):
            calls += [(np.matmul, (weights, _by_run(h), _by_run(z))), *layer.forward()]
        last = self.weights[-1], _by_run(self.outputs[-1]), self.residual[:, None]
        return [*calls, (np.matmul, last)]

    def _backward(self, rates: np.ndarray) -> list[Call]:
        """Return the calls that make the step, given the residuals."""
        calls: list[Call] = []
        # Signals lack the common part of the step size, and a factor that the weights bring in.
        factor, scaled = rates[0], self.residual
        if (rates != rates[0]).any():
            factor, scaled = 1.0, np.empty_like(self.residual)
            each = np.repeat(rates, scaled.shape[-1]).reshape(scaled.shape)
            calls.append((np.multiply, (self.residual, each, scaled)))
        signals = scaled[None]
        for index in range(len(self.layers) - 1, -1, -1):
            weights, h, scale = self.weights[index], self.outputs[index], self.scales[index]
            width, stretch = self.network.widths[index + 1], self.stretches[index]
            back = np.empty_like(self.z[index])
            gradient = np.zeros_like(weights)
            # The last gradient's column of the targets stays zero.
            of_inputs, inputs = gradient[..., : width + 1], _by_run(h[: width + 1])
            inputs = np.swapaxes(inputs, -1, -2)
            if len(signals) == 1:
                by_neuron = np.swapaxes(weights[:, 0, :width, None], 0, 1)
                calls.append((np.multiply, (by_neuron, signals[0], back)))
            else:
                transposed = np.swapaxes(weights[..., :width], -1, -2)
                calls.append((np.matmul, (transposed, _by_run(signals), _by_run(back))))
                copy = np.empty(inputs.shape)  # BLAS is quicker on it than on the view
                calls.append((np.copyto, (copy, inputs)))
                inputs = copy
            calls.append((np.matmul, (_by_run(signals), inputs, of_inputs)))
            calls.append(add(-factor * stretch * scale**2, gradient, weights))
            calls += self.layers[index].backward(back)
            factor /= stretch * scale
            signals = back
        return [*calls, *self.first.backward(signals, factor)]

    def finite(self) -> np.ndarray:
        """Return, for each run, whether its state is finite."""
        if all(np.isfinite(array).all() for array in self.state):
            return np.ones(len(self.residual), dtype=bool)
        return np.isfinite(self.parameters()).all(axis=-1)

    def parameters(self) -> np.ndarray:
        """Return the parameters, shape (runs, p)."""
        w = np.empty((len(self.residual), self.network.parameter_count))
        first, *rest = self.network.layers(w)
        first[0][...], first[1][...] = self.first.parameters()
        for (W, b), weights, stretch, shift, scale in zip(
            rest, self.weights, self.stretches, self.shifts, self.scales, strict=True
        ):
            W[...] = weights[..., : W.shape[-1]] / (scale * stretch)
            b[...] = (weights[..., W.shape[-1]] / scale - shift) / stretch
        return w


def _by_run(array: np.ndarray) -> np.ndarray:
    """View an array with axes (neuron, run, sample) as (run, neuron, sample), or back."""
    return np.swapaxes(array, 0, 1)
