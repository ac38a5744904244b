"""Whether this thread (or asyncio task) has an open transaction in which it emitted, and that others would wait for.

On SQLite that is every one: it holds the one write lock. On PostgreSQL it is one that has stored the same idempotency
key, or changed the same row. Another connection of the same thread would wait for it, in PostgreSQL for ever, so it is refused at once. What the
application wrote without mailfleet is not known here.
"""

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import ref

from sqlalchemy import URL, Connection, RootTransaction

from mailfleet.broker.running import database_key


@dataclass(frozen=True, slots=True)
class _Open:
    """A transaction that wrote, and the keys (of any app) and rows that it holds; None holds a lock on everything.

    `transaction` stands for it, and is weak: gone is ended, and so is a transaction of SQLAlchemy's that is not active.
    """

    database: str
    keys: frozenset[tuple[str, str]] | None
    transaction: "ref[Any]"

    def is_open(self) -> bool:
        transaction = self.transaction()
        return transaction is not None and (
            not isinstance(transaction, RootTransaction) or transaction.is_active
        )


# A context, not a thread: `asyncio.to_thread` takes it along, and two tasks of one thread do not share it.
_open: ContextVar[tuple[_Open, ...]] = ContextVar("mailfleet_open_writes", default=())


def note_write(connection: Connection, keys: Iterable[tuple[str, str]]) -> None:
    """Remember, as long as it is open, that *connection*'s transaction wrote, and stored *keys* (app, key)."""
    transaction = connection.get_transaction()
    if transaction is not None:
        note_open(transaction, connection.engine.url, keys)


def note_open(transaction: object, url: URL, keys: Iterable[tuple[str, str]]) -> None:
    """The same for the transaction in the database *url* that lasts as long as the object *transaction* does."""
    stored = frozenset(keys)
    everything = url.get_backend_name() == "sqlite"
    if not (everything or stored):
        return
    known = [one for one in _open.get() if one.is_open()]
    if everything and any(one.transaction() is transaction for one in known):
        return
    database = database_key(url)
    if database is not None:
        _open.set((*known, _Open(database, None if everything else stored, ref(transaction))))


def is_held(database: str, keys: Iterable[tuple[str, str]]) -> bool:
    """Whether a write to *database* (as `database_key` gives it) that stores *keys* would wait for this thread."""
    wanted = frozenset(keys)
    return any(
        one.database == database and one.is_open() and (one.keys is None or one.keys & wanted)
        for one in _open.get()
    )
