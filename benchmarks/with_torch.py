"""The work done by PyTorch: torch.func, layers written by hand in place, and torch.compile."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import scipy.linalg
import torch
from workloads import SLOPE, Variants, Work, lanczos

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
VERSION = f"PyTorch {torch.__version__}"
LOG_2 = math.log(2)


def arrays(work: Work) -> tuple[list[Any], Any, Any]:
    """Return layers, X and y as tensors."""
    layers = [tuple(map(torch.tensor, layer)) for layer in work.layers]
    return layers, torch.tensor(work.X), torch.tensor(work.y)


def value(u: Any) -> Any:
    """σ."""
    return SLOPE * u + (1 - SLOPE) * (torch.log(1 + torch.exp(u)) - LOG_2)


def value_and_slope(u: Any) -> tuple[Any, Any]:
    """σ and σ′ in the fewest operations."""
    total = 1 + torch.exp(u)
    return SLOPE * u + (1 - SLOPE) * (torch.log(total) - LOG_2), 1 - (1 - SLOPE) / total


def outputs(layers: Any, X: Any) -> Any:
    """f(x_i, w) for all samples."""
    h = X
    for W, b in layers[:-1]:
        h = value(h @ W.T + b)
    W, b = layers[-1]
    return (h @ W.T + b)[:, 0]


def loss(layers: Any, X: Any, y: Any) -> Any:
    """S(w)."""
    return ((outputs(layers, X) - y) ** 2).mean()


def augmented(layers: Any) -> list[Any]:
    """Return the layers with the biases as a last column."""
    return [torch.cat([W, b[..., None]], -1) for W, b in layers]


# ----------------------------------------------------------------------------- descent


def in_place_descent(work: Work, span: bool, softplus: bool = False) -> Callable[[], Any]:
    """Passes written by hand into preallocated tensors; `span` keeps W_1 as z_1."""
    layers, X, y = arrays(work)
    runs, n = work.runs, work.samples
    one = torch.ones(n, 1)
    rows = torch.cat([X, one], 1)
    columns = rows.T.contiguous()
    gram = rows @ columns
    hidden = work.widths[1:-1]

    def activate(z: Any, h: Any, slope: Any, spare: Any) -> None:
        if softplus:
            torch._C._nn.softplus(z, 1, 700, out=spare)
            torch.sigmoid(z, out=slope)
            slope.mul_(1 - SLOPE).add_(SLOPE)
        else:
            torch.exp(z, out=slope)
            slope.add_(1)
            torch.log(slope, out=spare)
            slope.reciprocal_().mul_(SLOPE - 1).add_(1)
        spare.sub_(LOG_2).mul_(1 - SLOPE)
        torch.add(spare, z, alpha=SLOPE, out=h)

    @torch.inference_mode()
    def run() -> Any:
        first, *weights = augmented(layers)
        first = first.reshape(runs * hidden[0], -1).clone()
        zs = [torch.empty(runs, width, n) for width in hidden]
        slopes, spares, signals = ([torch.empty_like(z) for z in zs] for _ in range(3))
        inputs = [torch.ones(runs, width + 1, n) for width in hidden]
        hs = [h[:, :width] for h, width in zip(inputs, hidden, strict=True)]
        backs = [W[:, :, :-1].transpose(1, 2) for W in weights]
        inputs_t = [h.transpose(1, 2) for h in inputs]
        z_wide, signal_wide = (tensor[0].view(runs * hidden[0], n) for tensor in (zs, signals))
        output, scaled = torch.empty(runs, 1, n), torch.empty(runs, 1, n)
        residuals = torch.empty(work.steps + 1, runs, n)
        moved = torch.zeros_like(z_wide)
        if span:
            torch.mm(first, columns, out=z_wide)
        for k in range(work.steps + 1):
            if not span:
                torch.mm(first, columns, out=z_wide)
            for index, (z, h) in enumerate(zip(zs, hs, strict=True)):
                activate(z, h, slopes[index], spares[index])
                out = zs[index + 1] if index + 1 < len(zs) else output
                torch.bmm(weights[index], inputs[index], out=out)
            torch.sub(output[:, 0], y, out=residuals[k])
            if k == work.steps:
                break
            torch.mul(residuals[k][:, None], 2 * work.step_size / n, out=scaled)
            signal = scaled
            for index in range(len(zs) - 1, -1, -1):
                torch.bmm(backs[index], signal, out=signals[index])
                signals[index].mul_(slopes[index])
                weights[index].baddbmm_(signal, inputs_t[index], alpha=-1)
                signal = signals[index]
            if span:
                z_wide.addmm_(signal_wide, gram, alpha=-1)
                moved.add_(signal_wide)
            else:
                first.addmm_(signal_wide, rows, alpha=-1)
        if span:
            first.addmm_(moved, rows, alpha=-1)
        return (residuals * residuals).mean(-1).T

    return run


def compiled_descent(work: Work, unroll: int, span: bool = True) -> Callable[[], Any]:
    """Passes written by hand and compiled, `unroll` steps at a time."""
    layers, X, y = arrays(work)
    n = work.samples
    gram, rate = X @ X.T + 1, 2 * work.step_size / n

    def step(state: Any, fixed: Any) -> Any:
        first, rest = state
        X, gram, y = fixed
        z = first[0] if span else first[0] @ X.T + first[1][..., None]
        hs, slopes = [], []
        for W, b in rest:
            h, slope = value_and_slope(z)
            hs.append(h)
            slopes.append(slope)
            z = torch.baddbmm(b[..., None], W, h)
        residual = z[:, 0] - y
        signal = rate * residual[:, None]
        moved = []
        for (W, b), h, slope in zip(rest[::-1], hs[::-1], slopes[::-1], strict=True):
            new = torch.baddbmm(W, signal, h.transpose(1, 2), alpha=-1), b - signal.sum(-1)
            moved.append(new)
            signal = slope * torch.bmm(W.transpose(1, 2), signal)
        if span:
            wide = torch.addmm(first[0].reshape(-1, n), signal.reshape(-1, n), gram, alpha=-1)
            first = wide.view(first[0].shape), first[1] + signal
        else:
            first = first[0] - signal @ X, first[1] - signal.sum(-1)
        return (first, moved[::-1]), (residual * residual).mean(-1)

    def several(state: Any, fixed: Any) -> Any:
        losses = []
        for _ in range(unroll):
            state, value = step(state, fixed)
            losses.append(value)
        return state, torch.stack(losses)

    # The wrapper in C++ in place of Python's is worth a seventh here.
    options = {"cpp_wrapper": True}
    compiled = torch.compile(several, fullgraph=True, dynamic=False, options=options)

    @torch.no_grad()
    def run() -> Any:
        (W, b), *rest = layers
        z = W @ X.T + b[..., None]
        state = ((z, torch.zeros_like(z)) if span else (W, b)), rest
        losses, fixed = [], (X, gram, y)
        for _ in range(work.steps // unroll):
            state, values = compiled(state, fixed)
            losses.append(values)
        _, value = step(state, fixed)
        if span:
            _ = W - state[0][1] @ X, b - state[0][1].sum(-1)
        return torch.cat([*losses, value[None]]).T

    return run


def functional_descent(work: Work) -> Callable[[], Any]:
    """torch.func's grad_and_value under vmap."""
    layers, X, y = arrays(work)
    gradient = torch.func.vmap(torch.func.grad_and_value(loss), in_dims=(0, None, None))

    @torch.no_grad()
    def run() -> Any:
        state, losses = layers, []
        for k in range(work.steps + 1):
            moved, values = gradient(state, X, y)
            losses.append(values)
            if k < work.steps:
                state = [
                    (W - work.step_size * dW, b - work.step_size * db)
                    for (W, b), (dW, db) in zip(state, moved, strict=True)
                ]
        return torch.stack(losses, -1)

    return run


