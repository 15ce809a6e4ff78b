"""The benchmark runs, its C program agrees with plcore, and its pieces mean what they say.

JAX and PyTorch are extras of the benchmark alone, so that they are not looked at here.
"""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def modules():
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("workloads"), importlib.import_module("ours")
    sys.path.remove(str(FOLDER))


def test_parameters_reach_plcore_in_its_order(modules):
    workloads, ours = modules
    work = workloads.WORKS["W1"].with_(runs=3)
    views = ours.network_of(work).layers(work.flat)
    for (W, b), (expected_W, expected_b) in zip(views, work.layers, strict=True):
        np.testing.assert_array_equal(W, expected_W)
        np.testing.assert_array_equal(b, expected_b)


def test_every_work_has_plcore_and_a_judge(modules):
    workloads, ours = modules
    for work in workloads.WORKS.values():
        assert "plcore" in ours.VARIANTS[work.kind]
        result = np.full((2, 3), 5.0)
        assert work.error(result, result) == 0
        assert work.error(result * 1.01, result) > 1


def test_the_peers_eigenvalue_recurrence(modules):
    workloads, _ = modules
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((40, 40))
    matrix = matrix @ matrix.T
    found = workloads.lanczos(lambda v: matrix @ v, rng.standard_normal(40), np.dot)
    assert found == pytest.approx(np.linalg.eigvalsh(matrix)[-1], rel=2e-6)


def test_the_script_runs_and_c_agrees():
    """It refuses results that differ by more than 1e-10 of the loss at the start."""
    options = "--work W1 --steps 1000 --libraries plcore C --rounds 2 --no-cold --no-scaling"
    done = subprocess.run(
        [sys.executable, str(FOLDER / "compare.py"), *options.split()],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| W1 |"))
    assert re.search(r"\| [\d.]+ m?s \|", row), row
    if "C is left out" not in done.stdout:
        assert re.search(r"C: [\d.]+ s .*gcc", done.stdout), done.stdout
