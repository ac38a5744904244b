"""What senders of a comparison want at which moment, and how long their mails are under way."""

import math
import random

import pytest

from tests.bench.traffic_shape import DELAYS, PERIOD, Shape


@pytest.mark.parametrize("opener", [False, True])
def test_saturated_always_wants_more(opener: bool) -> None:
    """There is no moment at which it has enough."""
    assert all(Shape.SATURATED.wanted(n / 10, opener=opener) == math.inf for n in range(100))


def test_bursts_stand_around_the_end_of_a_window() -> None:
    """In each period: one permit for one process early in the first window, then all of them across its end, then none."""
    for period in range(3):
        begin = period * PERIOD
        assert Shape.EDGES.wanted(begin, opener=True) == 1
        assert Shape.EDGES.wanted(begin, opener=False) == 0
        assert Shape.EDGES.wanted(begin + 0.89, opener=True) == 0
        for windows in (0.91, 1.0, 1.89):
            assert Shape.EDGES.wanted(begin + windows, opener=False) == math.inf
        # Two windows at least in which nothing is wanted but the one permit.
        for windows in (1.91, 2.5, 2.99):
            assert Shape.EDGES.wanted(begin + windows, opener=True) == 0


def test_delays_are_what_they_are_called() -> None:
    """Three are always the same; of the uneven ones about a tenth are late, from 50 to 500 ms."""
    rng = random.Random(7)
    *even, uneven = DELAYS
    assert {delay.name: delay.draw(rng) * 1000 for delay in even} == {"1 ms": 1, "10 ms": 10, "100 ms": 100}
    drawn = [uneven.draw(rng) for _ in range(2000)]
    late = [one for one in drawn if one != uneven.s]
    assert 150 < len(late) < 250
    assert min(late) >= 0.05
    assert max(late) <= 0.5
