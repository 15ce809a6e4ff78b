"""Regions of starts against closed forms, single starts and the coarsest cover."""

import numpy as np
import pytest

from plcore import criterion, toys
from plcore.criterion import integral_criterion
from plcore.regions import region_of_starts
from plcore.toys import Formula

PLAIN_RING = Formula(lambda x, y: (x * x + y * y - 1) ** 2, 2)


@pytest.mark.parametrize(
    ("objective", "strength", "integral"),
    [
        # sup r²α/(4f) and ∫√α/(2√f) in closed form; ρ = |x0|.
        (toys.hyperbola, lambda f, rho: rho**4 / (16 * f), lambda f, rho: rho**2 / (2 * f**0.5)),
        (toys.ring, lambda f, rho: rho**4 / (4 * f), lambda f, rho: rho**2 / f**0.5),
    ],
)
def test_regions_in_the_plane(objective, strength, integral):
    ticks = np.linspace(-1.97, 2.03, 21)
    starts = np.stack(np.meshgrid(ticks, ticks), -1)
    found = region_of_starts(objective, starts, [-5.5, -5.5], [5.5, 5.5], cells=256)
    f, rho = objective.value(starts), np.linalg.norm(starts, axis=-1)
    for which, exact in (("criterion", strength(f, rho)), ("integral", integral(f, rho))):
        lower, upper = getattr(found, f"{which}_lower"), getattr(found, f"{which}_upper")
        assert np.all(lower <= exact * (1 + 1e-9))
        assert np.all(exact * (1 - 1e-9) <= upper)
        verdict = found.verdict(which)
        assert not np.any((verdict == 1) & (exact <= 1))
        assert not np.any((verdict == -1) & (exact > 1))
        assert np.mean(verdict == 0) < 0.06
        far = rho > 0.5
        assert np.median(lower[far] / exact[far]) > 0.9


def test_bounds_of_regions_hold_on_the_coarsest_cover():
    # x²: √α = 2 everywhere; in the window of half-width 2 the integral reaches 2·limit.
    found = region_of_starts(toys.parabola, [[0.9], [1.0]], [-2], [2], cells=1, limit=1.5)
    exact = 2 * 1.5 / (2 * np.array([0.9, 1.0]))
    assert np.all(found.integral_upper >= exact)
    np.testing.assert_allclose(found.integral_upper, exact, rtol=1e-9)
    np.testing.assert_allclose(found.criterion_upper, exact**2, rtol=1e-9)
    # The lower bounds end at the window's edge.
    np.testing.assert_allclose(found.integral_lower, [1.1 / 0.9, 1.0], rtol=1e-9)


def test_regions_on_the_line_agree_with_single_starts():
    starts = np.linspace(0.05, 1.5, 30)[:, None]
    found = region_of_starts(toys.saturating, starts, [-12.0], [12.0])
    radii = np.linspace(0.02, 8, 400)
    for k, start in enumerate(starts):
        first = criterion.criterion(toys.saturating, start, radii)
        second = integral_criterion(toys.saturating, start, radii)
        for which, single in (("criterion", first), ("integral", second)):
            verdict = found.verdict(which)[k]
            assert verdict >= 0 or not single.holds
            assert verdict <= 0 or single.verdict != "fails"
        assert found.criterion_lower[k] <= 1 / first.kappa * 1.02
        assert found.criterion_upper[k] >= 1 / first.kappa
    edge = np.arctanh(0.5)
    decided = np.abs(starts[:, 0] - edge) > 0.02
    expected = np.where(starts[:, 0] < edge, 1, -1)
    assert np.all((found.verdict("integral") == expected)[decided])


def test_regions_where_f_vanishes_say_what_they_can():
    # At a zero of f the criterion 0 < r²α holds as soon as α > 0; for f = 0 nothing is claimed.
    found = region_of_starts(toys.bowl(1, 2), [[0.0, 0.0]], [-1, -1], [1, 1], cells=16)
    assert (found.verdict("criterion")[0], found.verdict("integral")[0]) == (1, 1)
    zero = Formula(lambda x, y: (0 * x,), 2)
    found = region_of_starts(zero, [[0.0, 0.0]], [-1, -1], [1, 1], cells=16)
    assert (found.verdict("criterion")[0], found.verdict("integral")[0]) == (0, 0)
