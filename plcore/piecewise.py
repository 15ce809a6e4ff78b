"""Activations whose pieces are polynomials, as tables: value, slope, curvature, their extrema.

>>> import numpy as np
>>> from plcore.piecewise import piecewise_polynomial
>>> ramp = piecewise_polynomial([0, 1], [[0], [0, 1], [1]], "ramp")  # 0, u, 1
>>> print(ramp.value(np.array([-1.0, 0.5, 3.0])), ramp.smoothness)
[0.  0.5 1. ] 0
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.polynomial import polynomial

from . import checks
from .activations import Activation

__all__ = ["piecewise_polynomial"]

_EQUAL = 1e-12  # relative; coefficients such as 1/3 are not exact, so that pieces meet to rounding


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def piecewise_polynomial(breaks: Any, coefficients: Any, name: str | None = None) -> Activation:
    """Return the activation that is one polynomial on each interval between its breaks.

    σ(u) = Σ_k c_ik uᵏ for b_i < u ≤ b_{i+1}, with b_0 = −∞ and b_{m+1} = ∞.  The pieces have to
    meet; where σ′ or σ″ jumps, its value at the break is the left piece's, as for the ReLU.

    Parameters
    ----------
    breaks : array_like, shape (m,)
        b_1 < … < b_m; none for a polynomial.
    coefficients : sequence of m + 1 array_like
        c_i0, c_i1, … of each piece, constant term first.
    name : str, optional
        A name of its own for each function: activations are equal when their names are.  Breaks
        and coefficients if left out.

    Returns
    -------
    Activation

    Raises
    ------
    TypeError, ValueError
        If the breaks do not increase, the number of pieces does not fit, an entry is not a finite
        number, or two pieces do not meet.

    Examples
    --------
    >>> import numpy as np
    >>> from plcore.piecewise import piecewise_polynomial
    >>> cubic = piecewise_polynomial([0.0], [[0.0], [0.0, 0.0, 0.0, 1.0]])
    >>> cubic.derivative(np.array([-1.0, 2.0]))
    array([ 0., 12.])
    """
    b = checks.finite_array(breaks, "breaks", ndim=1, empty=True)
    if (np.diff(b) <= 0).any():
        raise ValueError("breaks must increase, but one is not greater than the one before it.")
    listed = checks.sequence(coefficients, "coefficients", "arrays, one for each piece")
    pieces = [checks.finite_array(piece, "each piece", ndim=1) for piece in listed]
    if len(pieces) != b.size + 1:
        raise ValueError(
            f"coefficients must hold one piece more than there are breaks, {b.size + 1}, "
            f"but hold {len(pieces)}."
        )
    smoothness = _smoothness(b, pieces)
    if smoothness < 0:
        raise ValueError("The pieces must meet at every break, but at one the value jumps.")
    if name is None:
        shown = "; ".join(" ".join(f"{c:g}" for c in piece) for piece in pieces)
        name = f"piecewise_polynomial({', '.join(f'{at:g}' for at in b)} | {shown})"
    orders = [[polynomial.polyder(piece, order) for piece in pieces] for order in range(3)]
    return Activation(
        checks.instance(name, str, "name"),
        tuple(partial(_evaluate, breaks=b, table=_table(order)) for order in orders),  # type: ignore[arg-type]
        tuple(_extrema(b, order) for order in orders),
        tuple((_limit(order[0], -1), _limit(order[-1], 1)) for order in orders),
        smoothness,
    )


def _smoothness(b: np.ndarray, pieces: list[np.ndarray]) -> float:
    """How many derivatives are continuous; −1 if not even σ, ∞ if σ is one polynomial."""
    degree = max(piece.size for piece in pieces) - 1
    for order in range(degree + 1):
        derived = [polynomial.polyder(piece, order) for piece in pieces]
        sizes = [polynomial.polyder(np.abs(piece), order) for piece in pieces]
        for at, left, right, *both in zip(
            b, derived[:-1], derived[1:], sizes[:-1], sizes[1:], strict=True
        ):
            size = sum(polynomial.polyval(abs(at), each) for each in both)
            if abs(polynomial.polyval(at, left) - polynomial.polyval(at, right)) > _EQUAL * size:
                return order - 1
    return math.inf


def _table(pieces: list[np.ndarray]) -> np.ndarray:
    """The coefficients as one matrix, a piece a row, constant terms first."""
    table = np.zeros((len(pieces), max(piece.size for piece in pieces)))
    for row, piece in zip(table, pieces, strict=True):
        row[: piece.size] = piece
    return table


@np.errstate(over="ignore")
def _evaluate(u: np.ndarray, *, breaks: np.ndarray, table: np.ndarray) -> np.ndarray:
    chosen = table[np.searchsorted(breaks, u, side="left")]  # u at a break is the left piece's
    result = chosen[..., -1] + 0.0 * u  # NaN stays NaN
    for k in range(table.shape[1] - 2, -1, -1):
        result = result * u + chosen[..., k]
    return result


def _extrema(b: np.ndarray, pieces: list[np.ndarray]) -> tuple[float, ...]:
    """Where a piece turns, and both sides of each break, where it may turn or jump."""
    found = {float(side) for at in b for side in (at, np.nextafter(at, np.inf))}
    ends = [-math.inf, *b, math.inf]
    for piece, low, high in zip(pieces, ends[:-1], ends[1:], strict=True):
        slope = np.trim_zeros(polynomial.polyder(piece), "b")
        if slope.size > 1:
            roots = polynomial.polyroots(slope)
            # A double root is found as a pair with imaginary parts of about √ε.
            real = roots.real[np.abs(roots.imag) <= 1e-6 * (1 + np.abs(roots))]
            found |= {float(at) for at in real if low < at < high}
    return tuple(sorted(found))


def _limit(piece: np.ndarray, sign: int) -> float:
    """The limit of a polynomial at ±∞."""
    piece = np.trim_zeros(piece, "b")
    if piece.size <= 1:
        return float(piece.sum())
    return math.copysign(math.inf, piece[-1] * sign ** (piece.size - 1))
