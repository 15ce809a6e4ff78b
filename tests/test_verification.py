"""Certificates are proved in balls; false ones are refused with the reason."""

import time
from dataclasses import replace

import flint
import numpy as np
import pytest
from bad_input import assert_sentence, garbage_taken
from certified import certified, example
from strategies import SMOOTH

import plcore
from plcore import activations, verification
from plcore.activations import Activation
from plcore.claims import Certificate, NotShown, digest
from plcore.network import FeedForward
from plcore.objectives import LeastSquares
from plcore.verification import verify

ARGUMENTS = ("plain", "first layer", "any n")


@pytest.fixture(scope="module", params=ARGUMENTS)
def proved(request):
    """A problem, weights and a true certificate, one for each argument."""
    problem, w = example((6, 5, 4, 1), 5, 1e-3)
    return problem, w, certified(problem, w, request.param)


def rebound(certificate, problem, w):
    """The same claim about another problem or other weights, with a digest that fits."""
    return replace(certificate, digest=digest(problem, w), samples=problem.size)


# --- true certificates ----------------------------------------------------------------------------


def test_a_true_certificate_is_proved(proved):
    problem, w, certificate = proved
    before = flint.ctx.prec
    found = verify(certificate, problem, w)
    assert found.verified, found
    assert all(row.proved for row in found.inequalities)
    assert flint.ctx.prec == before
    again = verify(Certificate.from_json(certificate.to_json()), problem, w.tolist())
    assert again.verified
    assert again.inequalities == found.inequalities
    text = str(found)
    assert text.startswith("Verified")
    assert "proved: " in text
    assert "NOT" not in text
    assert "balls of 96 bits" in text
    assert "<table>" in found._repr_html_()


@pytest.mark.parametrize("seed", range(24))
def test_what_is_certified_at_random_is_proved(seed):
    """Each activation, several depths and widths; every certificate comes out in balls, too."""
    rng = np.random.default_rng(seed)
    depth = int(rng.integers(2, 5))
    d = int(rng.integers(1, 7))
    widths = (d, *(int(each) for each in rng.integers(2, 7, depth - 1)), 1)
    chosen = [SMOOTH[(seed + k) % len(SMOOTH)] for k in range(depth - 1)]
    problem, w = example(
        widths,
        int(rng.integers(1, d + 3)),
        10.0 ** rng.uniform(-6, -3),
        seed=seed,
        activation=chosen,
    )
    shown = 0
    for argument in ARGUMENTS:
        found = plcore.certify(problem, w, arguments=[argument])
        if isinstance(found, NotShown):
            continue
        shown += 1
        proof = verify(found, problem, w)
        assert proof.verified, f"{argument}\n{proof}"
    best = plcore.certify(problem, w)
    assert best.shown == (shown > 0)
    if best.shown:
        assert verify(best, problem, w).verified


def test_one_hundred_bits_more_change_no_verdict(proved, monkeypatch):
    monkeypatch.setattr(verification, "_PRECISIONS", (228,))
    problem, w, certificate = proved
    found = verify(certificate, problem, w)
    assert found.verified
    assert found.bits == 228


def test_an_undecided_comparison_is_tried_with_more_bits(monkeypatch):
    problem, w = example((6, 5, 1), 4, 1e-4)
    certificate = certified(problem, w, "first layer")
    monkeypatch.setattr(verification, "_PRECISIONS", (20,))
    coarse = verify(certificate, problem, w)
    assert not coarse.verified
    assert 0 in [row.verdict for row in coarse.inequalities]
    monkeypatch.setattr(verification, "_PRECISIONS", (20, 96))
    assert verify(certificate, problem, w).bits == 96


def test_what_is_proved_is_true_at_points_of_the_ball(proved):
    """The two hypotheses of the theorem, by brute force: |Jᵀe| ≥ m_j |e|, and λ_max(∇²S) ≤ β."""
    problem, w, certificate = proved
    assert verify(certificate, problem, w).verified
    rng = np.random.default_rng(8)
    start = problem.value(w)
    inside = 0
    for s, m in zip(certificate.radii, certificate.singular_values, strict=True):
        for number in range(40):
            step = rng.standard_normal(w.size)
            if number % 4 == 0:  # towards a zero of the loss, where D is
                step = -np.linalg.lstsq(problem.jacobian(w), problem.residual(w), rcond=None)[0]
                v = w + rng.uniform(0, 1.5) * step + 1e-5 * rng.standard_normal(w.size)
                if np.linalg.norm(v - w) > s:
                    continue
            else:
                v = w + s * rng.uniform() * step / np.linalg.norm(step)
            e = problem.residual(v)
            assert np.linalg.norm(problem.jacobian(v).T @ e) >= m * np.linalg.norm(e)
            if problem.value(v) <= start:
                inside += 1
                top = np.linalg.eigvalsh(problem.hessian(v))[-1]
                assert top <= certificate.curvature
                assert top >= 0.02 * certificate.curvature
    assert inside >= 5


# --- false certificates ---------------------------------------------------------------------------

