"""The empirical kernel by neural-tangents, in a process of its own: it needs an older JAX.

compare.py starts it with the Python of an environment that has plcore's extra
"benchmark-neural-tangents", and talks to it over pipes.
"""

from __future__ import annotations

import base64
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from workloads import SLOPE, WORKS, Variants, Work

VERSION = "neural-tangents"


def prepare(work: Work) -> Callable[[], Any]:
    """Return the call, with the fastest of its implementations here: structured derivatives."""
    import jax
    import jax.numpy as jnp
    import neural_tangents
    import scipy.linalg

    jax.config.update("jax_enable_x64", True)

    def outputs(layers: Any, X: Any) -> Any:
        h = X
        for W, b in layers[:-1]:
            u = h @ W + b
            h = SLOPE * u + (1 - SLOPE) * (jnp.log(1 + jnp.exp(u)) - math.log(2))
        W, b = layers[-1]
        return h @ W + b

    # It sees the structure of h @ W, but not that of h @ W.T.
    layers = [(jnp.asarray(np.swapaxes(W, -1, -2)), jnp.asarray(b)) for W, b in work.layers]
    X = jnp.asarray(work.X)
    kernel = neural_tangents.empirical_ntk_fn(
        outputs,
        trace_axes=(-1,),
        vmap_axes=0,
        implementation=neural_tangents.NtkImplementation.STRUCTURED_DERIVATIVES,
    )
    if work.runs:
        run = jax.jit(jax.vmap(lambda one: kernel(X, None, one)))
        return lambda: np.asarray(run(layers))
    run = jax.jit(lambda one: kernel(X, None, one))
    return lambda: scipy.linalg.eigh(
        np.asarray(run(layers)), eigvals_only=True, subset_by_index=[0, 0], check_finite=False
    )[0]


def serve() -> None:
    """Answer requests on standard input: a line of JSON each, with a work's name and a clock."""
    calls: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        name, clock = json.loads(line)
        if name not in calls:
            calls[name] = prepare(WORKS[name])
        now = getattr(time, clock)
        start = now()
        result = np.asarray(calls[name]())
        seconds = now() - start
        raw = base64.b64encode(result.tobytes()).decode()
        print(json.dumps([seconds, result.shape, raw]), flush=True)


class Server:
    """The other process; `seconds` is what its last call took."""

    def __init__(self, python: str, clock: str) -> None:
        self.process = subprocess.Popen(
            [python, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.clock, self.seconds = clock, math.nan
        every: Variants = {"structured derivatives": lambda work: partial(self.call, work.name)}
        self.VARIANTS = {"kernel": every, "least eigenvalue": every}

    def call(self, name: str) -> np.ndarray:
        """Return the result of one call."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([name, self.clock]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("neural-tangents' process has ended")
        self.seconds, shape, raw = json.loads(line)
        return np.frombuffer(base64.b64decode(raw)).reshape(shape)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


if __name__ == "__main__":
    serve()
