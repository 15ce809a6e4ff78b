"""Bad input to every public function: one clear sentence, as a ValueError or a TypeError.

To add a function, append to these lists, or to two of the same kind in its own test file:

* `CALLS`: the function with arguments that work.  Each argument is then replaced by every piece of
  garbage in `bad_input`; the call must refuse it, or `ACCEPTED` says what it takes.
* `ROWS`: ``(call, exception, pattern)`` for what is wrong in a way of its own, such as shapes that
  do not match; the pattern says what the sentence has to name.

A module is entered in `MODULES`; then no public function of it can be forgotten.
"""

import inspect
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from bad_input import Ill, assert_sentence, garbage_taken

from plcore import activations, checks, initialization, kernel, network, objectives, results
from plcore.activations import Activation
from plcore.network import FeedForward
from plcore.objectives import LeastSquares, Quadratic
from plcore.results import Bound

MODULES = (activations, checks, initialization, kernel, network, objectives, results)
# Called with what the package itself has checked or made.
TRUSTED = {
    "activations.Activation.evaluate",
    "activations.Activation.shifted",
    "kernel.trusted_kernel",
    "network.FeedForward.propagate",
    "network.FeedForward.pull_back",
    "network.FeedForward.pull_back_tangent",
    "network.FeedForward.push_forward",
    "network.FeedForward.signals",
    "network.Trace",
    "checks.common_shape",
    "checks.room",
    "checks.shown",
    "checks.within_range",
    "results.Estimate",
    "results.Result",
    "results.format_value",
}

RNG = np.random.default_rng(0)
TANH = activations.tanh
NET = FeedForward((3, 4, 2, 1), TANH)
P = NET.parameter_count
W, X, Y = RNG.standard_normal(P), RNG.standard_normal((5, 3)), RNG.standard_normal(5)
LOSS, BOWL = LeastSquares(NET, X, Y), Quadratic(np.eye(2))
TABLE = {
    "name": "mine",
    "functions": TANH.functions,
    "extrema": TANH.extrema,
    "limits": TANH.limits,
}
DATA = {"network": NET, "w": W, "X": X}


