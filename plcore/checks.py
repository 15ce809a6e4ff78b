"""Conversion and checking of arguments at the public door.

Every public function converts what it is given once, here, and trusts it afterwards.
A refusal is one sentence that names what was expected and what came.

>>> from plcore import checks
>>> checks.positive_number(-1, "radius")
Traceback (most recent call last):
ValueError: radius must be positive, but is -1.0.
"""

from __future__ import annotations

import math
import numbers
import os
import reprlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = [
    "common_shape",
    "finite_array",
    "flag",
    "fraction",
    "generator",
    "instance",
    "nonnegative_number",
    "number",
    "one_of",
    "positive_integer",
    "positive_number",
    "room",
    "sequence",
    "shape",
    "shown",
    "within_range",
]

try:
    _MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # bytes
except (AttributeError, ValueError, OSError):  # not a POSIX system
    _MEMORY = 2**63


def shown(value: Any) -> str:
    """Return a short one-line description of what came in place of what was expected."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"an array of shape {value.shape}"
    return " ".join(reprlib.repr(value).split())


def finite_array(
    value: Any,
    name: str,
    *,
    ndim: int | None = None,
    least_ndim: int | None = None,
    last: int | None = None,
    empty: bool = False,
    infinite: bool = False,
) -> np.ndarray:
    """Convert `value` to a float64 array and check it.

    Parameters
    ----------
    value : array_like
        Anything that numpy takes for an array of real numbers.
    name : str
        What the caller calls the argument; used in messages.
    ndim, least_ndim : int, optional
        Exact, or least, number of axes.
    last : int, optional
        Required length of the last axis.
    empty : bool, default False
        Whether an array without entries is allowed.
    infinite : bool, default False
        Whether ±∞ is allowed; NaN never is.

    Returns
    -------
    numpy.ndarray
        A float64 array; `value` itself where it is one already.

    Raises
    ------
    TypeError
        If `value` is not an array of real numbers; booleans are not.
    ValueError
        If the number of axes or the last length differ from what was asked for, if there are no
        entries, or if an entry is NaN or infinite.
    """
    try:
        raw = np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{name} must be an array of real numbers, but came ragged.") from error
    except (RuntimeError, TypeError) as error:  # a tensor that still tracks gradients, say
        reason = str(error).partition("\n")[0].rstrip(".")
        raise TypeError(
            f"{name} must be an array of real numbers, but cannot be read as one: {reason}."
        ) from error
    if raw.dtype.kind not in "fiu":
        raise TypeError(
            f"{name} must be an array of real numbers, but has type "
            f"{type(value).__name__} with dtype {raw.dtype}."
        )
    with np.errstate(over="ignore"):  # a wider float may become infinite: refused below
        array = raw.astype(np.float64, copy=False)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes, but has shape {array.shape}.")
    if least_ndim is not None and array.ndim < least_ndim:
        raise ValueError(f"{name} must have at least {least_ndim} axes, not shape {array.shape}.")
    if last is not None and (array.ndim == 0 or array.shape[-1] != last):
        raise ValueError(f"{name} must have {last} entries on its last axis, not {array.shape}.")
    if not empty and array.size == 0:
        raise ValueError(f"{name} must not be empty, but has shape {array.shape}.")
    refused = np.isnan(array) if infinite else ~np.isfinite(array)
    if refused.any():
        bad = np.argwhere(refused)[0]
        where = f" at index {tuple(int(i) for i in bad)}" if array.ndim else ""
        wanted = "not be NaN" if infinite else "be finite"
        raise ValueError(f"{name} must {wanted}, but is {array[tuple(bad)]}{where}.")
    return array


def common_shape(**shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape to which the leading axes of the named arguments broadcast.

    Raises
    ------
    ValueError
        If they do not broadcast against each other.
    """
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = " and ".join(f"{shape} for {name}" for name, shape in shapes.items())
        raise ValueError(
            f"The leading axes of {' and '.join(shapes)} must broadcast against each other, "
            f"but are {listed}."
        ) from None


def within_range(result: np.ndarray, name: str, *, infinite: bool = False) -> np.ndarray:
    """Return a computed `result` if it is finite; an OverflowError says that it is not.

    With `infinite`, ±∞ passes and NaN alone is refused.
    """
    if (np.isnan(result) if infinite else ~np.isfinite(result)).any():
        raise OverflowError(f"{name} leaves the range of float64 here: the arguments are too big.")
    return result


