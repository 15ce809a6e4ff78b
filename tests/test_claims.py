"""Certificates as data: words a person understands, and a file that can't do harm."""

import dataclasses
import json
import re
from fractions import Fraction

import numpy as np
import pytest
from bad_input import assert_sentence, garbage_taken
from hypothesis import given
from hypothesis import strategies as st
from strategies import settings  # noqa: F401  (loads the reproducible profile)

from plcore import FeedForward, LeastSquares, activations, claims
from plcore.claims import Certificate, NotShown, digest
from plcore.guarantees import Inequality

FIELDS = {
    "widths": (50, 10, 10, 1),
    "activations": ("tanh", "smooth_leaky_relu(0.1)"),
    "samples": 20,
    "digest": "0123456789abcdef" * 4,
    "argument": "first layer",
    "residual": 0.0125,
    "radii": np.array([0.01, 0.0301234]),
    "singular_values": np.array([1.0, 0.5]),
    "slack": 0.5,
    "curvature": 80.3,
    "step_size": 0.012345,
    "rate": 0.0021291,
    "steps": (6482, 12964),
}
CERTIFICATE = Certificate(**FIELDS)


def changed(**fields):
    return Certificate(**{**FIELDS, **fields})


def problem_and_weights():
    rng = np.random.default_rng(7)
    network = FeedForward((3, 4, 1), activations.tanh)
    problem = LeastSquares(network, rng.standard_normal((5, 3)), rng.standard_normal(5))
    return problem, rng.standard_normal(network.parameter_count)


def test_the_claim_in_words():
    text = " ".join(str(CERTIFICATE).split())
    for sentence in (
        "There is a weight vector within 0.0302 of these weights at which the network fits all 20 "
        "targets exactly.",
        "with any step size up to 0.0123.",
        "With the step size 0.012345 the loss, now at most 7.82e-06, falls by at least 0.212 % a "
        "step: to a millionth of the present loss after at most 6,482 steps, and to a millionth of "
        "that after at most 12,964.",
        "This is a claim;",
        "50-10-10-1, tanh, smooth_leaky_relu(0.1)",
        "first layer, at 2 radii",
    ):
        assert sentence in text
        if sentence.endswith("."):
            assert sentence in CERTIFICATE._repr_html_()
    assert "fits the only target exactly" in " ".join(str(changed(samples=1)).split())
    assert "after at most 1 step, and" in " ".join(changed(steps=(1, 2)).claims())
    assert len(str(CERTIFICATE).splitlines()) < 25


@given(st.floats(1e-300, 1e300))
def test_the_step_size_that_the_rate_belongs_to_is_not_rounded(step_size):
    """With a smaller step the loss may fall less: a claim about a rounded one would be false."""
    said = changed(step_size=step_size).claims()[2]
    assert float(said.split("With the step size ")[1].split()[0]) == step_size


