"""The search from above: closed forms, brute force, autograd, invariances, refusals."""

import inspect
import math

import numpy as np
import oracles
import pytest
from bad_input import garbage_taken

from plcore import _worst_search, activations, bound_trials, worst_points
from plcore._worst_search import Inner
from plcore.bound_trials import count_violations, step_sizes
from plcore.bounds import derivative_bounds
from plcore.descent import gradient_descent
from plcore.initialization import lecun, positive
from plcore.network import FeedForward
from plcore.objectives import LeastSquares
from plcore.positive_start_bounds import certified_output_scale, positive_start_bounds
from plcore.step_sizes import paper_step_size

LEAKY = activations.smooth_leaky_relu(0.1)


def problem(seed, widths, activation, n):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, widths[0])) / math.sqrt(widths[0])
    return LeastSquares(FeedForward(widths, activation), X, rng.standard_normal(n))


def search(objective, start, seed=0, **options):
    return worst_points.worst_points(objective, start, np.random.default_rng(seed), **options)


SMALL = problem(3, (5, 3, 1), LEAKY, 4)
START = positive(SMALL.network, 1.5)
FOUND = search(SMALL, START)


# ------------------------------------------------------------------------- exact values


@pytest.mark.parametrize(("width", "scale"), [(1, 2.0), (4, 0.8)])
def test_one_sample_and_a_linear_network_have_a_closed_form(width, scale):
    """With n = 1, R = 4K and K = |W_2|²(|x|²+1) + |h|² + 1: least where W_2 alone shrinks."""
    x = np.array([0.6, -0.3, 1.1])
    linear = LeastSquares(FeedForward((3, width, 1), activations.identity), [x], [1.7])
    norm = scale * math.sqrt(width)
    radii = norm * np.linspace(0.1, 0.95, 8)
    found = search(linear, positive(linear.network, scale), radii=radii)
    exact = 4 * ((norm - radii) ** 2 * (x @ x + 1) + 1)
    np.testing.assert_allclose(found.at(radii * (1 + 1e-9)), exact, rtol=1e-6)
    assert found.vanishing == math.inf  # one target: all are equal


@pytest.mark.parametrize("activation", [LEAKY, activations.tanh, activations.softplus])
def test_not_above_brute_force_in_four_dimensions(activation):
    tiny = problem(5, (1, 1, 1), activation, 2)
    start = positive(tiny.network, 1.2)
    radii = np.array([0.2, 0.5, 0.9])
    found = search(tiny, start, radii=radii)
    rng = np.random.default_rng(1)
    for radius in radii:
        move = rng.standard_normal((200_000, 4))
        move *= (
            radius
            * rng.uniform(0.7, 1, (len(move), 1))
            / np.linalg.norm(move, axis=1, keepdims=True)
        )
        brute = tiny.ratio(start + move).min()
        here = float(found.at(radius * (1 + 1e-9)))
        assert here <= brute * (1 + 1e-9)
        assert here > 0.5 * brute  # and the brute force is no straw man


@pytest.mark.parametrize("widths", [(6, 3, 1), (6, 3, 2, 1), (3, 3, 2, 2, 1)])
def test_the_vanishing_point_is_critical(widths):
    """Built anew: some W_ℓ = 0, W_1 = 0, mean output ȳ; no nearer layer is overlooked."""
    objective = problem(2, widths, activations.softplus, 4)
    network = objective.network
    start = positive(network, 0.9, 0.7)
    distances = []
    for layer in range(1, network.depth):
        v = start.copy()
        network.layers(v)[0][0][...] = 0.0
        network.layers(v)[layer][0][...] = 0.0
        network.layers(v)[-1][1][...] += objective.y.mean() - network.forward(v, objective.X)[0]
        slope = oracles.gradient(
            widths, ["softplus"] * (len(widths) - 2), v, objective.X, objective.y
        )
        assert np.abs(slope).max() < 1e-14
        assert objective.value(v) == pytest.approx(np.var(objective.y))
        distances.append(np.linalg.norm(v - start))
    assert worst_points.vanishing_radius(objective, start) == pytest.approx(min(distances))