# ----------------------------------------------------------------------------- kernels


def layered_kernel(layers: Any, X: Any) -> Any:
    """K by the sum over layers of products of Gram matrices; layers may have an axis of runs."""
    h, hs, slopes = X.T, [], []
    for W, b in layers[:-1]:
        h, slope = value_and_slope(W @ h + b[..., None])
        hs.append(h)
        slopes.append(slope)
    total = hs[-1].mT @ hs[-1] + 1
    signal = None
    for index in range(len(hs) - 1, -1, -1):
        W = layers[index + 1][0]
        signal = slopes[index] * (W.mT if signal is None else W.mT @ signal)
        below = X @ X.T if index == 0 else hs[index - 1].mT @ hs[index - 1]
        total = total.addcmul_(below.add_(1), signal.mT @ signal)
    return total


def kernels(work: Work, block: int = 0, compile_: bool = False) -> Callable[[], Any]:
    """K2, `block` runs at a time where it is not zero."""
    layers, X, _ = arrays(work)
    function = layered_kernel
    if compile_:
        function = torch.compile(function, dynamic=False, options={"cpp_wrapper": True})

    @torch.inference_mode()
    def run() -> Any:
        if not block:
            return function(layers, X)
        K = torch.empty(work.runs, work.samples, work.samples)
        for start in range(0, work.runs, block):
            part = slice(start, start + block)
            K[part] = function([(W[part], b[part]) for W, b in layers], X)
        return K

    return run


def functional_kernels(work: Work) -> Callable[[], Any]:
    """K2 by torch.func: Jacobians, contracted."""
    layers, X, _ = arrays(work)

    def one(layers: Any) -> Any:
        J = torch.func.jacrev(outputs)(layers, X)
        parts = [part.flatten(1) for layer in J for part in layer]
        return sum(part @ part.T for part in parts)

    batched = torch.func.vmap(one)
    return lambda: batched(layers).detach()


