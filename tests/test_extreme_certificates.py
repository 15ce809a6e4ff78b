"""Certificates of extreme but legal problems: right, or refused in a sentence; never NaN."""

import itertools
import json
import time
from dataclasses import replace
from fractions import Fraction

import mpmath
import numpy as np
import oracles
import pytest
from bad_input import assert_sentence
from certified import certified, example
from strategies import SMOOTH

import plcore
from plcore import activations
from plcore.__main__ import main
from plcore.ball_activations import ball_activation
from plcore.balls import ball, working_precision
from plcore.claims import Certificate, NotShown, digest
from plcore.positive_start_bounds import positive_start_bounds

SIZES = (1e-300, 1e-150, 1e-20, 1.0, 1e20, 1e150)


def tiny_problem(activation, size_of_X, size_of_w, size_of_e, seed=0):
    """Two samples, widths 2-2-1, and residuals of a given size where float64 can hold them."""
    rng = np.random.default_rng(seed)
    network = plcore.FeedForward((2, 2, 1), activation)
    w = rng.standard_normal(network.parameter_count)
    for weight, _ in network.layers(w)[1:]:
        weight *= size_of_w
    X = size_of_X * rng.standard_normal((2, 2))
    y = network.forward(w, X) + size_of_e * rng.standard_normal(2)
    return plcore.LeastSquares(network, X, y), w


@pytest.mark.parametrize("activation", SMOOTH, ids=lambda each: each.name)
@pytest.mark.parametrize("size_of_X", SIZES)
def test_extreme_sizes_are_certified_and_proved_or_refused(activation, size_of_X):
    every = itertools.cycle((["plain"], ["first layer"], ["any n"], ["positive start"], None))
    for size_of_w, size_of_e in itertools.product((1e-150, 1.0, 1e100), (1e-300, 1e-12, 1e140)):
        problem, w = tiny_problem(activation, size_of_X, size_of_w, size_of_e)
        found = plcore.certify(problem, w, arguments=next(every))
        assert "nan" not in str(found).replace("tanh", "")
        if isinstance(found, NotShown):
            assert found.reason.endswith(".")
            continue
        steps = [0, 1, 1e6, 1e300]
        for numbers in (found.loss_bound(steps), found.distance_bound(steps)):
            assert not np.isnan(numbers).any()
            assert (np.diff(numbers) <= 0).all()
        assert 0 <= found.flow_radius <= found.radius
        if found.argument != "positive start":
            assert plcore.verify(found, problem, w).verified


@pytest.mark.parametrize("exponent", [-400, -60, 60, 400])
def test_certificates_scale_with_the_units_of_the_inputs(exponent):
    """(W_1, X) ↦ (2ᵏ W_1, 2⁻ᵏ X) keeps all outputs; balls in the other parameters are the same.

    The residual is the same number, and what is claimed is proved at either end of the range.
    """
    problem, w = example((3, 4, 1), 3, 1e-6)
    scaled = w.copy()
    problem.network.layers(scaled)[0][0][...] *= 2.0**exponent
    other = plcore.LeastSquares(problem.network, problem.X * 2.0**-exponent, problem.y)
    first, second = plcore.certify(problem, w), plcore.certify(other, scaled)
    assert first.shown
    np.testing.assert_array_equal(other.residual(scaled), problem.residual(w))
    if isinstance(second, Certificate):
        assert second.residual == pytest.approx(first.residual, rel=1e-12)
        assert plcore.verify(second, other, scaled).verified
    else:
        assert exponent < 0  # inputs so large that the least move changes every output


@pytest.mark.parametrize("size", [1e155, 1e200, 1e300])
def test_a_positive_start_whose_squares_overflow_is_refused(size):
    network = plcore.FeedForward((2, 3, 1), activations.tanh)
    start = plcore.initialization.positive(network, 3.0)
    for X, y in ((np.eye(2), [size, 1.0]), (size * np.eye(2), [1.0, 2.0])):
        with pytest.raises(OverflowError, match="leaves the range of float64"):
            positive_start_bounds(network, X, y, start)
        found = plcore.certify(
            plcore.LeastSquares(network, X, y), start, arguments=["positive start"]
        )
        assert isinstance(found, NotShown)
        assert found.reason.endswith(".")


def test_a_positive_start_with_targets_whose_squares_underflow():
    network = plcore.FeedForward((2, 3, 1), activations.tanh)
    start = plcore.initialization.positive(network, 3.0)
    found = positive_start_bounds(network, np.eye(2), [1e-200, -1e-200], start, [1e-3])
    assert found.loss > 0
    ordinary = positive_start_bounds(network, np.eye(2), [1e-9, -1e-9], start, [1e-3])
    assert found.alphas[0] >= ordinary.alphas[0] * (1 - 1e-6)


