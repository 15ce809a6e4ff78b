"""The squared loss of a network and its gradient at one point after the other, quickly.

`objectives.LeastSquares` serves any batch of runs and allocates as it goes; a solver that asks for
thousands of single points spends most of its time on that.  Here everything is allocated once.
"""

from __future__ import annotations

import numpy as np

from .network import FeedForward

__all__ = ["SingleRun"]


class SingleRun:
    """``w ↦ (S(w), ∇S(w))`` for one parameter vector and one data set, as (2.2) defines S.

    Biases are a last column of the weights that acts on a row of ones.

    Parameters
    ----------
    network : FeedForward
    X : numpy.ndarray, shape (n, d_0)
    y : numpy.ndarray, shape (n,)
    """

    def __init__(self, network: FeedForward, X: np.ndarray, y: np.ndarray) -> None:
        n = y.size
        self.target, self.scale = y, 2 / n
        # Where each entry of the joined matrices (W_ℓ, b_ℓ) stands in the flat parameters.
        layers = network.layers(np.arange(network.parameter_count, dtype=np.float64))
        joined = [np.column_stack(layer) for layer in layers]
        self.order = np.concatenate([matrix.ravel() for matrix in joined]).astype(np.intp)
        self.back = np.argsort(self.order)
        self.weights, self.gradients = np.empty((2, network.parameter_count))
        ends = np.cumsum([matrix.size for matrix in joined])
        self.W, self.G = (
            [
                buffer[end - matrix.size : end].reshape(matrix.shape)
                for end, matrix in zip(ends, joined, strict=True)
            ]
            for buffer in (self.weights, self.gradients)
        )
        # Inputs of every layer, the row of ones last.
        self.h = [np.ones((width + 1, n)) for width in network.widths[:-1]]
        self.h[0][:-1] = X.T
        self.z, self.slope, self.signal = (
            [np.empty((width, n)) for width in network.widths[1:-1]] for _ in range(3)
        )
        self.activations = network.activations
        self.output = np.empty((1, n))

    def __call__(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        """Return S(w) and a new array ∇S(w); `w` is trusted."""
        np.take(w, self.order, out=self.weights)
        for k, activation in enumerate(self.activations):
            np.matmul(self.W[k], self.h[k], out=self.z[k])
            if activation.fused is None:
                self.h[k + 1][:-1], self.slope[k] = activation.evaluate(self.z[k])
            else:
                activation.fused(self.z[k], self.h[k + 1][:-1], self.slope[k])
        residual = np.matmul(self.W[-1], self.h[-1], out=self.output)
        residual -= self.target
        value = 0.5 * self.scale * float(residual[0] @ residual[0])
        residual *= self.scale
        signal = residual
        for k in range(len(self.h) - 1, 0, -1):
            np.matmul(signal, self.h[k].T, out=self.G[k])
            before = np.matmul(self.W[k][:, :-1].T, signal, out=self.signal[k - 1])
            before *= self.slope[k - 1]
            signal = before
        np.matmul(signal, self.h[0].T, out=self.G[0])
        return value, self.gradients[self.back]
