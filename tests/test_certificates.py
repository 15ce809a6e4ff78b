"""What `certify` certifies then happens; what it refuses it refuses with the right sentence."""

import inspect
import math

import numpy as np
import pytest
import strategies
from bad_input import assert_sentence, garbage_taken

import plcore
from plcore import activations, certificates
from plcore.claims import Certificate, NotShown, digest

NAMES = [one.name for one in strategies.SMOOTH]


def random_problem(seed):
    """A small network and data set of any kind, with weights near a zero of the loss or not."""
    rng = np.random.default_rng(seed)
    hidden = rng.integers(1, 4)
    widths = (int(rng.integers(1, 7)), *(int(rng.integers(2, 8)) for _ in range(hidden)), 1)
    chosen = [activations.named(str(rng.choice(NAMES))) for _ in range(hidden)]
    network = plcore.FeedForward(widths, chosen)
    n = int(rng.integers(1, min(2 * widths[0] + 2, network.parameter_count // 2) + 1))
    X = rng.standard_normal((n, widths[0])) * rng.choice([0.3, 1.0])
    problem = plcore.LeastSquares(network, X, rng.standard_normal(n))
    w = plcore.initialization.lecun(network, rng)
    w = w + rng.uniform(0, 0.5) * rng.standard_normal(w.size)
    if seed % 4 == 0:
        for eta in 0.3 * 0.5 ** np.arange(6):
            final = plcore.gradient_descent(problem, w, eta, 600).final
            if np.isfinite(final).all() and problem.value(final) < problem.value(w):
                return problem, final
    # Targets as far from the outputs as chance has it.
    distance = 10 ** rng.uniform(-7, 0)
    y = network.forward(w, X) + distance * rng.standard_normal(n)
    return plcore.LeastSquares(network, X, y), w


def promise_is_kept(problem, w, certificate, steps=250, factors=(1.0, 0.3)):
    """Descent with the certified step stays in the ball and under the promised loss."""
    assert certificate.digest == digest(problem, w)
    for factor in factors:
        run = plcore.gradient_descent(
            problem, w, factor * certificate.step_size, steps, record_path=True
        )
        slack = 0.5 * factor * certificate.step_size * certificate.curvature
        delta = (1 - slack) * factor * certificate.step_size * certificate.pl_constant
        # Below this, rounding in the residual is what is left of the loss.
        noise = (1e-15 * (1 + np.abs(problem.y).sum() + np.abs(w).sum())) ** 2
        promised = (1 - delta) ** np.arange(steps + 1) * certificate.loss
        assert (run.losses <= promised * (1 + 1e-9) + noise).all()
        assert np.linalg.norm(run.path - w, axis=-1).max() <= certificate.radius
        if factor == 1.0:
            assert delta == pytest.approx(certificate.rate, rel=1e-6)
    return run


def test_two_hundred_random_networks():
    shown, arguments, wide = 0, set(), 0
    for seed in range(200):
        problem, w = random_problem(seed)
        result = plcore.certify(problem, w)
        if isinstance(result, NotShown):
            assert result.reason.endswith(".")
            continue
        shown += 1
        wide += problem.size > problem.network.widths[0] + 1
        arguments.add(result.argument)
        promise_is_kept(problem, w, result, factors=(1.0,) if seed % 5 else (1.0, 0.3))
    assert shown > 60
    assert wide > 20
    assert "any n" in arguments


def trained(seed=1000, d=50, widths=(10, 10), steps=400, n=20, eta=0.1):
    network = plcore.FeedForward((d, *widths, 1), activations.smooth_leaky_relu(0.1))
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)) / math.sqrt(d), rng.standard_normal(n)
    problem = plcore.LeastSquares(network, X, y)
    start = plcore.initialization.lecun(network, rng)
    return problem, plcore.gradient_descent(problem, start, eta, steps, record_path=True)


@pytest.fixture(scope="module")
def run():
    return trained()


def test_the_numbers_fit_together(run):
    problem, descent = run
    w = descent.path[300]
    found = plcore.certify(problem, w)
    assert isinstance(found, Certificate)
    widths = np.diff(found.radii, prepend=0)
    assert found.residual < (1 - found.slack) * (found.singular_values * widths).sum()
    assert found.residual >= np.linalg.norm(problem.residual(w))
    assert found.step_size * found.curvature <= 2 * found.slack
    assert found.rate <= (1 - found.slack) * found.step_size * found.pl_constant
    assert found.rate == pytest.approx((1 - found.slack) * found.step_size * found.pl_constant)
    for steps, fraction in zip(found.steps, (1e-6, 1e-12), strict=True):
        assert (1 - found.rate) ** steps <= fraction < (1 - found.rate) ** (0.999 * steps - 1)
    assert found.curvature >= plcore.curvature.top_curvature(problem, w).value
    # The distance that is promised contains the zero that descent finds.
    zero = plcore.gradient_descent(problem, w, 0.1, 3000).final
    assert problem.value(zero) < 1e-20
    assert np.linalg.norm(zero - w) < found.radius


def test_every_argument_certifies_when_the_loss_is_small(run):
    problem, descent = run
    w = plcore.gradient_descent(problem, descent.final, 0.1, 800).final
    rates = {}
    for argument in ("plain", "first layer", "any n"):
        found = plcore.certify(problem, w, arguments=[argument])
        assert found.argument == argument
        promise_is_kept(problem, w, found, steps=100)
        rates[argument] = found.rate
    assert plcore.certify(problem, w).rate == pytest.approx(max(rates.values()), rel=1e-12)


def test_the_best_argument_is_chosen():
    """For one hidden layer and n ≤ d + 1 the first layer reaches farther than the expansion."""
    problem, descent = trained(widths=(10,), steps=200)
    found = plcore.certify(problem, descent.final)
    assert found.argument == "first layer"
    assert not plcore.certify(problem, descent.final, arguments=["any n"]).shown
    promise_is_kept(problem, descent.final, found)


def test_positive_starts():
    """They are certified where they begin, which the other arguments cannot do."""
    rng = np.random.default_rng(0)
    network = plcore.FeedForward((8, 6, 1), activations.smooth_leaky_relu(0.3))
    X, y = np.linalg.qr(rng.standard_normal((8, 8)))[0][:4], rng.standard_normal(4)
    problem = plcore.LeastSquares(network, X, y)
    start = plcore.initialization.positive(network, 4.0)
    found = plcore.certify(problem, start, arguments=["positive start"])
    assert found.argument == "positive start"
    promise_is_kept(problem, start, found)
    # By default what can be proved in balls comes first, and this argument where nothing else does.
    assert plcore.certify(problem, start).argument == "first layer"
    smaller = plcore.initialization.positive(network, 1.2)
    assert not plcore.certify(problem, smaller, arguments=["plain", "first layer", "any n"]).shown
    last = plcore.certify(problem, smaller)
    assert last.argument == "positive start"
    promise_is_kept(problem, smaller, last)
    moved = plcore.certify(problem, start + 0.01, arguments=["positive start"])
    assert not moved.shown
    assert "W_1 must be zero" in moved.reason


def test_first_certified(run):
    problem, descent = run
    at = np.arange(200, 300, 10)
    step, found = certificates.first_certified(problem, descent.path, at, scan=True)
    assert found == plcore.certify(problem, descent.path[step])
    assert not plcore.certify(problem, descent.path[step - 10]).shown
    assert (step, found) == certificates.first_certified(problem, descent.path, at)
    assert descent.losses[step] > 1e-3
    step, found = certificates.first_certified(problem, descent.path, at, arguments=["plain"])
    assert step is None
    assert not found.shown
    path = descent.path[200:203]
    assert certificates.first_certified(problem, path)[0] is None
    assert certificates.first_certified(problem, path, scan=True)[0] is None
    assert certificates.first_certified(problem, descent.path[398:])[0] == 0


def test_it_is_not_loose_by_orders_of_magnitude(run):
    """A third of σ_min²/(2|∇σ_min|), the most that the steepest line would leave to first order."""
    problem, descent = run
    w = descent.path[260]
    left, singular, right = np.linalg.svd(problem.jacobian(w), full_matrices=False)
    h = 1e-6 * right[-1]
    slope = (problem.jacobian(w + h) - problem.jacobian(w - h)).T @ left[:, -1] / 2e-6
    ideal = singular[-1] ** 2 / (2 * np.linalg.norm(slope))
    best = plcore.certify(problem, descent.path[0])
    allowed = max(one.right for one in plcore.certify(problem, descent.path[230]).inequalities)
    assert not best.shown
    assert allowed > 0.3 * ideal


def refusal(problem, w, **options):
    found = plcore.certify(problem, w, **options)
    assert isinstance(found, NotShown)
    assert found.shown is False
    assert_sentence(ValueError(found.reason))
    return found


def test_refusals_name_the_hypothesis_that_failed(run):
    problem, descent = run
    w = descent.path[300]
    network, X, y = problem.network, problem.X, problem.y
    rough = plcore.FeedForward(network.widths, [activations.relu, activations.tanh])
    assert "relu has 0" in refusal(plcore.LeastSquares(rough, X, y), w).reason
    twice = np.concatenate([X, X[3:4]])
    doubled = plcore.LeastSquares(network, twice, np.append(y, 0.5))
    assert "samples 3 and 20 have the same input" in refusal(doubled, w).reason
    small = plcore.FeedForward((50, 1, 1), activations.tanh)
    rng = np.random.default_rng(0)
    many = plcore.LeastSquares(small, rng.standard_normal((60, 50)), rng.standard_normal(60))
    found = refusal(many, plcore.initialization.lecun(small, rng))
    assert "n = 60 samples exceed the p = 53 parameters" in found.reason
    assert [str(one.statement) for one in found.inequalities] == ["n ≤ p"]
    dead = network.pack([(0 * W, 0 * b) for W, b in network.layers(w)])
    assert "full row rank" in refusal(problem, dead).reason
    few = plcore.LeastSquares(network, np.concatenate([X, X + 1, X - 1]), np.tile(y, 3))
    beyond = refusal(few, w, arguments=["first layer"])
    assert "n = 60 exceeds d + 1 = 51" in beyond.reason


def test_refusals_say_by_how_much(run):
    problem, descent = run
    w = descent.path[300]
    found = refusal(plcore.LeastSquares(problem.network, problem.X, problem.y[::-1]), w)
    assert "times the most that the best argument allows" in found.reason
    closest = min(found.inequalities, key=lambda one: one.left / one.right)
    assert found.reason.startswith(f"|e(w)| = {closest.left:.4g} is ")
    assert all(not one.holds for one in found.inequalities)
    assert len(found.inequalities) == 3
    assert "any n" in str(found)
    # So much nearer, it is shown.
    factor = 0.8 * closest.right / closest.left
    residual = problem.network.forward(w, problem.X) - problem.y[::-1]
    near = plcore.LeastSquares(
        problem.network, problem.X, problem.network.forward(w, problem.X) - factor * residual
    )
    assert plcore.certify(near, w).shown
    rng = np.random.default_rng(0)
    shaken = w + 0.5 * rng.standard_normal(w.size)
    assert not plcore.certify(problem, shaken).shown


def test_labels_at_the_output_need_nothing(run):
    """With zero residual the certificate is trivial, and true."""
    problem, descent = run
    w = descent.path[300]
    fitted = plcore.LeastSquares(problem.network, problem.X, problem.network.forward(w, problem.X))
    found = plcore.certify(fitted, w)
    assert found.shown
    assert found.loss < 1e-24


def test_weights_from_elsewhere(run):
    problem, descent = run
    layers = [(W.tolist(), b.tolist()) for W, b in problem.network.layers(descent.path[300])]
    packed = problem.network.pack(layers)
    assert plcore.certify(problem, packed) == plcore.certify(problem, descent.path[300])


def test_overflow_is_not_shown(run):
    problem, descent = run
    found = refusal(problem, 1e160 * descent.final)
    assert "range of float64" in found.reason


def test_nan_is_refused(run):
    problem, descent = run
    w = descent.final.copy()
    w[5] = np.nan
    with pytest.raises(ValueError, match=r"w must be finite, but is nan at index \(5,\)"):
        plcore.certify(problem, w)


CALLS = {
    "certify": {"arguments": None},
    "first_certified": {"at": [0, 1], "arguments": None, "scan": True},
}
TAKEN = {
    ("certify", "arguments"): {"None"},
    ("first_certified", "arguments"): {"None"},
    ("first_certified", "at"): {"None"},
    ("first_certified", "scan"): {"True"},
}


@pytest.mark.parametrize("name", CALLS)
def test_garbage(name, run):
    problem, descent = run
    function = getattr(certificates, name)
    arguments = {"problem": problem, **CALLS[name]}
    arguments["path" if name == "first_certified" else "w"] = (
        descent.path[398:] if name == "first_certified" else descent.final
    )
    assert set(arguments) == set(inspect.signature(function).parameters)
    for argument in arguments:
        taken = garbage_taken(function, arguments, argument)
        assert taken <= TAKEN.get((name, argument), set()), argument


def test_bad_arguments(run):
    problem, descent = run
    with pytest.raises(ValueError, match="arguments must name at least one"):
        plcore.certify(problem, descent.final, arguments=[])
    with pytest.raises(ValueError, match="each of arguments"):
        plcore.certify(problem, descent.final, arguments=["newton"])
    with pytest.raises(ValueError, match="at must hold steps from 0 to 400"):
        certificates.first_certified(problem, descent.path, [401])
    with pytest.raises(ValueError, match="increasing integers"):
        certificates.first_certified(problem, descent.path, [3, 2])


def test_steps_beyond_the_path_are_refused(run):
    problem, descent = run
    path = descent.path[300:303]
    for at in ([0, 3], [-1, 1], [3]):
        with pytest.raises(ValueError, match=r"steps from 0 to 2, but goes from"):
            certificates.first_certified(problem, path, at)
    assert certificates.first_certified(problem, path, [2])[0] == 2


def test_a_ball_larger_than_every_radius_tried():
    """With weights so large, no radius looked at takes the Jacobian's rank away."""
    network = plcore.FeedForward((3, 2, 1), activations.identity)
    rng = np.random.default_rng(0)
    w = 1e9 * rng.standard_normal(network.parameter_count)
    X = rng.standard_normal((3, 3))
    y = network.forward(w, X) * (1 + 1e-9)
    problem = plcore.LeastSquares(network, X, y)
    for argument in ("plain", "first layer"):
        found = plcore.certify(problem, w, arguments=[argument])
        assert found.shown
        promise_is_kept(problem, w, found, steps=3)


def test_no_room_at_all_is_said(run):
    problem, _ = run
    w = plcore.initialization.positive(problem.network, 3e-11)
    assert "No radius is left" in refusal(problem, w, arguments=["plain"]).reason


def test_the_steps_to_a_fraction():
    """(1 − δ)^k ≤ fraction, and not for k − 1; one step where δ = 1."""
    assert certificates._steps(1.0, 0.5) == 1
    for rate in (0.9, 0.1, 1e-6):
        for fraction in (0.5, 1e-3):
            k = certificates._steps(rate, fraction)
            assert (1 - rate) ** k <= fraction < (1 - rate) ** (k - 1) * (1 + 1e-9)
