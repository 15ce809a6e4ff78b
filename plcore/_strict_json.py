"""Reading certificates as JSON: strictly, and with a sentence for whatever is refused.

JSON text is data.  Reading it executes nothing, whatever it says.
"""

from __future__ import annotations

import decimal
import json
import math
from typing import Any

from . import checks

_LONGEST = 2**24  # characters; a certificate at a thousand radii has fifty thousand
_KINDS: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
}
_ROUNDED = (
    "A certificate's numbers must be float64 numbers, for none may be rounded to become one, but "
    "one is {}; the nearest is {}."
)


def check_fields(entries: dict[str, Any], kinds: dict[str, str]) -> None:
    """Raise a ValueError unless `entries` has exactly the fields of `kinds`, each of its kind.

    A kind is "integer", "number" or "string", or "list of" many of them.
    """
    for word, names in (
        ("lacks", [name for name in kinds if name not in entries]),
        ("has the unknown", [name for name in entries if name not in kinds]),
    ):
        if names:
            raise ValueError(f"The certificate {word} field {_brief(names[0])}.")
    for name, kind in kinds.items():
        _check_kind(name, entries[name], kind)


def _brief(value: Any) -> str:
    text = checks.shown(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _check_kind(name: str, value: Any, kind: str) -> None:
    plural = kind.removeprefix("list of ")
    if plural != kind:
        right = isinstance(value, list)
        parts = value if right else []
    else:
        right, parts = True, [value]
    kinds = _KINDS[plural.removesuffix("s") if plural != kind else kind]
    if not right or any(isinstance(p, bool) or not isinstance(p, kinds) for p in parts):
        raise ValueError(
            f"The certificate's field {name!r} must be a JSON {kind}, but is {_brief(value)}."
        )
    if float in kinds:
        for part in parts:
            _check_float(part)


def _check_float(number: int | float) -> None:
    """Refuse an integer that no float64 is; one beyond them all is refused by its field."""
    try:
        nearest = float(number)
    except OverflowError:
        return
    if nearest != number:
        raise ValueError(_ROUNDED.format(_brief(number), repr(nearest)))


def _refuse_constant(word: str) -> float:
    raise ValueError(f"A certificate holds finite numbers only, but one is {word}.")


def _as_float(text: str) -> float:
    """Read a float that the text denotes: exactly, or as the shortest text that gives it."""
    value = float(text)
    try:
        denoted = decimal.Decimal(text)
        if math.isfinite(value) and denoted not in (decimal.Decimal(repr(value)), value):
            raise ValueError(_ROUNDED.format(_brief(text), repr(value)))
    except decimal.InvalidOperation as error:  # an exponent beyond all bounds
        raise ValueError(_ROUNDED.format(_brief(text), repr(value))) from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"A certificate has each field once, but {checks.shown(key)} twice.")
        found[key] = value
    return found


def read_object(text: str) -> dict[str, Any]:
    """Return the JSON object that `text` is, with finite numbers and no key twice.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if len(text) > _LONGEST:
        raise ValueError(
            f"A certificate has at most {_LONGEST:,} characters, but this is {len(text):,}."
        )
    try:
        entries = json.loads(
            text,
            parse_float=_as_float,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"The certificate is not JSON: {error}.") from error
    except RecursionError:
        raise ValueError("The certificate is not one: its brackets are nested too deep.") from None
    except ValueError as error:
        if str(error).startswith("A certificate"):
            raise
        raise ValueError("The certificate has a number with too many digits.") from error
    if not isinstance(entries, dict):
        raise ValueError(f"The certificate must be a JSON object, but is {_brief(entries)}.")
    return entries
