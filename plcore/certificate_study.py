"""How early along training a certificate first holds: the study of the chapter on certificates.

>>> from plcore import certificate_study
>>> certificate_study.CASES["width 10"].widths
(50, 10, 1)
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import _files, activations, checks, initialization
from ._progress import progress
from .certificates import certify, first_certified
from .descent import gradient_descent
from .network import FeedForward
from .objectives import LeastSquares

__all__ = ["CASES", "Case", "first_certified_losses", "write_study"]

ARGUMENTS = ("plain", "first layer", "any n")
# Each step looked at is 1 % later than the one before, or the next one.
_GRID = 1.01
_BETWEEN_LOOKS = 40


@dataclass(frozen=True)
class Case:
    """A kind of data and network, from a LeCun start.

    * "gaussian": X has independent N(0, 1/d) entries, y is N(0, 1).
    * "digits": scikit-learn's 8 × 8 images, pixels in [0, 1] less the mean image; y is 1 for an
      odd digit and −1 for an even one.
    * "moons": scikit-learn's two moons with noise 0.1; y is ±1.

    Attributes
    ----------
    source : {"gaussian", "digits", "moons"}
    samples : int
        n.
    widths : tuple of int
        d_0, …, d_L.
    activation : str
    step_size : float
        η of gradient descent.
    steps : int
        The most steps taken.
    seeds : int, default 10
        The study runs seeds 0, 1, …
    """

    source: str
    samples: int
    widths: tuple[int, ...]
    activation: str
    step_size: float
    steps: int
    seeds: int = 10

    def problem(self, seed: int) -> LeastSquares:
        """Return the loss on the data of one seed."""
        network = FeedForward(self.widths, activations.named(self.activation))
        return LeastSquares(network, *self._data(seed))

    def start(self, seed: int) -> np.ndarray:
        """Return the LeCun start of one seed."""
        network = FeedForward(self.widths, activations.named(self.activation))
        return initialization.lecun(network, np.random.default_rng([seed, 1]))

    def _data(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        n, d = self.samples, self.widths[0]
        rng = np.random.default_rng([seed, 0])
        if self.source == "gaussian":
            return rng.standard_normal((n, d)) / math.sqrt(d), rng.standard_normal(n)
        from sklearn import datasets

        if self.source == "moons":
            X, label = datasets.make_moons(n, noise=0.1, random_state=seed)
            return X, 2.0 * label - 1
        X, label = datasets.load_digits(return_X_y=True)
        chosen = np.argsort(rng.uniform(size=len(X)), kind="stable")[:n]
        return (X[chosen] - X.mean(axis=0)) / 16, 2.0 * (label[chosen] % 2) - 1


_LEAKY = "smooth_leaky_relu(0.1)"
CASES = {
    "widths 10-10": Case("gaussian", 20, (50, 10, 10, 1), _LEAKY, 0.1, 4_000),
    "width 10": Case("gaussian", 20, (50, 10, 1), _LEAKY, 0.1, 4_000),
    "n > d + 1": Case("gaussian", 20, (10, 10, 10, 1), _LEAKY, 0.1, 60_000),
    "digits": Case("digits", 50, (64, 32, 32, 1), _LEAKY, 0.05, 60_000),
    "moons": Case("moons", 20, (2, 16, 16, 1), "tanh", 0.05, 400_000),
}
"""The standard cases, by the names used in the book."""


def _path(
    problem: LeastSquares, start: np.ndarray, step_size: float, most: int
) -> tuple[list[int], np.ndarray]:
    """Return the steps of the grid and the points there, up to where "plain" holds."""
    steps, points = [0], [start]
    while steps[-1] < most:
        step = min(max(steps[-1] + 1, math.ceil(_GRID * steps[-1])), most)
        run = gradient_descent(problem, points[-1], step_size, step - steps[-1])
        if not np.isfinite(run.final).all():
            break
        steps.append(step)
        points.append(run.final)
        if (
            len(steps) % _BETWEEN_LOOKS == 0
            and certify(problem, points[-1], arguments=["plain"]).shown
        ):
            break
    return steps, np.array(points)


def first_certified_losses(
    case: str, seed: int, arguments: Iterable[str] = ARGUMENTS
) -> dict[str, Any]:
    """Return where along gradient descent each argument first certifies that it will converge.

    The steps looked at are 0, 1, 2, … and, beyond 100, each 1 % after the last.  The step
    returned is certified and the one looked at before it is not, by bisection.

    Parameters
    ----------
    case : str
        One of `CASES`.
    seed : int
    arguments : iterable of str, default all three

    Returns
    -------
    dict
        ``"start"``: the loss at the start; and for each argument the pair (step, loss), or None
        if it certified none of the steps.

    Raises
    ------
    TypeError, ValueError
        If there is no such case or argument, or `seed` is not a nonnegative integer.
    """
    chosen = CASES[checks.one_of(case, tuple(CASES), "case")]
    seed = checks.positive_integer(seed, "seed", least=0)
    if not (names := checks.sequence(arguments, "arguments", "names of arguments")):
        raise ValueError("arguments must name at least one argument, but is empty.")
    for name in names:
        checks.one_of(name, ARGUMENTS, "each of arguments")
    problem = chosen.problem(seed)
    steps, path = _path(problem, chosen.start(seed), chosen.step_size, chosen.steps)
    found: dict[str, Any] = {"start": float(problem.value(path[0]))}
    for name in names:
        if name == "first layer" and chosen.samples > chosen.widths[0] + 1:
            found[name] = None
            continue
        index, _ = first_certified(problem, path, arguments=[name])
        at = None if index is None else (steps[index], float(problem.value(path[index])))
        found[name] = at
    return found


def write_study(path: str | Path) -> None:
    """Run the whole study (some minutes) and write it as JSON, one case and argument a line.

    The medians are lower medians over the seeds; a seed that was not certified counts as loss 0.

    Raises
    ------
    TypeError, ValueError
        If `path` is not a file's path in a folder that exists.
    """
    path = _files.destination(path)
    plan = [(case, seed) for case, chosen in CASES.items() for seed in range(chosen.seeds)]
    done = progress(plan, len(plan), "certificates")
    found = [(case, first_certified_losses(case, seed)) for case, seed in done]
    rows = []
    for case in CASES:
        runs = [run for name, run in found if name == case]
        start = float(np.median([run["start"] for run in runs]))
        for name in (*ARGUMENTS, "best"):
            losses = [_loss(run, name) for run in runs]
            rows.append(
                {
                    "case": case,
                    "argument": name,
                    "start": _rounded(start),
                    "median": _rounded(sorted(losses)[(len(losses) - 1) // 2]),
                    "losses": [_rounded(loss) for loss in losses],
                    "steps": [run[name][0] if run.get(name) else None for run in runs],
                }
            )
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    _files.write(path, f"[\n{lines}\n]\n".encode())


def _loss(run: dict[str, Any], name: str) -> float:
    names = ARGUMENTS if name == "best" else (name,)
    return max((run[each][1] for each in names if run[each]), default=0.0)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
