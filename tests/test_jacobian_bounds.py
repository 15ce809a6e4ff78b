"""Lower bounds on σ_min(J) over balls, against autograd's Jacobian at the worst points found."""

import itertools
import math

import numpy as np
import oracles
import pytest
import strategies
from bad_input import garbage_taken
from mpmath import mp

import plcore
from plcore import activations, jacobian_bounds
from plcore.bounds import ball_bounds
from plcore.jacobian_expansion import CentreValues, Expansion, third_derivative_bound

LEAKY = activations.smooth_leaky_relu(0.1)


def problem_of(seed, widths, names, n, scale=1.0):
    rng = np.random.default_rng(seed)
    chosen = [activations.named(name) for name in names]
    network = plcore.FeedForward(widths, chosen)
    X = scale * rng.standard_normal((n, widths[0])) / math.sqrt(widths[0])
    w = plcore.initialization.lecun(network, rng) + 0.2 * rng.standard_normal(
        network.parameter_count
    )
    return plcore.LeastSquares(network, X, rng.standard_normal(n)), w


# Depth 2 to 4, every smooth activation, n ≤ d + 1 and beyond, width 1, and n = p.
CASES = [
    (0, (6, 5, 1), ["tanh"], 5),
    (1, (6, 4, 4, 1), ["smooth_leaky_relu(0.1)"] * 2, 7),
    (2, (2, 6, 5, 1), ["arctan", "tanh"], 9),
    (3, (3, 4, 3, 3, 1), ["softplus", "arcsinh", "gelu"], 6),
    (4, (1, 5, 1), ["sigmoid"], 4),
    (5, (4, 1, 1, 1), ["identity", "shifted_softplus"], 3),
    (6, (1, 2, 1), ["tanh"], 7),
    (7, (5, 3, 1), ["identity"], 4),
    (8, (2, 3, 4, 1), ["smooth_leaky_relu(0.7)", "shifted_sigmoid"], 5),
]


def least(problem, v):
    names = [one.name for one in problem.network.activations]
    J = oracles.jacobian(problem.network.widths, names, v, problem.X)
    return float(np.linalg.svd(J, compute_uv=False)[-1])


def direction(problem, v, h=1e-6):
    """The gradient of σ_min(J) at v, by differences of the Jacobian along the singular vector."""
    left, _, right = np.linalg.svd(problem.jacobian(v), full_matrices=False)
    moved = problem.jacobian(v + h * right[-1]) - problem.jacobian(v - h * right[-1])
    return moved.T @ left[:, -1] / (2 * h)


def worst(problem, w, radius, rng, starts=2, rounds=12):
    """The least σ_min(J) that descent on it finds in the ball."""
    found = math.inf
    for start in range(starts):
        step = rng.standard_normal(w.size) if start else -direction(problem, w)
        v = w + radius * step / np.linalg.norm(step)
        found = min(found, least(problem, v))
        for _ in range(rounds):
            slope = direction(problem, v)
            v = v - 0.5 * radius * slope / max(np.linalg.norm(slope), 1e-300)
            v = w + (v - w) * min(1.0, radius / np.linalg.norm(v - w))
        found = min(found, least(problem, v))
    return found


@pytest.mark.parametrize("name", jacobian_bounds.BOUNDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[1])))
def test_holds_at_the_worst_points_found(name, case):
    problem, w = problem_of(*case)
    rng = np.random.default_rng(1)
    radii = np.array([1e-6, 1e-3, 0.02, 0.1, 0.4])
    m = jacobian_bounds.BOUNDS[name](problem, w, radii)
    rounding = 1e-13 * np.linalg.norm(problem.jacobian(w), 2)
    for radius, bound in zip(radii, m, strict=True):
        assert bound <= worst(problem, w, radius, rng) + rounding
    assert (m >= 0).all()
    assert (np.diff(m) <= 0).all()


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[1])))
def test_any_n_is_exact_to_first_order(case):
    problem, w = problem_of(*case)
    least_value = np.linalg.svd(problem.jacobian(w), compute_uv=False)[-1]
    slope = np.linalg.norm(direction(problem, w))
    s = 1e-4 * least_value
    fall = least_value - jacobian_bounds.any_n(problem, w, [s])[0]
    assert fall == pytest.approx(s * slope, rel=0.05, abs=1e-12)