ROUNDED = {
    "a digit too many": ("0.012345", "0.01234500000000000001"),
    "between two floats": ("80.3", "80.30000000000000426325641456060111522674560546876"),
    "an integer beyond 2**53": ("80.3", str(2**53 + 1)),
    "below the least float": ("80.3", "1e-400"),
    "an absurd exponent": ("80.3", "1e-99999999999999999999"),
    "in a list": ("0.0301234", "0.030123400000000000001"),
}
EXACT = {
    "zeros": ("0.012345", "1.23450e-2"),
    "an integer": ("80.3", "80"),
    "a power of two": ("80.3", str(2**60)),
    "a great integer": ("80.3", str(10**22)),
    "every digit": ("80.3", "80.2999999999999971578290569595992565155029296875"),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_a_number_of_a_file_that_would_be_rounded_is_refused(name):
    before, after = ROUNDED[name]
    text = CERTIFICATE.to_json()
    assert text.count(before) == 1
    with pytest.raises(ValueError, match="none may be rounded to become one, but one is"):
        Certificate.from_json(text.replace(before, after))


@pytest.mark.parametrize("name", EXACT)
def test_a_number_of_a_file_that_is_a_float_is_read(name):
    before, after = EXACT[name]
    found = Certificate.from_json(CERTIFICATE.to_json().replace(before, after))
    assert float(after) in (found.step_size, found.curvature)


@given(st.floats(1e-300, 1e300), st.booleans())
def test_a_number_is_shown_rounded_to_the_safe_side(value, up):
    shown = float(claims._rounded(value, up=up))
    assert shown >= value if up else shown <= value
    assert shown == pytest.approx(value, rel=0.0101)


@pytest.mark.parametrize("value", [0.1, 0.3, 0.07, 0.19])
def test_a_float_is_rounded_as_the_number_that_it_is(value):
    """As 0.1 is a little more than a tenth, "at most 0.1" would be false."""
    below, above = (Fraction(claims._rounded(value, up=up)) for up in (False, True))
    assert below < Fraction(value) < above
    percent = [Fraction(claims._rounded(value, up=up, places=2)) for up in (False, True)]
    assert percent == [100 * below, 100 * above]


@given(st.floats(0.0, 1e300), st.floats(1e-300, 1e300), st.integers(1, 10**6))
def test_the_loss_and_the_constant_are_bounds_also_where_squares_leave_the_range(e, m, n):
    claim = changed(samples=n, residual=e, singular_values=[m, m])
    loss, constant = Fraction(e) ** 2 / n, 4 * Fraction(m) ** 2 / n
    assert claim.loss >= loss
    assert claim.pl_constant <= constant
    if 1e-300 < loss < 1e300:
        assert claim.loss == pytest.approx(float(loss), rel=1e-15)
    if 1e-300 < constant < 1e300:
        assert claim.pl_constant == pytest.approx(float(constant), rel=1e-15)
    assert all("inf" not in line for line in claim.claims() if loss < 1e300)


def test_a_loss_too_small_for_a_float_is_not_called_zero():
    assert "now at most 0," not in " ".join(changed(residual=1e-170).claims())


def test_bounds_hold_for_rates_that_one_minus_the_rate_loses():
    rate, k = 1.6e-16, np.array([0.0, 1e15, 1e16])  # 1 − 1.6e-16 rounds to 1 − 2.2e-16 or …1.1
    claim = changed(rate=rate, radii=[1e-3, 1e9])
    assert np.allclose(claim.loss_bound(k), claim.loss * np.exp(-rate * k), rtol=1e-12)
    distances = claim.distance_bound(2 * k)
    assert np.allclose(distances, distances[0] * np.exp(-rate * k), rtol=1e-12)
    assert changed(rate=1.0).loss_bound([0, 1, 2]).tolist() == [claim.loss, 0.0, 0.0]


def test_derived_quantities():
    assert CERTIFICATE.shown
    assert CERTIFICATE.radius == 0.0301234
    assert CERTIFICATE.pl_constant == pytest.approx(4 / 20 * 0.25)
    assert CERTIFICATE.loss == pytest.approx(0.0125**2 / 20)
    # 0.01 · 1 + (r* − 0.01) · 0.5 = 0.0125
    assert CERTIFICATE.flow_radius == pytest.approx(0.015, rel=1e-8)
    assert changed(residual=0.0025).flow_radius == pytest.approx(0.0025, rel=1e-8)
    k = np.array([0, 1, 6482, 10**6])
    assert np.allclose(CERTIFICATE.loss_bound(k), CERTIFICATE.loss * (1 - 0.0021291) ** k)
    assert CERTIFICATE.loss_bound(6482) <= 1e-6 * CERTIFICATE.loss
    assert CERTIFICATE.loss_bound(6481) > 0.99e-6 * CERTIFICATE.loss
    distances = CERTIFICATE.distance_bound(k)
    assert distances[0] == CERTIFICATE.radius  # the whole length is at most s_N
    far = 0.0125 / (0.5 * 0.5) * (1 - 0.0021291) ** (6482 / 2)
    assert distances[2] == pytest.approx(far)
    with pytest.raises(ValueError, match="negative"):
        CERTIFICATE.loss_bound(-1)


def test_arrays_are_copied_and_read_only():
    radii = FIELDS["radii"].copy()
    certificate = changed(radii=radii)
    radii[0] = 7.0
    assert certificate == CERTIFICATE
    with pytest.raises(ValueError, match="read-only"):
        certificate.radii[0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        certificate.rate = 0.5


def test_equal_when_they_claim_the_same():
    assert CERTIFICATE == changed()
    assert hash(CERTIFICATE) == hash(changed())
    assert CERTIFICATE != changed(rate=np.nextafter(FIELDS["rate"], 0))
    assert CERTIFICATE != CERTIFICATE.to_json()


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"widths": (50, 10, 10, 2)}, "widths must be"),
        ({"widths": (50, 10, 1)}, "with 2 activations"),
        ({"widths": (1,)}, "widths must be"),
        ({"widths": (50, 0, 10, 1)}, "at least 1"),
        ({"activations": ("tanh", "tanhh")}, "no activation 'tanhh'"),
        ({"samples": 0}, "samples must be at least 1"),
        ({"digest": "0" * 63}, "64 hexadecimal digits"),
        ({"digest": "0" * 64 + "\n"}, "64 hexadecimal digits"),
        ({"digest": "A" * 64}, "64 hexadecimal digits"),
        ({"argument": "faith"}, "argument must be one of"),
        ({"residual": -1e-9}, "residual must not be negative"),
        ({"residual": np.nan}, "residual must be a finite number"),
        ({"radii": [0.0, 1.0]}, "radii must be positive and increasing"),
        ({"radii": [1.0, 1.0]}, "radii must be positive and increasing"),
        ({"radii": [1.0, np.inf]}, "radii must be finite"),
        ({"radii": [1.0]}, "one entry for each radius"),
        ({"radii": []}, "must not be empty"),
        ({"radii": np.arange(1.0, 1002), "singular_values": np.ones(1001)}, "at most 1000 radii"),
        ({"singular_values": [1.0, 0.0]}, "positive and must not increase"),
        ({"singular_values": [1.0, 1.1]}, "positive and must not increase"),
        ({"slack": 1.0}, "strictly between 0 and 1"),
        ({"slack": 0.0}, "strictly between 0 and 1"),
        ({"curvature": 0.0}, "curvature must be positive"),
        ({"step_size": -1.0}, "step_size must be positive"),
        ({"rate": 1.5}, "rate must be at most 1"),
        ({"rate": 0.0}, "rate must be positive"),
        ({"steps": (1,)}, "steps must be two integers"),
        ({"steps": (0, 1)}, "steps must be positive"),
        ({"steps": (1.0, 2)}, "steps must be integers"),
        ({"steps": (1, 10**500)}, "steps must be positive"),
    ],
)
def test_a_field_out_of_its_range_is_refused(fields, complaint):
    with pytest.raises((ValueError, TypeError), match=re.escape(complaint)) as caught:
        changed(**fields)
    assert_sentence(caught.value)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("widths", set()),
        ("activations", set()),
        ("samples", {"a seed"}),
        ("digest", set()),
        ("argument", set()),
        ("residual", {"a seed"}),
        ("radii", set()),
        ("singular_values", set()),
        ("slack", set()),
        ("curvature", {"a seed"}),
        ("step_size", {"a seed"}),
        ("rate", set()),
        ("steps", set()),
    ],
)
def test_garbage_is_refused(name, allowed):
    assert garbage_taken(Certificate, FIELDS, name) == allowed


