"""Gaussian pairs against closed forms and mpmath; the limits K^L against finite networks."""

import math

import mpmath
import numpy as np
import pytest
from bad_input import assert_sentence, garbage_taken
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from plcore import activations, gaussian_pairs
from plcore.activations import Activation
from plcore.gaussian_pairs import gaussian_product, normalization
from plcore.infinite_width import (
    convolutional_gram,
    fully_connected_gram,
    limit_hypotheses,
    residual_gram,
)
from plcore.piecewise import piecewise_polynomial

ALL = [
    activations.tanh,
    activations.sigmoid,
    activations.softplus,
    activations.arctan,
    activations.arcsinh,
    activations.gelu,
    activations.identity,
    activations.smooth_leaky_relu(0.1),
    activations.relu,
    activations.leaky_relu(0.2),
    activations.squared_relu,
]
ERF = Activation(
    "erf",
    (
        special.erf,
        lambda u: 2 / math.sqrt(math.pi) * np.exp(-u * u),
        lambda u: -4 / math.sqrt(math.pi) * u * np.exp(-u * u),
    ),
    ((), (0.0,), (-math.sqrt(0.5), math.sqrt(0.5))),
    ((-1.0, 1.0), (0.0, 0.0), (0.0, 0.0)),
)
angles = st.floats(1e-6, math.pi - 1e-6)
variances = st.floats(1e-3, 30.0)


def unit_rows(n, d, seed=0):
    X = np.random.default_rng(seed).standard_normal((n, d))
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def arc_cosine(order, theta):
    """E[φ(u)φ(v)] for unit variances and correlation cos θ, φ(u) = u₊^order (Cho and Saul)."""
    if order == 0:
        value = math.pi - theta
    elif order == 1:
        value = np.sin(theta) + (math.pi - theta) * np.cos(theta)
    else:
        value = 3 * np.sin(theta) * np.cos(theta)
        value = value + (math.pi - theta) * (1 + 2 * np.cos(theta) ** 2)
    return value / (2 * math.pi)


def compare(activation, order, a, b, c, exact, slack=3.0):
    """The value is right to the error that is claimed, and the claim is not idle."""
    value, error = gaussian_product(activation, order, a, b, c)
    size = gaussian_product(activation, order, a, a, a)[0]
    size = np.sqrt(size * gaussian_product(activation, order, b, b, b)[0])  # Cauchy–Schwarz
    assert abs(value - exact) <= slack * error + 2e-14 * size
    return error / size


@settings(max_examples=12, deadline=None)
@given(theta=angles, a=variances, b=variances)
def test_kinked_activations_are_the_arc_cosine_kernels(theta, a, b):
    c = math.cos(theta) * math.sqrt(a * b)
    theta = math.acos(math.cos(theta))  # what the covariance can still say
    cases = [
        (activations.relu, 0, math.sqrt(a * b) * arc_cosine(1, theta)),
        (activations.relu, 1, arc_cosine(0, theta)),
        (activations.squared_relu, 0, a * b * arc_cosine(2, theta)),
        (activations.squared_relu, 1, 4 * math.sqrt(a * b) * arc_cosine(1, theta)),
    ]
    for activation, order, exact in cases:
        relative = compare(activation, order, a, b, c, exact, slack=30.0)
        if 1e-3 < theta < 2.5:
            assert relative < 1e-10


@settings(max_examples=40, deadline=None)
@given(theta=angles, a=st.floats(1e-3, 3.0), b=st.floats(1e-3, 3.0))
def test_smooth_activations_have_their_closed_forms(theta, a, b):
    c = math.cos(theta) * math.sqrt(a * b)
    root = (1 + 2 * a) * (1 + 2 * b)
    arcsine = 2 / math.pi * math.asin(2 * c / math.sqrt(root))
    compare(ERF, 0, a, b, c, arcsine)
    compare(ERF, 1, a, b, c, 4 / math.pi / math.sqrt(root - 4 * c * c))
    compare(activations.identity, 0, a, b, c, c)
    compare(activations.identity, 1, a, b, c, 1.0)


