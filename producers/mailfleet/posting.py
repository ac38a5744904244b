"""The first half of `send`, `post` and `auto`: mails committed by themselves, as `high`, and the wait for them begun.

A mail that is stored already is named by its id.

The second half, looking and sleeping, is the mailer's: `Mailer` does it in its thread, `AsyncMailer` without blocking.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mailfleet.errors import IdempotencyConflict, InvalidMail, SendRefused
from mailfleet.preparing import Preparation, Sendable
from mailfleet.results import Conflict, Invalid, Refused, Result, Scheduled, Skipped, Unknown, raised
from mailfleet.waiting import Waiting
from mailfleet.worker_thread import in_worker_thread
from mailfleet.writer import SEND_PATIENCE_S, Writer
from mailfleet_schema.statements.again import Again, Standing
from mailfleet_schema.statements.insert import Inserted, NewMail
from mailfleet_schema.states import State


@dataclass(frozen=True, slots=True)
class Posting:
    """One entry for each mail: the id of one that is waited for, or what is known already. `waiting` is for the ids."""

    entries: Sequence[int | Result]
    waiting: Waiting

    def results(self) -> list[Result]:
        """What became of each mail; call it when nothing is open any more."""
        return [self.waiting.outcomes[one] if isinstance(one, int) else one for one in self.entries]


@dataclass(frozen=True, slots=True)
class Wish:
    """How stored mails are asked for: *force* goes beyond their limits by one try, *retry* None leaves theirs."""

    force: bool = False
    retry: bool | None = None


def start_again(writer: Writer, mail_id: int, deadline_s: float, wish: Wish) -> Posting:
    """Have the stored mail *mail_id* sent before others. Raises SendRefused, with nothing written."""
    _refuse_in_worker()
    return _posting(
        [mail_id],
        [],
        deadline_s,
        again=_again(writer, [checked_id(mail_id)], wish, patience_s=SEND_PATIENCE_S),
    )


def start_sending(writer: Writer, rows: Sequence[NewMail], deadline_s: float) -> Posting:
    """Store all *rows* or none. Raises IdempotencyConflict and SendRefused, with nothing written."""
    _refuse_in_worker()
    inserted = writer.commit(rows, patience_s=SEND_PATIENCE_S) if rows else []
    against = _against(rows, inserted)
    return _posting([against.get(one.mail_id, one.mail_id) for one in inserted], inserted, deadline_s)


def start_posting(
    writer: Writer,
    preparation: Preparation,
    mails: Iterable[Sendable],
    deadline_s: float,
    wish: Wish = Wish(),
) -> Posting:
    """Store those of *mails* that can be stored, in one transaction; the others have their reason as a value."""
    entries: dict[int, Result] = {}
    rows: dict[int, NewMail] = {}
    ids: dict[int, int] = {}
    for position, mail in enumerate(mails):
        try:
            if isinstance(mail, int):
                ids[position] = checked_id(mail)
            else:
                rows[position] = preparation.one(mail, urgent=True, retry=wish.retry)
        except InvalidMail as error:
            entries[position] = Invalid(error.field, error.reason)
    entries.update(_second_payloads(rows))
    inserted = dict(_store(writer, rows, entries))
    again: dict[int, Again | Standing] = {}
    if ids:
        try:
            _refuse_in_worker()
            again = _again(writer, list(ids.values()), wish, patience_s=SEND_PATIENCE_S)
        except SendRefused as error:
            entries.update(dict.fromkeys(ids, Refused(str(error))))
            ids.clear()
    against = _against([rows[n] for n in inserted], list(inserted.values()))
    ids |= {position: one.mail_id for position, one in inserted.items() if one.mail_id not in against}
    entries |= {n: against[one.mail_id] for n, one in inserted.items() if one.mail_id in against}
    return _posting(
        [ids[n] if n in ids else entries[n] for n in range(len(ids) + len(entries))],
        list(inserted.values()),
        deadline_s,
        again=again,
    )


def store_for_later(
    writer: Writer, preparation: Preparation, mail: Sendable, wish: Wish
) -> Scheduled | Result | None:
    """What becomes of a mail whose time is to come: it is stored until then. None of any other, with nothing written."""
    try:
        _refuse_in_worker()
        if not isinstance(mail, int):
            row = preparation.one(mail, retry=wish.retry)
            if row.due_at is None:
                return None
            inserted = writer.commit([row], patience_s=SEND_PATIENCE_S)
            stored = Scheduled(inserted[0].mail_id, row.due_at)
            return _against([row], inserted).get(stored.mail_id, stored)
        known = writer.look([checked_id(mail)]).get(mail)
        if known is None or known.state not in {State.DRAFT, State.QUEUED} or known.due_in_s <= 0:
            return None
        done = _again(writer, [mail], wish, at_once=False, patience_s=SEND_PATIENCE_S).get(mail)
        return Scheduled(mail, known.due_at) if isinstance(done, Again) else _left(mail, done)
    except InvalidMail as error:
        return Invalid(error.field, error.reason)
    except IdempotencyConflict as error:
        return Conflict(error.app, error.key, error.mail_id)
    except SendRefused as error:
        return Refused(str(error))


def _again(
    writer: Writer, ids: Sequence[int], wish: Wish, *, patience_s: float, at_once: bool = True
) -> dict[int, Again | Standing]:
    return writer.again(
        ids,
        None,
        at_once=at_once,
        force=wish.force,
        retry=wish.retry,
        urgent=at_once,
        patience_s=patience_s,
    )


def queued(mail_id: int, found: Again | Standing | None) -> int:
    """*mail_id* if it is queued; else raises UnknownMail or SendSkipped."""
    if not isinstance(found, Again):
        raised(_left(mail_id, found))
    return mail_id


def _left(mail_id: int, found: Standing | None) -> Skipped | Unknown:
    return Unknown(mail_id) if found is None else Skipped(mail_id, found.state.value, found.why())


def checked_id(value: int) -> int:
    """*value* if it may be a mail's id. Raises InvalidMail."""
    if isinstance(value, bool) or value < 1:
        raise InvalidMail("mail", f"expected a mail or the id of one, got {value!r}")
    return value


