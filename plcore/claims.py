"""What a certificate of convergence claims, in words and as a file.

A `Certificate` is data: the numbers that a search found, and a hash that binds them to one
network, one data set and one weight vector.  It comes with no proof; `verification` proves it.
A file is read as JSON and nothing else, so that reading one never executes anything.

>>> import textwrap
>>> from plcore.claims import Certificate
>>> claim = Certificate(
...     widths=(1, 2, 1), activations=("tanh",), samples=1, digest="0" * 64,
...     argument="plain", residual=0.1, radii=[1.0], singular_values=[0.5],
...     slack=0.5, curvature=8.0, step_size=0.125, rate=0.0625, steps=(215, 429),
... )
>>> Certificate.from_json(claim.to_json()) == claim
True
>>> print(textwrap.fill(claim.claims()[1], 76))
Gradient descent from these weights converges to one, with any step size up
to 0.125.
"""

from __future__ import annotations

import decimal
import hashlib
import html
import json
import math
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from . import _strict_json, checks
from . import activations as _activations
from .guarantees import Inequality
from .results import Result

__all__ = ["ARGUMENTS", "FRACTIONS", "Certificate", "NotShown", "digest"]

#: The lower bounds on the Jacobian's least singular value that a certificate may rest on.
ARGUMENTS = ("plain", "first layer", "any n", "positive start")
#: `Certificate.steps` are the steps to these fractions of the present loss.
FRACTIONS = (1e-6, 1e-12)

_FORMAT = "plcore certificate 1"
_MOST_RADII = 1000  # each costs the verification time
_CAVEAT = "This is a claim; plcore.verify proves it, or says what it could not prove."


def digest(problem: Any, w: Any) -> str:
    """Return the SHA-256 that binds a certificate to a network, its data and its weights.

    It is taken over the widths, the activations' names, the shapes of X, y and w, and their
    entries as little-endian float64: it changes with the last bit of any of them.

    Parameters
    ----------
    problem : LeastSquares
        Of which ``network``, ``X`` and ``y`` are used.
    w : array_like, shape (p,)

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    TypeError, ValueError
        If an array is not one of finite real numbers.
    """
    network = problem.network
    arrays = {
        name: checks.finite_array(value, name)
        for name, value in (("X", problem.X), ("y", problem.y), ("w", w))
    }
    head = {
        "format": _FORMAT,
        "widths": [int(width) for width in network.widths],
        "activations": [activation.name for activation in network.activations],
        "shapes": {name: array.shape for name, array in arrays.items()},
    }
    found = hashlib.sha256(json.dumps(head, sort_keys=True).encode() + b"\n")
    for array in arrays.values():
        found.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return found.hexdigest()


def _rounded(value: float, *, up: bool, places: int = 0) -> str:
    """Return three digits of value · 10^places, rounded to the side that keeps it true."""
    context = decimal.Context(3, decimal.ROUND_CEILING if up else decimal.ROUND_FLOOR)
    rounded = context.scaleb(decimal.Decimal(value), places)
    text = f"{float(rounded):g}"
    # At the ends of the range, no float is so near to three digits.
    return text if decimal.Decimal(text) == rounded else f"{rounded:.2e}"


def _nearest(value: Fraction, *, up: bool) -> float:
    """Return a positive number as the nearest float on one side of it."""
    try:
        found = float(value)
    except OverflowError:
        return math.inf if up else float(np.finfo(np.float64).max)
    wrong = found < value if up else found > value
    return math.nextafter(found, math.inf if up else 0.0) if wrong else found