@pytest.mark.parametrize(
    ("activation", "order"),
    [
        (activations.tanh, 0),
        (activations.gelu, 1),
        (activations.leaky_relu(0.2), 1),
        (activations.squared_relu, 0),
    ],
    ids=str,
)
def test_products_against_independent_quadrature(activation, order):
    """Nested adaptive quadrature in mpmath, cut where u = 0 and v = 0."""
    a, b, c = 1.3, 0.6, -0.4
    slope = c / a
    rest = math.sqrt(b - c * c / a)

    def function(u):
        return float(activation.functions[order](np.float64(u)))

    def inner(u):
        cut = min(max(-slope * u / rest, -8), 8)  # where v = 0
        weight = mpmath.npdf
        return mpmath.quad(
            lambda g: function(slope * u + rest * g) * weight(g), [-9, cut, 9], maxdegree=3
        )

    def outer(g):
        u = math.sqrt(a) * g
        return function(u) * inner(u) * mpmath.npdf(g)

    exact = float(mpmath.quad(outer, [-9, 0, 9], maxdegree=3))
    value, error = gaussian_product(activation, order, a, b, c)
    assert value == pytest.approx(exact, abs=3e-6)
    assert error < 1e-10


@pytest.mark.parametrize("activation", ALL, ids=lambda one: one.name)
def test_the_slope_of_a_product_is_the_product_of_slopes(activation):
    """Price's theorem: ∂/∂c E[σ(u)σ(v)] = E[σ′(u)σ′(v)], which ties the two orders together."""
    a, b, c, h = 0.9, 1.4, np.array([-0.7, 0.0, 0.3, 0.95]), 1e-3
    ends = [gaussian_product(activation, 0, a, b, c + k * h)[0] for k in (-2, -1, 1, 2)]
    slope = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)
    assert slope == pytest.approx(gaussian_product(activation, 1, a, b, c)[0], abs=1e-8)


def test_the_normalization():
    assert float(normalization(activations.relu)) == pytest.approx(2, rel=1e-13)
    assert float(normalization(activations.identity)) == pytest.approx(1, rel=1e-13)
    assert float(normalization(activations.squared_relu)) == pytest.approx(2 / 3, rel=1e-13)
    erf = 2 / math.pi * math.asin(2 / 3)
    assert float(normalization(ERF)) == pytest.approx(1 / erf, rel=1e-13)


def relu_limit(X, depth):
    """The fully connected recursion in closed form, from the angles."""
    K = X @ X.T
    norms = np.sqrt(np.diag(K))
    for layer in range(depth):
        theta = np.arccos(np.clip(K / np.outer(norms, norms), -1, 1))
        np.fill_diagonal(theta, 0.0)
        if layer == depth - 1:
            return 2 * K * arc_cosine(0, theta)
        K = 2 * np.outer(norms, norms) * arc_cosine(1, theta)
    raise AssertionError


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_relu_limits_are_the_closed_form(depth, scale):
    X = scale * unit_rows(8, 4)
    found = fully_connected_gram(X, activations.relu, depth)
    assert found.matrix == pytest.approx(relu_limit(X, depth), rel=1e-10, abs=1e-12)
    exact = np.linalg.eigvalsh(relu_limit(X, depth))[0]
    assert abs(found.least_eigenvalue - exact) <= found.error + 1e-13
    assert found.error < 1e-8
    assert found.is_positive


@pytest.mark.parametrize("activation", ALL, ids=lambda one: one.name)
def test_limits_keep_their_error_and_their_structure(activation):
    """A far finer tolerance changes λ_0 by less than was claimed; symmetric and semidefinite."""
    X = unit_rows(6, 3)
    grams = [fully_connected_gram, residual_gram]
    for gram in grams:
        rough, fine = (gram(X, activation, 3, tolerance=t) for t in (1e-5, 1e-13))
        assert np.linalg.norm(rough.matrix - fine.matrix, 2) <= rough.error + fine.error
        assert abs(rough.least_eigenvalue - fine.least_eigenvalue) <= rough.error + fine.error
        assert (fine.matrix == fine.matrix.T).all()
        for one in (*fine.hidden, fine.matrix):
            assert np.linalg.eigvalsh(one)[0] > -1e-12 * np.abs(one).max()
    hidden = fully_connected_gram(X, activation, 3).hidden
    assert hidden.shape == (3, 6, 6)
    diagonals = np.diagonal(hidden, axis1=1, axis2=2)
    assert diagonals == pytest.approx(np.ones((3, 6)), rel=1e-9)  # what c_σ is for


