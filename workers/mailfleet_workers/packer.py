"""Building what is sent: from claimed rows to parcels, once for each, however often their permits are refused."""

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import assert_never

from sqlalchemy.exc import SQLAlchemyError

from mailfleet_schema.content import AttachmentRef
from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.statements.content import StoredContent
from mailfleet_schema.statements.recipient import Recipient
from mailfleet_schema.states import Phase
from mailfleet_workers.courier import INTERRUPTED_S, WITHHELD_S, Courier
from mailfleet_workers.desk import Desk, Way
from mailfleet_workers.lazy_content import LazyContent, Unwanted
from mailfleet_workers.parcel import Parcel, Unrendered, pack
from mailfleet_workers.rendering import Made, NotNow
from mailfleet_workers.returns import Returns
from mailfleet_workers.telemetry.faults import UNEXPECTED
from mailfleet_workers.verdict import Judgement, Retry, Stop, Verdict, Wait

log = logging.getLogger(__name__)

#: Messages built ahead of one record, in bytes: a chunk of large mails is a small chunk.
CHUNK_BYTES = 8 * 1024 * 1024
#: The same in seconds, where files come from a store: those that are ready are not kept waiting.
BUILD_S = 1.0
_NO_FILES: Mapping[str, bytes] = MappingProxyType({})


