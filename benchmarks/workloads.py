"""The work that every library does, as plain NumPy arrays, and what a right answer is.

Networks are lists of (W, b), one for each layer, with a leading axis of runs where there are
several; inputs X are (n, d), one a row.  All numbers are float64 and all libraries get the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SLOPE = 0.1  # of the smooth leaky ReLU at −∞


@dataclass(frozen=True)
class Work:
    """One row of the table."""

    name: str
    title: str
    kind: str
    widths: tuple[int, ...]
    samples: int
    runs: int = 0
    steps: int = 0
    step_size: float = 0.05
    tolerance: float = 1e-10
    target: float = 1.0
    seed: int = 0
    layers: list[tuple[np.ndarray, np.ndarray]] = field(init=False, repr=False)
    X: np.ndarray = field(init=False, repr=False)
    y: np.ndarray = field(init=False, repr=False)
    v: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Draw inputs from N(0, 1/d), targets from N(0, 1) and LeCun's start."""
        rng = np.random.default_rng(self.seed)
        d = self.widths[0]
        batch = (self.runs,) if self.runs else ()
        set_ = object.__setattr__
        set_(self, "X", rng.standard_normal((self.samples, d)) / math.sqrt(d))
        set_(self, "y", rng.standard_normal(self.samples))
        layers = []
        for columns, rows in zip(self.widths[:-1], self.widths[1:], strict=True):
            W = rng.standard_normal((*batch, rows, columns)) / math.sqrt(columns)
            layers.append((W, np.zeros((*batch, rows))))
        set_(self, "layers", layers)
        # u of the start vector Jᵀu of the peers' eigenvalue recurrence.
        set_(self, "v", 1 + 0.3 * rng.standard_normal(self.samples))

    @property
    def flat(self) -> np.ndarray:
        """The parameters as plcore takes them: layer by layer, W row by row, then b."""
        parts = [
            part.reshape(*part.shape[: bool(self.runs)], -1)
            for W, b in self.layers
            for part in (W, b)
        ]
        return np.concatenate(parts, axis=-1)

    def with_(self, **changes: Any) -> Work:
        """Return the same work at another size."""
        kept = (
            "name",
            "title",
            "kind",
            "widths",
            "samples",
            "runs",
            "steps",
            "step_size",
            "tolerance",
            "target",
            "seed",
        )
        return Work(**{**{name: getattr(self, name) for name in kept}, **changes})

    def error(self, result: Any, expected: Any) -> float:
        """How far a result is from the expected one, in units of what is allowed."""
        result, expected = np.asarray(result), np.asarray(expected)
        if self.kind == "descent":  # losses, to 1e-10 of the start
            scale = 1e-10 * expected[..., :1]
        elif self.kind == "kernel":
            scale = 1e-12 * np.abs(expected).max()
        elif self.kind == "least eigenvalue":
            scale = 1e-10 * np.abs(expected).max()
        elif self.kind == "curvature":
            scale = 2 * 1e-6 * np.abs(expected).max()
        else:  # the time at which a flow reaches its end
            scale = 1e-4 * np.abs(expected).max()
        return float(np.abs((result - expected) / scale).max())


BASELINE, WIDE = (50, 10, 10, 1), (50, 100, 100, 1)
WORKS = {
    work.name: work
    for work in (
        Work(
            "W1",
            "gradient descent, widths 10-10, 20 runs × 10,000 steps",
            "descent",
            BASELINE,
            20,
            runs=20,
            steps=10_000,
            target=0.67,
        ),
        Work(
            "W2",
            "gradient descent, widths 100-100, 20 runs × 10,000 steps",
            "descent",
            WIDE,
            20,
            runs=20,
            steps=10_000,
            target=0.75,
        ),
        Work(
            "W3",
            "gradient descent, widths 10-10, 80 runs × 10,000 steps",
            "descent",
            BASELINE,
            20,
            runs=80,
            steps=10_000,
            target=0.6,
        ),
        Work(
            "K1",
            "kernel and its least eigenvalue, n = 500, d = 784, widths 256-256",
            "least eigenvalue",
            (784, 256, 256, 1),
            500,
            target=0.8,
        ),
        Work(
            "K2",
            "kernel at 1,000 parameter vectors, n = 20, d = 50, widths 10-10",
            "kernel",
            BASELINE,
            20,
            runs=1000,
        ),
        Work(
            "H1",
            "greatest Hessian eigenvalue to 1e-6, n = 500, d = 784, widths 256-256",
            "curvature",
            (784, 256, 256, 1),
            500,
            target=0.75,
        ),
        Work(
            "G1",
            "gradient flow to 1e-12 of the start, n = 20, d = 50, widths 10-10, rtol 1e-8",
            "flow",
            BASELINE,
            20,
        ),
    )
}


def ritz_error(diagonal: list[float], beside: list[float]) -> tuple[float, float]:
    """Return the greatest Ritz value of Lanczos' recurrence and its residual bound.

    `beside` has as many entries as `diagonal`; the last one is the length of the residual vector.
    It is the stopping rule of all libraries: stop when the bound is 1e-6 of the value.
    """
    k = len(diagonal)
    matrix = np.diag(diagonal) + np.diag(beside[:-1], -1) + np.diag(beside[:-1], 1)
    values, vectors = np.linalg.eigh(matrix)
    rho = beside[-1] * np.abs(vectors[-1])
    gap = values[-1] - values[-2] - rho[-2] if k > 1 else 0.0
    return float(values[-1]), float(rho[-1] ** 2 / gap if gap > rho[-1] else rho[-1])


def lanczos(product: Callable[[Any], Any], v: Any, dot: Callable[[Any, Any], float]) -> float:
    """Return the greatest eigenvalue to 1e-6 on whatever vectors the library has."""
    diagonal: list[float] = []
    beside: list[float] = []
    previous = None
    v = v / math.sqrt(dot(v, v))
    while True:
        r = product(v)
        if previous is not None:
            r = r - beside[-1] * previous
        diagonal.append(dot(r, v))
        r = r - diagonal[-1] * v
        beside.append(math.sqrt(dot(r, r)))
        value, error = ritz_error(diagonal, beside)
        if error <= 1e-6 * abs(value):
            return value
        previous, v = v, r / beside[-1]


Variants = dict[str, Callable[[Work], Callable[[], Any]]]
