"""Finite networks of Du et al.: gradients, Gram blocks, their limits, and what training records."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from bad_input import assert_sentence, garbage_taken
from scipy.integrate import solve_ivp

from plcore import activations, wide_study
from plcore.gaussian_pairs import normalization
from plcore.infinite_width import fully_connected_gram, residual_gram
from plcore.network import FeedForward
from plcore.wide_networks import WideNetwork, train_wide

STUDY = Path(__file__).parents[1] / "chapters" / "results" / "overparameterized.json"
SHAPES = [(1, None), (2, None), (3, None), (1, 0.7), (2, 0.7), (4, 1.3)]


def data(n=5, d=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X / np.linalg.norm(X, axis=1, keepdims=True), rng.standard_normal(n)


def by_definition(network, w, x):
    """One output, from the formulas, neuron by neuron."""
    *weights, a = network.layers(w)
    c, m, L = float(normalization(network.activation)), network.width, network.depth
    h = np.sqrt(c / m) * network.activation.value(weights[0] @ x)
    for W in weights[1:]:
        fresh = network.activation.value(W @ h) / np.sqrt(m)
        if network.residual_scale is None:
            h = np.sqrt(c) * fresh
        else:
            h = h + network.residual_scale / L * fresh
    return a @ h


@pytest.mark.parametrize(("depth", "scale"), SHAPES)
def test_outputs_and_gram_blocks(depth, scale):
    """Outputs by definition; blocks by central differences in each layer's own weights."""
    network = WideNetwork(3, 4, depth, activations.tanh, scale)
    X, _ = data()
    w = network.draw(np.random.default_rng(1))
    expected = [by_definition(network, w, x) for x in X]
    assert network.outputs(w, X) == pytest.approx(np.array(expected), rel=1e-13)
    h = 1e-5
    moves = h * np.eye(network.parameter_count)
    J = (network.outputs(w + moves, X) - network.outputs(w - moves, X)).T / (2 * h)
    sizes = np.cumsum([part.size for part in network.layers(w)])[:-1]
    blocks = [part @ part.T for part in np.split(J, sizes, axis=1)]
    assert network.gram(w, X) == pytest.approx(np.array(blocks), abs=1e-8)


def test_one_hidden_layer_is_a_feedforward_network():
    """With √(c_σ/m) in the output weights, biases zero: the same outputs and the same G^1."""
    network = WideNetwork(3, 6, 1, activations.gelu)
    X, _ = data()
    w = network.draw(np.random.default_rng(0))
    W, a = network.layers(w)
    scale = np.sqrt(float(normalization(activations.gelu)) / 6)
    other = FeedForward((3, 6, 1), activations.gelu)
    v = other.pack([(W, np.zeros(6)), (scale * a[None], [0.0])])
    assert other.forward(v, X) == pytest.approx(network.outputs(w, X), rel=1e-13)
    J = other.jacobian(v, X)[:, :18]
    assert J @ J.T == pytest.approx(network.gram(w, X)[0], rel=1e-12)


@pytest.mark.parametrize("scale", [None, 1.0])
@pytest.mark.parametrize("activation", [activations.softplus, activations.relu], ids=str)
def test_the_block_tends_to_its_limit_at_the_rate_of_the_root(scale, activation):
    """Over many draws the mean is the limit and the spread falls like m^(−1/2)."""
    X, _ = data(4)
    gram = fully_connected_gram if scale is None else residual_gram
    K = gram(X, activation, 3).matrix
    spreads = []
    for width, count in ((64, 200), (256, 100)):
        network = WideNetwork(3, width, 3, activation, scale)
        rng = np.random.default_rng(width)
        blocks = np.array([network.gram(network.draw(rng), X)[2] for _ in range(count)])
        spread = np.linalg.norm(blocks.std(axis=0))
        # The mean of h differs from its limit by O(1/m).
        away = np.linalg.norm(blocks.mean(axis=0) - K)
        assert away < 4 * spread / np.sqrt(count) + 4 / width * np.linalg.norm(K)
        spreads.append(spread)
    assert spreads[0] / spreads[1] == pytest.approx(2, rel=0.25)


@pytest.mark.parametrize(("depth", "scale"), SHAPES)
def test_training_is_gradient_descent(depth, scale):
    """Against descent with central differences, step by step; runs are independent."""
    network = WideNetwork(3, 3, depth, activations.arctan, scale)
    X, y = data()
    starts = network.draw(np.random.default_rng(2), 2)
    found = train_wide(network, X, y, starts, 0.05, 5, records=6)

    def loss(w):
        return 0.5 * np.square(network.outputs(w, X) - y).sum(axis=-1)

    w, h = starts.copy(), 1e-5
    moves = h * np.eye(network.parameter_count)
    for k in range(6):
        assert found.losses[:, k] == pytest.approx(loss(w), rel=1e-8)
        G = network.gram(w, X)
        least = np.linalg.eigvalsh(G.sum(axis=-3))
        assert found.least_full[:, k] == pytest.approx(least[:, 0], rel=1e-5, abs=1e-9)
        assert found.greatest_full[:, k] == pytest.approx(least[:, -1], rel=1e-7)
        slopes = [(loss(one + moves) - loss(one - moves)) / (2 * h) for one in w]
        w = w - 0.05 * np.array(slopes)
    alone = train_wide(network, X, y, starts[1], 0.05, 5, records=6)
    assert alone.losses == pytest.approx(found.losses[1], rel=1e-12)
    assert (found.recorded == np.arange(6)).all()
    assert (found.drift[:, 0] == 0).all()
    assert (found.drift[:, 1:] > 0).all()


