"""Rows in every situation, made by the guarded statements as producers and workers make them."""

import hashlib
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, select, text

from mailfleet_schema.content import Address, AttachmentRef, Content
from mailfleet_schema.dialects import dialect_of
from mailfleet_schema.statements.attempt import Attempt, add_attempts
from mailfleet_schema.statements.claim import Claimed, claim
from mailfleet_schema.statements.gate import close_gate
from mailfleet_schema.statements.insert import NewMail, insert_mails
from mailfleet_schema.statements.settle import Settlement, record, settle
from mailfleet_schema.statements.worker import register
from mailfleet_schema.states import Phase, State
from mailfleet_workers.views.base import now_of

GREYLISTED = "4.7.1 Greylisted, come back in 5 minutes"


def content(**changes: Any) -> Content:
    values: dict[str, Any] = {
        "message_id": "<1@mailfleet.example>",
        "from_": Address("Billing", "billing@example.com"),
        "to": (Address("Ada", "ada@example.net"),),
        "subject": "Invoice 17",
        "text": "grüße",
    }
    return Content(**(values | changes))


class Rows:
    """A hand on the rows of *engine*: each method is one thing that a producer, worker or operator does."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def now(self) -> datetime:
        with self.engine.connect() as connection:
            now: datetime = connection.execute(select(now_of(dialect_of(connection)))).scalar_one()
        return now

    def insert(self, app: str = "billing", *, due_in_s: float | None = None, **changes: Any) -> int:
        due_at = None if due_in_s is None else self.now() + timedelta(seconds=due_in_s)
        changes.setdefault("content", content())
        with self.engine.begin() as connection:
            [one] = insert_mails(connection, app, [NewMail(due_at=due_at, **changes)], grace_s=10)
        return one.mail_id

    def worker(self, app: str = "billing") -> int:
        with self.engine.begin() as connection:
            return register(connection, app=app, host="mx1", pid=4711, version="0.1.0")

    def claim(self, mail_id: int, worker_id: int, app: str = "billing") -> Claimed:
        with self.engine.begin() as connection:
            [row] = claim(connection, ids=[mail_id], app=app, worker_id=worker_id, room=1)
        return row

    def dot(self, row: Claimed) -> Claimed:
        with self.engine.begin() as connection:
            record(connection, [(row.id, row.fence)])
        return row

    def settle(self, row: Claimed, state: State, *, phase: Phase = Phase.DOT, **changes: Any) -> None:
        with self.engine.begin() as connection:
            one = Settlement(mail_id=row.id, fence=row.fence, phase=phase, state=state, **changes)
            assert settle(connection, [one], grace_s=10) == {row.id}

    def attempt(self, row: Claimed, worker_id: int, **changes: Any) -> None:
        values: dict[str, Any] = {"account": "default", "host": "smtp.example.com", "phase": "rcpt"}
        values |= {"verdict": "wait", "code": 450, "text": GREYLISTED, "duration_ms": 12, "recipients": 1}
        with self.engine.begin() as connection:
            add_attempts(connection, [Attempt(row.id, row.fence, worker_id, **(values | changes))])

    def gate(self, scope: str, key: str, seconds: float, reason: str = "454 too many") -> None:
        with self.engine.begin() as connection:
            close_gate(connection, scope=scope, key=key, seconds=seconds, reason=reason)

    def change(self, table: str, where_id: int, **columns: Any) -> None:
        """Set columns as they are in the table: what only time or an accident would make."""
        with self.engine.begin() as connection:
            dialect = dialect_of(connection)
            values = {
                k: dialect.bind_instant(v) if isinstance(v, datetime) else v for k, v in columns.items()
            }
            listed = ", ".join(f"{name} = :{name}" for name in columns)
            statement = text(f"UPDATE {dialect.table(table)} SET {listed} WHERE id = :where_id")
            connection.execute(statement, values | {"where_id": where_id})

    def quiet(self, worker_id: int, seconds: float) -> None:
        """Let the last heartbeat of *worker_id* be *seconds* ago."""
        self.change("worker", worker_id, heartbeat_at=self.now() - timedelta(seconds=seconds))


def with_file(data: bytes) -> dict[str, Any]:
    """The arguments of a new mail with one attachment."""
    sha256 = hashlib.sha256(data).hexdigest()
    reference = AttachmentRef(sha256, len(data), "invoice.pdf", "application/pdf")
    return {"content": content(attachments=(reference,)), "blobs": {sha256: data}}
