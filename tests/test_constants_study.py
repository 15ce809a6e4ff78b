"""The study of the sharper constants on a small setting: order, reproducibility, its file."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from plcore import constants_study as study
from plcore.initialization import positive
from plcore.objectives import LeastSquares
from plcore.positive_start import positive_start_constants
from plcore.worst_points import worst_points

TINY = study.setting(2, width=3, samples=3, dimension=4)


@pytest.fixture(scope="module")
def row():
    return study.output_scales(TINY, 0, tolerance=0.1, effort=0.4)


def test_the_scales_come_in_order(row):
    assert row["depth"] == 2
    assert (row["width"], row["samples"], row["dimension"], row["seed"]) == (3, 3, 4, 0)
    for name in study.CRITERIA:
        part = row[name]
        assert part["critical"] < part["not_refuted"] <= 1.101 * part["critical"]
        assert part["critical"] <= part["certified"] < row["remark"]
        assert part["ratio"] == part["certified"] / part["critical"]
    assert row["integral"]["certified"] < row["radius"]["certified"]
    # The Remark's scale, with all other weights equal to one.
    remark = positive_start_constants(TINY.network(), *TINY.data(0), hidden=1.0)
    assert row["remark"] == remark.required_scale
    assert study.setting(3).activation == "smooth_leaky_relu(0.1)"


def test_the_hidden_weights_of_a_deeper_row_are_one():
    deep = study.setting(3, width=2, samples=2, dimension=3)
    row = study.output_scales(deep, 0, criteria=("radius",), tolerance=0.5, effort=0.1)
    one, two = (
        positive_start_constants(deep.network(), *deep.data(0), hidden=hidden).required_scale
        for hidden in (1.0, 2.0)
    )
    assert row["remark"] == one != two


def test_a_row_is_reproducible(row):
    again = study.output_scales(TINY, 0, criteria=("integral",), tolerance=0.1, effort=0.4)
    assert study.rounded(again["integral"]) == study.rounded(row["integral"])


def test_the_criterion_fails_at_the_critical_scale(row):
    X, y = TINY.data(0)
    problem = LeastSquares(TINY.network(), X, y)
    start = positive(problem.network, row["integral"]["critical"], 1.0)
    assert worst_points(problem, start, np.random.default_rng(5)).surplus() < 1.03


def test_the_sandwich_has_the_bounds_in_order():
    found = study.sandwich(TINY, 0, 1.5, effort=0.4)
    assert (found["lower"] <= found["upper"]).all()
    assert (np.diff(found["upper"]) <= 0).all()
    assert 0 < found["proved"] < found["refuted"]


def test_no_violations_and_proved_steps_that_work():
    count = study.violation_row(TINY, 1, factors=(1.2,), points=400)
    assert count["violations"] == 0
    assert count["points"] >= 400
    steps = study.step_row(TINY, 1, 2.0)
    assert 0 < steps["integral"] <= 1.001 * steps["certified"] < steps["working"]


def test_rounding_and_file():
    assert study.rounded({"a": np.array([1.23456, math.inf]), "b": (np.int64(3), "x", None)}) == {
        "a": [1.235, None],
        "b": [3, "x", None],
    }
    part = {"rows": [{"a": 1}, {"a": 2}], "violations": {"points": 3}}
    assert json.loads(study._compact(part)) == part


def test_every_part_of_the_plan_is_a_call():
    plan = study._plan(20)
    assert len(plan["rows"]) == 120
    seeds = {arguments[1] for _, arguments, _ in plan["rows"]}
    assert seeds == set(range(20))
    assert sum(3 * options["points"] for _, _, options in plan["violations"]) >= 100_000


def test_garbage_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        study.setting(1)
    with pytest.raises(TypeError, match="Setting"):
        study.output_scales("tiny", 0)
    with pytest.raises(ValueError, match="criteria"):
        study.output_scales(TINY, 0, criteria=("neither",))
    with pytest.raises(ValueError, match="jobs"):
        study.write_study("nowhere.json", jobs=0)


STORED = Path(__file__).parents[1] / "chapters" / "results" / "sharper_constants.json"


def test_the_stored_rows_are_those_of_the_plan():
    """Depth, activation, width, samples, dimensions and seed, in order; the Remark's scale too."""
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    plan = study._plan(20)
    assert {name: len(calls) for name, calls in plan.items()} == {
        name: len(stored[name]) for name in plan
    }
    for (_, (one, seed), _), row in zip(plan["rows"], stored["rows"], strict=True):
        assert row["depth"] == len(one.hidden_widths) + 1
        assert (row["activation"], row["samples"]) == (one.activation, one.samples)
        assert (row["width"], row["dimension"]) == (one.hidden_widths[0], one.dimension)
        assert row["seed"] == seed
    for row in stored["rows"][:6]:
        one = study.setting(row["depth"], row["activation"])
        remark = positive_start_constants(one.network(), *one.data(row["seed"]), hidden=1.0)
        assert row["remark"] == pytest.approx(remark.required_scale, rel=6e-4)
    for (_, (name, value, _), _), row in zip(plan["sweeps"], stored["sweeps"], strict=True):
        assert (row["sweep"], row[name]) == (name, value)
    for (_, (_, _, scale), _), row in zip(plan["sandwich"], stored["sandwich"], strict=True):
        assert row["scale"] == pytest.approx(scale, rel=6e-4)
    for (_, (one, seed, factor), _), row in zip(
        plan["step_sizes"], stored["step_sizes"], strict=True
    ):
        assert (row["activation"], row["seed"]) == (one.activation, seed)
        assert row["factor"] == factor


def test_a_small_study_is_written_whole(tmp_path, monkeypatch):
    plan = {
        "rows": [(study.output_scales, (TINY, 0), {"tolerance": 0.2, "effort": 0.1})],
        "sweeps": [(study._sweep_row, ("samples", 3, 0), {})],
        "sandwich": [(study.sandwich, (TINY, 0, 1.5), {"effort": 0.1})],
        "step_sizes": [(study.step_row, (TINY, 0, 2.0), {})],
        "violations": [(study.violation_row, (TINY, 0), {"points": 20})],
    }
    monkeypatch.setattr(study, "_plan", lambda seeds: plan)
    monkeypatch.setattr(study, "DEPTHS", (2,))
    monkeypatch.setattr(study, "ACTIVATIONS", (TINY.activation,))
    small = {"width": 3, "dimension": 4}
    plain, scales = study.setting, study.output_scales
    monkeypatch.setattr(study, "setting", lambda **given: plain(**{**small, **given}))
    quick = {"tolerance": 0.2, "effort": 0.1}
    monkeypatch.setattr(
        study, "output_scales", lambda *given, **options: scales(*given, **{**options, **quick})
    )
    found = study.write_study(tmp_path / "study.json", seeds=1)
    assert json.loads((tmp_path / "study.json").read_text(encoding="utf-8")) == found
    assert [row["sweep"] for row in found["sweeps"]] == ["samples"]
    (row,), (median,) = found["rows"], found["medians"]
    assert all(median[name] == row[name]["ratio"] for name in study.CRITERIA)