def test_the_vanishing_radius_of_a_positive_start():
    network = SMALL.network
    expected = math.hypot(np.linalg.norm(network.layers(START)[1][0]), SMALL.y.mean())
    assert worst_points.vanishing_radius(SMALL, START) == pytest.approx(expected, rel=1e-12)
    same = LeastSquares(network, SMALL.X, np.ones(4))
    assert worst_points.vanishing_radius(same, START) == math.inf


# ------------------------------------------------------------------------- witnesses


@pytest.mark.parametrize(
    ("widths", "name", "n"),
    [((5, 3, 1), "smooth_leaky_relu(0.1)", 4), ((3, 4, 3, 1), "tanh", 5), ((2, 3, 1), "arctan", 6)],
)
def test_witnesses_lie_in_their_balls_and_autograd_agrees(widths, name, n):
    objective = problem(7, widths, activations.named(name), n)
    names = [name] * (len(widths) - 2)
    for start in (
        positive(objective.network, 1.3),
        lecun(objective.network, np.random.default_rng(0)),
    ):
        found = search(objective, start)
        assert (np.linalg.norm(found.points - start, axis=1) <= found.radii * (1 + 1e-12)).all()
        assert (np.diff(found.radii) > 0).all()
        assert (np.diff(found.alphas) < 0).all()
        assert found.alphas[0] < found.ratio
        for j in range(0, len(found.points), 40):
            data = widths, names, found.points[j], objective.X, objective.y
            slope, loss = oracles.gradient(*data), oracles.loss(*data)
            assert found.alphas[j] == pytest.approx(slope @ slope / loss, rel=1e-6)


def test_the_bound_is_a_falling_step_function():
    between = 0.5 * (FOUND.radii[3] + FOUND.radii[4])
    assert FOUND.at(between) == FOUND.alphas[3]
    assert FOUND.at(FOUND.radii[0] / 2) == FOUND.ratio
    assert (FOUND.at([FOUND.vanishing, 2 * FOUND.vanishing]) == 0).all()
    assert "α = 0 from radius" in str(FOUND)


def test_surplus_is_the_integral_and_the_supremum():
    grid = np.linspace(0, FOUND.vanishing, 200_001)[1:]
    root = np.sqrt(FOUND.at(grid))
    unit = 2 * math.sqrt(FOUND.loss)
    assert FOUND.surplus() == pytest.approx(np.mean(root) * FOUND.vanishing / unit, rel=1e-4)
    assert FOUND.surplus("radius") == pytest.approx((grid * root).max() / unit, rel=1e-4)
    refuted = FOUND.integral_criterion()
    assert refuted.verdict == ("fails" if FOUND.surplus() <= 1 else "undecided")


@pytest.mark.parametrize(("depth", "name"), [(2, "smooth_leaky_relu(0.1)"), (3, "tanh")])
def test_above_the_certified_bounds_and_not_far(depth, name):
    objective = problem(11, (6, *[4] * (depth - 1), 1), activations.named(name), 4)
    start = positive(objective.network, 2.0, 1.0)
    proved = positive_start_bounds(objective.network, objective.X, objective.y, start)
    found = search(objective, start)
    inside = proved.radii < found.vanishing
    above = found.at(proved.radii[inside])
    assert (proved.alphas[inside] <= above).all()
    assert (above[:5] < 3 * proved.alphas[:5]).all()


# ------------------------------------------------------------------------- stability, invariance


def test_stable_under_doubling_the_effort():
    objective = problem(13, (10, 5, 1), LEAKY, 6)
    start = positive(objective.network, 1.5)
    once, twice = (search(objective, start, seed, effort=seed) for seed in (1, 2))
    for criterion in ("integral", "radius"):
        assert twice.surplus(criterion) == pytest.approx(once.surplus(criterion), rel=0.03)


def test_rotated_and_repeated_data_give_the_same_constants():
    X, y, network = SMALL.X, SMALL.y, SMALL.network
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    for other in (
        LeastSquares(network, X @ turned, y),
        LeastSquares(network, np.concatenate([X, X]), np.concatenate([y, y])),
    ):
        again = search(other, START)
        assert again.vanishing == pytest.approx(FOUND.vanishing)
        assert again.surplus() == pytest.approx(FOUND.surplus(), rel=0.02)