# --- activations in balls far out ---------------------------------------------------------------


@pytest.mark.parametrize("name", [each.name for each in SMOOTH])
@pytest.mark.parametrize("u", [-1e300, -1e150, -1e10, -800.0, -1e-300, 0.0, 5e-324, 700.0, 1e300])
def test_activations_far_out_are_enclosed_and_narrow(name, u):
    with mpmath.workdps(400), working_precision(96):
        exact = oracles.mpmath_activation(name)(mpmath.mpf(u))
        table = ball_activation(name)
        value = table.functions[0](ball(u))
        assert value.is_finite()
        middle = mpmath.mpf(value.mid().str(50, radius=False))
        room = mpmath.mpf(value.rad().str(20, radius=False)) * (1 + mpmath.mpf(10) ** -15)
        assert abs(middle - exact) <= room + abs(exact) * mpmath.mpf(10) ** -45
        assert room <= mpmath.mpf(10) ** -25 * (1 + abs(u))
        for order in (1, 2):
            assert table.functions[order](ball(u)).is_finite()


def test_a_sigmoid_of_a_ball_about_zero_has_both_sides():
    """A rule for negative numbers must not be taken where the ball reaches over zero."""
    with working_precision(96):
        sigmoid = ball_activation("sigmoid").functions[0]
        for radius in (1e-25, 1e-3, 3.0):
            wide = sigmoid(type(ball(0))(0, radius))
            for u in (-radius, -radius / 3, 0.0, radius):
                assert wide.overlaps(sigmoid(ball(u)))


# --- what follows from a claim ------------------------------------------------------------------


def claim(**fields):
    plain = {
        "widths": (1, 2, 1),
        "activations": ("tanh",),
        "samples": 1,
        "digest": "0" * 64,
        "argument": "plain",
        "residual": 0.1,
        "radii": [1.0],
        "singular_values": [0.5],
        "slack": 0.5,
        "curvature": 8.0,
        "step_size": 0.125,
        "rate": 0.0625,
        "steps": (215, 429),
    }
    return Certificate(**{**plain, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"residual": 1e308, "singular_values": [5e-324]},
        {"residual": 5e-324, "singular_values": [1e308], "radii": [1e308]},
        {"residual": 1e300, "singular_values": [1e300, 1e300], "radii": [1e300, 1.7e308]},
        {"residual": 0.0},
        {"singular_values": [5e-324], "slack": 1 - 1e-16},
        {"rate": 5e-324, "step_size": 5e-324, "curvature": 5e-324, "residual": 1e200},
        {"rate": 1 - 1e-16, "residual": 1e200},
        {"rate": 1.0, "residual": 1e200},
        {"curvature": 1.7976931348623157e308, "radii": [1.7976931348623157e308]},
    ],
)
def test_what_follows_from_a_wild_claim_is_no_nan(fields):
    certificate = claim(**fields)
    for numbers in (
        certificate.loss_bound([0, 1, 1e300, 1.7e308]),
        certificate.distance_bound([0, 1, 1e300, 1.7e308]),
        certificate.flow_radius,
    ):
        assert not np.isnan(numbers).any()
        assert (np.asarray(numbers) >= 0).all()
    assert (certificate.distance_bound([0, 5]) <= certificate.radius).all()
    for text in (str(certificate), certificate._repr_html_()):
        assert "nan" not in text.replace("tanh", "")


def test_the_flow_radius_is_exact():
    certificate = claim(radii=[0.1, 0.3], singular_values=[0.7, 0.2], residual=0.09)
    left = Fraction(0.09) - Fraction(0.7) * Fraction(0.1)
    exact = Fraction(0.1) + left / Fraction(0.2)
    assert exact <= Fraction(certificate.flow_radius) <= exact * (1 + Fraction(1, 10**15))


@pytest.mark.parametrize("value", [5e-324, 1.5e-323, 1e-310, 1.7976931348623157e308])
@pytest.mark.parametrize("up", [False, True])
def test_words_are_on_the_safe_side_at_the_ends_of_the_range(value, up):
    shown = Fraction(plcore.claims._rounded(value, up=up))
    assert shown >= Fraction(value) if up else shown <= Fraction(value)
    assert abs(shown - Fraction(value)) <= Fraction(value) / 100


# --- files made to harm ---------------------------------------------------------------------------


