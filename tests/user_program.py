"""What a user may write with type hints; mypy reads it in strict mode, and a test runs it.

Each annotation is a promise of the public interface: a function that loses its types, or changes
what it returns, fails here.
"""

import io
from typing import assert_type

import numpy as np

import plcore
from plcore import activations, bounds, initialization, kernel, toys
from plcore.applicability import applicable_theorems
from plcore.certificates import first_certified
from plcore.claims import Certificate
from plcore.criterion import PLConstant, criterion, pl_constant, pl_constant_search
from plcore.curvature import Curvature, top_curvature
from plcore.descent import DescentResult, gradient_descent
from plcore.experiments import Race, Setting, race
from plcore.flow import gradient_flow
from plcore.flow_result import FlowResult
from plcore.lecun_event import best_event
from plcore.positive_start import positive_start_constants
from plcore.positive_start_bounds import certified_output_scale
from plcore.results import Bound
from plcore.step_sizes import sharp_step_size
from plcore.verification import Verification, verify


def own_network(rng: np.random.Generator) -> Certificate | None:
    """Train a network of one's own, ask for a certificate, verify it and take it elsewhere."""
    X, y = rng.standard_normal((4, 6)), rng.standard_normal(4)
    network = plcore.FeedForward((6, 5, 1), activations.tanh)
    problem = plcore.LeastSquares(network, X, y)
    w: np.ndarray = initialization.lecun(network, rng)
    run = assert_type(gradient_descent(problem, w, 0.1, 400, record_path=True), DescentResult)
    losses: np.ndarray = run.losses
    if run.path is None or losses[-1] > losses[0]:
        return None
    step, found = first_certified(problem, run.path)
    assert_type(step, int | None)
    if step is None or not isinstance(found, Certificate):
        return None
    answer = assert_type(verify(found, problem, run.path[step]), Verification)
    text: str = found.to_json()
    same = assert_type(Certificate.from_json(text), Certificate)
    eta: float = same.step_size
    return same if answer.verified and eta > 0 else None


def theorems(rng: np.random.Generator) -> list[str]:
    """Ask each part of the package for its constants."""
    X, y = rng.standard_normal((3, 5)), rng.standard_normal(3)
    network = plcore.FeedForward((5, 4, 1), activations.smooth_leaky_relu(0.1))
    problem = plcore.LeastSquares(network, X, y)
    w = initialization.positive(network, 2.0)
    K: np.ndarray = kernel.tangent_kernel(network, w, X)
    assert_type(bounds.curvature_bound(problem, w, 0.1), Bound)
    assert_type(top_curvature(problem, w), Curvature)
    assert_type(pl_constant(toys.hyperbola, np.array([1.8, 1.2]), 0.5), PLConstant)
    scales: list[float] = [
        positive_start_constants(network, X, y).required_scale,
        certified_output_scale(network, X, y, hidden=1.0).scale,
        best_event(network, X, y).log10,
        sharp_step_size(1.0, 8.0, 1.0, 10.0).step_size,
    ]
    lines = [f"{scale:.3g}" for scale in (*scales, float(K[0, 0]))]
    names: tuple[str, ...] = applicable_theorems(network, X, y, w).that_apply
    return [*lines, *names]


def flow_and_race() -> FlowResult:
    """Follow the flow of a toy, and run a small race."""
    x0 = np.array([1.8, 1.2])
    flow = assert_type(gradient_flow(toys.hyperbola, x0), FlowResult)
    found = criterion(toys.hyperbola, x0)
    holds: bool = found.holds
    searched: float = pl_constant_search(toys.hyperbola, x0, 0.5, np.random.default_rng(0)).value
    assert holds
    assert searched > 0
    assert_type(race(Setting(steps=50), ["positive"], seeds=1), Race)
    return flow


def main() -> str:
    """Run all of it."""
    rng = np.random.default_rng(0)
    out = io.StringIO()
    print(own_network(rng), *theorems(rng), flow_and_race().losses[-1], sep="\n", file=out)
    return out.getvalue()
