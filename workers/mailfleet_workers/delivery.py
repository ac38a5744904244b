"""One batch of rows of one account, from claim to settled result: the life of a mail in a sender thread.

    gate → content (rendered, if it is lazy) → MIME → permits → connection → record → body → dot → reply → settle

What comes before the connection is here, the rest is the courier's.
"""

import logging
import math
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import takewhile

from sqlalchemy.exc import SQLAlchemyError

from mailfleet_schema.statements.account import broken_account, unknown_account
from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.statements.gate import Gate, reason_of
from mailfleet_schema.states import Phase, Priority
from mailfleet_workers.chunk import MOST, ChunkSize, first_chunk
from mailfleet_workers.courier import WITHHELD_S, Courier
from mailfleet_workers.desk import Desk, Way
from mailfleet_workers.heap import Batch
from mailfleet_workers.limits.base import Grant, Refusal, Report, Request, Want
from mailfleet_workers.limits.permits import Permits
from mailfleet_workers.outcome import cut
from mailfleet_workers.packer import Packer
from mailfleet_workers.parcel import Parcel
from mailfleet_workers.returns import Returns
from mailfleet_workers.verdict import Judgement, Stop

log = logging.getLogger(__name__)

#: A row of an account that nobody configured, or that cannot be used, asks again after so many seconds, or when a worker hears of it.
UNKNOWN_ACCOUNT_S = 300.0
#: Who stands in line for a connection longer than this gives its mails back: others of its app may have one. Seconds.
MOST_LINE_S = 10.0
#: A process that got no further slot works with those that it has for so long, in seconds.
CAPPED_S = 2.0
#: A mail behind a closed gate comes back after this time at the latest, in seconds: an operator may open it sooner.
MOST_GATE_S = 3600.0
#: So many mails are built with one look at the database, also where permits come one by one; those before the first permit
#: are not, because their thread may be one of many that get none.
AHEAD = 8
#: What was refused for long is not asked for again within this time, in seconds: the limits may have changed then.
REMEMBER_S = 5.0
#: Whose account has just gone to another server asks again after so many seconds.
MOVED_S = 0.05


