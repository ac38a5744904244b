"""Building what is sent: from claimed rows to parcels, once for each, however often their permits are refused."""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.exc import SQLAlchemyError

from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.states import Phase
from mailfleet_workers.courier import INTERRUPTED_S, WITHHELD_S, Courier
from mailfleet_workers.desk import Desk, Way
from mailfleet_workers.parcel import Parcel, pack
from mailfleet_workers.returns import Returns
from mailfleet_workers.verdict import Judgement, Stop

log = logging.getLogger(__name__)

#: Messages built ahead of one record, in bytes: a chunk of large mails is a small chunk.
CHUNK_BYTES = 8 * 1024 * 1024


class Packer:
    """One thread's; not thread-safe. What cannot be sent at all ends with *courier*."""

    def __init__(self, desk: Desk, courier: Courier) -> None:
        self._desk = desk
        self._courier = courier
        self._returns = Returns(desk)
        self._kept: dict[tuple[int, int], Parcel] = {}

    def keep(self, parcels: Sequence[Parcel]) -> None:
        """Remember *parcels*, whose rows are asked for again soon."""
        self._kept |= {(parcel.row.id, parcel.row.fence): parcel for parcel in parcels}

    def has(self, rows: Sequence[Claimed]) -> bool:
        """Whether all of *rows* are built."""
        return all((row.id, row.fence) in self._kept for row in rows)

    def forget(self) -> None:
        """The batch is over."""
        self._kept.clear()

    def pack(self, way: Way, rows: Sequence[Claimed]) -> tuple[list[Parcel], list[Claimed]]:
        """Parcels of the first of *rows*, and the rows for which this chunk has no room in memory."""
        kept = [parcel for row in rows if (parcel := self._kept.pop((row.id, row.fence), None))]
        if len(kept) == len(rows):
            return kept, []
        known = {parcel.row.id for parcel in kept}
        built, unpacked = self._pack(way, [row for row in rows if row.id not in known])
        parcels = {parcel.row.id: parcel for parcel in (*kept, *built)}
        return [parcels[row.id] for row in rows if row.id in parcels], unpacked

    def _pack(self, way: Way, rows: Sequence[Claimed]) -> tuple[list[Parcel], list[Claimed]]:
        """As `pack`, of rows none of which was built before.

        The journal has *rows* as begun meanwhile: a mail whose content ends this process must not come back for ever.
        Nor one that ends the host and its journals, so the database hears of those that were interrupted before.
        """
        journal, claims = self._desk.journal, [(row.id, row.fence) for row in rows]
        try:
            journal.building(claims)
        except OSError:
            log.exception("journal_failed", extra={"app": self._desk.app, "mails": len(rows)})
            self._returns.give_back(rows, WITHHELD_S, "withheld: no journal")
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
            before, stored = outcomes.get(row.id, []), contents.get(row.id)
            purge = stored is not None and stored.purges(self._desk.content_policy(row.app))
            try:
                parcel = pack(
                    row,
                    stored,
                    before,
                    way.account,
                    fetch=self._desk.fetch,
                    run_mode=self._desk.run_mode,
                    outgoing=way.outgoing,
                )
            except SQLAlchemyError:
                raise
            except BaseException as error:
                log.exception("pack_failed", extra={"mail_id": row.id, "app": row.app})
                reason = f"{type(error).__name__} while building"
                self._returns.give_back([row], INTERRUPTED_S, reason, begun=True)
                continue
            if isinstance(parcel, Stop):
                # Others may have got it before: then it is sent, and this was the last of it.
                self._courier.add(way, row, Judgement(parcel), None, (), Phase.PREPARE, before, purge=purge)
            else:
                parcels.append(replace(parcel, purge=True) if purge else parcel)
                size += len(parcel.envelope.message)
        return parcels, []