def file_with(name, value):
    return json.dumps({**json.loads(claim().to_json()), name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("activations", ["shifted_" * 500_000 + "nothing"]),
        ("activations", ["x" * 10**7]),
        ("activations", ["smooth_leaky_relu(0." + "1" * 10**6 + "e999999999)"]),
        ("activations", ["smooth_leaky_relu(" + "-" * 10**6 + ")"]),
        ("widths", [1] * 500_000),
        ("digest", "0" * 10**7),
        ("argument", "plain" * 10**6),
        ("samples", 10**4000),
        ("steps", [10**4000, 1]),
        ("radii", [1e-3] * 10**5),
        ("residual", 10**4000),
    ],
)
def test_a_file_made_to_harm_is_refused_at_once_in_a_short_sentence(name, value):
    text = file_with(name, value)
    begin = time.process_time()
    with pytest.raises(ValueError, match=r"\.$") as caught:
        Certificate.from_json(text)
    assert time.process_time() - begin < 5
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_many_shifts_of_an_activation_are_one():
    name = "shifted_" * 300_000 + "sigmoid"
    assert activations.named(name) == activations.shifted_sigmoid
    assert activations.named(name) is activations.named("shifted_sigmoid")
    assert activations.named("shifted_shifted_gelu") == activations.gelu
    assert Certificate.from_json(file_with("activations", [name])).activations == (
        "shifted_sigmoid",
    )


def test_long_shapes_are_said_in_short():
    problem, w = example((6, 5, 4, 1), 5, 1e-3)
    certificate = certified(problem, w, "plain")
    other = replace(certificate, widths=(6, *(1,) * 5000, 1), activations=("tanh",) * 5000)
    found = plcore.verify(other, problem, w)
    assert not found.verified
    assert len(found.reason) < 200
    with pytest.raises(ValueError, match="widths must be") as caught:
        replace(certificate, widths=(6,) * 5000)
    assert_sentence(caught.value)


@pytest.mark.parametrize("argument", ["plain", "first layer", "any n"])
@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e-30, 1e30, 1e300, 1.7e308])
def test_radii_and_values_of_any_size_are_refused_without_a_warning(argument, size):
    problem, w = example((3, 3, 1), 3, 1e-6)
    certificate = certified(problem, w, argument)
    for changes in (
        {"radii": [size]},
        {"radii": [size], "singular_values": [size]},
        {"singular_values": [size], "radii": [1.0]},
        {"residual": size, "radii": [min(2 * size, 1.7e308)]},
        {"curvature": size},
        {"step_size": size},
    ):
        changes = {"radii": [1.0], "singular_values": [1e-3], **changes}
        found = plcore.verify(replace(certificate, **changes), problem, w)
        assert not found.verified
        assert "could not be proved" in found.reason


# --- the command line -----------------------------------------------------------------------------


def test_the_arrays_are_never_overwritten(tmp_path, capsys):
    problem, w = example((3, 3, 1), 3, 1e-6)
    path = tmp_path / "arrays.npz"
    np.savez(path, X=problem.X, y=problem.y, w=w)
    before = path.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(path)
    shape = ["--widths", "3", "3", "1", "--activation", "tanh"]
    for out in (path, link, tmp_path / "." / "arrays.npz"):
        assert main(["certify", str(path), str(out), *shape]) == 2
        assert "would overwrite the arrays" in capsys.readouterr().err
    assert path.read_bytes() == before
    missing = str(tmp_path / "missing.npz")
    assert main(["certify", missing, missing, *shape]) == 2
    assert main(["certify", str(path), str(tmp_path / ("x" * 300)), *shape]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["arrays.npz", "link"]


def test_a_certificate_larger_than_any_is_not_read_whole(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("plcore.__main__._LARGEST_TEXT", 1000)
    path = tmp_path / "long.json"
    path.write_bytes(b" " * 1001)
    assert main(["verify", str(path), str(path)]) == 2
    assert "has more than 1000 bytes." in capsys.readouterr().err


def test_arrays_for_a_network_that_no_memory_holds(tmp_path, capsys):
    """The certificate's network is huge, its arrays are small: no memory is asked for."""
    path = tmp_path / "arrays.npz"
    np.savez(path, X=np.ones((1, 1)), y=np.ones(1), w=np.ones(7))
    text = tmp_path / "certificate.json"
    text.write_text(file_with("widths", [1, 10**15, 1]), encoding="utf-8")
    assert main(["verify", str(text), str(path)]) == 1
    assert "p = 3000000000000001 parameters, but there are 7" in capsys.readouterr().out


def test_the_digest_of_a_negative_zero_is_its_own():
    """The SHA-256 binds bits: −0.0 is another number than 0.0, and both are proved."""
    network = plcore.FeedForward((1, 1, 1), activations.tanh)
    problems = [plcore.LeastSquares(network, [[zero]], [0.5]) for zero in (0.0, -0.0)]
    w = np.array([1.0, 0.3, 1.0, 0.2])
    assert len({digest(problem, w) for problem in problems}) == 2
    for problem in problems:
        certificate = plcore.certify(problem, w)
        if certificate.shown:
            assert plcore.verify(certificate, problem, w).verified