def test_guesses_are_used():
    """From one node and almost no starts, what was found before is not lost."""
    middle = len(FOUND.radii) // 2
    radii = FOUND.radii[middle : middle + 1]
    again = search(SMALL, START, radii=radii, effort=0.1, guesses=FOUND.points)
    assert float(again.at(radii[0] * (1 + 1e-9))) <= FOUND.alphas[middle] * (1 + 1e-3)


def test_start_without_loss_is_refused():
    network = SMALL.network
    reached = LeastSquares(network, SMALL.X, network.forward(START, SMALL.X))
    with pytest.raises(ValueError, match="positive loss"):
        search(reached, START)


# ------------------------------------------------------------------------- critical scale


def family(objective):
    return lambda scale: positive(objective.network, scale)


@pytest.mark.parametrize("criterion", ["integral", "radius"])
def test_critical_scale_lies_between_what_is_known(criterion):
    """For L = 2 and ȳ = 0, shrinking W_2 alone refutes up to c √(|y|/(σ′(0)|Xᵀŷ|))/√d_1.

    c = 2 for (1.1), √2 for (T2): r √α ≤ (2/√n) σ′(0)|Xᵀŷ| r(N−r), N = A√d_1.
    """
    objective = problem(17, (6, 4, 1), activations.tanh, 4)
    y = objective.y - objective.y.mean()
    objective = LeastSquares(objective.network, objective.X, y)
    found = worst_points.critical_scale(
        objective,
        family(objective),
        np.random.default_rng(0),
        criterion=criterion,
        tolerance=0.03,
        effort=0.4,
    )
    size = np.linalg.norm(y)
    factor = 2 if criterion == "radius" else math.sqrt(2)
    known = factor * math.sqrt(size / np.linalg.norm(objective.X.T @ y / size)) / math.sqrt(4)
    assert found.value > known * 0.95
    proved = certified_output_scale(
        objective.network, objective.X, objective.y, criterion=criterion
    )
    assert found.value < proved.scale
    assert found.value < found.not_refuted <= 1.031 * found.value
    assert found.worst.surplus(criterion) <= 1
    verdict = found.worst.criterion() if criterion == "radius" else found.worst.integral_criterion()
    assert verdict.verdict == "fails"
    assert verdict.fails_up_to == math.inf
    assert "largest scale" in str(found)


def test_equal_targets_have_no_critical_scale():
    same = LeastSquares(SMALL.network, SMALL.X, np.ones(4))
    with pytest.raises(ValueError, match="targets that differ"):
        worst_points.critical_scale(same, family(same), np.random.default_rng(0))


# ------------------------------------------------------------------------- trials of the bounds


@pytest.mark.parametrize("name", ["smooth_leaky_relu(0.1)", "tanh"])
@pytest.mark.parametrize("widths", [(6, 4, 1), (6, 4, 4, 1)])
def test_no_point_below_the_certified_bounds(name, widths):
    objective = problem(19, widths, activations.named(name), 5)
    for scale in (0.8, 3.0):
        start = positive(objective.network, scale, 1.0)
        count = count_violations(objective, start, 1500, np.random.default_rng(0))
        assert count.points >= 1500
        assert count.violations == 0
        assert 1 <= count.least_ratio < 3


def test_a_bound_that_is_too_large_is_caught(monkeypatch):
    def inflated(*arguments):
        proved = positive_start_bounds(*arguments)
        return type(proved)(proved.radii, 3 * proved.alphas, proved.loss, proved.improvements)

    monkeypatch.setattr(bound_trials, "positive_start_bounds", inflated)
    assert count_violations(SMALL, START, 400, np.random.default_rng(0)).violations > 0


def test_step_sizes_come_in_order():
    start = positive(SMALL.network, 9.0)
    trial = step_sizes(SMALL, start, np.random.default_rng(0), steps=600)
    assert 0 < trial.paper < trial.sharp < trial.integral < trial.working
    assert 1.5 < trial.working / trial.measured < 3  # 2 over the curvature, about
    assert 0 < trial.rate_proved <= trial.rate_worst <= trial.rate_seen * (1 + 1e-9)


# ------------------------------------------------------------------------- bad input

