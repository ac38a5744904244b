"""Everything a sender writes: one transaction settles the results so far and records the next rows' final dots.

A result, once there, is written until the database takes it: the row, its attempt and its recipients together. A
record is tried once: without it nothing is sent.
"""

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import DataError, IntegrityError, OperationalError, SQLAlchemyError

from mailfleet.failpoints import failpoint
from mailfleet_schema.dialects import POSTGRESQL, dialect_of
from mailfleet_schema.engine import read_only
from mailfleet_schema.senders import hinted
from mailfleet_schema.statements import (
    attachment,
    attempt,
    claim,
    content,
    gate,
    purge,
    recipient,
    rendered,
    settle,
)
from mailfleet_schema.statements.claim import MAX_INTERRUPTIONS, Claimed, Return
from mailfleet_schema.statements.content import Labels, StoredContent
from mailfleet_schema.statements.gate import Gate
from mailfleet_schema.statements.recipient import Recipient
from mailfleet_schema.statements.reconcile import MAX_AGE_S
from mailfleet_schema.statements.rendered import RenderedContent
from mailfleet_schema.statements.settle import Recorded
from mailfleet_schema.statements.webhook import tell
from mailfleet_schema.states import State
from mailfleet_schema.tables import tables_of
from mailfleet_schema.webhook import Endpoint, wanted
from mailfleet_workers.heap import RowHeap
from mailfleet_workers.journal import Journal
from mailfleet_workers.limits.base import Limiter
from mailfleet_workers.notify import Notice, Notify
from mailfleet_workers.outcome import GateWish, Outcome
from mailfleet_workers.telemetry import events
from mailfleet_workers.telemetry.meter import SILENT, Meter

log = logging.getLogger(__name__)

#: Between two tries to write a result, in seconds.
TRY_AGAIN_S = 0.5
#: As long as a file is waited for that somebody else is storing.
FILE_WAIT_MS = 500
#: PostgreSQL's word for a lock that did not come in time (55P03).
LOCK_NOT_AVAILABLE = "55P03"

Result = tuple[Claimed, Outcome]


class FileHeld(Exception):  # noqa: N818 - reads as the fact it states
    """Another transaction is storing the same file, and has not ended."""


