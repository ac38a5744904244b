"""Ends that nobody brought about: rows that are gone, and mails that expired before their time."""

from dataclasses import replace

from tests.checker import Expected, check
from tests.unit.checker.test_check import ADA, expected, row_after, story, texts


def test_a_row_that_is_gone() -> None:
    """A commit in doubt that the audit has seen is there for ever; while mail flows, the audit is the newer of both."""
    doubtful = Expected("Mail 1", None, (ADA,), committed=None)
    gone = check([doubtful], [], [], story("queued"))
    assert texts(gone) == ["I2: there was a row, and it is gone"]
    assert gone.breaches[0].mail_ids == (1,)
    assert check([doubtful], [], [], story("queued"), at_rest=False).breaches == ()
    assert texts(check([expected()], [], [], story("queued"))) == ["I2: committed, and there is no row"]


def test_expired_in_time() -> None:
    """A mail expires after its time, when it is overdue by `max_next_s`, or `max_age_s` after it was first wanted."""
    early = ["I9: it has expired before its time"]
    changes = story("queued", "expired:expires_at")
    row = row_after(changes)
    assert texts(check([expected()], [row], [], changes)) == early
    assert texts(check([replace(expected(), expires_at=101.5)], [row], [], changes)) == early
    assert check([replace(expected(), expires_at=101.0)], [row], [], changes).breaches == ()
    assert check([expected()], [row], [], changes, max_next_s=1.0).breaches == ()
    assert check([expected()], [row], [], changes, max_age_s=1.0).breaches == ()
    moved = [changes[0], replace(changes[1], due_at=100.5)]  # it was told to wait
    assert texts(check([expected()], [row], [], moved, max_next_s=1.0)) == early
    assert check([expected()], [row], [], moved, max_age_s=1.0).breaches == ()
    day, days = 86_400.0, 5 * 86_400.0
    late = [changes[0], replace(changes[1], at=100.0 + day)]
    assert check([expected()], [row], [], late).breaches == ()
    aged = [changes[0], replace(changes[1], at=100.0 + days, due_at=100.0 + days)]
    assert check([expected()], [row], [], aged).breaches == ()
