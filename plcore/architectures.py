"""Networks beyond the feedforward one: residual and convolutional, and their squared loss.

`SquaredLoss` is an `Objective`, so that flow, descent, curvature and the search for the local PL
constant take it as it is.  What needs a proved bound on second derivatives (the step sizes of
`bounds`, a certificate) takes `LeastSquares` alone, and refuses it by name.

>>> import numpy as np
>>> from plcore import activations, gradient_descent
>>> from plcore.architectures import Residual, SquaredLoss
>>> network = Residual(inputs=3, width=4, blocks=2, activation=activations.tanh)
>>> problem = SquaredLoss(network, X=np.eye(3), y=[1.0, -1.0, 2.0])
>>> start = network.gaussian_start(np.random.default_rng(0))
>>> run = gradient_descent(problem, start, step_size=0.1, steps=500)
>>> bool(run.losses[-1] < 1e-9)
True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import grad
from autograd.core import make_vjp
from autograd.extend import defvjp, primitive

from . import checks
from .activations import Activation
from .automatic import Architecture, Maps, activate
from .network import FeedForward
from .objectives import Objective

__all__ = ["ConvolutionalResidual", "FullyConnected", "Residual", "SquaredLoss"]


@dataclass(frozen=True, init=False)
class FullyConnected(Architecture):
    """The network of `FeedForward`, with the same order of parameters: f = z_L, h_ℓ = σ_ℓ(z_ℓ).

    It is here without biases too, and as a check of the others.  An `Architecture`: layers,
    forward, jacobian, starts and the rest are described there.

    Parameters
    ----------
    widths : sequence of int
        d_0, d_1, …, d_L = 1.
    activation : Activation or sequence of Activation
        One for all hidden layers, or one for each.
    biases : bool, default True

    Raises
    ------
    TypeError, ValueError
        As `FeedForward`, or if `biases` is not a bool.
    """

    widths: tuple[int, ...]
    activations: tuple[Activation, ...]
    biases: bool

    def __init__(
        self,
        widths: Sequence[int],
        activation: Activation | Sequence[Activation],
        biases: bool = True,
    ) -> None:
        """Check and store the shape."""
        shape = FeedForward(widths, activation)
        object.__setattr__(self, "widths", shape.widths)
        object.__setattr__(self, "activations", shape.activations)
        object.__setattr__(self, "biases", checks.flag(biases, "biases"))

    @property
    def input_dimension(self) -> int:
        """The input dimension d_0."""
        return self.widths[0]

    @property
    def layer_shapes(self) -> tuple[tuple[int, int], ...]:
        """d_ℓ and d_{ℓ−1} for ℓ = 1 … L."""
        return tuple((rows, columns) for columns, rows in pairwise(self.widths))

    @property
    def smoothness(self) -> float:
        """The least number of continuous derivatives among the activations."""
        return min(activation.smoothness for activation in self.activations)

    def _propagate(self, maps: Maps, X: Any) -> Any:
        h = X
        for layer, activation in zip(maps[:-1], self.activations, strict=True):
            h = activate(layer(h), activation, 0)
        return maps[-1](h)[..., 0]


@dataclass(frozen=True)
class Residual(Architecture):
    """The residual network f = a·h_K + c with skip connections around each layer but the first.

    h_0 = σ(W_0 x + b_0) and h_k = h_{k−1} + s σ(W_k h_{k−1} + b_k) for k = 1 … K.  An
    `Architecture`: layers, forward, jacobian, starts and the rest are described there.

    Parameters
    ----------
    inputs, width, blocks : int
        The dimension d of x, that of every h_k, and the number K of blocks.
    activation : Activation
    branch_scale : float, optional
        The factor s; 1/K if left out, as in the residual networks of Du et al. (2019).
    biases : bool, default True
        Whether there are b_k and c.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is not positive.
    """

    inputs: int
    width: int
    blocks: int
    activation: Activation
    branch_scale: float | None = None
    biases: bool = True

    def __post_init__(self) -> None:
        """Check the shape."""
        _check_shape(self, ("inputs", "width", "blocks"))

    @property
    def input_dimension(self) -> int:
        """The input dimension d."""
        return self.inputs

    @property
    def layer_shapes(self) -> tuple[tuple[int, int], ...]:
        """Shapes of W_0, W_1 … W_K and the row a."""
        width = self.width
        return ((width, self.inputs), *((width, width),) * self.blocks, (1, width))

    @property
    def smoothness(self) -> float:
        """The number of continuous derivatives of the activation."""
        return self.activation.smoothness

    def _propagate(self, maps: Maps, X: Any) -> Any:
        scale = 1 / self.blocks if self.branch_scale is None else self.branch_scale
        h = activate(maps[0](X), self.activation, 0)
        for layer in maps[1:-1]:
            h = h + scale * activate(layer(h), self.activation, 0)
        return maps[-1](h)[..., 0]


@dataclass(frozen=True)
class ConvolutionalResidual(Architecture):
    """The residual network on a line of positions, with the same filters at every position.

    h_k is a row of `filters` numbers at each position.  A layer sees a window of neighbouring
    positions, padded by zeros at the ends, as one long vector φ(h):
    h_0 = σ(W_0 φ(x) + b_0), h_k = h_{k−1} + s σ(W_k φ(h_{k−1}) + b_k).  The output is affine in
    all entries of the last h.  An `Architecture`: layers, forward, jacobian, starts and the rest
    are described there.

    Parameters
    ----------
    positions, channels : int
        An input has ``positions * channels`` entries, position after position.
    filters, window, blocks : int
        Width of h at each position, positions that a filter sees (an odd number), number K of
        blocks.
    activation : Activation
    branch_scale : float, optional
        The factor s; 1/K if left out.
    biases : bool, default True

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is not positive, or the window is even.

    References
    ----------
    Du, Lee, Li, Wang and Zhai (2019) use this form.
    """

    positions: int
    channels: int
    filters: int
    window: int
    blocks: int
    activation: Activation
    branch_scale: float | None = None
    biases: bool = True

    def __post_init__(self) -> None:
        """Check the shape."""
        _check_shape(self, ("positions", "channels", "filters", "window", "blocks"))
        if self.window % 2 == 0:
            raise ValueError(f"window must be odd, but is {self.window}.")

    @property
    def input_dimension(self) -> int:
        """Positions times channels."""
        return self.positions * self.channels

    @property
    def layer_shapes(self) -> tuple[tuple[int, int], ...]:
        """Shapes of W_0, W_1 … W_K and the row of output weights."""
        inner = ((self.filters, self.window * self.filters),) * self.blocks
        first = (self.filters, self.window * self.channels)
        return (first, *inner, (1, self.positions * self.filters))

    @property
    def smoothness(self) -> float:
        """The number of continuous derivatives of the activation."""
        return self.activation.smoothness

    def _propagate(self, maps: Maps, X: Any) -> Any:
        scale = 1 / self.blocks if self.branch_scale is None else self.branch_scale
        h = activate(self._filtered(maps[0], X), self.activation, 0)
        for layer in maps[1:-1]:
            h = h + scale * activate(self._filtered(layer, h), self.activation, 0)
        return maps[-1](h)[..., 0]

    def _filtered(self, layer: Callable[[Any], Any], h: Any) -> Any:
        """Apply one set of filters at every position; h is flat, shape ``(..., n, entries)``."""
        # Positions count as samples, so that one product serves all of them.
        z = layer(_patches(h, self.positions, self.window))
        rows = z.shape[-2] // self.positions
        return anp.reshape(z, (*z.shape[:-2], rows, self.positions * self.filters))


@primitive
def _patches(h: Any, positions: int, window: int) -> Any:
    """What the filters see: ``(..., n, positions · k)`` to ``(..., n · positions, window · k)``."""
    half = window // 2
    grid = h.reshape(*h.shape[:-1], positions, -1)
    padded = np.zeros((*h.shape[:-1], positions + 2 * half, grid.shape[-1]))
    padded[..., half : half + positions, :] = grid
    views = [padded[..., k : k + positions, :] for k in range(window)]
    return np.concatenate(views, axis=-1).reshape(
        *h.shape[:-2], h.shape[-2] * positions, window * grid.shape[-1]
    )


@primitive
def _gathered(g: Any, positions: int, window: int) -> Any:
    """The adjoint of `_patches`: what each entry of h is seen with, summed up."""
    half, rows = window // 2, g.shape[-2] // positions
    views = g.reshape(*g.shape[:-2], rows, positions, window, -1)
    padded = np.zeros((*g.shape[:-2], rows, positions + 2 * half, views.shape[-1]))
    for k in range(window):
        padded[..., k : k + positions, :] += views[..., k, :]
    return padded[..., half : half + positions, :].reshape(*g.shape[:-2], rows, -1)


defvjp(
    _patches,
    lambda ans, h, positions, window: lambda g: _gathered(g, positions, window),
    argnums=(0,),
)
defvjp(
    _gathered,
    lambda ans, g, positions, window: lambda u: _patches(u, positions, window),
    argnums=(0,),
)


def _check_shape(network: Any, integers: tuple[str, ...]) -> None:
    """Check the fields of a frozen residual network, and store them as plain numbers."""
    for field in integers:
        value = checks.positive_integer(getattr(network, field), field)
        object.__setattr__(network, field, value)
    checks.instance(network.activation, Activation, "activation")
    if network.branch_scale is not None:
        scale = checks.positive_number(network.branch_scale, "branch_scale")
        object.__setattr__(network, "branch_scale", scale)
    object.__setattr__(network, "biases", checks.flag(network.biases, "biases"))


class SquaredLoss(Objective):
    """The squared loss S(w) = (1/n) Σ_i (y_i − f(x_i, w))² of any architecture.

    It does for an `Architecture` what `LeastSquares` does for a `FeedForward`, more slowly.  It
    brings no bound on second derivatives, so that nothing can be certified about it.  An
    `Objective`: value, gradient, ratio and the rest are described there.

    Parameters
    ----------
    network : Architecture
    X : array_like, shape (..., n, d)
        Inputs, one a row; leading axes give each run its own data.
    y : array_like, shape (..., n)
        Targets.

    Attributes
    ----------
    dimension, size : int
        The number p of parameters, and n of samples.

    Raises
    ------
    TypeError, ValueError
        If the data are empty, not finite, of the wrong shape, or X and y do not match.
    """

    def __init__(self, network: Architecture, X: Any, y: Any) -> None:
        self.network = checks.instance(network, Architecture, "network")
        self.X = network.check_inputs(X)
        self.y = checks.finite_array(y, "y", least_ndim=1, last=self.X.shape[-2])
        self._data = checks.common_shape(X=self.X.shape[:-2], y=self.y.shape[:-1])
        self.dimension = network.parameter_count
        self.size = self.X.shape[-2]

    def __repr__(self) -> str:
        """Say what it is in a few words, for messages."""
        return f"SquaredLoss of {type(self.network).__name__}"

    def check_point(self, x: Any, name: str = "w") -> np.ndarray:
        """Return `x` as a float64 array of shape ``(..., p)`` that fits the data's own axes."""
        x = super().check_point(x, name)
        checks.common_shape(**{name: x.shape[:-1], "data": self._data})
        return x

    @np.errstate(over="ignore", invalid="ignore")
    def residual(self, w: Any) -> np.ndarray:
        """Return e(w) = (f(x_i, w) − y_i)_i, shape ``(..., n)``; arguments, errors as `value`."""
        return checks.within_range(self._residual(self.check_point(w)), "The residual")

    def jacobian(self, w: Any) -> np.ndarray:
        """Return J(w), shape ``(..., n, p)``; arguments and errors as `value`."""
        return self.network.jacobian(self.check_point(w), self.X)

    @np.errstate(over="ignore", invalid="ignore")
    def kernel(self, w: Any) -> np.ndarray:
        """Return the tangent kernel K(w) = J Jᵀ, shape ``(..., n, n)``; arguments as `value`."""
        J = self.jacobian(w)
        return checks.within_range(J @ np.swapaxes(J, -1, -2), "The kernel")

    def _residual(self, w: Any) -> Any:
        return self.network.outputs(w, self.X) - self.y

    def _at(self, w: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Return e(w) and the action of J(w)ᵀ, after one forward pass."""
        runs = np.broadcast_shapes(w.shape[:-1], self._data)
        pull_back, residual = make_vjp(self._residual, np.broadcast_to(w, (*runs, w.shape[-1])))
        return residual, pull_back

    def _value(self, w: np.ndarray) -> np.ndarray:
        return np.square(self._residual(w)).mean(axis=-1)

    def _value_and_gradient(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        residual, pull_back = self._at(w)
        return np.square(residual).mean(axis=-1), pull_back((2 / self.size) * residual)

    def _scaled_value_and_gradient(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        residual, pull_back = self._at(w)
        exponent = np.frexp(np.abs(residual).max(axis=-1, keepdims=True))[1]
        residual = np.ldexp(residual, -exponent)
        return np.square(residual).mean(axis=-1), pull_back((2 / self.size) * residual)

    def _hessian_vector(self, w: np.ndarray, v: np.ndarray) -> np.ndarray:
        def total(u: Any) -> Any:
            return anp.sum(anp.square(self._residual(u))) / self.size

        runs = np.broadcast_shapes(w.shape[:-1], v.shape[:-1], self._data)
        w, v = (np.broadcast_to(each, (*runs, self.dimension)) for each in (w, v))
        # Runs do not mix, and each Hessian is symmetric: one pull-back is H v for all of them.
        return make_vjp(grad(total), w)[0](v)
