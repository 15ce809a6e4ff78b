"""Sharper bounds at positive starts: zero violations, tight where solvable, each step a gain."""

from itertools import pairwise

import mpmath
import numpy as np
import pytest
from positive_starts import KINDS, STAGES, gaussian, points, random_case
from scipy import optimize

from plcore import activations, initialization
from plcore._residual_direction import ResidualDirection
from plcore._start_bounds import _shares, covering_splits
from plcore.criterion import pl_constant_search
from plcore.network import FeedForward
from plcore.objectives import LeastSquares
from plcore.positive_start import positive_start_constants
from plcore.positive_start_bounds import (
    IMPROVEMENTS,
    Setting,
    certified_output_scale,
    positive_start_bounds,
)


@pytest.mark.parametrize("seed", range(20))
def test_no_point_of_the_ball_is_below_the_bound(seed):
    """120,000 points in all, and descents on the ratio from some."""
    network, X, y, start, rng = random_case(seed)
    problem = LeastSquares(network, X, y)
    found = positive_start_bounds(network, X, y, start)
    for j in (1, 5, 15, 30, 45, 63):
        v = points(network, start, found.radii[j], rng, 1000)
        assert (problem.ratio(v) >= found.alphas[j]).all()
    j = 10 + 2 * seed
    worst = pl_constant_search(problem, start, found.radii[j], rng, starts=8, steps=30)
    assert worst.value >= found.alphas[j]


@pytest.mark.parametrize("left", [1e-6, 1e-8, 1e-10, 1e-12, 1e-14])
@pytest.mark.parametrize("width", [1, 3, 7, 10])
def test_rounding_is_covered_where_nearly_nothing_is_left(width, left):
    # y is the lowest eigenvector of P and W_2 shrinks: R(v) = 2 mu (A sqrt(d_1) − r)², exactly.
    network = FeedForward((1, width, 1), activations.identity)
    for scale in (0.1, 0.7, 1.7, 3.3):
        start = initialization.positive(network, scale, 1.0)
        radius = scale * np.sqrt(width) * (1 - left)
        found = positive_start_bounds(network, [[0.5], [-0.5]], [1.0, -1.0], start, [radius])
        with mpmath.workdps(40):
            rest = mpmath.mpf(scale) * mpmath.sqrt(width) - mpmath.mpf(radius)
            assert mpmath.mpf(found.alphas[0]) <= rest**2
            if left > 1e-11:
                assert mpmath.mpf(found.alphas[0]) >= rest**2 / 2


@pytest.mark.parametrize("stage", [(name,) for name in IMPROVEMENTS])
def test_each_improvement_alone_is_a_bound(stage):
    for seed in range(0, 20, 5):
        network, X, y, start, rng = random_case(seed)
        problem = LeastSquares(network, X, y)
        found = positive_start_bounds(network, X, y, start, improvements=stage)
        for j in (5, 30, 63):
            v = points(network, start, found.radii[j], rng, 200)
            assert (problem.ratio(v) >= found.alphas[j]).all()


@pytest.mark.parametrize("seed", range(6))
def test_each_improvement_is_never_worse_and_bounds_fall(seed):
    network, X, y, start, _ = random_case(seed)
    radii = positive_start_bounds(network, X, y, start).radii
    found = [
        positive_start_bounds(network, X, y, start, radii, improvements=stage).alphas
        for stage in STAGES
    ]
    for fewer, more in pairwise(found):
        assert (more >= fewer).all()
    for alphas in found:
        assert (np.diff(alphas) <= 0).all()


