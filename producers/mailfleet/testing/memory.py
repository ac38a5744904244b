"""The writer of a RecordingMailer: remembers mails instead of storing them, in the same transactions."""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import assert_never

from sqlalchemy import Connection
from sqlalchemy.orm import Session, scoped_session

from mailfleet.collected import Collected
from mailfleet.connections import collect_on_connection
from mailfleet.enlisted import Foreign, SyncSession
from mailfleet.errors import EditConflict, IdempotencyConflict, UnknownMail
from mailfleet.outlet import Outlet
from mailfleet.own_engine import OwnEngine
from mailfleet.publisher import Row
from mailfleet.results import Failed, Outcome, Pending, Reply, Retry, Sent
from mailfleet.status import Status
from mailfleet.testing.recorded import Recorded
from mailfleet.transactions import collect_in_session
from mailfleet.writer import Writer
from mailfleet_schema.statements.again import Again, Standing
from mailfleet_schema.statements.insert import MAX_FAIL, Inserted, NewMail
from mailfleet_schema.states import Priority, State

#: What a stored mail is for the one who asks again: who was told to send it has it.
_AFTER = {State.DRAFT: State.DRAFT, State.QUEUED: State.SENT}


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
            self._versions: dict[int, int] = {}
            self._next_id = 1

    def write(self, mails: Sequence[NewMail], session: SyncSession | None) -> list[int]:
        written = self._remember(mails)
        self._enlist(self._queued([one for one, new in written if new]), session)
        return [one.id for one, _ in written]

    def _queued(self, mails: Sequence[Recorded]) -> list[Row]:
        return [
            Row(one.app, one.mail.priority, one.id, None) for one in mails if one.mail.state is State.QUEUED
        ]

    def _enlist(self, rows: Sequence[Row], session: SyncSession | None) -> None:
        """Let *rows* be committed with *session*."""
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
            case Foreign():
                with session.enlist() as here:
                    here.collect(self, rows)
            case _:
                raise TypeError(
                    f"session: expected a Session, a scoped_session or a Connection, got {type(session).__name__}"
                )

    def commit(self, mails: Sequence[NewMail], *, patience_s: float | None = None) -> list[Inserted]:  # noqa: ARG002 - nothing here is waited for
        written = self._remember(mails)
        self.committed(self._queued([one for one, new in written if new]))
        return [Inserted(one.id, new=new) for one, new in written]

    def cancel(self, mail_id: int, session: SyncSession | None) -> bool:  # noqa: ARG002 - takes effect at once
        with self._lock:
            if mail_id not in self._written or mail_id in self.cancelled:
                return False
            self.cancelled.add(mail_id)
            return True

    def again(
        self,
        ids: Sequence[int],
        session: SyncSession | None,
        *,
        at_once: bool,
        force: bool = False,
        retry: bool | None = None,
        urgent: bool = False,
        patience_s: float | None = None,  # noqa: ARG002 - nothing here is waited for
    ) -> dict[int, Again | Standing]:
        """A draft is queued, and with *force* what was cancelled or recorded is, once more."""
        found: dict[int, Again | Standing] = {}
        with self._lock:
            for one in [self._written[number] for number in ids if number in self._written]:
                state = self._state(one)
                if state is State.DRAFT or force:
                    self.cancelled.discard(one.id)
                    self._written[one.id] = queued = _queued(one, at_once=at_once, retry=retry, urgent=urgent)
                    found[one.id] = Again(one.id, queued.mail.priority, 0, 0, 0.0)
                else:
                    found[one.id] = Standing(one.id, state, None, 0, 1, MAX_FAIL, 1, past=False)
        again = [self._written[number] for number, one in found.items() if isinstance(one, Again)]
        self._enlist(self._queued(again), session)
        return found

    def edit(self, mail_id: int, mail: NewMail, version: int, session: SyncSession | None) -> int:  # noqa: ARG002 - takes effect at once
        """Only drafts: everything else counts as sent."""
        with self._lock:
            one = self._written.get(mail_id)
            if one is None:
                raise UnknownMail(mail_id)
            known, state = self._versions.get(mail_id, 1), self._state(one)
            if version != known:
                reason = f"version {version} was to be edited, it has version {known} by now"
                raise EditConflict(mail_id, known, reason)
            if state is not State.DRAFT:
                raise EditConflict(mail_id, known, f"expected a draft, it is {state}")
            self._written[mail_id] = replace(one, mail=replace(mail, state=State.DRAFT))
            self._versions[mail_id] = known + 1
            return known + 1

    def _state(self, one: Recorded) -> State:
        return State.CANCELLED if one.id in self.cancelled else _AFTER[one.mail.state]

    def look(self, ids: Sequence[int]) -> dict[int, Status]:
        known = [self._written[mail_id] for mail_id in ids if mail_id in self._written]
        found = {one.id: _status(self._told(one)) for one in known}
        return {
            mail_id: replace(status, app=self.app, version=self._versions.get(mail_id, 1))
            for mail_id, status in found.items()
        }

    def _told(self, one: Recorded) -> Outcome:
        if one.mail.state is State.DRAFT:
            return Pending(one.id, State.DRAFT.value, one.mail.due_at, None)
        return self._outcome(one)

    def committed(self, rows: Sequence[Row]) -> None:
        with self._lock:
            self.mails += [self._written[row.mail_id] for row in rows if row.mail_id in self._written]

    def committing(self, connection: Connection, rows: Sequence[Row]) -> None:  # noqa: ARG002 - a failing commit is not imitated
        self.committed(rows)

    def _remember(self, mails: Sequence[NewMail]) -> list[tuple[Recorded, bool]]:
        """Each mail with whether it is new. Raises IdempotencyConflict, with nothing remembered."""
        with self._lock:
            drafts = [one for one in self._written.values() if one.mail.state is State.DRAFT]
            by_key = {one.mail.key: one for one in (*drafts, *self.mails) if one.mail.key is not None}
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
                elif known.mail.state is State.DRAFT and mail.state is State.QUEUED:
                    # Saved before, and emitted now.
                    self._written[known.id] = emitted = replace(known, mail=mail)
                    written.append((emitted, True))
                else:
                    written.append((known, False))
            return written


def _queued(one: Recorded, *, at_once: bool, retry: bool | None, urgent: bool) -> Recorded:
    mail = one.mail
    return replace(
        one,
        mail=replace(
            mail,
            state=State.QUEUED,
            due_at=None if at_once else mail.due_at,
            retry=mail.retry if retry is None else retry,
            priority=Priority.HIGH if urgent else mail.priority,
        ),
    )


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
        app="",
        version=1,
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
