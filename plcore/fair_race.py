"""How fair is the race?  The four starts again, each with the step size that suits it.

At one common step size the start with the largest tangent kernel makes the biggest steps.  Here the
starts of `experiments` meet under seven `POLICIES`: at a common step, each at its own best step,
at equal curvature, with a line search, with momentum and with Adam.  A step size is chosen on the
`TUNING` seeds and then raced on others, so that no start is judged by the data it was tuned on.

>>> from plcore import fair_race
>>> setting = fair_race.settings()["n = 5"]
>>> entries = [
...     fair_race.enter(setting, start, "common step", seeds=6)
...     for start in ("positive", "LeCun")
... ]
>>> low, middle, high = fair_race.speed_up(*entries)
>>> bool(low > 2)  # the positive start is at least twice as fast
True
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from . import _files, checks
from ._progress import progress
from .curvature import top_curvature
from .experiments import STARTS, Setting, median_interval, seed_list
from .optimizers import Training, best_step, rounded, train
from .results import Result

__all__ = [
    "LEVELS",
    "POLICIES",
    "TUNING",
    "Entry",
    "enter",
    "read",
    "settings",
    "speed_up",
    "study",
]

LEVELS = (1e-2, 1e-4, 1e-6)
"""The losses whose first times are compared."""

TUNING = tuple(range(1000, 1010))
"""The seeds on which step sizes are chosen."""

POLICIES = {
    "common step": "gradient descent",
    "best step": "gradient descent",
    "equal curvature at the start": "gradient descent",
    "equal curvature all along": "curvature steps",
    "line search": "line search",
    "momentum": "momentum",
    "Adam": "Adam",
}
"""How step sizes are chosen, each with its method of `optimizers.METHODS`; see `enter`."""

_TUNED = ("best step", "momentum", "Adam")
_COMMON = 0.7  # step size times curvature at the positive start, for the common step
_MOST_STEPS = 4000


@dataclass(frozen=True)
class Entry(Result):
    """One start under one policy: how long it takes, seed by seed.

    Attributes
    ----------
    start, policy : str
        One of `STARTS`, one of `POLICIES`.
    step_size : float
        η; for "equal curvature at the start" the median over the seeds, for "equal curvature all
        along" the product of the step and the curvature, for "line search" the first trial.
    steps, cost : numpy.ndarray, shape (seeds, 3)
        Steps, and gradients, to each of `LEVELS`; ∞ where it was not reached.
    tried : numpy.ndarray, shape (tried, 2)
        Each step size of the search, in order, and the median steps to the last level on the
        tuning seeds: ∞ where that is more than twice the best found before.
    kernel : numpy.ndarray, shape (4, 4)
        Of "best step" alone: least and greatest eigenvalue of K, their ratio κ(K), and the
        greatest eigenvalue of ∇²S, medians over the seeds, at the start and after as many steps
        as the median run takes to each level (NaN where it does not get there).
    """

    start: str
    policy: str
    step_size: float
    steps: np.ndarray
    cost: np.ndarray
    tried: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    kernel: np.ndarray = field(default_factory=lambda: np.empty((0, 4)))


def settings(*, large: bool = False) -> dict[str, Setting]:
    """Return the settings of the study, by name.

    The baseline is that of the chapter on experiments: n = 20, d = 50, hidden widths 10-10, smooth
    leaky ReLU, A = 2.  Every other setting differs from it in what its name says; A√d_1 is fixed
    unless A itself is varied.

    Parameters
    ----------
    large : bool, default False
        Whether to add the widths 100, 500 and 1000 and all 442 diabetes patients.

    Returns
    -------
    dict of str to Setting
    """
    base, large = Setting(steps=_MOST_STEPS), checks.flag(large, "large")

    def wide(*widths: int) -> Setting:
        return replace(base, hidden_widths=widths, output_scale=2 * math.sqrt(10 / widths[0]))

    found = {"baseline": base}
    found |= {f"depth {h + 1}": wide(*(10,) * h) for h in (1, 3, 4, 5)}
    widths = (5, 20, 50, 200) + ((100, 500, 1000) if large else ())
    found |= {f"width {m}": wide(m, m) for m in widths}
    found |= {f"n = {n}": replace(base, samples=n) for n in (5, 10, 35, 50)}
    found |= {f"correlation {rho}": replace(base, correlation=rho) for rho in (0.9, 0.99)}
    found |= {f"A = {A}": replace(base, output_scale=A) for A in (0.5, 1.0, 4.0, 8.0, 16.0)}
    found["tanh"] = replace(base, activation="tanh")
    digits = replace(base, source="digits", dimension=64)
    found |= {f"digits, n = {n}": replace(digits, samples=n) for n in (30, 50)}
    lifted = replace(base, source="diabetes")
    found["diabetes, n = 50"] = replace(lifted, samples=50, dimension=100)
    if large:
        found["diabetes, n = 442"] = replace(lifted, samples=442, dimension=600)
    return found


def speed_up(entry: Entry, against: Entry, level: float = 1e-6, *, cost: bool = False) -> Any:
    """Return how many times fewer steps `entry` takes than `against`: low, median, high.

    The ratio is taken seed by seed, on the same data.  Where neither run arrives it counts as 1.

    Parameters
    ----------
    entry, against : Entry
        Of the same setting and seeds.
    level : float
        One of `LEVELS`.
    cost : bool, default False
        Whether gradients are counted instead of steps.

    Returns
    -------
    tuple of float
        `median_interval` of the ratios, at 95 %.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of the kind stated.
    """
    pair = [checks.instance(one, Entry, "each entry") for one in (entry, against)]
    own, other = (one.cost if checks.flag(cost, "cost") else one.steps for one in pair)
    level = checks.number(level, "level")
    if level not in LEVELS:
        raise ValueError(f"level must be one of {LEVELS}, but is {checks.shown(level)}.")
    index = LEVELS.index(level)
    if own.shape != other.shape:
        raise ValueError("Both entries must have the same number of seeds.")
    own, other = np.maximum(own[:, index], 1.0), np.maximum(other[:, index], 1.0)
    with np.errstate(invalid="ignore"):
        ratio = other / own
    return median_interval(np.where(np.isnan(ratio), 1.0, ratio))


def _points(setting: Setting, start: str, seeds: Sequence[int]) -> np.ndarray:
    return np.array([setting.start(start, seed) for seed in seeds])


def _curvature(setting: Setting, start: str, seeds: Sequence[int]) -> np.ndarray:
    """Return λ_max(∇²S) at the start, for each seed."""
    top = top_curvature(setting.problem(seeds), _points(setting, start, seeds), 1e-3).value
    return np.asarray(top)


def enter(setting: Setting, start: str, policy: str, seeds: int | Sequence[int] = 20) -> Entry:
    """Run one start under one policy.

    ==============================  ===========================================================
    policy                          step size
    ==============================  ===========================================================
    "common step"                   the same for all starts: 0.7/λ_max(∇²S) at the positive one
    "best step"                     `optimizers.best_step` of this start, on the `TUNING` seeds
    "equal curvature at the start"  1/λ_max(∇²S(w_0)), for each run its own
    "equal curvature all along"     1/λ_max(∇²S(w_k)), measured again at every tenth step
    "line search"                   Armijo's condition
    "momentum", "Adam"              the same, with this method
    ==============================  ===========================================================

    Parameters
    ----------
    setting : Setting
        ``setting.steps`` is the most that a run may take; ``setting.step_size`` is not used.
    start : str
        One of `STARTS`.
    policy : str
        One of `POLICIES`.
    seeds : int or sequence of int, default 20
        The seeds; a number stands for the first so many.

    Returns
    -------
    Entry

    Raises
    ------
    TypeError, ValueError
        If an argument is not of the kind stated.
    """
    checks.instance(setting, Setting, "setting")
    checks.one_of(start, STARTS, "start")
    method = POLICIES[checks.one_of(policy, tuple(POLICIES), "policy")]
    listed = seed_list(seeds)
    tried, step = np.empty((0, 2)), np.array(1.0)
    if policy in _TUNED:
        best, tried = _tuned(setting, start, method)
        step = np.array(best)
    elif policy == "common step":
        top = np.median(_curvature(setting, "positive", TUNING))
        step = np.array(rounded(_COMMON / float(top)))
    elif policy == "equal curvature at the start":
        step = 1 / _curvature(setting, start, listed)
    problem, w = setting.problem(listed), _points(setting, start, listed)
    run = train(problem, w, method, step, setting.steps, loss_target=LEVELS[-1])
    steps = np.stack([run.steps_to(level) for level in LEVELS], axis=-1)
    cost = np.stack([run.cost_to(level) for level in LEVELS], axis=-1)
    kernel = np.empty((0, 4))
    if policy == "best step":
        kernel = _kernel_along(setting, listed, w, run, float(step))
    return Entry(start, policy, float(np.median(step)), steps, cost, tried, kernel)


def _tuned(setting: Setting, start: str, method: str) -> tuple[float, np.ndarray]:
    """Return the best step size on the tuning seeds, and what was tried."""
    guess = 0.02 if method == "Adam" else 1 / float(np.median(_curvature(setting, start, TUNING)))
    problem, w = setting.problem(TUNING), _points(setting, start, TUNING)
    return best_step(problem, w, method, guess, setting.steps, LEVELS)


def _kernel_along(
    setting: Setting, seeds: tuple[int, ...], w: np.ndarray, run: Training, step: float
) -> np.ndarray:
    """Return the field `kernel` of an `Entry`."""
    done, rows, kept = 0, [], np.array(seeds)
    for level in (math.inf, *LEVELS):
        at = float(np.median(run.steps_to(level))) if level < math.inf else 0.0
        if not math.isfinite(at):
            rows.append([math.nan] * 4)
            continue
        problem = setting.problem(kept.tolist())
        w = train(problem, w, "gradient descent", step, int(at) - done).final
        sound = np.isfinite(w).all(axis=-1)
        w, kept, done = w[sound], kept[sound], int(at)
        problem = setting.problem(kept.tolist())
        values = np.linalg.eigvalsh(problem.kernel(w))
        sharp = top_curvature(problem, w, 1e-3).value
        least, most = values[:, 0], values[:, -1]
        rows.append([float(np.median(v)) for v in (least, most, most / least, sharp)])
    return np.array(rows)


def study(
    path: str | Path | None = None,
    *,
    seeds: int = 20,
    large: bool = False,
    only: Sequence[str] | None = None,
    jobs: int = 1,
) -> dict[str, dict[tuple[str, str], Entry]]:
    """Run every policy from every start in every setting, and store the results.

    It takes about sixteen minutes of one core, half of that with ``jobs=2``; a progress bar shows
    how far it is.  The larger list takes hours: at width 500 the search for Adam's best step from
    one start alone takes three minutes.

    Parameters
    ----------
    path : str or path-like, optional
        A JSON file to write; `read` reads it.
    seeds : int, default 20
        The number of seeds.
    large : bool, default False
        Whether to take the larger list of `settings`.
    only : sequence of str, optional
        Names of the settings to run, if not all.
    jobs : int, default 1
        Processes, by joblib: inside ``joblib.parallel_config(...)`` the same call runs on any of
        its backends, Dask's among them.

    Returns
    -------
    dict
        ``results[setting][policy, start]`` is an `Entry`.  In the settings named "A = …", which
        change the positive start alone, there is no other.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of the kind stated.
    """
    checks.positive_integer(seeds, "seeds", least=6)
    jobs = checks.positive_integer(jobs, "jobs")
    path = None if path is None else _files.destination(path)
    chosen = settings(large=large)
    if only is not None:
        names = checks.sequence(only, "only", "names of settings")
        for name in names:
            if not isinstance(name, str) or name not in chosen:
                raise ValueError(f"There is no setting {checks.shown(name)}; see settings().")
        chosen = {name: chosen[name] for name in names}
    tasks = [
        (name, start, policy)
        for name, setting in chosen.items()
        for policy in POLICIES
        for start in (("positive",) if name.startswith("A = ") else STARTS)
    ]
    parallel = Parallel(n_jobs=jobs, return_as="generator")
    done = parallel(delayed(enter)(chosen[n], start, policy, seeds) for n, start, policy in tasks)
    entries = progress(done, len(tasks), "fair race")
    results: dict[str, dict[tuple[str, str], Entry]] = {name: {} for name in chosen}
    for (name, start, policy), entry in zip(tasks, entries, strict=True):
        results[name][policy, start] = entry
    if path is not None:
        _files.write(path, _to_json(chosen, results, seeds).encode())
    return results


def _to_json(
    chosen: dict[str, Setting], results: dict[str, dict[tuple[str, str], Entry]], seeds: int
) -> str:
    """Write results as JSON, an entry a line; ∞ and NaN become null."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return [plain(part) for part in value.tolist()]
        if isinstance(value, list):
            return [plain(part) for part in value]
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        if isinstance(value, float):
            short = float(f"{value:.4g}") if math.isfinite(value) else None
            return int(short) if short is not None and short.is_integer() else short
        return value

    entries = []
    for name, found in results.items():
        for entry in found.values():
            entries.append({"setting": name, **plain(asdict(entry))})
            if np.array_equal(entry.cost, entry.steps):
                del entries[-1]["cost"]  # a gradient a step
    head = {
        "about": "plcore.fair_race.study: steps and gradients to each level, seed by seed",
        "levels": LEVELS,
        "seeds": seeds,
        "settings": {name: asdict(setting) for name, setting in chosen.items()},
    }
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries)
    return json.dumps(head, indent=1)[:-2] + f',\n "entries": [\n{lines}\n]\n}}\n'


def read(path: str | Path) -> dict[str, dict[tuple[str, str], Entry]]:
    """Return what `study` has stored: ``results[setting][policy, start]``.

    Numbers have four digits; NaN, of `Entry.kernel` alone, and ∞ come back.
    """
    stored = json.loads(Path(path).read_text(encoding="utf-8"))
    results: dict[str, dict[tuple[str, str], Entry]] = {name: {} for name in stored["settings"]}
    for entry in stored["entries"]:
        name, entry = entry.pop("setting"), {"cost": entry["steps"]} | entry
        for key, columns in (("steps", 3), ("cost", 3), ("tried", 2), ("kernel", 4)):
            array = np.array(entry[key], dtype=float).reshape(-1, columns)
            missing = np.nan if key == "kernel" else np.inf
            entry[key] = np.where(np.isnan(array), missing, array)
        results[name][entry["policy"], entry["start"]] = Entry(**entry)
    return results
