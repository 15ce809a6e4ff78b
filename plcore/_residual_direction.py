"""How small |X̃ᵀe|²/|e|² can be for residuals e that start at −y and have not moved far.

X̃ = [X, 1] and P = X̃ X̃ᵀ.  Far from −y the answer is the least eigenvalue of P; at −y itself it is
yᵀPy/|y|², often ten times as large.  In between the S-lemma answers, one inequality for each
candidate value, and every answer is a proof whatever multipliers it was found with.
"""

from __future__ import annotations

import math

import numpy as np

from . import checks

__all__ = ["ResidualDirection"]

_REACH = np.geomspace(0.02, 30.0, 56)  # ρ √λ̄ / |y|
_NOISE = np.geomspace(1e-5, 10.0, 32)  # squared, in units of |y|²
_MULTIPLIERS = np.geomspace(1e-3, 1.0, 12)  # τ in units of yᵀPy/|y|²
_WEIGHTS = (0.25, 1.0, 4.0)  # pρ/Δ
_SPREADS = (0.3, 1.5, 6.0, 24.0)  # η/(ε|y|)²
_BISECTIONS = 26


class ResidualDirection:
    """Lower bounds on |X̃ᵀe|²/|e|² over sets of residuals, for one data set.

    Let e = −y + X̃c + a + d with |c| ≤ ρ, |a| ≤ Δ and |d| ≤ ε|e|.  For every p, η, τ > 0 and κ′,
    with m_i = (1+p)ρ²λ_i + (1+1/p)Δ² + η in the eigenbasis of P, the inequality
    Σ ŷ_i² (λ_i−κ′)/(m_i (λ_i−κ′) + τ) ≥ 1 with positive denominators proves
    |X̃ᵀe|² ≥ (κ′ − ε²τ/η)|e|².  A table of the greatest κ′ over (1+p)ρ², the rest of m and τ is
    made once; it is read at the next entry up, which is safe as κ′ falls in both.  The answers
    fall as ρ, Δ and ε grow, exactly: so does everything looked up, and ε²τ/η depends on none.

    Parameters
    ----------
    X : numpy.ndarray, shape (n, d)
    y : numpy.ndarray, shape (n,)

    Attributes
    ----------
    least, greatest : float
        Bounds on the extreme eigenvalues of P, from below and from above.
    together : float
        An upper bound, at most 1, on μ λ_max(P∘P⁻¹)/max_i P_ii, with μ = `least`.
    """

    def __init__(self, X: np.ndarray, y: np.ndarray) -> None:
        """Find the eigenbasis of P."""
        with np.errstate(over="ignore", invalid="ignore"):
            P = checks.within_range(X @ X.T + 1.0, "X Xᵀ")
        values, vectors = np.linalg.eigh(P)
        # What forming P and its eigendecomposition can be off by, with room to spare.
        slack = 64 * (len(y) + X.shape[1]) * np.finfo(float).eps * float(values[-1])
        self._low = np.maximum(values - slack, 0.0)
        self._high = values + slack
        size = math.hypot(*y)  # also where the squares underflow
        self._size = size
        self._share = np.square(vectors.T @ y / size) if size > 0 else np.zeros(len(y))
        if len(y) > X.shape[1] + 1:
            self._low[: len(y) - X.shape[1] - 1] = 0.0  # singular, whatever rounding says
        self.least, self.greatest = float(self._low[0]), float(self._high[-1])
        self.together = 1.0
        if self.least > 0:
            inverse = (vectors / values) @ vectors.T
            # ‖P∘δ‖ ≤ max P_ii ‖δ‖ for what the inverse is off by.
            wrong = (slack / self.least + 1e-12) / self.least
            product = float(np.linalg.eigvalsh(P * inverse)[-1]) / float(np.diag(P).max())
            self.together = min(1.0, self.least * (product + wrong) * (1 + 1e-10))
        self._scale = float(np.exp(np.log(self._high[self._high > 1e-9 * self.greatest]).mean()))
        self._table: np.ndarray | None = None

    def _fill(self) -> np.ndarray:
        """Return the greatest κ′ found for each (ρ, noise, τ), by bisection; λ_1 where none."""
        low, high, share = self._low, self._high, self._share
        top = float(share @ low)
        reach = np.square(_REACH)[:, None, None] / self._scale
        noise, tau = _NOISE[None, :, None], (_MULTIPLIERS * top)[None, None, :]
        m = reach[..., None] * high + noise[..., None]
        below = np.full(m.shape[:-1], self.least)
        below = np.broadcast_to(below, np.broadcast_shapes(below.shape, tau.shape)).copy()
        above = np.full(below.shape, top)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (below + above)
            gap = low - middle[..., None]
            bottom = m * gap + tau[..., None]
            with np.errstate(divide="ignore", invalid="ignore"):
                total = (share * gap / bottom).sum(axis=-1)
            proved = (bottom > 0).all(axis=-1) & (total >= 1 + 1e-9)
            below, above = np.where(proved, middle, below), np.where(proved, above, middle)
        # What is proved for a larger set holds for a smaller one, however the bisection went.
        for axis in (0, 1):
            below = np.flip(np.maximum.accumulate(np.flip(below, axis), axis), axis)
        return below

    def least_ratio(self, reach: np.ndarray, shift: np.ndarray, part: np.ndarray) -> np.ndarray:
        """Return proved lower bounds κ on |X̃ᵀe|²/|e|², for arrays of ρ, Δ and ε.

        Parameters
        ----------
        reach, shift, part : numpy.ndarray, shape (...)
            ρ ≥ 0, Δ ≥ 0 and ε ≥ 0.
        """
        reach, shift, part = np.broadcast_arrays(reach, shift, part)
        best = np.full(reach.shape, self.least)
        if self._size == 0:
            return best
        # Only the points where something can be gained.
        near = reach * np.sqrt(self._scale) < _REACH[-1] * self._size
        near &= (shift < 3 * self._size) & (part < 2)
        if not near.any():
            return best
        if self._table is None:
            self._table = self._fill()
        rho = reach[near] * (np.sqrt(self._scale) / self._size) + 1e-12
        delta = shift[near] / self._size + 1e-12
        epsilon = part[near] + 1e-9
        found = np.full(rho.shape, self.least)
        tau = _MULTIPLIERS * float(self._share @ self._low)
        for weight in _WEIGHTS:
            # p = weight·Δ/ρ; what is looked up grows with ρ, Δ and ε, what is lost is fixed.
            row = np.searchsorted(_REACH, np.sqrt(rho * (rho + weight * delta)))
            for spread in _SPREADS:
                noise = delta * (delta + rho / weight) + spread * np.square(epsilon)
                column = np.searchsorted(_NOISE, noise)
                inside = (row < len(_REACH)) & (column < len(_NOISE))
                kept = self._table[row[inside], column[inside]]
                found[inside] = np.maximum(found[inside], (kept - tau / spread).max(axis=-1))
        best[near] = found
        return best
