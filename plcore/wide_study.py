"""Widths, depths and seeds: the study of the chapter on over-parameterized networks.

The theory of Du et al. rests on two events: at the start the Gram matrix G^L(0) is close to its
limit K^L, and along training it stays close to G^L(0), both measured against λ_0 = λ_min(K^L).
Each cell of the study trains one architecture from a few starts and records both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import _files, activations, checks
from ._progress import progress
from .activations import Activation
from .infinite_width import LimitGram, fully_connected_gram, residual_gram
from .wide_networks import WideNetwork, train_wide

__all__ = ["study_cell", "study_data", "study_limit", "write_study"]

ARCHITECTURES = ("fully connected", "residual")
STEPS = 200


def study_data(
    samples: int = 10, dimension: int = 5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs uniform on the unit sphere, shape (n, d), and standard normal targets.

    Raises
    ------
    TypeError, ValueError
        If an argument is not an integer of the right sign.
    """
    samples = checks.positive_integer(samples, "samples")
    dimension = checks.positive_integer(dimension, "dimension")
    rng = np.random.default_rng(checks.positive_integer(seed, "seed", least=0))
    X = rng.standard_normal((samples, dimension))
    return X / np.linalg.norm(X, axis=1, keepdims=True), rng.standard_normal(samples)


def study_limit(X: Any, activation: Activation, architecture: str, depth: int) -> LimitGram:
    """Return K^L for "fully connected" or, with c_res = 1, "residual".

    Raises
    ------
    TypeError, ValueError
        As `infinite_width.fully_connected_gram`, or if there is no such architecture.
    """
    checks.one_of(architecture, ARCHITECTURES, "architecture")
    gram = fully_connected_gram if architecture == ARCHITECTURES[0] else residual_gram
    return gram(X, activation, depth)


def study_cell(
    X: Any,
    y: Any,
    activation: str,
    architecture: str,
    depth: int,
    width: int,
    *,
    seeds: Sequence[int] = range(5),
    steps: int = STEPS,
) -> dict[str, Any]:
    """Train one architecture from a few starts; return what the theory watches, as plain numbers.

    The step size of each run is η = 1/λ_max(G(0)).

    Parameters
    ----------
    X : array_like, shape (n, d)
    y : array_like, shape (n,)
    activation : str
        A name that `activations.named` knows.
    architecture : {"fully connected", "residual"}
    depth, width : int
        L and m.
    seeds : sequence of int
        Of the starts.
    steps : int, default 200

    Returns
    -------
    dict
        With four digits, medians over the starts where nothing else is said:

        * ``activation``, ``architecture``, ``depth``, ``width``;
        * ``limit_eigenvalue``, λ_0;
        * ``distance``, ‖G^L(0) − K^L‖/‖K^L‖;
        * ``start``, λ_min(G^L(0))/λ_0;
        * ``least``, min_k λ_min(G^L(k))/λ_0;
        * ``drift``, max_k ‖G^L(k) − G^L(0)‖/λ_0;
        * ``full``, λ_min(G(0))/λ_0 for the whole kernel;
        * ``rate_ratio``, the greatest L(k)/((1 − ηλ_0/2)^k L(0)) over starts and k ≥ 1;
        * ``final``, L(steps)/L(0).

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range.

    Examples
    --------
    >>> from plcore.wide_study import study_cell, study_data
    >>> X, y = study_data(4, 3)
    >>> cell = study_cell(X, y, "tanh", "residual", 2, 100, seeds=[0], steps=50)
    >>> cell["rate_ratio"] < 1
    True
    """
    sigma = activations.named(activation)
    limit = study_limit(X, sigma, architecture, depth)
    K, least = limit.matrix, limit.least_eigenvalue
    scale = None if architecture == ARCHITECTURES[0] else 1.0
    network = WideNetwork(np.shape(X)[1], width, depth, sigma, scale)
    rows = []
    for seed in checks.sequence(list(seeds), "seeds", "integers"):
        w = network.draw(np.random.default_rng([checks.positive_integer(seed, "seed", least=0)]))
        G = network.gram(w, X)
        step_size = 1 / float(np.linalg.eigvalsh(G.sum(axis=0))[-1])
        run = train_wide(network, X, y, w, step_size, steps)
        bound = (1 - step_size * least / 2) ** np.arange(1, steps + 1)
        rows.append(
            (
                np.linalg.norm(G[depth - 1] - K, 2) / np.linalg.norm(K, 2),
                run.least_block[0] / least,
                run.least_block.min() / least,
                run.drift.max() / least,
                run.least_full[0] / least,
                (run.losses[1:] / bound).max() / run.losses[0],
                run.losses[-1] / run.losses[0],
            )
        )
    names = ("distance", "start", "least", "drift", "full", "rate_ratio", "final")
    found = {
        name: np.max(column) if name == "rate_ratio" else np.median(column)
        for name, column in zip(names, np.array(rows).T, strict=True)
    }
    return {
        "activation": activation,
        "architecture": architecture,
        "depth": depth,
        "width": width,
        "limit_eigenvalue": float(f"{least:.4g}"),
        **{name: float(f"{value:.4g}") for name, value in found.items()},
    }


def write_study(path: str | Path) -> None:
    """Run the whole study (some minutes) and write it as JSON, one cell a line.

    Two activations, both architectures, depths 1 to 8 and widths 32 to 1024 (512 beyond depth 4,
    16384 at depth 1), five starts each, on the data of `study_data`.

    Raises
    ------
    TypeError, ValueError
        If `path` is not a file's path in a folder that exists.
    """
    path = _files.destination(path)
    X, y = study_data()
    plan = []
    for activation in ("tanh", "softplus"):
        for architecture in ARCHITECTURES:
            for depth in (1, 2, 3, 4, 6, 8):
                most = {1: 14, 2: 10, 3: 10, 4: 10}.get(depth, 9)
                for power in range(5, most + 1):
                    plan.append((activation, architecture, depth, 2**power))
    cells = [study_cell(X, y, *key) for key in progress(plan, len(plan), "wide networks")]
    lines = ",\n".join(json.dumps(cell, ensure_ascii=False) for cell in cells)
    _files.write(path, f"[\n{lines}\n]\n".encode())