# --- the digest ---------------------------------------------------------------------------------


def test_the_digest_changes_with_the_last_bit_of_anything():
    problem, w = problem_and_weights()
    found = {digest(problem, w)}
    assert found == {digest(problem, w.copy())}
    nudged = w.copy()
    nudged[-1] = np.nextafter(nudged[-1], np.inf)
    X, y, network = problem.X, problem.y, problem.network
    labels = y.copy()
    labels[[0, 1]] = labels[[1, 0]]
    for other in (
        digest(problem, nudged),
        digest(LeastSquares(network, X, labels), w),
        digest(LeastSquares(network, X[[1, 0, 2, 3, 4]], y), w),
        digest(LeastSquares(FeedForward((3, 4, 1), activations.arctan), X, y), w),
        digest(LeastSquares(FeedForward((3, 3, 1, 1), activations.tanh), X, y), w),
        digest(LeastSquares(network, X[:4], y[:4]), w),
    ):
        assert other not in found
        found.add(other)


def test_the_digest_does_not_hang_on_memory_layout_or_byte_order():
    problem, w = problem_and_weights()
    X = np.asfortranarray(problem.X).astype(">f8")
    assert digest(LeastSquares(problem.network, X, problem.y), w[::-1][::-1]) == digest(problem, w)
    with pytest.raises(ValueError, match="w must be finite"):
        digest(problem, np.full_like(w, np.nan))


def test_the_digest_is_the_one_that_older_files_have():
    network = FeedForward((1, 1, 1), activations.tanh)
    problem = LeastSquares(network, [[1.0]], [2.0])
    known = "b06e7e25ffb18213d50dd9e59c72786562de534a00fba58331bdc09530668c16"
    assert digest(problem, np.arange(4.0)) == known


# --- the file -----------------------------------------------------------------------------------

positive = st.floats(1e-300, 1e300)