def test_deep_residual_limits_of_an_affine_activation():
    """σ(u) = u + 1: h_ℓ is a multiple of the ones vector plus a centred Gaussian part.

    The multiple grows by s a layer, and the covariance by s² times the inner products below.
    """
    affine = Activation(
        "affine",
        (lambda u: u + 1.0, np.ones_like, np.zeros_like),
        ((), (), ()),
        ((-math.inf, math.inf), (1.0, 1.0), (0.0, 0.0)),
    )
    X, depth = unit_rows(4, 3), 6
    s = 0.9 / depth
    found = residual_gram(X, affine, depth, residual_scale=0.9)
    multiple, covariance = math.sqrt(0.5), 0.5 * X @ X.T  # c_σ = 1/E(g + 1)² = 1/2
    inner = multiple**2 + covariance
    for layer in range(1, depth):
        assert found.hidden[layer] == pytest.approx(inner, rel=1e-9)
        multiple, covariance = multiple + s, covariance + s * s * inner
        last, inner = s * s * inner, multiple**2 + covariance
    assert found.matrix == pytest.approx(last, rel=1e-9)


def test_scaling_and_permutations():
    """Positively homogeneous: K^L(tX) = t² K^L(X); and a permutation of inputs permutes K^L."""
    X, order = unit_rows(5, 4), [3, 1, 4, 0, 2]
    for gram in (fully_connected_gram, residual_gram):
        one = gram(X, activations.relu, 3).matrix
        assert gram(3 * X, activations.relu, 3).matrix == pytest.approx(9 * one, rel=1e-10)
        smooth = gram(X, activations.tanh, 3).matrix
        moved = gram(X[order], activations.tanh, 3).matrix
        assert moved == pytest.approx(smooth[np.ix_(order, order)], rel=1e-12)
    # E[σσ] of a sum of activations is bilinear: 2σ in place of σ cancels against c_σ.
    tanh = activations.tanh
    double = Activation(
        "2 tanh",
        tuple(lambda u, f=f: 2 * f(u) for f in tanh.functions),
        tanh.extrema,
        tuple((2 * a, 2 * b) for a, b in tanh.limits),
    )
    plain = fully_connected_gram(X, tanh, 3).matrix
    assert fully_connected_gram(X, double, 3).matrix == pytest.approx(plain, rel=1e-10)


def test_near_parallel_and_parallel_inputs():
    """λ_0 falls with the angle, and is not called positive where two inputs are parallel."""
    base, other = unit_rows(2, 4)
    other = other - (other @ base) * base
    other /= np.linalg.norm(other)
    least = []
    for angle in (1e-1, 1e-2, 1e-3):
        X = np.array([base, math.cos(angle) * base + math.sin(angle) * other])
        for activation in (activations.tanh, activations.relu):
            found = fully_connected_gram(X, activation, 2)
            assert found.is_positive
            least.append(found.least_eigenvalue)
    assert np.diff(least[::2]).max() < 0
    # For a kink λ_0 falls like the angle, for a smooth activation like its square.
    assert least[1] / least[5] == pytest.approx(100, rel=0.2)
    assert least[0] / least[4] == pytest.approx(1e4, rel=0.05)
    for factor in (1.0, -1.0):
        X = np.array([base, factor * base])
        for gram in (fully_connected_gram, residual_gram):
            found = gram(X, activations.tanh, 2)
            assert abs(found.least_eigenvalue) <= found.error
            assert not found.is_positive
    # Rounding of x·x′ alone moves E[σ′σ′] of a kink; the error says so.
    X = np.array([base, math.cos(1e-7) * base + math.sin(1e-7) * other])
    found = fully_connected_gram(X, activations.relu, 1)
    exact = 2 * arc_cosine(0, 1e-7)
    assert found.error > 1e-10
    assert abs(found.matrix[0, 1] / (X[0] @ X[1]) - exact) < 10 * found.error


