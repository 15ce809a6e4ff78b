"""The extreme eigenvalues of the Hessian ∇²f(x), from few products with it.

Lanczos' recurrence needs one Hessian–vector product a step and no p × p matrix.  For the squared
loss of a network all products share one forward and one backward pass, and with few samples they
stay within the vectors whose W_1-part lies in the span of the inputs: the range of ∇²S is there.

>>> from plcore.curvature import bottom_curvature, top_curvature
>>> from plcore.toys import double_well
>>> for find in (bottom_curvature, top_curvature):
...     print(f"{find(double_well, [0.0, 0.0]).value:.2f}")
-3.40
2.00
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from . import checks
from .objectives import LeastSquares, Objective
from .results import Estimate

__all__ = ["Curvature", "bottom_curvature", "top_curvature"]


@dataclass(frozen=True)
class Curvature(Estimate):
    """An extreme eigenvalue of the Hessian; arrays if there are several points.

    Attributes
    ----------
    value : float or numpy.ndarray
        The Ritz value θ: never beyond the extreme eigenvalue, up to rounding.
    quantity, method : str
        What it is and where it comes from.
    error : float or numpy.ndarray
        What is known about |θ − λ|, the residual bound ρ²/gap, with the gap to the next Ritz value
        less the residual of that.  It is an estimate: an eigenvalue that the start vector hardly
        contains would be missed.
    residual : float or numpy.ndarray
        ρ = |Hu − θu| for the Ritz vector u, |u| = 1; within ρ of θ there is an eigenvalue.
    products : int
        Number of Hessian–vector products.
    """

    error: float | np.ndarray = field(kw_only=True)
    residual: float | np.ndarray = field(kw_only=True)
    products: int = field(kw_only=True)


def top_curvature(
    objective: Objective,
    x: Any,
    tolerance: float = 1e-6,
    *,
    most_products: int = 500,
    rng: np.random.Generator | None = None,
) -> Curvature:
    """Return the greatest eigenvalue of ∇²f(x), the largest curvature of f at x.

    Parameters
    ----------
    objective : Objective
    x : array_like, shape (..., p)
        Points; leading axes are independent.
    tolerance : float
        The recurrence stops when the error is at most `tolerance` times the largest absolute Ritz
        value, at each point.
    most_products : int
        It also stops after so many products; `error` tells how far it came.
    rng : numpy.random.Generator, optional
        Source of the start vector; a generator with a fixed seed if left out.

    Returns
    -------
    Curvature

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape, or is not finite or positive.
    OverflowError
        If the Hessian's action leaves the range of float64.

    References
    ----------
    Parlett, The Symmetric Eigenvalue Problem (1998), Sections 10.2 and 13.2.
    """
    return _extreme(objective, x, tolerance, most_products, rng, 1.0, "greatest")


def bottom_curvature(
    objective: Objective,
    x: Any,
    tolerance: float = 1e-6,
    *,
    most_products: int = 500,
    rng: np.random.Generator | None = None,
) -> Curvature:
    """Return the least eigenvalue of ∇²f(x); negative where f is not convex.

    Parameters, result and errors are those of `top_curvature`.  It takes more products, as the
    lowest eigenvalues usually lie close together.
    """
    return _extreme(objective, x, tolerance, most_products, rng, -1.0, "least")


def _extreme(
    objective: Objective,
    x: Any,
    tolerance: float,
    most_products: int,
    rng: np.random.Generator | None,
    sign: float,
    which: str,
) -> Curvature:
    checks.instance(objective, Objective, "objective")
    x = objective.check_point(x)
    tolerance = checks.positive_number(tolerance, "tolerance")
    most_products = checks.positive_integer(most_products, "most_products")
    rng = np.random.default_rng(0) if rng is None else checks.generator(rng)
    with np.errstate(over="ignore", invalid="ignore"):
        if isinstance(objective, LeastSquares):
            runs = np.broadcast_shapes(x.shape[:-1], objective.X.shape[:-2], objective.y.shape[:-1])
            hessian: _Hessian = _NetworkHessian(objective, x, runs)
        else:
            runs = x.shape[:-1]
            hessian = _PlainHessian(objective, x)
        value, error, residual, products = _lanczos(hessian, tolerance, most_products, rng, sign)
    if hessian.singular:  # the eigenvalue 0 belongs to what the recurrence leaves out
        beyond = sign * value < 0
        value = np.where(beyond, 0.0, value)
        error, residual = np.where(beyond, 0.0, error), np.where(beyond, 0.0, residual)
    value, error, residual = (
        array.reshape(runs) if runs else array.item() for array in (value, error, residual)
    )
    return Curvature(
        value,  # type: ignore[arg-type]
        f"{which} eigenvalue of the Hessian",
        "Ritz value of Lanczos' recurrence",
        error=error,
        residual=residual,
        products=products,
    )


class _Hessian(Protocol):
    """∇²f at several points, on vectors v in coordinates whose inner product is u·dual(v)."""

    singular: bool

    def start(self, rng: np.random.Generator) -> np.ndarray:
        """Return a vector for each point, shape (points, size)."""

    def dual(self, v: np.ndarray) -> np.ndarray:
        """Return what gives inner products with v."""

    def apply(self, v: np.ndarray, dual: np.ndarray) -> np.ndarray:
        """Return ∇²f v, given v and its dual."""


def _lanczos(
    hessian: _Hessian, tolerance: float, most_products: int, rng: np.random.Generator, sign: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return Ritz value, error and residual for each point, and the number of products.

    The recurrence is not reorthogonalized: orthogonality goes only as a Ritz value converges to
    rounding (Paige), and by then it is no longer needed.
    """
    r, v = hessian.start(rng), None
    points = len(r)
    value, error, residual = (np.full(points, np.inf) for _ in range(3))
    done = np.zeros(points, dtype=bool)
    diagonal: list[np.ndarray] = []
    beside: list[np.ndarray] = []
    while True:
        dual = hessian.dual(r)
        length = np.sqrt(np.maximum(np.einsum("ij,ij->i", r, dual), 0.0))
        checks.within_range(length, "The Hessian's action")
        if diagonal:
            k = len(diagonal)
            matrix = np.zeros((points, k, k))
            matrix[:, range(k), range(k)] = np.stack(diagonal, axis=-1)
            if k > 1:
                matrix[:, range(1, k), range(k - 1)] = np.stack(beside[1:], axis=-1)
            last = k == most_products or not length.any()
            if k <= 20 or k % (k // 10) == 0 or last:
                ritz, vectors = np.linalg.eigh(matrix)
                bounds = length[:, None] * np.abs(vectors[:, -1, :])
                rho, gap = bounds[:, -1], np.zeros(points)
                if k > 1:
                    gap = ritz[:, -1] - ritz[:, -2] - bounds[:, -2]
                scale = np.abs(ritz[:, [0, -1]]).max(axis=-1)
                found = np.where(gap > rho, rho**2 / np.where(gap > rho, gap, 1.0), rho)
                value, error, residual = (
                    np.where(done, old, new)
                    for old, new in ((value, ritz[:, -1]), (error, found), (residual, rho))
                )
                done |= (found <= tolerance * scale) | (length <= 1e-14 * scale)
                if done.all() or last:
                    return sign * value, error, residual, k
        # A point that is done has nothing left to do: its vectors become zero.
        inverse = np.divide(1.0, length, out=np.zeros(points), where=~done & (length > 0))
        previous, v = v, r * inverse[:, None]
        dual *= inverse[:, None]
        r = sign * hessian.apply(v, dual)
        diagonal.append(np.einsum("ij,ij->i", r, dual))
        r -= diagonal[-1][:, None] * v
        if previous is not None:
            r -= length[:, None] * previous
        beside.append(length)


class _PlainHessian:
    """The Hessian of any objective, by its own action."""

    singular = False

    def __init__(self, objective: Objective, x: np.ndarray) -> None:
        self.objective, self.x = objective, x.reshape(-1, x.shape[-1])

    def start(self, rng: np.random.Generator) -> np.ndarray:
        """Return random vectors."""
        return rng.standard_normal(self.x.shape)

    def dual(self, v: np.ndarray) -> np.ndarray:
        """Return a copy of v: the coordinates are orthonormal."""
        return v.copy()

    def apply(self, v: np.ndarray, dual: np.ndarray) -> np.ndarray:
        """Return ∇²f v."""
        return self.objective._hessian_vector(self.x, v)


class _NetworkHessian:
    """The Hessian of the squared loss, with the passes that do not depend on v made once.

    Coordinates of v: for layer 1 the matrix C with (W_1, b_1)-part C (X, 1), if there are at most
    d inputs, and that part itself if there are more; then the other layers' (W_ℓ, b_ℓ).
    """

    def __init__(self, objective: LeastSquares, x: np.ndarray, runs: tuple[int, ...]) -> None:
        network, n = objective.network, objective.size
        X = objective.X
        if X.ndim > 2:
            X = np.broadcast_to(X, (*runs, *X.shape[-2:])).reshape(-1, *X.shape[-2:])
        w = np.broadcast_to(x, (*runs, x.shape[-1])).reshape(-1, x.shape[-1])
        y = np.broadcast_to(objective.y, (*runs, n)).reshape(-1, n)
        trace = network.propagate(w, X)
        self.points, self.scale, self.weights = len(w), 2 / n, trace.weights
        self.slopes = trace.slopes
        self.residual = self.scale * (trace.outputs - y)
        self.singular = n <= network.widths[0]
        self.gram = X @ np.swapaxes(X, -1, -2) + 1.0 if self.singular else None
        self.inputs = [self._with_one(h) for h in trace.inputs[self.singular :]]
        if self.singular:
            self.inputs.insert(0, trace.inputs[0])
        # σ″(z_ℓ) times what comes back to h_ℓ, and the signals.
        signal = self.residual[:, None]
        self.signals = [signal]
        self.bends: list[np.ndarray] = []
        for W, slope, z, activation in zip(
            trace.weights[:0:-1],
            trace.slopes[::-1],
            trace.preactivations[::-1],
            network.activations[::-1],
            strict=True,
        ):
            back = W.swapaxes(-1, -2) @ signal
            self.bends.insert(0, activation.functions[2](z) * back)
            signal = slope * back
            self.signals.insert(0, signal)
        rows = network.widths[1:]
        columns = [n if self.singular else network.widths[0] + 1]
        columns += [width + 1 for width in network.widths[1:-1]]
        self.shapes = list(zip(rows, columns, strict=True))

    @staticmethod
    def _with_one(h: np.ndarray) -> np.ndarray:
        return np.concatenate([h, np.ones((*h.shape[:-2], 1, h.shape[-1]))], axis=-2)

    def _parts(self, v: np.ndarray) -> list[np.ndarray]:
        """Return the views of v that belong to the layers."""
        parts, start = [], 0
        for rows, columns in self.shapes:
            part = v[:, start : start + rows * columns]
            parts.append(part.reshape(-1, rows, columns))
            start += rows * columns
        return parts

    def start(self, rng: np.random.Generator) -> np.ndarray:
        """Return Jᵀu for a u near (1, …, 1), close to the kernel's top, and a little of all else.

        The little is what keeps an eigenvector outside the range of Jᵀ from being missed.
        """
        n = self.residual.shape[-1]
        signal = 1 + 0.3 * rng.standard_normal((self.points, 1, n))
        noise = rng.uniform(-1.0, 1.0, (self.points, sum(r * c for r, c in self.shapes)))
        v = np.empty_like(noise)
        parts = self._parts(v)
        for index in range(len(parts) - 1, -1, -1):
            if index == 0 and self.singular:
                parts[0][...] = signal
            else:
                parts[index][...] = signal @ self.inputs[index].swapaxes(-1, -2)
            if index:
                signal = self.slopes[index - 1] * (self.weights[index].swapaxes(-1, -2) @ signal)
        noise *= 0.1 * np.sqrt(self._rough_size(v) / self._rough_size(noise))[:, None]
        v += noise
        return v

    def _rough_size(self, v: np.ndarray) -> np.ndarray:
        """Return |v|² as if XXᵀ + 11ᵀ were a multiple of the identity."""
        split = self.shapes[0][0] * self.shapes[0][1]
        first, rest = v[:, :split], v[:, split:]
        mean = 1.0
        if self.gram is not None:
            mean = np.trace(self.gram, axis1=-2, axis2=-1) / self.gram.shape[-1]
        return mean * np.einsum("ij,ij->i", first, first) + np.einsum("ij,ij->i", rest, rest)

    def dual(self, v: np.ndarray) -> np.ndarray:
        """Return v with C (XXᵀ + 11ᵀ) in place of C."""
        dual = v.copy()
        if self.gram is not None:
            self._parts(dual)[0][...] = self._parts(v)[0] @ self.gram
        return dual

    def apply(self, v: np.ndarray, dual: np.ndarray) -> np.ndarray:
        """Return ∇²S v: forward mode over the stored passes."""
        parts, result = self._parts(v), np.empty_like(v)
        z = self._parts(dual)[0] if self.singular else parts[0] @ self.inputs[0]
        moved_z, moved_h = [z], []
        for part, W, h, slope in zip(
            parts[1:], self.weights[1:], self.inputs[1:], self.slopes, strict=True
        ):
            moved_h.append(slope * moved_z[-1])
            z = part @ h
            z += W @ moved_h[-1]
            moved_z.append(z)
        signal = self.scale * moved_z.pop()
        gradients = self._parts(result)
        for index in range(len(parts) - 1, 0, -1):
            below = index - 1
            gradient = gradients[index]
            np.matmul(signal, self.inputs[index].swapaxes(-1, -2), out=gradient)
            gradient[..., :-1] += self.signals[index] @ moved_h[below].swapaxes(-1, -2)
            signal = self.weights[index].swapaxes(-1, -2) @ signal
            signal += parts[index][..., :-1].swapaxes(-1, -2) @ self.signals[index]
            signal *= self.slopes[below]
            signal += self.bends[below] * moved_z[below]
        if self.singular:
            gradients[0][...] = signal
        else:
            np.matmul(signal, self.inputs[0].swapaxes(-1, -2), out=gradients[0])
        return result
