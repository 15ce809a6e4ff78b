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
from functools import lru_cache
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy import stats

from . import checks, initialization
from ._progress import progress
from .activations import named
from .descent import gradient_descent
from .network import FeedForward
from .objectives import LeastSquares
from .results import Result

__all__ = ["SOURCES", "STARTS", "Race", "Setting", "median_interval", "race", "seed_list", "sweep"]

STARTS = ("positive", "LeCun", "absolute LeCun", "conditioned LeCun")
"""The starts (i)–(iv) of Section 3, by the names that `race` takes."""

SOURCES = ("gaussian", "digits", "diabetes")
"""Where the data come from: see `Setting`; the last two need scikit-learn."""

_LENGTH_SCALE = 1.0  # of the Fourier features, in standard deviations of a diabetes column


@dataclass(frozen=True)
class Setting(Result):
    """Everything that defines one training run, but for its seed and its start.

    The inputs of every source have |x| about 1:

    * "gaussian": x = √(1 − ρ) z + √ρ u, where z and u have independent N(0, 1/d) entries and u is
      common to all inputs; targets are N(0, 1).  The paper's experiments have ρ = 0.
    * "digits": scikit-learn's 8 × 8 images (d = 64), less the mean image; targets are 1 for an odd
      digit and −1 for an even one.
    * "diabetes": scikit-learn's ten columns, standardized and lifted to d random Fourier features
      √(2/d) cos(v·x + b), v ~ N(0, I), b uniform; targets are the standardized progression.

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
    source : str
        One of `SOURCES`.  Of a real data set each seed draws its own n samples.
    correlation : float
        ρ in [0, 1), for Gaussian inputs.

    Raises
    ------
    TypeError, ValueError
        If a number is not of the kind stated, there is no such activation, or the source does not
        have so many samples or this dimension.
    """

    samples: int = 20
    dimension: int = 50
    hidden_widths: tuple[int, ...] = (10, 10)
    activation: str = "smooth_leaky_relu(0.1)"
    output_scale: float = 2.0
    box: float = 1.0
    step_size: float = 0.02
    steps: int = 3000
    source: str = "gaussian"
    correlation: float = 0.0

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
        checks.one_of(self.source, SOURCES, "source")
        if not 0 <= checks.number(self.correlation, "correlation") < 1:
            raise ValueError(f"correlation must be in [0, 1), but is {self.correlation}.")
        if self.source != "gaussian" and self.samples > len(_table(self.source)[0]):
            raise ValueError(f"There are fewer than {self.samples} samples in {self.source}.")
        if self.source == "digits" and self.dimension != 64:
            raise ValueError(f"dimension must be 64 for digits, but is {self.dimension}.")

    def network(self) -> FeedForward:
        """Return the network of this setting."""
        return FeedForward((self.dimension, *self.hidden_widths, 1), named(self.activation))

    def data(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs X of shape (n, d) and targets y of shape (n,) of one seed."""
        if self.source != "gaussian":
            X, y, chosen = self._drawn(seed)
            return X[chosen], y[chosen]
        rng = np.random.default_rng([seed, 0])
        X = rng.standard_normal((self.samples, self.dimension)) / math.sqrt(self.dimension)
        y = rng.standard_normal(self.samples)
        if self.correlation:
            common = rng.standard_normal(self.dimension) / math.sqrt(self.dimension)
            X = math.sqrt(1 - self.correlation) * X + math.sqrt(self.correlation) * common
        return X, y

    def held_out(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs and targets of a real data set that `data` leaves out.

        Raises
        ------
        ValueError
            If the source is Gaussian.
        """
        if self.source == "gaussian":
            raise ValueError("Only a real data set has held-out samples; source is 'gaussian'.")
        X, y, chosen = self._drawn(seed)
        rest = np.setdiff1d(np.arange(len(y)), chosen)
        return X[rest], y[rest]

    def _drawn(self, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return all inputs and targets of a real data set, and the indices of one seed."""
        X, y = _table(self.source)
        rng = np.random.default_rng([seed, 0])
        chosen = np.argsort(rng.uniform(size=len(y)), kind="stable")[: self.samples]
        if self.source == "diabetes":
            v = rng.standard_normal((X.shape[1], self.dimension)) / _LENGTH_SCALE
            b = rng.uniform(0.0, 2 * math.pi, self.dimension)
            X = math.sqrt(2 / self.dimension) * np.cos(X @ v + b)
        return X, y, chosen

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
        """Return the first step at which each run is at `loss` or below; ∞ if it never is.

        Parameters
        ----------
        loss : float
            The loss to reach.

        Returns
        -------
        numpy.ndarray, shape (starts, seeds)
        """
        reached = self.losses <= checks.positive_number(loss, "loss")
        return np.where(reached.any(axis=-1), reached.argmax(axis=-1), np.inf)


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

    Examples
    --------
    >>> from plcore.experiments import Setting, sweep
    >>> settings = [Setting(output_scale=A, steps=300) for A in (1.0, 2.0)]
    >>> small, large = sweep(settings, ["positive"], seeds=2)
    >>> bool((large.losses[..., -1] < small.losses[..., -1]).all())
    True
    """
    settings = list(settings)
    if not settings:
        raise ValueError("settings must hold at least one Setting, but is empty.")
    for setting in settings:
        checks.instance(setting, Setting, "each setting")
    starts = tuple(checks.one_of(start, STARTS, "each start") for start in starts)
    listed = seed_list(seeds)
    jobs = checks.positive_integer(jobs, "jobs")
    if not starts:
        raise ValueError(f"starts must name at least one of {STARTS}, but is empty.")
    chunks = [tuple(listed[first::jobs]) for first in range(min(jobs, len(listed)))]
    tasks = [(setting, chunk) for setting in settings for chunk in chunks]
    parallel = Parallel(n_jobs=jobs, return_as="generator")
    done = parallel(delayed(_train)(setting, starts, chunk) for setting, chunk in tasks)
    parts = list(progress(done, len(tasks), "races"))
    races = []
    for index, setting in enumerate(settings):
        mine = parts[index * len(chunks) : (index + 1) * len(chunks)]
        order = np.argsort([listed.index(seed) for chunk in chunks for seed in chunk])
        losses = np.concatenate([losses for losses, _ in mine], axis=1)[:, order]
        final = np.concatenate([final for _, final in mine], axis=1)[:, order]
        races.append(Race(setting, starts, listed, losses, final))
    return races


def median_interval(values: Any, level: float = 0.95) -> tuple[float, float, float]:
    """Return the median of a sample between two order statistics, a confidence interval for it.

    The k-th least and k-th greatest value enclose the median of the law with probability
    1 − 2 P(Bin(m, ½) < k), whatever the law; k is the greatest for which that is at least `level`.

    Parameters
    ----------
    values : array_like, shape (m,)
        The sample; ∞ is a value like any other.
    level : float, default 0.95
        The confidence, in (0, 1).

    Returns
    -------
    low, median, high : float
        The median of an even sample is its lower middle value, which is ∞ only if most are.

    Raises
    ------
    TypeError, ValueError
        If there are too few values for any interval at this level, or one is NaN.
    """
    level = checks.fraction(level, "level")
    try:
        sample = np.array(values, dtype=float)
        if np.asarray(values).dtype.kind not in "iuf" or sample.ndim != 1:
            raise TypeError
    except Exception:  # an array-like may raise what it likes
        raise TypeError(f"values must be a list of numbers, not {checks.shown(values)}.") from None
    if not sample.size or np.isnan(sample).any():
        raise ValueError("values must be at least one number, and none may be NaN.")
    sample.sort()
    m = sample.size
    k = int(stats.binom.ppf((1 - level) / 2, m, 0.5))  # the least k with P(Bin ≤ k) ≥ (1−level)/2
    if k < 1:
        raise ValueError(f"{m} values are too few for an interval at the level {level}.")
    return float(sample[k - 1]), float(sample[(m - 1) // 2]), float(sample[m - k])


@lru_cache
def _table(source: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a real data set, scaled so that `Setting` can use it."""
    from sklearn import datasets

    if source == "digits":
        X, digit = datasets.load_digits(return_X_y=True)
        X = X - X.mean(axis=0)
        return X / math.sqrt(np.square(X).sum(axis=1).mean()), 2.0 * (digit % 2) - 1
    X, y = datasets.load_diabetes(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()


def _train(
    setting: Setting, starts: tuple[str, ...], seeds: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    points = np.array([[setting.start(kind, seed) for seed in seeds] for kind in starts])
    result = gradient_descent(setting.problem(seeds), points, setting.step_size, setting.steps)
    return result.losses, result.final


def seed_list(seeds: Any) -> tuple[int, ...]:
    """Return the seeds: distinct integers as they are, a number as the first so many.

    For other modules of the package.

    Raises
    ------
    TypeError, ValueError
        If `seeds` is neither, or a seed is negative.
    """
    if isinstance(seeds, Sequence | np.ndarray) and not isinstance(seeds, str | bytes):
        listed = tuple(checks.positive_integer(seed, "each seed", least=0) for seed in seeds)
        if not listed or len(set(listed)) != len(listed):
            raise ValueError(f"seeds must be distinct and at least one, but are {listed}.")
        return listed
    return tuple(range(checks.positive_integer(seeds, "seeds")))
