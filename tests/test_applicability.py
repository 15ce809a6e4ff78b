"""Which theorem applies: each hypothesis is flipped alone, and promises are kept by descent."""

import html

import numpy as np
import pytest
from bad_input import assert_sentence, garbage_taken

from plcore import activations, initialization
from plcore.applicability import applicable_theorems
from plcore.descent import gradient_descent
from plcore.infinite_width import fully_connected_gram, limit_hypotheses
from plcore.lecun_event import best_event, largest_norm_bound, sample_event
from plcore.network import FeedForward
from plcore.objectives import LeastSquares
from plcore.piecewise import piecewise_polynomial
from plcore.positive_start import positive_start_constants

CRITERIA = ("Theorems 1.1 and 1.2", "Theorems 1.1♯ and 1.2♯")
NAMES = (*CRITERIA, "Theorem 2.1", "Theorem 2.8", "Du et al. 2019", "Jakhmola 2025")
LEAKY = activations.smooth_leaky_relu(0.3)


def data(n=4, d=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X / np.linalg.norm(X, axis=1, keepdims=True), rng.standard_normal(n)


X, Y = data()
NET = FeedForward((6, 5, 5, 1), activations.tanh)
LECUN = initialization.lecun(NET, np.random.default_rng(0))


def failing(check):
    return [item.name for item in check.hypotheses.failures]


def test_every_theorem_is_listed_once_and_found_by_name():
    found = applicable_theorems(NET, X, Y, LECUN)
    assert tuple(check.theorem for check in found.items) == NAMES
    for check in found.items:
        assert found[check.theorem] is check
        assert check.verdict in ("applies", "open", "not shown", "does not apply")
        assert check.hypotheses.theorem.removeprefix("the paper's ") == check.theorem
    with pytest.raises(ValueError, match="theorem must be one of 'Theorems"):
        found["Theorem 3"]


def test_without_a_start_network_and_data_are_judged():
    found = applicable_theorems(NET, X, Y)
    assert [found[name].verdict for name in NAMES] == [
        *("open", "open", "applies", "does not apply", "open", "does not apply")
    ]
    assert found.that_apply == ("Theorem 2.1",)
    needed = positive_start_constants(NET, X, Y).required_scale
    assert f"A > {needed:.4g}" in found["Theorem 2.1"].promise
    leaky = applicable_theorems(FeedForward((6, 5, 1), LEAKY), X, Y)
    assert leaky["Theorem 2.8"].verdict == "applies"
    log10 = best_event(FeedForward((6, 5, 1), LEAKY), X, Y).log10
    assert f"10^{log10:.4g}" in leaky["Theorem 2.8"].promise


@pytest.mark.parametrize("n", [4, 9])
def test_a_trained_point_is_certified_and_descent_keeps_the_promise(n):
    """For n ≤ d and for n > d; before training nothing is shown."""
    inputs, targets = data(n)
    problem = LeastSquares(NET, inputs, targets)
    start = applicable_theorems(NET, inputs, targets, LECUN)
    assert [start[name].verdict for name in CRITERIA] == ["not shown", "not shown"]
    w = gradient_descent(problem, LECUN, 0.05, 20_000, loss_target=1e-16).final
    found = applicable_theorems(NET, inputs, targets, w)
    assert [found[name].verdict for name in CRITERIA] == ["applies", "applies"]
    largest = float(found[CRITERIA[1]].promise.split("up to ")[1].rstrip("."))
    losses = gradient_descent(problem, w, 0.99 * largest, 2000).losses
    assert losses[-1] < 1e-3 * losses[0]


def test_the_integral_criterion_is_reached_before_the_paper_s():
    """Along a run, (T2) is shown first; once shown, each stays shown."""
    problem = LeastSquares(NET, X, Y)
    run = gradient_descent(problem, LECUN, 0.05, 120, record_path=True)
    verdicts = [
        [applicable_theorems(NET, X, Y, w)[name].verdict == "applies" for name in CRITERIA]
        for w in run.path[0:121:10]
    ]
    paper, integral = np.array(verdicts).T
    assert (integral >= paper).all()
    assert integral.sum() > paper.sum() > 0
    for one in (paper, integral):
        assert (np.diff(one.astype(int)) >= 0).all()


def test_rough_activations_have_no_criterion():
    rough = FeedForward((6, 5, 5, 1), activations.relu)
    found = applicable_theorems(rough, X, Y, LECUN)
    for name in CRITERIA:
        assert found[name].verdict == "does not apply"
        assert failing(found[name]) == ["activations twice continuously differentiable"]


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_positive_start_on_either_side_of_the_constant(factor):
    needed = positive_start_constants(NET, X, Y).required_scale
    w = initialization.positive(NET, factor * needed)
    found = applicable_theorems(NET, X, Y, w)
    if factor > 1:
        assert found["Theorem 2.1"].verdict == "applies"
        # Its criterion is (1.1), which implies (T2).
        assert found[CRITERIA[0]].verdict == found[CRITERIA[1]].verdict == "applies"
    else:
        assert found["Theorem 2.1"].verdict == "not shown"
        assert failing(found["Theorem 2.1"]) == ["A above A₀"]


def test_broken_hypotheses_of_the_positive_start():
    w = initialization.positive(NET, 1e4)
    layers = [(W.copy(), b.copy()) for W, b in NET.layers(w)]
    layers[0][0][0, 0] = 0.1
    found = applicable_theorems(NET, X, Y, NET.pack(layers))["Theorem 2.1"]
    assert (found.verdict, failing(found)) == ("does not apply", ["first-layer weights zero"])
    many = data(7)
    found = applicable_theorems(NET, *many, w)["Theorem 2.1"]
    assert (found.verdict, failing(found)) == ("does not apply", ["inputs linearly independent"])


def test_the_event_of_the_random_start():
    net = FeedForward((6, 3, 1), LEAKY)
    event = best_event(net, X, Y)
    for w in sample_event(net, event.low, event.norm_bound, np.random.default_rng(0), 5):
        found = applicable_theorems(net, X, Y, w)
        assert found["Theorem 2.8"].verdict == "applies"
        assert found[CRITERIA[0]].verdict == "applies"
    layers = [(W.copy(), b.copy()) for W, b in net.layers(w)]
    low = min(W.min() for W, _ in layers[1:])
    bound = largest_norm_bound(net, X, Y, low)
    size = np.linalg.norm(layers[0][0])
    for factor, verdict in ((1 - 1e-6, "applies"), (1 + 1e-6, "not shown")):
        moved = [(layers[0][0] * factor * bound / size, layers[0][1]), *layers[1:]]
        found = applicable_theorems(net, X, Y, net.pack(moved))["Theorem 2.8"]
        assert found.verdict == verdict
    layers[1][1][0] = 1e-9
    found = applicable_theorems(net, X, Y, net.pack(layers))["Theorem 2.8"]
    assert (found.verdict, failing(found)) == ("does not apply", ["biases zero"])
    layers[1][1][0] = 0.0
    layers[1][0][0, 0] = 2.1 * low
    found = applicable_theorems(net, X, Y, net.pack(layers))["Theorem 2.8"]
    assert failing(found) == ["W_2 … W_L in a box [a, 2a]"]


def with_row(row):
    moved = X.copy()
    moved[1] = row
    return moved


@pytest.mark.parametrize(
    ("inputs", "activation", "crossed"),
    [
        (X, activations.tanh, []),
        (X, activations.softplus, []),
        (1.001 * X, activations.tanh, ["inputs of norm one"]),
        (with_row(X[0]), activations.tanh, ["no two inputs parallel"]),
        (with_row(-X[0]), activations.tanh, ["no two inputs parallel"]),
        (with_row(2 * X[0]), activations.tanh, ["inputs of norm one", "no two inputs parallel"]),
        (with_row(0.0), activations.tanh, ["inputs of norm one", "no two inputs parallel"]),
        (X[:1], activations.gelu, []),
        (X, activations.relu, ["activation"]),
        (X, activations.squared_relu, ["activation"]),
        (X, activations.identity, ["activation"]),
        (X, piecewise_polynomial([], [[0.0, 1.0, 1.0]]), ["activation"]),
    ],
)
def test_the_hypotheses_of_the_wide_network(inputs, activation, crossed):
    found = [item.name.split(" Lip")[0] for item in limit_hypotheses(inputs, activation).failures]
    assert found == crossed
    net = FeedForward((6, 5, 5, 1), activation)
    check = applicable_theorems(net, inputs, Y[: len(inputs)])["Du et al. 2019"]
    assert check.verdict == ("does not apply" if crossed else "open")
    assert [name.split(" Lip")[0] for name in failing(check)] == crossed
    if not crossed:
        assert "λ₀ > 0" in [item.name for item in check.hypotheses.items]
        assert "The width must exceed" in check.unchecked[1]
    if crossed == ["inputs of norm one"]:
        with pytest.raises(ValueError, match=r"2019 does not apply\..*divide each by"):
            limit_hypotheses(inputs, activation).require()


def test_unequal_widths_are_not_theirs():
    found = applicable_theorems(FeedForward((6, 5, 4, 1), activations.tanh), X, Y)
    assert failing(found["Du et al. 2019"]) == ["hidden layers of one width and activation"]


@pytest.mark.parametrize(
    ("activation", "inside"),
    [
        (activations.relu, True),
        (activations.sigmoid, True),
        (activations.shifted_sigmoid, True),
        (activations.leaky_relu(0.2), True),
        (activations.identity, True),
        (piecewise_polynomial([0.0], [[0.0, 0.5], [0.0, 0.5, 1.0]]), True),
        (piecewise_polynomial([0.0], [[0.0], [0.0, 0.0, 1.0]]), False),
        (activations.squared_relu, False),
        (activations.tanh, False),
        (activations.smooth_leaky_relu(0.1), False),
    ],
    ids=str,
)
def test_the_class_of_activations_in_jakhmola_s_abstract(activation, inside):
    found = applicable_theorems(FeedForward((6, 5, 1), activation), X, Y)["Jakhmola 2025"]
    assert found.verdict == ("open" if inside else "does not apply")
    named = "activation ReLU, sigmoid or piecewise non-zero polynomial"
    assert failing(found) == ([] if inside else [named])


def test_rank_and_number_of_parameters():
    net = FeedForward((6, 1, 1), activations.sigmoid)  # p = 9
    w = initialization.lecun(net, np.random.default_rng(1))
    assert failing(applicable_theorems(net, *data(9), w)["Jakhmola 2025"]) == []
    found = applicable_theorems(net, *data(10), w)["Jakhmola 2025"]
    assert failing(found) == ["p ≥ n", "K(w) of full rank at the start"]
    found = applicable_theorems(net, with_row(X[0]), Y, w)["Jakhmola 2025"]
    assert failing(found) == ["K(w) of full rank at the start"]
    dead = np.zeros(net.parameter_count)
    assert "Numerical rank 1 of 4" in str(applicable_theorems(net, X, Y, dead)["Jakhmola 2025"])


def test_text_and_table_show_every_row():
    found = applicable_theorems(NET, X, Y, LECUN)
    text, page = str(found), found._repr_html_()
    for check in found.items:
        assert f"{check.theorem}: {check.verdict}" in text
        for item in check.hypotheses.items:
            assert item.detail in text
            assert html.escape(item.name) in page
        assert check.promise in text
        assert str(check).startswith(f"{check.theorem}: {check.verdict}")
    assert "4 S(w) &lt; r²" in page
    assert page.count("<tr>") == len(NAMES)
    assert "– criterion" in text
    assert "✗ first-layer weights zero" in text


CALLS = [
    (applicable_theorems, {"network": NET, "X": X, "y": Y, "w": LECUN}),
    (limit_hypotheses, {"X": X, "activation": activations.tanh}),
]
ACCEPTED = {"applicable_theorems w": {"None"}}


@pytest.mark.parametrize(("function", "arguments"), CALLS)
def test_every_argument_refuses_garbage_in_a_sentence(function, arguments):
    function(**arguments)
    for name in arguments:
        expected = ACCEPTED.get(f"{function.__name__} {name}", set())
        assert garbage_taken(function, arguments, name) == expected


def test_data_that_do_not_fit_are_refused():
    for arguments in ((X, Y[:-1]), (X[:, :2], Y), (X, Y, LECUN[:-1]), (X, Y, LECUN[None])):
        with pytest.raises(ValueError, match="must have") as caught:
            applicable_theorems(NET, *arguments)
        assert_sentence(caught.value)


def test_the_table_lists_every_hypothesis_below_its_theorem():
    found = applicable_theorems(NET, X, Y, LECUN)
    for text in (str(found), html.unescape(found._repr_html_())):
        for check in found.items:
            block = text.split(check.theorem, 1)[1]
            for item in check.hypotheses.items:
                assert f"{item.name}: {item.detail}" in block
            for sentence in check.unchecked:
                assert sentence in block


def test_a_limit_that_is_not_shown_positive_is_no_hypothesis_met():
    """Two inputs that a rounding tells apart: λ₀ is below the error of its computation."""
    close = X.copy()
    close[1] = close[0] * np.cos(3e-8) + np.linalg.svd(close)[2][-1] * np.sin(3e-8)
    check = applicable_theorems(NET, close, Y)["Du et al. 2019"]
    assert failing(check)[-1] == "λ₀ > 0"
    assert len(check.unchecked) == 1


def test_two_activations_are_not_theirs():
    net = FeedForward((6, 5, 5, 1), [activations.tanh, activations.sigmoid])
    found = applicable_theorems(net, X, Y)["Du et al. 2019"]
    assert "hidden layers of one width and activation" in failing(found)


def test_the_numbers_in_the_details():
    """The width that is asked for, 2^L n⁴/λ₀⁴ for L hidden layers, and the kernel's spectrum."""
    found = applicable_theorems(NET, X, Y, LECUN)
    least = fully_connected_gram(X, activations.tanh, 2).least_eigenvalue
    width = 2**2 * max((4 / least) ** 4, (4 / least) ** 2)
    assert f"≈ {width:.1e}, and m = 5." in found["Du et al. 2019"].unchecked[1]
    spectrum = np.linalg.eigvalsh(LeastSquares(NET, X, Y).kernel(LECUN))
    assert spectrum[1] > 1.1 * spectrum[0]
    detail = found["Jakhmola 2025"].hypotheses.items[-1].detail
    assert detail == f"Numerical rank 4 of 4; λ_min = {spectrum[0]:.3g}."