# fmt: off
CALLS = {
    "activations.Activation": (Activation, TABLE),
    "activations.Activation.value": (TANH.value, {"u": X}),
    "activations.Activation.derivative": (TANH.derivative, {"u": X}),
    "activations.Activation.second_derivative": (TANH.second_derivative, {"u": X}),
    "activations.Activation.range": (TANH.range, {"order": 1, "low": -1.0, "high": 2.0}),
    "activations.Activation.magnitude": (TANH.magnitude, {"order": 1, "radius": 2.0}),
    "activations.smooth_leaky_relu": (activations.smooth_leaky_relu, {"s": 0.5}),
    "activations.leaky_relu": (activations.leaky_relu, {"s": 0.5}),
    "activations.named": (activations.named, {"name": "tanh"}),
    "checks.finite_array": (partial(checks.finite_array, name="it"), {"value": X}),
    "checks.number": (partial(checks.number, name="it"), {"value": 1.0}),
    "checks.positive_number": (partial(checks.positive_number, name="it"), {"value": 1.0}),
    "checks.nonnegative_number": (partial(checks.nonnegative_number, name="it"), {"value": 1.0}),
    "checks.fraction": (partial(checks.fraction, name="it"), {"value": 0.5}),
    "checks.positive_integer": (partial(checks.positive_integer, name="it"), {"value": 1}),
    "checks.sequence": (partial(checks.sequence, name="it", of="numbers"), {"value": (1, 2)}),
    "checks.shape": (partial(checks.shape, name="it"), {"value": (1, 2)}),
    "checks.flag": (partial(checks.flag, name="it"), {"value": False}),
    "checks.generator": (checks.generator, {"value": RNG}),
    "checks.instance": (partial(checks.instance, kind=FeedForward, name="it"), {"value": NET}),
    "checks.one_of": (partial(checks.one_of, options=("a", "b"), name="it"), {"value": "a"}),
    "initialization.positive": (
        initialization.positive, {"network": NET, "output_scale": 1.0, "hidden": 2.0}),
    "initialization.lecun": (initialization.lecun, {"network": NET, "rng": RNG, "runs": 2}),
    "initialization.absolute_lecun": (
        initialization.absolute_lecun, {"network": NET, "rng": RNG, "runs": 2}),
    "initialization.conditioned_lecun": (
        initialization.conditioned_lecun,
        {"network": NET, "low": 0.5, "rng": RNG, "runs": 2, "high": 0.9}),
    "kernel.tangent_kernel": (kernel.tangent_kernel, DATA),
    "kernel.kernel_by_layer": (kernel.kernel_by_layer, DATA),
    "kernel.paper_lower_bound": (kernel.paper_lower_bound, DATA),
    "kernel.schur_lower_bound": (kernel.schur_lower_bound, DATA),
    "kernel.least_eigenvalue": (kernel.least_eigenvalue, {"K": np.eye(3)}),
    "kernel.extreme_eigenvalues": (kernel.extreme_eigenvalues, {"K": np.eye(3)}),
    "network.FeedForward": (FeedForward, {"widths": (3, 4, 1), "activation": TANH}),
    "network.FeedForward.layers": (NET.layers, {"w": W}),
    "network.FeedForward.pack": (NET.pack, {"layers": NET.layers(W)}),
    "network.FeedForward.forward": (NET.forward, {"w": W, "X": X}),
    "network.FeedForward.jacobian": (NET.jacobian, {"w": W, "X": X}),
    "network.FeedForward.check_inputs": (NET.check_inputs, {"X": X}),
    "network.FeedForward.check_parameters": (NET.check_parameters, {"w": W}),
    "network.FeedForward.check_pair": (NET.check_pair, {"w": W, "X": X}),
    "objectives.LeastSquares": (LeastSquares, {"network": NET, "X": X, "y": Y}),
    "objectives.LeastSquares.residual": (LOSS.residual, {"w": W}),
    "objectives.LeastSquares.jacobian": (LOSS.jacobian, {"w": W}),
    "objectives.LeastSquares.kernel": (LOSS.kernel, {"w": W}),
    "objectives.LeastSquares.check_point": (LOSS.check_point, {"x": W}),
    "objectives.Objective.value": (LOSS.value, {"x": W}),
    "objectives.Objective.gradient": (LOSS.gradient, {"x": W}),
    "objectives.Objective.value_and_gradient": (LOSS.value_and_gradient, {"x": W}),
    "objectives.Objective.hessian_vector": (LOSS.hessian_vector, {"x": W, "v": W}),
    "objectives.Objective.hessian": (LOSS.hessian, {"x": W}),
    "objectives.Objective.ratio": (LOSS.ratio, {"x": W}),
    "objectives.Objective.check_point": (BOWL.check_point, {"x": [1.0, 2.0]}),
    "objectives.Quadratic": (Quadratic, {"matrix": np.eye(2)}),
    "results.Bound": (
        partial(Bound, value=1.0, quantity="q", reason="r"), {"direction": "lower"}),
}
# fmt: on

# What of the garbage is good input after all.
ANY_ARRAY = {"an empty list", "an empty array", "a seed", "negative", "half", "a cube"}
ACCEPTED = {
    "activations.Activation name": {"text"},
    "activations.Activation.value u": ANY_ARRAY,
    "activations.Activation.derivative u": ANY_ARRAY,
    "activations.Activation.second_derivative u": ANY_ARRAY,
    "activations.Activation.range low": ANY_ARRAY - {"a seed"} | {"minus infinity"},
    "activations.Activation.range high": ANY_ARRAY - {"negative"},
    "activations.Activation.magnitude radius": ANY_ARRAY - {"negative", "half"},
    "checks.finite_array value": {"a seed", "negative", "half", "a cube"},
    "checks.number value": {"a seed", "negative", "half"},
    "checks.positive_number value": {"a seed"},
    "checks.nonnegative_number value": {"a seed"},
    "checks.positive_integer value": {"a seed"},
    "checks.sequence value": {
        *("an empty list", "an empty array", "an array of nan", "a complex array", "ragged"),
        *("a boolean array", "strings", "objects", "a cube"),
    },
    "checks.shape value": {"a seed", "an empty list"},
    "checks.flag value": {"True"},
    "initialization.positive output_scale": {"a seed"},
    "initialization.positive hidden": {"a seed", "None"},
    "initialization.lecun runs": {"a seed", "an empty list"},
    "initialization.absolute_lecun runs": {"a seed", "an empty list"},
    "initialization.conditioned_lecun runs": {"a seed", "an empty list"},
    "initialization.conditioned_lecun high": {"a seed", "None"},
}


