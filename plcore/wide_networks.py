"""Networks in the parameterization of Du, Lee, Li, Wang and Zhai, at finite width.

    fully connected   h_1 = √(c_σ/m) σ(W_1 x),  h_ℓ = √(c_σ/m) σ(W_ℓ h_{ℓ−1}),
    residual          h_1 as before,  h_ℓ = h_{ℓ−1} + (c_res/(L√m)) σ(W_ℓ h_{ℓ−1}),

f(x) = aᵀh_L, no biases, every entry drawn from N(0, 1), loss ½ Σ (f(x_i) − y_i)².  The factors of
1/√m stand in the network, not in the weights, so that gradient descent differs from that of
`FeedForward`.  The limit m → ∞ is in `infinite_width`.

>>> import numpy as np
>>> from plcore import activations
>>> from plcore.wide_networks import WideNetwork
>>> network = WideNetwork(2, 500, 2, activations.tanh)
>>> starts = network.draw(np.random.default_rng(0), runs=3)
>>> print(starts.shape, network.outputs(starts, np.eye(2)).shape)
(3, 251500) (3, 2)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import checks
from .activations import Activation
from .gaussian_pairs import normalization
from .results import Result

__all__ = ["WideNetwork", "WideTraining", "train_wide"]


@dataclass(frozen=True)
class WideNetwork:
    """A fully connected or residual network with L equal hidden layers of width m.

    Parameters are one flat vector: W_1 row by row, then W_2 … W_L, then a.

    Parameters
    ----------
    dimension : int
        d, the input dimension.
    width : int
        m.
    depth : int
        L, the number of hidden layers.
    activation : Activation
    residual_scale : float, optional
        c_res > 0; without it the network is fully connected.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or range.
    """

    dimension: int
    width: int
    depth: int
    activation: Activation
    residual_scale: float | None = None
    _first: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the shape, and compute √(c_σ/m) once."""
        checks.positive_integer(self.dimension, "dimension")
        checks.positive_integer(self.width, "width")
        checks.positive_integer(self.depth, "depth")
        checks.instance(self.activation, Activation, "activation")
        if self.residual_scale is not None:
            checks.positive_number(self.residual_scale, "residual_scale")
        scale = math.sqrt(float(normalization(self.activation)) / self.width)
        object.__setattr__(self, "_first", scale)

    @property
    def parameter_count(self) -> int:
        """The number p = m d + (L − 1) m² + m of parameters."""
        return self.width * (self.dimension + (self.depth - 1) * self.width + 1)

    def layers(self, w: np.ndarray) -> list[np.ndarray]:
        """Return the views W_1, …, W_L, shapes ``(..., m, d)`` and ``(..., m, m)``, and a."""
        w = checks.finite_array(w, "w", least_ndim=1, last=self.parameter_count)
        return self._views(w)

    def _views(self, w: np.ndarray) -> list[np.ndarray]:
        m, start, views = self.width, 0, []
        for columns in (self.dimension, *[m] * (self.depth - 1)):
            stop = start + m * columns
            views.append(w[..., start:stop].reshape(*w.shape[:-1], m, columns))
            start = stop
        return [*views, w[..., start:]]

    def _scale(self, layer: int) -> float:
        """Return the factor before σ in a layer, counted from 1."""
        if layer == 1 or self.residual_scale is None:
            return self._first
        return self.residual_scale / (self.depth * math.sqrt(self.width))

    def draw(self, rng: np.random.Generator, runs: Any = ()) -> np.ndarray:
        """Return starts with independent N(0, 1) entries, shape ``(*runs, p)``.

        Raises
        ------
        TypeError, ValueError
            If `rng` is not a generator, or `runs` not a shape.
        """
        rng, shape = checks.generator(rng), (*checks.shape(runs, "runs"), self.parameter_count)
        checks.room(shape, "The start")
        return rng.standard_normal(shape)

    @np.errstate(over="ignore", invalid="ignore")
    def outputs(self, w: Any, X: Any) -> np.ndarray:
        """Return f(x_i, w), shape ``(..., n)``, for X of shape ``(n, d)``.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong type or shape, or an entry that is not finite.
        OverflowError
            If an output leaves the range of float64.
        """
        X, views = self._inputs(X), self.layers(w)
        return checks.within_range(self._forward(views, X)[2], "The output")

    @np.errstate(over="ignore", invalid="ignore")
    def gram(self, w: Any, X: Any) -> np.ndarray:
        """Return the blocks G^1 … G^L of W_1 … W_L and that of a, shape ``(..., L + 1, n, n)``.

        Their sum over the third last axis is the tangent kernel G.  Arguments and errors are those
        of `outputs`.
        """
        X, views = self._inputs(X), self.layers(w)
        return checks.within_range(self._gram(views, X), "The Gram matrix")

    def _inputs(self, X: Any) -> np.ndarray:
        return checks.finite_array(X, "X", ndim=2, last=self.dimension).T

    def _forward(
        self, views: list[np.ndarray], columns: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
        """Return h_0 … h_L, the scaled slopes of each layer, and the outputs."""
        hidden, slopes = [columns], []
        for layer, weight in enumerate(views[:-1], start=1):
            value, slope = self.activation.evaluate(weight @ hidden[-1])
            value *= self._scale(layer)
            slope *= self._scale(layer)
            if self.residual_scale is not None and layer > 1:
                value += hidden[-1]
            hidden.append(value)
            slopes.append(slope)
        return hidden, slopes, (views[-1][..., None, :] @ hidden[-1])[..., 0, :]

    def _signals(
        self, views: list[np.ndarray], slopes: list[np.ndarray], factor: np.ndarray
    ) -> list[np.ndarray]:
        """Return ∂f/∂z_ℓ times `factor`, sample by sample, for ℓ = 1 … L."""
        back = views[-1][..., :, None] * factor[..., None, :]
        signals = []
        for layer in range(self.depth, 0, -1):
            signal = slopes[layer - 1] * back
            signals.append(signal)
            if layer > 1:
                pulled = np.swapaxes(views[layer - 1], -1, -2) @ signal
                back = pulled + back if self.residual_scale is not None else pulled
        return signals[::-1]

    def _gram(self, views: list[np.ndarray], columns: np.ndarray) -> np.ndarray:
        hidden, slopes, outputs = self._forward(views, columns)
        signals = self._signals(views, slopes, np.ones_like(outputs))
        inner = [np.swapaxes(h, -1, -2) @ h for h in hidden]
        blocks = [
            (np.swapaxes(signal, -1, -2) @ signal) * below
            for signal, below in zip(signals, inner[:-1], strict=True)
        ]
        return np.stack([*blocks, inner[-1]], axis=-3)

    def _descend(
        self, views: list[np.ndarray], columns: np.ndarray, y: np.ndarray, step_size: float
    ) -> np.ndarray:
        """Take one step of gradient descent in place; return the loss before it."""
        hidden, slopes, outputs = self._forward(views, columns)
        residual = outputs - y
        signals = self._signals(views, slopes, residual)
        change = hidden[-1] @ residual[..., None]
        for weight, signal, below in zip(views[:-1], signals, hidden[:-1], strict=True):
            weight -= step_size * (signal @ np.swapaxes(below, -1, -2))
        views[-1][...] -= step_size * change[..., 0]
        return 0.5 * np.square(residual).sum(axis=-1)


@dataclass(frozen=True)
class WideTraining(Result):
    """Gradient descent of a wide network, with what the theory watches; leading axes are runs.

    Attributes
    ----------
    step_size : float
        η.
    losses : numpy.ndarray, shape (..., steps + 1)
        ½ Σ (f(x_i) − y_i)² before every step and after the last.
    recorded : numpy.ndarray, shape (r,)
        The steps at which the Gram matrices were computed; 0 is the first.
    drift : numpy.ndarray, shape (..., r)
        ‖G^L(k) − G^L(0)‖, spectral norm, for the last hidden layer's block.
    least_block : numpy.ndarray, shape (..., r)
        λ_min(G^L(k)).
    least_full : numpy.ndarray, shape (..., r)
        λ_min(G(k)) of the whole tangent kernel, which drives the residual.
    greatest_full : numpy.ndarray, shape (..., r)
        λ_max(G(k)).
    """

    step_size: float
    losses: np.ndarray
    recorded: np.ndarray
    drift: np.ndarray
    least_block: np.ndarray
    least_full: np.ndarray
    greatest_full: np.ndarray

    def worst_rate_ratio(self, limit_eigenvalue: float, floor: float = 1e-20) -> np.ndarray:
        """Return max over k of L(k) / ((1 − ηλ_0/2)^k L(0)), shape ``(...)``.

        At most 1 where the bound of Du et al. holds at every step.  Steps at which the bound is
        below `floor` times L(0) are left out: there losses are rounding.

        Raises
        ------
        TypeError, ValueError
            If λ_0 is not a positive number, ηλ_0/2 is 1 or more, or `floor` not a fraction.
        """
        rate = checks.positive_number(limit_eigenvalue, "limit_eigenvalue") * self.step_size / 2
        floor = checks.fraction(floor, "floor")
        if rate >= 1:
            raise ValueError(f"ηλ₀/2 must be below 1, but is {rate:.4g}.")
        bound = (1 - rate) ** np.arange(self.losses.shape[-1])
        ratios = self.losses / (self.losses[..., :1] * bound)
        return ratios[..., bound >= floor].max(axis=-1)


def train_wide(
    network: WideNetwork,
    X: Any,
    y: Any,
    start: Any,
    step_size: float,
    steps: int,
    *,
    records: int = 11,
) -> WideTraining:
    """Train all weights by gradient descent on ½ Σ (f(x_i) − y_i)², and watch the Gram matrices.

    Parameters
    ----------
    network : WideNetwork
    X : array_like, shape (n, d)
        Inputs, one a row.
    y : array_like, shape (n,)
        Targets.
    start : array_like, shape (..., p)
        Leading axes are independent runs.
    step_size : float
        η > 0, one for all runs.
    steps : int
        Number of steps.
    records : int, default 11
        At how many steps, evenly spread from 0 to the last, the Gram matrices are computed.

    Returns
    -------
    WideTraining

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range.
    OverflowError
        If a run leaves the range of float64: the step size is too big.

    Examples
    --------
    >>> import numpy as np
    >>> from plcore import activations
    >>> from plcore.wide_networks import WideNetwork, train_wide
    >>> network = WideNetwork(2, 500, 1, activations.tanh)
    >>> start = network.draw(np.random.default_rng(0))
    >>> run = train_wide(network, np.eye(2), [1.0, -1.0], start, 0.5, steps=50)
    >>> bool(run.losses[-1] < 1e-9)
    True
    """
    checks.instance(network, WideNetwork, "network")
    columns = network._inputs(X)
    y = checks.finite_array(y, "y", ndim=1, last=columns.shape[1])
    w = checks.finite_array(start, "start", least_ndim=1, last=network.parameter_count).copy()
    step_size = checks.positive_number(step_size, "step_size")
    steps = checks.positive_integer(steps, "steps")
    records = checks.positive_integer(records, "records", least=2)
    records = min(records, steps + 1)
    shape = (*w.shape[:-1], records, network.depth + 1, len(y), len(y))
    checks.room(shape, "The record of the Gram matrices")
    checks.room((*w.shape[:-1], steps + 1), "The record of the losses")
    recorded = np.unique(np.linspace(0, steps, records).round().astype(int))
    views = network._views(w)
    losses, grams = [], []
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(steps + 1):
            if k in recorded:
                grams.append(network._gram(views, columns))
            losses.append(network._descend(views, columns, y, step_size if k < steps else 0.0))
    found = checks.within_range(np.stack(losses, axis=-1), "The loss")
    G = np.stack(grams, axis=-4)
    full, block = G.sum(axis=-3), G[..., network.depth - 1, :, :]
    checks.within_range(full, "The Gram matrix")
    values = np.linalg.eigvalsh(full)
    return WideTraining(
        step_size=step_size,
        losses=found,
        recorded=recorded,
        drift=np.linalg.norm(block - block[..., :1, :, :], ord=2, axis=(-2, -1)),
        least_block=np.linalg.eigvalsh(block)[..., 0],
        least_full=values[..., 0],
        greatest_full=values[..., -1],
    )
