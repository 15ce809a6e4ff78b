"""The work done by JAX: automatic derivatives, and layers written by hand for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import scipy.linalg
from workloads import SLOPE, Variants, Work, lanczos

jax.config.update("jax_enable_x64", True)
VERSION = f"JAX {jax.__version__}"


def arrays(work: Work) -> tuple[list[Any], Any, Any]:
    """Return layers, X and y on the device."""
    return jax.tree.map(jnp.asarray, work.layers), jnp.asarray(work.X), jnp.asarray(work.y)


# ----------------------------------------------------------------- activation and network


def softplus_value(u: Any) -> Any:
    """σ by the library's softplus."""
    return SLOPE * u + (1 - SLOPE) * (jax.nn.softplus(u) - math.log(2))


def short_value(u: Any) -> Any:
    """σ in the fewest operations (it overflows beyond 700, which the work does not reach)."""
    return SLOPE * u + (1 - SLOPE) * (jnp.log(1 + jnp.exp(u)) - math.log(2))


def value_and_slope(u: Any) -> tuple[Any, Any]:
    """σ and σ′ from one exponential, without overflow."""
    decay = jnp.exp(-jnp.abs(u))
    total = 1 + decay
    value = SLOPE * u + (1 - SLOPE) * (jnp.maximum(u, 0) + jnp.log(total) - math.log(2))
    return value, SLOPE + (1 - SLOPE) * jnp.where(u > 0, 1, decay) / total


def short_value_and_slope(u: Any) -> tuple[Any, Any]:
    """σ and σ′ in the fewest operations."""
    total = 1 + jnp.exp(u)
    value = SLOPE * u + (1 - SLOPE) * (jnp.log(total) - math.log(2))
    return value, 1 - (1 - SLOPE) / total


def outputs(layers: Any, X: Any, activation: Callable[[Any], Any]) -> Any:
    """f(x_i, w) for all samples."""
    h = X
    for W, b in layers[:-1]:
        h = activation(h @ W.T + b)
    W, b = layers[-1]
    return (h @ W.T + b)[:, 0]


def loss(layers: Any, X: Any, y: Any, activation: Callable[[Any], Any] = short_value) -> Any:
    """S(w)."""
    return jnp.mean((outputs(layers, X, activation) - y) ** 2)


# ----------------------------------------------------------------------------- descent


def over_runs(function: Callable[..., Any], mode: str) -> Callable[..., Any]:
    """Batch a function of one run's layers: by vmap, one after the other, or 20 at a time."""
    if mode == "vmap":
        return jax.vmap(function)
    batch_size = 20 if mode == "blocks" else None
    return lambda layers: jax.lax.map(function, layers, batch_size=batch_size)


def automatic_descent(work: Work, mode: str, activation: Callable[[Any], Any]) -> Callable[[], Any]:
    """Gradient descent by value_and_grad inside scan."""
    layers, X, y = arrays(work)

    def one_run(layers: Any) -> Any:
        def step(layers: Any, _: Any) -> Any:
            value, gradient = jax.value_and_grad(loss)(layers, X, y, activation)
            moved = jax.tree.map(lambda p, g: p - work.step_size * g, layers, gradient)
            return moved, value

        last, losses = jax.lax.scan(step, layers, None, length=work.steps)
        return jnp.append(losses, loss(last, X, y, activation)), last

    run = jax.jit(over_runs(one_run, mode))
    return lambda: run(layers)[0].block_until_ready()


