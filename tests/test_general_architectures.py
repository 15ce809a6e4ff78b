"""The statements on any architecture: exact counts, closed forms, and loops of their own."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import integrate

from plcore import activations
from plcore.architectures import ConvolutionalResidual, FullyConnected, Residual, SquaredLoss
from plcore.curvature import top_curvature
from plcore.descent import gradient_descent
from plcore.flow import gradient_flow
from plcore.network import FeedForward
from plcore.objectives import LeastSquares, Quadratic
from plcore.piecewise import piecewise_polynomial

SPLINE = piecewise_polynomial(
    [-1.0, 1.0], [[-1.0, -0.5], [0.0, 1.25, 0.5, -0.25], [-0.25, 2.0, -0.25]], "spline"
)
SQUARE = piecewise_polynomial([], [[0.0, 0.0, 1.0]], "square")
CUBE = piecewise_polynomial([], [[0.0, 0.0, 0.0, 1.0]], "cube")
MODULUS = piecewise_polynomial([0.0], [[0.0, -1.0], [0.0, 1.0]], "modulus")
LEAKY, RELU = activations.leaky_relu(0.1), activations.relu
KINDS = {
    "fully connected": lambda sigma, biases=True: FullyConnected((3, 5, 4, 1), sigma, biases),
    "residual": lambda sigma, biases=True: Residual(3, 5, 1, sigma, biases=biases),
    "convolutional": lambda sigma, biases=True: ConvolutionalResidual(
        3, 1, 4, 3, 1, sigma, biases=biases
    ),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def ranks(network, w, X):
    return np.linalg.matrix_rank(network.jacobian(w, X))


# --------------------------------------------------------------------------- analytic activations


@each_kind
@pytest.mark.parametrize("sigma", [activations.tanh, activations.sigmoid, activations.gelu])
def test_a_start_of_low_rank_is_left_in_every_direction(kind, sigma):
    """det K is analytic along a line: it vanishes all along it, or at isolated points."""
    network, rng = KINDS[kind](sigma), np.random.default_rng(0)
    X = rng.standard_normal((7, 3))
    low = np.zeros(network.parameter_count)
    assert ranks(network, low, X) < 7  # without weights no unit sees the input
    directions = network.gaussian_start(rng, 40, bias_deviation=0.5)
    for t in (0.3, 1.0, 3.0):
        assert (ranks(network, low + t * directions, X) == 7).all()


@each_kind
@pytest.mark.parametrize("sigma", [activations.tanh, activations.sigmoid])
def test_low_rank_at_one_start_for_a_reason_is_low_rank_at_all(kind, sigma):
    """The other alternative: det K ≡ 0, with one input twice or more samples than parameters."""
    network, rng = KINDS[kind](sigma), np.random.default_rng(1)
    X = rng.standard_normal((7, 3))
    X[4] = X[2]
    w = network.gaussian_start(rng, 60, bias_deviation=0.5)
    assert (ranks(network, w, X) == 6).all()
    many = rng.standard_normal((network.parameter_count + 3, 3))
    assert (ranks(network, w, many) <= network.parameter_count).all()


# --------------------------------------------------------------------------- cells


def pattern(widths, sigma, w, X):
    """Which piece each unit uses on each sample, by the layers one after the other."""
    network = FeedForward(widths, sigma)
    layers = network.propagate(w, X).preactivations[: len(widths) - 2]
    breaks = {"spline": (-1.0, 1.0)}.get(sigma.name, (0.0,))
    return np.concatenate([(z > at).reshape(len(w), -1) for z in layers for at in breaks], axis=1)


@pytest.mark.parametrize("sigma", [RELU, LEAKY, activations.squared_relu, SPLINE, MODULUS])
def test_the_rank_is_that_of_the_cell(sigma):
    widths, X = (1, 2, 1), np.array([[-1.0], [0.0], [1.0]])
    w = np.random.default_rng(2).standard_normal((6000, 7))
    rank = ranks(FullyConnected(widths, sigma), w, X)
    cells = {}
    for key, value in zip(pattern(widths, sigma, w, X), rank, strict=True):
        cells.setdefault(key.tobytes(), set()).add(int(value))
    assert len(cells) > 20
    assert all(len(found) == 1 for found in cells.values())
    several = {value for found in cells.values() for value in found}
    assert len(several) > 1


@pytest.mark.parametrize(
    ("sigma", "degree"), [(RELU, 1), (LEAKY, 1), (activations.squared_relu, 2), (SPLINE, 3)]
)
def test_on_a_cell_the_output_is_a_polynomial_along_every_line(sigma, degree):
    """z_1 has the degree 1, h_ℓ k times that of z_ℓ, and each layer adds 1: 1 + k + k²."""
    widths, rng = (2, 3, 3, 1), np.random.default_rng(3)
    network, X = FullyConnected(widths, sigma), rng.standard_normal((4, 2))
    order = 1 + degree + degree**2
    # Chebyshev nodes: the polynomial through the first ones is compared at the others.
    t = np.cos(np.pi * (np.arange(order + 9) + 0.5) / (order + 9))
    tried = 0
    for _ in range(60):
        w, u = rng.standard_normal((2, network.parameter_count))
        line = w + 0.03 * t[:, None] * u
        if len(np.unique(pattern(widths, sigma, line, X), axis=0)) > 1:
            continue
        tried += 1
        values = network.outputs(line, X)
        fit = np.polynomial.chebyshev.chebfit(t, values, order)
        missed = np.abs(np.polynomial.chebyshev.chebval(t, fit).T - values).max()
        assert missed < 1e-12 * np.abs(values).max()
    assert tried > 10


# --------------------------------------------------------------------------- exceptions


@each_kind
@pytest.mark.parametrize(("sigma", "k"), [(activations.identity, 1), (SQUARE, 2), (CUBE, 3)])
def test_polynomials_have_the_rank_of_their_monomials(kind, sigma, k):
    """Two activations in a row: at most C(d + k², d), and this is attained on the line."""
    network, rng = KINDS[kind](sigma), np.random.default_rng(4)
    X = rng.standard_normal((60, 3))
    w = network.gaussian_start(rng, 10, bias_deviation=0.5)
    assert ranks(network, w, X).max() <= math.comb(3 + k * k, 3)
    wide = FullyConnected((1, 8, 8, 1), sigma)
    line = np.linspace(-1, 1, 14)[:, None]
    w = wide.gaussian_start(rng, 30, bias_deviation=1.0)
    # At least one start reaches it, as far as float64 resolves its powers.
    assert ranks(wide, w, line).max() == 1 + k * k


@each_kind
def test_without_biases_a_homogeneous_network_sees_directions(kind):
    network, rng = KINDS[kind](RELU, False), np.random.default_rng(5)
    directions = rng.standard_normal((4, 3))
    X = np.concatenate([directions, 3.0 * directions[:3], 0.2 * directions[1:]])
    w = network.gaussian_start(rng, 200)
    assert ranks(network, w, X).max() == 4
    with_biases = KINDS[kind](RELU)
    w = with_biases.gaussian_start(rng, 200, bias_deviation=0.5)
    assert ranks(with_biases, w, X).max() > 4


def test_samples_on_which_the_last_layer_is_dead_have_one_row():
    network, rng = FullyConnected((3, 6, 5, 1), RELU), np.random.default_rng(6)
    X = rng.standard_normal((8, 3))
    w = network.gaussian_start(rng, 4000, bias_deviation=0.5)
    z = FeedForward((3, 6, 5, 1), RELU).propagate(w, X).preactivations[1]
    dead = (z < 0).reshape(4000, 5, 8).all(axis=1).sum(axis=1)
    rank = ranks(network, w, X)
    some = dead > 0
    assert len(np.unique(dead)) > 4
    assert (rank[some] <= 8 - dead[some] + 1).all()
    assert (rank[some] == 8 - dead[some] + 1).any()


@pytest.mark.parametrize("units", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("sigma", "stated"),
    [
        (LEAKY, lambda m: Fraction(1, 2) ** m),
        (RELU, lambda m: Fraction(1, 2) ** m + 2 * Fraction(3, 8) ** m - 2 * Fraction(1, 4) ** m),
        (activations.squared_relu, lambda m: 2 * Fraction(3, 8) ** m - Fraction(1, 4) ** m),
        (activations.tanh, lambda m: Fraction(0)),
    ],
    ids=["leaky", "ReLU", "squared", "tanh"],
)
def test_the_probability_of_a_singular_kernel_is_exact(sigma, stated, units):
    """All choices of sectors for the directions (w, b), each with its exact probability."""
    ends = np.array([0, 1, 3, 4, 5, 7, 8]) * math.pi / 4  # of b = w, b = −w and b = 0
    weight = [Fraction(round(4 * (b - a) / math.pi), 8) for a, b in itertools.pairwise(ends)]
    assert sum(weight) == 1
    rng = np.random.default_rng(units)
    choices = np.array(list(itertools.product(range(6), repeat=units)))
    inside = rng.uniform(0.2, 0.8, choices.shape)  # where in its sector
    angle = ends[choices] + inside * (ends[choices + 1] - ends[choices])
    size = rng.uniform(0.5, 2.0, choices.shape)
    v = rng.uniform(0.5, 2.0, choices.shape) * rng.choice([-1, 1], choices.shape)
    w = np.concatenate(
        [size * np.cos(angle), size * np.sin(angle), v, np.ones((len(choices), 1))], axis=1
    )
    network = FullyConnected((1, units, 1), sigma)
    singular = ranks(network, w, np.array([[-1.0], [0.0], [1.0]])) < 3
    found = sum(math.prod(weight[k] for k in row) for row in choices[singular])
    assert found == stated(units)


@pytest.mark.parametrize("widths", [(5, 1, 1), (5, 1, 1, 1), (5, 3, 2, 1)], ids=str)
@pytest.mark.parametrize("sigma", [LEAKY, activations.tanh, activations.sigmoid, RELU])
def test_few_samples_have_full_rank_whatever_the_width(sigma, widths):
    network, rng = FullyConnected(widths, sigma), np.random.default_rng(7)
    X = rng.standard_normal((6, 5))  # n = d + 1
    w = network.gaussian_start(rng, 400, bias_deviation=0.5)
    rank = ranks(network, w, X)
    assert (rank == 6).all() == (sigma is not RELU)
    # Not so if the vectors (x_i, 1) are dependent: on some cells a leaky network is affine.
    X[5] = X[:2].mean(axis=0)
    if sigma is LEAKY:
        assert (ranks(network, w, X) < 6).any()


# --------------------------------------------------------------------------- the prediction


def excess_of_a_run(problem, w, step, steps):
    """log S_k − log Ŝ_k at the end of a run of descent."""
    run = gradient_descent(problem, w, step, steps, record_path=True)
    predicted = np.log(run.losses[0]) - step * problem.ratio(run.path[:-1]).sum()
    return float(np.log(run.losses[-1]) - predicted)


def test_the_error_of_the_prediction_for_a_quadratic():
    """f = Σ λ x²: the flow is e^(−2λt) x_0, and c = ½ (gᵀHg/f − R²) in closed form."""
    spectrum, start, time = np.array([0.3, 1.0, 2.5]), np.array([1.0, -2.0, 0.7]), 1.5

    def c(t):
        x = np.exp(-2 * spectrum * t) * start
        f, ratio = spectrum @ x**2, 4 * (spectrum**2 @ x**2) / (spectrum @ x**2)
        return (8 * (spectrum**3 @ x**2) / f - ratio**2) / 2

    expected = integrate.quad(c, 0, time, epsabs=1e-12)[0]
    quadratic = Quadratic(np.diag(spectrum))
    errors = [
        excess_of_a_run(quadratic, start, time / steps, steps) / (time / steps) - expected
        for steps in (200, 400, 800)
    ]
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(2, rel=0.03)
    assert abs(errors[-1]) < 0.01 * abs(expected)


@each_kind
def test_the_error_of_the_prediction_for_a_network(kind):
    """The integral along a flow by another solver, with gᵀHg by differences of the gradient."""
    network, rng = KINDS[kind](activations.tanh), np.random.default_rng(8)
    problem = SquaredLoss(network, rng.standard_normal((5, 3)), rng.standard_normal(5))
    start = network.gaussian_start(rng, bias_deviation=0.5)
    time = 8 / float(top_curvature(problem, start).value)
    flow = integrate.solve_ivp(
        lambda t, w: -problem.gradient(w), (0, time), start, rtol=1e-10, atol=1e-12,
        t_eval=np.linspace(0, time, 81),
    )  # fmt: skip
    w = flow.y.T
    S, g = problem.value(w), problem.gradient(w)
    h = 1e-5
    Hg = (problem.gradient(w + h * g) - problem.gradient(w - h * g)) / (2 * h)
    c = ((g * Hg).sum(axis=1) / S - ((g * g).sum(axis=1) / S) ** 2) / 2
    expected = integrate.simpson(c, x=flow.t)
    found = [excess_of_a_run(problem, start, time / k, k) / (time / k) for k in (400, 800)]
    assert 2 * found[1] - found[0] == pytest.approx(expected, rel=0.01, abs=1e-4)


# --------------------------------------------------------------------------- kinks


@pytest.mark.parametrize("seed", range(4))
def test_sliding_along_a_kink(seed):
    """Descent with tiny steps against the closed forms before, at and after the arrival."""
    rng = np.random.default_rng(seed)
    x, v0 = rng.uniform(-1.5, 1.5), rng.uniform(0.7, 1.3)
    a = 1 + x * x
    z0 = rng.uniform(0.2, 0.6) * math.sqrt(a) * v0 * rng.choice([-1, 1])
    s1 = math.atanh(abs(z0) / (math.sqrt(a) * v0)) / math.sqrt(a)
    y = rng.standard_normal()
    c0 = y + s1 + rng.uniform(0.3, 1.0)
    problem = LeastSquares(FeedForward((1, 1, 1), MODULUS), [[x]], [y])
    b0 = 0.4 * z0
    start = np.array([(z0 - b0) / x, b0, v0, c0])
    step = 3e-4
    run = gradient_descent(problem, start, step, 3000, record_path=True)
    w, b, v, c = run.path.T
    z, e = w * x + b, v * np.abs(w * x + b) + c - y
    arrival = int(np.argmax(z * z0 <= 0))
    s = np.append(0, np.cumsum(2 * e[:-1] * step))
    assert s[arrival] == pytest.approx(s1, abs=5e-3)
    before = slice(0, arrival, 50)
    root, phase = math.sqrt(a), math.sqrt(a) * s[before]
    assert np.abs(z[before]) == pytest.approx(
        abs(z0) * np.cosh(phase) - root * v0 * np.sinh(phase), abs=5e-3
    )
    v1 = math.sqrt(v0**2 - z0**2 / a)
    assert v[arrival:] == pytest.approx(v1, abs=5e-3)
    assert (np.abs(z[arrival:]) < 0.01).all()
    t = step * np.arange(len(s) - arrival)
    assert run.losses[arrival:] == pytest.approx(run.losses[arrival] * np.exp(-4 * t), rel=0.05)
    ratio = problem.ratio(run.path[arrival + 10 :])
    assert ratio == pytest.approx(4 * (1 + a * v1**2), rel=0.02)
    # Short of the condition on c_0 the flow ends before the kink.
    start[3] = y + 0.5 * s1 - v0 * abs(z0)
    ended = gradient_descent(problem, start, step, 6000, record_path=True)
    assert ((ended.path[:, 0] * x + ended.path[:, 1]) * z0 > 0).all()
    assert ended.losses[-1] < 1e-4 * ended.losses[0]


# --------------------------------------------------------------------------- no linear rate


def flow_of_the_square(u, v, y, times):
    """(u, v) and the loss at the times, by an integrator of its own."""
    solution = integrate.solve_ivp(
        lambda t, p: [
            -4 * (p[1] * p[0] ** 2 - y) * p[0] * p[1],
            -2 * (p[1] * p[0] ** 2 - y) * p[0] ** 2,
        ],
        (0, times[-1]), [u, v], method="LSODA", t_eval=times, rtol=1e-10, atol=1e-13,
    ).y  # fmt: skip
    return solution, (solution[1] * solution[0] ** 2 - y) ** 2


def test_full_rank_all_along_and_no_linear_rate():
    network = FullyConnected((1, 1, 1), SQUARE, biases=False)
    rng = np.random.default_rng(9)
    zero, below = (SquaredLoss(network, [[1.0]], [y]) for y in (0.0, -1.0))
    seen = set()
    for u, v in rng.uniform(0.4, 1.5, (8, 2)) * rng.choice([-1, 1], (8, 2)):
        q = 2 * v * v - u * u
        if abs(q) < 0.2:
            continue
        times = np.geomspace(1e-3, 300, 30)
        points, losses = flow_of_the_square(u, v, 0.0, times)
        assert 2 * points[1] ** 2 - points[0] ** 2 == pytest.approx(q, abs=1e-7)
        K = points[0] ** 4 + 4 * points[0] ** 2 * points[1] ** 2
        assert zero.kernel(points.T)[:, 0, 0] == pytest.approx(K, rel=1e-12)
        assert (K > 0).all()
        if q < 0:
            bound = zero.value(np.array([u, v])) * np.exp(-4 * q * q * times)
            assert (losses <= bound * (1 + 1e-6) + 1e-18).all()
        else:
            assert 32 * q * times[-1] ** 2 * losses[-1] == pytest.approx(1, rel=0.05)
        early = times < 2
        flow = gradient_flow(zero, np.array([u, v]), time=2.0, loss_tolerance=0.0, dense=True)
        assert flow.at(times[early]) == pytest.approx(points.T[early], abs=1e-6)
        points, losses = flow_of_the_square(u, v, -1.0, times)
        trapped = q > 0 and v > 0
        seen.add((q > 0, v > 0))
        assert losses[-1] == pytest.approx(1.0 if trapped else 0.0, abs=1e-6)
        if trapped:
            assert (losses >= 1).all()
            assert np.abs(below.gradient(points[:, -1])).max() < 1e-6
    assert len(seen) == 4
    cauchy = integrate.quad(lambda s: 2 / math.pi / (1 + s * s), math.sqrt(0.5), math.inf)[0]
    assert cauchy == pytest.approx(1 - 2 / math.pi * math.atan(math.sqrt(0.5)), rel=1e-12)
    assert round(cauchy, 3) == 0.608


def test_the_kernel_of_any_architecture_is_that_of_the_loss():
    """R = (4/n) eᵀKe/|e|², on which all of the above rests."""
    rng = np.random.default_rng(10)
    for build in KINDS.values():
        network = build(SPLINE)
        problem = SquaredLoss(network, rng.standard_normal((5, 3)), rng.standard_normal(5))
        w = network.gaussian_start(rng, 6, bias_deviation=0.5)
        e = network.outputs(w, problem.X) - problem.y
        K = problem.kernel(w)
        stated = 4 / 5 * np.einsum("ri,rij,rj->r", e, K, e) / (e * e).sum(axis=1)
        assert problem.ratio(w) == pytest.approx(stated, rel=1e-12)
