"""Proof of a certificate in ball arithmetic.

`certificates` searches in floating point; here every number that it found is proved again, by
formulas of its own and in balls, or refused.  It imports nothing that the search computes with.
What is shown is about real numbers: float64 data and weights taken as the numbers that they are,
and the activations as the functions that they stand for.

>>> import numpy as np, plcore
>>> network = plcore.FeedForward((3, 5, 1), plcore.activations.tanh)
>>> problem = plcore.LeastSquares(network, np.eye(3), [0.1, -0.1, 0.2])
>>> w = plcore.initialization.positive(network, output_scale=2.0)
>>> certificate = plcore.certify(problem, w)
>>> plcore.verify(certificate, problem, w).verified
True
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import balls, checks
from .activations import Activation
from .ball_activations import ball_activation
from .ball_expansion import Expansion
from .ball_networks import DerivativeBounds, derivative_bounds, propagate
from .ball_signals import first_layer_gram, shortest_signal
from .balls import ball
from .claims import FRACTIONS, Certificate, digest
from .network import FeedForward
from .results import Result, format_value

__all__ = ["ProvedInequality", "Verification", "verify"]

# Bits of a midpoint.  Where balls still overlap, the next precision may tell them apart.
_PRECISIONS = (96, 192, 384)
# What a few gigabytes and an hour or so are enough for.
_MOST_SAMPLES, _MOST_SECONDS, _MOST_FORMS = 300, 2e8, 5e8


@dataclass(frozen=True)
class ProvedInequality:
    """One inequality left ≤ right of a certificate, and what balls say of it.

    Attributes
    ----------
    statement : str
        In symbols.
    left, right : float
        The midpoints of both sides, to look at.
    verdict : int
        1 if it is proved, −1 if it is certain that this argument cannot prove it, 0 if undecided.
    """

    statement: str
    left: float
    right: float
    verdict: int

    @property
    def proved(self) -> bool:
        """Whether it is proved."""
        return self.verdict > 0

    @property
    def margin(self) -> float:
        """How many times the right side is as large as the left."""
        if self.left == 0:
            return math.inf if self.right > 0 else math.nan
        return self.right / self.left

    def __str__(self) -> str:
        """Return the verdict, both sides and the margin."""
        word = "proved" if self.proved else "NOT PROVED"
        excess = self.margin - 1
        times = f"{self.margin:.3g} times"
        if 0 < abs(excess) < 5e-3:
            times = f"1 {'+' if excess > 0 else '-'} {abs(excess):.1g} times"
        return f"{word}: {format_value(self.left)} ≤ {format_value(self.right)}, {times}"


@dataclass(frozen=True)
class Verification(Result):
    """Whether a certificate was proved.

    Attributes
    ----------
    verified : bool
        Whether every number in the certificate is proved; False means "not shown".
    reason : str
        One sentence: what was proved, or the first thing that was not.
    inequalities : tuple of ProvedInequality
        Each inequality with its two sides; empty if the certificate is about something else.
    bits : int
        The working precision that was enough, or the last one tried.
    """

    verified: bool
    reason: str
    inequalities: tuple[ProvedInequality, ...] = ()
    bits: int = 0

    def _title(self) -> str:
        return "Verified" if self.verified else "Not verified"

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield "in words", self.reason
        for inequality in self.inequalities:
            yield inequality.statement, str(inequality)
        if self.inequalities:
            yield "arithmetic", f"balls of {self.bits} bits"


def verify(certificate: Certificate, problem: Any, w: Any) -> Verification:
    """Prove every number of a certificate in ball arithmetic, or say what did not come out.

    Statement.  If the result is `verified`, all that `Certificate` claims is true of the network,
    the data and the weights: the digest binds them, |e(w)| is at most `residual`, each m_j bounds
    |Jᵀe|/|e| from below on B(w, s_j), residual < (1 − ε) Σ m_j (s_j − s_{j−1}), β bounds
    λ_max(∇²S), `step_size` ≤ 2ε/β, `rate` ≤ (1 − ε) η (4/n) m_N², and so many steps are enough.

    Parameters
    ----------
    certificate : Certificate
    problem : LeastSquares
        With one data set; its attributes ``network``, ``X`` and ``y`` are used.  What is proved is
        about the activation of that name in `activations`, whatever function an object carries.
    w : array_like, shape (p,)

    Returns
    -------
    Verification

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape, or an entry that is not finite.

    References
    ----------
    Ours; Theorem 1.2♯ with (T2).
    """
    checks.instance(certificate, Certificate, "certificate")
    network, X, y = _check_problem(problem)
    w = checks.finite_array(w, "w", ndim=1)
    refusal = _refusal(certificate, problem, network, X, y, w)
    if refusal:
        return Verification(False, refusal)
    found: list[ProvedInequality] = []
    for bits in _PRECISIONS:
        with balls.working_precision(bits):
            found = _Proof(certificate, network, X, y, w).inequalities()
        if all(row.verdict for row in found):
            break
    missed = [row for row in found if not row.proved]
    if missed:
        worst = next((row for row in missed if row.verdict < 0), missed[0])
        return Verification(False, _missed(worst), tuple(found), bits)
    reason = "Every number of the certificate is proved."
    return Verification(True, reason, tuple(found), bits)


def _missed(row: ProvedInequality) -> str:
    return (
        f"It could not be proved that {row.statement}: the left side is "
        f"{format_value(row.left)}, the right side {format_value(row.right)}."
    )


def _check_problem(problem: Any) -> tuple[FeedForward, np.ndarray, np.ndarray]:
    for name in ("network", "X", "y"):
        if not hasattr(problem, name):
            raise TypeError(
                f"problem must be of type LeastSquares, but is {checks.shown(problem)}."
            )
    network = checks.instance(problem.network, FeedForward, "the problem's network")
    X = checks.finite_array(problem.X, "X", ndim=2, last=network.widths[0])
    return network, X, checks.finite_array(problem.y, "y", ndim=1, last=len(X))


def _refusal(
    certificate: Certificate,
    problem: Any,
    network: FeedForward,
    X: np.ndarray,
    y: np.ndarray,
    w: np.ndarray,
) -> str:
    """Return why a certificate cannot be about this problem and these weights, or nothing."""
    names = tuple(activation.name for activation in network.activations)
    n, p = len(X), network.parameter_count
    if certificate.widths != network.widths:
        return (
            f"The certificate is for widths {checks.shown(certificate.widths)}, but the network "
            f"has {checks.shown(network.widths)}."
        )
    if certificate.activations != names:
        return (
            f"The certificate is for the activations {checks.shown(certificate.activations)}, but "
            f"the network has {checks.shown(names)}."
        )
    if certificate.samples != n:
        return f"The certificate is for n = {certificate.samples} samples, but the data have {n}."
    if w.shape != (p,):
        return f"The network has p = {p} parameters, but there are {w.size} weights."
    if certificate.digest != digest(problem, w):
        return "The certificate's digest is of other data or weights than these."
    if n > p:
        return f"There are more samples, n = {n}, than parameters, p = {p}: J Jᵀ is singular."
    if certificate.argument == "first layer" and n > X.shape[1] + 1:
        return (
            f"The first-layer bound needs n ≤ d + 1, but there are n = {n} samples of "
            f"d = {X.shape[1]} numbers."
        )
    if certificate.argument == "any n" and (n > _MOST_SAMPLES or n * n * p > _MOST_SECONDS):
        return (
            f"The second-order bound is too large to be proved in balls: n = {n} must be at most "
            f"{_MOST_SAMPLES}, and n² p = {n * n * p:.3g} at most {_MOST_SECONDS:.3g}."
        )
    if certificate.argument not in _ARGUMENTS:
        return f"The argument {certificate.argument!r} has no proof in balls, so it is refused."
    depth, radii = network.depth, certificate.radii.size
    balls_of_forms = n * depth**3
    if certificate.argument != "first layer":
        balls_of_forms *= radii * (depth if certificate.argument == "any n" else 1)
    if balls_of_forms > _MOST_FORMS:
        return (
            f"The second derivatives of a network of depth L = {depth} with n = {n} samples and "
            f"{radii} radii are too many to be bounded in balls."
        )
    faults = map(_foreign, {id(each): each for each in network.activations}.values())
    return next(filter(None, faults), "")


def _foreign(activation: Activation) -> str:
    """Return why an activation has no formula in balls, or nothing.

    One that a user made under a known name is found by its values at a few points.
    """
    try:
        table = ball_activation(activation.name)
    except ValueError as error:
        return str(error)
    points = np.array([-3.0, -0.7, 0.0, 0.4, 2.5])
    for order in range(3):
        with balls.working_precision(64):
            known = balls.middles(table.at(order, balls.balls(points)))
        if not np.allclose(activation.functions[order](points), known, rtol=1e-10, atol=1e-12):
            return (
                f"The network's activation {activation.name!r} is another function than the one "
                "that is known by that name."
            )
    return ""


def _compare(statement: str, left: Any, right: Any, *, strict: bool = False) -> ProvedInequality:
    left, right = ball(left), ball(right)
    proved = left < right if strict else left <= right
    refuted = left >= right if strict else left > right
    return ProvedInequality(statement, float(left), float(right), int(proved) - int(refuted))


class _Proof:
    """The inequalities of one certificate at the working precision at hand."""

    def __init__(
        self,
        certificate: Certificate,
        network: FeedForward,
        X: np.ndarray,
        y: np.ndarray,
        w: np.ndarray,
    ) -> None:
        self.certificate = certificate
        names = [activation.name for activation in network.activations]
        self.center = propagate(network.layers(w), names, X)
        self.error = balls.norm(self.center.outputs - balls.balls(y))
        self.radii = balls.balls(certificate.radii)
        self.values = balls.balls(certificate.singular_values)
        self._derivatives: dict[int, DerivativeBounds] = {}

    def derivatives(self, j: int) -> DerivativeBounds:
        """Return the bounds on the j-th ball."""
        if j not in self._derivatives:
            self._derivatives[j] = derivative_bounds(self.center, self.radii[j])
        return self._derivatives[j]

    def inequalities(self) -> list[ProvedInequality]:
        return [
            _compare("|e(w)| ≤ residual", self.error, self.certificate.residual),
            *_ARGUMENTS[self.certificate.argument](self),
            self.integral(),
            self.curvature(),
            *self.descent(),
        ]

    def integral(self) -> ProvedInequality:
        c = self.certificate
        gaps = self.radii - np.concatenate([balls.balls([0.0]), self.radii[:-1]])
        total = (1 - ball(c.slack)) * (self.values * gaps).sum()
        return _compare("residual < (1 − ε) Σ m_j (s_j − s_{j−1})", c.residual, total, strict=True)

    def curvature(self) -> ProvedInequality:
        """λ_max(∇²S) ≤ (2/n)(‖J‖² + |e| H) wherever S is at most S(w), so that |e| ≤ |e(w)|."""
        found = self.derivatives(-1)
        bound = 2 * (found.jacobian**2 + self.error * found.hessian) / self.certificate.samples
        return _compare("λ_max(∇²S) ≤ β", bound, self.certificate.curvature)

    def descent(self) -> list[ProvedInequality]:
        c = self.certificate
        slack, step, rate = ball(c.slack), ball(c.step_size), ball(c.rate)
        best = (1 - slack) * step * 4 * self.values[-1] ** 2 / c.samples
        rows = [
            _compare("η ≤ 2ε/β", step, 2 * slack / ball(c.curvature)),
            _compare("δ ≤ (1 − ε) η (4/n) m_N²", rate, best),
        ]
        for fraction, count in zip(FRACTIONS, c.steps, strict=True):
            decades = round(-math.log10(fraction))
            # (1 − δ)^k ≤ 10^{−decades}; at δ = 1 one step is enough.
            needed = ball(10).log() * decades
            shown = ball(math.inf) if c.rate == 1 else -ball(count) * (-rate).log1p()
            rows.append(_compare(f"log 10^{decades} ≤ −k log(1 − δ), k = {count:,}", needed, shown))
        return rows

    def plain(self) -> list[ProvedInequality]:
        """J is H-Lipschitz on B(w, s): σ_min(J(v)) ≥ σ_min(J(w)) − H s."""
        needed = balls.greatest(
            np.array(
                [
                    self.values[j] + self.derivatives(j).hessian * self.radii[j]
                    for j in range(len(self.radii))
                ],
                dtype=object,
            )
        )
        statement = "max_j (m_j + H s_j) ≤ σ_min(J(w))"
        return [_least_eigenvalue(statement, self.center.kernel, needed)]

    def first_layer(self) -> list[ProvedInequality]:
        """σ_min(J(v)) ≥ √μ min_i |q(x_i, v)|, by Schur (T5)."""
        signals = [shortest_signal(self.center, radius) for radius in self.radii]
        # What holds on a ball holds on the smaller ones inside it.
        for j in range(len(signals) - 2, -1, -1):
            signals[j] = balls.greater(signals[j], signals[j + 1])
        rows = [_compare("0 < min |q(x_i, v)| on B(w, s_N)", 0, signals[-1], strict=True)]
        ratios = [value / signal for value, signal in zip(self.values, signals, strict=True)]
        needed = balls.greatest(np.array(ratios, dtype=object))
        statement = "max_j m_j / min |q(x_i, v)| ≤ √μ"
        return [*rows, _least_eigenvalue(statement, first_layer_gram(self.center), needed)]

    def any_n(self) -> list[ProvedInequality]:
        """σ_min(J(v)) ≥ λ_min(A(s)) by the expansion of J to second order, for any n ≤ p."""
        try:
            expansion = Expansion(self.center)
        except np.linalg.LinAlgError:  # a Jacobian that is too large or no number at all
            return [_compare("m_j ≤ λ_min of the second-order expansion", self.values[0], math.nan)]
        rows: list[ProvedInequality] = []
        for j in range(len(self.radii) - 1, -1, -1):
            # What holds on a ball holds on the smaller ones inside it.
            if not (rows and rows[-1].proved and self.values[j] <= self.values[j + 1]):
                verdict, least = expansion.exceeds(self.radii[j], self.values[j])
                statement = f"m_j ≤ λ_min of the second-order expansion (tightest at j = {j + 1})"
                rows.append(ProvedInequality(statement, float(self.values[j]), least, verdict))
        return [min(rows, key=lambda row: (row.verdict, row.right - row.left))]


_ARGUMENTS: dict[str, Callable[[_Proof], list[ProvedInequality]]] = {
    "plain": _Proof.plain,
    "first layer": _Proof.first_layer,
    "any n": _Proof.any_n,
}


def _least_eigenvalue(statement: str, gram: np.ndarray, needed: Any) -> ProvedInequality:
    """Prove needed < √λ_min(gram), by elimination of gram − needed² I in balls."""
    shifted = gram - needed**2 * balls.balls(np.eye(len(gram)))
    verdict = int(balls.definiteness(shifted)) if needed.is_finite() else 0
    found = np.linalg.eigvalsh(np.nan_to_num(balls.middles(gram)))[0]
    return ProvedInequality(statement, float(needed), math.sqrt(max(found, 0.0)), verdict)
