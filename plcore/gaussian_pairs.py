"""Expectations of products under centred Gaussian pairs, with an estimate of the error.

For an activation σ and (u, v) ~ N(0, [[a, c], [c, b]]) this is E[σ(u)σ(v)], or the same with σ′:
what the infinite-width limits of networks are made of.

Smooth activations are integrated by the trapezoidal rule, which converges exponentially for what
is analytic in a strip (Trefethen and Weideman 2014).  Where σ or a derivative jumps at zero, the
plane is cut along u = 0 and v = 0, and each sector gets Gauss rules in polar coordinates.

>>> from plcore import activations
>>> from plcore.gaussian_pairs import gaussian_product
>>> value, error = gaussian_product(activations.tanh, 0, 1.0, 1.0, [0.2, 0.5, 1.0])
>>> print(value.round(4), bool(error.max() < 1e-12))
[0.0736 0.1863 0.3943] True
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import checks
from .activations import Activation
from .results import Estimate

__all__ = [
    "Rule",
    "gaussian_product",
    "moment",
    "normalization",
    "normalizer",
    "product",
    "refined",
]

_REACH = 9.0  # the Gaussian beyond it weighs below 1e-17
_LEVELS = (2, 3, 4, 6, 8, 12, 16)  # nodes to a unit of length; 4 times as many to a sector
_BLOCK = 2**18  # function values held at a time
_ULPS = 4 * np.finfo(np.float64).eps  # rounding of a correlation


class Rule(NamedTuple):
    """How fine a quadrature is.  For other modules of the package.

    Attributes
    ----------
    level : int
        Nodes to a unit of length.
    moved : bool
        Whether correlations are moved by a few units in the last place.
    """

    level: int
    moved: bool


def _line(activation: Activation, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights for the standard normal law on the line."""
    if activation.smoothness == math.inf:
        count = math.ceil(_REACH * rule.level)
        nodes = np.arange(-count, count + 1) / rule.level
        weights = np.exp(-0.5 * nodes * nodes) / (rule.level * math.sqrt(2 * math.pi))
        return nodes, weights
    half, weights = _radius(rule)
    weights = weights / (half * math.sqrt(2 * math.pi))  # r e^{−r²/2} dr, without the r
    return np.concatenate([-half[::-1], half]), np.concatenate([weights[::-1], weights])


def _radius(rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """Return Gauss–Legendre nodes on (0, 9] and weights for r e^{−r²/2} dr."""
    nodes, weights = np.polynomial.legendre.leggauss(12 * rule.level)
    radii = 0.5 * _REACH * (nodes + 1)
    return radii, 0.5 * _REACH * weights * radii * np.exp(-0.5 * radii * radii)


def moment(
    activation: Activation, order: int, power: int, variance: np.ndarray, rule: Rule
) -> np.ndarray:
    """Return E σ⁽ᵏ⁾(u)^power for u ~ N(0, variance), entry by entry, with k = `order`.

    For other modules of the package: the arguments are not checked.
    """
    nodes, weights = _line(activation, rule)
    values = activation.functions[order](np.sqrt(variance)[..., None] * nodes)
    return values**power @ weights


def product(
    activation: Activation,
    order: int,
    first: np.ndarray,
    second: np.ndarray,
    covariance: np.ndarray,
    rule: Rule,
) -> np.ndarray:
    """Return E[σ⁽ᵏ⁾(u) σ⁽ᵏ⁾(v)] for (u, v) ~ N(0, [[first, c], [c, second]]), k = `order`.

    For other modules of the package: vectors, one entry for each pair, that are not checked.
    """
    function = activation.functions[order]
    u, v = np.sqrt(first), np.sqrt(second)
    scale = u * v
    rho = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)
    rho = np.clip(rho, -1.0, 1.0) * (1 - _ULPS * rule.moved)
    each = _on_grid if activation.smoothness == math.inf else _on_sectors
    nodes = (2 * _REACH * rule.level) ** 2 if each is _on_grid else 192 * rule.level**2
    size = max(1, int(_BLOCK / nodes))
    parts = [
        each(activation, function, u[k : k + size], v[k : k + size], rho[k : k + size], rule)
        for k in range(0, len(rho), size)
    ]
    return np.concatenate([np.zeros(0), *parts])


Function = Callable[[Any], Any]


def _on_grid(
    activation: Activation,
    function: Function,
    u: np.ndarray,
    v: np.ndarray,
    rho: np.ndarray,
    rule: Rule,
) -> np.ndarray:
    """Trapezoidal rule in independent coordinates: v = √second (ρ g₁ + √(1−ρ²) g₂)."""
    nodes, weights = _line(activation, rule)
    across = np.sqrt((1 - rho) * (1 + rho))
    points = rho[:, None, None] * nodes[:, None] + across[:, None, None] * nodes
    inner = function(v[:, None, None] * points) @ weights
    return np.einsum("ka,ka,a->k", function(u[:, None] * nodes), inner, weights)