@pytest.mark.parametrize("label", CALLS)
def test_every_argument_refuses_garbage_in_a_sentence(label):
    function, arguments = CALLS[label]
    function(**arguments)
    for name in arguments:
        assert garbage_taken(function, arguments, name) == ACCEPTED.get(f"{label} {name}", set())


def public_functions(module):
    """Labels of the functions, classes and methods that a module offers."""
    prefix = module.__name__.rpartition(".")[2]
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing):
            if not inspect.isabstract(thing):
                yield f"{prefix}.{name}"
            for method, value in vars(thing).items():
                if inspect.isfunction(value) and not method.startswith("_"):
                    yield f"{prefix}.{name}.{method}"
        elif inspect.isfunction(thing):
            yield f"{prefix}.{name}"


def test_no_public_function_is_forgotten():
    offered = {label for module in MODULES for label in public_functions(module)}
    assert offered == set(CALLS) | TRUSTED
    assert not set(CALLS) & TRUSTED
    labels = {f"{label} {name}" for label in CALLS for name in CALLS[label][1]}
    assert set(ACCEPTED) <= labels


def pairs(*changes):
    """The parameters of NET as pairs, with some replaced: (index, pair)."""
    layers = list(NET.layers(W))
    for index, pair in changes:
        layers[index] = pair
    return layers


def table(**changes):
    return Activation(**{**TABLE, **changes})


