"""What became of single recipients, where their outcomes differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template

RecipientOutcome = Literal["accepted", "refused", "open"]

#: The text of an open recipient whose transaction's final dot was recorded, until its result is written.
IN_DOUBT = "in doubt"


@dataclass(frozen=True, slots=True)
class Recipient:
    """What became of one recipient, kept only where outcomes differ; `open` is tried again.

    `code` and `text` are what was said of it last. One that is open and has no text has not had its turn yet; `IN_DOUBT` was named in
    the transaction that is under way, or whose result nobody knows.
    """

    mail_id: int
    address: str
    outcome: RecipientOutcome
    code: int | None = None
    text: str | None = None
    changed_at: datetime | None = None


_RECIPIENT_COLUMNS = {
    "mail_id": "bigint",
    "address": "text",
    "outcome": "text",
    "code": "integer",
    "text": "text",
}


@template
def _recipients(d: Dialect) -> str:
    # "WHERE true" keeps SQLite from reading ON CONFLICT as a join condition.
    return d.format(
        """
        INSERT INTO {mail_recipient} (mail_id, address, outcome, code, text, changed_at)
        SELECT mail_id, address, outcome, code, text, {clock} FROM {rows} WHERE true
        ON CONFLICT (mail_id, address)
        DO UPDATE SET outcome = excluded.outcome, code = excluded.code, text = excluded.text,
                      changed_at = excluded.changed_at
        """,
        rows=d.rows("rows", _RECIPIENT_COLUMNS, "v"),
    )


@template
def _forget_recipients(d: Dialect) -> str:
    return d.format("DELETE FROM {mail_recipient} WHERE mail_id {ids}", ids=d.in_ids("ids"))


def put_recipients(connection: Executor, recipients: Sequence[Recipient]) -> None:
    """Write outcomes of single recipients; call it in the transaction that settles their mails."""
    if recipients:
        d = dialect_of(connection)
        plain = [
            {name: getattr(one, name) for name in _RECIPIENT_COLUMNS}
            for one in sorted(recipients, key=lambda r: (r.mail_id, r.address))
        ]
        connection.execute(_recipients(d), {"rows": d.bind_rows(plain)})


def forget_recipients(connection: Executor, ids: Sequence[int]) -> None:
    """A new copy goes to all recipients again: their outcomes of the copy before are dropped."""
    if ids:
        d = dialect_of(connection)
        connection.execute(_forget_recipients(d), {"ids": d.bind_ids(ids)})


@template
def _reopen_recipients(d: Dialect) -> str:
    return d.format(
        """
        UPDATE {mail_recipient} SET outcome = 'open', changed_at = {clock}
        WHERE mail_id {ids} AND outcome = 'refused'
        """,
        ids=d.in_ids("ids"),
    )


def reopen_recipients(connection: Executor, ids: Sequence[int]) -> None:
    """Those who were refused are tried again; those who have the mail keep it."""
    if ids:
        d = dialect_of(connection)
        connection.execute(_reopen_recipients(d), {"ids": d.bind_ids(ids)})


@template
def _unfinished(d: Dialect) -> str:
    return d.format(
        """
        SELECT mail_id FROM {mail_recipient} WHERE mail_id {ids} AND outcome = 'open' GROUP BY mail_id
        HAVING min(CASE WHEN text = :in_doubt THEN 1 ELSE 0 END) = 0
           AND max(CASE WHEN text = :in_doubt THEN 1 ELSE 0 END) = 1
        """,
        ids=d.in_ids("ids"),
    )


def unfinished(connection: Executor, ids: Sequence[int]) -> set[int]:
    """Those of *ids* in doubt about some of their open recipients only: the others were not named."""
    if not ids:
        return set()
    d = dialect_of(connection)
    bound = {"ids": d.bind_ids(ids), "in_doubt": IN_DOUBT}
    return {row.mail_id for row in connection.execute(_unfinished(d), bound)}


@template
def _confirm_recipients(d: Dialect) -> str:
    return d.format(
        """
        UPDATE {mail_recipient} SET outcome = 'accepted', changed_at = {clock}
        WHERE mail_id {ids} AND outcome = 'open' AND text = :in_doubt
        """,
        ids=d.in_ids("ids"),
    )


def confirm_recipients(connection: Executor, ids: Sequence[int]) -> None:
    """Those in doubt have the mail, a person says."""
    if ids:
        d = dialect_of(connection)
        connection.execute(_confirm_recipients(d), {"ids": d.bind_ids(ids), "in_doubt": IN_DOUBT})


@template
def _recipients_of(d: Dialect) -> str:
    return d.format(
        """
        SELECT mail_id, address, outcome, code, text, changed_at FROM {mail_recipient}
        WHERE mail_id {ids} ORDER BY mail_id, address
        """,
        ids=d.in_ids("ids"),
    )


def recipients_of(connection: Executor, ids: Sequence[int]) -> list[Recipient]:
    """Outcomes of single recipients of the mails *ids*; a mail without any has none that differs."""
    d = dialect_of(connection)
    return [
        Recipient(r.mail_id, r.address, r.outcome, r.code, r.text, d.read_instant(r.changed_at))
        for r in connection.execute(_recipients_of(d), {"ids": d.bind_ids(ids)})
    ]
