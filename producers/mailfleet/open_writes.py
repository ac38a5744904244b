"""Whether this thread (or asyncio task) has an open transaction in which it emitted: on SQLite it holds the one write lock.

Another connection of the same thread would wait for that lock until SQLite gives up, so it is refused at once. What the
application wrote without mailfleet is not known here.
"""

from contextvars import ContextVar
from weakref import ref

from sqlalchemy import Connection, RootTransaction

from mailfleet.broker.running import database_key

_Open = tuple[str, "ref[RootTransaction]"]

# A context, not a thread: `asyncio.to_thread` takes it along, and two tasks of one thread do not share it.
_open: ContextVar[tuple[_Open, ...]] = ContextVar("mailfleet_open_writes", default=())


def note_write(connection: Connection) -> None:
    """Remember that *connection*'s transaction, as long as it is open, holds a write lock. Only SQLite has one."""
    transaction = connection.get_transaction()
    if transaction is None or connection.dialect.name != "sqlite":
        return
    known = [one for one in _open.get() if _is_open(one)]
    if any(one[1]() is transaction for one in known):
        return
    key = database_key(connection.engine.url)
    if key is not None:
        _open.set((*known, (key, ref(transaction))))


def is_writing(key: str) -> bool:
    """Whether a transaction noted here is open on the SQLite database *key* (as `database_key` gives it)."""
    return any(one[0] == key and _is_open(one) for one in _open.get())


def _is_open(one: _Open) -> bool:
    transaction = one[1]()
    return transaction is not None and transaction.is_active