def trained(seed, d, widths, steps):
    network = plcore.FeedForward((d, *widths, 1), LEAKY)
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((20, d)) / math.sqrt(d), rng.standard_normal(20)
    problem = plcore.LeastSquares(network, X, y)
    start = plcore.initialization.lecun(network, rng)
    return problem, plcore.gradient_descent(problem, start, 0.1, steps).final


def test_how_much_of_the_truth_is_left():
    """At a trained network the bounds keep most of σ_min at radii where the plain one is 0."""
    problem, w = trained(1000, 50, (10, 10), 250)
    rng = np.random.default_rng(0)
    for radius, part, plain_part in ((0.02, 0.99, 0.6), (0.1, 0.95, 0.0), (0.2, 0.8, 0.0)):
        truth = worst(problem, w, radius, rng, starts=1)
        assert jacobian_bounds.any_n(problem, w, [radius])[0] > part * truth
        assert jacobian_bounds.plain(problem, w, [radius])[0] <= plain_part * truth
    truth = worst(problem, w, 0.4, rng, starts=1)
    assert jacobian_bounds.first_layer(problem, w, [0.4])[0] > 0.2 * truth
    assert jacobian_bounds.first_layer(problem, w, [0.01])[0] > 0.6 * least(problem, w)


def test_first_layer_with_one_neuron_is_the_closed_form():
    """One linear neuron: q = W_2, and |q(v)| falls at most by the output layer's budget."""
    problem, w = problem_of(3, (4, 1, 1), ["identity"], 3)
    mu = np.linalg.eigvalsh(problem.X @ problem.X.T + 1)[0]
    radii = np.array([0.01, 0.1, 0.5])
    output = abs(problem.network.layers(w)[1][0][0, 0])
    expected = np.sqrt(mu) * np.maximum(output - radii, 0)
    np.testing.assert_allclose(jacobian_bounds.first_layer(problem, w, radii), expected, rtol=1e-12)


def test_first_layer_says_nothing_beyond_d_plus_one():
    problem, w = problem_of(0, (3, 9, 1), ["tanh"], 5)
    assert jacobian_bounds.first_layer(problem, w, [1e-3])[0] == 0
    within, w = problem_of(0, (4, 9, 1), ["tanh"], 5)
    assert jacobian_bounds.first_layer(within, w, [1e-3])[0] > 0


def test_plain_is_the_stated_formula():
    problem, w = problem_of(*CASES[1])
    radii = np.array([1e-4, 1e-3])
    H = np.array([float(ball_bounds(problem.network, w, problem.X, s).hessian) for s in radii])
    expected = least(problem, w) - H * radii
    np.testing.assert_allclose(jacobian_bounds.plain(problem, w, radii), expected, rtol=1e-9)


@pytest.mark.parametrize("name", jacobian_bounds.BOUNDS)
def test_more_samples_than_parameters(name):
    problem, w = problem_of(0, (1, 2, 1), ["tanh"], 8)
    assert (jacobian_bounds.BOUNDS[name](problem, w, [1e-6, 1.0]) == 0).all()


@pytest.mark.parametrize("name", jacobian_bounds.BOUNDS)
def test_invariances(name):
    """Turning the inputs, and permuting samples or neurons, changes nothing."""
    problem, w = problem_of(1, (6, 4, 4, 1), ["smooth_leaky_relu(0.1)", "tanh"], 6)
    network, radii, bound = problem.network, [1e-3, 0.05, 0.1], jacobian_bounds.BOUNDS[name]
    (W1, b1), (W2, b2), (W3, b3) = network.layers(w)
    expected = bound(problem, w, radii)
    assert expected[0] > 0
    rng = np.random.default_rng(5)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    order, neurons = rng.permutation(6), rng.permutation(4)
    changed = plcore.LeastSquares(network, (problem.X @ turn)[order], problem.y[order])
    layers = [((W1 @ turn)[neurons], b1[neurons]), (W2[:, neurons], b2), (W3, b3)]
    np.testing.assert_allclose(bound(changed, network.pack(layers), radii), expected, rtol=1e-6)


