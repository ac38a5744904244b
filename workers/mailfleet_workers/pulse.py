"""The heartbeat of a worker process: its claims are good as long as the database hears it.

A sender asks `held_since` before every final dot, so that no gap is between it and its record. The clock is
CLOCK_BOOTTIME where there is one: it goes on while the machine sleeps, so a process that was paused or suspended finds
itself quiet before it says anything final.
"""

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from mailfleet_schema.statements import worker
from mailfleet_workers.clone_guard import Elsewhere

log = logging.getLogger(__name__)

Clock = Callable[[], float]


def boottime() -> float:
    """Seconds on a clock that never stops and that nobody sets."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Pulse:
    """Renews worker *worker_id* every *heartbeat_s*; *quiet_s* after the last good beat others take its rows.

    *check* is done before every beat, in its transaction; it raises Elsewhere when this is not our database any more. *on_lost* is
    called then, and when the database no longer knows the worker: others have taken its rows.
    """

    def __init__(
        self,
        engine: Engine,
        worker_id: int,
        *,
        heartbeat_s: float,
        quiet_s: float,
        clock: Clock = boottime,
        check: Callable[[Connection], None] = lambda _: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._worker_id = worker_id
        self._heartbeat_s = heartbeat_s
        self._quiet_s = quiet_s
        self._clock = clock
        self._check = check
        self._on_lost = on_lost
        self._last_good = clock()
        self._connected_since = clock()
        self._unbroken_since = self._last_good
        self._lost = False

    @property
    def lost(self) -> bool:
        """Whether the database no longer knows this worker, or is another one: it must not send any more."""
        return self._lost

    def fresh(self) -> bool:
        """Whether the last good heartbeat is younger than half of `quiet_s`: only then may a dot be said."""
        return not self._lost and self._clock() - self._last_good < self._quiet_s / 2

    def now(self) -> float:
        """The time by which `held_since` asks."""
        return self._clock()

    def held_since(self, moment: float) -> bool:
        """Whether what was ours at *moment* is ours for certain: the heartbeat is young, and was never old since.

        After a gap others may have taken it, even if the database still knows us: they retire only whom they have
        taken everything from, and what is locked is not taken.
        """
        return self.fresh() and self._unbroken_since <= moment

    def may_judge(self) -> bool:
        """Whether this process has been connected long enough to call another one quiet.

        After an outage of the database, and after a pause of the whole machine, everybody's heartbeat is old; within
        one `quiet_s` nobody is judged.
        """
        return self.fresh() and self._clock() - self._connected_since >= self._quiet_s

    def run_once(self) -> bool:
        """Beat once; False when the database could not be reached or does not know this worker."""
        asked_at = self._clock()
        try:
            with self._engine.begin() as connection:
                self._check(connection)
                known = worker.beat(connection, self._worker_id)
        except Elsewhere:  # who found it has said so
            self._lose()
            return False
        except SQLAlchemyError as error:
            log.warning(
                "heartbeat_failed", extra={"worker_id": self._worker_id, "error": type(error).__name__}
            )
            self._connected_since = self._clock()
            return False
        if not known:
            log.error("heartbeat_lost", extra={"worker_id": self._worker_id})
            self._lose()
            return False
        if asked_at - self._last_good >= self._quiet_s / 2:
            # Before `last_good`: a sender must not see a young heartbeat without the gap.
            self._connected_since = self._unbroken_since = self._clock()
        # The time of the question, not of the answer: the beat may have been written long before it came.
        self._last_good = asked_at
        return True

    def _lose(self) -> None:
        self._lost = True
        self._on_lost()

    def run(self, stop: threading.Event) -> None:
        """Beat until *stop*."""
        while not stop.wait(self._heartbeat_s):
            try:
                self.run_once()
            except Exception:
                # Without a heartbeat nothing is sent; the thread must not end without a word.
                log.exception("heartbeat_failed", extra={"worker_id": self._worker_id})
