"""Rows written on a Core connection that the application commits itself.

SQLAlchemy tells of a connection's commit just before it happens, never after it. So rows are kept with their
connection, dropped by a rollback (also of a savepoint they were written in), and given to their mailer when a commit
begins; the mailer hints them when the application calls `Mailer.publish`. Savepoints made with SQL text are not seen. A
row that is forgotten here is late, not lost.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, event

from mailfleet.collected import Sink
from mailfleet.publisher import Row

_log = logging.getLogger("mailfleet.transactions")


@dataclass(slots=True)
class _Written:
    """What was written on one connection, each row with the savepoints that were open.

    It must not refer to the connection, which could then never be collected.
    """

    rows: list[tuple[Sink, Row, frozenset[str]]] = field(default_factory=list)


_written: "WeakKeyDictionary[Connection, _Written]" = WeakKeyDictionary()


def collect_on_connection(connection: Connection, sink: Sink, rows: Sequence[Row]) -> None:
    """Remember *rows* of *sink*, just written on *connection*, until its transaction ends."""
    written = _written.get(connection)
    if written is None:
        written = _written[connection] = _Written()
        # Attached once; they end with the connection object, which holds them.
        event.listen(connection, "commit", _commit)
        event.listen(connection, "rollback", _rollback)
        event.listen(connection, "rollback_savepoint", _rollback_savepoint)
        event.listen(connection, "commit_twophase", _commit_twophase)
        event.listen(connection, "rollback_twophase", _rollback_twophase)
    savepoints = _open_savepoints(connection)
    written.rows.extend((sink, row, savepoints) for row in rows)


def _open_savepoints(connection: Connection) -> frozenset[str]:
    names = []
    nested = connection.get_nested_transaction()
    while nested is not None:
        # Private, and watched by a test: the event of a rollback names the savepoint, and nothing public does.
        names.append(nested._savepoint)  # noqa: SLF001
        nested = nested._previous_nested  # noqa: SLF001
    return frozenset(names)


def _commit(connection: Connection) -> None:
    written = _written.get(connection)
    if written is None or not written.rows:
        return
    rows, written.rows = written.rows, []
    try:
        for sink in dict.fromkeys(sink for sink, _, _ in rows):
            sink.committing(connection, [row for of_sink, row, _ in rows if of_sink is sink])
    except Exception:  # noqa: BLE001 - the application's commit must go on, whatever is wrong here
        _log.exception("%d committed mails will not be hinted; reconcilers will find them", len(rows))


def _rollback(connection: Connection) -> None:
    written = _written.get(connection)
    if written is not None:
        written.rows = []


def _rollback_savepoint(connection: Connection, name: str, _context: Any) -> None:
    written = _written.get(connection)
    if written is not None:
        written.rows = [row for row in written.rows if name not in row[2]]


def _commit_twophase(connection: Connection, _xid: Any, _is_prepared: bool) -> None:
    _commit(connection)


def _rollback_twophase(connection: Connection, _xid: Any, _is_prepared: bool) -> None:
    _rollback(connection)
