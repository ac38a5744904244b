"""The writer of a RecordingMailer: remembers mails instead of storing them, in the same transactions."""

import math
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import assert_never

from sqlalchemy import Connection
from sqlalchemy.orm import Session, scoped_session

from mailfleet.collected import Collected
from mailfleet.connections import collect_on_connection
from mailfleet.errors import IdempotencyConflict
from mailfleet.outlet import Outlet
from mailfleet.own_engine import OwnEngine
from mailfleet.publisher import Row
from mailfleet.results import Failed, Outcome, Pending, Reply, Retry, Sent
from mailfleet.status import Status
from mailfleet.testing.recorded import Recorded
from mailfleet.transactions import collect_in_session
from mailfleet.writer import SyncSession, Writer
from mailfleet_schema.statements.insert import Inserted, NewMail
from mailfleet_schema.states import State


class MemoryWriter(Writer):
    """Keeps what is committed in `mails`. *outcome* says what became of a mail that is waited for."""

    def __init__(self, app: str, outcome: Callable[[Recorded], Outcome]) -> None:
        super().__init__(app, OwnEngine(None), Outlet(None), grace_s=0)
        self._outcome = outcome
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget everything; numbers begin at 1 again."""
        with self._lock:
            self.mails: list[Recorded] = []
            self.cancelled: set[int] = set()
            self._written: dict[int, Recorded] = {}
            self._next_id = 1

    def write(self, mails: Sequence[NewMail], session: SyncSession | None) -> list[int]:
        written = self._remember(mails)
        rows = [Row(one.app, one.mail.priority, one.id, None) for one, new in written if new]
        if isinstance(session, scoped_session):
            session = session()
        match session:
            case None:
                self.committed(rows)
            case Session():
                # As the first statement would, without asking for a connection.
                if not session.in_transaction():
                    session.begin()
                collect_in_session(session, [Collected(self, None, row) for row in rows])
            case Connection():
                if not session.in_transaction():
                    session.begin()
                collect_on_connection(session, self, rows)
            case _:
                raise TypeError(
                    f"session: expected a Session, a scoped_session or a Connection, got {type(session).__name__}"
                )
        return [one.id for one, _ in written]

    def commit(self, mails: Sequence[NewMail], *, patience_s: float | None = None) -> list[Inserted]:  # noqa: ARG002 - nothing here is waited for
        written = self._remember(mails)
        self.committed([Row(one.app, one.mail.priority, one.id, None) for one, new in written if new])
        return [Inserted(one.id, new=new) for one, new in written]

    def cancel(self, mail_id: int, session: SyncSession | None) -> bool:  # noqa: ARG002 - takes effect at once
        with self._lock:
            if mail_id not in self._written or mail_id in self.cancelled:
                return False
            self.cancelled.add(mail_id)
            return True

    def look(self, ids: Sequence[int]) -> dict[int, Status]:
        return {mail_id: _status(self._outcome(self._written[mail_id])) for mail_id in ids}

    def committed(self, rows: Sequence[Row]) -> None:
        with self._lock:
            self.mails += [self._written[row.mail_id] for row in rows if row.mail_id in self._written]

    def committing(self, connection: Connection, rows: Sequence[Row]) -> None:  # noqa: ARG002 - a failing commit is not imitated
        self.committed(rows)

    def _remember(self, mails: Sequence[NewMail]) -> list[tuple[Recorded, bool]]:
        """Each mail with whether it is new. Raises IdempotencyConflict, with nothing remembered."""
        with self._lock:
            by_key = {one.mail.key: one for one in self.mails if one.mail.key is not None}
            for mail in mails:
                known = None if mail.key is None else by_key.get(mail.key)
                if known is not None and known.mail.payload_hash != mail.payload_hash:
                    raise IdempotencyConflict(self.app, mail.key or "", known.id)
            written = []
            for mail in mails:
                known = None if mail.key is None else by_key.get(mail.key)
                if known is None:
                    one = Recorded(self._next_id, self.app, mail)
                    self._next_id += 1
                    self._written[one.id] = one
                    if mail.key is not None:
                        by_key[mail.key] = one
                    written.append((one, True))
                else:
                    written.append((known, False))
            return written


def _status(outcome: Outcome) -> Status:
    """A row that means *outcome* to the one who waits."""
    match outcome:
        case Sent(mail_id, queue_id, reply, sent_at, reason, refused):
            return _row(
                mail_id,
                State.SENT,
                reason=reason,
                reply=reply,
                queue_id=queue_id,
                sent_at=sent_at,
                refused=refused,
            )
        case Failed(mail_id, state, reason, reply):
            return _row(mail_id, State(state), reason=reason, reply=reply)
        case Retry(mail_id, due_at, reason, reply):
            return _row(mail_id, State.QUEUED, reason=reason, reply=reply, due_at=due_at, sum_fail=1)
        case Pending(mail_id, state, due_at, reason):
            return _row(mail_id, State(state), reason=reason, due_at=due_at)
        case _:
            assert_never(outcome)


def _row(
    mail_id: int,
    state: State,
    *,
    reason: str | None = None,
    reply: Reply | None = None,
    due_at: datetime | None = None,
    sum_fail: int = 0,
    queue_id: str | None = None,
    sent_at: datetime | None = None,
    refused: tuple[str, ...] = (),
) -> Status:
    return Status(
        mail_id=mail_id,
        state=state,
        reason=reason,
        due_at=due_at or datetime.now(UTC),
        # Beyond every deadline: what is pending is answered at once.
        due_in_s=math.inf,
        look_in_s=math.inf,
        sum_fail=sum_fail,
        sum_done=0,
        reply=reply,
        queue_id=queue_id,
        sent_at=sent_at,
        refused=refused,
    )
