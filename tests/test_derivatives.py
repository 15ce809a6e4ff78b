"""L1, L2 and β of explicit objectives: never below the truth, and hardly above it."""

import numpy as np
import pytest

from plcore import activations, bounds, toys
from plcore.derivatives import curvature_bound, derivative_bounds
from plcore.network import FeedForward
from plcore.objectives import LeastSquares, Quadratic

CASES = [
    (toys.parabola, [1.0], 1.5), (toys.wavy, [2.0], 2.5), (toys.quartic, [1.0], 0.7),
    (toys.saturating, [1.0], 1.2), (toys.tilted_well, [-0.5], 1.0), (toys.ring, [1.3, 0.0], 0.5),
    (toys.hyperbola, [1.2, 1.2], 0.5), (toys.rosenbrock, [0.5, 0.5], 0.8),
    (toys.himmelblau, [2.8, 2.2], 0.4), (toys.double_well, [1.2, 0.1], 0.5),
    (toys.unattained, [1.0, 1.0], 1.0), (toys.bowl(), [1.0, 1.0], 2.0),
]  # fmt: skip


def in_ball(rng, centre, radius, count=40_000):
    """Points of the closed ball, a third of them on the sphere."""
    u = rng.standard_normal((count, len(centre)))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    length = rng.uniform(0, 1, (count, 1)) ** (1 / len(centre))
    length[: count // 3] = 1
    return np.array(centre) + radius * (1 - 1e-12) * length * u


@pytest.mark.parametrize(("objective", "centre", "radius"), CASES, ids=lambda v: getattr(v, "name", ""))  # fmt: skip  # noqa: E501
def test_bounds_of_formulas_hold_and_are_tight(objective, centre, radius):
    points = in_ball(np.random.default_rng(0), centre, radius)
    first, second = derivative_bounds(objective, centre, radius)
    gradient, hessian = objective.gradient(points), objective.hessian(points)
    for bound, seen in [(first, np.abs(gradient).max()), (second, np.abs(hessian).max())]:
        assert seen <= bound.value * (1 + 1e-13)
        assert bound.value <= 1.01 * seen
        assert bound.direction == "upper"
    below = objective.value(points) <= objective.value(centre)
    seen = np.linalg.eigvalsh(hessian[below])[:, -1].max()
    beta = curvature_bound(objective, centre, radius).value
    assert seen <= beta * (1 + 1e-13)
    assert beta <= 1.02 * seen


def test_closed_forms_of_one_dimension():
    """x² and x⁴; the sublevel set of x⁴ is [−x, x], however large the ball."""
    first, second = derivative_bounds(toys.parabola, [1.0], 2.0)
    assert first.value == pytest.approx(6.0, rel=1e-3)
    assert second.value == pytest.approx(2.0, rel=1e-12)
    first, second = derivative_bounds(toys.quartic, [1.0], 1.0)
    assert 32 <= first.value <= 32 * 1.001
    assert 48 <= second.value <= 48 * 1.001
    for radius in (0.5, 2.0, 10.0):
        beta = curvature_bound(toys.quartic, [1.0], radius, tolerance=1e-4).value
        assert 12 <= beta <= 12 * 1.001


def test_quadratics_are_exact_and_agree_with_the_intervals():
    closed, boxes = Quadratic(np.diag([1.0, 4.0])), toys.bowl(1.0, 4.0)
    for one, other in zip(
        [*derivative_bounds(closed, [1.0, -0.5], 2.0), curvature_bound(closed, [1.0, -0.5], 2.0)],
        [*derivative_bounds(boxes, [1.0, -0.5], 2.0), curvature_bound(boxes, [1.0, -0.5], 2.0)],
        strict=True,
    ):
        assert one.value == pytest.approx(other.value, rel=2e-3)
        assert one.value <= other.value * (1 + 1e-14)
    rng = np.random.default_rng(1)
    for p in (1, 2, 3, 5):
        root = rng.standard_normal((p, p))
        objective, x = Quadratic(root @ root.T), rng.standard_normal(p)
        A = objective.matrix
        first, second = derivative_bounds(objective, x, 0.7)
        # The maximum of |2 A_i·v| over the ball is taken at x ± r A_i/|A_i|.
        rows = A / np.linalg.norm(A, axis=1, keepdims=True)
        ends = np.concatenate([x + 0.7 * rows, x - 0.7 * rows])
        assert first.value == pytest.approx(np.abs(objective.gradient(ends)).max(), rel=1e-12)
        hessian = objective.hessian(x)
        assert second.value == pytest.approx(np.abs(hessian).max(), rel=1e-12)
        largest = np.linalg.eigvalsh(hessian)[-1]
        beta = curvature_bound(objective, x, 0.7).value
        assert beta == pytest.approx(largest, rel=1e-12)
        assert beta <= p * second.value * (1 + 1e-12)


def test_upward_curvature_alone_counts():
    """On {f ≤ f(x)} near the top of the ring's hill f bends down: β is that of the rim."""
    beta = curvature_bound(toys.ring, [0.9, 0.0], 0.2).value
    hessian = toys.ring.hessian([1.0, 0.0])
    assert beta < 1.7 * np.linalg.eigvalsh(hessian)[-1]
    _, second = derivative_bounds(toys.ring, [0.9, 0.0], 0.4)
    assert second.value > 1.5 * beta


@pytest.mark.parametrize("function", [derivative_bounds, curvature_bound])
@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((abs, [1.0], 1.0), TypeError, "a Quadratic, a Formula or a LeastSquares, but is"),
        ((toys.parabola, [1.0, 2.0], 1.0), ValueError, "center must have p = 1 entries"),
        ((toys.parabola, [[1.0]], 1.0), ValueError, "center must have 1 axes"),
        ((toys.parabola, [np.inf], 1.0), ValueError, "center must be finite"),
        ((toys.parabola, [1.0], -1.0), ValueError, "radius must be positive"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(function, arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        function(*arguments)
    with pytest.raises(ValueError, match="tolerance must lie strictly between 0 and 1"):
        function(toys.parabola, [1.0], 1.0, tolerance=1.0)


def test_squared_losses_have_the_same_door():
    network = FeedForward((2, 3, 1), activations.tanh)
    problem = LeastSquares(network, np.eye(2), [1.0, -1.0])
    w = np.linspace(-0.5, 0.5, network.parameter_count)
    assert derivative_bounds(problem, w, 0.3) == bounds.derivative_bounds(problem, w, 0.3)
    assert curvature_bound(problem, w, 0.3) == bounds.curvature_bound(problem, w, 0.3)
