"""The numerical experiments of the paper's Section 3, as functions of their setting.

A `Setting` states every number of a run.  Each seed draws its own data and its own starts from
independent streams, so adding a start or a seed changes none of the others.  The paper does not
give its numbers in a form that reached us: the defaults are ours, and the book shows that its
conclusions do not hinge on them.

>>> from plcore.experiments import Setting, race
>>> run = race(Setting(steps=1000), starts=("positive", "LeCun"), seeds=2)
>>> print([bool(loss < 1e-3) for loss in run.losses[:, :, -1].mean(axis=1)])
[True, False]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from . import checks, initialization
from .activations import named
from .descent import gradient_descent
from .network import FeedForward
from .objectives import LeastSquares
from .results import Result

__all__ = ["STARTS", "Race", "Setting", "race", "sweep"]

STARTS = ("positive", "LeCun", "absolute LeCun", "conditioned LeCun")
"""The starts (i)–(iv) of Section 3: positive, LeCun, its absolute value, LeCun in a box."""


@dataclass(frozen=True)
class Setting(Result):
    """Everything that defines one training run, but for its seed and its start.

    Inputs have independent N(0, 1/d) entries, so |x| is about 1; targets are N(0, 1).

    Parameters
    ----------
    samples : int
        Number n of inputs.
    dimension : int
        Input dimension d.
    hidden_widths : tuple of int
        d_1 … d_{L−1}.
    activation : str
        A name that `activations.named` knows.
    output_scale : float
        The entry A of W_L in the positive start.
    box : float
        Lower end of the box of the conditioned start, in standard deviations of an entry of W_2;
        the box is [a, 2a].
    step_size : float
        Step size η of gradient descent, in units of (parameter)²/loss.
    steps : int
        Number of steps.

    Raises
    ------
    TypeError, ValueError
        If a number is not of the kind stated, or there is no such activation.
    """

    samples: int = 20
    dimension: int = 50
    hidden_widths: tuple[int, ...] = (10, 10)
    activation: str = "smooth_leaky_relu(0.1)"
    output_scale: float = 2.0
    box: float = 1.0
    step_size: float = 0.02
    steps: int = 3000

    def __post_init__(self) -> None:
        """Check each number."""
        super().__post_init__()
        checks.positive_integer(self.samples, "samples")
        checks.positive_integer(self.dimension, "dimension")
        checks.positive_integer(self.steps, "steps")
        checks.positive_number(self.output_scale, "output_scale")
        checks.positive_number(self.box, "box")
        checks.positive_number(self.step_size, "step_size")
        self.network()

    def network(self) -> FeedForward:
        """Return the network of this setting."""
        return FeedForward((self.dimension, *self.hidden_widths, 1), named(self.activation))

    def data(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs X of shape (n, d) and targets y of shape (n,) of one seed."""
        rng = np.random.default_rng([seed, 0])
        X = rng.standard_normal((self.samples, self.dimension)) / math.sqrt(self.dimension)
        return X, rng.standard_normal(self.samples)

    def start(self, kind: str, seed: int) -> np.ndarray:
        """Return the start `kind`, one of `STARTS`, of one seed; shape (p,).

        LeCun's start and its absolute value share their draw.
        """
        checks.one_of(kind, STARTS, "kind")
        network = self.network()
        if kind == "positive":
            return initialization.positive(network, self.output_scale)
        rng = np.random.default_rng([seed, 1])
        if kind == "LeCun":
            return initialization.lecun(network, rng)
        if kind == "absolute LeCun":
            return initialization.absolute_lecun(network, rng)
        low = self.box / math.sqrt(self.hidden_widths[0])
        return initialization.conditioned_lecun(network, low, np.random.default_rng([seed, 2]))

    def problem(self, seeds: Sequence[int]) -> LeastSquares:
        """Return the objective whose leading axis is the seed, each with its own data."""
        pairs = [self.data(seed) for seed in seeds]
        X, y = (np.stack(parts) for parts in zip(*pairs, strict=True))
        return LeastSquares(self.network(), X, y)


