"""Figures of sliding windows, held against counting by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_workers.limits.rule import Rate
from tests.stage.sliding import at_rank, jain, longest_gap, mean_window, use_of, worst_window

#: Whole milliseconds, in an order of their own.
moments = st.lists(st.integers(0, 5_000), max_size=60)


def counted(times: list[int], window: int) -> int:
    """The worst window, looked for at every event."""
    return max((sum(begin <= time < begin + window for time in times) for begin in times), default=0)


@given(moments, st.integers(1, 3_000))
def test_the_worst_window_is_the_one_found_by_counting(times: list[int], window: int) -> None:
    """No window that begins with an event holds more, and one holds as many."""
    assert worst_window(times, window) == counted(times, window)


def test_a_window_is_open_at_its_end() -> None:
    """Events one window apart are in different windows, a little less apart in one."""
    assert worst_window([0.0, 1.0, 2.0], 1.0) == 1
    assert worst_window([0.0, 0.999, 1.0], 1.0) == 2
    assert worst_window([], 1.0) == 0


@given(st.lists(st.integers(0, 5_000), min_size=2, max_size=40), st.integers(1, 1_000))
def test_the_mean_window_is_the_mean_of_all_windows(times: list[int], window: int) -> None:
    """As the sum over every millisecond at which a window may end says."""
    mean = mean_window(times, window)
    begin, end = min(times) + window, max(times)
    if end - begin < window:
        assert mean is None
        return
    sizes = [sum(moment - window < time <= moment for time in times) for moment in range(begin, end)]
    assert mean == pytest.approx(sum(sizes) / len(sizes))


def test_a_rate_that_is_used_up_is_used_whole() -> None:
    """Eight a second, evenly or all at once: 100 %; a pause after each window takes its part."""
    even = [n / 8 for n in range(200)]
    bursts = [float(second) for second in range(20) for _ in range(8)]
    slow = [second * 1.25 for second in range(20) for _ in range(8)]
    rate = Rate.parse("8/s")
    for times in (even, bursts):
        use = use_of(rate, times)
        assert (use.worst, use.over) == (8, False)
        assert use.utilisation == pytest.approx(1.0, abs=0.01)
    assert use_of(rate, slow).utilisation == pytest.approx(1 / 1.25, abs=0.01)


def test_what_is_over_is_seen() -> None:
    """Sixteen in a window of ten."""
    use = use_of(Rate.parse("10/s"), [n / 16 for n in range(160)])
    assert (use.worst, use.over, str(use)) == (16, True, "10/s: 16 160.0%")


def test_the_index_of_fairness() -> None:
    """Equal parts have 1, one with everything 1/n; whoever has nothing to share is an error."""
    assert jain([5, 5, 5, 5]) == 1.0
    assert jain([20, 0, 0, 0]) == 0.25
    assert jain([1, 2, 3]) == pytest.approx(36 / 42)
    with pytest.raises(ValueError, match="nobody"):
        jain([0, 0])


def test_ranks_and_gaps() -> None:
    """A rank is one of the values; a gap needs two events."""
    assert at_rank([3.0, 1.0, 2.0], 0.5) == 2.0
    assert at_rank([float(n) for n in range(100)], 0.95) == 95.0
    assert at_rank([1.0, 2.0], 0.99) == 2.0
    assert longest_gap([4.0, 1.0, 1.5]) == 2.5
    assert longest_gap([1.0]) == 0.0
