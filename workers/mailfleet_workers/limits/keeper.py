"""What keeps the limits of one process in order: leases, gates, changed limits, and a limiter that has lost its memory.

Every two seconds, in three threads of its own, none of which waits for another. One renews: a lease must be renewed
however long a pass of the reconciler takes, or the database. One looks at gates and limits: other processes rely on it that
a limit is heard of within seconds. One tells the limiter what was sent, in a month perhaps, host by host.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from mailfleet_schema.engine import read_only
from mailfleet_schema.statements import gate, limit
from mailfleet_schema.statements.limit import LimitChange
from mailfleet_workers.limits.base import Limiter
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.resolve import limited
from mailfleet_workers.limits.seeding import Seeding
from mailfleet_workers.smtp.pool import ConnectionPool

log = logging.getLogger(__name__)

EVERY_S = 2.0

#: The limits of every account, by what operators have changed.
Resolve = Callable[[Sequence[LimitChange]], Mapping[str, Limits]]


class Keeper:
    """Looks after *limiter*. *resolve* is None where nobody changes limits.

    *book* and *seeding* are None where nothing is limited: then what operators change is only complained about.
    """

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
        self._changes: list[LimitChange] = []
        self._following = threading.Lock()
        #: Set when it was tried for the first time to tell the limiter what it lacks.
        self.looked = threading.Event()
        if seeding is None:
            self.looked.set()

    def run(self, stop: threading.Event) -> None:
        """Renew, look, and tell, each again and again until *stop*; tell at once. All have ended when this returns."""
        name = threading.current_thread().name
        loops = [(self.renew, "leases", self._every_s)]
        if self._seeding is not None:
            loops.append((partial(self.tell, self._seeding), "memory", 0.0))
        beside = [
            threading.Thread(
                target=self._again, args=(once, stop, first_s), name=f"{name}-{what}", daemon=True
            )
            for once, what, first_s in loops
        ]
        for thread in beside:
            thread.start()
        self._again(self.refresh, stop, self._every_s)
        for thread in beside:
            thread.join()

    def _again(self, run_once: Callable[[], None], stop: threading.Event, wait_s: float) -> None:
        while not stop.wait(wait_s):
            wait_s = self._every_s
            try:
                run_once()
            except SQLAlchemyError as error:
                log.warning("limits_not_read", extra={"error": type(error).__name__})
            except Exception:
                # A bug in one part must not end the leases.
                log.exception("limits_not_kept")

    def renew(self) -> None:
        """Keep the leases, and close connections that are others' now, or that others wait for."""
        renewal = self._limiter.renew()
        for account in renewal.wanted:
            self._connections.want(account)
        if renewal.lost:
            log.warning("slots_lost", extra={"slots": len(renewal.lost)})
            self._connections.close_lapsed({slot.token for slot in renewal.lost})

    def refresh(self) -> None:
        """Know the gates that are closed, and the limits; before anything is hinted, and before the first row is claimed."""
        with read_only(self._engine) as connection:
            gates = gate.gates(connection)
            changes = limit.changes(connection) if self._resolve is not None else []
        self._limiter.refresh_gates(gates)
        if self._resolve is not None and changes != self._changes:
            with self._following:
                if self._book is None:
                    self._not_followed(self._resolve(changes), self._resolve(()))
                else:
                    self._book.replace(self._resolve(changes))
                self._changes = changes

    def follow(self, resolve: Resolve) -> None:
        """Accounts are known now, or have other settings: from now on the limits that *resolve* makes of them apply too."""
        if self._book is not None:
            with self._following:
                self._book.replace({**self._book.all(), **resolve(self._changes)})

    def tell(self, seeding: Seeding) -> None:
        """Tell the limiter what it lacks; takes as long as the database does."""
        try:
            seeding.run_once()
        finally:
            self.looked.set()

    def _not_followed(self, asked: Mapping[str, Limits], known: Mapping[str, Limits]) -> None:
        """Say loudly which accounts operators have limited in vain."""
        accounts = [name for name, one in asked.items() if one != known.get(name) and limited(one)]
        if accounts:
            log.error("limits_not_followed", extra={"accounts": accounts})
