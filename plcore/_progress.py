"""Progress bars: on what takes more than two seconds, and gone when it is done."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm.auto import tqdm

__all__ = ["progress"]


def progress(items: Iterable[Any], total: int, what: str) -> Iterator[Any]:
    """Return an iterator over `items` with a bar, or without if ``TQDM_DISABLE`` is set."""
    # tqdm's bar for notebooks, unlike its others, doesn't look at the variable by itself.
    quiet = bool(os.environ.get("TQDM_DISABLE"))
    return iter(tqdm(items, total=total, desc=what, delay=2, leave=False, disable=quiet))
