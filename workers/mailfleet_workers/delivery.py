"""One batch of rows of one account, from claim to settled result: the life of a mail in a sender thread.

    gate → content → MIME → permits → connection → record → body → dot → reply → settle

What comes before the connection is here, the rest is the courier's.
"""

import contextlib
import logging
import uuid
from collections.abc import Sequence

from sqlalchemy.exc import SQLAlchemyError

from mailfleet_schema.statements.account import unknown_account
from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.states import Phase
from mailfleet_workers.chunk import MOST, first_chunk
from mailfleet_workers.courier import INTERRUPTED_S, WITHHELD_S, Courier
from mailfleet_workers.desk import Desk, Way
from mailfleet_workers.heap import Batch
from mailfleet_workers.limits.base import Refusal, Report, Request
from mailfleet_workers.parcel import Parcel, pack
from mailfleet_workers.verdict import Judgement, Stop

log = logging.getLogger(__name__)

#: A row of an account that nobody configured asks again after so many seconds, or when a worker starts that knows it.
UNKNOWN_ACCOUNT_S = 300.0
#: Messages built ahead of one record, in bytes: a chunk of large mails is a small chunk.
CHUNK_BYTES = 8 * 1024 * 1024


class Delivery:
    """One thread's work; not thread-safe."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._courier = Courier(desk)

    @property
    def appetite(self) -> int:
        """How many rows to take at once: a few chunks of a fast server, few rows of a slow one."""
        return min(MOST, 4 * self._courier.chunk.size)

    def deliver(self, batch: Batch) -> None:
        """Bring every row of *batch* to a result, or give it back."""
        ways = {app: self._desk.way(app, batch.account) for app in {row.app for row in batch.rows}}
        unknown = [row for row in batch.rows if ways[row.app] is None]
        pending = [row for row in batch.rows if ways[row.app] is not None]
        try:
            if unknown:
                self._courier.give_back(unknown, UNKNOWN_ACCOUNT_S, unknown_account(batch.account))
            # An account is the same for all apps that may use it.
            way = next((one for one in ways.values() if one is not None), None)
            while pending and way is not None:
                pending = self._step(way, pending)
        except SQLAlchemyError as error:
            # Nothing of `pending` was recorded: a record that fails does not raise.
            log.warning("batch_failed", extra={"app": self._desk.app, "error": type(error).__name__})
            self._courier.settle()
            self._courier.give_back(pending, None, None)
        finally:
            try:
                self._courier.settle()
            finally:
                self._courier.release()

    def _step(self, way: Way, pending: list[Claimed]) -> list[Claimed]:
        """Work on the first chunk of *pending*; returns the rows that are still to do."""
        desk, courier = self._desk, self._courier
        if desk.stop.is_set():
            courier.give_back(pending, None, None)
            return []
        if not desk.pulse.fresh():
            courier.give_back(pending, WITHHELD_S, "withheld: no heartbeat")
            return []
        courier.settle_gates()
        gate = desk.limiter.gate(account=way.account.name, host=way.host)
        if gate is not None:
            reason = f"wait({gate.scope}): {gate.reason}"
            return self._wait(way, pending, gate.remaining_s, reason, everybody=True)
        chunk = first_chunk(pending, courier.chunk.size)
        parcels, unpacked = self._pack(way, chunk)
        rest = [*unpacked, *pending[len(chunk) :]]
        if not parcels:
            return rest
        granted = desk.limiter.ask(self._request(way, parcels))
        name, meter = way.account.name, desk.meter
        if isinstance(granted, Refusal):
            meter.permits(desk.app, name, way.host, len(parcels), 0, granted.rule)
            rows = [*(parcel.row for parcel in parcels), *rest]
            return self._wait(way, rows, granted.wait_s, f"limit: {granted.rule}", everybody=False)
        meter.permits(desk.app, name, way.host, len(parcels), granted.permits)
        try:
            courier.send(way, parcels[: granted.permits])
        finally:
            desk.limiter.report([Report(granted.token, 0)])
        return [*(parcel.row for parcel in parcels[granted.permits :]), *rest]

    def _request(self, way: Way, parcels: Sequence[Parcel]) -> Request:
        return Request(
            token=uuid.uuid4().hex,
            app=self._desk.app,
            account=way.account.name,
            host=way.host,
            priority=parcels[0].row.priority,
            recipients=tuple(len(parcel.envelope.recipients) for parcel in parcels),
        )

    def _pack(self, way: Way, rows: Sequence[Claimed]) -> tuple[list[Parcel], list[Claimed]]:
        """Parcels of the first of *rows*, and the rows for which this chunk has no room in memory.

        The journal has *rows* as begun meanwhile: a mail whose content ends this process must not come back for ever.
        Nor one that ends the host and its journals, so the database hears of those that were interrupted before.
        """
        journal, claims = self._desk.journal, [(row.id, row.fence) for row in rows]
        try:
            journal.building(claims)
        except OSError:
            log.exception("journal_failed", extra={"app": self._desk.app, "mails": len(rows)})
            self._courier.give_back(rows, WITHHELD_S, "withheld: no journal")
            return [], []
        try:
            if again := [row for row in rows if row.interruptions]:
                self._desk.ledger.begin_again(again)
            parcels, unpacked = self._build(way, rows)
        except SQLAlchemyError:
            # Nobody is at work on them: an outage of the database makes no mail poison.
            with contextlib.suppress(OSError):
                journal.built(claims)
            raise
        left = {row.id for row in (*(parcel.row for parcel in parcels), *unpacked)}
        with contextlib.suppress(OSError):  # then they count as begun
            journal.built([claim for claim in claims if claim[0] in left])
        return parcels, unpacked

    def _build(self, way: Way, rows: Sequence[Claimed]) -> tuple[list[Parcel], list[Claimed]]:
        contents, outcomes = self._desk.ledger.contents(rows)
        parcels: list[Parcel] = []
        size = 0
        for number, row in enumerate(rows):
            if size >= CHUNK_BYTES:
                return parcels, list(rows[number:])
            before = outcomes.get(row.id, [])
            try:
                parcel = pack(
                    row,
                    contents.get(row.id),
                    before,
                    way.account,
                    fetch=self._desk.fetch,
                    run_mode=self._desk.run_mode,
                )
            except SQLAlchemyError:
                raise
            except Exception as error:
                log.exception("pack_failed", extra={"mail_id": row.id, "app": row.app})
                reason = f"{type(error).__name__} while building"
                self._courier.give_back([row], INTERRUPTED_S, reason, begun=True)
                continue
            if isinstance(parcel, Stop):
                self._courier.add(way, row, Judgement(parcel), None, (), Phase.PREPARE, before)
            else:
                parcels.append(parcel)
                size += len(parcel.envelope.message)
        return parcels, []

    def _wait(
        self, way: Way, rows: list[Claimed], wait_s: float, reason: str, *, everybody: bool
    ) -> list[Claimed]:
        """A short wait is slept out, by one thread of the account; after a long one the rows come back.

        *everybody* gives back what else waits for the account too, in the same statement.
        """
        self._courier.settle()
        self._desk.meter.waited(self._desk.app, way.account.name, wait_s)
        if wait_s * 1000 <= way.max_idle_ms:
            with self._desk.heap.asleep(way.account.name):
                self._desk.stop.wait(wait_s)
            return rows
        others = self._desk.heap.take_account(way.account.name) if everybody else []
        self._courier.give_back([*rows, *others], wait_s, reason)
        return []
