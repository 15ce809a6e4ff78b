"""The base of all architectures: a network f(x, w) whose derivatives autograd finds.

An `Architecture` holds a shape and no parameters, like `FeedForward`, and its parameters are one
flat vector too: the entries of each weight matrix row by row, then that layer's biases.
Derivatives are HIPS autograd's, over the tables of `activations`.  Where σ′ or σ″ jumps, the
table's value is taken; for almost every w the gradient is the true one all the same.

>>> import numpy as np
>>> from plcore import activations
>>> from plcore.architectures import FullyConnected
>>> network = FullyConnected((2, 3, 1), activations.tanh, biases=False)
>>> w = network.gaussian_start(np.random.default_rng(0), scaling="he")
>>> [weight.shape for weight, _ in network.layers(w)]
[(3, 2), (1, 3)]
>>> network.jacobian(w, X=np.eye(2)).shape
(2, 9)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
from autograd.core import make_vjp
from autograd.extend import defvjp, primitive

from . import checks
from .activations import Activation

__all__ = ["Architecture", "activate"]

SCALINGS = {"standard": 0.0, "lecun": 1.0, "he": 2.0}
"""Variance of a weight times its fan-in; 0 stands for variance 1."""

_BLOCK_BYTES = 2**23  # memory of the Jacobians that are computed together
Maps = Sequence[Callable[[Any], Any]]


@primitive
def activate(u: Any, activation: Activation, order: int) -> Any:
    """σ, σ′ or σ″ of the table, as a function that autograd can differentiate."""
    if not np.isfinite(u).all():
        u = np.where(np.isfinite(u), u, np.nan)  # a sum that overflowed has no sign
    return activation.functions[order](u)


defvjp(
    activate,
    lambda ans, u, activation, order: lambda g: g * activate(u, activation, order + 1),
    argnums=(0,),
)
activate.__signature__ = signature(activate.fun)  # autograd's wrapper hides it


class Place(NamedTuple):
    """Where the parameters of one affine map stand in the flat vector.

    Attributes
    ----------
    start : int
        Index of the first.
    rows, columns : int
        Shape of the weight matrix.
    biased : bool
        Whether a bias for each row follows.
    total : int
        Length of the flat vector.
    """

    start: int
    rows: int
    columns: int
    biased: bool
    total: int

    def weight(self, w: np.ndarray) -> np.ndarray:
        """W, shape ``(..., rows, columns)``, a view."""
        part = w[..., self.start : self.start + self.rows * self.columns]
        return part.reshape(*w.shape[:-1], self.rows, self.columns)

    def bias(self, w: np.ndarray) -> np.ndarray:
        """b, shape ``(..., rows)``, a view."""
        middle = self.start + self.rows * self.columns
        return w[..., middle : middle + self.rows]


# An affine map and its two adjoints: each is linear in both arguments but for the bias, and their
# derivatives are among them.  As steps of their own they keep autograd's tape short.


@primitive
def affine(w: Any, place: Place, h: Any) -> Any:
    """W h + b of inputs in rows: ``(..., p)``, ``(..., n, columns)`` to ``(..., n, rows)``."""
    z = h @ np.swapaxes(place.weight(w), -1, -2)
    return z + place.bias(w)[..., None, :] if place.biased else z


@primitive
def _to_parameters(g: Any, place: Place, h: Any) -> Any:
    """The adjoint of `affine` in w: Σ_i g_i h_iᵀ and Σ_i g_i in their place, zero elsewhere."""
    weight = np.swapaxes(g, -1, -2) @ h
    flat = np.zeros((*weight.shape[:-2], place.total))
    place.weight(flat)[...] = weight
    if place.biased:
        place.bias(flat)[...] = g.sum(axis=-2)
    return flat


@primitive
def _to_inputs(w: Any, place: Place, g: Any) -> Any:
    """The adjoint of `affine` in h: Wᵀ g."""
    return g @ place.weight(w)


def _linear(place: Place) -> Place:
    return place._replace(biased=False)


# w and h have the same leading axes wherever both are differentiated.
defvjp(
    affine,
    lambda ans, w, place, h: lambda g: _to_parameters(g, place, h),
    lambda ans, w, place, h: lambda g: _to_inputs(w, place, g),
    argnums=(0, 2),
)
defvjp(
    _to_parameters,
    lambda ans, g, place, h: lambda u: affine(u, place, h),
    lambda ans, g, place, h: lambda u: _to_inputs(u, place, g),
    argnums=(0, 2),
)
defvjp(
    _to_inputs,
    lambda ans, w, place, g: lambda k: _to_parameters(g, _linear(place), k),
    lambda ans, w, place, g: lambda k: affine(w, _linear(place), k),
    argnums=(0, 2),
)


class Architecture(ABC):
    """A network f(x, w) with a scalar output, made of affine maps and activations.

    Attributes
    ----------
    biases : bool
        Whether every affine map has a bias.
    """

    biases: bool

    @property
    @abstractmethod
    def input_dimension(self) -> int:
        """The number d of entries of one input."""

    @property
    @abstractmethod
    def layer_shapes(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of each weight matrix, in the order of the parameters."""

    @property
    @abstractmethod
    def smoothness(self) -> float:
        """The least number of continuous derivatives among the activations."""

    @abstractmethod
    def _propagate(self, maps: Maps, X: Any) -> Any:
        """Outputs, shape ``(..., n)``, from the affine maps, by what autograd differentiates."""

    @property
    def parameter_count(self) -> int:
        """The number p of parameters."""
        return sum(rows * (columns + self.biases) for rows, columns in self.layer_shapes)

    def layers(self, w: np.ndarray) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Return the views (W, b) of trusted parameters, layer by layer; b is None without biases.

        Parameters
        ----------
        w : numpy.ndarray, shape (..., p)

        Returns
        -------
        list of (W, b)
            W of shape ``(..., rows, columns)``, b of shape ``(..., rows)``; writing into them
            writes into `w`.
        """
        return [
            (place.weight(w), place.bias(w) if place.biased else None) for place in self._places()
        ]

    def _places(self) -> list[Place]:
        found, start = [], 0
        for rows, columns in self.layer_shapes:
            found.append(Place(start, rows, columns, self.biases, self.parameter_count))
            start += rows * (columns + self.biases)
        return found

    def check_inputs(self, X: Any) -> np.ndarray:
        """Return `X` as a checked float64 array of shape ``(..., n, d)``."""
        X = checks.finite_array(X, "X", least_ndim=2)
        if X.shape[-1] != self.input_dimension:
            raise ValueError(
                f"X must have d = {self.input_dimension} columns, not shape {X.shape}."
            )
        return X

    def check_parameters(self, w: Any) -> np.ndarray:
        """Return `w` as a checked float64 array of shape ``(..., p)``."""
        w = checks.finite_array(w, "w", least_ndim=1)
        if w.shape[-1] != self.parameter_count:
            raise ValueError(
                f"w must have p = {self.parameter_count} entries on its last axis, "
                f"but has shape {w.shape}."
            )
        return w

    @np.errstate(over="ignore", invalid="ignore")
    def forward(self, w: Any, X: Any) -> np.ndarray:
        """Return the outputs f(x_i, w).

        Parameters
        ----------
        w : array_like, shape (..., p)
            Parameters; leading axes are independent runs.
        X : array_like, shape (..., n, d)
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
        w, X = self.check_parameters(w), self.check_inputs(X)
        checks.common_shape(w=w.shape[:-1], X=X.shape[:-2])
        return checks.within_range(self.outputs(w, X), "The output")

    @np.errstate(over="ignore", invalid="ignore")
    def jacobian(self, w: Any, X: Any) -> np.ndarray:
        """Return the Jacobian of w ↦ (f(x_i, w))_i, shape ``(..., n, p)``.

        Every sample is given parameters of its own, so that one reverse pass finds all n p
        entries of many runs.  Arguments and errors are those of `forward`.
        """
        w, X = self.check_parameters(w), self.check_inputs(X)
        runs = checks.common_shape(w=w.shape[:-1], X=X.shape[:-2])
        n, p = X.shape[-2], w.shape[-1]
        checks.room((*runs, n, p), "The Jacobian")
        J = np.empty((*runs, n, p))
        flat = J.reshape(-1, n, p)
        each = np.broadcast_to(w, (*runs, p)).reshape(-1, 1, p)
        inputs = X[:, None, :]
        if X.ndim > 2:
            inputs = np.broadcast_to(X, (*runs, *X.shape[-2:])).reshape(-1, n, 1, X.shape[-1])
        most = max(1, _BLOCK_BYTES // (8 * n * p))
        for start in range(0, len(flat), most):
            part = slice(start, start + most)
            own = np.broadcast_to(each[part], flat[part].shape)
            rows = inputs if X.ndim == 2 else inputs[part]
            pull_back, ones = make_vjp(lambda u, x=rows: self.outputs(u, x), own)
            flat[part] = pull_back(np.ones_like(ones))
        return checks.within_range(J, "The Jacobian")

    def outputs(self, w: Any, X: np.ndarray) -> Any:
        """Return f(x_i, w), shape ``(..., n)``, for trusted arguments or autograd's boxes."""
        return self._propagate([partial(affine, w, place) for place in self._places()], X)

    def gaussian_start(
        self,
        rng: np.random.Generator,
        runs: Any = (),
        *,
        scaling: str = "lecun",
        bias_deviation: float = 0.0,
    ) -> np.ndarray:
        """Return a start with independent Gaussian entries.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness.
        runs : int or tuple of int, default ()
            Shape of the batch of independent starts.
        scaling : {"lecun", "he", "standard"}
            Variance of a weight: 1/fan-in (LeCun), 2/fan-in (He) or 1.  The fan-in is the number
            of columns of its matrix.
        bias_deviation : float, default 0.0
            Standard deviation of every bias.  At 0 the starts fill only a null set of R^p, of
            which a statement on almost every start says nothing.

        Returns
        -------
        numpy.ndarray, shape (*runs, p)

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type, or is not one of the choices.
        """
        rng = checks.generator(rng)
        factor = SCALINGS[checks.one_of(scaling, tuple(SCALINGS), "scaling")]
        bias_deviation = checks.nonnegative_number(bias_deviation, "bias_deviation")
        shape = (*checks.shape(runs, "runs"), self.parameter_count)
        checks.room(shape, "The start")
        w = rng.standard_normal(shape)
        for weight, bias in self.layers(w):
            if factor:
                weight /= math.sqrt(weight.shape[-1] / factor)
            if bias is not None:
                bias *= bias_deviation
                bias += 0.0  # no negative zero
        return w