class Delivery:
    """One thread's work; not thread-safe."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._courier = Courier(desk)
        self._returns = Returns(desk)
        self._packer = Packer(desk, self._courier)
        # As many lazy mails as are rendered within a chunk's time follow each other in one thread.
        self._renders = ChunkSize(aim_s=desk.chunk_s)
        self._reports: list[Report] = []
        self._in_line_since: float | None = None
        self._asleep = ExitStack()
        self._sleeps: tuple[Priority, bool] | None = None
        self._granted = False
        self._tight = False

    @property
    def appetite(self) -> int:
        """How many rows to take at once: a few chunks of a fast server, few rows of a slow one."""
        return min(MOST, 4 * self._courier.chunk.size)

    def deliver(self, batch: Batch) -> None:
        """Bring every row of *batch* to a result, or give it back."""
        pending = list(batch.rows)
        try:
            self._in_line_since, self._granted = None, False
            before: Way | None = None
            while pending:
                way, pending = self._way(batch.account, pending)
                if way is None:
                    break
                if before is not None and way is not before and way != before:
                    # Built for an account as it was.
                    self._packer.forget()
                before, pending = way, self._step(way, pending)
        except SQLAlchemyError as error:
            # Nothing of `pending` was recorded: a record that fails does not raise.
            log.warning("batch_failed", extra={"app": self._desk.app, "error": type(error).__name__})
            self._courier.settle()
            self._returns.give_back(pending, None, None)
        finally:
            self._wake()
            try:
                self._courier.settle()
            finally:
                self._packer.forget()
                self._courier.release()
                if not self._desk.heap.waits(batch.account):
                    self._desk.connections.pass_on(batch.account)
                self._report_now()

    def _way(self, account: str, rows: list[Claimed]) -> tuple[Way | None, list[Claimed]]:
        """How mail of *account* leaves now, and those of *rows* that may; the others go back, and say why."""
        ways = {app: self._desk.way(app, account) for app in {row.app for row in rows}}
        for app, found in ways.items():
            if not isinstance(found, Way):
                why = cut(broken_account(account, found.why)) if found else unknown_account(account)
                self._not_ours([row for row in rows if row.app == app], why)
        # An account is the same for all apps that may use it.
        way = next((one for one in ways.values() if isinstance(one, Way)), None)
        return way, [row for row in rows if isinstance(ways[row.app], Way)]

    def _not_ours(self, rows: Sequence[Claimed], why: str) -> None:
        """Give back *rows*, whose account we cannot use: our own until somebody has configured it, others' for others."""
        heap = self._desk.heap
        if own := [row for row in rows if not heap.foreign(row)]:
            self._returns.give_back(own, UNKNOWN_ACCOUNT_S, why)
        if foreign := [row for row in rows if heap.foreign(row)]:
            # We take no more of them for a while; the reason stays on the row until somebody takes it.
            self._desk.unknown.remember(foreign[0].app, foreign[0].account)
            self._returns.give_back(foreign, None, f"{why}, to workers of app {self._desk.app}")

    def _step(self, way: Way, pending: list[Claimed]) -> list[Claimed]:
        """Work on the first chunk of *pending*; returns the rows that are still to do."""
        desk, courier = self._desk, self._courier
        if desk.stop.is_set():
            self._returns.give_back(pending, None, None)
            return []
        if desk.heap.yields(pending[0]):
            desk.heap.put_back(pending)
            return []
        if not desk.pulse.fresh():
            self._returns.give_back(pending, WITHHELD_S, "withheld: no heartbeat")
            return []
        courier.settle_gates()
        name, first = way.account.name, pending[0]
        gate = desk.limiter.gate(account=name, host=way.host, app=first.app)
        if gate is not None:
            return self._closed(way, pending, gate)
        if (refused := desk.refusals.get(first)) is not None:
            return self._refused(way, pending, refused, again=True)
        if self._packer.awaits(first):
            return self._render(way, pending)
        size = self._size(name)
        chunk = first_chunk(pending, size)
        if self._granted and not self._packer.has(chunk):
            chunk = _ahead(pending, chunk)
        parcels, unpacked = self._packer.pack(way, chunk)
        # What could not be built has ended: hooks hear of it before there are permits to keep.
        courier.tell()
        parcels = self._let_through(way, parcels)
        rest = [*unpacked, *pending[len(chunk) :]]
        if not parcels:
            return rest
        parcels, later = parcels[:size], parcels[size:]
        self._packer.keep(later)
        rest = [*(parcel.row for parcel in later), *rest]
        if not way.dry_run and (dry := [parcel for parcel in parcels if parcel.dry_run]):
            courier.send(replace(way, dry_run=True), dry)
            self._packer.keep([parcel for parcel in parcels if not parcel.dry_run])
            return [*(parcel.row for parcel in parcels if not parcel.dry_run), *rest]
        granted = self._ask(way, parcels)
        if isinstance(granted, Refusal):
            # What follows a colon is somebody's words: no label for a metric.
            said = granted.rule.partition(":")[0]
            desk.meter.permits(first.app, name, way.host, len(parcels), 0, said)
            self._packer.keep(parcels)
            rows = [*(parcel.row for parcel in parcels), *rest]
            return self._refused(way, rows, granted, first=parcels[0])
        self._in_line_since, self._granted = None, True
        self._wake()
        desk.meter.permits(first.app, name, way.host, len(parcels), granted.permits)
        # What does not leave has no permits.
        permits = None if way.dry_run else Permits(desk.limiter, granted, _recipients(parcels))
        try:
            courier.send(way, parcels[: granted.permits], permits, granted.slot)
        finally:
            self._reports += [] if permits is None else permits.close()
            if granted.want is Want.NOW:
                courier.release()
        self._packer.keep(parcels[granted.permits :])
        return [*(parcel.row for parcel in parcels[granted.permits :]), *rest]

    def _render(self, way: Way, pending: list[Claimed]) -> list[Claimed]:
        """Render the first of *pending*; the others go back to the heap, where no thread has to wait for that.

        Meanwhile this thread has no permit, no connection and no unwritten result, and keeps nobody from asking.
        """
        lazy = list(takewhile(self._packer.awaits, pending[: self._renders.size]))
        self._courier.settle()
        self._courier.release()
        self._report_now()
        self._wake()
        # What would wait for a recipient's domain would be stale after it.
        few = [row for row in lazy if not self._parked(way, row, self._packer.recipients(way, row))]
        # From here on nothing raises: these rows are no longer this thread's.
        self._desk.heap.put_back(pending[len(lazy) :])
        started = time.monotonic()
        built = self._packer.render(way, few)
        if few:
            self._renders.learn((time.monotonic() - started) / len(few))
        return built

    def _let_through(self, way: Way, parcels: list[Parcel]) -> list[Parcel]:
        """*parcels* without those that have a recipient behind a closed gate: they come back after it."""
        return [one for one in parcels if not self._parked(way, one.row, one.envelope.recipients)]

    def _parked(self, way: Way, row: Claimed, recipients: Sequence[str]) -> bool:
        """Whether one of *recipients* is behind a closed gate: then *row* was given back."""
        domains = sorted({address.rpartition("@")[2].lower() for address in recipients})
        gate = self._desk.limiter.gate(account="", host="", domains=domains)
        if gate is None or gate.scope != "recipient":
            return False
        wait_s = min(gate.remaining_s, MOST_GATE_S)
        self._returns.park(way, [row], wait_s, reason_of(gate.scope, gate.reason))
        return True

    def _size(self, account: str) -> int:
        """How many to build and send together: where permits are short, none of them should wait for its turn here.

        Those of a group count while the first of them is sent. A hundredth of the shortest window is what that may cost.
        """
        size = self._courier.chunk.size
        limits = None if self._desk.book is None else self._desk.book.of(account)
        if not self._tight or limits is None or not limits.rules:
            return size
        shortest_s = min(rule.rate.window_ms for rule in limits.rules) / 1000
        return min(size, self._courier.chunk.within(shortest_s / 100))

    def _ask(self, way: Way, parcels: Sequence[Parcel]) -> Grant | Refusal:
        """Permits for the first of *parcels*, and a slot if they need a connection; what does not leave needs neither."""
        token, row = uuid.uuid4().hex, parcels[0].row
        if way.dry_run:
            return Grant(token, len(parcels))
        if self._desk.moved(way):
            return Refusal("account changed", MOVED_S)
        slot = None if self._courier.has_connection(way) else token
        wish = Request(
            token,
            row.app,
            way.account.name,
            way.host,
            row.priority,
            _recipients(parcels),
            slot=slot,
            comes=slot is not None and self._desk.connections.away(way.account),
        )
        reports, self._reports = self._reports, []
        answer = self._desk.limiter.ask(wish, reports)
        self._tight = isinstance(answer, Refusal) or answer.tight
        self._desk.connections.heed(way.account.name, answer.want)
        return answer

    def _refused(
        self,
        way: Way,
        rows: list[Claimed],
        refusal: Refusal,
        *,
        again: bool = False,
        first: Parcel | None = None,
    ) -> list[Claimed]:
        """A short wait is slept out, by one thread of the account; for a long one the rows come back later.

        The limiter has said how long. What waits here for the same reason goes back with them, in one statement; what
        has a higher priority stays.
        """
        desk, name, row = self._desk, way.account.name, rows[0]
        reason = f"limit: {refusal.rule}"
        if math.isinf(refusal.wait_s) and first is not None and len(first.envelope.recipients) > 1:
            # In several transactions it passes. All is built anew, for so many recipients each.
            desk.caps.refused(
                way.account, len(first.envelope.recipients), None if desk.book is None else desk.book.of(name)
            )
            self._packer.forget()
            return rows
        if math.isinf(refusal.wait_s):
            never = Stop(f"more recipients than {refusal.rule} lets pass at all")
            before, purge = (first.before, first.purge) if first is not None else ((), False)
            self._courier.add(way, row, Judgement(never), None, (), Phase.PREPARE, before, purge=purge)
            return rows[1:]
        if refusal.slot and (lent := desk.connections.lent(name)):
            # Other threads of ours have connections, and go on with these.
            desk.heap.cap(name, lent, CAPPED_S)
            desk.heap.put_back(rows)
            return []
        self._courier.settle()
        desk.meter.waited(row.app, name, min(refusal.wait_s, MOST_GATE_S))
        if refusal.wait_s * 1000 <= self._max_idle_ms(way) and not self._too_long_in_line(refusal):
            return self._sleep(way, rows, refusal.wait_s, reason)
        if not again:
            desk.refusals.remember(row, refusal, REMEMBER_S)
        others = desk.heap.take_account(name, below=row.priority, foreign=desk.heap.foreign(row))
        # It may be a gate, which an operator may open sooner.
        after_s = min(refusal.wait_s, MOST_GATE_S)
        if self._is_rule(name, refusal.rule):
            # What waits for a permit is there before it is free, and sleeps what is left.
            after_s -= min(self._max_idle_ms(way) / 1000, after_s / 2)
        self._returns.park(way, [*rows, *others], after_s, reason)
        return []

    def _is_rule(self, account: str, refused_by: str) -> bool:
        limits = None if self._desk.book is None else self._desk.book.of(account)
        return limits is not None and any(str(rule) == refused_by for rule in limits.rules)

    def _max_idle_ms(self, way: Way) -> float:
        limits = None if self._desk.book is None else self._desk.book.of(way.account.name)
        return way.max_idle_ms if limits is None else limits.max_idle_ms

    def _too_long_in_line(self, refusal: Refusal) -> bool:
        if not refusal.slot:
            return False
        now = time.monotonic()
        if self._in_line_since is None:
            self._in_line_since = now
        return now - self._in_line_since > MOST_LINE_S

    def _sleep(self, way: Way, rows: list[Claimed], wait_s: float, reason: str) -> list[Claimed]:
        desk, name, first = self._desk, way.account.name, rows[0]
        foreign = desk.heap.foreign(first)
        if desk.crowding and desk.heap.crowded(name, first.priority):
            # Mails of other accounts need the room.
            surplus = desk.heap.take_account(name, below=first.priority, foreign=foreign, keep=len(rows))
            self._returns.park(way, surplus, wait_s, reason)
        self._report_now()
        self._courier.release()
        # Until it is known whether there is more now, no other thread asks for the same.
        if self._sleeps != (first.priority, foreign):
            self._wake()
            if not self._asleep.enter_context(desk.heap.asleep(name, first.priority, foreign=foreign)):
                self._wake()
                desk.heap.put_back(rows)
                return []
            self._sleeps = (first.priority, foreign)
        desk.stop.wait(wait_s)
        return rows

    def _wake(self) -> None:
        """Let other threads of the account go on."""
        self._sleeps = None
        self._asleep.close()

    def _report_now(self) -> None:
        reports, self._reports = self._reports, []
        self._desk.limiter.report(reports)

    def _closed(self, way: Way, rows: list[Claimed], gate: Gate) -> list[Claimed]:
        """A short gate is slept out; for a longer one all that waits here for the account comes back after it."""
        desk, name = self._desk, way.account.name
        reason = reason_of(gate.scope, gate.reason)
        self._courier.settle()
        # One that an operator closed has no end.
        desk.meter.waited(rows[0].app, name, min(gate.remaining_s, MOST_GATE_S))
        if gate.scope == "app":
            # Others that send through this account go on.
            behind = [row for row in rows if row.app == rows[0].app]
            self._returns.park(way, behind, min(gate.remaining_s, MOST_GATE_S), reason)
            return [row for row in rows if row.app != rows[0].app]
        if gate.remaining_s * 1000 <= self._max_idle_ms(way):
            return self._sleep(way, rows, gate.remaining_s, reason)
        self._returns.park(
            way, [*rows, *desk.heap.take_account(name)], min(gate.remaining_s, MOST_GATE_S), reason
        )
        return []


def _ahead(pending: Sequence[Claimed], chunk: list[Claimed]) -> list[Claimed]:
    """*chunk* and what follows it in *pending*, `AHEAD` at most; who was at work when a process ended is built alone."""
    more = first_chunk(pending, max(len(chunk), AHEAD))
    return chunk + list(takewhile(lambda row: not row.interruptions, more[len(chunk) :]))


def _recipients(parcels: Sequence[Parcel]) -> tuple[int, ...]:
    return tuple(len(parcel.envelope.recipients) for parcel in parcels)