@pytest.mark.parametrize(("depth", "scale"), [(1, None), (2, None), (2, 0.7)])
def test_a_block_bounded_below_along_the_way_is_a_rate(depth, scale):
    """λ_min(G^L) ≥ λ_0/2 on the path and η ≤ 1/β: every step takes ηλ_0/2 off, and so the flow."""
    network = WideNetwork(3, 6, depth, activations.tanh, scale)
    X, y = data(n=3)
    start, h = network.draw(np.random.default_rng(3)), 1e-4
    moves = h * np.eye(network.parameter_count)

    def slope(w):
        J = (network.outputs(w + moves, X) - network.outputs(w - moves, X)) / (2 * h)
        return J @ (network.outputs(w, X) - y)

    def curvature(w):
        H = [(slope(w + move) - slope(w - move)) / (2 * h) for move in moves]
        return np.linalg.eigvalsh((H + np.transpose(H)) / 2)[-1]

    eta = 0.5 / curvature(start)
    found = train_wide(network, X, y, start, eta, 30, records=31)
    path = [start]
    for _ in range(30):
        path.append(path[-1] - eta * slope(path[-1]))
    between = [(1 - s) * a + s * b for a, b in pairwise(path) for s in (0, 0.5)]
    assert eta * max(map(curvature, between)) < 1
    least = np.linalg.eigvalsh(network.gram(np.array(path), X)[:, depth - 1])[:, 0].min()
    rate = 2 * least
    assert found.least_block.min() == pytest.approx(least, rel=1e-4)
    assert least > 5e-4
    assert (found.losses[1:] <= (1 - eta * rate / 2) * found.losses[:-1]).all()
    assert found.worst_rate_ratio(rate) <= 1

    flow = solve_ivp(lambda t, w: -slope(w), (0, 3), start, rtol=1e-8, t_eval=np.linspace(0, 3, 31))
    w = flow.y.T
    losses = 0.5 * np.square(network.outputs(w, X) - y).sum(axis=-1)
    rate = 2 * np.linalg.eigvalsh(network.gram(w, X)[:, depth - 1])[:, 0].min()
    assert rate > 1e-3
    assert (losses <= np.exp(-rate * flow.t) * losses[0] * (1 + 1e-6)).all()


def test_what_training_records():
    network = WideNetwork(3, 50, 2, activations.tanh)
    X, y = data()
    w = network.draw(np.random.default_rng(0))
    kept = w.copy()
    found = train_wide(network, X, y, w, 0.1, 40)
    assert (w == kept).all()
    assert found.losses.shape == (41,)
    assert found.recorded[[0, -1]].tolist() == [0, 40]
    G = network.gram(w, X)
    assert found.least_block[0] == pytest.approx(np.linalg.eigvalsh(G[1])[0], rel=1e-9)
    bound = found.losses[0] * (1 - 0.1 * 0.2 / 2) ** np.arange(41)
    assert found.worst_rate_ratio(0.2) == pytest.approx((found.losses / bound).max())
    assert found.worst_rate_ratio(1e-6) <= 1 < found.worst_rate_ratio(19.0)


NET = WideNetwork(3, 4, 2, activations.tanh, 1.0)
X5, Y5 = data()
START = NET.draw(np.random.default_rng(0))
RUN = train_wide(NET, X5, Y5, START, 0.1, 3)
# fmt: off
CALLS = [
    (WideNetwork, {"dimension": 3, "width": 4, "depth": 2, "activation": activations.tanh,
                   "residual_scale": 1.0}),
    (NET.layers, {"w": START}),
    (NET.draw, {"rng": np.random.default_rng(0), "runs": 2}),
    (NET.outputs, {"w": START, "X": X5}),
    (NET.gram, {"w": START, "X": X5}),
    (train_wide, {"network": NET, "X": X5, "y": Y5, "start": START, "step_size": 0.1, "steps": 3,
                  "records": 2}),
    (RUN.worst_rate_ratio, {"limit_eigenvalue": 0.1, "floor": 1e-9}),
]
ACCEPTED = {
    "WideNetwork residual_scale": {"a seed", "None"},
    "WideNetwork dimension": {"a seed"},
    "WideNetwork width": {"a seed"},
    "WideNetwork depth": {"a seed"},
    "draw runs": {"a seed", "an empty list"},
    "train_wide steps": {"a seed"},
    "train_wide records": {"a seed"},
}
# fmt: on