def _second_payloads(rows: dict[int, NewMail]) -> dict[int, Result]:
    """Take out of *rows* every mail whose key another mail of the batch has already, with another payload."""
    hashes: dict[str, str | None] = {}
    wrong: dict[int, Result] = {}
    for position, row in list(rows.items()):
        if row.key is not None and hashes.setdefault(row.key, row.payload_hash) != row.payload_hash:
            wrong[position] = Invalid("idempotency_key", f"{row.key!r} is another mail's of this batch")
            del rows[position]
    return wrong


def _store(
    writer: Writer, rows: dict[int, NewMail], entries: dict[int, Result]
) -> Iterable[tuple[int, Inserted]]:
    """Commit *rows*; those that cannot be get their *entries*."""
    while rows:
        try:
            _refuse_in_worker()
            inserted = writer.commit(list(rows.values()), patience_s=SEND_PATIENCE_S)
            return list(zip(rows, inserted, strict=True))
        except IdempotencyConflict as error:
            # Nothing was written: try again without the mails of this key.
            taken = [position for position, row in rows.items() if row.key == error.key]
            if not taken:
                raise
            for position in taken:
                del rows[position]
                entries[position] = Conflict(error.app, error.key, error.mail_id)
        except SendRefused as error:
            entries.update(dict.fromkeys(rows, Refused(str(error))))
            return []
    return []


def _against(rows: Sequence[NewMail], inserted: Sequence[Inserted]) -> dict[int, Skipped]:
    """The mails that are stored, but not for this run mode; whoever waits for them would wait for nothing."""
    pairs = zip(rows, inserted, strict=True)
    return {
        one.mail_id: Skipped(one.mail_id, row.state.value, row.reason)
        for row, one in pairs
        if one.new and row.reason is not None
    }


def _refuse_in_worker() -> None:
    if in_worker_thread():
        raise SendRefused("this thread sends mail and would wait for itself: use emit")


def _posting(
    entries: Sequence[int | Result],
    inserted: Sequence[Inserted],
    deadline_s: float,
    *,
    again: Mapping[int, Again | Standing] = MappingProxyType({}),
) -> Posting:
    """Those of *entries* that are ids are waited for, or have their reason if they were stored before and left."""
    stored = {one.mail_id for one in inserted}
    waited = {entry for entry in entries if isinstance(entry, int)}
    queued = {mail_id: one for mail_id, one in again.items() if isinstance(one, Again)}
    told: list[int | Result] = []
    for entry in entries:
        if isinstance(entry, int) and entry not in stored and entry not in queued:
            found = again.get(entry)
            assert not isinstance(found, Again)  # noqa: S101 - those are queued
            entry = _left(entry, found)  # noqa: PLW2901 - what is told of it
        told.append(entry)
    return Posting(
        told,
        Waiting(
            [*(stored & waited), *queued],
            new=[one.mail_id for one in inserted if one.new],
            deadline_s=deadline_s,
            before={mail_id: (one.sum_fail, one.sum_done) for mail_id, one in queued.items()},
        ),
    )