class Ledger:
    """The database as the senders of one app see it. Thread-safe; *abandon* ends the retries at a hard stop.

    *worker_id* is whose claims these are; None asks for their fences alone. *endpoints* are told of what changes.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        heap: RowHeap,
        journal: Journal,
        limiter: Limiter,
        notify: Notify,
        grace_s: float,
        max_age_s: float = MAX_AGE_S,
        abandon: threading.Event,
        meter: Meter = SILENT,
        worker_id: int | None = None,
        endpoints: Sequence[Endpoint] = (),
    ) -> None:
        self._engine = engine
        self._heap = heap
        self._journal = journal
        self._limiter = limiter
        self._notify = notify
        self._grace_s = grace_s
        self._max_age_s = max_age_s
        self._abandon = abandon
        self._meter = meter
        self._worker_id = worker_id
        self._endpoints = endpoints

    def contents(
        self, rows: Sequence[Claimed]
    ) -> tuple[dict[int, StoredContent], dict[int, list[Recipient]]]:
        """What *rows* say, and their recipients' outcomes where those differ; by id."""
        ids = [row.id for row in rows]
        with read_only(self._engine) as connection:
            contents = content.contents_of(connection, ids)
            outcomes: dict[int, list[Recipient]] = {}
            for one in recipient.recipients_of(connection, ids):
                outcomes.setdefault(one.mail_id, []).append(one)
        return contents, outcomes

    def labels(self, mail_id: int) -> Labels | None:
        """What an application knows the mail by; asked until the database answers. None at the hard stop."""
        while True:
            try:
                with read_only(self._engine) as connection:
                    return content.labels_of(connection, mail_id)
            except SQLAlchemyError as error:
                log.warning("labels_unread", extra={"mail_id": mail_id, "error": _name(error)})
                if self._abandon.wait(TRY_AGAIN_S):
                    return None

    def close_gates(self, wishes: Iterable[GateWish]) -> bool:
        """Let everybody know of *wishes* before their result is written; False when the database did not answer."""
        self._know_gates(wishes)
        try:
            with self._engine.begin() as connection:
                _close_gates(connection, wishes)
        except SQLAlchemyError as error:
            log.warning("gates_not_closed", extra={"error": _name(error)})
            return False
        return True

    def begin_again(self, rows: Sequence[Claimed]) -> None:
        """Say in the database that *rows*, which were interrupted before, are begun. Raises SQLAlchemyError."""
        with self._engine.begin() as connection:
            claim.begin_again(connection, [(row.id, row.fence) for row in rows])

    def store_rendered(self, app: str, content: RenderedContent, blobs: Mapping[str, bytes]) -> bool:
        """Store what was rendered for a row, with its files; whether the row is still ours.

        Raises FileHeld where somebody else is storing one of the files just now, and SQLAlchemyError.
        """
        while True:
            if blobs:
                # By themselves: what nobody refers to does no harm, but who waits for them must not hold the row.
                self._store_files(app, blobs)
            with self._engine.begin() as connection:
                if attachment.held_attachments(connection, app, list(blobs)) < blobs.keys():
                    # The last mail that referred to one of them was purged in between.
                    continue
                return rendered.store_rendered(connection, replace(content, worker_id=self._worker_id))

    def _store_files(self, app: str, blobs: Mapping[str, bytes]) -> None:
        try:
            with self._engine.begin() as connection:
                dialect = dialect_of(connection)
                if dialect is POSTGRESQL:
                    # An application may hold the same file in a transaction of hours: nobody waits for that with one of our
                    # few connections.
                    connection.execute(text(f"SET LOCAL lock_timeout = {FILE_WAIT_MS}"))
                attachment.store_attachments(connection, app, blobs)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE:
                raise FileHeld from error
            raise

    def advance(
        self, results: Sequence[Result], nexts: Sequence[Claimed], named: Sequence[Recipient] = ()
    ) -> Recorded | None:
        """Settle *results* and record *nexts* in one transaction, committed; *named* are recipients of theirs who are told apart.

        None when the database did not answer: then *nexts* must not be sent (whether they were recorded is unknown;
        the reconciler frees them), and *results* are written before this returns.
        """
        try:
            with self._engine.begin() as connection:
                ours = self._settle(connection, results)
                asked = time.monotonic()
                recorded = settle.record(
                    connection, [(row.id, row.fence) for row in nexts], worker_id=self._worker_id
                )
                recipient.put_recipients(connection, [one for one in named if one.mail_id in recorded.dot])
                tell(connection, self._endpoints, recorded.expired)
        except Exception as error:  # noqa: BLE001 - whatever it is, results must not be lost with it
            log.warning("record_failed", extra={"error": _name(error), "mails": len(nexts)})
            self.settle(results)
            self._heap.forget(nexts)
            return None
        self._settled(results, ours)
        recorded = self._without_late(nexts, recorded, time.monotonic() - asked)
        lost = [row for row in nexts if row.id not in recorded.dot]
        events.recorded(row for row in nexts if row.id in recorded.dot)
        events.expired(row for row in lost if row.id in recorded.expired)
        self._heap.forget(lost)
        self._journal.settled([(row.id, row.fence) for row in lost])
        if nexts:
            failpoint("after_record")
        return recorded

    def _without_late(self, nexts: Sequence[Claimed], recorded: Recorded, took_s: float) -> Recorded:
        """Give back what had expired when its record was committed, after *took_s*: nothing of it was said yet."""
        late = {mail_id for mail_id, left_s in recorded.left_s.items() if left_s <= took_s}
        rows = [row for row in nexts if row.id in late]
        self.give_back(rows, [Return(row.id, row.fence) for row in rows])
        return replace(recorded, dot=recorded.dot - late) if late else recorded

    def settle(self, results: Sequence[Result]) -> None:
        """Write *results*, again and again until the database takes them, or until the hard stop."""
        if not results:
            return
        while True:
            try:
                with self._engine.begin() as connection:
                    ours = self._settle(connection, results)
            except (DataError, IntegrityError, ValueError) as error:
                self._settle_one_by_one(results, error)
                return
            except SQLAlchemyError as error:
                log.warning("settle_failed", extra={"error": _name(error), "mails": len(results)})
                if self._abandon.wait(TRY_AGAIN_S):
                    return  # the journal has what was answered
                continue
            self._settled(results, ours)
            return

    def _settle_one_by_one(self, results: Sequence[Result], error: Exception) -> None:
        # The database refuses a value. One mail's texts must not keep its neighbours unsettled.
        if len(results) > 1:
            for result in results:
                self.settle([result])
            return
        row, outcome = results[0]
        log.error("settle_refused", extra={"mail_id": row.id, "error": _name(error)})
        bare = outcome.bare()
        if bare == outcome:
            self._heap.forget([row])  # a bug: the reconciler frees what no thread holds
            return
        self.settle([(row, bare)])

    def _settle(self, connection: Connection, results: Sequence[Result]) -> set[int]:
        outcomes = [outcome for _, outcome in results]
        return write_outcomes(
            connection,
            outcomes,
            grace_s=self._grace_s,
            max_age_s=self._max_age_s,
            endpoints=self._endpoints,
        )

    def _settled(self, results: Sequence[Result], ours: set[int]) -> None:
        if not results:
            return
        self._journal.settled([(row.id, row.fence) for row, _ in results])
        self._heap.forget(row for row, _ in results)
        for row, outcome in results:
            self._know_gates(outcome.gates)
            events.settled(row, outcome, ours=row.id in ours)
            if row.id in ours and outcome.settlement.state is State.DOUBT:
                self._meter.doubted(row.app, 1)
        self._notify(
            [
                _notice(row, outcome.settlement.due_in_s or 0.0)
                for row, outcome in results
                if row.id in ours and outcome.settlement.state is State.QUEUED
            ]
        )
        failpoint("after_settle")

    def _know_gates(self, wishes: Iterable[GateWish]) -> None:
        for wish in wishes:
            self._limiter.close_gate(Gate(wish.scope, wish.key, wish.seconds, 0, wish.reason))

    def give_back(self, rows: Sequence[Claimed], returns: Sequence[Return]) -> None:
        """Put *rows* back to `queued`; when the database does not answer, the reconciler frees them later."""
        if not returns:
            return
        try:
            with self._engine.begin() as connection:
                ours = claim.give_back(
                    connection,
                    returns,
                    grace_s=self._grace_s,
                    max_age_s=self._max_age_s,
                    worker_id=self._worker_id,
                )
                held = _held(connection, rows, returns)
                tell(connection, self._endpoints, held)
        except SQLAlchemyError as error:
            log.warning("give_back_failed", extra={"error": _name(error), "mails": len(rows)})
            self._heap.forget(rows)
            return
        self._heap.forget(rows)
        self._journal.settled([(row.id, row.fence) for row in rows])
        events.given_back(rows, returns, ours=ours, held=held, worker_id=self._worker_id)
        due = {one.mail_id: one.due_in_s or 0.0 for one in returns}
        self._notify([_notice(r, due[r.id]) for r in rows if r.id in ours])