def least_eigenvalue(work: Work, kernel: str, solver: str) -> Callable[[], Any]:
    """K1."""
    layers, X, _ = arrays(work)

    def matrix() -> Any:
        if kernel == "layered":
            return layered_kernel(layers, X)
        J = torch.func.jacrev(outputs)(layers, X)
        return sum(part.flatten(1) @ part.flatten(1).T for layer in J for part in layer)

    @torch.inference_mode()
    def run() -> Any:
        K = matrix()
        if solver == "torch":
            return torch.linalg.eigvalsh(K)[0]
        return scipy.linalg.eigh(
            K.numpy(), eigvals_only=True, subset_by_index=[0, 0], check_finite=False
        )[0]

    if kernel == "jacobian":
        return run.__wrapped__
    return run


# --------------------------------------------------------------------------- curvature


def curvature(work: Work, how: str) -> Callable[[], Any]:
    """H1."""
    layers, X, y = arrays(work)
    shapes = [part.shape for layer in layers for part in layer]
    sizes = [part.numel() for layer in layers for part in layer]
    flat = torch.cat([part.reshape(-1) for layer in layers for part in layer])
    u = torch.tensor(work.v)

    def unravel(flat: Any) -> Any:
        parts = [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
        return list(zip(parts[::2], parts[1::2], strict=True))

    def S(flat: Any) -> Any:
        return loss(unravel(flat), X, y)

    def dot(a: Any, b: Any) -> float:
        return float(a @ b)

    def start() -> Any:
        p = flat.detach().requires_grad_()
        return torch.autograd.grad(outputs(unravel(p), X) @ u, p)[0]

    if how == "stored graph":

        def run() -> float:
            p = flat.detach().requires_grad_()
            f = outputs(unravel(p), X)
            v = torch.autograd.grad(f @ u, p, retain_graph=True)[0]
            gradient = torch.autograd.grad(((f - y) ** 2).mean(), p, create_graph=True)[0]
            product = partial(torch.autograd.grad, gradient, p, retain_graph=True)
            return lanczos(lambda v: product(v)[0], v, dot)

    else:
        product = torch.func.jvp

        def anew(v: Any) -> Any:
            return product(torch.func.grad(S), (flat,), (v,))[1]

        if how == "compiled":
            anew = torch.compile(anew, dynamic=False)

        def run() -> float:
            return lanczos(lambda v: anew(v).detach(), start(), dot)

    return run


# -------------------------------------------------------------------------------- flow


def flow(work: Work, method: str) -> Callable[[], Any]:
    """G1 by torchdiffeq, ended by an event on the loss."""
    from torchdiffeq import odeint_event

    layers, X, y = arrays(work)
    shapes = [part.shape for layer in layers for part in layer]
    sizes = [part.numel() for layer in layers for part in layer]
    flat = torch.cat([part.reshape(-1) for layer in layers for part in layer])

    def unravel(flat: Any) -> Any:
        parts = [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
        return list(zip(parts[::2], parts[1::2], strict=True))

    def speed(t: Any, w: Any) -> Any:
        with torch.enable_grad():
            p = w.detach().requires_grad_()
            return -torch.autograd.grad(loss(unravel(p), X, y), p)[0]

    @torch.no_grad()
    def run() -> Any:
        goal = 1e-12 * loss(unravel(flat), X, y)
        t, _ = odeint_event(
            speed,
            flat,
            torch.tensor(0.0),
            rtol=1e-8,
            atol=1e-10,
            method=method,
            event_fn=lambda t, w: torch.log(loss(unravel(w), X, y) / goal),
        )
        return t

    return run


VARIANTS: dict[str, Variants] = {
    "descent": {
        "in place": partial(in_place_descent, span=False),
        "in place, span": partial(in_place_descent, span=True),
        "in place, span, softplus": partial(in_place_descent, span=True, softplus=True),
        "compiled, 1 step": partial(compiled_descent, unroll=1),
        "compiled, 10 steps": partial(compiled_descent, unroll=10),
        "torch.func": functional_descent,
    },
    "kernel": {
        "layered": kernels,
        "layered, 50 at a time": partial(kernels, block=50),
        "compiled": partial(kernels, compile_=True),
        "torch.func": functional_kernels,
    },
    "least eigenvalue": {
        "layered, eigvalsh": partial(least_eigenvalue, kernel="layered", solver="torch"),
        "layered, SciPy's eigh": partial(least_eigenvalue, kernel="layered", solver="scipy"),
        "torch.func, SciPy's eigh": partial(least_eigenvalue, kernel="jacobian", solver="scipy"),
    },
    "curvature": {
        "jvp of grad": partial(curvature, how="jvp"),
        "stored graph": partial(curvature, how="stored graph"),
        "compiled jvp of grad": partial(curvature, how="compiled"),
    },
    "flow": {
        "torchdiffeq dopri5": partial(flow, method="dopri5"),
        "torchdiffeq dopri8": partial(flow, method="dopri8"),
    },
}
