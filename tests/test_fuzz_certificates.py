"""Certificates with fields changed: what is verified is true, by brute force; nothing breaks."""

import json
import time

import numpy as np
import pytest
from bad_input import assert_sentence
from certified import certified, example
from hypothesis import given, settings
from hypothesis import strategies as st

import plcore
from plcore import activations
from plcore.claims import Certificate

NUMBERS = ("residual", "slack", "curvature", "step_size", "rate")
ODD = (0, -0.0, 0.5, 1, 5e-324, 1e-308, 1e308, 1 - 1e-16, 10**30, 10**400, True, None, "x", [1.0])


def cases():
    found = []
    for widths, n, activation in (
        ((2, 2, 1), 2, activations.tanh),
        ((3, 2, 2, 1), 3, activations.softplus),
        ((1, 3, 1), 1, activations.gelu),
    ):
        problem, w = example(widths, n, 1e-5, activation=activation, seed=1)
        for argument in ("plain", "first layer", "any n"):
            found.append((problem, w, certified(problem, w, argument)))
    return found


CASES = cases()


@st.composite
def changed(draw, certificate):
    """The entries of a certificate's file, one to three of them changed."""
    entries = json.loads(certificate.to_json())
    factors = st.one_of(
        st.builds(lambda sign, power: 1 + sign * 10.0**power, st.sampled_from([-1, 1]),
                  st.floats(-16, -1)),
        st.floats(-3, 3).map(lambda power: 10.0**power),
        st.sampled_from([-1.0, 2.0, 0.5, 1e300, 1e-300]),
    )  # fmt: skip
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from([*NUMBERS, "radii", "singular_values", "steps", "other"]))
        factor, odd = draw(factors), draw(st.sampled_from(ODD))
        value = entries.get(name)
        if name in NUMBERS and isinstance(value, float):
            entries[name] = draw(st.sampled_from([value * factor, value * factor, odd]))
        elif name in ("radii", "singular_values") and value:
            place = draw(st.integers(0, len(value) - 1))
            kind = draw(st.sampled_from(["all", "one", "odd", "more", "less", "turned", "wide"]))
            if kind == "all":
                entries[name] = [each * factor for each in value]
            elif kind == "one":
                value[place] *= factor
            elif kind == "odd":
                value[place] = odd
            elif kind == "more":
                value.append(value[-1])
            elif kind == "less":
                del value[place]
            elif kind == "turned":
                value.reverse()
            elif entries["radii"] and entries["singular_values"]:
                entries["radii"].append(entries["radii"][-1] * 1.5)
                entries["singular_values"].append(entries["singular_values"][-1] * 0.9)
            if not all(isinstance(each, float) for each in entries[name]):
                break
        elif name == "steps" and value:
            entries[name] = draw(
                st.sampled_from([[value[0] - 1, value[1]], [value[0] // 2, value[1]], value[::-1],
                                 [10**399, 10**399], [1, 1], value * 2, [1.0, 2]])
            )  # fmt: skip
            break
        elif name == "other":
            name, value = draw(
                st.sampled_from(
                    [("samples", 1), ("samples", 10**30), ("argument", "plain"),
                     ("argument", "first layer"), ("argument", "any n"),
                     ("argument", "positive start"), ("digest", "0" * 64), ("digest", "٠" * 64),
                     ("widths", [10**18, 10**18, 1]), ("widths", [1] * 60), ("activations", []),
                     ("activations", ["os.system"]), ("activations", ["smooth_leaky_relu(٠.٥)"])]
                )
            )  # fmt: skip
            entries[name] = value
    return json.dumps(entries)


def fault(certificate, problem, w):
    """What is false of a claim, found without any of the bounds; or nothing."""
    rng = np.random.default_rng(0)
    e, start = problem.residual(w), problem.value(w)
    if certificate.samples != problem.size or np.linalg.norm(e) > certificate.residual * 1.000001:
        return "residual"
    directions = rng.standard_normal((12, w.size))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for radius, value in zip(certificate.radii, certificate.singular_values, strict=True):
        points = np.vstack([w, w + radius * directions])
        if np.linalg.svd(problem.jacobian(points), compute_uv=False)[:, -1].min() < value:
            return "singular values"
    for point in np.vstack([w, w + 0.3 * certificate.radius * directions]):
        top = np.linalg.eigvalsh(problem.hessian(point))[-1]
        if problem.value(point) <= start and top > certificate.curvature:
            return "curvature"
    run = plcore.gradient_descent(problem, w, certificate.step_size, 40)
    bound = certificate.loss_bound(np.arange(41))
    if (run.losses > bound * (1 + 1e-9) + 1e-25).any():
        return "rate"
    for fraction, count in zip((1e-6, 1e-12), certificate.steps, strict=True):
        if min(count, 10**300) * np.log1p(-certificate.rate) > np.log(fraction) * (1 - 1e-9):
            return "steps"
    return ""


@given(st.data())
@settings(max_examples=60)
def test_what_is_verified_is_true_whatever_was_changed(data):
    problem, w, certificate = data.draw(st.sampled_from(CASES))
    text = data.draw(changed(certificate))
    try:
        claim = Certificate.from_json(text)
    except ValueError as error:
        assert_sentence(error)
        return
    assert "nan" not in str(claim).replace("tanh", "")
    assert not np.isnan(claim.loss_bound([0, 1, 1e300])).any()
    assert not np.isnan(claim.distance_bound([0, 1, 1e300])).any()
    begin = time.process_time()
    found = plcore.verify(claim, problem, w)
    assert time.process_time() - begin < 10
    if found.verified:
        assert not fault(claim, problem, w)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[2].widths} {case[2].argument}")
def test_the_brute_force_tells_true_from_false(case):
    """So that it could have found a false claim above."""
    problem, w, certificate = case
    assert not fault(certificate, problem, w)
    entries = json.loads(certificate.to_json())
    for name, value, expected in (
        ("residual", certificate.residual / 2, "residual"),
        ("singular_values", [50 * m for m in entries["singular_values"]], "singular values"),
        ("curvature", certificate.curvature / 100, "curvature"),
        ("rate", 0.999, "rate"),
        ("steps", [1, 1], "steps"),
    ):
        if name == "rate" and problem.size == 1:
            continue  # one sample is fitted about as quickly as that
        false = Certificate.from_json(json.dumps({**entries, name: value}))
        assert fault(false, problem, w) == expected
        assert not plcore.verify(false, problem, w).verified
