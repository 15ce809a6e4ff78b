"""Result types: three kinds that cannot be mistaken, read-only, one screen of text."""

import dataclasses
import importlib
import pickle
import pkgutil

import numpy as np
import pytest
from IPython.lib.pretty import pretty

import plcore
from plcore.results import Bound, Estimate, Result, format_value


@dataclasses.dataclass(frozen=True)
class Run(Result):
    """A result with an array, a renamed field and a hidden one."""

    losses: np.ndarray
    step_size: float = dataclasses.field(metadata={"label": "step size η"})
    converged: bool
    note: str | None = dataclasses.field(default=None, metadata={"show": False})


BOUND = Bound(0.125, "lower", "λ_min(K)", "(T5)")
ESTIMATE = Estimate(0.25, "α(x0, r)", "search from above")
RUN = Run(np.arange(6.0).reshape(2, 3), 0.1, True, "hidden <note>")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (np.float64(2e-30), "2e-30"),
        (1234567.0, "1.235e+06"),
        (float("inf"), "inf"),
        (-np.inf, "-inf"),
        (float("nan"), "nan"),
        (7, "7"),
        (True, "yes"),
        (np.False_, "no"),
        (None, "none"),
        ("text", "text"),
        (np.array(0.5), "0.5"),
        (np.array([1.0, 2.5, np.inf]), "[1, 2.5, inf]"),
        (np.zeros((2, 3)), "array of shape (2, 3)"),
        (np.array([True, False]), "[yes, no]"),
    ],
)
def test_values_as_a_person_reads_them(value, text):
    assert format_value(value) == text


def test_kinds_are_apart():
    """A bound is no estimate and equals none, although both are numbers."""
    assert not isinstance(BOUND, Estimate)
    assert not isinstance(ESTIMATE, Bound)
    assert Bound(1.0, "lower", "q", "r") != Estimate(1.0, "q", "r")
    assert float(BOUND) == 0.125
    assert float(ESTIMATE) == 0.25


@pytest.mark.parametrize("result", [BOUND, ESTIMATE, RUN], ids=["bound", "estimate", "run"])
def test_results_are_frozen(result):
    for field in dataclasses.fields(result):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(result, field.name, 0.0)


def test_arrays_are_read_only_and_the_callers_stays_writable():
    given = np.zeros(3)
    run = Run(given, 0.1, True)
    for result in (run, pickle.loads(pickle.dumps(run))):  # as from another process
        assert result.losses.tolist() == [0, 0, 0]
        assert (result.step_size, result.converged) == (0.1, True)
        with pytest.raises(ValueError, match="read-only"):
            result.losses[0] = 1.0
    given[0] = 1.0


def test_text_form_is_one_aligned_screen():
    assert str(BOUND).splitlines() == [
        "Bound",
        "  value      0.125",
        "  direction  lower",
        "  quantity   λ_min(K)",
        "  reason     (T5)",
    ]
    assert str(RUN).splitlines() == [
        "Run",
        "  losses       array of shape (2, 3)",
        "  step size η  0.1",
        "  converged    yes",
    ]


def test_notebooks_store_the_same_text():
    assert pretty(RUN) == str(RUN)


def test_html_form_is_an_escaped_table():
    page = Bound(0.5, "upper", "a < b & c", "<script>")._repr_html_()
    assert page.startswith("<table><caption>Bound</caption>")
    assert page.count("<tr>") == page.count("</tr>") == 4
    assert "a &lt; b &amp; c" in page
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "note" not in RUN._repr_html_()
    assert "step size η" in RUN._repr_html_()


def dataclasses_of(package):
    for module in pkgutil.iter_modules(package.__path__):
        if module.name != "__main__":
            named = vars(importlib.import_module(f"{package.__name__}.{module.name}"))
            for thing in named.values():
                if isinstance(thing, type) and issubclass(thing, Result) and thing is not Result:
                    yield thing


def test_every_result_is_frozen_and_says_itself_whether_it_is_shown():
    found = set(dataclasses_of(plcore))
    assert len(found) > 25
    for one in found:
        assert one.__dataclass_params__.frozen, one
        for field in dataclasses.fields(one):
            if field.name in ("shown", "verified") and field.default is not dataclasses.MISSING:
                assert not field.init, one
