"""When a dead child is replaced, and when its parent gives up on it."""

import pytest

from mailfleet_workers.fleet.restart import ELSEWHERE_S, MOST_S, Again, GiveUp, Restarts
from mailfleet_workers.fleet.status import CANNOT_WORK, ELSEWHERE, FAILED, LOST


def test_the_first_death_is_answered_at_once() -> None:
    """A killed child has a successor without any wait."""
    assert Restarts().decide(status=-9, ready_for_s=60.0) == Again(0.0)


def test_one_failure_after_another_waits_longer_each_time() -> None:
    """A child that never gets ready is started ever more rarely, but always within ten seconds."""
    restarts = Restarts()
    waits = [restarts.decide(status=FAILED, ready_for_s=None) for _ in range(7)]

    assert waits == [Again(0.0), Again(1.0), Again(2.0), Again(4.0), Again(8.0), Again(8.0), Again(8.0)]
    assert MOST_S < 10


def test_a_child_that_worked_for_a_while_clears_the_record() -> None:
    """What happened before a child worked does not count against its successor."""
    restarts = Restarts()
    for _ in range(5):
        restarts.decide(status=FAILED, ready_for_s=None)

    assert restarts.decide(status=-11, ready_for_s=10.0) == Again(0.0)
    assert restarts.decide(status=LOST, ready_for_s=0.5) == Again(1.0)


def test_three_refusals_in_a_row_are_the_end() -> None:
    """Wrong settings or a module that cannot be imported do not get better by trying."""
    restarts = Restarts()
    decisions = [restarts.decide(status=CANNOT_WORK, ready_for_s=None) for _ in range(3)]

    assert decisions == [Again(0.0), Again(1.0), GiveUp()]


@pytest.mark.parametrize("between", [FAILED, -9, LOST])
def test_refusals_count_only_in_a_row(between: int) -> None:
    """Another end between two refusals begins the count anew."""
    restarts = Restarts()
    for status in (CANNOT_WORK, CANNOT_WORK, between, CANNOT_WORK, CANNOT_WORK):
        assert isinstance(restarts.decide(status=status, ready_for_s=None), Again)


def test_a_place_that_had_a_ready_child_is_never_given_up() -> None:
    """What its modules need may be away for a while: it is tried again and again, within ten seconds each time."""
    restarts = Restarts()
    restarts.decide(status=LOST, ready_for_s=0.5)

    for _ in range(20):
        assert isinstance(restarts.decide(status=CANNOT_WORK, ready_for_s=None), Again)


def test_a_database_that_nobody_has_confirmed_is_asked_for_again_and_again() -> None:
    """It may be confirmed at any time, and is no failure of the child: the place is never given up."""
    restarts = Restarts()
    assert [restarts.decide(status=ELSEWHERE, ready_for_s=None) for _ in range(5)] == [Again(ELSEWHERE_S)] * 5
    assert restarts.decide(status=FAILED, ready_for_s=None) == Again(0.0)