@pytest.mark.parametrize(("function", "arguments"), CALLS)
def test_every_argument_refuses_garbage_in_a_sentence(function, arguments):
    function(**arguments)
    for name in arguments:
        if (function, name) == (train_wide, "step_size"):
            continue  # a seed is a step size, and diverges: below
        expected = ACCEPTED.get(f"{function.__name__} {name}", set())
        assert garbage_taken(function, arguments, name) == expected


ROWS = [
    (lambda: NET.outputs(START[:-1], X5), ValueError, "w must have 32 entries"),
    (lambda: NET.outputs(START, X5[:, :2]), ValueError, "X must have 3 entries"),
    (lambda: train_wide(NET, X5, Y5[:-1], START, 0.1, 3), ValueError, "y must have 5 entries"),
    (lambda: train_wide(NET, X5, Y5, START, -0.1, 3), ValueError, "step_size must be positive"),
    (lambda: train_wide(NET, X5, Y5, START, 1e300, 9), OverflowError, "loss leaves the range"),
    (lambda: RUN.worst_rate_ratio(30.0), ValueError, "must be below 1, but is 1.5"),
]


@pytest.mark.parametrize(("call", "kind", "pattern"), ROWS)
def test_what_is_wrong_in_its_own_way(call, kind, pattern):
    with pytest.raises(kind, match=pattern) as caught:
        call()
    if kind is not OverflowError:
        assert_sentence(caught.value)


def test_the_stored_study_is_what_its_function_computes(tmp_path, monkeypatch):
    """One stored cell again; and the file holds every cell once, in order."""
    stored = json.loads(STUDY.read_text(encoding="utf-8"))
    names = ("activation", "architecture", "depth", "width")
    keys = [tuple(cell[name] for name in names) for cell in stored]
    assert len(set(keys)) == len(keys) == 152
    key = ("softplus", "residual", 3, 32)
    fresh = wide_study.study_cell(*wide_study.study_data(), *key)
    kept = stored[keys.index(key)]
    assert set(fresh) == set(kept)
    for name, value in fresh.items():
        assert kept[name] == (value if isinstance(value, str) else pytest.approx(value, rel=5e-3))
    calls = []

    def recorded(X, y, *key):
        calls.append(key)
        return dict(zip(names, key, strict=True))

    monkeypatch.setattr(wide_study, "study_cell", recorded)
    wide_study.write_study(tmp_path / "study.json")
    assert calls == keys
    text = (tmp_path / "study.json").read_text(encoding="utf-8")
    assert [tuple(cell.values()) for cell in json.loads(text)] == keys
    assert text.count("\n") == len(keys) + 2


def test_a_cell_of_the_study_by_hand():
    """Medians over starts, the greatest rate ratio, and λ_0 from the limit."""
    points, targets = wide_study.study_data(4, 3, seed=1)
    cell = wide_study.study_cell(
        points, targets, "tanh", "fully connected", 2, 20, seeds=(3, 5, 8), steps=30
    )
    K = fully_connected_gram(points, activations.tanh, 2).matrix
    least = np.linalg.eigvalsh(K)[0]
    network = WideNetwork(3, 20, 2, activations.tanh)
    rows = []
    for seed in (3, 5, 8):
        w = network.draw(np.random.default_rng([seed]))
        G = network.gram(w, points)
        step = 1 / np.linalg.eigvalsh(G.sum(axis=0))[-1]
        run = train_wide(network, points, targets, w, step, 30)
        bound = run.losses[0] * (1 - step * least / 2) ** np.arange(31)
        start = np.linalg.eigvalsh(G[1])[0] / least
        rows.append((start, run.drift.max() / least, (run.losses / bound)[1:].max()))
    start, drift, ratio = np.array(rows).T
    assert cell["limit_eigenvalue"] == pytest.approx(least, rel=1e-3)
    assert cell["start"] == pytest.approx(np.median(start), rel=1e-3)
    assert cell["drift"] == pytest.approx(np.median(drift), rel=1e-3)
    assert cell["rate_ratio"] == pytest.approx(ratio.max(), rel=1e-3)


def test_the_study_refuses_what_it_does_not_know():
    points, targets = wide_study.study_data()
    with pytest.raises(ValueError, match="architecture must be one of 'fully connected'"):
        wide_study.study_limit(points, activations.tanh, "recurrent", 2)
    with pytest.raises(ValueError, match="no activation 'tanj'"):
        wide_study.study_cell(points, targets, "tanj", "residual", 2, 8)
    with pytest.raises(ValueError, match="samples must be at least 1, but is 0"):
        wide_study.study_data(0)
