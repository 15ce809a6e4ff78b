"""Gradient descent in C (descent.c), as a mark of what the machine can do on one core."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from workloads import Variants, Work

if not (shutil.which("cc") or shutil.which("gcc")):
    raise ImportError("there is no C compiler")
VERSION = "C"
FLAGS = ["-O3", "-march=native", "-ffast-math", "-funroll-loops", "-shared", "-fPIC"]


def descent(work: Work, vectors: str) -> Callable[[], Any]:
    """Compile for the work's sizes and return the call."""
    d, *hidden, _ = work.widths
    sizes = {"N": work.samples, "D": d, "P": -(-work.samples // 8) * 8}
    sizes |= {"A": hidden[0], "B": hidden[1], "BP": -(-hidden[0] // 8) * 8}
    source = Path(__file__).with_name("descent.c")
    compiler = shutil.which("gcc") or "cc"
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "descent.so"
        defines = [f"-D{name}={size}" for name, size in sizes.items()]
        subprocess.run(
            [compiler, *FLAGS, vectors, *defines, str(source), "-o", str(target), "-lm"],
            check=True,
        )
        library = ctypes.CDLL(str(target))
    pointer = np.ctypeslib.ndpointer(np.float64, flags="C")
    library.descend.argtypes = [
        ctypes.c_long,
        ctypes.c_long,
        ctypes.c_double,
        pointer,
        pointer,
        pointer,
        pointer,
    ]
    library.descend.restype = None
    start = work.flat

    def run() -> Any:
        w, losses = start.copy(), np.empty((work.runs, work.steps + 1))
        library.descend(work.runs, work.steps, work.step_size, work.X, work.y, w, losses)
        return losses

    return run


VARIANTS: dict[str, Variants] = {
    "descent": {
        "gcc, 512-bit vectors": partial(descent, vectors="-mprefer-vector-width=512"),
        "gcc, 256-bit vectors": partial(descent, vectors="-mprefer-vector-width=256"),
    }
}
