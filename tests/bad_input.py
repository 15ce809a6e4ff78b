"""Garbage for every argument, and what a good refusal of it looks like."""

import math

import numpy as np


class Ill:
    """An object that promises an array and fails, as a tensor that tracks gradients does."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on me. Use detach() first.")


GARBAGE = {
    "None": None,
    "text": "text",
    "bytes": b"bytes",
    "an object": object(),
    "an ill array": Ill(),
    "a dict": {},
    "an empty list": [],
    "an empty array": np.zeros((0, 3)),
    "ragged": [[1.0], [1.0, 2.0]],
    "NaN": math.nan,
    "minus infinity": -math.inf,
    "an array of nan": np.full((5, 3), np.nan),
    "complex": 1j,
    "a complex array": np.ones((5, 3), dtype=complex),
    "True": True,
    "a boolean array": np.ones((5, 3), dtype=bool),
    "strings": ["a", "b"],
    "objects": np.array([None, 1.0]),
    "a huge integer": 10**400,
    "a seed": 1234,
    "negative": -3,
    "half": -0.5,
    "a cube": np.ones((2, 2, 7)),
    "a function": math.sin,
}


def assert_sentence(error):
    """Python's or numpy's own messages have no full stop, or span several lines."""
    message = str(error)
    assert type(error) in (ValueError, TypeError), repr(error)
    assert message.endswith("."), message
    assert not message.endswith(".."), message
    assert "\n" not in message
    assert 20 < len(message) < 260, message


def garbage_taken(function, arguments, name):
    """The kinds of garbage that `function` takes for the argument `name`; others it refuses."""
    taken = set()
    for kind, garbage in GARBAGE.items():
        try:
            function(**{**arguments, name: garbage})
        except Exception as error:
            assert_sentence(error)
        else:
            taken.add(kind)
    return taken
