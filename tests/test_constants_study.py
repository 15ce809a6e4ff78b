"""The study of the sharper constants on a small setting: order, reproducibility, its file."""

import json
import math

import numpy as np
import pytest

from plcore import constants_study as study
from plcore.initialization import positive
from plcore.objectives import LeastSquares
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