UP, DOWN = 1 + 1e-6, 1 - 1e-6


@pytest.mark.parametrize(
    ("change", "statement"),
    [
        (lambda c: {"residual": c.residual * DOWN}, "|e(w)| ≤ residual"),
        (lambda c: {"singular_values": c.singular_values * (1 + 1e-3)}, "m_j"),
        (lambda c: {"radii": c.radii * 1.5}, "m_j"),
        (lambda c: {"radii": np.append(c.radii, 2 * c.radii[-1]),
                    "singular_values": np.append(c.singular_values, c.singular_values[-1])}, "m_j"),
        (lambda c: {"radii": c.radii * 0.1}, "residual < (1 − ε)"),
        (lambda c: {"slack": 1 - (1 - c.slack) * 1e-3}, "residual < (1 − ε)"),
        (lambda c: {"curvature": c.curvature * DOWN}, "λ_max(∇²S) ≤ β"),
        (lambda c: {"slack": c.slack * DOWN}, "η ≤ 2ε/β"),
        (lambda c: {"step_size": c.step_size * UP}, "η ≤ 2ε/β"),
        (lambda c: {"curvature": c.curvature * UP}, "η ≤ 2ε/β"),
        (lambda c: {"rate": c.rate * UP}, "δ ≤"),
        (lambda c: {"step_size": c.step_size * DOWN}, "δ ≤"),
        (lambda c: {"steps": (c.steps[0] - 1, c.steps[1])}, "log 10^6 ≤"),
        (lambda c: {"steps": (c.steps[0], c.steps[1] - 1)}, "log 10^12 ≤"),
    ],
)  # fmt: skip
def test_a_number_beyond_what_can_be_proved_is_refused(proved, change, statement):
    problem, w, certificate = proved
    found = verify(replace(certificate, **change(certificate)), problem, w)
    assert not found.verified
    missed = [row.statement for row in found.inequalities if not row.proved]
    assert any(statement in each for each in missed), found
    assert found.reason.startswith("It could not be proved that ")
    assert any(each in found.reason for each in missed)
    assert "NOT PROVED" in str(found)
    assert str(found).startswith("Not verified")


def sentence(certificate, problem, w):
    found = verify(certificate, problem, w)
    assert not found.verified
    assert found.reason.endswith(".")
    return found.reason


def test_other_data_or_weights_are_refused(proved):
    problem, w, certificate = proved
    network, X, y = problem.network, problem.X, problem.y
    nudged = w.copy()
    nudged[7] = np.nextafter(nudged[7], np.inf)
    swap = [1, 0, 2, 3, 4]
    others = [
        (problem, nudged),
        (LeastSquares(network, X, y[swap]), w),
        (LeastSquares(network, X[swap], y), w),
        (LeastSquares(network, X[swap], y[swap]), w),
        (LeastSquares(network, np.nextafter(X, 0), y), w),
    ]
    for other, weights in others:
        assert "digest is of other data or weights" in sentence(certificate, other, weights)


def test_a_forged_digest_does_not_help(proved):
    problem, w, certificate = proved
    labels = LeastSquares(problem.network, problem.X, problem.y[[1, 0, 2, 3, 4]])
    assert "|e(w)| ≤ residual" in sentence(rebound(certificate, labels, w), labels, w)
    moved = w + 0.05
    assert "could not be proved" in sentence(rebound(certificate, problem, moved), problem, moved)
    # The same set of samples in another order is true of the same weights.
    order = [1, 0, 2, 3, 4]
    same = LeastSquares(problem.network, problem.X[order], problem.y[order])
    assert verify(rebound(certificate, same, w), same, w).verified


def test_rank_deficient_data_are_refused(proved):
    problem, w, certificate = proved
    X = problem.X.copy()
    X[1] = X[0]
    y = problem.network.forward(w, X)  # so that the residual is none
    double = LeastSquares(problem.network, X, y)
    found = verify(rebound(certificate, double, w), double, w)
    assert not found.verified
    (row,) = [row for row in found.inequalities if not row.proved]
    assert "m_j" in row.statement


def test_more_samples_than_parameters_are_refused(proved):
    _, _, certificate = proved
    rng = np.random.default_rng(2)
    network = FeedForward((2, 2, 1), activations.tanh)
    problem = LeastSquares(network, rng.standard_normal((10, 2)), rng.standard_normal(10))
    w = rng.standard_normal(network.parameter_count)
    other = replace(certificate, widths=network.widths, activations=("tanh",))
    said = sentence(rebound(other, problem, w), problem, w)
    assert "more samples, n = 10, than parameters, p = 9" in said


def test_the_first_layer_needs_few_samples():
    problem, w = example((2, 8, 1), 4, 1e-5)
    certificate = certified(problem, w, "any n")
    other = replace(certificate, argument="first layer")
    assert "needs n ≤ d + 1, but there are n = 4 samples of d = 2" in sentence(other, problem, w)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu(0.1)", "squared_relu"])