@dataclass(frozen=True, eq=False)
class Certificate(Result):
    """The claim that gradient descent from given weights w reaches a zero of the loss S.

    Statement.  With e the residual and J the Jacobian of the outputs, S = |e|²/n:

    * |e(w)| is at most `residual`, and |J(v)ᵀ e(v)| ≥ m_j |e(v)| for every v in B(w, s_j);
    * ``curvature`` bounds λ_max(∇²S) on the part of B(w, s_N) where S is at most S(w);
    * residual < (1 − ε) Σ_j m_j (s_j − s_{j−1}), with s_0 = 0 and ε = `slack`.

    By Theorem 1.2♯ with (T2), α ≥ (4/n) m_j² on B(w, s_j), there is then a zero of S in
    B(w, s_N), and gradient descent with any step size 0 < η ≤ `step_size` converges to one:
    S(w_k) ≤ (1 − δ)^k S(w) with δ = (1 − ε) η (4/n) m_N².

    Attributes
    ----------
    widths : tuple of int
        d_0, …, d_L.
    activations : tuple of str
        Names that `activations.named` takes, one for each hidden layer.
    samples : int
        n.
    digest : str
        What `claims.digest` says of the problem and the weights.
    argument : str
        One of `ARGUMENTS`: how the m_j are proved.
    residual : float
        Upper bound on |e(w)|.
    radii : numpy.ndarray, shape (N,)
        0 < s_1 < … < s_N.
    singular_values : numpy.ndarray, shape (N,)
        m_1 ≥ … ≥ m_N > 0, usually lower bounds on σ_min(J).
    slack : float
        ε, strictly between 0 and 1.
    curvature : float
        β.
    step_size : float
        The largest certified η, at most 2ε/β.
    rate : float
        δ for η = `step_size`: the loss falls by at least this fraction a step.
    steps : tuple of two int
        Steps of that size after which the loss is at most 1e-6 and 1e-12 of the present one.
    shown : bool
        True, as of `NotShown` False.

    Raises
    ------
    TypeError, ValueError
        If a field has the wrong type, shape or range.
    """

    widths: tuple[int, ...]
    activations: tuple[str, ...]
    samples: int
    digest: str
    argument: str
    residual: float
    radii: np.ndarray
    singular_values: np.ndarray
    slack: float
    curvature: float
    step_size: float
    rate: float
    steps: tuple[int, int]
    shown: bool = field(default=True, init=False, repr=False, metadata={"show": False})

    def __post_init__(self) -> None:
        """Check every field, and that the fields go together; what they say is not checked."""
        set_ = object.__setattr__
        widths = checks.sequence(self.widths, "widths", "integers")
        set_(self, "widths", tuple(checks.positive_integer(each, "each width") for each in widths))
        names = checks.sequence(self.activations, "activations", "names")
        set_(self, "activations", tuple(_activations.named(name).name for name in names))
        if len(widths) < 3 or self.widths[-1] != 1 or len(names) != len(widths) - 2:
            raise ValueError(
                "widths must be (d, at least one hidden width, 1) with one activation for each "
                f"hidden layer, but came {checks.shown(self.widths)} with {len(names)} activations."
            )
        set_(self, "samples", checks.positive_integer(self.samples, "samples"))
        if not isinstance(self.digest, str) or not re.fullmatch("[0-9a-f]{64}", self.digest):
            raise ValueError(
                f"digest must be 64 hexadecimal digits, but is {checks.shown(self.digest)}."
            )
        checks.one_of(self.argument, ARGUMENTS, "argument")
        for name in ("radii", "singular_values"):
            set_(self, name, checks.finite_array(getattr(self, name), name, ndim=1).copy())
        if self.radii.size > _MOST_RADII:
            raise ValueError(
                f"There must be at most {_MOST_RADII} radii, but there are {self.radii.size}."
            )
        if self.radii[0] <= 0 or not (np.diff(self.radii) > 0).all():
            raise ValueError("radii must be positive and increasing, but are not.")
        if self.singular_values.shape != self.radii.shape:
            raise ValueError(
                "singular_values must have one entry for each radius, but their numbers are "
                f"{self.singular_values.size} and {self.radii.size}."
            )
        if self.singular_values[-1] <= 0 or not (np.diff(self.singular_values) <= 0).all():
            raise ValueError("singular_values must be positive and must not increase, but do not.")
        set_(self, "residual", checks.nonnegative_number(self.residual, "residual"))
        set_(self, "slack", checks.fraction(self.slack, "slack"))
        for name in ("curvature", "step_size", "rate"):
            set_(self, name, checks.positive_number(getattr(self, name), name))
        if self.rate > 1:
            raise ValueError(f"rate must be at most 1, but is {self.rate}.")
        steps = checks.sequence(self.steps, "steps", "two integers")
        if len(steps) != 2:
            raise ValueError(f"steps must be two integers, but are {len(steps)}.")
        set_(self, "steps", tuple(_positive_count(count) for count in steps))
        super().__post_init__()

    def __eq__(self, other: object) -> bool:
        """Whether the other is a certificate that claims the same."""
        if not isinstance(other, Certificate):
            return NotImplemented
        return self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    @property
    def radius(self) -> float:
        """The greatest radius s_N: descent stays in B(w, s_N), and there it finds a zero."""
        return float(self.radii[-1])

    @property
    def pl_constant(self) -> float:
        """The lower bound α = (4/n) m_N² on |∇S|²/S over B(w, s_N)."""
        return _nearest(4 * Fraction(self.singular_values[-1]) ** 2 / self.samples, up=False)

    @property
    def loss(self) -> float:
        """The upper bound on the present loss S(w) = |e(w)|²/n."""
        return _nearest(Fraction(self.residual) ** 2 / self.samples, up=True)

    @property
    def flow_radius(self) -> float:
        """A radius r* at which Σ m_j (s_j − s_{j−1}) reaches |e(w)|: the flow is no longer."""
        left, before = Fraction(self.residual), Fraction(0)
        for s, m in zip(self.radii.tolist(), self.singular_values.tolist(), strict=True):
            value, gap = Fraction(m), Fraction(s) - before
            if left <= value * gap or s == self.radius:
                break
            left, before = left - value * gap, Fraction(s)
        return _nearest(before + left / value, up=True)

    def loss_bound(self, steps: Any) -> np.ndarray:
        """Return the bound (1 − δ)^k S(w) on the loss after k steps of size `step_size`."""
        return self._decayed(self.loss, _step_numbers(steps), self.loss)

    def distance_bound(self, steps: Any) -> np.ndarray:
        """Return a bound on the distance from the k-th step to the zero that is approached.

        It is the length still to travel: min(s_N, (1 − δ)^{k/2} |e(w)| / ((1 − ε) m_N)).
        """
        least = (1 - Fraction(self.slack)) * Fraction(float(self.singular_values[-1]))
        left = _nearest(Fraction(self.residual) / least, up=True)
        return self._decayed(left, 0.5 * _step_numbers(steps), self.radius)

    def _decayed(self, value: float, k: np.ndarray, most: float) -> np.ndarray:
        """Return (1 − δ)^k times a value, or `most`; also for a rate that 1 − δ loses."""
        if self.rate == 1:
            decay = np.where(k > 0, 0.0, 1.0)
        else:
            with np.errstate(under="ignore", over="ignore"):
                decay = np.exp(k * math.log1p(-self.rate))
        with np.errstate(invalid="ignore"):  # ∞ · 0 says nothing, but `most` holds
            return np.asarray(np.fmin(value * decay, most))

    def claims(self) -> tuple[str, ...]:
        """Return what is claimed in plain English.

        The step size to which the rate belongs is exact; every other number is rounded to the
        safe side.
        """
        first, second = self.steps
        targets = "the only target" if self.samples == 1 else f"all {self.samples} targets"
        return (
            f"There is a weight vector within {_rounded(self.radius, up=True)} of these weights "
            f"at which the network fits {targets} exactly.",
            "Gradient descent from these weights converges to one, with any step size up to "
            f"{_rounded(self.step_size, up=False)}.",
            # The rate is that of this very step: a rounded one may be too small for it.
            f"With the step size {self.step_size!r} the loss, now at most "
            f"{_rounded(self.loss, up=True)}, falls by at least "
            f"{_rounded(self.rate, up=False, places=2)} % a step: to a millionth of the present "
            f"loss after at most {_counted(first, 'step', 'steps')}, and to a millionth of that "
            f"after at most {second:,}.",
        )

    def _title(self) -> str:
        return "Certificate of convergence"

    def _rows(self) -> Iterator[tuple[str, str]]:
        names = ", ".join(self.activations)
        yield "network", f"{'-'.join(str(width) for width in self.widths)}, {names}"
        yield "argument", f"{self.argument}, at {_counted(self.radii.size, 'radius', 'radii')}"
        yield "residual |e(w)|", f"at most {_rounded(self.residual, up=True)}"
        yield "radius s_N", _rounded(self.radius, up=True)
        yield "PL constant α on that ball", f"at least {_rounded(self.pl_constant, up=False)}"
        yield "curvature β", f"at most {_rounded(self.curvature, up=True)}"
        yield "slack ε", _rounded(self.slack, up=False)
        yield "data and weights", f"SHA-256 {self.digest[:16]}…"

    def __str__(self) -> str:
        """Return the claim as sentences, and what it rests on."""
        title, *rows = super().__str__().split("\n")
        lines = [line for sentence in (*self.claims(), _CAVEAT) for line in _wrapped(sentence)]
        return "\n".join([title, *lines, "It rests on", *rows])

    def _repr_html_(self) -> str:
        said = " ".join(html.escape(sentence) for sentence in (*self.claims(), _CAVEAT))
        return f"<p>{said}</p>{super()._repr_html_()}"

    def to_json(self) -> str:
        """Return the certificate as JSON text, one field a line; floats come back exactly."""
        entries: dict[str, Any] = {"format": _FORMAT}
        for name in _FIELDS:
            value = getattr(self, name)
            entries[name] = value.tolist() if isinstance(value, np.ndarray) else value
        lines = [f"  {json.dumps(key)}: {json.dumps(entries[key])}" for key in entries]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Certificate:
        """Read a certificate from JSON text, strictly.

        Raises
        ------
        TypeError
            If `text` is not a string.
        ValueError
            If it is not JSON, if a field is missing, unknown, doubled or of the wrong kind, or if
            a number is not finite, out of its range, or would be rounded to become a float64.
        """
        entries = _strict_json.read_object(checks.instance(text, str, "text"))
        if entries.pop("format", None) != _FORMAT:
            raise ValueError(f"The certificate must have the format {_FORMAT!r}, but does not.")
        _strict_json.check_fields(entries, _FIELDS)
        try:
            return cls(**entries)
        except TypeError as error:  # a kind that JSON has, but the field does not take
            raise ValueError(str(error)) from error