def layered_descent(
    work: Work, mode: str, both: Callable[[Any], Any], span: bool, unroll: int = 1
) -> Callable[[], Any]:
    """Gradient descent with the passes written out, samples last; `span` keeps W_1 as z_1."""
    layers, X, y = arrays(work)
    n, XT = X.shape[0], X.T
    gram = X @ XT + 1

    def forward(z: Any, rest: Any) -> tuple[list[Any], list[Any], Any]:
        hs, slopes = [], []
        for W, b in rest:
            h, slope = both(z)
            hs.append(h)
            slopes.append(slope)
            z = W @ h + b[:, None]
        return hs, slopes, z[0] - y

    def one_run(layers: Any) -> Any:
        (W, b), *rest = layers

        def step(state: Any, _: Any) -> Any:
            first, rest = state
            z = first[0] if span else first[0] @ XT + first[1][:, None]
            hs, slopes, residual = forward(z, rest)
            signal = (2 * work.step_size / n) * residual[None]
            moved = []
            for (W, b), h, slope in zip(rest[::-1], hs[::-1], slopes[::-1], strict=True):
                moved.append((W - signal @ h.T, b - signal.sum(axis=1)))
                signal = slope * (W.T @ signal)
            if span:
                first = first[0] - signal @ gram, first[1] + signal
            else:
                first = first[0] - signal @ X, first[1] - signal.sum(axis=1)
            return (first, moved[::-1]), jnp.mean(residual**2)

        z = W @ XT + b[:, None]
        first = (z, jnp.zeros_like(z)) if span else (W, b)
        (first, rest), losses = jax.lax.scan(
            step, (first, rest), None, length=work.steps, unroll=unroll
        )
        if span:
            W, b = W - first[1] @ X, b - first[1].sum(axis=1)
            z = first[0]
        else:
            W, b = first
            z = W @ XT + b[:, None]
        last = jnp.mean(forward(z, rest)[2] ** 2)
        return jnp.append(losses, last), [(W, b), *rest]

    run = jax.jit(over_runs(one_run, mode))
    return lambda: run(layers)[0].block_until_ready()


# ----------------------------------------------------------------------------- kernels


def layered_kernel(layers: Any, X: Any, gram: Any, both: Callable[[Any], Any]) -> Any:
    """K by the sum over layers of products of Gram matrices."""
    h, hs, slopes = X.T, [], []
    for W, b in layers[:-1]:
        h, slope = both(W @ h + b[:, None])
        hs.append(h)
        slopes.append(slope)
    signal, total = jnp.ones((1, X.shape[0])), hs[-1].T @ hs[-1] + 1
    for index in range(len(hs) - 1, -1, -1):
        signal = slopes[index] * (layers[index + 1][0].T @ signal)
        below = gram if index == 0 else hs[index - 1].T @ hs[index - 1] + 1
        total = total + below * (signal.T @ signal)
    return total


def jacobian_kernel(layers: Any, X: Any) -> Any:
    """K = J Jᵀ."""
    J = jax.jacrev(outputs)(layers, X, short_value)
    parts = [part.reshape(X.shape[0], -1) for part in jax.tree.leaves(J)]
    return sum(part @ part.T for part in parts)


def kernels(work: Work, mode: str, both: Callable[[Any], Any]) -> Callable[[], Any]:
    """K2."""
    layers, X, _ = arrays(work)

    def every(layers: Any, X: Any) -> Any:
        gram = X @ X.T + 1
        return over_runs(lambda one: layered_kernel(one, X, gram, both), mode)(layers)

    run = jax.jit(every)
    return lambda: run(layers, X).block_until_ready()


def automatic_kernels(work: Work) -> Callable[[], Any]:
    """K2 through the Jacobian."""
    layers, X, _ = arrays(work)
    run = jax.jit(jax.vmap(lambda one: jacobian_kernel(one, X)))
    return lambda: run(layers).block_until_ready()


def least_eigenvalue(work: Work, kernel: str, solver: str) -> Callable[[], Any]:
    """K1; `solver` is JAX's full spectrum or SciPy's least eigenvalue alone."""
    layers, X, _ = arrays(work)

    def matrix(layers: Any, X: Any) -> Any:
        if kernel == "jacobian":
            return jacobian_kernel(layers, X)
        return layered_kernel(layers, X, X @ X.T + 1, short_value_and_slope)

    if solver == "jax":
        run = jax.jit(lambda layers, X: jnp.linalg.eigvalsh(matrix(layers, X))[0])
        return lambda: run(layers, X).block_until_ready()
    run = jax.jit(matrix)
    return lambda: scipy.linalg.eigh(
        np.asarray(run(layers, X)), eigvals_only=True, subset_by_index=[0, 0], check_finite=False
    )[0]


# --------------------------------------------------------------------------- curvature


