"""Objectives: nonnegative C² functions f on R^p with value, gradient and Hessian action.

The public methods convert and check their arguments; what a subclass writes is in `Objective`.
Leading axes of a point are independent points.

Where numbers become too big for float64, f(x) is returned as ∞, derivatives are an OverflowError,
and NaN is never returned.

>>> from plcore.objectives import Quadratic
>>> bowl = Quadratic([[1.0, 0.0], [0.0, 4.0]])
>>> print(bowl.value([1.0, 1.0]), bowl.gradient([1.0, 1.0]))
5.0 [2. 8.]
>>> print(bowl.ratio([[1.0, 0.0], [0.0, 1.0]]))  # of two points
[ 4. 16.]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from . import checks
from .kernel import trusted_kernel
from .network import FeedForward, Trace

__all__ = ["LeastSquares", "Objective", "Quadratic"]


class Objective(ABC):
    """A nonnegative C² objective f: R^p → [0, ∞).

    A subclass sets `dimension` and writes two methods, which are called with checked float64
    arrays of shape ``(..., p)``: ``_value_and_gradient(x)`` returns f(x) and ∇f(x), of shapes
    ``(...)`` and ``(..., p)``, and ``_hessian_vector(x, v)`` returns ∇²f(x) v.

    Attributes
    ----------
    dimension : int
        The number p of coordinates.

    Examples
    --------
    >>> import numpy as np
    >>> from plcore.objectives import Objective
    >>> class Quartic(Objective):  # f = |x|⁴
    ...     dimension = 2
    ...     def _value_and_gradient(self, x):
    ...         square = np.square(x).sum(axis=-1)
    ...         return square**2, 4 * square[..., None] * x
    ...     def _hessian_vector(self, x, v):
    ...         square = np.square(x).sum(axis=-1)[..., None]
    ...         return 4 * square * v + 8 * (x * v).sum(axis=-1)[..., None] * x
    >>> Quartic().ratio([1.0, 1.0])  # 16 |x|²
    array(32.)
    """

    dimension: int

    @abstractmethod
    def _value_and_gradient(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...

    @abstractmethod
    def _hessian_vector(self, x: np.ndarray, v: np.ndarray) -> np.ndarray: ...

    def _value(self, x: np.ndarray) -> np.ndarray:
        return self._value_and_gradient(x)[0]

    def check_point(self, x: Any, name: str = "x") -> np.ndarray:
        """Return `x` as a float64 array of shape ``(..., p)``, or raise with a clear sentence."""
        x = checks.finite_array(x, name, least_ndim=1)
        if x.shape[-1] != self.dimension:
            raise ValueError(
                f"{name} must have p = {self.dimension} entries on its last axis, "
                f"but has shape {x.shape}."
            )
        return x

    @np.errstate(over="ignore", invalid="ignore")
    def value(self, x: Any) -> np.ndarray:
        """Return f(x), shape ``(...)``, at points `x` of shape ``(..., p)``.

        It is ∞ where f(x) is too big for float64.

        Raises
        ------
        TypeError, ValueError
            If `x` has the wrong type or shape, or an entry that is not finite.
        OverflowError
            If numbers on the way to f(x) are so big that nothing can be said about it.
        """
        return checks.within_range(self._value(self.check_point(x)), "The value", infinite=True)

    def gradient(self, x: Any) -> np.ndarray:
        """Return ∇f(x), shape ``(..., p)``; arguments and errors as `value_and_gradient`."""
        return self.value_and_gradient(x)[1]

    @np.errstate(over="ignore", invalid="ignore")
    def value_and_gradient(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return f(x) and ∇f(x) from one pass; arguments as `value`.

        Raises
        ------
        TypeError, ValueError
            As `value`.
        OverflowError
            If the gradient is too big for float64.
        """
        value, gradient = self._value_and_gradient(self.check_point(x))
        checks.within_range(value, "The value", infinite=True)
        return value, checks.within_range(gradient, "The gradient")

    @np.errstate(over="ignore", invalid="ignore")
    def hessian_vector(self, x: Any, v: Any) -> np.ndarray:
        """Return ∇²f(x) v, shape ``(..., p)``, for points and directions of shape ``(..., p)``.

        Raises
        ------
        TypeError, ValueError, OverflowError
            As `value_and_gradient`, for either argument.
        """
        x, v = self.check_point(x), self.check_point(v, "v")
        checks.common_shape(x=x.shape[:-1], v=v.shape[:-1])
        return checks.within_range(self._hessian_vector(x, v), "The Hessian's product with v")

    @np.errstate(over="ignore", invalid="ignore")
    def hessian(self, x: Any) -> np.ndarray:
        """Return ∇²f(x), shape ``(..., p, p)``, by its action on the unit vectors.

        Arguments and errors as `value_and_gradient`; memory is p² numbers a point.
        """
        x = self.check_point(x)
        checks.room((*x.shape, self.dimension), "The Hessian")
        unit = np.eye(self.dimension)
        rows = [self._hessian_vector(x, np.broadcast_to(row, x.shape)) for row in unit]
        return checks.within_range(np.stack(rows, axis=-2), "The Hessian")

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def ratio(self, x: Any) -> np.ndarray:
        """Return the PL ratio |∇f(x)|²/f(x), and ∞ where f(x) = 0.

        Its infimum over a ball is the local PL constant (T1) of the paper's criterion.  Arguments
        and errors as `value_and_gradient`.
        """
        value, gradient = self._scaled_value_and_gradient(self.check_point(x))
        checks.within_range(gradient, "The gradient")
        checks.within_range(value, "The value")
        # Scaling by a power of two is exact, and keeps the square within the range of float64.
        exponent = np.frexp(np.abs(gradient).max(axis=-1))[1]
        square = np.square(np.ldexp(gradient, -exponent[..., None])).sum(axis=-1)
        scaled = np.ldexp(value, -2 * exponent)
        return np.divide(square, scaled, out=np.full_like(square, np.inf), where=value != 0)

    def _scaled_value_and_gradient(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return s²f(x) and s∇f(x) for a scale s > 0 that may be chosen for each point."""
        return self._value_and_gradient(x)


class Quadratic(Objective):
    """f(x) = xᵀAx for a symmetric positive semidefinite matrix A.

    Its PL ratio is at least 4 λ_min(A), with equality in the lowest eigendirection.  An
    `Objective`: value, gradient, ratio and the rest are described there.

    Parameters
    ----------
    matrix : array_like, shape (p, p)
        The matrix A.

    Raises
    ------
    TypeError, ValueError
        If `matrix` is not square, symmetric and positive semidefinite with finite entries.
    """

    def __init__(self, matrix: Any) -> None:
        matrix = checks.finite_array(matrix, "matrix", ndim=2)
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"matrix must be square, but has shape {matrix.shape}.")
        size = np.abs(matrix).max()
        if np.abs(matrix - matrix.T).max() > 1e-12 * size:
            raise ValueError("matrix must be symmetric, but differs from its transpose.")
        self.matrix = 0.5 * matrix + 0.5 * matrix.T
        self.eigenvalues = np.linalg.eigvalsh(self.matrix)
        if self.eigenvalues[0] < -1e-12 * size:
            raise ValueError(
                "matrix must be positive semidefinite, but has the eigenvalue "
                f"{self.eigenvalues[0]:.4g}."
            )
        self.dimension = matrix.shape[0]

    def _value_and_gradient(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = x @ self.matrix
        return np.maximum((x * image).sum(axis=-1), 0.0), 2 * image

    def _hessian_vector(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        return 2 * (v @ self.matrix) + 0 * x


class LeastSquares(Objective):
    """The squared loss S(w) = (1/n) Σ_i (y_i − f(x_i, w))² of a network on data (2.2).

    Everything is derived from the residual e_i = f(x_i, w) − y_i and the action of the Jacobian J:
    S = |e|²/n, ∇S = (2/n) Jᵀe, and the kernel K = J Jᵀ comes from (T4).  An `Objective`: value,
    gradient, ratio and the rest are described there.

    Parameters
    ----------
    network : FeedForward
    X : array_like, shape (n, d_0) or (..., n, d_0)
        Inputs, one a row.  Leading axes give each run its own data and broadcast with those of w.
    y : array_like, shape (n,) or (..., n)
        Targets.

    Attributes
    ----------
    network : FeedForward
        As given.
    X, y : numpy.ndarray
        Copies of the data, read-only.
    dimension : int
        The number p of parameters.
    size : int
        The number n of samples.

    Raises
    ------
    TypeError, ValueError
        If the data are empty, not finite, of the wrong shape, or X and y do not match.

    Examples
    --------
    >>> import numpy as np
    >>> from plcore import FeedForward, LeastSquares, activations, initialization
    >>> network = FeedForward((2, 4, 1), activations.tanh)
    >>> problem = LeastSquares(network, np.eye(2), [1.0, -1.0])
    >>> w = initialization.positive(network, output_scale=1.0)
    >>> bound = 4 / problem.size * np.linalg.eigvalsh(problem.kernel(w))[0]
    >>> print(f"{problem.value(w):.1f}, ratio {problem.ratio(w):.1f} >= {bound:.1f}")
    1.0, ratio 8.0 >= 8.0
    """

    def __init__(self, network: FeedForward, X: Any, y: Any) -> None:
        self.network = checks.instance(network, FeedForward, "network")
        # Copies: what the caller does to its arrays later leaves the objective as it is.
        self.X = network.check_inputs(X).copy()
        self.y = checks.finite_array(y, "y", least_ndim=1).copy()
        for array in (self.X, self.y):
            array.flags.writeable = False
        if self.y.shape[-1] != self.X.shape[-2]:
            raise ValueError(
                f"X and y must have the same number of samples, but X has {self.X.shape[-2]} rows "
                f"and y has shape {self.y.shape}."
            )
        try:
            np.broadcast_shapes(self.X.shape[:-2], self.y.shape[:-1])
        except ValueError:
            raise ValueError(
                f"The leading axes of X and y must match, but the shapes are {self.X.shape} and "
                f"{self.y.shape}."
            ) from None
        self.dimension = network.parameter_count
        self.size = self.X.shape[-2]

    def check_point(self, x: Any, name: str = "w") -> np.ndarray:
        """Return `x` as a float64 array of shape ``(..., p)`` that fits the data's own axes."""
        x = super().check_point(x, name)
        data = np.broadcast_shapes(self.X.shape[:-2], self.y.shape[:-1])
        try:
            np.broadcast_shapes(x.shape[:-1], data)
        except ValueError:
            raise ValueError(
                f"The leading axes of {name} must match those of the data, {data}, "
                f"but {name} has shape {x.shape}."
            ) from None
        return x

    @np.errstate(over="ignore", invalid="ignore")
    def residual(self, w: Any) -> np.ndarray:
        """Return e(w) = (f(x_i, w) − y_i)_i, shape ``(..., n)``; arguments, errors as `value`."""
        return checks.within_range(self._trace(self.check_point(w))[1], "The residual")

    def jacobian(self, w: Any) -> np.ndarray:
        """Return J(w), shape ``(..., n, p)``; arguments as `value`, memory n p numbers a run."""
        return self.network.jacobian(self.check_point(w), self.X)

    @np.errstate(over="ignore", invalid="ignore")
    def kernel(self, w: Any) -> np.ndarray:
        """Return the tangent kernel K(w) by (T4), shape ``(..., n, n)``; arguments as `value`."""
        K = trusted_kernel(self.network, self.check_point(w), self.X)
        return checks.within_range(K, "The kernel")

    def _trace(self, w: np.ndarray) -> tuple[Trace, np.ndarray]:
        trace = self.network.propagate(w, self.X)
        return trace, trace.outputs - self.y

    def _value(self, w: np.ndarray) -> np.ndarray:
        return np.square(self._trace(w)[1]).mean(axis=-1)

    def _value_and_gradient(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        trace, residual = self._trace(w)
        gradient = self.network.pull_back(trace, (2 / self.size) * residual)
        return np.square(residual).mean(axis=-1), gradient

    def _scaled_value_and_gradient(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        trace, residual = self._trace(w)
        exponent = np.frexp(np.abs(residual).max(axis=-1, keepdims=True))[1]
        residual = np.ldexp(residual, -exponent)
        gradient = self.network.pull_back(trace, (2 / self.size) * residual)
        return np.square(residual).mean(axis=-1), gradient

    def _hessian_vector(self, w: np.ndarray, v: np.ndarray) -> np.ndarray:
        trace, residual = self._trace(w)
        moved, *tangents = self.network.push_forward(trace, v)
        scale = 2 / self.size
        return self.network.pull_back_tangent(
            trace, v, scale * residual, scale * moved, (tangents[0], tangents[1])
        )
