"""Probabilities too small for a double: logarithms of two laws, and draws from their far tails."""

from __future__ import annotations

import math

import numpy as np
from scipy import special


def format_probability(log_probability: float) -> str:
    """Return a probability, given as its natural logarithm, as a person reads it.

    ``0.1234`` for large ones, ``3.21e-45`` for small ones, ``10^(-12345.6)`` below 1e-300.
    """
    log_probability = float(log_probability)
    power = log_probability / math.log(10)
    if power >= -300:
        return f"{math.exp(log_probability):.4g}"
    return "0" if power == -math.inf else f"10^({power:.1f})"


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def log_box(scaled: np.ndarray) -> np.ndarray:
    """Return log(Φ(2t) − Φ(t)) for t > 0, accurate for small and for large t."""
    scaled = np.asarray(scaled, dtype=np.float64)
    small = np.minimum(scaled, 1.0) / math.sqrt(2)
    near = np.log(0.5 * (special.erf(2 * small) - special.erf(small)))
    tail = special.log_ndtr(-scaled)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        far = tail + np.log1p(-np.exp(special.log_ndtr(-2 * scaled) - tail))
    return np.where(scaled < 1, near, far)


def log_gamma_cdf(shape: float, log_x: float) -> float:
    """Return log P(shape, x), the regularised lower incomplete gamma function."""
    x = math.exp(min(log_x, 700.0))
    value = special.gammainc(shape, x)
    if value > 0.5:
        return math.log1p(-special.gammaincc(shape, x))
    if value > 1e-250:
        return math.log(value)
    # P(s, x) = x^s e^{−x}/Γ(s+1) · Σ_k x^k/((s+1)…(s+k)); here x < s, so the ratios are below 1.
    total, term, k = 1.0, 1.0, 0
    while term > 1e-17 * total:
        ratios = x / (shape + 1 + np.arange(k, k + 1000))
        with np.errstate(under="ignore"):
            terms = term * np.cumprod(ratios)
        total, term, k = total + float(terms.sum()), float(terms[-1]), k + 1000
    return shape * log_x - x - math.lgamma(shape + 1) + math.log(total)


def gamma_below(shape: float, log_cut: float, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw x/cut for x from the gamma law of the given shape conditioned to lie below the cut.

    By inversion where the probability of that is a double, else by exact rejection.
    """
    cut = math.exp(min(log_cut, 700.0))
    if log_gamma_cdf(shape, log_cut) > -500:
        level = rng.uniform(size=count) * special.gammainc(shape, cut)
        return np.minimum(special.gammaincinv(shape, level) / cut, 1.0)
    # x = cut·e^{−v}, and v has density ∝ exp(−shape·v − cut·e^{−v}).  Since e^{−v} ≥ 1 − v, the
    # exponential law of rate shape − cut dominates; here cut is far below shape.
    found = np.empty(0)
    while len(found) < count:
        v = -np.log1p(-rng.uniform(size=count)) / (shape - cut)
        kept = rng.uniform(size=count) < np.exp(-cut * (np.expm1(-v) + v))
        found = np.concatenate([found, v[kept]])
    return np.exp(-found[:count])