@pytest.mark.parametrize("name", jacobian_bounds.BOUNDS)
def test_scaling_inputs_against_the_first_layer(name):
    """(X, W_1) → (tX, W_1/t) leaves q and the slopes: μ and J's first block grow with t ≥ 1."""
    problem, w = problem_of(2, (6, 5, 1), ["tanh"], 6)
    layers = problem.network.layers(w)
    found = []
    for t in (1.0, 1.5, 2.0):
        scaled = plcore.LeastSquares(problem.network, t * problem.X, problem.y)
        v = problem.network.pack([(layers[0][0] / t, layers[0][1]), layers[1]])
        found.append(jacobian_bounds.BOUNDS[name](scaled, v, [1e-6])[0])
    assert found[0] < found[1] < found[2] < 2 * found[0] + 1e-4


@pytest.mark.parametrize("depth", range(1, 9))
def test_splits_cover_the_simplex(depth):
    rows = jacobian_bounds.splits(depth)
    assert len(rows) <= 150
    assert rows.max() <= 1
    rng = np.random.default_rng(depth)
    shares = rng.dirichlet(np.full(depth, 0.5), 300)
    shares = np.concatenate([shares, np.eye(depth), np.full((1, depth), 1 / depth)])
    covered = (shares[:, None, :] <= rows * (1 + 1e-12)).all(axis=-1).any(axis=1)
    assert covered.all()
    assert rows.sum(axis=-1).max() < (1.7 if depth <= 3 else depth)  # not just (1, …, 1)


@pytest.mark.parametrize("activation", strategies.SMOOTH, ids=lambda each: each.name)
def test_third_derivative_bound(activation):
    bound = third_derivative_bound(activation)
    points = [0.0, 0.7923, -0.7923, 0.6584789, *np.linspace(-4, 4, 33)]
    with mp.workdps(30):
        sizes = [
            abs(float(oracles.mpmath_derivative(activation.name, 3, float(u)))) for u in points
        ]
    assert max(sizes) <= bound * (1 + 1e-14) + 1e-40
    assert bound <= 1.01 * max(sizes) + 1e-40


def test_third_derivative_bound_of_an_unknown_activation():
    assert third_derivative_bound(activations.squared_relu) == math.inf


@pytest.mark.parametrize("case", CASES[:5], ids=lambda case: "-".join(map(str, case[1])))
def test_parts_of_the_expansion(case):
    """First order by autograd, and |uᵀUᵀR(δ)Vu| ≤ Σ (uᵀN u)^½ at random u and δ."""
    problem, w = problem_of(*case)
    names = [one.name for one in problem.network.activations]
    expansion = Expansion(CentreValues(problem.network, w, problem.X))
    U, V = expansion._left, expansion._right.T
    jacobian = lambda v: oracles.jacobian(problem.network.widths, names, v, problem.X)  # noqa: E731
    h, n = 1e-5, problem.size
    T = np.stack([(jacobian(w + h * v) - jacobian(w - h * v)) / (2 * h) for v in V.T], axis=1)
    T = np.einsum("ia,ibp->abp", U, T)
    S = 0.5 * (T + T.swapaxes(0, 1))
    G = np.einsum("abp,cbp->bac", S, S)
    np.testing.assert_allclose(expansion.first_order, G, atol=1e-7 * np.abs(G).max())
    np.testing.assert_allclose(
        U.T @ jacobian(w) @ V, np.diag(expansion.singular_values), atol=1e-12
    )
    rng = np.random.default_rng(0)
    radii = np.array([1e-2, 0.1, 0.5, 2.0])
    N = expansion.remainders(radii)
    tightest = math.inf
    for radius, trial in itertools.product(range(len(radii)), range(6)):
        step = rng.standard_normal(w.size)
        if trial % 2:  # all of it in one layer, where single terms show
            mask = problem.network.pack(
                [
                    (np.full_like(W, layer == trial % problem.network.depth), 0 * b)
                    for layer, (W, b) in enumerate(problem.network.layers(w))
                ]
            )
            step = step * mask + 1e-3 * step
        step *= radii[radius] / np.linalg.norm(step)
        rest = U.T @ (jacobian(w + step) - jacobian(w)) @ V - T @ step
        u = rng.standard_normal(n)
        u /= np.linalg.norm(u)
        bound = np.sqrt(np.maximum(np.einsum("a,kab,b->k", u, N[:, radius], u), 0)).sum()
        value = abs(u @ rest @ u)
        assert value <= bound + 1e-8 * radii[radius]
        tightest = min(tightest, bound / max(value, 1e-300))
    assert tightest < 400


