"""The fair race: its policies, its statistics, and the stored study."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bad_input import garbage_taken
from scipy import stats

from plcore import experiments, fair_race
from plcore.curvature import top_curvature
from plcore.descent import gradient_descent
from plcore.experiments import STARTS, Setting, median_interval
from plcore.fair_race import LEVELS, POLICIES, Entry, enter, read, speed_up, study

RESULTS = Path(__file__).parents[1] / "chapters" / "results" / "fair_race.json"
SMALL = Setting(samples=6, dimension=9, hidden_widths=(4, 3), steps=2000)


def greatest(setting, start, seed):
    """λ_max of the dense Hessian at the start."""
    w = setting.start(start, seed)
    return np.linalg.eigvalsh(setting.problem([seed]).hessian(w)[0])[-1]


def steps_of(setting, start, seed, eta):
    run = gradient_descent(setting.problem([seed]), setting.start(start, seed), eta, setting.steps)
    return [float(run.steps_to(level)[0]) for level in LEVELS]


def test_at_the_common_step_all_starts_have_the_same():
    entries = [enter(SMALL, start, "common step", 6) for start in STARTS]
    assert len({entry.step_size for entry in entries}) == 1
    curvature = np.median([greatest(SMALL, "positive", seed) for seed in fair_race.TUNING])
    assert entries[0].step_size == pytest.approx(0.7 / curvature, rel=0.01)
    for entry in entries:
        assert entry.steps.shape == (6, 3)
        for seed in (0, 3):
            expected = steps_of(SMALL, entry.start, seed, entry.step_size)
            assert entry.steps[seed].tolist() == expected
        assert np.array_equal(entry.steps, entry.cost)


@pytest.mark.parametrize("start", STARTS)
def test_equal_curvature_at_the_start(start):
    entry = enter(SMALL, start, "equal curvature at the start", [2, 5])
    w = np.array([SMALL.start(start, seed) for seed in (2, 5)])
    tops = top_curvature(SMALL.problem([2, 5]), w, 1e-3).value
    assert entry.step_size == pytest.approx(np.median(1 / tops))
    for row, seed, top in zip(entry.steps, (2, 5), tops, strict=True):
        assert top == pytest.approx(greatest(SMALL, start, seed), rel=1e-3)
        if start == "positive":  # elsewhere the step is so long that rounding decides on the run
            assert np.allclose(row, steps_of(SMALL, start, seed, 1 / top), rtol=0.02, atol=1)


@pytest.mark.parametrize("start", STARTS)
def test_a_best_step_was_tuned_on_other_seeds(start):
    assert not set(fair_race.TUNING) & set(range(100))
    entry = enter(SMALL, start, "best step", 6)
    steps, times = entry.tried.T
    assert entry.step_size == steps[np.argmin(times)]
    assert 0 < np.argmin(times) < len(steps) - 1
    common = enter(SMALL, start, "common step", fair_race.TUNING)
    assert times.min() <= 1.05 * np.median(common.steps[:, 2])


def test_the_kernel_along_the_way():
    entry = enter(SMALL, "LeCun", "best step", 7)
    problem = SMALL.problem(range(7))
    w = np.array([SMALL.start("LeCun", seed) for seed in range(7)])
    for row, level in zip(entry.kernel, (math.inf, *LEVELS), strict=True):
        if level < math.inf:
            k = int(np.median(entry.steps[:, LEVELS.index(level)]))
            here = gradient_descent(problem, w, entry.step_size, k).final
        else:
            here = w
        J = problem.jacobian(here)
        values = np.linalg.svd(J, compute_uv=False) ** 2
        tops = np.linalg.eigvalsh(problem.hessian(here))[:, -1]
        expected = np.median(
            [values[:, -1], values[:, 0], values[:, 0] / values[:, -1], tops], axis=1
        )
        assert np.allclose(row, expected, rtol=0.01)


def test_the_scale_of_a_large_positive_start_changes_nothing_but_the_step_size():
    """As A grows, descent with η A² fixed tends to that of a linear model."""
    entries = [
        enter(replace(SMALL, output_scale=A), "positive", "equal curvature at the start", 8)
        for A in (400.0, 800.0)
    ]
    assert entries[0].step_size / entries[1].step_size == pytest.approx(4, rel=1e-3)
    assert np.isfinite(entries[0].steps).any()
    assert np.allclose(entries[0].steps, entries[1].steps, rtol=0.02, atol=1)


@pytest.mark.parametrize("m", [6, 9, 20, 33])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_of_a_median_covers_as_it_says(m, level):
    """Exactly: the chance that k of m coin tosses fall on either side, by the binomial law."""
    low, middle, high = median_interval(np.arange(m, 0.0, -1), level)
    k = int(low)
    assert high == m + 1 - k
    assert low < middle < high or m == 6
    assert 1 - 2 * stats.binom.cdf(k - 1, m, 0.5) >= level
    assert 1 - 2 * stats.binom.cdf(k, m, 0.5) < level  # the next one would be too narrow


def test_the_interval_of_a_median_covers_a_skewed_law():
    rng = np.random.default_rng(3)
    samples = np.exp(2 * rng.standard_normal((2000, 20)))
    hits = sum(low <= 1 <= high for low, _, high in map(median_interval, samples))
    assert stats.binomtest(hits, 2000, 0.9586).pvalue > 1e-3


def test_infinite_times_are_values_like_others():
    assert median_interval([1.0] * 11 + [math.inf] * 9)[1:] == (1.0, math.inf)
    assert median_interval([1.0] * 8 + [math.inf] * 12)[1] == math.inf


def entry(times):
    steps = np.tile(np.asarray(times, dtype=float)[:, None], (1, 3))
    return Entry("LeCun", "line search", 1.0, steps, 2 * steps)


def test_a_speed_up_is_taken_seed_by_seed():
    inf = math.inf
    quick, slow = entry([1, 2, 4, inf, inf, 8]), entry([2, 8, 4, inf, 7, inf])
    # ratios 2, 4, 1, 1 (neither arrives), 0 and ∞; of six values all are the interval
    assert speed_up(quick, slow) == (0.0, 1.0, inf)
    assert speed_up(slow, slow, cost=True) == (1.0, 1.0, 1.0)
    twenty = np.arange(1.0, 21)
    low, middle, high = speed_up(entry(twenty), entry(3 * twenty), 1e-2)
    assert (low, middle, high) == (3.0, 3.0, 3.0)


def test_the_settings_differ_from_the_baseline_in_what_they_say():
    chosen = fair_race.settings()
    base = chosen["baseline"]
    for name, setting in chosen.items():
        if name.startswith(("width", "depth")):
            product = setting.output_scale * math.sqrt(setting.hidden_widths[0])
            assert product == pytest.approx(2 * math.sqrt(10))
            assert replace(setting, hidden_widths=(10, 10), output_scale=2.0) == base
    assert [chosen[f"depth {L}"].network().depth for L in (2, 4, 5, 6)] == [2, 4, 5, 6]
    assert chosen["width 200"].hidden_widths == (200, 200)
    larger = fair_race.settings(large=True)
    assert set(chosen) < set(larger)
    assert larger["width 1000"].hidden_widths == (1000, 1000)
    assert larger["diabetes, n = 442"].data(0)[0].shape == (442, 600)


def same(results, others):
    for name, found in results.items():
        assert set(found) == set(others[name])
        for key, first in found.items():
            second = others[name][key]
            assert (first.start, first.policy) == (second.start, second.policy)
            for part in ("step_size", "steps", "cost", "tried", "kernel"):
                a, b = getattr(first, part), getattr(second, part)
                assert np.allclose(a, b, rtol=1e-3, atol=0, equal_nan=True), (name, key, part)


def test_a_study_is_its_entries_and_comes_back_from_its_file(tmp_path):
    names = ["A = 4.0"]
    results = study(tmp_path / "study.json", seeds=6, only=names)
    assert list(results) == names
    assert list(results["A = 4.0"]) == [(policy, "positive") for policy in POLICIES]
    again = enter(fair_race.settings()["A = 4.0"], "positive", "best step", 6)
    key = "best step", "positive"
    same({"A = 4.0": {key: again}}, {"A = 4.0": {key: results["A = 4.0"][key]}})
    same(results, read(tmp_path / "study.json"))
    stored = json.loads((tmp_path / "study.json").read_text())
    assert stored["seeds"] == 6
    assert stored["settings"]["A = 4.0"]["output_scale"] == 4.0
    same(results, study(seeds=6, only=names, jobs=2))


def test_the_stored_study_is_what_its_functions_give():
    """A seeded slice of it, recomputed."""
    stored, chosen = read(RESULTS), fair_race.settings()
    assert set(stored) == set(chosen)
    assert {name: Setting(**given) for name, given in _settings().items()} == chosen
    for name, found in stored.items():
        starts = ("positive",) if name.startswith("A = ") else STARTS
        assert set(found) == {(policy, start) for policy in POLICIES for start in starts}
        assert all(entry.steps.shape == (20, 3) for entry in found.values())
    for name, policy, start in (
        ("baseline", "common step", "LeCun"),
        ("n = 5", "best step", "positive"),
        ("depth 2", "line search", "conditioned LeCun"),
        ("digits, n = 30", "equal curvature at the start", "absolute LeCun"),
        ("diabetes, n = 50", "common step", "positive"),
    ):
        entry = enter(chosen[name], start, policy, 20)
        there = stored[name][policy, start]
        assert entry.step_size == pytest.approx(there.step_size, rel=1e-3)
        assert np.allclose(
            median_interval(entry.steps[:, 2]), median_interval(there.steps[:, 2]), rtol=0.02
        )


def _settings():
    given = json.loads(RESULTS.read_text())["settings"]
    return {
        name: fields | {"hidden_widths": tuple(fields["hidden_widths"])}
        for name, fields in given.items()
    }


def test_correlated_inputs():
    plain, close = Setting(), Setting(correlation=0.99)
    for seed in range(3):
        (X, y), (Z, t) = plain.data(seed), close.data(seed)
        assert np.array_equal(y, t)
        common = Z - 0.1 * X
        assert np.allclose(common, common[0])
        gram = Z @ Z.T
        assert gram[np.triu_indices(20, 1)].mean() == pytest.approx(0.99, abs=0.3)
        assert np.linalg.eigvalsh(gram)[0] < 0.02 * np.linalg.eigvalsh(X @ X.T)[0]


@pytest.mark.parametrize(("source", "d", "total"), [("digits", 64, 1797), ("diabetes", 80, 442)])
def test_real_data(source, d, total):
    setting = Setting(samples=40, dimension=d, source=source)
    X, y = setting.data(3)
    Z, t = setting.held_out(3)
    assert X.shape == (40, d)
    assert Z.shape == (total - 40, d)
    assert y.shape == (40,)
    assert np.square(np.vstack([X, Z])).sum(axis=1).mean() == pytest.approx(1, abs=0.02)
    both = np.concatenate([y, t])
    assert len(both) == total
    if source == "digits":
        assert set(both) == {-1.0, 1.0}
    else:
        assert abs(both.mean()) < 1e-12
        assert both.std() == pytest.approx(1)
    assert np.linalg.matrix_rank(X) == 40
    assert not np.array_equal(X, setting.data(4)[0])
    assert np.array_equal(X, setting.data(3)[0])


def test_sixty_images_of_digits_are_dependent():
    """The pixels have rank 61, and no random sixty of them were ever independent."""
    ranks = [
        np.linalg.matrix_rank(Setting(samples=60, dimension=64, source="digits").data(seed)[0])
        for seed in range(20)
    ]
    assert max(ranks) < 60


TINY = replace(SMALL, steps=2)
ENTRY = entry(np.arange(1.0, 8))
CALLS = {
    "enter": (enter, {"setting": TINY, "start": "LeCun", "policy": "line search", "seeds": 0}),
    "settings": (fair_race.settings, {"large": "no"}),
    "study": (study, {"seeds": 6, "large": "no", "only": ["none"], "jobs": 1}),
    "speed_up": (speed_up, {"entry": ENTRY, "against": ENTRY, "level": 1e-4}),
    "median_interval": (median_interval, {"values": np.arange(20.0), "level": 0.9}),
}


@pytest.mark.parametrize("name", CALLS)
def test_garbage_is_refused_in_a_sentence(name):
    function, arguments = CALLS[name]
    taken = {"settings": {"True"}, "study": {"True", "None"}, "enter": {"a seed"}}.get(name, set())
    for argument in arguments:
        found = garbage_taken(function, arguments, argument)
        assert found <= taken, (argument, found)


def test_every_public_function_is_tested():
    data = {"LEVELS", "POLICIES", "TUNING", "Entry", "read"}
    assert {*CALLS} - {"median_interval"} | data == set(fair_race.__all__)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: enter(SMALL, "zero", "Adam"), ValueError, "start must be one of"),
        (lambda: enter(SMALL, "LeCun", "Newton"), ValueError, "policy must be one of"),
        (lambda: enter(None, "LeCun", "Adam"), TypeError, "setting must be of type Setting"),
        (lambda: study(seeds=5), ValueError, "seeds must be at least 6"),
        (lambda: study(only=["width 7"]), ValueError, "There is no setting"),
        (lambda: speed_up(ENTRY, entry([1.0] * 9)), ValueError, "same number of seeds"),
        (lambda: speed_up(ENTRY, ENTRY, 0.5), ValueError, "level must be one of"),
        (lambda: median_interval([1.0] * 5), ValueError, "too few"),
        (lambda: median_interval([math.nan] * 9), ValueError, "none may be NaN"),
        (lambda: Setting(source="stars"), ValueError, "source must be one of"),
        (lambda: Setting(source="digits"), ValueError, "dimension must be 64"),
        (lambda: Setting(source="diabetes", samples=443), ValueError, "fewer than 443"),
        (lambda: Setting(correlation=1.0), ValueError, "correlation must be in"),
        (lambda: Setting().held_out(0), ValueError, "Only a real data set"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_list_of_experiments_is_complete():
    assert {"SOURCES", "median_interval", "seed_list"} <= set(experiments.__all__)


def test_what_was_not_tuned_has_nothing_tried():
    found = enter(TINY, "LeCun", "common step", 6)
    assert found.tried.shape == (0, 2)
    assert found.kernel.shape == (0, 4)
    bare = fair_race.Entry("LeCun", "common step", 0.1, found.steps, found.cost)
    assert (bare.tried.shape, bare.kernel.shape) == ((0, 2), (0, 4))


def test_a_level_that_is_not_reached_has_no_kernel(tmp_path, monkeypatch):
    monkeypatch.setattr(fair_race, "settings", lambda large: {"tiny": TINY})
    found = study(tmp_path / "study.json", seeds=6)["tiny"]["best step", "LeCun"]
    assert np.isinf(found.steps).all()
    assert np.isfinite(found.kernel[0]).all()
    assert np.isnan(found.kernel[1:]).all()
