"""The study of first certified losses: its stored file, a slice computed again, its cases."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from bad_input import garbage_taken

import plcore
from plcore import certificate_study

STORED = Path(__file__).parents[1] / "chapters" / "results" / "first_certified.json"


@pytest.fixture(scope="module")
def rows():
    return json.loads(STORED.read_text(encoding="utf-8"))


def row(rows, case, argument):
    found = [one for one in rows if (one["case"], one["argument"]) == (case, argument)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(("case", "seed"), [("width 10", 0), ("widths 10-10", 3)])
def test_a_slice_is_computed_again(rows, case, seed):
    found = certificate_study.first_certified_losses(case, seed)
    for argument in certificate_study.ARGUMENTS:
        stored = row(rows, case, argument)
        step, loss = found[argument]
        # Another BLAS may move the step by one place of the grid, and the loss with it.
        assert abs(step - stored["steps"][seed]) <= 0.021 * step + 1
        assert loss == pytest.approx(stored["losses"][seed], rel=0.5)


def test_the_stored_file_is_whole(rows):
    names = (*certificate_study.ARGUMENTS, "best")
    assert len(rows) == len(certificate_study.CASES) * len(names)
    for case in certificate_study.CASES:
        best = row(rows, case, "best")
        single = [row(rows, case, name)["losses"] for name in certificate_study.ARGUMENTS]
        assert best["losses"] == np.max(single, axis=0).tolist()
        seeds = certificate_study.CASES[case].seeds
        assert len(best["losses"]) == seeds
        for name in names:
            entry = row(rows, case, name)
            assert entry["median"] == sorted(entry["losses"])[(seeds - 1) // 2]


def test_what_the_book_says_of_it(rows):
    """Medians of the loss at which a certificate first holds, against the plain bound's."""
    for case, least, gain in (
        ("widths 10-10", 1e-3, 50),
        ("width 10", 8e-3, 50),
        ("n > d + 1", 1e-5, 50),
    ):
        best, plain = (row(rows, case, name)["median"] for name in ("best", "plain"))
        assert best >= least
        assert best >= gain * plain
        assert 0.5 <= row(rows, case, "best")["start"] <= 1.2
    assert max(row(rows, "n > d + 1", "first layer")["losses"]) == 0


def test_cases():
    for name, case in certificate_study.CASES.items():
        problem, start = case.problem(0), case.start(0)
        assert problem.X.shape == (case.samples, case.widths[0]), name
        assert problem.size == case.samples
        assert start.shape == (problem.dimension,)
        assert 0.3 < problem.value(start) < 3
        assert not np.array_equal(problem.X, case.problem(1).X)
        np.testing.assert_array_equal(problem.X, case.problem(0).X)
    digits = certificate_study.CASES["digits"].problem(0)
    assert set(digits.y) == {-1.0, 1.0}
    assert np.abs(digits.X).max() <= 1


def test_the_study_takes_the_steps_of_gradient_descent():
    case = certificate_study.CASES["width 10"]
    problem, start = case.problem(2), case.start(2)
    steps, path = certificate_study._path(problem, start, case.step_size, 130)
    assert steps[:5] == [0, 1, 2, 3, 4]
    assert steps[-3:] == [127, 129, 130]
    whole = plcore.gradient_descent(problem, start, case.step_size, 130, record_path=True).path
    np.testing.assert_allclose(path, whole[steps], rtol=1e-9, atol=1e-12)


def test_writing(tmp_path, monkeypatch):
    case = certificate_study.CASES["width 10"]
    short = dataclasses.replace(case, seeds=1)
    monkeypatch.setattr(certificate_study, "CASES", {"width 10": short})
    certificate_study.write_study(tmp_path / "study.json")
    written = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    assert [one["argument"] for one in written] == [*certificate_study.ARGUMENTS, "best"]
    assert written[3]["losses"][0] == max(one["losses"][0] for one in written[:3])


@pytest.mark.parametrize("argument", ["case", "seed", "arguments"])
def test_garbage(argument):
    arguments = {"case": "width 10", "seed": 0, "arguments": ["plain"]}
    arguments[argument] = None
    assert garbage_taken(
        certificate_study.first_certified_losses,
        {"case": "width 10", "seed": 0, "arguments": ["plain"]},
        argument,
    ) <= {"a seed"}


def test_the_cases_are_those_of_the_book():
    shapes = {
        name: (case.source, case.samples, "-".join(map(str, case.widths)), case.steps)
        for name, case in certificate_study.CASES.items()
    }
    assert shapes == {
        "widths 10-10": ("gaussian", 20, "50-10-10-1", 4_000),
        "width 10": ("gaussian", 20, "50-10-1", 4_000),
        "n > d + 1": ("gaussian", 20, "10-10-10-1", 60_000),
        "digits": ("digits", 50, "64-32-32-1", 60_000),
        "moons": ("moons", 20, "2-16-16-1", 400_000),
    }


def test_a_run_that_diverges_and_a_layer_with_too_few_inputs(monkeypatch):
    case = certificate_study.CASES["n > d + 1"]
    wild = dataclasses.replace(case, step_size=1e6, steps=30)
    monkeypatch.setattr(certificate_study, "CASES", {"wild": wild})
    steps, path = certificate_study._path(wild.problem(0), wild.start(0), 1e6, 30)
    assert len(steps) == len(path) < 12
    assert np.isfinite(path).all()
    found = certificate_study.first_certified_losses("wild", 0, arguments=["first layer"])
    assert found["first layer"] is None