def test_more_rounds_never_hurt():
    problem, w = trained(1001, 10, (6, 6), 400)
    expansion = Expansion(CentreValues(problem.network, w, problem.X))
    radii = np.array([1e-4, 1e-3, 0.02, 0.1])
    few, many = (expansion.least_singular_values(radii, rounds) for rounds in (1, 24))
    assert (many >= few).all()
    assert many[-1] > few[-1] + 1e-3


@pytest.mark.parametrize("name", jacobian_bounds.BOUNDS)
@pytest.mark.parametrize("argument", ["problem", "w", "radii"])
def test_garbage(name, argument):
    problem, w = problem_of(*CASES[0])
    arguments = {"problem": problem, "w": w, "radii": [0.1, 0.2]}
    assert garbage_taken(jacobian_bounds.BOUNDS[name], arguments, argument) == set()


def test_refusals_name_what_is_wrong():
    problem, w = problem_of(*CASES[0])
    rough = plcore.LeastSquares(
        plcore.FeedForward(problem.network.widths, activations.relu), problem.X, problem.y
    )
    for bound in jacobian_bounds.BOUNDS.values():
        with pytest.raises(ValueError, match=r"two continuous derivatives, but relu has 0"):
            bound(rough, w, [0.1])
        with pytest.raises(ValueError, match="radii must be positive and increasing"):
            bound(problem, w, [0.2, 0.1])
    unbounded, w = problem_of(*CASES[1])
    for bound in jacobian_bounds.BOUNDS.values():
        with pytest.raises(OverflowError, match="leaves the range"):
            bound(unbounded, 1e200 * w, [0.1])
    with pytest.raises(TypeError, match="depth must be an integer"):
        jacobian_bounds.splits(2.5)
    assert garbage_taken(jacobian_bounds.splits, {"depth": 2}, "depth") <= {"a seed"}


def test_activation_without_a_third_derivative_is_refused_by_any_n_alone():
    problem, w = problem_of(0, (6, 5, 1), ["tanh"], 5)
    own = activations.Activation(
        "my_tanh",
        activations.tanh.functions,
        activations.tanh.extrema,
        activations.tanh.limits,
    )
    other = plcore.LeastSquares(plcore.FeedForward((6, 5, 1), own), problem.X, problem.y)
    assert jacobian_bounds.plain(other, w, [1e-3])[0] > 0
    with pytest.raises(ValueError, match="third derivative of my_tanh"):
        jacobian_bounds.any_n(other, w, [1e-3])


def test_several_data_sets_and_too_many_second_derivatives_are_refused():
    rng = np.random.default_rng(0)
    network = plcore.FeedForward((6, 4, 1), activations.tanh)
    X, y = rng.standard_normal((2, 4, 6)), rng.standard_normal(4)
    w = np.ones(network.parameter_count)
    with pytest.raises(ValueError, match=r"one data set, but X and y have shapes \(2, 4, 6\)"):
        jacobian_bounds.plain(plcore.LeastSquares(network, X, y), w, [1.0])
    large = plcore.FeedForward((6, 2000, 1), activations.tanh)
    X, y = rng.standard_normal((200, 6)), rng.standard_normal(200)
    with pytest.raises(ValueError, match="second derivatives at once"):
        jacobian_bounds.any_n(
            plcore.LeastSquares(large, X, y), np.ones(large.parameter_count), [1.0]
        )
