"""What the functions of both criteria refuse, and in which words."""

import numpy as np
import pytest

from plcore import toys
from plcore.criterion import (
    criterion_from_bounds,
    integral_criterion_from_bounds,
    pl_constant,
    pl_constant_search,
)
from plcore.objectives import Quadratic
from plcore.regions import region_of_starts


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: pl_constant(Quadratic(np.eye(2)), [0.0, 1.0], 1.0), TypeError, "bounds on boxes"),
        (lambda: pl_constant("f", [0.0], 1.0), TypeError, "bounds on boxes"),
        (lambda: pl_constant(toys.ring, [[0.0, 1.0]], 1.0), ValueError, "center must be one point"),
        (lambda: pl_constant(toys.ring, [0.0, np.nan], 1.0), ValueError, "center must be finite"),
        (lambda: pl_constant(toys.ring, [0.0], 1.0), ValueError, "p = 2 entries"),
        (lambda: pl_constant(toys.ring, [0.0, 1.0], 0.0), ValueError, "positive and increasing"),
        (lambda: pl_constant(toys.ring, [0.0, 1.0], [1.0, 1.0]), ValueError, "increasing"),
        (lambda: pl_constant(toys.ring, [0.0, 1.0], []), ValueError, "must not be empty"),
        (lambda: pl_constant(toys.ring, [0, 1], 1.0, tolerance=2), ValueError, "tolerance"),
        (lambda: pl_constant(toys.ring, [0, 1], 1.0, box_limit=0.5), TypeError, "box_limit"),
        (lambda: pl_constant(toys.ring, [0, 1], 1.0).bound("up"), ValueError, "direction"),
        (lambda: pl_constant_search(toys.ring, [0, 1], -1, None), ValueError, "radius"),
        (lambda: pl_constant_search(toys.ring, [0, 1], 1.0, 0), TypeError, "Generator"),
        (
            lambda: pl_constant_search(toys.ring, [0, 1], 1, np.random.default_rng(0), starts=0),
            ValueError,
            "starts",
        ),
        (lambda: pl_constant_search("f", [0], 1, None), TypeError, "type Objective"),
        (lambda: criterion_from_bounds(-1.0, [1.0]), ValueError, "value must not be negative"),
        (lambda: criterion_from_bounds("f", [1.0]), TypeError, "value must be a real number"),
        (lambda: criterion_from_bounds((2.0, 1.0), [1.0]), ValueError, "pair"),
        (lambda: criterion_from_bounds((2.0, 1.0, 1.0), [1.0]), ValueError, "pair"),
        (lambda: criterion_from_bounds(1.0, [1.0], [1.0, 2.0]), ValueError, "each of the 1 radii"),
        (lambda: criterion_from_bounds(1.0, [1.0], [np.nan]), ValueError, "lower must hold"),
        (lambda: criterion_from_bounds(1.0, [1.0], [2.0], [1.0]), ValueError, "not exceed upper"),
        (
            lambda: integral_criterion_from_bounds(1.0, [1.0], [1.0], epsilon=1.0),
            ValueError,
            "epsilon must be below 1",
        ),
        (
            lambda: integral_criterion_from_bounds(1.0, [1.0], [1.0], epsilon=-0.1),
            ValueError,
            "epsilon must not be negative",
        ),
        (
            lambda: region_of_starts(toys.ring, [[3.0, 0.0]], [-2, -2], [2, 2]),
            ValueError,
            "starts must lie in the window",
        ),
        (
            lambda: region_of_starts(toys.ring, [[0.0, 0.0]], [2, -2], [2, 2]),
            ValueError,
            "low must be below high",
        ),
        (
            lambda: region_of_starts(toys.ring, [[0, 0]], [-2, -2], [2, 2], cells=1.5),
            TypeError,
            "cells must be an integer",
        ),
        (
            lambda: region_of_starts(Quadratic(np.eye(2)), [[0, 0]], [-2, -2], [2, 2]),
            TypeError,
            "bounds on boxes",
        ),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
