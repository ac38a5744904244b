"""Rows written in an ORM Session: hinted after its outermost commit, and only then.

A commit event also comes when a SAVEPOINT is released, and the transaction around it may still be rolled back. So
rows belong to the SessionTransaction they were written in; a released savepoint gives them to the transaction
around it, any other end drops them. A Session that has joined a transaction on a connection of the application's
(`join_transaction_mode`) does not commit for real: its rows wait with that connection (`connections`). Nothing here
raises from `commit`.
"""

import logging
from collections.abc import Sequence

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session, SessionTransaction

from mailfleet.collected import Collected, Sink
from mailfleet.connections import collect_on_connection
from mailfleet.publisher import Row

_log = logging.getLogger("mailfleet.transactions")

# In `Session.info`: what lives as long as the session and nobody else's.
_KEY = "mailfleet.rows"

_Rows = dict[SessionTransaction, list[Collected]]


def collect_in_session(session: Session, rows: Sequence[Collected]) -> None:
    """Remember *rows*, just written in *session*, until the transaction they were written in ends."""
    by_transaction: _Rows | None = session.info.get(_KEY)
    if by_transaction is None:
        by_transaction = session.info[_KEY] = {}
        event.listen(session, "after_commit", _after_commit)
        event.listen(session, "after_transaction_end", _after_transaction_end)
    current = _current(session)
    if current is not None:
        by_transaction.setdefault(current, []).extend(rows)


def _current(session: Session) -> SessionTransaction | None:
    """The innermost savepoint, else the outermost transaction; what a flush opens inside is neither."""
    return session.get_nested_transaction() or session.get_transaction()


def _after_commit(session: Session) -> None:
    by_transaction: _Rows = session.info.get(_KEY, {})
    committed = _current(session)
    if committed is None or committed not in by_transaction:
        return
    rows = by_transaction.pop(committed)
    around = committed.parent
    while around is not None and not around.nested and around.parent is not None:
        around = around.parent
    if around is not None:
        by_transaction.setdefault(around, []).extend(rows)
        return
    try:
        _hand_over(rows)
    except Exception:  # noqa: BLE001 - an exception would tell the application that nothing is committed
        _log.exception("%d committed mails will not be hinted; reconcilers will find them", len(rows))


def _hand_over(rows: Sequence[Collected]) -> None:
    groups: dict[tuple[Sink, Connection | None], list[Row]] = {}
    for one in rows:
        open_still = one.connection is not None and one.connection.get_transaction() is not None
        groups.setdefault((one.sink, one.connection if open_still else None), []).append(one.row)
    for (sink, joined), of_sink in groups.items():
        if joined is None:
            sink.committed(of_sink)
        else:
            collect_on_connection(joined, sink, of_sink)


def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    session.info.get(_KEY, {}).pop(transaction, None)
