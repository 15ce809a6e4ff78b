"""Sizes that no memory holds are refused in a sentence, at once; depth has its limits, too."""

import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from certified import certified, example

import plcore
from plcore import (
    activations,
    architectures,
    certificate_study,
    checks,
    constants_study,
    fair_race,
    initialization,
    jacobian_bounds,
    wide_study,
)
from plcore._files import write
from plcore.bounds import ball_bounds
from plcore.claims import digest
from plcore.infinite_width import convolutional_gram, fully_connected_gram, limit_hypotheses
from plcore.kernel import kernel_by_layer, tangent_kernel
from plcore.network_descent import descend
from plcore.optimizers import train
from plcore.positive_start import positive_start_constants
from plcore.positive_start_bounds import positive_start_bounds
from plcore.regions import region_of_starts
from plcore.toys import bowl
from plcore.wide_networks import WideNetwork, train_wide

RNG = np.random.default_rng(0)
SMALL = plcore.FeedForward((1, 2, 1), activations.tanh)
HUGE = plcore.FeedForward((1, 10**12, 10**12, 1), activations.tanh)
WIDE = WideNetwork(2, 4, 2, activations.tanh)
LOSS = plcore.LeastSquares(SMALL, np.linspace(-1, 1, 4)[:, None], np.ones(4))
W = np.ones(SMALL.parameter_count)
MANY = np.linspace(-1, 1, 10**6)[:, None]  # inputs
TERA = 10**12


@pytest.mark.parametrize(
    "call",
    [
        lambda: tangent_kernel(SMALL, W, MANY),
        lambda: kernel_by_layer(SMALL, W, MANY),
        lambda: plcore.FeedForward((1, 10**6, 1), activations.tanh).jacobian(
            np.ones(3 * 10**6 + 1), MANY
        ),
        lambda: plcore.LeastSquares(
            plcore.FeedForward((1, 10**6, 1), activations.tanh), [[1.0]], [1.0]
        ).hessian(np.ones(3 * 10**6 + 1)),
        lambda: initialization.positive(HUGE, 1.0),
        lambda: initialization.lecun(HUGE, RNG),
        lambda: initialization.lecun(SMALL, RNG, (2**40, 2**40)),
        lambda: initialization.conditioned_lecun(SMALL, 0.5, RNG, TERA),
        lambda: WideNetwork(2, 10**6, 3, activations.tanh).draw(RNG),
        lambda: architectures.Residual(2, 10**6, 3, activations.tanh).gaussian_start(RNG),
        lambda: architectures.FullyConnected((1, 10**6, 1), activations.tanh).jacobian(
            np.ones(3 * 10**6 + 1), MANY
        ),
        lambda: plcore.gradient_descent(LOSS, W, 0.01, sys.maxsize),
        lambda: plcore.gradient_descent(LOSS, W, 0.01, 10**9, record_path=True),
        lambda: descend(LOSS, W, 0.01, sys.maxsize),
        lambda: train(LOSS, W, "gradient descent", 0.01, TERA),
        lambda: train_wide(WIDE, np.eye(2), np.ones(2), WIDE.draw(RNG), 0.01, TERA),
        lambda: fully_connected_gram(MANY, activations.tanh, 2),
        lambda: ball_bounds(
            plcore.FeedForward((1,) * 1001 + (1,), activations.tanh),
            np.zeros(2002),
            [[1.0]],
            np.linspace(0, 1, 10**4),
        ),
        lambda: jacobian_bounds.splits(10**9),
        lambda: region_of_starts(bowl(), [[1.0, 1.0]], [0, 0], [2, 2], cells=10**9),
    ],
)
def test_what_no_memory_holds_is_refused_at_once(call, monkeypatch):
    monkeypatch.setattr(checks, "_MEMORY", 2**34)  # on a larger machine, too
    begin = time.process_time()
    with pytest.raises(MemoryError) as caught:
        call()
    assert time.process_time() - begin < 3
    message = str(caught.value)
    assert message.endswith(" GiB.")
    assert "GiB, as an array of shape (" in message
    assert "\n" not in message
    assert len(message) < 260


def test_room_is_half_of_the_memory(monkeypatch):
    monkeypatch.setattr(checks, "_MEMORY", 1600)
    checks.room((10, 10), "It")
    checks.room((), "It")
    with pytest.raises(MemoryError, match=r"It would take .* shape \(101,\), and half of this"):
        checks.room((101,), "It")


def test_more_records_than_steps_are_every_step():
    start = WIDE.draw(np.random.default_rng(1))
    few, many = (
        train_wide(WIDE, np.eye(2), np.ones(2), start, 0.01, 5, records=count)
        for count in (6, 10**12)
    )
    assert many.recorded.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(few.least_full, many.least_full)