def curvature(work: Work, how: str) -> Callable[[], Any]:
    """H1: Hessian-vector products of one stored linearization, or made anew each time."""
    layers, X, y = arrays(work)
    flat, unravel = jax.flatten_util.ravel_pytree(layers)
    u = jnp.asarray(work.v)

    def S(flat: Any) -> Any:
        return loss(unravel(flat), X, y)

    @jax.jit
    def start(flat: Any) -> Any:
        return jax.vjp(lambda p: outputs(unravel(p), X, short_value), flat)[1](u)[0]

    dot = jax.jit(jnp.vdot)

    if how == "linearize":
        stored = jax.jit(lambda flat: jax.linearize(jax.grad(S), flat)[1])
        apply = jax.jit(lambda product, v: product(v))

        def run() -> float:
            product = stored(flat)
            return lanczos(partial(apply, product), start(flat), lambda a, b: float(dot(a, b)))

    else:
        anew = jax.jit(lambda flat, v: jax.jvp(jax.grad(S), (flat,), (v,))[1])

        def run() -> float:
            return lanczos(partial(anew, flat), start(flat), lambda a, b: float(dot(a, b)))

    return run


# -------------------------------------------------------------------------------- flow


def flow(work: Work, solver: Any) -> Callable[[], Any]:
    """G1 by diffrax, ended by an event on the loss that Newton's method finds within the step."""
    layers, X, y = arrays(work)
    flat, unravel = jax.flatten_util.ravel_pytree(layers)

    def S(flat: Any) -> Any:
        return loss(unravel(flat), X, y)

    @jax.jit
    def run(flat: Any) -> Any:
        goal = 1e-12 * S(flat)
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, w, _: -jax.grad(S)(w)),
            solver,
            0.0,
            jnp.inf,
            None,
            flat,
            stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-10),
            event=diffrax.Event(
                lambda t, y, args, **kw: jnp.log(S(y) / goal),
                optimistix.Newton(rtol=1e-9, atol=1e-9),
            ),
            max_steps=100_000,
            saveat=diffrax.SaveAt(t1=True),
        )
        return solution.ts[-1]

    return lambda: run(flat).block_until_ready()


_DESCENTS: Variants = {
    "grad, vmap": partial(automatic_descent, mode="vmap", activation=softplus_value),
    "grad, short σ, vmap": partial(automatic_descent, mode="vmap", activation=short_value),
    "grad, short σ, map": partial(automatic_descent, mode="map", activation=short_value),
}
for _mode in ("vmap", "map"):
    for _name, _both in (("", value_and_slope), ("short σ, ", short_value_and_slope)):
        for _span in (False, True):
            _label = f"layered, {_name}{'span, ' if _span else ''}{_mode}"
            _DESCENTS[_label] = partial(layered_descent, mode=_mode, both=_both, span=_span)
_DESCENTS["layered, span, blocks"] = partial(
    layered_descent, mode="blocks", both=value_and_slope, span=True
)
_DESCENTS["layered, short σ, span, vmap, unrolled"] = partial(
    layered_descent, mode="vmap", both=short_value_and_slope, span=True, unroll=4
)
VARIANTS: dict[str, Variants] = {
    "descent": _DESCENTS,
    "kernel": {
        "layered, vmap": partial(kernels, mode="vmap", both=value_and_slope),
        "layered, short σ, vmap": partial(kernels, mode="vmap", both=short_value_and_slope),
        "layered, short σ, map": partial(kernels, mode="map", both=short_value_and_slope),
        "jacrev, vmap": automatic_kernels,
    },
    "least eigenvalue": {
        "layered, eigvalsh": partial(least_eigenvalue, kernel="layered", solver="jax"),
        "layered, SciPy's eigh": partial(least_eigenvalue, kernel="layered", solver="scipy"),
        "jacrev, SciPy's eigh": partial(least_eigenvalue, kernel="jacobian", solver="scipy"),
    },
    "curvature": {
        "jvp of grad": partial(curvature, how="jvp"),
        "linearize": partial(curvature, how="linearize"),
    },
    "flow": {
        "diffrax Tsit5": partial(flow, solver=diffrax.Tsit5()),
        "diffrax Dopri8": partial(flow, solver=diffrax.Dopri8()),
    },
}
