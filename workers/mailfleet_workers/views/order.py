"""The order of a list: TinyMail's keys, and when a mail is due."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, text

from mailfleet_schema.dialects import dialect_of
from mailfleet_schema.tables import Tables, tables_of
from mailfleet_workers.views.filter import InvalidSearch
from mailfleet_workers.views.search import bounded

NEWEST_FIRST = "-id"

#: What may stand in an order, and what it means.
KEYS = {"id": "its number", "done": "when it was sent", "send": "its last attempt", "due": "when it is due"}


@dataclass(frozen=True, slots=True)
class Key:
    """One of `KEYS`. Mails that have no such time come last in either direction."""

    name: str
    descending: bool


def parse_order(sort: str) -> tuple[Key, ...]:
    """`-done,id`: keys parted by commas, `-` for the other direction. Raises InvalidSearch for what is none."""
    found: dict[str, Key] = {}
    for word in sort[:100].split(","):
        name = word.strip().removeprefix("-")
        if name not in KEYS or name in found or len(sort) > 100:
            raise InvalidSearch(
                "sort",
                f"expected {', '.join(KEYS)}, each once, with - before it for the last first; got {sort!r:.60}",
            )
        found[name] = Key(name, word.strip().startswith("-"))
    return tuple(found.values())


def sorted_ids(
    connection: Connection, ids: Sequence[int], order: Sequence[Key], *, skip: int, most: int
) -> list[int]:
    """*most* of the mails *ids* in *order*, without the first *skip*; where it says nothing, the newest first."""
    dialect = dialect_of(connection)
    tables = tables_of(dialect)
    mail = tables.mail
    keys = []
    for key in order:
        value = _value(tables, key.name)
        keys.append((value.desc() if key.descending else value.asc()).nulls_last())
    among = text(f"{dialect.table('mail')}.id {dialect.in_ids('ids')}").bindparams(ids=dialect.bind_ids(ids))
    query = select(mail.c.id).where(among).order_by(*keys, mail.c.id.desc()).offset(skip).limit(most)
    with bounded(connection):
        return list(connection.execute(query).scalars())


def _value(tables: Tables, name: str) -> ColumnElement[Any]:
    match name:
        case "done":
            return tables.mail.c.sent_at
        case "due":
            return tables.mail.c.due_at
        case "send":
            tried = tables.mail_attempt
            return (
                select(func.max(tried.c.ended_at))
                .where(tried.c.mail_id == tables.mail.c.id)
                .scalar_subquery()
            )
        case _:
            return tables.mail.c.id