def test_activations_that_are_not_smooth_are_refused(proved, activation):
    problem, w, certificate = proved
    network = FeedForward(problem.network.widths, activations.named(activation))
    rough = LeastSquares(network, problem.X, problem.y)
    other = replace(certificate, activations=(activation, activation))
    said = sentence(rebound(other, rough, w), rough, w)
    assert f"'{activation}' is not among those, twice continuously differentiable" in said


def test_another_function_under_a_known_name_is_refused(proved):
    problem, w, certificate = proved
    sine = Activation(
        "tanh", (np.sin, np.cos, lambda u: -np.sin(u)), activations.tanh.extrema, ((-1.0, 1.0),) * 3
    )
    network = FeedForward(problem.network.widths, sine)
    said = sentence(certificate, LeastSquares(network, problem.X, problem.y), w)
    assert "'tanh' is another function than the one that is known by that name" in said


def test_a_network_of_another_shape_is_refused(proved):
    problem, w, certificate = proved
    other = replace(certificate, widths=(6, 4, 5, 1))
    assert "for widths (6, 4, 5, 1), but the network has (6, 5, 4, 1)" in sentence(
        other, problem, w
    )
    other = replace(certificate, activations=("tanh", "gelu"))
    assert "for the activations ('tanh', 'gelu')" in sentence(other, problem, w)
    other = replace(certificate, samples=6)
    assert "for n = 6 samples, but the data have 5" in sentence(other, problem, w)
    assert "p = 64 parameters, but there are 63 weights" in sentence(certificate, problem, w[:-1])


def test_an_expansion_too_large_is_refused_at_once(proved):
    _, _, certificate = proved
    rng = np.random.default_rng(2)
    network = FeedForward((300, 2, 1), activations.tanh)
    problem = LeastSquares(network, rng.standard_normal((301, 300)), rng.standard_normal(301))
    w = rng.standard_normal(network.parameter_count)
    other = replace(
        certificate, widths=network.widths, activations=("tanh",), argument="any n", samples=301
    )
    said = sentence(rebound(other, problem, w), problem, w)
    assert "too large to be proved in balls: n = 301 must be at most 300" in said


def test_an_argument_without_proof_in_balls_is_refused(proved):
    problem, w, certificate = proved
    other = replace(certificate, argument="positive start")
    assert "'positive start' has no proof in balls" in sentence(other, problem, w)


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("scale", [0.0, 1e-160, 1e100, 1e160, 1e300])
def test_extreme_weights_are_refused_and_nothing_breaks(proved, argument, scale):
    problem, w, certificate = proved
    huge = scale * w
    other = rebound(replace(certificate, argument=argument, residual=1e308), problem, huge)
    assert not verify(other, problem, huge).verified


# --- unusable input -------------------------------------------------------------------------------


def test_garbage_is_refused(proved):
    problem, w, certificate = proved
    good = {"certificate": certificate, "problem": problem, "w": w}
    for name in good:
        assert garbage_taken(verify, good, name) == set()
    w = w.copy()
    w[3] = np.nan
    with pytest.raises(ValueError, match="w must be finite, but is nan at index"):
        verify(certificate, problem, w)
    batch = LeastSquares(problem.network, problem.X[None], problem.y[None])
    with pytest.raises(ValueError, match="X must have 2 axes"):
        verify(certificate, batch, w)


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["first layer", "any n"])
def test_the_standard_case_takes_seconds(argument):
    problem, w = example((50, 10, 10, 1), 20, 1e-2)
    certificate = certified(problem, w, argument)
    begin = time.process_time()
    assert verify(certificate, problem, w).verified
    assert time.process_time() - begin < 10


def test_a_row_says_its_margin():
    row = verification.ProvedInequality("a ≤ b", 1.0, 1.25, 1)
    assert str(row) == "proved: 1 ≤ 1.25, 1.25 times"
    assert "1 + 1e-09 times" in str(verification.ProvedInequality("a ≤ b", 1.0, 1 + 1e-9, 1))
    assert "1 - 1e-09 times" in str(verification.ProvedInequality("a ≤ b", 1.0, 1 - 1e-9, 0))
    assert verification.ProvedInequality("a ≤ b", 0.0, 1.0, 1).margin == np.inf
    assert_sentence(ValueError(verification._missed(replace(row, verdict=-1))))


@pytest.mark.parametrize("residual", [1e-170, 1e-300])
def test_a_residual_whose_square_underflows_is_certified_and_proved(residual):
    network = FeedForward((2, 3, 1), activations.tanh)
    first = np.random.default_rng(0).standard_normal(network.parameter_count)
    (W, b), _ = network.layers(first)
    w = network.pack([(W, b), (np.zeros((1, 3)), np.zeros(1))])  # outputs are exactly zero
    problem = LeastSquares(network, [[1.0, 0.2], [0.3, -1.0]], [residual, -residual])
    certificate = plcore.certify(problem, w)
    assert certificate.residual > residual
    assert verify(certificate, problem, w).verified
    assert certificate.loss > 0


def test_a_refusal_without_inequalities_names_no_arithmetic():
    text = str(verification.Verification(False, "Not so."))
    assert text.splitlines() == ["Not verified", "  in words  Not so."]
