"""The experiments of Section 3: settings, races, sweeps, and their backends."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from plcore import experiments
from plcore.experiments import STARTS, Setting

SMALL = Setting(samples=6, dimension=9, hidden_widths=(4, 3), steps=40, step_size=0.05)


def test_data_and_starts_are_those_of_the_setting():
    X, y = SMALL.data(3)
    assert X.shape == (6, 9)
    assert y.shape == (6,)
    many = np.concatenate([replace(SMALL, samples=2000).data(seed)[0].ravel() for seed in (0, 1)])
    assert abs(many.mean()) < 5 / np.sqrt(9 * many.size)
    assert abs(many.var() * 9 - 1) < 5 * np.sqrt(2 / many.size)
    layers = {kind: SMALL.network().layers(SMALL.start(kind, 3)) for kind in STARTS}
    assert not layers["positive"][0][0].any()
    assert (layers["positive"][-1][0] == SMALL.output_scale).all()
    for (W, _), (absolute, _) in zip(layers["LeCun"], layers["absolute LeCun"], strict=True):
        assert np.array_equal(np.abs(W), absolute)
    for W, _ in layers["conditioned LeCun"][1:]:
        assert ((W >= 0.5) & (W <= 1.0)).all()  # the box is [1, 2]/sqrt(4)


def test_a_race_is_gradient_descent_run_by_run():
    race = experiments.race(SMALL, seeds=[4, 1])
    assert race.losses.shape == (4, 2, 41)
    for i, start in enumerate(STARTS):
        for j, seed in enumerate((4, 1)):
            problem, w = SMALL.problem([seed]), SMALL.start(start, seed)[None]
            for k in range(41):
                assert np.allclose(race.losses[i, j, k], problem.value(w)[0], rtol=1e-10)
                w = w - SMALL.step_size * problem.gradient(w)
            assert np.array_equal(race.of(start)[j], race.losses[i, j])


def test_a_seed_does_not_depend_on_its_company():
    alone = experiments.race(SMALL, ["LeCun"], [7])
    among = experiments.race(SMALL, STARTS, [5, 7, 6])
    assert np.allclose(alone.of("LeCun")[0], among.of("LeCun")[1], rtol=1e-12)
    assert np.allclose(alone.final[0, 0], among.final[1, 1], rtol=1e-12)


def test_a_sweep_is_its_races():
    settings = [replace(SMALL, hidden_widths=(m, m)) for m in (2, 5)]
    for race, setting in zip(experiments.sweep(settings, seeds=3), settings, strict=True):
        assert race.setting == setting
        assert np.array_equal(race.losses, experiments.race(setting, seeds=3).losses)


def test_several_processes_give_the_same():
    serial = experiments.race(SMALL, seeds=5)
    parallel = experiments.race(SMALL, seeds=5, jobs=2)
    assert np.allclose(serial.losses, parallel.losses, rtol=1e-12)
    assert serial.seeds == parallel.seeds


def test_a_local_dask_cluster_gives_the_same():
    """Only where Dask is installed: the same call on joblib's backend for it."""
    distributed = pytest.importorskip("distributed", reason="Dask is optional")
    joblib = pytest.importorskip("joblib")
    serial = experiments.race(SMALL, seeds=4)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        parallel = experiments.race(SMALL, seeds=4, jobs=2)
    assert np.allclose(serial.losses, parallel.losses, rtol=1e-12)


def test_steps_to_a_loss():
    race = experiments.race(SMALL, seeds=2)
    level = float(race.losses[0, 0, 10])
    reached = race.steps_to(level)
    assert reached[0, 0] == np.flatnonzero(race.losses[0, 0] <= level)[0]
    assert (race.steps_to(1e-300) == np.inf).all()


def test_the_order_of_the_starts_in_figure_one():
    """On seeds that the book does not use."""
    ends = experiments.race(Setting(), seeds=range(100, 110))
    final = {start: np.median(ends.of(start)[:, -1]) for start in STARTS}
    assert final["positive"] < final["conditioned LeCun"] < 1e-2 * final["LeCun"]
    assert final["LeCun"] < final["absolute LeCun"]


def test_a_larger_output_scale_is_faster_until_it_is_unstable():
    scales = [0.25, 0.5, 1.0, 2.0, 6.0]
    races = experiments.sweep(
        [replace(Setting(), output_scale=A, steps=1000) for A in scales], ["positive"], [100, 101]
    )
    ends = [race.losses[0, :, -1].mean() for race in races]
    assert all(a > 3 * b for a, b in pairwise(ends[:4]))
    assert ends[4] == np.inf


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Setting(samples=0), ValueError, "samples must be at least 1"),
        (lambda: Setting(steps=2.5), TypeError, "steps must be an integer"),
        (lambda: Setting(step_size=-1), ValueError, "step_size must be positive"),
        (lambda: Setting(activation="none"), ValueError, "There is no activation 'none'"),
        (lambda: Setting(hidden_widths=()), ValueError, "at least one hidden width"),
        (lambda: SMALL.start("zero", 0), ValueError, "kind must be one of 'positive'"),
        (lambda: experiments.race(SMALL, seeds=[1, 1]), ValueError, "seeds must be distinct"),
        (lambda: experiments.race(SMALL, seeds=0), ValueError, "seeds must be at least 1"),
        (lambda: experiments.race(SMALL, []), ValueError, "starts must name at least one"),
        (lambda: experiments.race(SMALL, jobs=0), ValueError, "jobs must be at least 1"),
        (lambda: experiments.sweep([]), ValueError, "settings must hold at least one"),
        (lambda: experiments.sweep([None]), TypeError, "each setting must be of type Setting"),
        (lambda: experiments.race(SMALL).of("none"), ValueError, "start must be one of"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
