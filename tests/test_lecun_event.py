"""Theorem 2.8: (T8) against its own formula, probabilities against oracles, conditioned starts."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from scipy import stats
from test_positive_start import random_and_worst_points

from plcore import _logarithms, activations, initialization
from plcore.lecun_event import (
    best_event,
    event_probability,
    format_probability,
    in_event,
    largest_norm_bound,
    least_low,
    lecun_condition,
    lecun_hypotheses,
    sample_event,
)
from plcore.network import FeedForward
from plcore.objectives import LeastSquares

LEAKY = activations.smooth_leaky_relu(0.3)
NETWORKS = [
    FeedForward((4, 1, 1), LEAKY),
    FeedForward((4, 3, 1), LEAKY),
    FeedForward((5, 3, 2, 1), LEAKY),
    FeedForward((4, 2, 2, 2, 1), [LEAKY, activations.identity, LEAKY]),
]


def data(network, n=3, seed=0):
    rng = np.random.default_rng(seed)
    d = network.widths[0]
    return rng.standard_normal((n, d)) / np.sqrt(d), rng.standard_normal(n)


def sides(network, X, y, a, tau):
    """(T8), written anew in mpmath from the theorem."""
    with mp.workdps(40):
        n, L, d = len(X), network.depth, network.widths
        eigenvalues = np.linalg.svd(X)[1] ** 2 / n
        c1, c2 = mp.mpf("0.3"), mp.mpf(1)
        a, tau = mp.mpf(a), mp.mpf(tau)
        left = 8 * mp.mpf(float(y @ y)) / n
        pairs = mpmath.fprod(4 * a**2 * d[k] * d[k - 1] for k in range(2, L + 1))
        left += 8 * c2 ** (2 * (L - 1)) * pairs * mp.mpf(eigenvalues[0]) * tau**2
        right = a**2 * mp.mpf(eigenvalues[-1]) * d[1] * c1 ** (2 * (L - 1))
        right *= (a / 2) ** (2 * (L - 1)) * mpmath.fprod(width**2 for width in d[2:-1])
        return left, right


@pytest.mark.parametrize("network", NETWORKS, ids=lambda one: str(one.widths))
def test_the_condition_is_the_theorem_s(network):
    X, y = data(network)
    for a, tau in [(0.1, 1e-3), (3.0, 2.0), (40.0, 1e-5), (1e60, 1e-40)]:
        found = lecun_condition(network, X, y, a, tau)
        left, right = sides(network, X, y, a, tau)
        assert found.log_left == pytest.approx(float(mpmath.log(left)), rel=1e-12)
        assert found.log_right == pytest.approx(float(mpmath.log(right)), rel=1e-12)
        assert found.holds == (left < right)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda one: str(one.widths))
def test_largest_norm_bound_and_least_low_turn_the_condition(network):
    X, y = data(network)
    least = least_low(network, X, y)
    assert largest_norm_bound(network, X, y, 0.999 * least) == 0
    for factor in (1.0001, 1.5, 20.0):
        low = factor * least
        tau = largest_norm_bound(network, X, y, low)
        assert tau > 0
        assert lecun_condition(network, X, y, low, tau * (1 - 1e-9)).holds
        assert not lecun_condition(network, X, y, low, tau * (1 + 1e-9)).holds
        again = least_low(network, X, y, tau)
        assert again == pytest.approx(low, rel=1e-9)
        assert lecun_condition(network, X, y, again * (1 + 1e-9), tau).holds
        assert not lecun_condition(network, X, y, again * (1 - 1e-9), tau).holds
    # For large a the admissible τ is a multiple of a: how one large parameter suffices.
    taus = [largest_norm_bound(network, X, y, factor * least) for factor in (1e6, 2e6)]
    assert taus[1] / taus[0] == pytest.approx(2, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    network=st.sampled_from(NETWORKS),
    factor=st.floats(1e-3, 1e3),
)
def test_scaling_of_the_least_low(seed, network, factor):
    X, y = data(network, seed=seed)
    plain = least_low(network, X, y)
    # C₀ < B a^{2L}: C₀ grows with the square of y, B with the square of X.
    L = network.depth
    assert least_low(network, X, factor * y) == pytest.approx(plain * factor ** (1 / L), rel=1e-9)
    assert least_low(network, factor * X, y) == pytest.approx(plain * factor ** (-1 / L), rel=1e-9)
    # τ and the least a with it are shared out differently, but scale the same way with y and X.
    tau = largest_norm_bound(network, X, y, 2 * plain)
    scale = factor ** (1 / L)
    moved = largest_norm_bound(network, X, factor * y, 2 * plain * scale)
    assert moved == pytest.approx(scale * tau, rel=1e-9)
    rows = np.random.default_rng(seed).permutation(len(X))
    assert least_low(network, X[rows], y[rows]) == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda one: str(one.widths))
def test_the_condition_implies_the_criterion_on_conditioned_starts(network):
    """α is searched from above: were (1.1) false somewhere, the search would contradict (T8)."""
    X, y = data(network)
    problem = LeastSquares(network, X, y)
    for factor in (1.05, 3.0):
        a = factor * least_low(network, X, y)
        tau = largest_norm_bound(network, X, y, a) * (1 - 1e-9)
        rng = np.random.default_rng(0)
        starts = sample_event(network, a, tau, rng, 6)
        assert in_event(network, starts, a, tau).all()
        # The worst starts of the event too: smallest entries, W_1 on the sphere of radius τ.
        worst = starts[0].copy()
        for index, (weight, _) in enumerate(network.layers(worst)):
            if index:
                weight[...] = a
            else:
                _, _, rows = np.linalg.svd(X)
                weight[...] = rows[0]
                weight *= tau / np.linalg.norm(weight)
        for start in (*starts, worst):
            points = random_and_worst_points(problem, start, a / 2, rng, 12)
            q = network.signals(network.propagate(points, X))[0]
            assert q.min() > 0
            left = 4 * problem.value(start)
            right = (a / 2) ** 2 * problem.ratio(points).min()
            condition = lecun_condition(network, X, y, a, tau)
            assert left <= math.exp(condition.log_left) * (1 + 1e-9)
            assert right >= math.exp(condition.log_right)
            assert left < right


# --------------------------------------------------------------------------- probabilities


@pytest.mark.parametrize("t", [1e-12, 1e-5, 0.3, 0.999, 1.0, 1.0001, 5.0, 40.0, 1e4])
def test_log_probability_of_one_entry(t):
    with mp.workdps(50):
        m = mp.mpf(t)
        exact = mpmath.log((mpmath.erfc(m / mp.sqrt(2)) - mpmath.erfc(mp.sqrt(2) * m)) / 2)
    assert float(_logarithms.log_box(t)) == pytest.approx(float(exact), rel=1e-14)


@pytest.mark.parametrize(
    ("shape", "x"),
    [
        (0.5, 1e-12),
        (1.5, 0.3),
        (2.0, 30.0),
        (250.0, 1.0),
        (250.0, 240.0),
        (250.0, 500.0),
        (5000.0, 1e-6),
        (5000.0, 1.0),
        (5000.0, 3990.0),
        (5000.0, 4900.0),
        (1e6, 9e5),
    ],
)
def test_log_of_the_chi_squared_law(shape, x):
    with mp.workdps(50):
        s, m = mp.mpf(shape), mp.mpf(x)
        if x < shape:
            exact = s * mp.log(m) - m - mp.loggamma(s + 1) + mp.log(mp.hyp1f1(1, s + 1, m))
        else:
            exact = mp.log(mpmath.gammainc(s, 0, m, regularized=True))
        relative = abs((_logarithms.log_gamma_cdf(shape, math.log(x)) - exact) / exact)
    assert relative < 1e-12


def test_event_probability_is_the_product_of_its_factors():
    network = FeedForward((5, 3, 2, 1), LEAKY)
    found = event_probability(network, 0.7, 1.6)
    box = [
        stats.norm.cdf(2 * 0.7 * math.sqrt(m)) - stats.norm.cdf(0.7 * math.sqrt(m)) for m in (3, 2)
    ]
    assert np.exp(found.log_layers) == pytest.approx([box[0] ** 6, box[1] ** 2])
    assert math.exp(found.log_norm) == pytest.approx(stats.chi2(15).cdf(5 * 1.6**2))
    assert found.log == pytest.approx(found.log_entries + found.log_norm)
    assert found.log10 == pytest.approx(found.log / math.log(10))
    assert 0 == found.norm_markov < math.exp(found.log_norm)
    for tau in (2.0, 3.0, 10.0):
        wide = event_probability(network, 0.7, tau)
        assert wide.norm_markov == pytest.approx(1 - 3 / tau**2)
        assert wide.norm_markov <= math.exp(wide.log_norm)


@pytest.mark.parametrize(
    ("widths", "a", "tau"), [((2, 2, 1), 0.5, 1.2), ((3, 1, 1), 0.3, 0.8), ((2, 1, 2, 1), 0.5, 2.0)]
)
def test_event_probability_against_monte_carlo(widths, a, tau):
    network = FeedForward(widths, LEAKY)
    probability = math.exp(event_probability(network, a, tau).log)
    runs = 200_000
    starts = initialization.lecun(network, np.random.default_rng(0), runs)
    hits = int(in_event(network, starts, a, tau).sum())
    assert hits > 50
    assert stats.binomtest(hits, runs, probability).pvalue > 1e-3
    # The test would notice a probability that is half as large again.
    assert stats.binomtest(hits, runs, 1.5 * probability).pvalue < 1e-3


def test_conditioned_starts_have_the_law_of_lecun_starts_in_the_event():
    network, a, tau = FeedForward((2, 2, 1), LEAKY), 0.5, 1.2
    rng = np.random.default_rng(1)
    starts = initialization.lecun(network, rng, 200_000)
    kept = starts[in_event(network, starts, a, tau)]
    drawn = sample_event(network, a, tau, rng, 4000)
    assert in_event(network, drawn, a, tau).all()
    for coordinate in range(network.parameter_count):
        if drawn[:, coordinate].any():
            same = stats.ks_2samp(kept[:, coordinate], drawn[:, coordinate])
            assert same.pvalue > 1e-3, coordinate
    norms = [np.linalg.norm(w[:, :4], axis=1) for w in (kept, drawn)]
    assert stats.ks_2samp(*norms).pvalue > 1e-3


@pytest.mark.parametrize(("shape", "cut"), [(3.0, 1.0), (3.0, 40.0), (250.0, 180.0), (250.0, 5.0)])
def test_the_cut_gamma_law(shape, cut):
    """Both ways of drawing: by inversion, and in the far tail by rejection (P = 1e-323)."""
    drawn = cut * _logarithms.gamma_below(shape, math.log(cut), np.random.default_rng(0), 4000)
    assert drawn.max() <= cut
    whole = _logarithms.log_gamma_cdf(shape, math.log(cut))

    def cdf(x):
        return np.exp([_logarithms.log_gamma_cdf(shape, math.log(one)) - whole for one in x])

    assert stats.kstest(drawn, cdf).pvalue > 1e-3


def test_the_far_tail_takes_the_other_way():
    assert _logarithms.log_gamma_cdf(250.0, math.log(5.0)) < -500
    assert _logarithms.log_gamma_cdf(250.0, math.log(180.0)) > -500


def test_starts_far_out_in_the_tail():
    network = FeedForward((50, 10, 10, 1), activations.smooth_leaky_relu(0.1))
    rng = np.random.default_rng(0)
    starts = sample_event(network, 7.0, 1e-4, rng, (3, 4))
    assert starts.shape == (3, 4, network.parameter_count)
    assert in_event(network, starts, 7.0, 1e-4).all()
    layers = network.layers(starts)
    # The Gaussian's tail: entries hug the lower end, as 1/(d a) predicts (mean excess).
    excess = layers[1][0] - 7.0
    assert excess.mean() == pytest.approx(1 / (10 * 7.0), rel=0.05)
    assert np.linalg.norm(layers[0][0], axis=(-1, -2)).min() > 0.9e-4
    assert all(not bias.any() for _, bias in layers)
    # A start that leaves the event by one entry, or by the norm, is out.
    moved = starts[0, 0].copy()
    network.layers(moved)[1][0].flat[0] = 14.1
    assert not in_event(network, moved, 7.0, 1e-4)
    assert not in_event(network, starts[0, 0], 7.0, 0.5e-4)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda one: str(one.widths))
def test_the_best_event_is_admissible_and_no_other_pair_does_better(network):
    X, y = data(network)
    best = best_event(network, X, y)
    assert lecun_condition(network, X, y, best.low, best.norm_bound).holds
    least = least_low(network, X, y)
    for low in (*(least * np.geomspace(1.00001, 50, 60)), *(best.low * np.array([0.9999, 1.0001]))):
        tau = largest_norm_bound(network, X, y, low)
        if tau > 0:
            assert event_probability(network, low, tau).log <= best.log + 1e-6


def test_the_probability_falls_with_width_and_depth():
    logs = []
    for hidden in [(2,), (4,), (8,), (16,)]:
        network = FeedForward((4, *hidden, 1), LEAKY)
        logs.append(best_event(network, *data(network)).log10)
    assert (np.diff(logs) < 0).all()
    deep = FeedForward((50, 300, 300, 1), activations.smooth_leaky_relu(0.1))
    found = best_event(deep, *data(deep, 20))
    assert found.log10 < -1e5
    assert math.isfinite(found.log10)
    assert "10^(-" in str(found)


def test_zero_targets_need_no_large_entries():
    network = NETWORKS[2]
    X, y = data(network)
    assert least_low(network, X, 0 * y) == 0
    tau = largest_norm_bound(network, X, 0 * y, 0.01)
    assert tau > 0
    assert lecun_condition(network, X, 0 * y, 0.01, tau * 0.999).holds
    with pytest.raises(ValueError, match="y must not be zero"):
        best_event(network, X, 0 * y)


def test_probabilities_as_a_person_reads_them():
    assert format_probability(math.log(0.5)) == "0.5"
    assert format_probability(-100.0) == "3.72e-44"
    assert format_probability(-300 * math.log(10)) == "1e-300"
    assert format_probability(-5000 * math.log(10)) == "10^(-5000.0)"
    assert format_probability(-math.inf) == "0"
    text = str(event_probability(FeedForward((50, 10, 10, 1), LEAKY), 7.0, 1e-4))
    assert "P(W_2 in the box)" in text
    assert "P(W_3 in the box)" in text
    assert "at least 0" in text


# --------------------------------------------------------------------------- hypotheses


@pytest.mark.parametrize(
    ("activation", "X", "words"),
    [
        (activations.tanh, np.eye(4), "slopes must stay between two positive constants"),
        (activations.softplus, np.eye(4), r"σ\(0\) = 0.6931"),
        (activations.leaky_relu(0.1), np.eye(4), "leaky_relu.* has 0"),
        (LEAKY, np.ones((2, 4)), "numerical rank 1"),
        (LEAKY, np.eye(5)[:, :4], "n > d = 4"),
    ],
)
def test_each_hypothesis_has_its_message(activation, X, words):
    network, y = FeedForward((4, 2, 1), activation), np.ones(len(X))
    report = lecun_hypotheses(network, X, y)
    assert not report.all_hold
    assert "FAILS" in str(report)
    with pytest.raises(ValueError, match=words):
        lecun_condition(network, X, y, 1.0, 1.0)


def test_the_slopes_are_those_of_all_layers():
    network = FeedForward((4, 2, 2, 1), [LEAKY, activations.smooth_leaky_relu(0.05)])
    report = lecun_hypotheses(network, *data(network))
    assert report.all_hold
    assert "c₁ = 0.05 and c₂ = 1" in str(report)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda n, X, y: lecun_condition(n, X, y, 0.0, 1.0), ValueError, "low must be positive"),
        (lambda n, X, y: lecun_condition(n, X, y, 1.0, -1), ValueError, "norm_bound must be pos"),
        (lambda n, X, y: lecun_condition(n, X, y, "1", 1), TypeError, "low must be a real number"),
        (lambda n, X, y: lecun_condition(n, X, y[:2], 1, 1), ValueError, "3 rows and y has 2"),
        (lambda n, X, y: least_low(n, X, y, 0.0), ValueError, "norm_bound must be positive"),
        (lambda n, X, y: largest_norm_bound(n, X, y, np.inf), ValueError, "finite number"),
        (lambda n, X, y: event_probability(n, 1.0, 0), ValueError, "norm_bound must be positive"),
        (lambda n, X, y: event_probability("n", 1.0, 1.0), TypeError, "type FeedForward"),
        (lambda n, X, y: in_event(n, np.ones(3), 1.0, 1.0), ValueError, "p = 29"),
        (lambda n, X, y: sample_event(n, 1.0, 1.0, 0), TypeError, "numpy.random.Generator"),
        (
            lambda n, X, y: sample_event(n, 1.0, 1.0, np.random.default_rng(0), -1),
            ValueError,
            "at least 1",
        ),
    ],
)
def test_bad_input(call, error, words):
    network = NETWORKS[2]
    with pytest.raises(error, match=words):
        call(network, *data(network))


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("network", NETWORKS[:3:2], ids=lambda one: str(one.widths))
def test_the_best_event_for_targets_of_any_size(network, scale):
    """Small targets let a be small: the best may lie on either side of one."""
    X, y = data(network)
    best = best_event(network, X, scale * y)
    assert lecun_condition(network, X, scale * y, best.low, best.norm_bound).holds
    least = least_low(network, X, scale * y)
    assert best.low > least
    for low in least * np.geomspace(1.0001, max(50, 2 * best.low / least), 80):
        tau = largest_norm_bound(network, X, scale * y, low)
        if tau > 0:
            assert event_probability(network, low, tau).log <= best.log + 1e-6
    assert "log norm" not in str(best)
