"""The study behind the chapter on sharper constants: what is proved, and what is true.

For each data set, an output scale that Remark 2.6 asks for, one that the sharper bounds certify,
and one up to which a search shows that the criterion fails; then how the gap depends on depth,
width, sample count and activation, the step sizes and rates, and a hunt for points below the
bounds.  `write_study` runs all of it and writes one small file; every part can be run by itself.

>>> from plcore.constants_study import output_scales, setting
>>> small = setting(2, "tanh", samples=3, dimension=5, width=3)
>>> row = output_scales(small, seed=0, criteria=["integral"], effort=0.2)
>>> found = row["integral"]
>>> found["critical"] < found["certified"] < row["remark"] / 10
True
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from . import _files, checks
from ._progress import progress
from .bound_trials import count_violations, step_sizes
from .experiments import Setting
from .initialization import positive
from .objectives import LeastSquares
from .positive_start import positive_start_constants
from .positive_start_bounds import certified_output_scale, positive_start_bounds
from .positive_start_descent import positive_start_descent
from .worst_points import critical_scale, worst_points

__all__ = [
    "ACTIVATIONS",
    "CRITERIA",
    "DEPTHS",
    "SWEEPS",
    "output_scales",
    "rounded",
    "sandwich",
    "setting",
    "step_row",
    "violation_row",
    "write_study",
]

ACTIVATIONS = ("smooth_leaky_relu(0.1)", "tanh")
DEPTHS = (2, 3, 4)
CRITERIA = ("integral", "radius")
"""(T2) and (1.1), as `certified_output_scale` and `critical_scale` call them."""

_GUESS = {"integral": 1.1, "radius": 2.0}  # about the critical scale at depth 2
_HIDDEN = 1.0  # every entry of W_2 … W_{L−1}


def setting(
    depth: int = 2,
    activation: str = ACTIVATIONS[0],
    *,
    samples: int = 10,
    dimension: int = 20,
    width: int = 10,
) -> Setting:
    """Return the `Setting` of one row: X with entries N(0, 1/d), y with entries N(0, 1).

    Parameters
    ----------
    depth : int
        L ≥ 2.
    activation : str
        A name that `activations.named` knows.
    samples, dimension, width : int
        n, d and every hidden width.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of the kind stated.
    """
    depth = checks.positive_integer(depth, "depth", least=2)
    width = checks.positive_integer(width, "width")
    return Setting(samples, dimension, (width,) * (depth - 1), activation)


def _problem(one: Setting, seed: int) -> LeastSquares:
    checks.instance(one, Setting, "one")
    X, y = one.data(checks.positive_integer(seed, "seed", least=0))
    return LeastSquares(one.network(), X, y)


def output_scales(
    one: Setting,
    seed: int,
    *,
    criteria: Iterable[str] = CRITERIA,
    tolerance: float = 0.02,
    effort: float = 1.0,
) -> dict[str, Any]:
    """Return the output scales of Remark 2.6, of the sharper bounds and of the search.

    Parameters
    ----------
    one : Setting
        Its widths, activation, sample count and dimension count.
    seed : int
        Draws the data; the search has a stream of its own.
    criteria : iterable of str
        Out of `CRITERIA`.
    tolerance, effort : float
        As for `critical_scale`.

    Returns
    -------
    dict
        * ``depth``, ``activation``, ``width``, ``samples``, ``dimension``, ``seed``;
        * ``remark``, the output scale that Remark 2.6 asks for;
        * for each criterion a dict with ``certified``; ``critical`` and, above it,
          ``not_refuted``, as in `worst_points.CriticalScale`; and ``ratio``, certified/critical.
    """
    problem = _problem(one, seed)
    network, X, y = problem.network, problem.X, problem.y
    row: dict[str, Any] = {
        "depth": network.depth,
        "activation": one.activation,
        "width": one.hidden_widths[0],
        "samples": one.samples,
        "dimension": one.dimension,
        "seed": seed,
        "remark": positive_start_constants(network, X, y, hidden=_HIDDEN).required_scale,
    }
    for name in criteria:
        checks.one_of(name, CRITERIA, "each of criteria")
        proved = certified_output_scale(network, X, y, hidden=_HIDDEN, criterion=name).scale
        found = critical_scale(
            problem,
            lambda scale: positive(network, scale, _HIDDEN),
            np.random.default_rng([seed, network.depth]),
            criterion=name,
            guess=_GUESS[name] * 0.45 ** (network.depth - 2),
            tolerance=tolerance,
            effort=effort,
        )
        row[name] = {
            "certified": proved,
            "critical": found.value,
            "not_refuted": found.not_refuted,
            "ratio": proved / found.value,
        }
    return row


def sandwich(one: Setting, seed: int, scale: float, effort: float = 1.0) -> dict[str, Any]:
    """Return bounds on α(w_0, r) from below and above at the same radii, for one output scale A.

    Parameters
    ----------
    one, seed
        As in `output_scales`.
    scale : float
        A.
    effort : float
        As for `worst_points`.

    Returns
    -------
    dict
        * ``scale``, A, and ``loss``, S(w_0);
        * ``radii``, and the bounds ``lower`` and ``upper`` on α there;
        * ``proved``, ∫√α/(2√S(w_0)) of the lower bounds: (T2) is proved where it exceeds 1;
        * ``refuted``, the same of the upper bounds: (T2) is refuted where it is at most 1.
    """
    problem = _problem(one, seed)
    network = problem.network
    start = positive(network, checks.positive_number(scale, "scale"), _HIDDEN)
    above = worst_points(problem, start, np.random.default_rng([seed, 1]), effort=effort)
    own = positive_start_bounds(network, problem.X, problem.y, start)
    radii = above.vanishing * np.geomspace(0.01, 1.0, 25)[:-1]
    below = positive_start_bounds(network, problem.X, problem.y, start, radii)
    return {
        "scale": scale,
        "loss": above.loss,
        "radii": radii,
        "lower": below.alphas,
        "upper": above.at(radii),
        "proved": _integral(own.radii, own.alphas) / (2 * math.sqrt(own.loss)),
        "refuted": above.surplus("integral"),
    }


def _integral(radii: np.ndarray, alphas: np.ndarray) -> float:
    return float(np.diff(radii, prepend=0.0) @ np.sqrt(alphas))


def step_row(one: Setting, seed: int, factor: float) -> dict[str, Any]:
    """Return step sizes and rates at `factor` times the scale certified for (T2).

    They are those of `bound_trials.step_sizes` and, with the sharper bound on the curvature of
    `positive_start_descent`, ``certified``, with its ε and its β.

    Parameters
    ----------
    one, seed
        As in `output_scales`.
    factor : float
        How far beyond A_cert the start is.

    Returns
    -------
    dict
        * ``depth``, ``activation``, ``seed``, ``factor``, and ``scale``, the output scale;
        * the fields of `bound_trials.StepTrial`;
        * ``certified``, ``certified_epsilon`` and ``certified_curvature``.
    """
    problem = _problem(one, seed)
    factor = checks.positive_number(factor, "factor")
    proved = certified_output_scale(problem.network, problem.X, problem.y, hidden=_HIDDEN).scale
    start = positive(problem.network, factor * proved, _HIDDEN)
    found = step_sizes(problem, start, np.random.default_rng([seed, 2]))
    best = positive_start_descent(problem.network, problem.X, problem.y, start, best="step")
    return {
        "depth": problem.network.depth,
        "activation": one.activation,
        "seed": seed,
        "factor": factor,
        "scale": factor * proved,
        **asdict(found),
        "certified": best.step_size,
        "certified_epsilon": best.epsilon,
        "certified_curvature": best.curvature,
    }


def violation_row(
    one: Setting, seed: int, factors: Iterable[float] = (0.7, 1.2, 3.0), points: int = 600
) -> dict[str, Any]:
    """Return `bound_trials.count_violations` at several multiples of the certified scale.

    Parameters
    ----------
    one, seed
        As in `output_scales`.
    factors : iterable of float
        The multiples.
    points : int
        At least so many points at each.

    Returns
    -------
    dict
        * ``depth``, ``activation``, ``width``, ``samples``, ``seed``;
        * ``points`` at all scales together, and ``violations``, those below the bound;
        * ``least_ratio``, the least quotient of ratio and bound.
    """
    problem = _problem(one, seed)
    proved = certified_output_scale(problem.network, problem.X, problem.y, hidden=_HIDDEN).scale
    found = [
        count_violations(
            problem,
            positive(problem.network, checks.positive_number(factor, "factor") * proved, _HIDDEN),
            points,
            np.random.default_rng([seed, index]),
        )
        for index, factor in enumerate(factors)
    ]
    return {
        "depth": problem.network.depth,
        "activation": one.activation,
        "width": one.hidden_widths[0],
        "samples": one.samples,
        "seed": seed,
        "points": sum(part.points for part in found),
        "violations": sum(part.violations for part in found),
        "least_ratio": min(part.least_ratio for part in found),
    }


def write_study(path: Any, seeds: int = 20, jobs: int = 1) -> dict[str, Any]:
    """Run the whole study, write it to a JSON file and return it.

    Parameters
    ----------
    path : str or path-like
    seeds : int
        Number of data sets, from seed 0 on; sweeps and step sizes take three at most.
    jobs : int
        Processes, by joblib.

    Returns
    -------
    dict
        * ``rows`` and, along `SWEEPS`, ``sweeps``: lists of what `output_scales` returns;
        * ``medians`` of the rows' ratios;
        * ``sandwich``, ``step_sizes``, ``violations``: lists of what the function of a row returns.

        All numbers have four digits.

    Raises
    ------
    TypeError, ValueError
        If a number is not a positive integer, or the file's folder does not exist.
    """
    seeds = checks.positive_integer(seeds, "seeds")
    jobs = checks.positive_integer(jobs, "jobs")
    path = _files.destination(path)
    plan = _plan(seeds)
    tasks = [
        delayed(call)(*args, **options) for part in plan.values() for call, args, options in part
    ]
    done = Parallel(n_jobs=jobs, return_as="generator")(tasks)
    found = iter(list(progress(done, len(tasks), "constants")))
    study: dict[str, Any] = {name: [next(found) for _ in part] for name, part in plan.items()}
    study["medians"] = _medians(study["rows"])
    study = rounded(study)
    _files.write(path, _compact(study).encode())
    return study


def _plan(seeds: int) -> dict[str, list[tuple[Any, tuple[Any, ...], dict[str, Any]]]]:
    """Return the calls behind each part of the study."""
    every, few = range(seeds), range(min(seeds, 3))
    pairs = [(depth, activation) for depth in DEPTHS for activation in ACTIVATIONS]
    shapes = [(10, 10), (4, 6), (20, 12)]
    return {
        "rows": [(output_scales, (setting(*pair), seed), {}) for seed in every for pair in pairs],
        "sweeps": [
            (_sweep_row, (name, value, seed), {})
            for name, values in SWEEPS.items()
            for value in values
            for seed in few
        ],
        "sandwich": [
            (sandwich, (setting(depth), 0, float(scale)), {})
            for depth in (2, 3)
            for scale in np.geomspace(0.25, 4.0, 9)
        ],
        "step_sizes": [
            (step_row, (setting(*pair), seed, factor), {})
            for pair in pairs[:4]
            for factor in (1.2, 2.0, 4.0)
            for seed in few
        ],
        "violations": [
            (violation_row, (setting(*pair, samples=n, width=width), seed), {"points": 1000})
            for pair in pairs
            for n, width in shapes
            for seed in few
        ],
    }


SWEEPS: dict[str, tuple[Any, ...]] = {
    "depth": (2, 3, 4, 5),
    "width": (3, 5, 10, 20, 40),
    "samples": (2, 5, 10, 15, 20),
    "activation": ("smooth_leaky_relu(0.5)", "arctan", "arcsinh", "shifted_softplus"),
}
"""What `setting` takes, and the values of each sweep; the rest stays at its default."""


def _sweep_row(name: str, value: Any, seed: int) -> dict[str, Any]:
    row = output_scales(setting(**{name: value}), seed, criteria=("integral",), effort=0.5)
    return {"sweep": name, **row}


def _medians(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for depth in DEPTHS:
        for activation in ACTIVATIONS:
            mine = [r for r in rows if r["depth"] == depth and r["activation"] == activation]
            median: dict[str, Any] = {"depth": depth, "activation": activation}
            for name in CRITERIA:
                median[name] = float(np.median([row[name]["ratio"] for row in mine]))
            found.append(median)
    return found


def rounded(value: Any) -> Any:
    """Return plain lists and numbers with four significant digits; ∞ becomes None."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [rounded(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _compact(study: dict[str, Any]) -> str:
    """Return JSON with one row a line."""
    parts = []
    for name, part in study.items():
        listed = part if isinstance(part, list) else [part]
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in listed)
        parts.append(f'"{name}": ' + (f"[\n{lines}\n]" if isinstance(part, list) else lines))
    return "{\n" + ",\n".join(parts) + "\n}\n"
