"""Infinite-width Gram matrices K^L of Du, Lee, Li, Wang and Zhai, with the quadrature's error.

In their parameterization (N(0, 1) weights, width m, c_σ = 1/E σ(g)², g standard normal)

    fully connected   h_ℓ = √(c_σ/m) σ(W_ℓ h_{ℓ−1}),   ℓ = 1 … L,
    residual          h_1 as before,  h_ℓ = h_{ℓ−1} + (c_res/(L√m)) σ(W_ℓ h_{ℓ−1}),

f = aᵀh_L, the last hidden layer's block of the tangent kernel tends to a matrix K^L as m → ∞.
Every entry of it comes from expectations of products under centred Gaussian pairs.

>>> from plcore import activations
>>> from plcore.infinite_width import fully_connected_gram, residual_gram
>>> X = [[1.0, 0.0], [0.0, 1.0]]
>>> for gram in (fully_connected_gram, residual_gram):
...     print(gram(X, activations.relu, 2).matrix[0].round(4))
[1.    0.192]
[0.125 0.024]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import checks
from .activations import Activation
from .gaussian_pairs import Rule, moment, normalizer, product, refined
from .hypotheses import Hypotheses, Hypothesis
from .results import Result

__all__ = [
    "LimitGram",
    "convolutional_gram",
    "fully_connected_gram",
    "limit_hypotheses",
    "residual_gram",
]


@dataclass(frozen=True)
class LimitGram(Result):
    """The limit K^L of the last hidden layer's Gram matrix, and its least eigenvalue λ_0.

    Attributes
    ----------
    architecture : str
        Which network, in words.
    activation : str
        Its name.
    depth : int
        L, the number of hidden layers.
    matrix : numpy.ndarray, shape (n, n)
        K^L.
    hidden : numpy.ndarray, shape (L, n, n)
        K^0 … K^{L−1}, the limits of h_ℓ(x_i)·h_ℓ(x_j), summed over positions if there are any.
    least_eigenvalue : float
        λ_0.
    error : float
        Estimated spectral norm of the error of `matrix`.  By Weyl's inequality λ_0 is off by no
        more.
    """

    architecture: str
    activation: str
    depth: int
    matrix: np.ndarray
    hidden: np.ndarray = field(repr=False, metadata={"show": False})
    least_eigenvalue: float = field(metadata={"label": "λ₀, least eigenvalue"})
    error: float = field(metadata={"label": "error of λ₀, estimated"})

    @property
    def is_positive(self) -> bool:
        """Whether λ_0 exceeds its estimated error; False means "not shown"."""
        return bool(self.least_eigenvalue > self.error)

    def _title(self) -> str:
        return "Limit of the Gram matrix at infinite width"


def _symmetric(
    activation: Activation, order: int, C: np.ndarray, rule: Rule, mask: np.ndarray | None = None
) -> np.ndarray:
    """Return the matrix of E[σ⁽ᵏ⁾σ⁽ᵏ⁾] for the covariances C; zero where `mask` is False.

    The diagonal is an integral on the line: correlation 1 is exact there, and not rounded.
    """
    wanted = np.ones(C.shape, dtype=bool) if mask is None else mask
    rows, columns = np.nonzero(np.triu(wanted, 1))
    variance = np.diag(C)
    found = np.diag(moment(activation, order, 2, variance, rule))
    found[rows, columns] = product(
        activation, order, variance[rows], variance[columns], C[rows, columns], rule
    )
    found[columns, rows] = found[rows, columns]
    return found


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def limit_hypotheses(X: Any, activation: Activation | Sequence[Activation]) -> Hypotheses:
    """Check what Du et al. assume of inputs and activation, one by one.

    Unit norm; no two inputs parallel; Lipschitz with Lipschitz slope, analytic and no polynomial.
    Then λ_0 > 0 at every depth.

    Parameters
    ----------
    X : array_like, shape (n, d)
    activation : Activation or sequence of Activation

    Returns
    -------
    Hypotheses
        Rows that can be shown; ``.require()`` raises the sentences of those that fail.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape.
    """
    X = checks.finite_array(X, "X", ndim=2)
    if isinstance(activation, Activation):
        activation = (activation,)
    listed = checks.sequence(activation, "activation", "activations (or a single one)")
    if not listed:
        raise ValueError("activation must hold at least one activation, but is empty.")
    for entry in listed:
        checks.instance(entry, Activation, "each activation")
    norms = np.linalg.norm(X, axis=1)
    unit = bool(np.abs(norms - 1).max() <= 1e-9)
    found = f"|x| lies between {norms.min():.6g} and {norms.max():.6g}"
    if unit:
        found = "|x| = 1 for every input"
    else:
        found += ", but must be 1 for every input: divide each by its norm, if that may be done"
    return Hypotheses(
        "Du et al. 2019",
        (
            Hypothesis("inputs of norm one", unit, f"{found}."),
            _no_two_parallel(X, norms),
            _analytic(listed),
        ),
    )


def _no_two_parallel(X: np.ndarray, norms: np.ndarray) -> Hypothesis:
    name = "no two inputs parallel"
    if not norms.all():
        return Hypothesis(name, False, "An input is zero, which is parallel to every other.")
    unit = X / norms[:, None]
    worst, pair = math.inf, (0, 0)
    for i in range(len(X) - 1):
        # sin of the angle, without the cancellation of 1 − cos².
        others, one = unit[i + 1 :], unit[i]
        gaps = np.minimum(*(np.square(others + sign * one).sum(axis=1) for sign in (-1, 1)))
        gap = math.sqrt(gaps.min())
        if gap < worst:
            worst, pair = gap, (i, i + 1 + int(gaps.argmin()))
    if worst == math.inf:
        return Hypothesis(name, True, "There is one input only.")
    holds = worst > 1e-12
    detail = f"The least angle between two lines through inputs is about {worst:.3g}."
    if not holds:
        detail = f"Inputs {pair[0]} and {pair[1]} are parallel."
    return Hypothesis(name, holds, detail)


def _analytic(activations: tuple[Activation, ...]) -> Hypothesis:
    """Lipschitz with Lipschitz slope, infinitely smooth, and no polynomial.

    A polynomial with bounded slope is affine, and then its second derivative vanishes: that can be
    read off the table.  That a smooth table is analytic is taken from its smoothness.
    """
    name, rough = "activation Lipschitz, smooth, analytic, no polynomial", None
    for one in dict.fromkeys(activations):
        if one.smoothness < math.inf:
            rough = f"{one.name} has {one.smoothness:g} continuous derivatives."
        elif not math.isfinite(_greatest(one, 1)) or not math.isfinite(_greatest(one, 2)):
            rough = f"The slope or the second derivative of {one.name} is unbounded."
        elif _greatest(one, 2) == 0:
            rough = f"{one.name} is affine, so a polynomial."
    if rough:
        return Hypothesis(name, False, rough)
    listed = ", ".join(dict.fromkeys(one.name for one in activations))
    return Hypothesis(name, True, f"{listed}: yes, by its table.")


def _greatest(activation: Activation, order: int) -> float:
    return float(activation.magnitude(order, math.inf))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def fully_connected_gram(
    X: Any, activation: Activation, depth: int, *, tolerance: float = 1e-10
) -> LimitGram:
    """Return K^L of the fully connected network of Du et al. with L = `depth` hidden layers.

    Statement.  K⁰_ij = x_i·x_j; for 0 < ℓ < L, K^ℓ_ij = c_σ E[σ(u)σ(v)] and at the end
    K^L_ij = c_σ K^{L−1}_ij E[σ′(u)σ′(v)], where (u, v) is centred Gaussian with the covariance of
    K^{ℓ−1} (of K^{L−1} at the end) at (i, i), (i, j), (j, j).

    Parameters
    ----------
    X : array_like, shape (n, d)
        Inputs, one a row.  The theory takes |x_i| = 1; the recursion does not need it.
    activation : Activation
        What is not smooth is taken to have its kinks at zero.
    depth : int
        L ≥ 1.
    tolerance : float, default 1e-10
        Error aimed at, relative to the greatest entry.

    Returns
    -------
    LimitGram

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range.

    References
    ----------
    Du, Lee, Li, Wang, Zhai (2019), arXiv 1811.03804.

    Examples
    --------
    Two orthogonal inputs, one hidden layer of ReLUs: K is the identity.

    >>> import numpy as np
    >>> from plcore import activations
    >>> from plcore.infinite_width import fully_connected_gram
    >>> fully_connected_gram(np.eye(2), activations.relu, 1).matrix.round(12)
    array([[1., 0.],
           [0., 1.]])
    """
    K, depth, tolerance = _checked(X, activation, depth, tolerance, 2)

    def run(rule: Rule) -> np.ndarray:
        c = normalizer(activation, rule)
        hidden = [K]
        for _ in range(depth - 1):
            hidden.append(c * _symmetric(activation, 0, hidden[-1], rule))
        return np.array([*hidden, c * hidden[-1] * _symmetric(activation, 1, hidden[-1], rule)])

    return _limit("fully connected", activation, depth, tolerance, run)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def residual_gram(
    X: Any,
    activation: Activation,
    depth: int,
    *,
    residual_scale: float = 1.0,
    tolerance: float = 1e-10,
) -> LimitGram:
    """Return K^L of the residual network of Du et al.

    Statement.  K¹ as for `fully_connected_gram` and ν¹_i = √c_σ E σ(u_i); then, with
    s = c_res/L, K^ℓ_ij = K^{ℓ−1}_ij + s(ν_i E σ(v) + ν_j E σ(u)) + s² E[σ(u)σ(v)] and
    ν^ℓ = ν^{ℓ−1} + s E σ(u); at the end K^L_ij = s² K^{L−1}_ij E[σ′(u)σ′(v)].  The means ν matter:
    the entries of h_{ℓ−1} share them with those of σ(W_ℓ h_{ℓ−1}).

    What it returns and raises is as in `fully_connected_gram`.

    Parameters
    ----------
    X, activation, depth, tolerance
        As in `fully_connected_gram`; depth 1 has no shortcut and is the fully connected network.
    residual_scale : float, default 1
        c_res > 0.
    """
    K, depth, tolerance = _checked(X, activation, depth, tolerance, 2)
    scale = checks.positive_number(residual_scale, "residual_scale") / depth
    return _residual("residual", K, (len(K), 1), 1, activation, depth, scale, tolerance)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def convolutional_gram(
    X: Any,
    activation: Activation,
    depth: int,
    *,
    patch: int = 3,
    residual_scale: float = 1.0,
    tolerance: float = 1e-10,
) -> LimitGram:
    """Return K^L of the convolutional residual network of Du et al., in one space dimension.

    Statement.  A position p sees the patch of positions p + o, |o| ≤ (q − 1)/2, zero outside; a
    layer applies the same W_ℓ to each patch, and f = Σ_p a_p·h_L(·, p).  The recursion is that of
    `residual_gram` on pairs of positions, with the covariance of two patches,
    D(K)_{ip,jr} = Σ_o K_{i p+o, j r+o}, for (u, v); only equal positions enter the last step,
    K^L_ij = s² Σ_p D(K^{L−1})_{ip,jp} E[σ′(u)σ′(v)], because the a_p are independent.

    What it returns and raises is as in `fully_connected_gram`.

    Parameters
    ----------
    X : array_like, shape (n, channels, positions)
    activation, depth, residual_scale, tolerance
        As in `residual_gram`.
    patch : int, default 3
        q, odd.
    """
    K, depth, tolerance = _checked(X, activation, depth, tolerance, 3)
    patch = checks.positive_integer(patch, "patch")
    if patch % 2 == 0:
        raise ValueError(f"patch must be odd, but is {patch}.")
    scale = checks.positive_number(residual_scale, "residual_scale") / depth
    shape = (np.shape(X)[0], np.shape(X)[2])
    return _residual("convolutional residual", K, shape, patch, activation, depth, scale, tolerance)


def _checked(
    X: Any, activation: Activation, depth: int, tolerance: float, ndim: int
) -> tuple[np.ndarray, int, float]:
    X = checks.finite_array(X, "X", ndim=ndim)
    checks.instance(activation, Activation, "activation")
    depth = checks.positive_integer(depth, "depth")
    tolerance = checks.positive_number(tolerance, "tolerance")
    if not np.square(X).reshape(len(X), -1).sum(axis=1).all():
        raise ValueError("Each input in X must have a positive norm, but one is zero.")
    rows = X if ndim == 2 else np.swapaxes(X, 1, 2).reshape(-1, X.shape[1])
    checks.room((4, len(rows), len(rows)), "The Gram matrix and what it is made from")
    K = np.einsum("ik,jk->ij", rows, rows)  # exactly symmetric, unlike a blocked product
    return checks.within_range(K, "X Xᵀ"), depth, tolerance


def _residual(
    architecture: str,
    K: np.ndarray,
    shape: tuple[int, int],
    patch: int,
    activation: Activation,
    depth: int,
    scale: float,
    tolerance: float,
) -> LimitGram:
    same = np.tile(np.eye(shape[1], dtype=bool), (shape[0], shape[0]))

    def summed(matrix: np.ndarray) -> np.ndarray:
        blocks = (matrix * same).reshape(shape[0], shape[1], shape[0], shape[1])
        return blocks.sum(axis=(1, 3))

    def run(rule: Rule) -> np.ndarray:
        c = normalizer(activation, rule)
        hidden, gain, means = [K], c, np.zeros(len(K))
        for layer in range(1, depth):
            C = _patched(hidden[-1], shape, patch)
            mean = moment(activation, 0, 1, np.diag(C), rule)
            square = _symmetric(activation, 0, C, rule)
            if layer == 1:
                hidden.append(c * square)
                means, gain = math.sqrt(c) * mean, scale * scale
            else:
                cross = scale * np.outer(means, mean)
                hidden.append(hidden[-1] + (cross + cross.T) + gain * square)
                means = means + scale * mean
        C = _patched(hidden[-1], shape, patch)
        last = gain * C * _symmetric(activation, 1, C, rule, same)
        return np.array([summed(one) for one in (*hidden, last)])

    return _limit(architecture, activation, depth, tolerance, run)


def _patched(K: np.ndarray, shape: tuple[int, int], patch: int) -> np.ndarray:
    """Return D(K): the inner products of patches from those of positions."""
    if patch == 1:
        return K
    n, positions = shape
    half = min(patch // 2, positions - 1)  # further away there is nothing
    padded = np.zeros((n, positions + 2 * half, n, positions + 2 * half))
    padded[:, half : half + positions, :, half : half + positions] = K.reshape(
        n, positions, n, positions
    )
    total = sum(padded[:, o : o + positions, :, o : o + positions] for o in range(2 * half + 1))
    return np.asarray(total).reshape(K.shape)


def _limit(
    architecture: str,
    activation: Activation,
    depth: int,
    tolerance: float,
    run: Callable[[Rule], np.ndarray],
) -> LimitGram:
    with np.errstate(over="ignore", invalid="ignore"):
        layers, errors = refined(run, tolerance)
    checks.within_range(layers, "The Gram matrix")
    matrix = layers[-1]
    least = float(np.linalg.eigvalsh(matrix)[0])
    rounding = len(matrix) * np.finfo(np.float64).eps * float(np.linalg.norm(matrix))
    error = float(np.linalg.norm(errors[-1])) + rounding
    return LimitGram(architecture, activation.name, depth, matrix, layers[:-1], least, error)
