"""The four starting points of the paper's experiments (Section 3).

>>> import numpy as np, plcore
>>> network = plcore.FeedForward((2, 3, 1), plcore.activations.tanh)
>>> start = plcore.initialization.positive(network, output_scale=2.0)
>>> [weight.tolist() for weight, _ in network.layers(start)]
[[[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [[2.0, 2.0, 2.0]]]
>>> plcore.initialization.lecun(network, np.random.default_rng(0), runs=5).shape
(5, 13)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from . import checks
from .network import FeedForward

__all__ = ["absolute_lecun", "conditioned_lecun", "lecun", "positive"]


def positive(network: FeedForward, output_scale: float, hidden: float | None = None) -> np.ndarray:
    """Return the positive start of Theorem 2.1.

    W_1 = 0, every entry of W_2 … W_{L−1} the same positive number, every entry of W_L equal to
    `output_scale`, biases zero.  Where σ(0) ≠ 0 (Remark 2.5) the last bias cancels the constant
    output instead of shifting the activation, so that f(x, w) = 0 for every x in either case.

    Parameters
    ----------
    network : FeedForward
    output_scale : float
        The entry A > 0 of W_L.
    hidden : float, optional
        The entry of the hidden weight matrices; 1/d_{ℓ−1} in layer ℓ if left out, which keeps the
        scale of the signal.

    Returns
    -------
    numpy.ndarray, shape (p,)

    Raises
    ------
    TypeError, ValueError
        If a scale is not a positive number.
    OverflowError
        If the output that the last bias has to cancel is too big for float64.

    References
    ----------
    Theorem 2.1 and Section 3 of the paper.
    """
    checks.instance(network, FeedForward, "network")
    output_scale = checks.positive_number(output_scale, "output_scale")
    if hidden is not None:
        hidden = checks.positive_number(hidden, "hidden")
    checks.room((network.parameter_count,), "The start")
    w = np.zeros(network.parameter_count)
    layers = network.layers(w)
    for (weight, _), columns in zip(layers[1:-1], network.widths[1:-2], strict=True):
        weight[...] = 1 / columns if hidden is None else hidden
    layers[-1][0][...] = output_scale
    constant = network.forward(w, np.zeros((1, network.widths[0])))[0]
    layers[-1][1][...] = 0.0 - constant  # Remark 2.5 (and no negative zero)
    return w


def lecun(network: FeedForward, rng: np.random.Generator, runs: Any = ()) -> np.ndarray:
    """Return LeCun's Gaussian start: entries of W_ℓ from N(0, 1/d_{ℓ−1}), biases zero.

    Parameters
    ----------
    network : FeedForward
    rng : numpy.random.Generator
        Source of randomness.
    runs : int or tuple of int, default ()
        Shape of the batch of independent starts.

    Returns
    -------
    numpy.ndarray, shape (*runs, p)

    Raises
    ------
    TypeError, ValueError
        If `rng` is not a generator or `runs` not a shape.

    References
    ----------
    LeCun, Bottou, Orr and Müller (1998); Theorem 2.8 of the paper.
    """
    checks.instance(network, FeedForward, "network")
    rng = checks.generator(rng)
    shape = (*checks.shape(runs, "runs"), network.parameter_count)
    checks.room(shape, "The start")
    w = rng.standard_normal(shape)
    for (weight, bias), columns in zip(network.layers(w), network.widths[:-1], strict=True):
        weight /= math.sqrt(columns)
        bias[...] = 0.0
    return w


def absolute_lecun(network: FeedForward, rng: np.random.Generator, runs: Any = ()) -> np.ndarray:
    """Return the absolute values of `lecun`, entry by entry: start (iii) of Section 3.

    Parameters, shapes and errors are those of `lecun`.
    """
    return np.abs(lecun(network, rng, runs))


def conditioned_lecun(
    network: FeedForward,
    low: float,
    rng: np.random.Generator,
    runs: Any = (),
    high: float | None = None,
) -> np.ndarray:
    """Return LeCun's start conditioned on the positive box: start (iv) of Section 3.

    Every entry of W_2 … W_L is drawn from N(0, 1/d_{ℓ−1}) conditioned to lie in [low, high], by
    inversion of the distribution function in logarithms, so that boxes far out in the tail are
    sampled correctly; W_1 is as in `lecun`.

    Parameters
    ----------
    network : FeedForward
    low : float
        The lower end a > 0 of the box.
    rng : numpy.random.Generator
    runs : int or tuple of int, default ()
        Shape of the batch of independent starts.
    high : float, optional
        The upper end; 2a if left out, as in the event E_a of Theorem 2.8.

    Returns
    -------
    numpy.ndarray, shape (*runs, p)

    Raises
    ------
    TypeError, ValueError
        If the box is empty or not positive, `rng` is not a generator or `runs` not a shape.

    Examples
    --------
    >>> import numpy as np
    >>> from plcore import FeedForward, activations, initialization
    >>> network = FeedForward((2, 3, 1), activations.tanh)
    >>> start = initialization.conditioned_lecun(network, 0.5, np.random.default_rng(0))
    >>> weight = network.layers(start)[1][0]
    >>> bool(((weight >= 0.5) & (weight <= 1.0)).all())
    True
    """
    low = checks.positive_number(low, "low")
    high = 2 * low if high is None else checks.positive_number(high, "high")
    if high <= low:
        raise ValueError(f"high must be greater than low, but high = {high} and low = {low}.")
    w = lecun(network, rng, runs)
    layers = network.layers(w)
    for (weight, _), columns in zip(layers[1:], network.widths[1:-1], strict=True):
        scale = math.sqrt(columns)
        standard = _normal_in(low * scale, high * scale, rng.uniform(size=weight.shape))
        weight[...] = np.clip(standard / scale, low, high)
    return w


def _normal_in(low: float, high: float, uniform: np.ndarray) -> np.ndarray:
    """Map uniform numbers to standard normal ones conditioned on [low, high], 0 < low < high."""
    if high < 1:
        # Near zero erf keeps its relative accuracy, which logarithms of the tail do not.
        least, greatest = special.erf(low / math.sqrt(2)), special.erf(high / math.sqrt(2))
        return math.sqrt(2) * special.erfinv(least + uniform * (greatest - least))
    # P(N > t) for t in the box, in logarithms: far out both ends underflow otherwise.
    least, greatest = special.log_ndtr(-high), special.log_ndtr(-low)
    if not math.isfinite(greatest):
        return np.full_like(uniform, low)  # the law shrinks to a point of float64 long before
    return -special.ndtri_exp(greatest + np.log1p(uniform * np.expm1(least - greatest)))