@pytest.mark.parametrize("activation", [ALL[0], ALL[1], ALL[2], ALL[3]], ids=lambda one: one.name)
def test_the_least_eigenvalue_falls_no_slower_than_the_slopes_say(activation):
    """λ_0 ≤ (χ + χ_2) χ^(L−1) (1 − x·x′), and for nearly parallel inputs this is λ_0."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    value, slope, bend = (
        weights @ f(nodes) ** 2 / weights.sum()
        for f in (activation.value, activation.derivative, activation.second_derivative)
    )
    chi, second = slope / value, bend / value
    mean = weights @ activation.value(nodes) / weights.sum()
    assert (chi >= 1) == (abs(mean) < 1e-12)
    for depth in range(1, 6):
        factor = (chi + second) * chi ** (depth - 1)
        for seed in range(3):
            X = unit_rows(5, 4, seed)
            nearest = 1 - (X @ X.T - 2 * np.eye(5)).max()
            found = fully_connected_gram(X, activation, depth)
            assert found.least_eigenvalue <= factor * nearest * (1 + 1e-9)
        angle = 0.02 * min(1, chi ** (-depth / 2))
        X = np.array([[1, 0], [math.cos(angle), math.sin(angle)]])
        least = fully_connected_gram(X, activation, depth).least_eigenvalue
        assert least == pytest.approx(factor * (1 - math.cos(angle)), rel=5e-3)


def finite_convolution(x, activation, depth, patch, scale, width, rng):
    """Gradient block of W_L at finite width, for inputs (n, channels, positions), by hand."""
    n, _, positions = x.shape
    half = patch // 2
    c = float(normalization(activation))

    def patches(h):
        padded = np.pad(h, ((0, 0), (0, 0), (half, half)))
        parts = [padded[:, :, o : o + positions] for o in range(patch)]
        return np.concatenate(parts, axis=1)

    h = x
    for layer in range(1, depth + 1):
        below = patches(h)
        z = rng.standard_normal((width, below.shape[1])) @ below
        if layer == depth:
            break
        value = activation.value(z) / math.sqrt(width)
        h = math.sqrt(c) * value if layer == 1 else h + scale / depth * value
    factor = math.sqrt(c) if depth == 1 else scale / depth
    a = rng.standard_normal((width, positions))
    signal = factor / math.sqrt(width) * a * activation.derivative(z)
    rows = np.einsum("ikp,ijp->ikj", signal, below).reshape(n, -1)
    return rows @ rows.T


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("activation", [activations.softplus, activations.relu], ids=str)
def test_convolutional_limits_against_wide_networks(depth, activation):
    rng = np.random.default_rng(depth)
    x = rng.standard_normal((3, 2, 4))
    x /= np.linalg.norm(x, axis=(1, 2), keepdims=True)
    found = convolutional_gram(x, activation, depth, patch=3, residual_scale=1.5)
    draws = [
        finite_convolution(x, activation, depth, 3, 1.5, 400, np.random.default_rng([depth, k]))
        for k in range(30)
    ]
    mean = np.mean(draws, axis=0)
    spread = np.std(draws, axis=0) / math.sqrt(len(draws))
    allowed = 4 * spread + 0.01 * np.abs(found.matrix).max()
    assert (np.abs(mean - found.matrix) < allowed).all()
    assert found.error < 1e-8


def test_a_convolution_of_one_position_is_the_residual_network():
    X = unit_rows(5, 3)
    for patch in (1, 3):
        found = convolutional_gram(X[:, :, None], activations.gelu, 3, patch=patch).matrix
        assert found == pytest.approx(residual_gram(X, activations.gelu, 3).matrix, rel=1e-10)


X4 = unit_rows(4, 3)
# fmt: off
CALLS = [
    (gaussian_product, {"activation": activations.tanh, "order": 1, "first": 1.0, "second": 2.0,
                        "covariance": 0.1}),
    (normalization, {"activation": activations.tanh}),
    (fully_connected_gram, {"X": X4, "activation": activations.tanh, "depth": 2,
                            "tolerance": 1e-3}),
    (residual_gram, {"X": X4, "activation": activations.tanh, "depth": 2, "residual_scale": 1.0,
                     "tolerance": 1e-3}),
    (convolutional_gram, {"X": X4[:, :, None], "activation": activations.tanh, "depth": 2,
                          "patch": 1, "residual_scale": 1.0, "tolerance": 1e-3}),
]
ACCEPTED = {
    "gaussian_product first": {"a seed", "a cube"},
    "gaussian_product second": {"a seed", "a cube"},
    "gaussian_product covariance": {"half", "a cube"},
    "fully_connected_gram depth": {"a seed"},
    "residual_gram depth": {"a seed"},
    "convolutional_gram depth": {"a seed"},
    "residual_gram residual_scale": {"a seed"},
    "convolutional_gram residual_scale": {"a seed"},
    "convolutional_gram X": {"a cube"},
    "fully_connected_gram tolerance": {"a seed"},
    "residual_gram tolerance": {"a seed"},
    "convolutional_gram tolerance": {"a seed"},
}
# fmt: on


@pytest.mark.parametrize(("function", "arguments"), CALLS)
def test_every_argument_refuses_garbage_in_a_sentence(function, arguments):
    function(**arguments)
    for name in arguments:
        expected = ACCEPTED.get(f"{function.__name__} {name}", set())
        assert garbage_taken(function, arguments, name) == expected


ROWS = [
    (lambda: gaussian_product(ERF, 2, 1, 1, 0), "order must be 0 or 1, but is 2"),
    (lambda: gaussian_product(ERF, 0, -1, 1, 0), "variances must not be negative.*-1"),
    (lambda: gaussian_product(ERF, 0, 1, 1, 1.01), "covariance must be at most.*1.01"),
    (lambda: gaussian_product(ERF, 0, [1, 1], [1, 2, 3], 0), "first.*second.*broadcast"),
    (lambda: fully_connected_gram(np.zeros((2, 3)), ERF, 2), "positive norm, but one is zero"),
    (lambda: fully_connected_gram(X4, ERF, 0), "depth must be at least 1, but is 0"),
    (lambda: convolutional_gram(X4[:, :, None], ERF, 2, patch=2), "patch must be odd, but is 2"),
    (lambda: residual_gram(X4, ERF, 2, residual_scale=0), "residual_scale must be positive"),
]


@pytest.mark.parametrize(("call", "pattern"), ROWS)
def test_what_is_wrong_in_its_own_way(call, pattern):
    with pytest.raises(ValueError, match=pattern) as caught:
        call()
    assert_sentence(caught.value)


def test_limits_read_well_and_one_input_is_parallel_to_none():
    text = str(fully_connected_gram(unit_rows(1, 3)[:1], activations.tanh, 2))
    assert text.startswith("Limit of the Gram matrix at infinite width")
    rows = {
        item.name: item for item in limit_hypotheses(unit_rows(1, 3)[:1], activations.tanh).items
    }
    found = rows["no two inputs parallel"]
    assert (found.holds, found.detail) == (True, "There is one input only.")


def test_resolutions_are_raised_until_rounding_is_all_that_is_left():
    """Errors of 2^−level, with rounding of one size from two rules of the same level."""
    tried = []

    def run(size):
        def at(rule):
            tried.append(rule)
            return np.array([1.0, -2.0]) + 0.5**rule.level + size * rule.moved

        return at

    values, errors = gaussian_pairs.refined(run(0.0), 0.0)
    assert [rule.level for rule in tried if not rule.moved] == list(gaussian_pairs._LEVELS[1:])
    assert (np.abs(values - [1.0, -2.0]) <= errors).all()
    tried.clear()
    _, errors = gaussian_pairs.refined(run(0.2), 0.0)
    assert len(tried) == 3  # the second level's two rules differ as much as two levels do
    assert errors.max() < 1
    tried.clear()
    gaussian_pairs.refined(run(0.0), 0.05)
    assert tried[-1].level == 4


def test_an_activation_without_a_second_moment_has_no_normalization():
    with pytest.raises(ValueError, match="positive finite second moment"):
        gaussian_pairs.normalization(piecewise_polynomial([], [[0.0]]))