def _on_sectors(
    activation: Activation,
    function: Function,
    u: np.ndarray,
    v: np.ndarray,
    rho: np.ndarray,
    rule: Rule,
) -> np.ndarray:
    """Gauss rules on the four sectors between the lines u = 0 and v = 0, in polar coordinates."""
    radii, radial = _radius(rule)
    nodes, weights = np.polynomial.legendre.leggauss(4 * rule.level)
    angle = np.arccos(rho)[:, None]
    total = np.zeros(len(rho))
    for turn, shift in ((-0.5, 0.0), (0.0, math.pi / 2), (0.5, 0.0), (1.0, math.pi / 2)):
        # Sectors [−π/2, θ−π/2], [θ−π/2, π/2], and the two opposite ones.
        narrow = shift == 0.0
        start = turn * math.pi if narrow else angle + (turn - 0.5) * math.pi
        length = angle if narrow else math.pi - angle
        theta = start + 0.5 * length * (nodes + 1)
        along_u = (u[:, None] * np.cos(theta))[..., None] * radii
        along_v = (v[:, None] * np.cos(theta - angle))[..., None] * radii
        inner = (function(along_u) * function(along_v)) @ radial
        total += 0.5 * length[:, 0] * (inner @ weights)
    return total / (2 * math.pi)


def normalizer(activation: Activation, rule: Rule) -> float:
    """Return c_σ at one resolution; see `normalization`.  For other modules of the package."""
    square = float(moment(activation, 0, 2, np.ones(1), rule)[0])
    if not 0 < square < math.inf:
        raise ValueError(
            "The activation must have a positive finite second moment under N(0, 1), but that of "
            f"{activation.name} is {square:.4g}."
        )
    return 1 / square


def normalization(activation: Activation) -> Estimate:
    """Return c_σ = 1/E σ(g)², g standard normal, which keeps |h_ℓ| = 1 in the limit.

    Raises
    ------
    TypeError
        If `activation` is not an `Activation`.
    ValueError
        If σ vanishes almost everywhere.

    Examples
    --------
    >>> from plcore import activations
    >>> from plcore.gaussian_pairs import normalization
    >>> round(float(normalization(activations.relu)), 12)
    2.0
    """
    checks.instance(activation, Activation, "activation")
    value = normalizer(activation, Rule(_LEVELS[-1], False))
    return Estimate(value, "c_σ = 1/E σ(g)²", "quadrature")


def gaussian_product(
    activation: Activation, order: int, first: Any, second: Any, covariance: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return E[σ⁽ᵏ⁾(u) σ⁽ᵏ⁾(v)] for centred Gaussian pairs, and an estimate of its error.

    Parameters
    ----------
    activation : Activation
        What is not smooth is taken to have its kinks at zero, like all of `plcore.activations`.
    order : {0, 1}
        k: the activation itself or its slope.
    first, second, covariance : array_like
        Var u, Var v and Cov(u, v), broadcast against each other.

    Returns
    -------
    values, errors : numpy.ndarray
        `errors` compares two resolutions, the coarser with its correlations moved by a relative
        4 · 2⁻⁵²: quadrature and rounding together.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape, or a pair is no covariance.

    Examples
    --------
    The slopes of the ReLU at a right angle: both are one in a quarter of the plane.

    >>> from plcore import activations
    >>> from plcore.gaussian_pairs import gaussian_product
    >>> value, error = gaussian_product(activations.relu, 1, 1.0, 1.0, 0.0)
    >>> round(float(value), 12), bool(error < 1e-12)
    (0.25, True)
    """
    checks.instance(activation, Activation, "activation")
    order = checks.positive_integer(order, "order", least=0)
    if order > 1:
        raise ValueError(f"order must be 0 or 1, but is {order}.")
    given = {
        name: checks.finite_array(value, name)
        for name, value in (("first", first), ("second", second), ("covariance", covariance))
    }
    shape = checks.common_shape(**{name: value.shape for name, value in given.items()})
    one, two, c = (np.broadcast_to(value, shape).ravel() for value in given.values())
    if (one < 0).any() or (two < 0).any():
        least = min(one.min(), two.min())
        raise ValueError(f"The variances must not be negative, but the least is {least:.4g}.")
    excess = np.abs(c) - np.sqrt(one) * np.sqrt(two) * (1 + 2 * _ULPS)
    if (excess > 0).any():
        k = int(np.argmax(excess))
        raise ValueError(
            "The covariance must be at most √(first·second) in absolute value, but is "
            f"{c[k]:.6g} for variances {one[k]:.6g} and {two[k]:.6g}."
        )

    def run(rule: Rule) -> np.ndarray:
        return product(activation, order, one, two, c, rule)

    values, errors = refined(run, 1e-12)
    return values.reshape(shape), errors.reshape(shape)


def refined(run: Callable[[Rule], np.ndarray], tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Raise the resolution until two neighbours agree to `tolerance` times the greatest entry.

    The errors are entry by entry; where rounding stands in the way, the last level is kept.  For
    other modules of the package.
    """
    coarse = run(Rule(_LEVELS[0], True))
    for level, last in zip(_LEVELS[1:], (*_LEVELS[2:], None), strict=True):
        fine = run(Rule(level, False))
        errors = np.abs(fine - coarse) + _ULPS * np.abs(fine)
        if last is None or errors.max() <= tolerance * np.abs(fine).max():
            break
        coarse = run(Rule(level, True))
        # What is left at the same level is rounding: no finer rule would mend it.
        if np.abs(fine - coarse).max() > 0.5 * errors.max():
            break
    return fine, errors
