"""What architectures and their loss refuse, and in which words."""

import numpy as np
import pytest
from bad_input import assert_sentence, garbage_taken

from plcore import activations
from plcore.architectures import ConvolutionalResidual, FullyConnected, Residual, SquaredLoss
from plcore.network import FeedForward

NET = Residual(3, 4, 1, activations.tanh)
RNG = np.random.default_rng(0)
W, X, Y = RNG.standard_normal(NET.parameter_count), RNG.standard_normal((5, 3)), np.ones(5)
LOSS = SquaredLoss(NET, X, Y)
LINE = {
    "positions": 3,
    "channels": 1,
    "filters": 2,
    "window": 3,
    "blocks": 1,
    "activation": activations.tanh,
    "branch_scale": 0.5,
    "biases": True,
}
PLAIN = {"inputs": 3, "width": 4, "blocks": 1, "activation": activations.tanh}
CALLS = [
    (FullyConnected, {"widths": (3, 4, 1), "activation": activations.tanh, "biases": True}),
    (Residual, {**PLAIN, "branch_scale": 0.5, "biases": True}),
    (ConvolutionalResidual, LINE),
    (NET.forward, {"w": W, "X": X}),
    (NET.jacobian, {"w": W, "X": X}),
    (NET.check_inputs, {"X": X}),
    (NET.check_parameters, {"w": W}),
    (NET.gaussian_start, {"rng": RNG, "runs": 2, "scaling": "he", "bias_deviation": 1.0}),
    (SquaredLoss, {"network": NET, "X": X, "y": Y}),
    (LOSS.check_point, {"x": W}),
    (LOSS.value, {"x": W}),
    (LOSS.gradient, {"x": W}),
    (LOSS.residual, {"w": W}),
    (LOSS.jacobian, {"w": W}),
    (LOSS.kernel, {"w": W}),
    (LOSS.hessian_vector, {"x": W, "v": W}),
]
TAKEN = {
    "biases": {"True"},
    "branch_scale": {"None", "a seed"},
    "bias_deviation": {"a seed"},
    "runs": {"a seed", "an empty list"},
    **{
        name: {"a seed"}
        for name in ("inputs", "width", "blocks", "positions", "channels", "filters")
    },
}


@pytest.mark.parametrize(("function", "arguments"), CALLS)
def test_garbage_is_refused_in_one_sentence(function, arguments):
    function(**arguments)
    for name in arguments:
        assert garbage_taken(function, arguments, name) == TAKEN.get(name, set()), name


ROWS = [
    (lambda: ConvolutionalResidual(**{**LINE, "window": 2}), "window must be odd"),
    (lambda: FullyConnected((3, 4, 2), activations.tanh), "last width must be 1"),
    (lambda: NET.forward(W[:-1], X), "p = 41 entries"),
    (lambda: NET.forward(W, X[:, :2]), "d = 3 columns"),
    (lambda: NET.forward(np.ones((2, 41)), np.ones((3, 5, 3))), "broadcast"),
    (lambda: SquaredLoss(NET, X, Y[:4]), "5 entries"),
    (lambda: SquaredLoss(NET, np.ones((2, 5, 3)), np.ones((3, 5))), "broadcast"),
    (lambda: SquaredLoss(NET, np.ones((2, 5, 3)), Y).value(np.ones((3, 41))), "leading axes of w"),
    (lambda: NET.gaussian_start(RNG, scaling="xavier"), "'standard', 'lecun', 'he'"),
]


@pytest.mark.parametrize(("call", "pattern"), ROWS)
def test_what_does_not_fit_is_named(call, pattern):
    with pytest.raises(ValueError, match=pattern) as caught:
        call()
    assert_sentence(caught.value)
    with pytest.raises(TypeError, match="network must be of type Architecture"):
        SquaredLoss(FeedForward((3, 4, 1), activations.tanh), X, Y)
