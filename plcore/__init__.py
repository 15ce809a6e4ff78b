"""Convergence of gradient descent through local Polyak–Łojasiewicz criteria.

The mathematics of S. Chatterjee, *Convergence of gradient descent for deep neural networks*
(arXiv 2203.16462 v5), and what goes beyond it.  Six names stand here: `FeedForward`,
`LeastSquares`, `gradient_descent`, `gradient_flow`, `certify` and `verify`.  Everything else is in
the modules, which are loaded on first use:

>>> import numpy as np, plcore
>>> network = plcore.FeedForward((3, 5, 1), plcore.activations.tanh)
>>> problem = plcore.LeastSquares(network, np.eye(3), [1.0, -1.0, 2.0])
>>> start = plcore.initialization.positive(network, output_scale=2.0)
>>> run = plcore.gradient_descent(problem, start, step_size=0.05, steps=200)
>>> bool(run.losses[-1] < 1e-9)
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .certificates import certify as certify
    from .descent import gradient_descent as gradient_descent
    from .flow import gradient_flow as gradient_flow
    from .network import FeedForward as FeedForward
    from .objectives import LeastSquares as LeastSquares
    from .verification import verify as verify

__version__ = "0.1.0"

_NAMES = {
    "FeedForward": "network",
    "LeastSquares": "objectives",
    "certify": "certificates",
    "gradient_descent": "descent",
    "gradient_flow": "flow",
    "verify": "verification",
}
_MODULES = (
    "activations",
    "applicability",
    "architectures",
    "bound_trials",
    "bounds",
    "certificate_study",
    "certificates",
    "claims",
    "constants_study",
    "criterion",
    "curvature",
    "descent",
    "experiments",
    "fair_race",
    "figures",
    "flow",
    "gaussian_pairs",
    "hypotheses",
    "infinite_width",
    "initialization",
    "jacobian_bounds",
    "kernel",
    "lecun_event",
    "network",
    "objectives",
    "optimizers",
    "piecewise",
    "positive_start",
    "positive_start_bounds",
    "positive_start_descent",
    "results",
    "toys",
    "verification",
    "wide_networks",
    "wide_study",
    "worst_points",
)

__all__ = ["FeedForward", "LeastSquares", "certify", "gradient_descent", "gradient_flow", "verify"]


# Which extra brings a package that a module needs beside NumPy and SciPy.
_EXTRAS = {
    "PIL": "figures",
    "autograd": "architectures",
    "cycler": "figures",
    "flint": "certificates",
    "joblib": "experiments",
    "matplotlib": "figures",
    "tqdm": "experiments",
}


def __getattr__(name: str) -> Any:
    """Load a public name or module when it is first asked for, so that import stays quick."""
    if name not in _NAMES and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f".{_NAMES.get(name, name)}", __name__)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        raise ModuleNotFoundError(
            f"plcore.{name} needs the package {package}, "
            f"which the extra plcore[{_EXTRAS[package]}] installs.",
            name=error.name,
        ) from error
    return getattr(module, name) if name in _NAMES else module


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMES, *_MODULES])
