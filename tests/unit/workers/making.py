"""Rows, verdicts and replies for tests of the sending core, with the fields that a test does not care about filled in."""

from datetime import UTC, datetime, timedelta
from typing import Any

from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.states import OnDoubt, Priority
from mailfleet_workers.outcome import Tried
from mailfleet_workers.smtp.base import Reply
from mailfleet_workers.verdict import Accepted

START = datetime(2026, 1, 1, tzinfo=UTC)


def claimed(mail_id: int = 1, fence: int = 1, *, due_s: float = 0.0, **changes: Any) -> Claimed:
    """A claimed row that is due *due_s* seconds after START."""
    fields: dict[str, Any] = {
        "app": "billing",
        "account": "default",
        "priority": Priority.NORMAL,
        "due_at": START + timedelta(seconds=due_s),
        "expires_at": None,
        "on_doubt": OnDoubt.RESEND_ONCE,
        "retry": True,
        "sum_fail": 0,
        "sum_done": 0,
        "max_fail": 3,
        "max_done": 1,
        "interruptions": 0,
        "doubts": 0,
    }
    return Claimed(id=mail_id, fence=fence, **(fields | changes))


def tried(*recipients: str, host: str | None = "mx.example.net", dry_run: bool = False) -> Tried:
    """An attempt at *recipients* that took 12 ms."""
    return Tried(
        worker_id=7,
        host=host,
        smtp_phase="eod",
        recipients=recipients or ("ada@example.net",),
        duration_ms=12,
        dry_run=dry_run,
    )


def accepted(text: str = "2.0.0 queued as 4Xyz", queue_id: str | None = "4Xyz") -> Accepted:
    return Accepted(Reply(250, text), queue_id)
