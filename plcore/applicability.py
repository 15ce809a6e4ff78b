"""Which theorem of the book applies to a given network, data set and start.

Each theorem's hypotheses are ticked or crossed one by one, by computation.  What no computation
can decide, such as a constant that its paper leaves unnamed, is listed as open: a theorem is then
neither claimed nor denied.

>>> import numpy as np
>>> from plcore import FeedForward, activations
>>> from plcore.applicability import applicable_theorems
>>> network = FeedForward((3, 4, 1), activations.relu)
>>> found = applicable_theorems(network, np.eye(3), [1.0, -1.0, 2.0])
>>> print(found["Theorem 2.1"].verdict)  # its hypotheses rule out the ReLU
does not apply
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import checks, hypotheses
from .activations import Activation
from .certificates import certify
from .claims import Certificate, NotShown
from .hypotheses import Hypotheses, Hypothesis
from .infinite_width import fully_connected_gram, limit_hypotheses
from .kernel import tangent_kernel
from .lecun_event import best_event, least_low, lecun_hypotheses
from .network import FeedForward
from .objectives import LeastSquares
from .positive_start import positive_start_constants, positive_start_hypotheses
from .results import Result

__all__ = ["ApplicableTheorems", "TheoremCheck", "applicable_theorems"]

_PAPER = "Theorems 1.1 and 1.2"
_CRITERIA = {
    _PAPER: "4 S(w) < r² α(w, r)",
    "Theorems 1.1♯ and 1.2♯": "2 √S(w) < (1 − ε) ∫₀ʳ √α(w, s) ds",
}
_IN_CLASS = r"relu|leaky_relu\(.*\)|(shifted_)?sigmoid|identity|piecewise_polynomial\(.*\)"
_SIGNS = {"applies": "✓", "open": "?", "not shown": "–", "does not apply": "✗"}
# Rows that a sufficient bound decides: where one fails, the theorem may hold all the same.
_SUFFICIENT = ("criterion", "A above A₀", "condition on a and τ")


@dataclass(frozen=True)
class TheoremCheck(Result):
    """One theorem, its hypotheses, and what it gives.

    Attributes
    ----------
    theorem : str
        Which.
    promise : str
        What it says where it applies, in words.
    hypotheses : Hypotheses
        Each checked by computation.
    unchecked : tuple of str
        What would have to be known besides; a sentence each.
    """

    theorem: str
    promise: str
    hypotheses: Hypotheses
    unchecked: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """One of "applies", "open", "not shown" and "does not apply".

        "does not apply" if a hypothesis fails, "not shown" if only a sufficient bound is missed
        (the theorem may hold all the same), "open" if all hold that can be checked.
        """
        if self.hypotheses.all_hold:
            return "open" if self.unchecked else "applies"
        missed = all(_sign(item) != "✗" for item in self.hypotheses.items)
        return "not shown" if missed else "does not apply"

    def _title(self) -> str:
        return f"{self.theorem}: {self.verdict}"

    def _rows(self) -> Iterator[tuple[str, str]]:
        for item in self.hypotheses.items:
            yield f"{_sign(item)} {item.name}", item.detail
        for sentence in self.unchecked:
            yield "? not checked", sentence
        yield "promise", self.promise


@dataclass(frozen=True)
class ApplicableTheorems(Result):
    """Every theorem of the book, with its hypotheses ticked or crossed.

    Attributes
    ----------
    items : tuple of TheoremCheck
        One for each theorem.
    """

    items: tuple[TheoremCheck, ...]

    def __getitem__(self, theorem: str) -> TheoremCheck:
        """Return the check of one theorem, by its name."""
        names = tuple(check.theorem for check in self.items)
        return self.items[names.index(checks.one_of(theorem, names, "theorem"))]

    @property
    def that_apply(self) -> tuple[str, ...]:
        """Names of the theorems that apply."""
        return tuple(check.theorem for check in self.items if check.verdict == "applies")

    def _title(self) -> str:
        return "Which theorem applies?"

    def __str__(self) -> str:
        """Return a line for each theorem, and one for each hypothesis below it."""
        lines = [self._title()]
        for check in self.items:
            lines.append(f"{_SIGNS[check.verdict]} {check.theorem}: {check.verdict}")
            lines += [f"    {label}: {value}" for label, value in check._rows()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        left = "style='text-align:left; vertical-align:top'"
        rows = []
        for check in self.items:
            parts = "<br>".join(
                f"{html.escape(label)}: {html.escape(value)}" for label, value in check._rows()
            )
            rows.append(
                f"<tr><th scope='row' {left}>{html.escape(check.theorem)}<br>"
                f"{_SIGNS[check.verdict]} {check.verdict}</th><td {left}>{parts}</td></tr>"
            )
        return f"<table><caption>{self._title()}</caption>{''.join(rows)}</table>"


def _sign(item: Hypothesis) -> str:
    return "✓" if item.holds else "–" if item.name in _SUFFICIENT else "✗"


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def applicable_theorems(network: FeedForward, X: Any, y: Any, w: Any = None) -> ApplicableTheorems:
    """Judge the convergence theorems of the book for a network, a data set and a start.

    The loss is the squared loss; the theorems on the criterion, 1.1 and 1.2 and their sharper
    forms, need a start, because they speak about a ball around it.

    Parameters
    ----------
    network : FeedForward
    X : array_like, shape (n, d)
        Inputs, one a row.
    y : array_like, shape (n,)
        Targets.
    w : array_like, shape (p,), optional
        The start, or any point of a training run.  Left out, only what network and data say is
        judged: a theorem applies if it does from *some* start that can be written down or drawn.

    Returns
    -------
    ApplicableTheorems
        Text and HTML have one row for each hypothesis.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape.

    Examples
    --------
    >>> import numpy as np
    >>> from plcore import FeedForward, activations
    >>> from plcore.applicability import applicable_theorems
    >>> network = FeedForward((3, 4, 1), activations.tanh)
    >>> applicable_theorems(network, np.eye(3), [1.0, -1.0, 2.0]).that_apply
    ('Theorem 2.1',)
    """
    X, y = hypotheses.one_data_set(network, X, y)
    if w is not None:
        w = network.check_parameters(checks.finite_array(w, "w", ndim=1))
    others = (_positive(network, X, y, w), _lecun(network, X, y, w))
    return ApplicableTheorems(
        (*_criteria(network, X, y, w, others), *others, _wide(network, X), _generic(network, X, w))
    )


def _criteria(
    network: FeedForward,
    X: np.ndarray,
    y: np.ndarray,
    w: np.ndarray | None,
    others: tuple[TheoremCheck, ...],
) -> list[TheoremCheck]:
    """Theorems 1.1 and 1.2 through (1.1), their sharper forms through (T2)."""
    promise = "flow and descent converge to zero loss, linearly"
    smooth = hypotheses.activations_smooth(network)
    if w is None or not smooth.holds:
        unchecked = () if w is not None else ("They speak about a start w, and none was given.",)
        return [
            TheoremCheck(name, f"{promise}.", Hypotheses(name, (smooth,)), unchecked)
            for name in _CRITERIA
        ]
    proved = [check.theorem for check in others if check.verdict == "applies"]
    found = certify(LeastSquares(network, X, y), w)
    checked = []
    for theorem, inequality in _CRITERIA.items():
        holds, said = _shown(found, integral=theorem != _PAPER)
        if proved:  # it proves (1.1), which implies (T2)
            holds, said = True, f"by the bound of {proved[0]}"
        row = Hypothesis("criterion", holds, f"{inequality} {said}.")
        more = ""
        if theorem != _PAPER and isinstance(found, Certificate):
            more = f"; descent with every step size up to {found.step_size:.3g}"
        items = Hypotheses(theorem, (smooth, row))
        checked.append(TheoremCheck(theorem, f"{promise}{more}.", items))
    return checked


def _shown(found: Certificate | NotShown, *, integral: bool) -> tuple[bool, str]:
    """Whether a certificate shows (T2), or at one of its radii (1.1), and by what."""
    if isinstance(found, NotShown):
        return False, f"is not shown. {found.reason.rstrip('.')}"
    # With α ≥ (4/n) m², (1.1) says |e| < r m(r).
    reach = found.radii * found.singular_values
    k = int(np.argmax(reach))
    if not integral and found.residual >= reach[k]:
        return False, f"is not shown: |e| = {found.residual:.3g}, and r·m(r) ≤ {reach[k]:.3g}"
    m = float(found.singular_values[-1 if integral else k])
    return True, f"by the bound “{found.argument}”, with α ≥ {4 / found.samples * m * m:.3g}"


def _positive(
    network: FeedForward, X: np.ndarray, y: np.ndarray, w: np.ndarray | None
) -> TheoremCheck:
    found = positive_start_hypotheses(network, X, y, w)
    promise = "flow and descent converge to zero loss from a positive start with A above A₀."
    if not found.all_hold:
        return TheoremCheck("Theorem 2.1", promise, found)
    constants = positive_start_constants(network, X, y, w)
    needed = constants.required_scale
    if w is None:
        row = Hypothesis("A₀ finite", math.isfinite(needed), f"A₀ = {needed:.4g}.")
        promise = f"flow and descent converge from the positive start with any A > {needed:.4g}."
    else:
        holds = constants.criterion_holds()
        row = Hypothesis(
            "A above A₀",
            holds,
            f"A = {constants.output_scale:.4g} {'exceeds' if holds else 'does not exceed'} "
            f"A₀ = {needed:.4g}.",
        )
    return TheoremCheck("Theorem 2.1", promise, Hypotheses(found.theorem, (*found.items, row)))


def _lecun(
    network: FeedForward, X: np.ndarray, y: np.ndarray, w: np.ndarray | None
) -> TheoremCheck:
    theorem, found = "Theorem 2.8", lecun_hypotheses(network, X, y)
    promise = "flow and descent converge with positive probability from LeCun's start."
    if w is None:
        if found.all_hold and y.any():
            log10 = best_event(network, X, y).log10
            promise = f"convergence from LeCun's start, with probability at least 10^{log10:.4g}."
        return TheoremCheck(theorem, promise, found)
    layers = network.layers(w)
    bias = max(float(np.abs(b).max()) for _, b in layers)
    low = min(float(W.min()) for W, _ in layers[1:])
    high = max(float(W.max()) for W, _ in layers[1:])
    norm = float(np.linalg.norm(layers[0][0]))
    rows = [
        Hypothesis("biases zero", bias == 0, f"The greatest is {bias:.4g} in absolute value."),
        Hypothesis(
            "W_2 … W_L in a box [a, 2a]",
            0 < high <= 2 * low,
            f"Their entries range from {low:.4g} to {high:.4g}.",
        ),
    ]
    if found.all_hold and rows[-1].holds:
        # (T8) holds for every a above the least one, and a = `low` is the greatest allowed.
        needed = least_low(network, X, y, norm if norm > 0 else None)
        rows.append(
            Hypothesis(
                "condition on a and τ", low > needed, f"a = {low:.4g}, needed: {needed:.4g}."
            )
        )
        promise = "flow and descent converge to zero loss: the start lies in the event."
    return TheoremCheck(theorem, promise, Hypotheses(found.theorem, (*found.items, *rows)))


def _wide(network: FeedForward, X: np.ndarray) -> TheoremCheck:
    """Du, Lee, Li, Wang, Zhai (2019), for the fully connected network."""
    theorem = "Du et al. 2019"
    n, depth = len(X), network.depth - 1
    widths, first = set(network.widths[1:-1]), network.activations[0]
    items = [
        *limit_hypotheses(X, network.activations).items,
        Hypothesis(
            "hidden layers of one width and activation",
            len(widths) == 1 and len(set(network.activations)) == 1,
            f"The hidden widths are {network.widths[1:-1]}.",
        ),
    ]
    unchecked = [
        "Their network has no biases and N(0, 1) weights behind factors 1/√m, and the statement "
        "holds with high probability over the draw: it cannot be read off one start."
    ]
    if all(item.holds for item in items):
        limit = fully_connected_gram(X, first, depth)
        least = limit.least_eigenvalue
        items.append(
            Hypothesis(
                "λ₀ > 0",
                limit.is_positive,
                f"λ₀ = {least:.4g}, with an error of about {limit.error:.1g}.",
            )
        )
        if limit.is_positive:
            order = 2.0**depth * max(n**4 / least**4, n**2 / least**2)
            unchecked.append(
                f"The width must exceed a constant times powers of n and 1/λ₀; the constant is "
                f"not given. With 1 for it, m ≥ 2^L n⁴/λ₀⁴ ≈ {order:.1e}, and m = {min(widths)}."
            )
    promise = "descent from a random start converges like (1 − ηλ₀/2)^k if the width suffices."
    return TheoremCheck(theorem, promise, Hypotheses(theorem, tuple(items)), tuple(unchecked))


def _generic(network: FeedForward, X: np.ndarray, w: np.ndarray | None) -> TheoremCheck:
    """Jakhmola (2025)."""
    theorem = "Jakhmola 2025"
    n, p = len(X), network.parameter_count
    outside = [one.name for one in dict.fromkeys(network.activations) if not _in_class(one)]
    items = [
        Hypothesis("p ≥ n", p >= n, f"p = {p} parameters, n = {n} samples."),
        Hypothesis(
            "activation ReLU, sigmoid or piecewise non-zero polynomial",
            not outside,
            f"{', '.join(outside)}: not known to be one." if outside else "In the class.",
        ),
    ]
    if w is not None:
        K = tangent_kernel(network, w, X)
        values = np.linalg.eigvalsh(K)
        rank = int((values > n * np.finfo(np.float64).eps * max(values[-1], 0.0)).sum())
        items.append(
            Hypothesis(
                "K(w) of full rank at the start",
                rank == n,
                f"Numerical rank {rank} of {n}; λ_min = {values[0]:.3g}.",
            )
        )
    unchecked = (
        "Of this paper we have the abstract alone, which does not say from which starts, nor what "
        "is assumed besides.",
    )
    promise = "gradient flow converges linearly."
    return TheoremCheck(theorem, promise, Hypotheses(theorem, tuple(items)), unchecked)


def _in_class(activation: Activation) -> bool:
    """Whether the name says ReLU, sigmoid, or piecewise polynomial without a zero piece."""
    pieces = activation.name.removesuffix(")").partition("|")[2].split(";")
    if activation.name.startswith("piecewise") and any(not piece.strip(" 0") for piece in pieces):
        return False
    return re.fullmatch(_IN_CLASS, activation.name) is not None
