"""What every network near a positive start has in common, for given budgets of its layers.

A point v of the ball differs from the start by (ΔW_ℓ, Δb_ℓ) in layer ℓ, of norm at most r_ℓ.  From
r_1 … r_L follow bounds on the pre-activations, on the slopes, and on t_i = m̂·q(x_i, v), where q is
the signal at the first layer and m̂ the direction it has at the start; |J(v)ᵀe| ≥ |X̃ᵀ(t∘e)|.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .activations import Activation
from .network import FeedForward

__all__ = ["Layer", "Reach", "Start", "covering_splits"]

_ODD_SLOPED = ("arcsinh", "arctan", "identity", "sigmoid", "tanh")


def _shares(activation: Activation) -> bool:
    """Whether log σ′(±√t) is convex and |σ(±√t) − σ(0)| concave in t, as the chapter proves."""
    plain = activation.name.removeprefix("shifted_")
    return activation.softplus_form is not None or plain in (*_ODD_SLOPED, "softplus")


def covering_splits(depth: int, parts: int) -> np.ndarray:
    """Return points u, shape (N, L), such that every split r has r_ℓ² ≤ u_ℓ s² for one of them.

    If Σ r_ℓ² ≤ s², then k_ℓ = max(⌈K r_ℓ²/s²⌉, 1) − 1 has Σ k_ℓ ≤ K − 1, and raising some k_ℓ
    makes that an equality; u_ℓ = (k_ℓ + 1)/K.
    """
    found: list[tuple[int, ...]] = [()]
    for _ in range(depth - 1):
        found = [(*k, one) for k in found for one in range(parts - sum(k))]
    whole = [(*k, parts - 1 - sum(k)) for k in found]
    return (np.array(whole, dtype=float) + 1) / parts


@dataclass(frozen=True)
class Layer:
    """One hidden layer at the start; `weight` is the matrix that leads out of it."""

    activation: Activation
    z: np.ndarray
    h: np.ndarray
    slope: np.ndarray
    weight: np.ndarray
    share: float | None  # greatest probability of a neuron on a random path; None: no sharing

    @cached_property
    def size(self) -> float:
        """‖W‖, rounded up."""
        return float(np.linalg.norm(self.weight, 2)) * (1 + 1e-12)

    @cached_property
    def column(self) -> float:
        """The greatest norm of a column of W."""
        return float(np.linalg.norm(self.weight, axis=0).max()) * (1 + 1e-12)

    @cached_property
    def entries(self) -> tuple[float, float]:
        """Least and greatest entry of W."""
        return float(self.weight.min()), float(self.weight.max())

    @cached_property
    def rows(self) -> tuple[float, float, float]:
        """|(Σ_k W_jk)_j|, the greatest max_k W_jk/Σ_k W_jk, the greatest norm of a row."""
        total = self.weight.sum(axis=1)
        part = float((self.weight.max(axis=1) / total).max())
        longest = float(np.linalg.norm(self.weight, axis=1).max())
        return float(np.linalg.norm(total)), part, longest


@dataclass(frozen=True)
class Reach:
    """Bounds that hold for all points within the budgets; each entry is an array over splits."""

    budgets: list[np.ndarray]
    moves: list[np.ndarray]  # on |z_ℓ − z̄_ℓ|
    path_slopes: list[np.ndarray]  # Θ_ℓ: geometric mean of the slopes along paths is at least ΠΘ_ℓ
    top_slopes: list[np.ndarray]  # c′_ℓ
    bends: list[np.ndarray]  # c″_ℓ
    gains: list[np.ndarray]  # on ‖V_{ℓ+1} D_ℓ‖
    owns: list[np.ndarray]  # on |ΔW_{ℓ+1} h_ℓ + Δb_{ℓ+1}|
    signal: np.ndarray  # t_i ≥ signal


class Start:
    """A positive start of a network, and what bounds on its neighbourhood need of it.

    Parameters
    ----------
    network : FeedForward
    layers : list of (W, b)
        With W_1 = 0, hidden biases 0 and positive weights elsewhere.
    X : numpy.ndarray, shape (n, d)
    """

    def __init__(
        self, network: FeedForward, layers: list[tuple[np.ndarray, np.ndarray]], X: np.ndarray
    ) -> None:
        """Run the start once: with W_1 = 0 nothing in it depends on the input."""
        self.depth = network.depth
        self.longest_input = float(np.sqrt(np.square(X).sum(axis=1).max() + 1))
        weights = [weight for weight, _ in layers[1:]]
        ahead = [np.ones(1)]
        for weight in reversed(weights):
            ahead.append(ahead[-1] @ weight)
        ahead = ahead[::-1]  # path weights from each neuron of layer ℓ to the output
        z = np.zeros(network.widths[1])
        states = []
        for activation, weight in zip(network.activations, weights, strict=True):
            h, slope = activation.functions[0](z), activation.functions[1](z)
            states.append((activation, z, h, slope))
            z = weight @ h
        signal, signals = np.ones(1), []
        for (_, _, _, slope), weight in zip(reversed(states), reversed(weights), strict=True):
            signals.append(signal @ weight)  # γ̄_ℓ, before the slope of layer ℓ
            signal = signals[-1] * slope
        self.signals = signals[::-1]
        self.first_signal = float(np.linalg.norm(signal))  # |q| at the start
        self.direction = signal / self.first_signal
        self.layers: list[Layer] = []
        reached = self.direction
        for (activation, z, h, slope), weight, onward in zip(
            states, weights, ahead[:-1], strict=True
        ):
            share = None
            if not z.any() and _shares(activation):
                flow = onward * reached
                share = float(flow.max() / flow.sum())
            self.layers.append(Layer(activation, z, h, slope, weight, share))
            reached = weight @ reached
        self.paths = float(reached[0])  # W̄_L ⋯ W̄_2 m̂

    def reach(
        self,
        budgets: list[np.ndarray],
        shared: bool,
        part: float | np.ndarray = 1.0,
        caps: list[tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> Reach:
        """Bound pre-activations, slopes and t within the budgets r_1, …, r_L.

        For the samples whose |z_1| is at most `part` of the greatest that r_1 allows.  `caps` are
        bounds on |z_ℓ − z̄_ℓ| and on the norm of its negative part known from elsewhere.
        """
        move = budgets[0] * self.longest_input * part
        fall = move  # on the norm of the negative part of z − z̄
        moves, path_slopes, top_slopes, bends, gains, owns = [], [], [], [], [], []
        even, spread = [], []
        for index, (layer, budget) in enumerate(zip(self.layers, budgets[1:], strict=True)):
            if caps is not None:
                move, fall = np.minimum(move, caps[index][0]), np.minimum(fall, caps[index][1])
            activation, low, high = layer.activation, float(layer.z.min()), float(layer.z.max())
            least, top = activation.range(1, low - fall, high + move)
            bend = np.abs(activation.range(2, low - fall, high + move)).max(axis=0)
            width = len(layer.z)
            uneven = (1 + top / least) / (2 * np.sqrt(top / least))  # Kantorovich
            mean = path = least
            change = top * move
            if shared and layer.share is not None:
                zero = float(activation.functions[0](np.zeros(1))[0])
                root = np.sqrt(layer.share)
                path = activation.range(1, -root * fall, root * move)[0]
                mean = activation.range(1, -fall / np.sqrt(width), move / np.sqrt(width))[0]
                if activation.softplus_form is not None:
                    change = np.minimum(change, activation.functions[0](move) - zero)
            if shared and low == high:
                uneven = np.minimum(uneven, np.sqrt(1 + np.square(bend * move / mean) / width))
            # W D = W D̄ + W (D − D̄), and the second is at most c″|z − z̄| times a column of W.
            bent = float(layer.slope.max()) * layer.size + bend * move * layer.column
            gains.append(np.minimum(top * layer.size, bent) + top * budget)
            moves.append(move)
            path_slopes.append(path)
            top_slopes.append(top)
            bends.append(bend)
            even.append(mean)
            spread.append(uneven)
            own = budget * np.sqrt(np.square(np.linalg.norm(layer.h) + change) + 1)
            owns.append(own)
            grown = layer.size * change
            if shared and layer.share is not None:
                rows, part, _ = layer.rows
                root = np.sqrt(part)
                rise = rows * (activation.functions[0](root * move) - zero)
                sink = rows * (zero - activation.functions[0](-root * fall))
                move, fall = np.minimum(grown, rise) + own, np.minimum(grown, sink) + own
            else:
                move = fall = grown + own
            fall = np.minimum(fall, move)
        share = self.paths * np.prod(path_slopes, axis=0)
        # Room for rounding where nearly nothing is left.
        moved = (1 + 1e-12) * self._moved(budgets, top_slopes, even, spread)
        signal = share * np.maximum(1 - moved, 0.0)
        return Reach(budgets, moves, path_slopes, top_slopes, bends, gains, owns, signal)

    def common_signal(
        self, budgets: list[np.ndarray], shared: bool, fraction: float, steps: int
    ) -> np.ndarray:
        """Bound |X̃ᵀ(t∘e)|/(√μ |e|), given that the samples share the budget r_1.

        If 1/t_i² ≤ Φ(|z_1(x_i)|²) with a concave Φ, then it is at least 1/√Φ(r_1² μ K) with
        K = λ_max(P∘P⁻¹), as the chapter on sharper constants proves.  Here Φ is the least
        concave function above a staircase, and `fraction` is μK/χ².  `budgets` have shape (N,).
        """
        ends = np.linspace(0.0, 1.0, steps + 1) ** 0.8  # in units of χ² r_1²
        least = self.reach(budgets, shared, np.sqrt(ends[1:, None])).signal
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            stairs = np.concatenate([1 / np.square(least), 1 / np.square(least[-1:])])
            highest = stairs[-1]
            if fraction < 1:
                below = ends <= fraction
                weight = (fraction - ends[below, None]) / (ends[~below] - ends[below, None])
                low, high = stairs[below][:, None], stairs[~below]
                weight = weight[..., None]
                highest = ((1 - weight) * low + weight * high).max(axis=(0, 1))
            found: np.ndarray = 1 / np.sqrt(highest)
        return np.maximum(np.where(np.isnan(found), 0.0, found), least[-1])

    def _moved(
        self,
        budgets: list[np.ndarray],
        top: list[np.ndarray],
        even: list[np.ndarray],
        spread: list[np.ndarray],
    ) -> np.ndarray:
        """Bound the part of t that the changes of W_2 … W_L can take away, relative to the rest.

        A sum over nonempty sets of layers whose change is kept; `last` has the present layer in.
        """
        uneven = float(self.direction.max() / self.direction.min())
        none, last, other = uneven, 0.0 * budgets[0], 0.0 * budgets[0]
        for layer, budget, c, mean, kappa in zip(
            self.layers, budgets[1:], top, even, spread, strict=True
        ):
            least, greatest = layer.entries
            own = budget / (least * np.sqrt(layer.weight.size))
            ratio = greatest / least
            last, other = (
                own * (last * c / mean + (other + none) * kappa),
                ratio * (last * kappa + other),
            )
            none = none * ratio
        return last + other
