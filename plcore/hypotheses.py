"""Hypotheses that the paper's theorems make on network and data, each checked and explained.

A hypothesis is a row: its name, whether it holds, and a sentence that says what was found.  The
theorem functions show the rows, or raise the sentences of those that fail.

>>> import plcore
>>> from plcore.hypotheses import activations_increasing
>>> network = plcore.FeedForward((2, 3, 1), plcore.activations.gelu)
>>> activations_increasing(network).holds
False
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from . import checks
from .network import FeedForward
from .results import Result

__all__ = [
    "Hypotheses",
    "Hypothesis",
    "InputSpectrum",
    "activations_increasing",
    "activations_smooth",
    "input_spectrum",
    "inputs_independent",
    "one_data_set",
    "slope_range",
    "slopes_bounded",
    "zero_at_zero",
]


@dataclass(frozen=True)
class Hypothesis:
    """One hypothesis of a theorem.

    Attributes
    ----------
    name : str
        What is asked for.
    holds : bool
        Whether it holds.
    detail : str
        What was found, as a sentence.
    """

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True)
class Hypotheses(Result):
    """The hypotheses of one theorem, checked.

    Attributes
    ----------
    theorem : str
        Which theorem.
    items : tuple of Hypothesis
        One row each.
    """

    theorem: str
    items: tuple[Hypothesis, ...]

    @property
    def all_hold(self) -> bool:
        """Whether every hypothesis holds."""
        return all(item.holds for item in self.items)

    @property
    def failures(self) -> tuple[Hypothesis, ...]:
        """The hypotheses that fail."""
        return tuple(item for item in self.items if not item.holds)

    def require(self) -> None:
        """Raise a ValueError with the sentence of each hypothesis that fails."""
        if not self.all_hold:
            found = " ".join(item.detail for item in self.failures)
            name = self.theorem[:1].upper() + self.theorem[1:]
            raise ValueError(f"{name} does not apply. {found}")

    def _title(self) -> str:
        return f"Hypotheses of {self.theorem}"

    def _rows(self) -> Iterator[tuple[str, str]]:
        for item in self.items:
            yield item.name, f"{'holds' if item.holds else 'FAILS'}: {item.detail}"


@dataclass(frozen=True)
class InputSpectrum(Result):
    """Singular values and numerical rank of X, eigenvalues of its Gram matrix (1/n) X Xᵀ.

    Attributes
    ----------
    least_singular, greatest_singular : float
        √(nλ) and √(nΛ); `least_singular` is 0 if the rank is below n.
    rank, samples, dimension : int
        Numerical rank of X, n and d.
    """

    least_singular: float
    greatest_singular: float
    rank: int
    samples: int
    dimension: int

    @property
    def roots(self) -> tuple[float, float]:
        """√λ and √Λ, which neither underflow nor overflow where their squares do."""
        root = math.sqrt(self.samples)
        return self.least_singular / root, self.greatest_singular / root

    @property
    def least(self) -> float:
        """Least eigenvalue λ of (1/n) X Xᵀ; 0 if the rank is below n."""
        return self.least_singular * self.least_singular / self.samples

    @property
    def greatest(self) -> float:
        """Greatest eigenvalue Λ of (1/n) X Xᵀ."""
        return self.greatest_singular * self.greatest_singular / self.samples


def input_spectrum(X: np.ndarray) -> InputSpectrum:
    """Return the extreme singular values and the rank of X.

    A singular value counts as zero below max(n, d) · 2⁻⁵² times the greatest.

    Parameters
    ----------
    X : array_like, shape (n, d)

    Returns
    -------
    InputSpectrum

    Raises
    ------
    TypeError, ValueError
        If `X` is not a matrix of finite numbers.

    Examples
    --------
    >>> from plcore.hypotheses import input_spectrum
    >>> input_spectrum([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]).rank
    2
    """
    X = checks.finite_array(X, "X", ndim=2)
    samples, dimension = X.shape
    singular = np.linalg.svd(X, compute_uv=False)
    rank = int((singular > max(X.shape) * np.finfo(np.float64).eps * singular[0]).sum())
    least = float(singular[-1]) if rank == samples else 0.0
    return InputSpectrum(least, float(singular[0]), rank, samples, dimension)


def one_data_set(
    network: FeedForward, X: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return checked inputs (n, d) and targets (n,) that belong together.

    For other modules of the package.
    """
    checks.instance(network, FeedForward, "network")
    X = network.check_inputs(checks.finite_array(X, "X", ndim=2))
    y = checks.finite_array(y, "y", ndim=1)
    if len(y) != len(X):
        raise ValueError(
            f"X and y must have the same number of samples, but X has {len(X)} rows and y has "
            f"{len(y)} entries."
        )
    return X, y


