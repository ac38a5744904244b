"""The breaker: closed, open for a while that doubles, then tried again."""

from hypothesis import given
from hypothesis import strategies as st

from mailfleet.breaker import FIRST_S, MOST_S, Breaker


def test_passes_until_the_first_failure() -> None:
    """A breaker that never saw a failure lets everything pass."""
    breaker = Breaker()

    assert breaker.allows(0)
    breaker.succeeded()
    assert breaker.allows(0)


def test_opens_for_two_seconds_then_doubles_to_a_minute() -> None:
    """Failures in a row pause 2, 4, 8, 16, 32, 60, 60 seconds."""
    breaker, now, pauses = Breaker(), 100.0, []
    for _ in range(7):
        pauses.append(breaker.failed(now))
        assert not breaker.allows(now + pauses[-1] - 0.001)
        now += pauses[-1]
        assert breaker.allows(now)

    assert pauses == [2, 4, 8, 16, 32, 60, 60]


def test_a_success_forgets_all_failures() -> None:
    """After a success the next pause is the first one again."""
    breaker = Breaker()
    breaker.failed(0)
    breaker.failed(10)
    breaker.succeeded()

    assert breaker.allows(10)
    assert breaker.failed(20) == FIRST_S


@given(st.lists(st.booleans(), max_size=200))
def test_never_pauses_longer_than_a_minute(outcomes: list[bool]) -> None:
    """Whatever happens, it is tried again within MOST_S."""
    breaker, now = Breaker(), 0.0
    for good in outcomes:
        if good:
            breaker.succeeded()
        else:
            breaker.failed(now)
        assert breaker.allows(now + MOST_S)
        now += 1