RNG = np.random.default_rng(0)
SEARCH = {"problem": SMALL, "start": START, "rng": RNG, "effort": 0.1}
# fmt: off
CALLS = {
    "worst_points.worst_points": (
        worst_points.worst_points, {**SEARCH, "radii": [0.5], "guesses": START}),
    "worst_points.vanishing_radius": (
        worst_points.vanishing_radius, {"problem": SMALL, "start": START}),
    "worst_points.critical_scale": (
        worst_points.critical_scale,
        {"problem": SMALL, "start": family(SMALL), "rng": RNG, "criterion": "integral",
         "guess": 1.0, "tolerance": 0.5, "effort": 0.1, "most_tried": 30}),
    "worst_points.WorstPoints.at": (FOUND.at, {"radius": 1.0}),
    "worst_points.WorstPoints.surplus": (FOUND.surplus, {"criterion": "radius"}),
    "bound_trials.count_violations": (
        count_violations, {"problem": SMALL, "start": START, "points": 8, "rng": RNG}),
    "bound_trials.step_sizes": (
        step_sizes, {"problem": SMALL, "start": positive(SMALL.network, 9.0), "rng": RNG,
                     "steps": 2}),
}
# fmt: on
TRUSTED = {
    "bound_trials.StepTrial",
    "bound_trials.ViolationCount",
    "worst_points.CriticalScale",
    "worst_points.WorstPoints",
    "worst_points.WorstPoints.criterion",
    "worst_points.WorstPoints.integral_criterion",
}
SKIPPED = {  # good input that would take long
    ("bound_trials.step_sizes", "steps"),
    ("worst_points.worst_points", "effort"),
    ("worst_points.critical_scale", "effort"),
}
ACCEPTED = {
    "worst_points.worst_points radii": {"a seed", "None"},
    "worst_points.worst_points guesses": {"None"},
    "worst_points.critical_scale guess": {"a seed"},
    "worst_points.critical_scale most_tried": {"a seed"},
    "worst_points.WorstPoints.at radius": {"a seed", "a cube"},
    "bound_trials.count_violations points": {"a seed"},
}


@pytest.mark.parametrize("label", CALLS)
def test_every_argument_refuses_garbage_in_a_sentence(label):
    function, arguments = CALLS[label]
    function(**arguments)
    for name in arguments:
        if (label, name) not in SKIPPED:
            taken = garbage_taken(function, arguments, name)
            assert taken == ACCEPTED.get(f"{label} {name}", set()), name


def test_no_public_function_is_forgotten():
    offered = set()
    for module in (worst_points, bound_trials):
        prefix = module.__name__.rpartition(".")[2]
        for name in module.__all__:
            thing = getattr(module, name)
            offered.add(f"{prefix}.{name}")
            if inspect.isclass(thing):
                own = [key for key, value in vars(thing).items() if inspect.isfunction(value)]
                offered |= {f"{prefix}.{name}.{key}" for key in own if key[0] != "_"}
    assert offered == set(CALLS) | TRUSTED


def test_where_the_loss_vanishes_the_search_has_no_slope():
    """log R is ∞ there, and its gradient 0; elsewhere it is what central differences say."""
    begun = Inner(SMALL, START)
    rng = np.random.default_rng(2)
    w = begun.reduce(START) + 0.1 * rng.standard_normal((3, begun.reduce(START).size))
    value, turn = begun.log_ratio(w)
    for k in range(w.shape[1]):
        step = np.zeros(w.shape[1])
        step[k] = 1e-6
        difference = (begun.log_ratio(w + step)[0] - begun.log_ratio(w - step)[0]) / 2e-6
        np.testing.assert_allclose(turn[:, k], difference, rtol=1e-4, atol=1e-6)
    begun.y = begun.network.forward(w[0], begun.X)
    value, turn = begun.log_ratio(w)
    assert value[0] == np.inf
    assert np.isfinite(value[1:]).all()
    assert not turn[0].any()
    assert turn[1:].any()


def test_the_search_takes_all_its_rounds(monkeypatch):
    rounds = []
    descend = _worst_search._descend
    monkeypatch.setattr(
        _worst_search, "_descend", lambda *given: rounds.append(given[-1]) or descend(*given)
    )
    search(SMALL, START, radii=[0.3], effort=0.05)
    assert rounds == [*_worst_search._ROUNDS, _worst_search._POLISH]