class Packer:
    """One thread's; not thread-safe. What cannot be sent at all ends with *courier*."""

    def __init__(self, desk: Desk, courier: Courier) -> None:
        self._desk = desk
        self._courier = courier
        self._returns = Returns(desk)
        self._lazy = LazyContent(desk)
        self._kept: dict[tuple[int, int], Parcel] = {}
        self._unrendered: dict[tuple[int, int], Unrendered] = {}

    def keep(self, parcels: Sequence[Parcel]) -> None:
        """Remember *parcels*, whose rows are asked for again soon."""
        self._kept |= {(parcel.row.id, parcel.row.fence): parcel for parcel in parcels}

    def has(self, rows: Sequence[Claimed]) -> bool:
        """Whether all of *rows* are built."""
        return all((row.id, row.fence) in self._kept for row in rows)

    def awaits(self, row: Claimed) -> bool:
        """Whether the content of *row* has to be rendered before anything else is done with it, by `render`."""
        return (row.id, row.fence) in self._unrendered

    def forget(self) -> None:
        """The batch is over."""
        self._kept.clear()
        self._unrendered.clear()

    def pack(self, way: Way, rows: Sequence[Claimed]) -> tuple[list[Parcel], list[Claimed]]:
        """Parcels of the first of *rows*, and the rows for which this chunk has no room in memory, or that await rendering."""
        kept = [parcel for row in rows if (parcel := self._kept.pop((row.id, row.fence), None))]
        if len(kept) == len(rows):
            return kept, []
        known = {parcel.row.id for parcel in kept}
        new = [row for row in rows if row.id not in known and not self.awaits(row)]
        built, unpacked = self._pack(way, new) if new else ([], [])
        parcels = {parcel.row.id: parcel for parcel in (*kept, *built)}
        later = {row.id for row in unpacked}
        return (
            [parcels[row.id] for row in rows if row.id in parcels],
            [row for row in rows if row.id in later or self.awaits(row)],
        )

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
        lazy = [row for row in rows if self.awaits(row)]
        left = {row.id for row in (*(parcel.row for parcel in parcels), *unpacked, *lazy)}
        with contextlib.suppress(OSError):  # then they count as begun
            journal.built([claim for claim in claims if claim[0] in left])
        return parcels, unpacked

    def _build(self, way: Way, rows: Sequence[Claimed]) -> tuple[list[Parcel], list[Claimed]]:
        contents, outcomes = self._desk.ledger.contents(rows)
        parcels: list[Parcel] = []
        size, began = 0, time.monotonic()
        for number, row in enumerate(rows):
            if size >= CHUNK_BYTES or (number and self._enough(began)):
                return parcels, list(rows[number:])
            before, stored = outcomes.get(row.id, []), contents.get(row.id)
            try:
                packed = self._one(way, row, stored, before)
            except SQLAlchemyError:
                raise
            except UNEXPECTED as error:
                log.exception("pack_failed", extra={"mail_id": row.id, "app": row.app})
                self._interrupted(row, error)
                continue
            if isinstance(packed, Unrendered):
                self._unrendered[row.id, row.fence] = packed
            elif (parcel := self._parcel(way, row, packed, before, stored)) is not None:
                parcels.append(parcel)
                size += parcel.envelope.message.size
        return parcels, []

    def _enough(self, began: float) -> bool:
        """Whether what is built goes first: a store takes its time over files, or the pool drains."""
        return self._desk.stop.is_set() or time.monotonic() - began > BUILD_S

    def _one(
        self,
        way: Way,
        row: Claimed,
        stored: StoredContent | None,
        before: Sequence[Recipient],
        files: Mapping[str, bytes] = _NO_FILES,
    ) -> Parcel | Stop | Wait | Unrendered:
        """*row*, which says *stored*, as `pack` has it; *files* are those that are at hand, by SHA-256."""

        def fetch(app: str, ref: AttachmentRef) -> bytes | None:
            return files[ref.sha256] if ref.sha256 in files else self._desk.fetch(app, ref)

        return pack(
            row,
            stored,
            before,
            way.account,
            fetch=fetch,
            stores=self._desk.stores,
            run_mode=self._desk.run_mode,
            outgoing=way.outgoing,
        )

    def _parcel(
        self,
        way: Way,
        row: Claimed,
        packed: Parcel | Verdict,
        before: Sequence[Recipient],
        stored: StoredContent | None,
    ) -> Parcel | None:
        """The parcel of *row*; None where it has ended here."""
        purge = stored is not None and stored.purges(self._desk.content_policy(row.app))
        if isinstance(packed, Parcel):
            packed = self._desk.caps.fit(packed, way.account)
        if isinstance(packed, Parcel):
            return replace(packed, purge=True) if purge else packed
        # Others may have got it before: then it is sent, and this was the last of it.
        self._courier.add(way, row, Judgement(packed), None, (), Phase.PREPARE, before, purge=purge)
        return None

    def _interrupted(self, row: Claimed, error: BaseException) -> None:
        reason = f"{type(error).__name__} while building"
        self._returns.give_back([row], INTERRUPTED_S, reason, begun=True)

    def render(self, way: Way, rows: Sequence[Claimed]) -> list[Claimed]:
        """Render *rows*, which await it, and build them; those that are built, and those for which there is no room yet.

        Raises nothing.
        """
        built: list[Claimed] = []
        size = 0
        for number, row in enumerate(rows):
            if size >= CHUNK_BYTES:
                return [*built, *rows[number:]]
            if (parcel := self._rendered(way, row)) is not None:
                self.keep([parcel])
                built.append(row)
                size += parcel.envelope.message.size
        return built

    def recipients(self, way: Way, row: Claimed) -> tuple[str, ...]:
        """Who gets *row*, which awaits rendering: a renderer has no say in that."""
        stored = self._unrendered[row.id, row.fence].stored
        leaving = way.outgoing.of(stored.content, mail_id=row.id, mark=stored.mark)
        return tuple(leaving.content.recipients())

    def _rendered(self, way: Way, row: Claimed) -> Parcel | None:
        """As `pack` with one row; the journal has it as begun, for its renderer may end this process too."""
        claim, journal = (row.id, row.fence), self._desk.journal
        lazy = self._unrendered.pop(claim)
        if self._desk.stop.is_set():
            self._returns.give_back([row], None, None)
            return None
        try:
            journal.building([claim])
        except OSError:
            log.exception("journal_failed", extra={"app": self._desk.app, "mails": 1})
            self._returns.give_back([row], WITHHELD_S, "withheld: no journal")
            return None
        try:
            if row.interruptions:
                self._desk.ledger.begin_again([row])
            made = self._lazy.make(row, lazy.stored)
            match made:
                case Made():
                    content = replace(lazy.stored, content=made.content)
                    packed = self._one(way, row, content, lazy.before, made.blobs)
                    assert not isinstance(packed, Unrendered)  # noqa: S101 - it has a body
                    parcel = self._parcel(way, row, packed, lazy.before, lazy.stored)
                    if parcel is not None:
                        self._built(claim)
                    return parcel
                case Stop() | Retry():
                    return self._parcel(way, row, made, lazy.before, lazy.stored)
                case NotNow():
                    self._built(claim)
                    self._returns.give_back([row], made.wait_s, made.reason)
                    return None
                case Unwanted():
                    # Somebody else has it by now.
                    self._desk.heap.forget([row])
                    journal.settled([claim])
                    return None
                case _:
                    assert_never(made)
        except SQLAlchemyError as error:
            # As above: an outage of the database is no failure of a mail.
            log.warning("batch_failed", extra={"app": self._desk.app, "error": type(error).__name__})
            self._built(claim)
            self._returns.give_back([row], None, None)
        except UNEXPECTED as error:
            # Without its traceback, which may end in somebody's text.
            log.error(  # noqa: TRY400
                "pack_failed", extra={"mail_id": row.id, "app": row.app, "error": type(error).__name__}
            )
            self._interrupted(row, error)
        return None

    def _built(self, claim: tuple[int, int]) -> None:
        with contextlib.suppress(OSError):  # then it counts as begun
            self._desk.journal.built([claim])
