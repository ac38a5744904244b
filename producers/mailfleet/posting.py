"""The first half of `send` and `post`: mails committed by themselves, as `high`, and the wait for them begun.

The second half, looking and sleeping, is the mailer's: `Mailer` does it in its thread, `AsyncMailer` without blocking.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mailfleet.errors import IdempotencyConflict, InvalidMail, SendRefused
from mailfleet.preparing import MailLike, Preparation
from mailfleet.results import Conflict, Invalid, Refused, Result
from mailfleet.waiting import Waiting
from mailfleet.worker_thread import in_worker_thread
from mailfleet.writer import SEND_PATIENCE_S, Writer
from mailfleet_schema.statements.insert import Inserted, NewMail


@dataclass(frozen=True, slots=True)
class Posting:
    """One entry for each mail: the id of a stored one, or why nothing was stored. `waiting` is for the ids."""

    entries: Sequence[int | Result]
    waiting: Waiting

    def results(self) -> list[Result]:
        """What became of each mail; call it when nothing is open any more."""
        return [self.waiting.outcomes[one] if isinstance(one, int) else one for one in self.entries]


def start_sending(writer: Writer, rows: Sequence[NewMail], deadline_s: float) -> Posting:
    """Store all *rows* or none. Raises IdempotencyConflict and SendRefused, with nothing written."""
    _refuse_in_worker()
    inserted = writer.commit(rows, patience_s=SEND_PATIENCE_S) if rows else []
    return _posting([one.mail_id for one in inserted], inserted, deadline_s)


def start_posting(
    writer: Writer, preparation: Preparation, mails: Iterable[MailLike], deadline_s: float
) -> Posting:
    """Store those of *mails* that can be stored, in one transaction; the others have their reason as a value."""
    entries: dict[int, Result] = {}
    rows: dict[int, NewMail] = {}
    for position, mail in enumerate(mails):
        try:
            rows[position] = preparation.one(mail, urgent=True)
        except InvalidMail as error:
            entries[position] = Invalid(error.field, error.reason)
    entries.update(_second_payloads(rows))
    inserted = dict(_store(writer, rows, entries))
    ids = {position: one.mail_id for position, one in inserted.items()}
    return _posting(
        [ids[n] if n in ids else entries[n] for n in range(len(ids) + len(entries))],
        list(inserted.values()),
        deadline_s,
    )


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


def _refuse_in_worker() -> None:
    if in_worker_thread():
        raise SendRefused("this thread sends mail and would wait for itself: use emit")


def _posting(entries: Sequence[int | Result], inserted: Sequence[Inserted], deadline_s: float) -> Posting:
    ids = [one.mail_id for one in inserted]
    return Posting(
        entries, Waiting(ids, new=[one.mail_id for one in inserted if one.new], deadline_s=deadline_s)
    )