def test_the_bound_is_nearly_attained():
    """Identity: at small radii nothing but the two layers' own kernel is lost."""
    for n, depth in ((1, 2), (3, 2), (2, 3)):
        rng = np.random.default_rng(n)
        network = FeedForward((4, *(3,) * (depth - 1), 1), activations.identity)
        X, y = rng.standard_normal((n, 4)), rng.standard_normal(n)
        start = initialization.positive(network, 30.0, 1.0)
        problem = LeastSquares(network, X, y)
        radius = 1e-3 / 30**depth
        (alpha,) = positive_start_bounds(network, X, y, start, [radius]).alphas
        close = 0.999 if n == 1 else 0.9  # the S-lemma's table has steps
        assert close * problem.ratio(start) < alpha <= problem.ratio(start)
    # A radius at which the residual has turned: the search's worst point is close above.
    (alpha,) = positive_start_bounds(network, X, y, start, [0.02]).alphas
    worst = pl_constant_search(problem, start, 0.02, rng, starts=16, steps=100)
    assert 0.7 * worst.value < alpha <= worst.value


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("depth", [2, 3])
def test_larger_output_weights_push_more_on_smaller_balls(depth, stage):
    """The statement by which one accepted scale proves every larger one."""
    network = FeedForward((20, *(10,) * (depth - 1), 1), activations.smooth_leaky_relu(0.1))
    X, y = gaussian(1003)
    radii = np.geomspace(0.01, 3.0, 13)
    for factor in (1.003, 1.1, 10.0):
        pushes = []
        for scale in (1.0, factor):
            start = initialization.positive(network, 1.5 * scale, 1.0)
            alphas = positive_start_bounds(
                network, X, y, start, radii / scale, improvements=stage
            ).alphas
            pushes.append(np.sqrt(alphas))
        assert (pushes[1] >= factor * pushes[0] * (1 - 1e-9)).all()


def test_without_improvements_it_is_remark_2_6():
    X, y = gaussian(1004)
    network = FeedForward((20, 10, 1), activations.smooth_leaky_relu(0.1))
    paper = positive_start_constants(network, X, y)
    start = initialization.positive(network, 5.0)
    (alpha,) = positive_start_bounds(network, X, y, start, [paper.radius], improvements=()).alphas
    assert alpha == pytest.approx(paper.pl_constant(5.0).value, rel=1e-8)
    found = certified_output_scale(network, X, y, criterion="radius", improvements=())
    assert paper.required_scale <= found.scale < 1.02 * paper.required_scale


@pytest.mark.parametrize(("kind", "depth", "gain"), [(KINDS[0], 3, 10.0), (KINDS[2], 2, 10.0)])
def test_the_certified_scale(kind, depth, gain):
    X, y = gaussian(1005)
    network = FeedForward((20, *(10,) * (depth - 1), 1), kind)
    found = certified_output_scale(network, X, y, hidden=1.0)
    paper = positive_start_constants(network, X, y, hidden=1.0)
    assert found.scale * gain < paper.required_scale
    for factor in (1.0 + 1e-9, 2.0):
        start = initialization.positive(network, factor * found.scale, 1.0)
        radii = np.square(np.arange(1, 49) / 48) * 1.02 * found.radius / factor
        if factor > 1.01:
            assert positive_start_bounds(network, X, y, start).integral_criterion().holds
        else:
            bounds = positive_start_bounds(network, X, y, start, radii)
            assert bounds.integral_criterion().integral_lower > 0.97 * (2 * np.sqrt(bounds.loss))
    other = certified_output_scale(network, X, y, hidden=1.0, criterion="radius")
    assert found.scale < other.scale < paper.required_scale


def test_the_verdicts_are_those_of_the_bounds():
    network = FeedForward((20, 10, 1), activations.tanh)
    X, y = gaussian(1006)
    start = initialization.positive(network, 6.0)
    found = positive_start_bounds(network, X, y, start)
    left = 2 * np.linalg.norm(y) / np.sqrt(10)
    total = np.sum(np.sqrt(found.alphas) * np.diff(found.radii, prepend=0.0))
    assert found.loss == pytest.approx(y @ y / 10)
    assert found.integral_criterion().holds == (left < total)
    most = (found.radii * np.sqrt(found.alphas)).max()
    assert found.criterion().holds == (left < most)


# -- the pieces ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_two_curves_are_convex_and_concave(kind):
    assert _shares(kind)
    t = np.linspace(0.0, 40.0, 4001)
    root = np.sqrt(t)
    curve = np.minimum(np.log(kind.derivative(-root)), np.log(kind.derivative(root)))
    assert (np.diff(curve) <= 1e-12).all()
    assert (np.diff(curve, 2) >= -1e-11).all()
    middle = kind.value(np.zeros(1))
    up, down = kind.value(root) - middle, middle - kind.value(-root)
    assert (up >= down - 1e-12).all()
    for branch in (up, down):
        assert (np.diff(branch, 2) <= 1e-11).all()
    assert not _shares(activations.gelu)


