"""Ball arithmetic on arrays: real numbers enclosed, whatever is computed from them too.

A ball is an `arb` of python-flint: a midpoint and a radius.  An operation on balls gives a ball
that contains the result for every choice of real numbers in its operands, so that a comparison of
balls that comes out true is a proof.  One that comes out false is none: the balls may overlap.

An array of balls is a NumPy array of objects, on which NumPy's operators, broadcasting and sums
work as ever; what needs a rule of its own stands here.

>>> from plcore.balls import balls, definiteness, working_precision
>>> with working_precision(96):
...     print(definiteness(balls([[2.0, 1.0], [1.0, 1.0]])))
1
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import flint
import numpy as np
from flint import arb, arb_mat

__all__ = [
    "ball",
    "balls",
    "definiteness",
    "greater",
    "greatest",
    "greatest_eigenvalue_bound",
    "least",
    "lesser",
    "matrix",
    "middles",
    "norm",
    "product",
    "root",
    "spectral_norm_bound",
    "working_precision",
]

_TRIES = 12

_ball = np.frompyfunc(arb, 1, 1)
_middle = np.frompyfunc(float, 1, 1)

_root = np.frompyfunc(lambda x: x.nonnegative_part().sqrt(), 1, 1)
_lesser = np.frompyfunc(lambda x, y: x.min(y), 2, 1)
_greater = np.frompyfunc(lambda x, y: x.max(y), 2, 1)


@contextmanager
def working_precision(bits: int) -> Iterator[None]:
    """Context manager: inside it balls have midpoints of `bits` bits; afterwards, as before."""
    before = flint.ctx.prec
    flint.ctx.prec = bits
    try:
        yield
    finally:
        flint.ctx.prec = before


def ball(value: Any) -> Any:
    """Return a number as a ball of radius zero; a float is taken as exactly what it is."""
    return arb(value)


def balls(array: Any) -> np.ndarray:
    """Return float64 numbers as an array of balls of radius zero."""
    # As Python floats: arb takes them exactly, whatever the working precision.
    return np.asarray(_ball(np.asarray(array, dtype=np.float64).astype(object)), dtype=object)


def root(x: Any) -> Any:
    """Return √x, entry by entry, of numbers known not to be negative, whatever their balls say."""
    return _root(x)


def lesser(x: Any, y: Any) -> Any:
    """Return the lesser of two numbers, entry by entry, broadcast against each other."""
    return _lesser(x, y)


def greater(x: Any, y: Any) -> Any:
    """Return the greater of two numbers, entry by entry, broadcast against each other."""
    return _greater(x, y)


def matrix(a: np.ndarray) -> Any:
    """Return a matrix of balls in python-flint's own form: `product` need not convert it again."""
    return arb_mat(a.tolist())


def product(a: Any, b: Any) -> np.ndarray:
    """Return the matrix product of two matrices of balls."""
    a, b = (part if isinstance(part, arb_mat) else matrix(part) for part in (a, b))
    return np.array((a * b).tolist(), dtype=object)


def norm(a: np.ndarray, axis: int | None = None) -> Any:
    """Return the Euclidean norm of the vectors along an axis, or of all entries together."""
    return root((a * a).sum(axis=axis))


def greatest(a: np.ndarray, axis: int | None = None) -> Any:
    """Return the greatest entry along an axis, or of all."""
    return _greater.reduce(a.ravel() if axis is None else a, axis=axis or 0)


def least(a: np.ndarray, axis: int | None = None) -> Any:
    """Return the least entry along an axis, or of all."""
    return _lesser.reduce(a.ravel() if axis is None else a, axis=axis or 0)


def middles(a: np.ndarray) -> np.ndarray:
    """Return the midpoints as float64, to guess from: they prove nothing."""
    return np.asarray(_middle(a), dtype=np.float64)


def definiteness(a: np.ndarray) -> np.ndarray:
    """Decide whether symmetric matrices are positive definite, by elimination in balls.

    Statement.  A symmetric matrix is positive definite if and only if all pivots of Gaussian
    elimination without exchange are positive (A = LDLᵀ with D > 0).

    Parameters
    ----------
    a : numpy.ndarray of balls, shape (..., n, n)

    Returns
    -------
    numpy.ndarray of int, shape (...)
        1 if every matrix in the balls is positive definite, −1 if none is, 0 if undecided, which a
        higher precision may change.
    """
    a = a.copy()
    positive = np.ones(a.shape[:-2], dtype=bool)
    refuted = np.zeros(a.shape[:-2], dtype=bool)
    for k in range(a.shape[-1]):
        pivot = a[..., k, k]
        refuted |= positive & (pivot <= 0).astype(bool)
        positive &= (pivot > 0).astype(bool)
        if not positive.any():
            break
        rest = a[..., k, k + 1 :]
        column = a[..., k + 1 :, k] / pivot[..., None]
        a[..., k + 1 :, k + 1 :] -= column[..., :, None] * rest[..., None, :]
    return positive.astype(int) - refuted


def greatest_eigenvalue_bound(a: np.ndarray) -> np.ndarray:
    """Return upper bounds on the greatest eigenvalues of symmetric positive semidefinite matrices.

    Guessed in floating point, raised by a factor 1 + 2⁻⁴⁰ or more, and proved by `definiteness` of
    tI − A; where that fails, the Frobenius norm stands in.

    Parameters
    ----------
    a : numpy.ndarray of balls, shape (..., n, n)

    Returns
    -------
    numpy.ndarray of balls, shape (...)
    """
    bound = np.asarray(root((a * a).sum(axis=(-1, -2))), dtype=object)
    guess = middles(a)
    if not np.isfinite(guess).all():
        return bound
    top = np.linalg.eigvalsh(guess)[..., -1]
    proved = np.zeros(top.shape, dtype=bool)
    unit = balls(np.eye(a.shape[-1]))
    for attempt in range(_TRIES):
        limit = balls(top * (1 + 2.0 ** (3 * attempt - 40)))
        shown = ~proved & (definiteness(limit[..., None, None] * unit - a) > 0)
        bound = np.where(shown, limit, bound)
        proved |= shown
        if proved.all():
            break
    return bound


def spectral_norm_bound(a: np.ndarray) -> Any:
    """Return an upper bound on a matrix of balls in spectral norm, by its smaller Gram matrix."""
    turned = a.T
    gram = product(a, turned) if a.shape[0] <= a.shape[1] else product(turned, a)
    return root(greatest_eigenvalue_bound(gram)[()])