def room(shape: Sequence[int], name: str) -> None:
    """Raise a MemoryError unless float64 numbers of this shape fit into half of the memory."""
    needed = 8 * math.prod(int(length) for length in shape)
    if needed > _MEMORY // 2:
        raise MemoryError(
            f"{name} would take {needed / 2**30:.3g} GiB, as an array of shape {tuple(shape)}, and "
            f"half of this machine's memory is {_MEMORY / 2**31:.3g} GiB."
        )


def number(value: Any, name: str) -> float:
    """Return `value` as a finite float.

    Raises
    ------
    TypeError
        If `value` is not a real number.
    ValueError
        If it is NaN or infinite.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, but is {shown(value)}.")
    try:
        result = float(value)
    except OverflowError:  # an integer beyond 1e308
        raise ValueError(f"{name} must be a finite number, but is {shown(value)}.") from None
    if not math.isfinite(result):
        raise ValueError(f"{name} must be a finite number, but is {result}.")
    return result


def positive_number(value: Any, name: str) -> float:
    """Return `value` as a float above zero, or raise as `number` does."""
    result = number(value, name)
    if result <= 0:
        raise ValueError(f"{name} must be positive, but is {result}.")
    return result


def nonnegative_number(value: Any, name: str) -> float:
    """Return `value` as a float that is zero or more, or raise as `number` does."""
    result = number(value, name)
    if result < 0:
        raise ValueError(f"{name} must not be negative, but is {result}.")
    return result


def fraction(value: Any, name: str) -> float:
    """Return `value` as a float strictly between 0 and 1, or raise as `number` does."""
    result = number(value, name)
    if not 0 < result < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, but is {result}.")
    return result


def positive_integer(value: Any, name: str, *, least: int = 1) -> int:
    """Return `value` as an int that is at least `least`.

    Raises
    ------
    TypeError
        If `value` is not an integer (floats and booleans are not).
    ValueError
        If it is below `least`, or too big for an index.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, but is {shown(value)}.")
    result = int(value)
    if result < least:
        raise ValueError(f"{name} must be at least {least}, but is {result}.")
    if result > sys.maxsize:
        raise ValueError(f"{name} must be at most {sys.maxsize}, but is {shown(result)}.")
    return result


def sequence(value: Any, name: str, of: str) -> tuple[Any, ...]:
    """Return a sequence or an array as a tuple; a string or anything else is a TypeError."""
    if isinstance(value, np.ndarray) and value.ndim:
        return tuple(value)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise TypeError(f"{name} must be a sequence of {of}, but is {shown(value)}.")
    return tuple(value)


def shape(value: Any, name: str) -> tuple[int, ...]:
    """Return a batch shape: an int or a sequence of ints, each at least 1, as a tuple."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        value = (value,)
    if not isinstance(value, tuple | list):
        raise TypeError(f"{name} must be an integer or a tuple of integers, but is {shown(value)}.")
    return tuple(positive_integer(length, f"each length in {name}") for length in value)


def flag(value: Any, name: str) -> bool:
    """Return `value` as a bool; anything but True or False is a TypeError."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, but is {shown(value)}.")
    return bool(value)


def generator(value: Any, name: str = "rng") -> np.random.Generator:
    """Return `value` if it is a `numpy.random.Generator`; a seed alone is a TypeError."""
    if not isinstance(value, np.random.Generator):
        raise TypeError(
            f"{name} must be a numpy.random.Generator, such as numpy.random.default_rng(0), "
            f"but is {shown(value)}."
        )
    return value


def instance(value: Any, kind: type, name: str) -> Any:
    """Return `value` if it is an instance of `kind`, else raise a TypeError."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be of type {kind.__name__}, but is {shown(value)}.")
    return value


def one_of(value: Any, options: tuple[str, ...], name: str) -> str:
    """Return `value` if it is one of `options`, else raise an error that lists them.

    Raises
    ------
    TypeError
        If `value` is not a string.
    ValueError
        If it is none of `options`.
    """
    if not isinstance(value, str) or value not in options:
        listed = ", ".join(repr(option) for option in options)
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"{name} must be one of {listed}, but is {shown(value)}.")
    return value
