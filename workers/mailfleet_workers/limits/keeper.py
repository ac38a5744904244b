"""What keeps the limits of one process in order: leases, gates, changed limits, and a limiter that has lost its memory.

Every two seconds, in a thread of its own: a lease must be renewed however long a pass of the reconciler takes.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from mailfleet_schema.engine import read_only
from mailfleet_schema.statements import gate, limit
from mailfleet_schema.statements.limit import LimitChange
from mailfleet_workers.limits.base import Limiter
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.seeding import Seeding
from mailfleet_workers.smtp.pool import ConnectionPool

log = logging.getLogger(__name__)

EVERY_S = 2.0

#: The limits of every account, by what operators have changed.
Resolve = Callable[[Sequence[LimitChange]], Mapping[str, Limits]]


class Keeper:
    """Looks after *limiter*. *book*, *resolve* and *seeding* are None where nothing is limited."""

    def __init__(
        self,
        engine: Engine,
        limiter: Limiter,
        connections: ConnectionPool,
        *,
        book: Book | None = None,
        resolve: Resolve | None = None,
        seeding: Seeding | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self._engine = engine
        self._limiter = limiter
        self._connections = connections
        self._book = book
        self._resolve = resolve
        self._seeding = seeding
        self._every_s = every_s
        self._changes: Sequence[LimitChange] = ()

    def run(self, stop: threading.Event) -> None:
        """Again and again until *stop*."""
        while not stop.wait(self._every_s):
            try:
                self.run_once()
            except SQLAlchemyError as error:
                log.warning("limits_not_read", extra={"error": type(error).__name__})
            except Exception:
                # A bug in one part must not end the leases.
                log.exception("limits_not_kept")

    def run_once(self) -> None:
        """Renew, then look. Raises SQLAlchemyError when the database does not answer; leases are renewed then too."""
        renewal = self._limiter.renew()
        for account in renewal.wanted:
            self._connections.want(account, at_once=account in renewal.urgent)
        if renewal.lost:
            log.warning("slots_lost", extra={"slots": len(renewal.lost)})
            self._connections.close_lapsed({slot.token for slot in renewal.lost})
        self.refresh()

    def refresh(self) -> None:
        """Know the gates that are closed, and the limits; before anything is hinted, and before the first row is claimed."""
        with read_only(self._engine) as connection:
            gates = gate.gates(connection)
            changes = limit.changes(connection) if self._resolve is not None else ()
        self._limiter.refresh_gates(gates)
        if self._book is not None and self._resolve is not None and changes != self._changes:
            self._book.replace(self._resolve(changes))
            self._changes = changes
        if self._seeding is not None:
            self._seeding.run_once()
