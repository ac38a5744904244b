"""Outcomes as values, and as `send` raises them."""

from datetime import UTC, datetime

import pytest

from mailfleet.errors import IdempotencyConflict, InvalidMail, RetryScheduled, SendFailed, SendRefused
from mailfleet.results import Conflict, Failed, Invalid, Pending, Refused, Retry, Sent, raised

DUE = datetime(2026, 1, 31, 8, tzinfo=UTC)


def test_sent_and_pending_are_returned() -> None:
    """What is sent or on its way is no error."""
    for result in (Sent(17), Pending(17, "queued", DUE, None)):
        assert raised(result) is result


def test_a_retry_is_raised_with_its_time() -> None:
    """RetryScheduled says when."""
    with pytest.raises(RetryScheduled) as caught:
        raised(Retry(17, DUE, "greylisted"))

    assert (caught.value.mail_id, caught.value.due_at) == (17, DUE)


def test_a_failure_is_raised_with_its_state() -> None:
    """SendFailed says how it ended."""
    with pytest.raises(SendFailed, match="no such user") as caught:
        raised(Failed(17, "failed", "no such user"))

    assert (caught.value.mail_id, caught.value.state) == (17, "failed")


def test_what_was_not_stored_is_raised_as_emit_would() -> None:
    """Invalid, Conflict and Refused become the errors of the other verbs."""
    with pytest.raises(InvalidMail) as invalid:
        raised(Invalid("to[0]", "no address"))
    with pytest.raises(IdempotencyConflict) as conflict:
        raised(Conflict("billing", "k", 17))
    with pytest.raises(SendRefused, match="not here"):
        raised(Refused("not here"))

    assert invalid.value.field == "to[0]"
    assert (conflict.value.key, conflict.value.mail_id) == ("k", 17)