def test_the_largest_working_step_is_the_last_that_works():
    """A step beyond it lets the loss rise above the start's at first, and fall to nothing then."""
    rng = np.random.default_rng(0)
    network = FeedForward((2, 6, 1), activations.identity)
    linear = LeastSquares(network, rng.standard_normal((2, 2)), rng.standard_normal(2))
    start = 2 * lecun(network, rng)
    unit = 1 / float(np.linalg.eigvalsh(linear.hessian(start))[-1])
    largest = bound_trials._largest_working(linear, start, unit, 600)
    fine = 16.0 ** (1 / 279)
    for factor, works in ((1.0, True), (fine**-1, True), (fine**-40, True), (fine, False)):
        losses = gradient_descent(linear, start, factor * largest, 600).losses
        assert losses.min() <= bound_trials._TARGET * losses[0]
        assert (losses.max() <= losses[0] * (1 + 1e-12)) == works
        assert losses.max() < 1.5 * losses[0]


def test_the_paper_s_step_rests_on_a_ball_of_twice_the_radius():
    start = positive(SMALL.network, 9.0)
    proved = positive_start_bounds(SMALL.network, SMALL.X, SMALL.y, start)
    expected = 0.0
    for radius, alpha in zip(proved.radii, proved.alphas, strict=True):
        if alpha > 0:
            first, second = (float(b) for b in derivative_bounds(SMALL, start, 2 * radius))
            found = paper_step_size(
                proved.loss, alpha, radius, first, second, SMALL.dimension, best="step"
            )
            expected = max(expected, found.step_size)
    paper, *_ = bound_trials._theorem_steps(SMALL, start, proved)
    assert paper == pytest.approx(expected, rel=1e-12)


def test_a_part_of_the_trials_moves_one_layer_alone():
    moves = bound_trials._moves(SMALL, START, FOUND, 1.0, 400, np.random.default_rng(0))
    assert np.linalg.norm(moves, axis=1).max() <= 1 + 1e-12
    moved = np.array(
        [
            (np.abs(W).sum(axis=(-1, -2)) + np.abs(b).sum(axis=-1)) > 0
            for W, b in SMALL.network.layers(moves)
        ]
    )
    alone = moved[:, moved.sum(axis=0) == 1]
    assert alone.sum(axis=1).tolist() == [50, 50]


def test_the_next_scale_follows_the_secant_through_the_nearest_pair():
    """Surplus A² exactly: the scale with surplus 1, by whatever pair; never beyond the bracket."""
    exact = [(a, a * a) for a in (0.2, 0.4, 3.0, 9.0)]
    for failing, others in ((exact[:2], []), ([], exact[2:]), (exact[1:2], [])):
        found = worst_points._next_scale(failing, others, 1e-3)
        assert found == pytest.approx(1.0, rel=1e-3)
    # In a bracket, the middle at most, by the nearer of the two others.
    found = worst_points._next_scale([(0.5, 0.3)], [(0.6, 5.0), (100.0, 9.0)], 1e-3)
    assert found == pytest.approx(math.sqrt(0.5 * 0.6))
    # A surplus of nothing has no logarithm, and stops nothing.
    assert 0 < worst_points._next_scale([(1.0, 0.0)], [(2.0, 1.5)], 1e-3) < 2


def test_points_and_refusals_of_the_search():
    text = str(FOUND)
    assert "points" not in text
    assert "R(w₀)" in text
    two = LeastSquares(SMALL.network, np.stack([SMALL.X] * 2), SMALL.y)
    with pytest.raises(ValueError, match="one data set, but its data have leading axes"):
        search(two, START)
    rough = LeastSquares(FeedForward((5, 3, 1), activations.relu), SMALL.X, SMALL.y)
    with pytest.raises(ValueError, match="differentiable activations"):
        search(rough, START)
    with pytest.raises(ValueError, match="one point, but has shape"):
        search(SMALL, np.stack([START, START]))
    same = LeastSquares(SMALL.network, SMALL.X, np.ones(4))
    assert search(same, START, radii=[0.3], effort=0.1).surplus() == math.inf
