"""Looks after the rows of dead worker processes of this machine, at once: their journals say what they knew.

Two kinds of dead are known here: children whose end their parent has seen, and journals that no process holds any more
(of children of a parent that was killed too). What can be found in neither way becomes quiet, and other
workers take its rows back.
"""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from mailfleet_schema.statements.reconcile import Patience
from mailfleet_schema.webhook import Endpoint
from mailfleet_workers import journal
from mailfleet_workers.recovery import Recovered, recover

log = logging.getLogger(__name__)

#: How often it looks for journals that nobody holds, in seconds.
EVERY_S = 5.0


class Undertaker:
    """Recovers in a thread of its own, so that a database that hangs does not keep the parent from its children.

    *endpoints* are told of what changes.
    """

    def __init__(
        self, engine: Engine, directory: Path, patience: Patience, *, endpoints: Sequence[Endpoint] = ()
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._patience = patience
        self._endpoints = endpoints
        self._lock = threading.Lock()
        self._known: set[int] = set()
        self._wake = threading.Event()

    def bury(self, worker_id: int) -> None:
        """A child of ours has ended: recover what it held, soon."""
        with self._lock:
            self._known.add(worker_id)
        self._wake.set()

    def wake(self) -> None:
        """End the wait for the next pass."""
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Pass after pass until *stop* (and `wake`), and one more then."""
        while True:
            ending = stop.is_set()
            try:
                self.run_once()
            except SQLAlchemyError as error:
                log.warning("recovery_failed", extra={"error": type(error).__name__})
            except Exception:
                log.exception("recovery_failed")
            if ending:
                return
            self._wake.wait(EVERY_S)
            self._wake.clear()

    def run_once(self) -> Recovered:
        """Recover every dead worker that is known or has left a journal.

        Raises what went wrong first, after it has tried the others; nothing is forgotten.
        """
        with self._lock:
            known = set(self._known)
        total = Recovered()
        problems: list[Exception] = []
        for worker_id in sorted(known | journal.workers_in(self._directory)):
            try:
                one = self._recover(worker_id)
            except Exception as problem:  # noqa: BLE001 - one worker's trouble is not the others'
                problems.append(problem)
                continue
            total.settled += one.settled
            total.queued += one.queued
            total.doubt += one.doubt
            total.workers += one.workers
        if problems:
            raise problems[0]
        return total

    def _recover(self, worker_id: int) -> Recovered:
        with journal.dead(self._directory, worker_id) as dead:
            if not dead:
                return Recovered()
            done = recover(
                self._engine, self._directory, [worker_id], self._patience, endpoints=self._endpoints
            )
        with self._lock:
            self._known.discard(worker_id)
        return done