def test_a_patch_wider_than_the_input_sees_all_of_it():
    X = np.random.default_rng(0).standard_normal((2, 1, 3))
    whole = convolutional_gram(X, activations.relu, 2, patch=5, tolerance=1e-6)
    wider = convolutional_gram(X, activations.relu, 2, patch=10**9 + 1, tolerance=1e-6)
    np.testing.assert_array_equal(wider.matrix, whole.matrix)


def test_parallel_inputs_are_found_among_many():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1000, 6))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    begin = time.process_time()
    assert limit_hypotheses(X, activations.tanh).items[1].holds
    X[876] = -X[17]
    assert (
        "Inputs 17 and 876 are parallel." in limit_hypotheses(X, activations.tanh).items[1].detail
    )
    assert time.process_time() - begin < 5


# --- depth --------------------------------------------------------------------------------------


def deep_problem(depth):
    network = plcore.FeedForward((1,) * depth + (1,), activations.smooth_leaky_relu(0.5))
    w = np.full(network.parameter_count, 1.0)
    X = np.array([[0.5], [-0.3]])
    return plcore.LeastSquares(network, X, network.forward(w, X) + 1e-9), w


def test_a_thousand_layers_are_refused_by_the_expansion_and_by_the_verification():
    problem, w = deep_problem(1000)
    with pytest.raises(ValueError, match=r"remainder takes n L⁴ = 2e\+12 operations a radius"):
        jacobian_bounds.any_n(problem, w, [0.1])
    example_, weights = example((6, 5, 4, 1), 5, 1e-3)
    certificate = certified(example_, weights, "plain")
    for argument in ("plain", "first layer", "any n"):
        claim = replace(
            certificate,
            widths=problem.network.widths,
            activations=tuple(each.name for each in problem.network.activations),
            samples=problem.size,
            argument=argument,
            digest=digest(problem, w),
        )
        begin = time.process_time()
        found = plcore.verify(claim, problem, w)
        assert time.process_time() - begin < 2
        assert not found.verified
        assert "depth L = 1000 with n = 2 samples" in found.reason


def test_a_positive_start_of_depth_one_hundred_has_bounds():
    network = plcore.FeedForward((2, *(2,) * 99, 1), activations.smooth_leaky_relu(0.9))
    start = initialization.positive(network, 2.0)
    begin = time.process_time()
    found = positive_start_bounds(network, np.eye(2), [1.0, -1.0], start, [1e-6, 1e-3])
    assert time.process_time() - begin < 5
    assert found.alphas[0] > 0


def test_more_paths_than_float64_holds():
    """A least slope that underflows leaves no bound, with however many paths."""
    deep = plcore.FeedForward((2, *(10,) * 320, 1), activations.smooth_leaky_relu(0.9))
    constants = positive_start_constants(deep, np.eye(2), [1.0, -1.0])
    assert constants.required_scale == np.inf


def test_the_remainder_is_the_same_radius_by_radius(monkeypatch):
    problem, w = example((4, 3, 3, 1), 4, 1e-2)
    radii = np.array([0.01, 0.05, 0.1, 0.2, 0.7])
    whole = jacobian_bounds.expanded(problem, w).remainders(radii)
    monkeypatch.setattr("plcore.jacobian_expansion._MOST_NUMBERS", 500)
    np.testing.assert_allclose(
        jacobian_bounds.expanded(problem, w).remainders(radii), whole, rtol=1e-14
    )


# --- files ----------------------------------------------------------------------------------------


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "certificate.json"
    write(path, b"old")
    path.chmod(0o600)
    write(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600

    def fails(self, content):
        with self.open("wb") as file:
            file.write(content[:2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", fails)
        with pytest.raises(OSError, match="No space"):
            write(path, b"newer")
    assert path.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["certificate.json"]
    link = tmp_path / "link"
    link.symlink_to(path)
    write(link, b"through the link")
    assert link.is_symlink()
    assert path.read_bytes() == b"through the link"
    with pytest.raises(OSError, match="directory"):
        write(tmp_path, b"")


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (7, TypeError, "must be a path of a file, not 7"),
        ("nowhere/study.json", ValueError, "nowhere does not"),
        (".", ValueError, "is a folder"),
    ],
)
@pytest.mark.parametrize(
    "work",
    [
        constants_study.write_study,
        certificate_study.write_study,
        wide_study.write_study,
        fair_race.study,
    ],
)
def test_where_a_study_goes_is_looked_at_before_the_work(
    work, path, error, message, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    for name in ("Parallel", "progress"):
        monkeypatch.setattr(f"{work.__module__}.{name}", None, raising=False)
    with pytest.raises(error, match=message):
        work(path)