@st.composite
def certificates(draw):
    count = draw(st.integers(1, 5))
    radii = sorted(draw(st.lists(positive, min_size=count, max_size=count, unique=True)))
    values = draw(st.lists(positive, min_size=count, max_size=count))
    return changed(
        residual=draw(st.floats(0, 1e300)),
        radii=radii,
        singular_values=sorted(values, reverse=True),
        slack=draw(st.floats(1e-12, 1 - 1e-12)),
        curvature=draw(positive),
        step_size=draw(positive),
        rate=draw(st.floats(1e-300, 1)),
        steps=(draw(st.integers(1, 10**300)), draw(st.integers(1, 10**300))),
    )


@given(certificates())
def test_a_file_comes_back_exactly(certificate):
    again = Certificate.from_json(certificate.to_json())
    for field in dataclasses.fields(Certificate):
        mine, other = getattr(certificate, field.name), getattr(again, field.name)
        assert np.array_equal(mine, other), field.name
        assert type(mine) is type(other)
    assert again == certificate


def entries():
    return json.loads(CERTIFICATE.to_json())


def refusal(text):
    with pytest.raises(ValueError, match=r"\.$") as caught:
        Certificate.from_json(text)
    assert_sentence(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("7", "must be a JSON object"),
        ('"' + "x" * 100 + '"', "must be a JSON object"),
        ("{}", "must have the format"),
        ('{"format": "plcore certificate 1"}', "lacks field 'widths'"),
        ('{"format": "plcore certificate 2"}', "must have the format"),
        ('{"format": 1, "format": 1}', "each field once"),
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        ("1" * 5000, "too many digits"),
        ('{"residual": NaN}', "finite numbers only"),
        ('{"residual": -Infinity}', "finite numbers only"),
        ("\x00", "not JSON"),
        ("\ud800", "not JSON"),
        ("\ufeff{}", "not JSON"),
        (" " * (2**24 + 1), "at most 16,777,216 characters"),
    ],
)
def test_what_is_no_certificate_is_refused(text, complaint):
    assert complaint in refusal(text)


def test_text_that_is_no_text_is_a_type_error():
    for other in (None, b"{}", 7, {}):
        with pytest.raises(TypeError, match="text must be of type str"):
            Certificate.from_json(other)


@pytest.mark.parametrize("name", ["format", *claims._FIELDS])
def test_each_field_is_needed_in_its_own_kind(name):
    lacking = entries()
    del lacking[name]
    assert name in refusal(json.dumps(lacking))
    wrong = [None, True, "text", {}, {"a": 1}, [[1]], [None], ["x", 1], [True], -1, 1e400, -0.5]
    for value in wrong:
        text = json.dumps({**entries(), name: value}).replace("Infinity", "1e400")
        sentence = refusal(text)
        assert name.split("_")[0] in sentence or "singular" in sentence or "widths" in sentence


def test_an_unknown_field_is_refused():
    assert "unknown field '__class__'" in refusal(json.dumps({**entries(), "__class__": "os"}))
    assert "unknown field 'shown'" in refusal(json.dumps({**entries(), "shown": True}))


@pytest.mark.parametrize("cut", range(0, len(CERTIFICATE.to_json()) - 2, 7))
def test_a_truncated_file_is_refused(cut):
    refusal(CERTIFICATE.to_json()[:cut])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.sampled_from(["format", *claims._FIELDS]), json_values)
def test_a_file_with_one_field_replaced_is_read_or_refused_with_a_sentence(name, value):
    try:
        again = Certificate.from_json(json.dumps({**entries(), name: value}))
    except ValueError as error:
        assert_sentence(error)
    else:
        assert Certificate.from_json(again.to_json()) == again


@given(st.data())
def test_a_file_with_characters_changed_is_read_or_refused_with_a_sentence(data):
    text = CERTIFICATE.to_json()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        text = text[:place] + data.draw(st.characters()) + text[place + 1 :]
    try:
        again = Certificate.from_json(text)
    except ValueError as error:
        assert_sentence(error)
    else:
        assert Certificate.from_json(again.to_json()) == again


@given(st.text(max_size=60) | json_values.map(lambda value: json.dumps(value)))
def test_any_text_is_refused_with_a_sentence(text):
    refusal(text)


# --- not shown ----------------------------------------------------------------------------------


def test_not_shown_gives_its_reason():
    failed = Inequality("|e| < Σ m_j (s_j − s_{j−1})", 2.0, 1.0)
    result = NotShown("The residual is twice what the bound allows.", (failed,))
    assert not result.shown
    assert not isinstance(result, Certificate)
    text = str(result)
    assert text.startswith("Not shown")
    assert result.reason in text
    assert "FAILS: 2 against 1, 0.5 times" in text
    assert "FAILS" in result._repr_html_()
