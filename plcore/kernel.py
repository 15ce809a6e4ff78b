"""The empirical tangent kernel K(w) = J Jᵀ of a feedforward network, and bounds on it.

K is a sum over layers of Hadamard products of n × n Gram matrices (T4), so the n × p Jacobian is
never formed: the cost is n² Σ d_ℓ and the memory n² + n Σ d_ℓ for each run.

>>> import numpy as np, plcore
>>> from plcore import kernel
>>> network = plcore.FeedForward((3, 4, 1), plcore.activations.tanh)
>>> X = np.eye(3)
>>> w = plcore.initialization.lecun(network, np.random.default_rng(0))
>>> exact = kernel.least_eigenvalue(kernel.tangent_kernel(network, w, X))
>>> paper = kernel.paper_lower_bound(network, w, X)
>>> schur = kernel.schur_lower_bound(network, w, X)
>>> print(f"{paper:.2f} <= {schur:.2f} <= {exact:.2f}")
0.19 <= 0.21 <= 0.40
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import linalg

from . import checks
from .network import FeedForward

__all__ = [
    "extreme_eigenvalues",
    "kernel_by_layer",
    "least_eigenvalue",
    "paper_lower_bound",
    "schur_lower_bound",
    "tangent_kernel",
    "trusted_kernel",
]

_BLOCK_BYTES = 2**21  # memory of the runs taken together: about a second-level cache


def _gram(columns: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    rows = np.swapaxes(columns, -1, -2)
    if columns.shape[-1] <= 64:  # NumPy would see a symmetric product, slower where it is small
        rows = rows.copy()
    return np.matmul(rows, columns, out=out)


def _gram_and_one(columns: np.ndarray) -> np.ndarray:
    gram = _gram(columns)
    gram += 1.0
    return gram


@np.errstate(over="ignore", invalid="ignore")
def tangent_kernel(network: FeedForward, w: Any, X: Any) -> np.ndarray:
    """Return K(w) with K_ij = ∇f(x_i, w)·∇f(x_j, w).

    By (T4), K_ij = Σ_ℓ (g_ℓ(x_i)·g_ℓ(x_j)) (h_{ℓ−1}(x_i)·h_{ℓ−1}(x_j) + 1).

    Parameters
    ----------
    network : FeedForward
    w : array_like, shape (..., p)
        Parameters; leading axes are independent runs.
    X : array_like, shape (..., n, d_0)
        Inputs, one a row.

    Returns
    -------
    numpy.ndarray, shape (..., n, n)

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong type or shape, or an entry that is not finite.
    OverflowError
        If an entry of K is too big for float64.

    References
    ----------
    Jacot, Gabriel and Hongler (2018); Section 1.3 of the paper.
    """
    checks.instance(network, FeedForward, "network")
    K = trusted_kernel(network, *network.check_pair(w, X))
    return checks.within_range(K, "The kernel")


def trusted_kernel(network: FeedForward, w: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Return K(w), shape ``(..., n, n)``, for arguments that have been checked.

    For other modules of the package.
    """
    runs, n, shared = np.broadcast_shapes(w.shape[:-1], X.shape[:-2]), X.shape[-2], X.ndim == 2
    checks.room((*runs, n, n), "The kernel")
    K = np.empty((*runs, n, n))
    stack = runs or (1,)
    w = np.broadcast_to(w, (*stack, w.shape[-1]))
    inputs = X if shared else np.broadcast_to(X, (*stack, *X.shape[-2:]))
    inputs_gram = _gram_and_one(X.T) if shared else None
    each = K.reshape(-1, n, n)
    most = max(1, _BLOCK_BYTES // (8 * n * (3 * n + 5 * sum(network.widths[1:]))))
    for start in range(0, len(each), most):
        part = each[start : start + most]
        place: Any = slice(start, start + most)
        if len(stack) > 1:
            place = np.unravel_index(np.arange(start, start + len(part)), stack)
        _write_kernel(network, w[place], X if shared else inputs[place], inputs_gram, part)
    return K


def _write_kernel(
    network: FeedForward, w: np.ndarray, X: np.ndarray, inputs_gram: np.ndarray | None, K: Any
) -> None:
    """Sum (T4) up in `K`."""
    trace = network.propagate(w, X)
    *signals, _ = network.signals(trace)
    *inputs, h = trace.inputs
    _gram(h, K)
    K += 1.0  # the last signal is 1
    product = np.empty_like(K)
    for signal, h in zip(signals, inputs, strict=True):
        _gram(signal, product)
        gram, inputs_gram = inputs_gram, None
        product *= _gram_and_one(h) if gram is None else gram
        K += product


@np.errstate(over="ignore", invalid="ignore")
def kernel_by_layer(network: FeedForward, w: Any, X: Any) -> np.ndarray:
    """Return the summands of (T4), shape ``(L, 2, ..., n, n)``: for each layer weights and biases.

    Their sum over the first two axes is `tangent_kernel`; arguments and errors are the same.
    """
    checks.instance(network, FeedForward, "network")
    w, X = network.check_pair(w, X)
    runs, n = np.broadcast_shapes(w.shape[:-1], X.shape[:-2]), X.shape[-2]
    checks.room((2 * network.depth, *runs, n, n), "The kernel's summands")
    trace = network.propagate(w, X)
    blocks = []
    for signal, h in zip(network.signals(trace), trace.inputs, strict=True):
        biases = _gram(signal)
        blocks.append((biases * _gram(h), biases))
    batch = np.broadcast_shapes(*(part.shape for pair in blocks for part in pair))
    summands = np.array([[np.broadcast_to(part, batch) for part in pair] for pair in blocks])
    return checks.within_range(summands, "The kernel")


def least_eigenvalue(K: Any) -> np.ndarray:
    """Return the least eigenvalue of each symmetric matrix in a stack.

    Parameters
    ----------
    K : array_like, shape (..., n, n)
        Symmetric matrices; the lower triangle is read.

    Returns
    -------
    numpy.ndarray, shape (...)

    Raises
    ------
    TypeError, ValueError
        If `K` is not a stack of finite square matrices.
    """
    K = _square(K)
    if K.shape[-1] <= 64:
        return np.linalg.eigvalsh(K)[..., 0]
    flat = K.reshape(-1, *K.shape[-2:])
    values = [linalg.eigh(one, eigvals_only=True, subset_by_index=[0, 0])[0] for one in flat]
    return np.array(values).reshape(K.shape[:-2])


def extreme_eigenvalues(K: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the greatest eigenvalue of each symmetric matrix in a stack.

    Parameters and errors are those of `least_eigenvalue`.
    """
    values = np.linalg.eigvalsh(_square(K))
    return values[..., 0], values[..., -1]


def _square(K: Any) -> np.ndarray:
    K = checks.finite_array(K, "K", least_ndim=2)
    if K.shape[-1] != K.shape[-2]:
        raise ValueError(f"K must be square on its last two axes, but has shape {K.shape}.")
    return K


@np.errstate(over="ignore", invalid="ignore")
def paper_lower_bound(network: FeedForward, w: Any, X: Any) -> np.ndarray:
    """Return the paper's lower bound on λ_min(K(w)).

    λ_min(K(w)) ≥ Σ_k min_i q_k(x_i, w)² · nλ, with q = g_1 of (A.6) and λ = λ_min(X Xᵀ/n).  It
    keeps the entries of W_1 alone, and is positive only if the inputs are linearly independent.

    Parameters, shapes and errors are those of `tangent_kernel`; the result has shape ``(...)``.

    References
    ----------
    (A.8) of the paper.
    """
    q, floor = _first_signals_and_floor(network, w, X, 0.0)
    return checks.within_range(np.square(q).min(axis=-1).sum(axis=-1) * floor, "(A.8)")


@np.errstate(over="ignore", invalid="ignore")
def schur_lower_bound(network: FeedForward, w: Any, X: Any) -> np.ndarray:
    """Return the sharper lower bound μ · min_i |q(x_i, w)|² on λ_min(K(w)), μ = λ_min(XXᵀ + 11ᵀ).

    By Schur, λ_min(A∘B) ≥ λ_min(A) min_i B_ii for positive semidefinite A and B; it is applied to
    the block of W_1 and b_1.  It is ours, never below (A.8), and positive for n up to d + 1.

    Parameters, shapes and errors are those of `tangent_kernel`; the result has shape ``(...)``.

    References
    ----------
    Schur (1911); (T5) in the book's chapter on the kernel's lower bound.
    """
    q, floor = _first_signals_and_floor(network, w, X, 1.0)
    return checks.within_range(np.square(q).sum(axis=-2).min(axis=-1) * floor, "(T5)")


def _first_signals_and_floor(
    network: FeedForward, w: Any, X: Any, constant: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the paper's q, shape ``(..., d_1, n)``, and λ_min(X Xᵀ + constant · 11ᵀ)."""
    checks.instance(network, FeedForward, "network")
    w, X = network.check_pair(w, X)
    trace = network.propagate(w, X)
    checks.within_range(trace.outputs, "The output")
    q = network.signals(trace)[0]
    if X.shape[-2] > X.shape[-1] + (constant > 0):
        return q, np.zeros(X.shape[:-2])  # singular, whatever rounding says
    gram = checks.within_range(X @ np.swapaxes(X, -1, -2) + constant, "X Xᵀ")
    return q, np.maximum(least_eigenvalue(gram), 0.0)
