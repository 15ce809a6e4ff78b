"""Garbage for every argument of the functions on gradient descent and its step sizes."""

import inspect

import numpy as np
import pytest
from bad_input import garbage_taken

from plcore import derivatives, descent, guarantees, step_sizes, toys
from plcore.objectives import Quadratic

BOWL = Quadratic(np.eye(2))
RUN = descent.gradient_descent(BOWL, [3.0, 4.0], 0.1, 3, record_path=True)
PROMISE = step_sizes.sharp_step_size(25.0, 4.0, 6.0, 2.0, step_size=0.1)
SHARP = {"loss": 1.0, "alpha": 4.0, "radius": 3.0, "curvature": 2.0, "epsilon": 0.2, "best": "rate"}
PAPER = {"loss": 1.0, "alpha": 4.0, "radius": 3.0, "first": 1.0, "second": 2.0, "dimension": 2}
PROFILE = {"loss": 0.1, "radii": [1.0, 2.0], "alphas": [1.0, 0.5], "curvature": 2.0}
BALL = {"objective": toys.parabola, "center": [1.0], "radius": 1.0, "tolerance": 0.1}

CALLS = {
    "gradient_descent": (
        descent.gradient_descent,
        {
            "objective": BOWL,
            "start": [1.0, 1.0],
            "step_size": 0.1,
            "steps": 3,
            "record_path": True,
            "loss_target": 0.1,
        },
    ),
    "DescentResult.steps_to": (RUN.steps_to, {"loss": 1.0}),
    "DescentResult.rate": (RUN.rate, {"first": 0, "last": 3, "floor": 0.0}),
    "paper_step_size": (step_sizes.paper_step_size, {**PAPER, "step_size": 0.1}),
    "sharp_step_size": (step_sizes.sharp_step_size, SHARP),
    "integral_step_size": (step_sizes.integral_step_size, PROFILE),
    "StepSize.steps_to": (PROMISE.steps_to, {"loss": 1.0}),
    "StepSize.loss_bound": (PROMISE.loss_bound, {"steps": 3}),
    "StepSize.distance_bound": (PROMISE.distance_bound, {"steps": 3}),
    "StepSize.check": (PROMISE.check, {"losses": RUN.losses, "path": RUN.path, "limit": [0, 0]}),
    "derivative_bounds": (derivatives.derivative_bounds, BALL),
    "curvature_bound": (derivatives.curvature_bound, BALL),
}

# What of the garbage is good input after all.
ACCEPTED = {
    "gradient_descent step_size": {"a seed", "a cube"},
    "gradient_descent steps": {"a seed"},
    "gradient_descent record_path": {"True"},
    "gradient_descent loss_target": {"a seed", "None"},
    "DescentResult.steps_to loss": {"a seed"},
    "DescentResult.rate last": {"None"},
    "DescentResult.rate floor": {"a seed"},
    "paper_step_size loss": {"a seed"},
    "paper_step_size alpha": {"a seed"},
    "paper_step_size radius": {"a seed"},
    "paper_step_size first": {"a seed"},
    "paper_step_size second": {"a seed"},
    "paper_step_size dimension": {"a seed"},
    "paper_step_size step_size": {"a seed", "None"},
    "sharp_step_size loss": {"a seed"},
    "sharp_step_size alpha": {"a seed"},
    "sharp_step_size radius": {"a seed"},
    "sharp_step_size curvature": {"a seed"},
    "sharp_step_size epsilon": {"None"},
    "integral_step_size loss": {"a seed"},
    "integral_step_size curvature": {"a seed"},
    "StepSize.steps_to loss": {"a seed"},
    "StepSize.loss_bound steps": {"a seed", "a cube"},
    "StepSize.distance_bound steps": {"a seed", "a cube"},
    "StepSize.check limit": {"None"},
    "derivative_bounds radius": {"a seed"},
    "curvature_bound radius": {"a seed"},
}


@pytest.mark.parametrize("label", CALLS)
def test_every_argument_refuses_garbage_in_a_sentence(label):
    function, arguments = CALLS[label]
    function(**arguments)
    for name in arguments:
        assert garbage_taken(function, arguments, name) == ACCEPTED.get(f"{label} {name}", set())


def test_no_public_function_is_forgotten():
    offered = set()
    for module in (derivatives, descent, guarantees, step_sizes):
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing):
                offered.add(name)
            else:
                methods = inspect.getmembers(thing, inspect.isfunction)
                offered |= {f"{name}.{method}" for method, _ in methods if method[0] != "_"}
    assert offered == set(CALLS)