ROWS = [
    # activations
    (lambda: table(extrema=()), ValueError, "extrema must have three entries.*but has 0"),
    (lambda: table(functions=(1, 2, 3)), TypeError, "functions must be callable, but one is 1"),
    (lambda: TANH.value([np.nan, 1.0]), ValueError, r"u must be finite, but is nan at index \(0,"),
    (lambda: TANH.range(3, 0, 1), ValueError, "order must be 0, 1 or 2, but is 3"),
    (lambda: TANH.range(1.0, 0, 1), TypeError, "order must be an integer, but is 1.0"),
    (lambda: TANH.range(1, 2, 1), ValueError, r"low must be at most high.*\[2, 1\]"),
    (lambda: TANH.range(1, [0, 5], [1, 4]), ValueError, r"\[5, 4\]"),
    (lambda: TANH.range(1, [0, 1], [1, 2, 3]), ValueError, r"low and high.*\(2,\).*\(3,\)"),
    (lambda: TANH.range(1, np.nan, 1), ValueError, "low must not be NaN"),
    (lambda: TANH.magnitude(1, -1.0), ValueError, "radius must not be negative, but.*-1"),
    (lambda: activations.relu.range(2, 0, 1), ValueError, "relu has 0 continuous.*order 2"),
    (lambda: activations.smooth_leaky_relu(0.0), ValueError, "s must.*between 0 and 1, but is 0"),
    (lambda: activations.leaky_relu(1), ValueError, "s must.*between 0 and 1, but is 1"),
    (lambda: activations.named("tanj"), ValueError, "no activation 'tanj'; known are.*tanh"),
    (lambda: activations.named("leaky_relu(2)"), ValueError, "bad slope: s must.*is 2"),
    (lambda: activations.named("leaky_relu(1e)"), ValueError, "bad slope"),
    (lambda: activations.named("tanh(0.5)"), ValueError, "no activation"),
    # network
    (lambda: FeedForward((3, 0, 1), TANH), ValueError, "each width must be at least 1, but is 0"),
    (lambda: FeedForward((3, -4, 1), TANH), ValueError, "width must be at least 1, but is -4"),
    (lambda: FeedForward((3, 4.0, 1), TANH), TypeError, "width must be an integer, but is 4.0"),
    (lambda: FeedForward((3, True, 1), TANH), TypeError, "width must be an integer.*True"),
    (lambda: FeedForward((3, 4, 2), TANH), ValueError, "last width must be 1.*but is 2"),
    (lambda: FeedForward((3, 1), TANH), ValueError, r"at least one hidden width.*\(3, 1\)"),
    (lambda: FeedForward("341", TANH), TypeError, "widths must be a sequence.*'341'"),
    (lambda: FeedForward((3, 4, 1), "tanh"), TypeError, "activation must.*'tanh'"),
    (lambda: FeedForward((3, 4, 1), ["tanh"]), TypeError, "each activation.*Activation.*'tanh'"),
    (lambda: FeedForward((3, 4, 1), [TANH] * 2), ValueError, "each of the 1 hidden.*are 2"),
    (lambda: NET.layers(W[:-1]), ValueError, f"p = {P} entries.*widths.*but has shape"),
    (lambda: NET.layers(np.float64(1.0)), ValueError, "at least 1 axes"),
    (lambda: NET.pack(NET.layers(W)[:2]), ValueError, "must be 3 pairs.*but are 2"),
    (lambda: NET.pack(pairs((0, W))), ValueError, f"Entry 1 .*pair, not {P} things"),
    (lambda: NET.pack(pairs((0, 1.0))), TypeError, "entry 1 of layers must be .*1.0"),
    (lambda: NET.pack(pairs((0, (np.eye(3), [0] * 4)))), ValueError, "W_1 must be 4 × 3"),
    (lambda: NET.pack(pairs((1, (np.ones((2, 4)), [0])))), ValueError, "b_2 must have 2 entries"),
    (
        lambda: NET.pack(pairs((0, (np.ones((2, 4, 3)), np.ones((3, 4)))))),
        ValueError,
        r"leading axes.*\(2,\) for W_1.*\(3,\) for b_1",
    ),
    (lambda: NET.forward(W[:-1], X), ValueError, f"w must have p = {P} entries"),
    (lambda: NET.forward(W, X[:, :2]), ValueError, r"X must have d = 3 columns, not.*\(5, 2\)"),
    (lambda: NET.forward(W, X[0]), ValueError, r"X must have at least 2 axes, not.*\(3,\)"),
    (lambda: NET.forward(W, X[:0]), ValueError, r"X must not be empty.*\(0, 3\)"),
    (lambda: NET.forward(np.ones((2, P)), np.ones((3, 5, 3))), ValueError, r"w and X.*\(2,\)"),
    (lambda: NET.jacobian(np.ones((2, P)), np.ones((3, 5, 3))), ValueError, "w and X must broad"),
    (lambda: NET.forward(W, [[1, 2, 3], [1, np.inf, 3]]), ValueError, r"inf at index \(1, 1\)"),
    # kernel
    (lambda: kernel.tangent_kernel("net", W, X), TypeError, "network must be of type FeedForward"),
    (lambda: kernel.tangent_kernel(NET, W[1:], X), ValueError, f"p = {P}"),
    (
        lambda: kernel.schur_lower_bound(NET, np.ones((2, P)), np.ones((3, 5, 3))),
        ValueError,
        "leading axes of w and X",
    ),
    (lambda: kernel.least_eigenvalue(np.ones((2, 3))), ValueError, r"K must be square.*\(2, 3\)"),
    (lambda: kernel.extreme_eigenvalues(np.ones(3)), ValueError, "K must have at least 2 axes"),
    # initialization
    (lambda: initialization.positive(NET, 0.0), ValueError, "output_scale must be positive.*0.0"),
    (lambda: initialization.positive(NET, 1.0, -1), ValueError, "hidden must be positive"),
    (lambda: initialization.positive(NET, [1.0]), TypeError, "output_scale must be a real number"),
    (lambda: initialization.lecun(NET, 0), TypeError, r"rng must be.*default_rng\(0\), but is 0"),
    (
        lambda: initialization.lecun(NET, np.random.RandomState(0)),
        TypeError,
        "rng must be a numpy.random.Generator",
    ),
    (lambda: initialization.lecun(NET, RNG, (2, 0)), ValueError, "length in runs.*but is 0"),
    (lambda: initialization.lecun(NET, RNG, 2.0), TypeError, "runs must be an integer or a tuple"),
    (lambda: initialization.conditioned_lecun(NET, -1.0, RNG), ValueError, "low must be positive"),
    (
        lambda: initialization.conditioned_lecun(NET, 0.5, RNG, high=0.5),
        ValueError,
        "high must be greater than low, but high = 0.5 and low = 0.5",
    ),
    # objectives
    (lambda: LeastSquares(NET, X, Y[:-1]), ValueError, r"X has 5 rows and y has shape \(4,\)"),
    (lambda: LeastSquares(NET, X, Y[:, None]), ValueError, r"5 rows and y has shape \(5, 1\)"),
    (lambda: LeastSquares(NET, X.T, Y), ValueError, "X must have d = 3 columns"),
    (lambda: LeastSquares(NET, X[:0], Y[:0]), ValueError, "X must not be empty"),
    (lambda: LeastSquares(NET, X, [1, 2, 3, 4, np.nan]), ValueError, r"y must be finite.*\(4,\)"),
    (lambda: LeastSquares(NET, X, list("abcde")), TypeError, "y must be an array of real numbers"),
    (lambda: LeastSquares(NET, X, Y > 0), TypeError, "y must be an array of real.*bool"),
    (lambda: LeastSquares(TANH, X, Y), TypeError, "network must be of type FeedForward"),
    (
        lambda: LeastSquares(NET, np.ones((2, 5, 3)), np.ones((3, 5))),
        ValueError,
        r"leading axes of X and y must match.*\(2, 5, 3\).*\(3, 5\)",
    ),
    (lambda: LOSS.value(W[:-1]), ValueError, f"w must have p = {P} entries.*but has shape"),
    (lambda: LOSS.gradient(np.append(W, 0)), ValueError, f"w must have p = {P} entries"),
    (lambda: LOSS.value(W.astype(complex)), TypeError, "w must be an array of real.*complex"),
    (
        lambda: LeastSquares(NET, np.ones((2, 5, 3)), Y).value(np.ones((3, P))),
        ValueError,
        r"leading axes of w must match those of the data, \(2,\)",
    ),
    (lambda: LOSS.hessian_vector(W, W[1:]), ValueError, f"v must have p = {P} entries"),
    (
        lambda: LOSS.hessian_vector(np.ones((2, P)), np.ones((3, P))),
        ValueError,
        r"leading axes of x and v.*\(2,\) for x and \(3,\) for v",
    ),
    (lambda: BOWL.value([1.0]), ValueError, "x must have p = 2 entries"),
    (lambda: BOWL.value(1.0), ValueError, "x must have at least 1 axes"),
    (lambda: Quadratic([[1, 2], [3, 4]]), ValueError, "matrix must be symmetric"),
    (lambda: Quadratic([[1, 2, 3]]), ValueError, r"matrix must be square.*\(1, 3\)"),
    (lambda: Quadratic(-np.eye(2)), ValueError, "positive semidefinite.*eigenvalue -1"),
    (lambda: Quadratic([1.0]), ValueError, "matrix must have 2 axes"),
    # results and checks
    (lambda: Bound(1.0, "below", "q", "r"), ValueError, "direction of a bound must be 'lower' or"),
    (lambda: checks.one_of("c", ("a", "b"), "method"), ValueError, "method.*'a', 'b', but is 'c'"),
    (lambda: checks.number("1.0", "step_size"), TypeError, "step_size must be a real.*'1.0'"),
    (lambda: checks.flag(1, "verbose"), TypeError, "verbose must be True or False, but is 1"),
    (lambda: checks.finite_array(Ill(), "w"), TypeError, r"cannot be read as one: Can't call num"),
    (lambda: checks.finite_array([[1], [1, 2]], "w"), TypeError, "w must.*ragged"),
    (
        lambda: checks.finite_array(1.0, "w", last=2),
        ValueError,
        "w must have 2 entries on its last",
    ),
]


@pytest.mark.parametrize(
    ("call", "exception", "pattern"),
    ROWS,
    ids=[f"line_{row[0].__code__.co_firstlineno}" for row in ROWS],
)
def test_refusal_says_what_was_expected_and_what_came(call, exception, pattern):
    with pytest.raises(exception, match=pattern) as caught:
        call()
    assert_sentence(caught.value)


def test_numbers_of_every_kind_are_numbers():
    """What stands for a number is taken: Python's, numpy's, fractions, arrays without axes."""
    for value in (2, 2.0, np.float32(2), np.int8(2), Fraction(2), np.array(2.0), np.array(2)):
        assert checks.number(value, "it") == 2.0
    for value in (2, np.int64(2), np.uint8(2), np.array(2)):
        assert checks.positive_integer(value, "it") == 2
    assert checks.shape(np.int64(3), "it") == (3,)