# How each field stands in a file; a list is of the kind that is named.
_FIELDS: dict[str, str] = {
    "widths": "list of integers",
    "activations": "list of strings",
    "samples": "integer",
    "digest": "string",
    "argument": "string",
    "residual": "number",
    "slack": "number",
    "curvature": "number",
    "step_size": "number",
    "rate": "number",
    "steps": "list of integers",
    "radii": "list of numbers",
    "singular_values": "list of numbers",
}


def _positive_count(value: Any) -> int:
    """Return a number of steps, which may exceed what an index can be."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"steps must be integers, but one is {checks.shown(value)}.")
    if not 0 < value < 10**400:
        raise ValueError(f"steps must be positive, but one is {checks.shown(value)}.")
    return int(value)


def _step_numbers(steps: Any) -> np.ndarray:
    steps = checks.finite_array(steps, "steps")
    if (steps < 0).any():
        raise ValueError(f"steps must not be negative, but one is {steps.min():g}.")
    return steps


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _wrapped(sentence: str) -> list[str]:
    return textwrap.wrap(sentence, 88, initial_indent="  ", subsequent_indent="  ")


@dataclass(frozen=True)
class NotShown(Result):
    """No certificate was found; that shows nothing about gradient descent.

    Attributes
    ----------
    reason : str
        One sentence: the hypothesis that failed, or the inequality that did not come out.
    inequalities : tuple of Inequality
        Each inequality that the argument needs, with its two sides, at the best radius.
    shown : bool
        False, as of `Certificate` True.
    """

    reason: str
    inequalities: tuple[Inequality, ...] = ()
    shown: bool = field(default=False, init=False, repr=False, metadata={"show": False})

    def _title(self) -> str:
        return "Not shown"

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield "reason", self.reason
        for inequality in self.inequalities:
            yield inequality.statement, str(inequality)
