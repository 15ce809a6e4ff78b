"""Files that are written whole or not at all, and whose place is looked at before the work."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from . import checks

__all__ = ["destination", "write"]


def destination(path: Any) -> Path:
    """Return where a result will be written, or refuse before hours went into it.

    Raises
    ------
    TypeError
        If `path` is not a path.
    ValueError
        If its folder does not exist, or if it is a folder itself.
    """
    try:
        chosen = Path(path)
    except TypeError:
        raise TypeError(f"path must be a path of a file, not {checks.shown(path)}.") from None
    if not chosen.parent.is_dir():
        raise ValueError(f"path must lie in a folder that exists; {chosen.parent} does not.")
    if chosen.is_dir():
        raise ValueError(f"path must be that of a file, but {chosen} is a folder.")
    return chosen


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: what was there stays until all of the new is on disk."""
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():  # a pipe or a device, or a folder, which refuses
        path.write_bytes(content)
        return
    beside = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        if path.exists():
            shutil.copymode(path, beside)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