@dataclass(frozen=True)
class Race(Result):
    """Gradient descent from several starts on the same data.

    Attributes
    ----------
    setting : Setting
        What was run.
    starts : tuple of str
        Names of the starts.
    seeds : tuple of int
        The seeds.
    losses : numpy.ndarray, shape (starts, seeds, steps + 1)
        Loss before every step, and after the last; ∞ once a run has overflowed.
    final : numpy.ndarray, shape (starts, seeds, p)
        Parameters after the last step.
    """

    setting: Setting = field(metadata={"show": False})
    starts: tuple[str, ...]
    seeds: tuple[int, ...]
    losses: np.ndarray
    final: np.ndarray = field(metadata={"show": False})

    def of(self, start: str) -> np.ndarray:
        """Return the losses of one start, shape (seeds, steps + 1)."""
        return self.losses[self.starts.index(checks.one_of(start, self.starts, "start"))]

    def steps_to(self, loss: float) -> np.ndarray:
        """Return the first step at which each run is at `loss` or below; −1 if it never is.

        Parameters
        ----------
        loss : float
            The loss to reach.

        Returns
        -------
        numpy.ndarray of int, shape (starts, seeds)
        """
        reached = self.losses <= checks.positive_number(loss, "loss")
        return np.where(reached.any(axis=-1), reached.argmax(axis=-1), -1)


def race(
    setting: Setting,
    starts: Sequence[str] = STARTS,
    seeds: int | Sequence[int] = 5,
    jobs: int = 1,
) -> Race:
    """Train one network from each start on each seed's data, by gradient descent.

    Parameters
    ----------
    setting : Setting
        The run.
    starts : sequence of str, default STARTS
        Which starts.
    seeds : int or sequence of int, default 5
        The seeds; a number stands for the first so many.
    jobs : int, default 1
        Processes to split the seeds over, by joblib: inside ``joblib.parallel_config(...)`` the
        same call runs on any of its backends, Dask's among them.

    Returns
    -------
    Race

    Raises
    ------
    TypeError, ValueError
        If an argument is not of the kind stated.
    """
    return sweep([setting], starts, seeds, jobs)[0]


def sweep(
    settings: Sequence[Setting],
    starts: Sequence[str] = STARTS,
    seeds: int | Sequence[int] = 5,
    jobs: int = 1,
) -> list[Race]:
    """Run `race` for several settings: the widths of Figure 2, the output scales of Figure 3.

    Parameters and errors are those of `race`, with a list of settings; a progress bar appears when
    it takes more than two seconds (and never where ``TQDM_DISABLE`` is set).

    Returns
    -------
    list of Race
        One for each setting, in order.
    """
    settings = list(settings)
    if not settings:
        raise ValueError("settings must hold at least one Setting, but is empty.")
    for setting in settings:
        checks.instance(setting, Setting, "each setting")
    starts = tuple(checks.one_of(start, STARTS, "each start") for start in starts)
    listed = _seeds(seeds)
    jobs = checks.positive_integer(jobs, "jobs")
    if not starts:
        raise ValueError(f"starts must name at least one of {STARTS}, but is empty.")
    chunks = [tuple(listed[first::jobs]) for first in range(min(jobs, len(listed)))]
    tasks = [(setting, chunk) for setting in settings for chunk in chunks]
    parallel = Parallel(n_jobs=jobs, return_as="generator")
    done = parallel(delayed(_train)(setting, starts, chunk) for setting, chunk in tasks)
    parts = list(tqdm(done, total=len(tasks), desc="races", delay=2, leave=False))
    races = []
    for index, setting in enumerate(settings):
        mine = parts[index * len(chunks) : (index + 1) * len(chunks)]
        order = np.argsort([listed.index(seed) for chunk in chunks for seed in chunk])
        losses = np.concatenate([losses for losses, _ in mine], axis=1)[:, order]
        final = np.concatenate([final for _, final in mine], axis=1)[:, order]
        races.append(Race(setting, starts, listed, losses, final))
    return races


def _train(
    setting: Setting, starts: tuple[str, ...], seeds: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    points = np.array([[setting.start(kind, seed) for seed in seeds] for kind in starts])
    result = gradient_descent(setting.problem(seeds), points, setting.step_size, setting.steps)
    return result.losses, result.final


def _seeds(seeds: Any) -> tuple[int, ...]:
    if isinstance(seeds, Sequence | np.ndarray) and not isinstance(seeds, str):
        listed = tuple(checks.positive_integer(seed, "each seed", least=0) for seed in seeds)
        if not listed or len(set(listed)) != len(listed):
            raise ValueError(f"seeds must be distinct and at least one, but are {listed}.")
        return listed
    return tuple(range(checks.positive_integer(seeds, "seeds")))