def _notice(row: Claimed, due_in_s: float) -> Notice:
    # Of those who may send it another is asked each time.
    to = hinted(row.app, row.apps, turn=row.id + row.fence)
    return Notice(row.app, row.priority, row.id, due_in_s, to)


def _held(connection: Connection, rows: Sequence[Claimed], returns: Sequence[Return]) -> set[int]:
    """Those of *rows*, just given back, that are held: only such as were interrupted often can be."""
    begun = {one.mail_id for one in returns if one.begun}
    suspects = [row.id for row in rows if row.id in begun and row.interruptions + 1 >= MAX_INTERRUPTIONS]
    if not suspects:
        return set()
    mail = tables_of(dialect_of(connection)).mail
    query = select(mail.c.id).where(mail.c.id.in_(suspects), mail.c.state == State.HELD.value)
    return set(connection.execute(query).scalars())


def _name(error: Exception) -> str:
    return type(getattr(error, "orig", None) or error).__name__


def write_outcomes(
    connection: Connection,
    outcomes: Sequence[Outcome],
    *,
    grace_s: float,
    max_age_s: float = MAX_AGE_S,
    endpoints: Sequence[Endpoint] = (),
) -> set[int]:
    """Settle *outcomes* in the caller's transaction, with their attempts, recipients, gates and events for *endpoints*.

    An acceptance whose claim is gone settles a doubt, if there still is one. Returns the ids whose rows changed;
    for all others nothing is written. Results of two claims of one row are written one after the other.
    """
    if not outcomes:
        return set()
    last = {one.settlement.mail_id: one for one in outcomes}
    if len(last) < len(outcomes):
        earlier = [one for one in outcomes if last[one.settlement.mail_id] is not one]
        more: dict[str, Any] = {"grace_s": grace_s, "max_age_s": max_age_s, "endpoints": endpoints}
        done = write_outcomes(connection, earlier, **more)
        return done | write_outcomes(connection, list(last.values()), **more)
    ours = settle.settle(
        connection, [one.settlement for one in outcomes], grace_s=grace_s, max_age_s=max_age_s
    )
    lost = [one.settlement for one in outcomes if one.accepted and one.settlement.mail_id not in ours]
    ours |= settle.accept_late(connection, lost, grace_s=grace_s, max_age_s=max_age_s)
    written = [one for one in outcomes if one.settlement.mail_id in ours]
    attempt.add_attempts(connection, [one.attempt for one in written])
    recipient.put_recipients(connection, [r for one in written for r in one.recipients])
    recipient.forget_recipients(connection, [o.settlement.mail_id for o in written if o.forget_recipients])
    purge.purge(connection, [one.settlement.mail_id for one in written if one.purges])
    _close_gates(connection, (wish for one in written for wish in one.gates))
    if endpoints and (states := wanted(endpoints)):
        tell(connection, endpoints, [o.settlement.mail_id for o in written if o.settlement.state in states])
    return ours


def _close_gates(connection: Connection, wishes: Iterable[GateWish]) -> None:
    # In one order, so that two transactions cannot wait for each other.
    for wish in sorted(set(wishes), key=lambda w: (w.scope, w.key)):
        gate.close_gate(connection, scope=wish.scope, key=wish.key, seconds=wish.seconds, reason=wish.reason)
