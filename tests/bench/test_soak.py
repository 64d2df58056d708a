"""The line that a soak fits."""

from __future__ import annotations

import random

import pytest

from tests.bench.soak import slope


@pytest.mark.parametrize("per_hour", [0.0, 5e6, -2e6])
def test_the_slope_is_within_its_interval(per_hour: float) -> None:
    chance, inside = random.Random(7), 0
    for _ in range(200):
        noise, points = 0.0, []
        for number in range(300):
            # Memory wanders: each sample is near the one before.
            noise = 0.7 * noise + chance.gauss(0, 2e5)
            points.append((number * 2.0, 1e8 + per_hour * number * 2.0 / 3600 + noise))
        found = slope(points)
        inside += abs(found.per_hour - per_hour) <= found.margin
    assert inside >= 180


def test_a_few_samples_are_no_line() -> None:
    with pytest.raises(ValueError, match="too few"):
        slope([(0.0, 1.0)] * 9)


def test_a_straight_line_has_no_margin() -> None:
    found = slope([(float(n), 3.0 * n) for n in range(20)])
    assert found.per_hour == pytest.approx(10_800)
    assert found.margin == pytest.approx(0, abs=1e-6)
