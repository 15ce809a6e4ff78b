"""Gradient flow on SciPy's solvers, stepped by hand and rescaled as the flow slows down.

`flow.gradient_flow` is the door; arguments are trusted here.

An epoch measures length in units of s and time in units of s/|∇f|, both at its first point, so
that all numbers the solver sees are of order one, whatever the size of f, and so that its
tolerance shrinks with the flow: near a zero of f, s = 2f/|∇f| is about the distance to it, and an
error of rtol·s in the point changes √f by the factor 1 ± rtol.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import integrate, optimize
from scipy.linalg.blas import dnrm2  # does not underflow as the sum of squares does

from ._single_run import SingleRun
from .flow_result import Piece
from .objectives import LeastSquares, Objective

__all__ = ["SOLVERS", "FlowIntegration", "Record"]

SOLVERS: dict[str, Any] = {
    "DOP853": integrate.DOP853,
    "RK45": integrate.RK45,
    "Radau": integrate.Radau,
}
EPSILON = float(np.finfo(float).eps)
ROUNDING = 256.0  # the flow ends where √f is this many times its own rounding error


@dataclass
class Record:
    """The flow after one step of the solver."""

    time: float
    x: np.ndarray
    value: float
    gradient: np.ndarray
    length: float = 0.0  # of the path so far
    exponent: float = 0.0  # ∫ |∇f|²/f dt so far
    tolerance: float = 0.0  # local error that the solver allowed, in units of `unit`
    unit: float = 0.0  # the length s
    noise: float = 0.0  # rounding error of √f

    @property
    def rate(self) -> float:
        """The PL ratio |∇f|²/f."""
        ratio = self.speed / math.sqrt(self.value) if self.value > 0 else math.inf
        return ratio * ratio  # a power of floats would not become infinite, but raise

    @property
    def speed(self) -> float:
        """|∇f|, the speed of the flow."""
        return float(dnrm2(self.gradient))


class FlowIntegration:
    """One integration under way: `begin` an epoch, `advance` step by step."""

    def __init__(
        self, objective: Objective, start: np.ndarray, rtol: float, method: str, end: float
    ) -> None:
        self.objective, self.rtol, self.method, self.end = objective, rtol, method, end
        self.evaluations = 0
        self.function: Any = objective._value_and_gradient
        if type(objective) is LeastSquares:
            X = objective.X.reshape(objective.X.shape[-2:])
            self.function = SingleRun(objective.network, X, objective.y.ravel())
        self.signs = np.random.default_rng(0).choice([-np.inf, np.inf], (8, start.size))
        self.last = Record(0.0, start, *self.evaluate(start))
        self.solver: Any = None
        self.clock = 1.0
        self.memo: tuple[Any, ...] = (None,)
        self.curvature_length = math.inf
        if self.last.speed > 0:
            # Near a critical point with f > 0 the gradient changes long before √f does.
            along = self.last.gradient / self.last.speed
            bent = float(dnrm2(objective._hessian_vector(start, along)))
            self.curvature_length = self.last.speed / bent if bent > 0 else math.inf

    def evaluate(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return f(x) and ∇f(x), counted."""
        if not math.isfinite(dnrm2(x)):  # a trial step that is far too long
            return math.nan, np.full_like(x, math.nan)
        self.evaluations += 1
        value, gradient = self.function(x)
        return float(value), gradient

    def rounding_error(self) -> float:
        """How much √f changes when every coordinate moves by one unit of its rounding."""
        near = self.objective._value(np.nextafter(self.last.x, self.signs))
        return float(np.abs(np.sqrt(np.maximum(near, 0)) - math.sqrt(self.last.value)).max())

    def natural_length(self) -> float:
        """The length on which √f or the gradient changes by a factor, at the last record."""
        return min(2 * self.last.value / self.last.speed, self.curvature_length)

    def outgrown(self) -> bool:
        """Whether the units of the epoch no longer fit."""
        shrink = 10.0 if self.method == "Radau" else 4.0  # its new start costs a Hessian
        return not self.unit / shrink <= self.natural_length() <= self.unit * 4.0

    def begin(self) -> bool:
        """Begin an epoch at the last record; False where √f is hardly more than rounding."""
        last = self.last
        tried = self.solver.step_size if self.solver else None
        step = None if tried is None else tried * self.clock
        self.noise = last.noise = self.rounding_error()
        if math.sqrt(last.value) <= ROUNDING * self.noise:
            return False
        self.unit = self.natural_length()
        if not 0 < self.unit < math.inf or not self.unit / last.speed > 0:
            return False
        # Asking for more than rounding allows would only make the steps tiny.
        rounding = max(
            4 * self.noise / math.sqrt(last.value), 0.5 * EPSILON * dnrm2(last.x) / self.unit
        )
        self.tolerance = max(self.rtol, float(rounding))
        self.clock = self.unit / last.speed
        self.base = last
        state = np.zeros(last.x.size + 2)
        self.memo = (state, last.x, last.value, last.gradient)
        bound = (self.end - last.time) / self.clock
        # The solvers take a root mean square: this bounds the error's length by tolerance · s.
        atol = self.tolerance / math.sqrt(state.size)
        options: dict[str, Any] = {"rtol": 100 * EPSILON, "atol": atol}
        if step is not None:
            options["first_step"] = min(step / self.clock, bound)
        if self.method == "Radau":
            options["jac"] = self.jacobian
        self.solver = SOLVERS[self.method](self.velocity, 0.0, state, bound, **options)
        return True

    def velocity(self, _: float, state: np.ndarray) -> np.ndarray:
        """Right-hand side for x, the path length and ∫|∇f|²/f dt, in the epoch's units."""
        if state is self.memo[0]:
            _, x, value, gradient = self.memo
        else:
            x = self.base.x + self.unit * state[:-2]
            value, gradient = self.evaluate(x)
            self.memo = (state, x, value, gradient)
        speed, scale = dnrm2(gradient), self.clock / self.unit
        result = np.empty(state.size)
        np.multiply(gradient, -scale, out=result[:-2])
        result[-2] = scale * speed
        result[-1] = self.clock * np.square(speed / math.sqrt(value)) if value > 0 else 0.0
        return result

    def jacobian(self, _: float, state: np.ndarray) -> np.ndarray:
        """Derivative of `velocity`: −∇²f, and two rows for the two integrals."""
        x = self.base.x + self.unit * state[:-2]
        value, gradient = self.evaluate(x)
        hessian = self.objective.hessian(x)
        square, image = float(gradient @ gradient), hessian @ gradient
        result = np.zeros((state.size, state.size))
        result[:-2, :-2] = -self.clock * hessian
        if square > 0 and value > 0:
            result[-2, :-2] = (self.clock / math.sqrt(square)) * image
            slope = 2 * image - (square / value) * gradient
            result[-1, :-2] = (self.clock * self.unit / value) * slope
        return result

    def advance(self) -> bool:
        """Take one step; False where the solver finds none small enough."""
        before, solver = self.last, self.solver
        try:
            solver.step()
        except ValueError as error:  # SciPy's, of a Jacobian that is no number
            if "infs or NaNs" not in str(error):
                raise
            return False
        if solver.status == "failed":
            return False
        self.last = self.record(solver.t, solver.y)
        if solver.status == "finished":
            self.last.time = self.end
        # The gradient's change over the step tells the curvature along it, at no cost.
        change = float(dnrm2(self.last.gradient - before.gradient))
        moved = float(dnrm2(self.last.x - before.x))
        self.curvature_length = self.last.speed * (moved / change) if change > 0 else math.inf
        return True

    def record(self, moment: float, state: np.ndarray) -> Record:
        """The record that belongs to a state of the solver."""
        if self.memo[0] is state:  # the solver's last evaluation, nearly always
            _, x, value, gradient = self.memo
        else:
            x = self.base.x + self.unit * state[:-2]
            value, gradient = self.evaluate(x)
        return Record(
            self.base.time + self.clock * moment,
            x,
            value,
            gradient,
            self.base.length + self.unit * float(state[-2]),
            self.base.exponent + float(state[-1]),
            self.tolerance,
            self.unit,
            self.noise,
        )

    def largest_curvature(self) -> float:
        """About the largest |eigenvalue| of ∇²f at the last record, never more: 20 products."""
        v = np.where(self.signs[0] > 0, 1.0, -1.0)
        for _ in range(20):
            v /= dnrm2(v)
            v = self.objective._hessian_vector(self.last.x, v)
            if not v.any():
                return 0.0
        return float(dnrm2(v))

    def piece(self) -> Piece:
        """The interpolant over the last step."""
        interpolant = self.solver.dense_output()
        return Piece(self.base.time, self.clock, self.base.x, self.unit, interpolant)

    def cut_at_exit(self, before: Record, start: np.ndarray, radius: float) -> bool:
        """Cut the last step where it first leaves the ball; False where it stays inside.

        A step goes no further than its length, so most steps need no look at the interpolant.
        """
        length = self.last.length - before.length
        if np.linalg.norm(before.x - start) + length <= radius:
            return False
        interpolant = self.solver.dense_output()

        def excess(moment: float) -> float:
            point = self.base.x + self.unit * interpolant(moment)[:-2]
            return float(np.linalg.norm(point - start)) - radius

        moments = np.linspace(self.solver.t_old, self.solver.t, 17)
        outside = np.flatnonzero([excess(moment) > 0 for moment in moments])
        if outside.size == 0:
            return False
        first = max(int(outside[0]), 1)
        moment = float(moments[first - 1])
        if excess(moment) < 0:
            moment = optimize.brentq(excess, moment, moments[first], xtol=EPSILON, rtol=4 * EPSILON)
        self.last = self.record(moment, interpolant(moment))
        return True