def inputs_independent(spectrum: InputSpectrum) -> Hypothesis:
    """Check that the inputs are linearly independent (so that n ≤ d and λ > 0)."""
    name = "inputs linearly independent"
    n, d = spectrum.samples, spectrum.dimension
    if n > d:
        detail = (
            f"The n = {n} inputs must be linearly independent, which n > d = {d} rules out; take "
            "fewer samples or more features."
        )
    elif spectrum.rank < n:
        detail = (
            f"The n = {n} inputs must be linearly independent, but X has numerical rank "
            f"{spectrum.rank}, so that λ = 0 up to rounding."
        )
    else:
        detail = f"X has rank n = {n} in dimension d = {d}, and λ = {spectrum.least:.4g}."
    return Hypothesis(name, n <= d and spectrum.rank == n, detail)


def _listed(network: FeedForward) -> str:
    return ", ".join(dict.fromkeys(activation.name for activation in network.activations))


def activations_smooth(network: FeedForward) -> Hypothesis:
    """Check that every activation has two continuous derivatives."""
    rough = [one for one in network.activations if one.smoothness < 2]
    detail = f"{_listed(network)}: at least two continuous derivatives."
    if rough:
        detail = (
            f"The activations must have two continuous derivatives, but {rough[0].name} has "
            f"{rough[0].smoothness:g}."
        )
    return Hypothesis("activations twice continuously differentiable", not rough, detail)


def activations_increasing(network: FeedForward) -> Hypothesis:
    """Check that σ′ > 0 everywhere for every activation."""
    bad = [one for one in network.activations if not one.strictly_increasing]
    detail = f"{_listed(network)}: slope positive everywhere."
    if bad:
        detail = (
            f"The activations must have positive slope everywhere, but that of {bad[0].name} "
            f"falls to {float(bad[0].range(1, -math.inf, math.inf)[0]):.4g}."
        )
    return Hypothesis("activations strictly increasing", not bad, detail)


def zero_at_zero(network: FeedForward) -> Hypothesis:
    """Check that σ(0) = 0 for every activation; offer the shift of Remark 2.5 where it fails."""
    bad = [one for one in network.activations if one.at_zero != 0]
    detail = f"{_listed(network)}: zero at zero."
    if bad:
        detail = (
            f"The activations must vanish at zero, but {bad[0].name} has σ(0) = "
            f"{bad[0].at_zero:.4g}; take its .shifted(), or let the last bias cancel the constant "
            "output, as initialization.positive does (Remark 2.5)."
        )
    return Hypothesis("activations zero at zero", not bad, detail)


def slope_range(network: FeedForward) -> tuple[float, float]:
    """Return c₁ = inf σ_ℓ′ and c₂ = sup σ_ℓ′ over the whole line and all layers."""
    ends = [one.range(1, -math.inf, math.inf) for one in network.activations]
    return float(min(low for low, _ in ends)), float(max(high for _, high in ends))


def slopes_bounded(network: FeedForward) -> Hypothesis:
    """Check that 0 < c₁ ≤ σ_ℓ′ ≤ c₂ everywhere, as Theorem 2.8 asks."""
    least, greatest = slope_range(network)
    holds = least > 0 and math.isfinite(greatest)
    detail = f"slopes between c₁ = {least:.4g} and c₂ = {greatest:.4g}."
    if not holds:
        detail = (
            "The slopes must stay between two positive constants, but those of "
            f"{_listed(network)} range from {least:.4g} to {greatest:.4g}."
        )
    return Hypothesis("slopes bounded away from 0 and ∞", holds, detail)
