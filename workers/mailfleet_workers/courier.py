"""One thread's connection and its results: record, body, dot, reply, and what follows from it.

The record comes in one of two places. A chunk is recorded as a whole before its first mail is begun, and settled
together with the record of the next chunk: one transaction for many mails. A single row (policy `hold`, or a slow
server) is recorded between its body and its dot, so that nothing else of it can be in doubt.
"""

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.statements.recipient import Recipient
from mailfleet_schema.states import Phase
from mailfleet_workers.chunk import ChunkSize
from mailfleet_workers.classify import classify
from mailfleet_workers.decision import decide
from mailfleet_workers.desk import Desk, Way
from mailfleet_workers.limits.base import Refusal, Request, Slot
from mailfleet_workers.limits.permits import Permits
from mailfleet_workers.limits.right import SlotRight
from mailfleet_workers.outcome import Outcome, Tried, cut
from mailfleet_workers.parcel import Parcel
from mailfleet_workers.results import Results
from mailfleet_workers.returns import Returns
from mailfleet_workers.smtp.base import Answer
from mailfleet_workers.smtp.base import Phase as SmtpPhase
from mailfleet_workers.smtp.connection import server_name
from mailfleet_workers.smtp.pooled import PooledConnection
from mailfleet_workers.telemetry.faults import UNEXPECTED
from mailfleet_workers.verdict import Judgement, Uncertain

log = logging.getLogger(__name__)

#: A conversation that ended in one of these has not spoken of its mail.
_UNHEARD = frozenset({SmtpPhase.CONNECT, SmtpPhase.EHLO, SmtpPhase.AUTH})

#: A row whose thread failed unexpectedly comes back after so many seconds; the third time it is held.
INTERRUPTED_S = 30.0
#: A row that could not be begun for want of a heartbeat or of a journal comes back after so many seconds.
WITHHELD_S = 5.0
#: Seconds after its record in which a chunk is begun; what is left then is given back. The server turned slow: a row
#: recorded long ago could leave after its expiry, and would be in doubt if the host were lost.
CHUNK_STALE_S = 1.0


