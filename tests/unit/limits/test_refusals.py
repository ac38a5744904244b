"""What was refused for long is not asked for again at once."""

from dataclasses import replace

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Refusal
from mailfleet_workers.limits.refusals import Refusals
from tests.unit.workers.making import claimed


def test_a_refusal_is_repeated_for_its_kind() -> None:
    """Mails of the same account, app and priority hear it, with what is left of the wait; others are asked for."""
    now = [100.0]
    refusals = Refusals(lambda: now[0])
    row = claimed(1)
    refusals.remember(row, Refusal("account messages 1/d", 3600.0), 5.0)
    now[0] += 4.0
    assert refusals.get(claimed(2)) == Refusal("account messages 1/d", 3596.0)
    assert refusals.get(claimed(3, priority=Priority.HIGH)) is None
    assert refusals.get(claimed(3, account="other")) is None
    assert refusals.get(replace(row, app="news")) is None


def test_a_refusal_is_forgotten_in_time() -> None:
    """Not longer than was said, and not to the end of a short wait: limits change, and permits come back."""
    now = [100.0]
    refusals = Refusals(lambda: now[0])
    refusals.remember(claimed(1), Refusal("account messages 1/d", 3600.0), 5.0)
    now[0] += 5.0
    assert refusals.get(claimed(1)) is None
    refusals.remember(claimed(1), Refusal("account messages 10/min", 4.0), 5.0)
    now[0] += 2.0
    assert refusals.get(claimed(1)) is None