@pytest.mark.parametrize(("depth", "parts"), [(2, 5), (3, 4), (4, 7), (3, 1)])
def test_the_splits_cover_the_ball(depth, parts):
    corners = covering_splits(depth, parts)
    rng = np.random.default_rng(depth)
    squares = rng.dirichlet(np.full(depth, 0.4), 2000) * rng.uniform(0, 1, (2000, 1)) ** 0.1
    squares[:depth] = np.eye(depth)
    squares[depth : 2 * depth] = np.round(squares[depth : 2 * depth] * parts) / parts
    inside = squares.sum(axis=1) <= 1
    covered = (squares[:, None, :] <= corners * (1 + 1e-14)).all(axis=2).any(axis=1)
    assert covered[inside].all()
    assert corners.sum(axis=1) == pytest.approx((parts - 1 + depth) / parts)


def least_in_ellipsoid(X, y, rho):
    """The least |X̃ᵀe|²/|e|² over e = −y + X̃u, |u| ≤ ρ, by local search from many points."""
    extended = np.column_stack([X, np.ones(len(X))])
    rng = np.random.default_rng(3)

    def ratio(u):
        u = u * min(1.0, rho / np.linalg.norm(u))
        e = extended @ u - y
        return np.square(extended.T @ e).sum() / (e @ e)

    return min(
        optimize.minimize(ratio, rho * rng.standard_normal(X.shape[1] + 1)).fun for _ in range(8)
    )


def test_the_residual_direction_against_search():
    X, y = gaussian(1007, n=4, d=5)
    found = ResidualDirection(X, y)
    P = X @ X.T + 1
    size = np.linalg.norm(y)
    zero = np.zeros(1)
    assert found.least == pytest.approx(np.linalg.eigvalsh(P)[0])
    start = found.least_ratio(1e-6 * np.ones(1), zero, zero)[0]
    assert 0.93 * (y @ P @ y) / size**2 < start <= (y @ P @ y) / size**2
    for rho in (0.1, 0.3, 0.6, 1.0):
        bound = found.least_ratio(np.array([rho * size]), zero, zero)[0]
        searched = least_in_ellipsoid(X, y, rho * size)
        assert 0.8 * searched < bound <= searched * (1 + 1e-9)


def test_the_residual_direction_with_noise_is_never_violated():
    rng = np.random.default_rng(9)
    for seed in range(4):
        X, y = gaussian(1008 + seed, n=5, d=6)
        extended = np.column_stack([X, np.ones(5)])
        found = ResidualDirection(X, y)
        vectors = np.linalg.eigh(extended @ extended.T)[1]
        for rho, delta, epsilon in rng.uniform(0, [2.0, 1.0, 0.5], (30, 3)):
            (bound,) = found.least_ratio(*(np.array([value]) for value in (rho, delta, epsilon)))
            for _ in range(5):
                u = rng.standard_normal((400, 7))
                a, d = rng.standard_normal((2, 400, 5))
                # Some of all three aim at the lowest direction, where the bound is tested most.
                aim = (y @ vectors[:, 1:]) @ vectors[:, 1:].T
                u[::2] = np.linalg.lstsq(extended, aim, rcond=None)[0] + 0.1 * u[::2]
                a[::2], u_size = aim + 0.1 * a[::2], np.linalg.norm(u, axis=1, keepdims=True)
                u *= rho / u_size
                a *= delta / np.linalg.norm(a, axis=1, keepdims=True)
                e = -y + u @ extended.T + a
                part = epsilon / (1 + epsilon) / np.linalg.norm(d, axis=1, keepdims=True)
                d *= part * np.linalg.norm(e, axis=1, keepdims=True)
                e = e + d  # |d| ≤ ε|e − d|/(1+ε) ≤ ε|e|
                ratio = np.square(e @ extended).sum(axis=1) / np.square(e).sum(axis=1)
                assert (ratio >= bound).all()