class Courier:
    """One thread's; not thread-safe. Results that it gathers are written by `settle`, or with the next record."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._returns = Returns(desk)
        self.chunk = ChunkSize(aim_s=desk.chunk_s, fixed=desk.fixed_chunk)
        self._results = Results(desk)
        self._connection: PooledConnection | None = None
        self._last_answer: Answer | None = None
        self._permits: Permits | None = None
        self._slot: Slot | None = None
        self._ours_s = 0.0

    def has_connection(self, way: Way) -> bool:
        """Whether the next mail needs no new connection: there is an open one, which is ours from now on."""
        ours = self._connection
        if ours is not None and (ours.account != way.account or ours.dry != way.dry_run):
            self.release()
        if self._connection is None and not way.dry_run:
            self._connection = self._desk.connections.idle(way.account)
        return self._connection is not None

    def send(
        self, way: Way, parcels: Sequence[Parcel], permits: Permits | None = None, slot: Slot | None = None
    ) -> None:
        """Bring every one of *parcels*, which have *permits* (None: need none), to a result or give it back.

        *slot* is the right to open a connection; it is given back if none is opened.
        """
        self._permits, self._slot = permits, slot
        try:
            self._send(way, parcels)
        finally:
            self._permits = None
            if self._slot is not None:
                self._desk.limiter.close_slot(self._slot)
                self._slot = None

    def _send(self, way: Way, parcels: Sequence[Parcel]) -> None:
        opened = self._open(way, parcels[0].row)
        if isinstance(opened, Refusal):
            self._returns.park(
                way, [parcel.row for parcel in parcels], opened.wait_s, f"limit: {opened.rule}"
            )
        elif isinstance(opened, Answer):
            self._unreachable(way, parcels, opened, Phase.PREPARE)
        elif len(parcels) == 1:
            self._send_one(way, parcels[0])
        else:
            self._send_chunk(way, parcels)

    def _send_chunk(self, way: Way, parcels: Sequence[Parcel]) -> None:
        asked_at = self._desk.pulse.now()
        named = [one for parcel in parcels for one in parcel.named]
        recorded = self._desk.ledger.advance(self._results.take(), [parcel.row for parcel in parcels], named)
        if recorded is None:
            return
        recorded_at = time.monotonic()
        ours = [parcel for parcel in parcels if parcel.row.id in recorded.dot]
        for number, parcel in enumerate(ours):
            if self._must_end(way, parcel.row.app) or time.monotonic() - recorded_at > CHUNK_STALE_S:
                # Recorded and never begun: certain.
                self._returns.give_back([left.row for left in ours[number:]], None, None)
                return
            opened = self._open(way, parcel.row)
            if isinstance(opened, Refusal):
                left = [each.row for each in ours[number:]]
                self._returns.park(way, left, opened.wait_s, f"limit: {opened.rule}")
                return
            if isinstance(opened, Answer):
                self._unreachable(way, ours[number:], opened, Phase.DOT)
                return
            row = parcel.row
            self._transmit(way, parcel, lambda row=row: self._say_dot(row, asked_at), lambda: True)  # type: ignore[misc]

    def _must_end(self, way: Way, app: str) -> bool:
        """Whether a drain was asked for, or a result so far closes a gate for the rest."""
        if self._desk.stop.is_set():
            return True
        self._results.settle_gates()
        return self._desk.limiter.gate(account=way.account.name, host=way.host, app=app) is not None

    def _send_one(self, way: Way, parcel: Parcel) -> None:
        recorded = False

        def record_and_say() -> bool:
            nonlocal recorded
            asked_at = self._desk.pulse.now()
            result = self._desk.ledger.advance(self._results.take(), [parcel.row], parcel.named)
            recorded = result is not None and parcel.row.id in result.dot
            return recorded and self._say_dot(parcel.row, asked_at)

        self._transmit(way, parcel, record_and_say, lambda: recorded)
        if self.chunk.size == 1:
            # The server is slow: a transaction of its own costs little, and somebody may wait for this verdict.
            self.settle()

    def _say_dot(self, row: Claimed, asked_at: float) -> bool:
        """Whether the final dot may leave now: no gap in our heartbeat since its record was *asked_at*; the journal has it."""
        if not self._desk.pulse.held_since(asked_at):
            log.warning("dot_withheld", extra={"mail_id": row.id, "app": row.app})
            return False
        if not self._permitted():
            log.warning("dot_withheld", extra={"mail_id": row.id, "app": row.app, "limit": "lease lapsed"})
            return False
        try:
            self._desk.journal.dot(row.id, row.fence)
        except OSError:
            log.exception("journal_failed", extra={"mail_id": row.id, "app": row.app})
            return False
        return True

    def _permitted(self) -> bool:
        """Whether permit and slot are ours still: the limiter may not have heard of us for longer than a lease."""
        slot = self._connection.slot if self._connection is not None else None
        return (self._permits is None or self._permits.held) and (
            slot is None or self._desk.limiter.holds(slot)
        )

    def _transmit(
        self, way: Way, parcel: Parcel, before_dot: Callable[[], bool], recorded: Callable[[], bool]
    ) -> None:
        """One transaction of *parcel*; every way out leaves a result or gives back."""
        row, journal = parcel.row, self._desk.journal
        if not (row.sum_fail or row.sum_done or row.doubts):
            late_s = (datetime.now(UTC) - row.due_at).total_seconds()
            self._desk.meter.began(row.app, row.priority, late_s)
        try:
            journal.begin(row.id, row.fence)
        except OSError:
            # The disk's fault, not the mail's: no interruption is counted.
            log.exception("journal_failed", extra={"mail_id": row.id, "app": row.app})
            self._returns.give_back([row], WITHHELD_S, "withheld: no journal")
            self._finished(parcel, used=False)
            return
        if not self._permitted():
            # Nothing was said of it, but permit or slot may be somebody else's by now.
            log.warning("dot_withheld", extra={"mail_id": row.id, "app": row.app, "limit": "lease lapsed"})
            self._returns.give_back([row], WITHHELD_S, "withheld: no limiter")
            self._finished(parcel, used=False)
            return
        heard = False
        try:
            answer = self._converse(parcel, before_dot)
            heard = True
            self._finished(parcel, used=answer.phase not in _UNHEARD and not answer.refused_locally)
            if not answer.withheld:
                outcome = self._judge(way, parcel, answer, Phase.DOT if recorded() else Phase.PREPARE)
        except UNEXPECTED as error:
            log.exception("send_failed", extra={"mail_id": row.id, "app": row.app})
            self._drop()
            if not heard:
                self._finished(parcel, used=True)
            if journal.dotted(row.id, row.fence):
                verdict = Judgement(Uncertain(f"{type(error).__name__} after the final dot"))
                self.add(way, row, verdict, None, parcel.envelope.recipients, Phase.DOT, parcel.before)
                self.tell()
            else:
                self._returns.give_back(
                    [row], INTERRUPTED_S, f"{type(error).__name__} before the final dot", begun=True
                )
            return
        if not answer.withheld:
            self._results.journal(row, outcome, dot_sent=answer.dot_sent)
        elif self._desk.heap.holds(row.id, row.fence):
            # Too long without a heartbeat, or no journal. Nothing final was said.
            self._returns.give_back([row], WITHHELD_S, "withheld: no heartbeat, no journal or no limiter")
        if not answer.reusable:
            self.release()
        hooks_s = self.tell()
        if not way.dry_run:
            # Hooks too: behind slow ones a large chunk would wait, and be given back.
            self.chunk.learn(answer.seconds - self._ours_s + hooks_s)

    def _converse(self, parcel: Parcel, before_dot: Callable[[], bool]) -> Answer:
        connection = self._connection
        assert connection is not None  # noqa: S101 - _open came before
        self._ours_s = 0.0

        def timed() -> bool:
            # What we do before the dot is no measure of the server.
            started = time.monotonic()
            try:
                return before_dot()
            finally:
                self._ours_s = time.monotonic() - started

        answer = connection.transmit(parcel.envelope, before_dot=timed)
        self._last_answer = answer
        if not (answer.withheld or answer.refused_locally):
            account = connection.account
            self._desk.meter.replied(account.name, server_name(account), _code(answer))
        return answer

    def _judge(self, way: Way, parcel: Parcel, answer: Answer, phase: Phase) -> Outcome:
        judgement = classify(
            answer,
            parcel.envelope,
            host=way.host,
            rules=self._desk.rules.under(way.account.replies),
            now=datetime.now(UTC),
        )
        if judgement.rest:
            taken = sum(reply.code < 300 for reply in answer.recipients.values())
            self._desk.caps.learn(way.account, taken)
        sent_to = parcel.envelope.recipients
        return self.add(
            way,
            parcel.row,
            judgement,
            answer,
            sent_to,
            phase,
            parcel.before,
            parcel.note,
            purge=parcel.purge,
            rest=parcel.rest,
        )

    def _unreachable(self, way: Way, parcels: Sequence[Parcel], answer: Answer, phase: Phase) -> None:
        """No connection: the first row tells why, the others wait as long, without an attempt of their own."""
        wait_s = self._judge(way, parcels[0], answer, phase).settlement.due_in_s
        said = answer.reply.text if answer.reply else answer.error or "no answer"
        reason = cut(f"wait: {answer.phase}: {said}")
        # First: hooks of the one that tells why may take their time.
        self._returns.give_back([parcel.row for parcel in parcels[1:]], wait_s, reason)
        self.settle()

    def add(
        self,
        way: Way,
        row: Claimed,
        judgement: Judgement,
        answer: Answer | None,
        recipients: tuple[str, ...],
        phase: Phase,
        before: Sequence[Recipient],
        note: str | None = None,
        *,
        purge: bool = False,
        rest: tuple[str, ...] = (),
    ) -> Outcome:
        """Gather the result of an attempt at *row*; *answer* is None when there was no conversation."""
        tried = Tried(
            worker_id=self._desk.worker_id,
            host=way.host,
            smtp_phase=answer.phase.value if answer else None,
            recipients=recipients,
            duration_ms=round(answer.seconds * 1000) if answer else 0,
            dry_run=way.dry_run,
            note=note,
            purge=purge,
            rest=rest,
        )
        outcome = decide(row, judgement, tried, self._desk.policy, phase=phase, before=before)
        self._results.add(row, outcome, before=before, note="dry_run" if way.dry_run else note)
        meter, due_in_s = self._desk.meter, outcome.settlement.due_in_s
        meter.attempted(row.app, row.account, way.host, outcome.attempt.verdict)
        if outcome.settlement.waits and due_in_s is not None:
            meter.waited(row.app, row.account, due_in_s)
        return outcome

    def tell(self) -> float:
        """Let hooks hear of what was gathered; how many seconds that took."""
        return self._results.tell()

    def settle(self) -> None:
        """Write what was gathered."""
        self._results.settle()

    def settle_gates(self) -> None:
        """Write what was gathered if it closes a gate: the limiter knows of it then."""
        self._results.settle_gates()

    def _finished(self, parcel: Parcel, *, used: bool) -> None:
        if self._permits is not None:
            self._permits.finished(len(parcel.envelope.recipients), used=used)

    def _open(self, way: Way, row: Claimed) -> Answer | Refusal | None:
        """Have a connection of the account; what says why there is none."""
        if self.has_connection(way):
            return None
        slot, self._slot = self._slot or self._new_slot(way, row), None
        if isinstance(slot, Refusal):
            return slot
        right = None if slot is None else SlotRight(self._desk.limiter, slot, self._desk.stop.wait)
        try:
            taken = self._desk.connections.open(way.account, right, dry=way.dry_run)
        except Exception as error:
            # A setting that only shows when it is used; the row says it, and the account waits, not its host.
            log.exception("connect_failed", extra={"account": way.account.name})
            refused = Answer(SmtpPhase.AUTH, None, f"{type(error).__name__}: {error}")
            if right is not None:
                right.opened(refused)
                right.close(orderly=True)
            return refused
        if isinstance(taken, Answer):
            self._desk.meter.replied(way.account.name, way.host, _code(taken))
            return taken
        self._connection = taken
        return None

    def _new_slot(self, way: Way, row: Claimed) -> Slot | Refusal | None:
        """The right to one more connection: the one before was closed after a mail of this chunk."""
        if way.dry_run:
            return None
        if self._desk.moved(way):
            return Refusal("account changed", 0.0, slot=True)
        token = uuid.uuid4().hex
        answer = self._desk.limiter.ask(
            Request(token, row.app, way.account.name, way.host, row.priority, (), slot=token)
        )
        return answer if isinstance(answer, Refusal) else answer.slot

    def release(self) -> None:
        """Lend the connection to others."""
        connection, answer = self._connection, self._last_answer
        self._connection, self._last_answer = None, None
        if connection is not None:
            self._desk.connections.give_back(connection, answer)

    def _drop(self) -> None:
        """Close the connection for good: nobody knows what its other side expects."""
        connection = self._connection
        self._connection, self._last_answer = None, None
        if connection is not None:
            self._desk.connections.discard(connection)


def _code(answer: Answer) -> int | None:
    return answer.reply.code if answer.reply else None