def test_samples_share_the_first_layers_budget():
    """Σ |Ux̃_i|² g_i² ≤ K |U|² |X̃ᵀg|², and nearly attained by U = uwᵀ and the best w and g."""
    for seed in range(4):
        X, y = gaussian(1016 + seed)
        extended = np.column_stack([X, np.ones(10)])
        P = extended @ extended.T
        values, vectors = np.linalg.eigh(P)
        found = ResidualDirection(X, y)
        bound = found.together * P.diagonal().max() / found.least
        root = vectors / np.sqrt(values) @ vectors.T  # g = P^(−1/2) c
        rng = np.random.default_rng(seed)
        searched = 0.0
        for _ in range(20):
            w = rng.standard_normal(21)
            for _ in range(30):
                moved = np.square(extended @ (w / np.linalg.norm(w)))
                g = root @ np.linalg.eigh(root * moved @ root)[1][:, -1]
                searched = max(searched, moved @ np.square(g))
                w = np.linalg.eigh(extended.T * np.square(g) @ extended)[1][:, -1]
        assert 0.8 * bound < searched <= bound < 0.8 * P.diagonal().max() / found.least
        U, g = rng.standard_normal((2000, 10, 21)), rng.standard_normal((2000, 10))
        moved = np.square(U @ extended.T).sum(axis=1)
        left = (moved * np.square(g)).sum(axis=1)
        right = np.square(U).sum(axis=(1, 2)) * np.square(g @ extended).sum(axis=1)
        assert (left <= bound * right).all()


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[2]])
@pytest.mark.parametrize("depth", [2, 3])
def test_common_signal_is_between_the_single_one_and_the_truth(depth, kind):
    """The truth: the least eigenvalue of D_t P D_t at points whose first layer saturates most."""
    network = FeedForward((20, *(10,) * (depth - 1), 1), kind)
    X, y = gaussian(1020)
    extended = np.column_stack([X, np.ones(10)])
    start = initialization.positive(network, 1.0, 1.0)
    setting = Setting.from_start(network, X, y, start)
    residuals, rng = setting.residuals, np.random.default_rng(0)
    for radius, close in ((0.15, 2.0), (0.3, 5.0), (1.0, np.inf)):
        budgets = [np.array([radius])] + [np.zeros(1)] * (depth - 1)
        found = setting.begun.common_signal(budgets, True, residuals.together, 48)[0]
        assert found > 1.001 * setting.begun.reach(budgets, True).signal[0]
        least = np.inf
        vectors = np.vstack([np.eye(21)[20], rng.standard_normal((100, 21))])
        for w in np.vstack([vectors, -vectors]):
            v = start.copy()
            layers = network.layers(v)
            step = radius / np.sqrt(10) * w / np.linalg.norm(w)
            layers[0][0][...], layers[0][1][...] = step[:-1], step[-1]
            t, state = setting.begun.direction, X
            for (weight, bias), (following, _), activation in zip(
                layers[:-1], layers[1:], network.activations, strict=True
            ):
                z = state @ weight.T + bias
                state, t = activation.value(z), t * activation.derivative(z) @ following.T
            scaled = t * extended
            least = min(least, np.linalg.eigvalsh(scaled @ scaled.T)[0])
        assert residuals.least * found**2 <= least <= close * residuals.least * found**2


def test_more_samples_than_inputs_prove_no_more_than_is_true():
    network = FeedForward((2, 4, 1), activations.tanh)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((6, 2)), rng.standard_normal(6)
    start = initialization.positive(network, 3.0)
    problem = LeastSquares(network, X, y)
    found = positive_start_bounds(network, X, y, start, [0.001, 0.1, 1.0])
    assert found.alphas[0] > 0 == found.alphas[2]
    for radius, alpha in zip(found.radii, found.alphas, strict=True):
        assert (problem.ratio(points(network, start, radius, rng, 500)) >= alpha).all()


@pytest.mark.parametrize("size", [1e-6, 1e-30])
def test_the_certified_scale_for_tiny_targets(size):
    """Scales and targets far below one: proved at the scale, and not at half of it."""
    network = FeedForward((20, 10, 1), activations.tanh)
    X, y = gaussian(1040)
    found = certified_output_scale(network, X, size * y)
    assert 0 < found.scale < 1e3 * np.sqrt(size)
    for factor, holds in ((1.001, True), (0.5, False)):
        start = initialization.positive(network, factor * found.scale)
        bounds = positive_start_bounds(network, X, size * y, start)
        assert bounds.integral_criterion().holds == holds
