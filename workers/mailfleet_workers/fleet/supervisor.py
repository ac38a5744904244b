"""The parent of worker processes: starts them, replaces the dead, recovers their rows, and ends them in order.

It sends no mail and consumes nothing. If it is killed, its children see a pipe close and drain.
"""

import contextlib
import logging
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mailfleet_workers.clone_guard import REMEDY
from mailfleet_workers.fleet.process import ChildProcess
from mailfleet_workers.fleet.restart import Again, GiveUp, Restarts
from mailfleet_workers.fleet.status import ELSEWHERE
from mailfleet_workers.fleet.undertaker import Undertaker

log = logging.getLogger(__name__)

#: How long one look at the children waits, in seconds.
WAIT_S = 0.5
#: A child that has not reported for so long hangs, and is killed, in seconds. Reports come every second; modules that
#: are slow to import have this time.
SILENT_S = 120.0
#: A child that has not reported for so long is not ready, whatever it said last, in seconds.
STALE_S = 10.0
#: So much later a silent one is looked at once more.
SECOND_LOOK_S = 5.0
#: While others work, one that was given up is tried again after so many seconds.
REFUSED_S = 60.0
#: What a child gets beyond its own drain before it is killed, in seconds: for its last results and its goodbyes.
GRACE_S = 10.0


class OnDeath(Protocol):
    """Told the app and process id of a child that ended, and whether it was asked to."""

    def __call__(self, app: str, pid: int, *, asked: bool) -> None: ...


@dataclass(slots=True)
class Place:
    """One of an app's places for a process, and who is in it. `start` makes a child for it."""

    app: str
    start: Callable[[], ChildProcess]
    restarts: Restarts = field(default_factory=Restarts)
    child: ChildProcess | None = None
    start_at: float = 0.0
    ready_since: float | None = None
    heard_at: float = 0.0
    doubted_at: float | None = None
    given_up: bool = False
    elsewhere: bool = False


class Supervisor:
    """Looks after *places* until it is told to stop; *on_death* is told of every child that ended.

    `stop` may be called from a signal handler.
    """

    def __init__(
        self,
        places: Sequence[Place],
        undertaker: Undertaker,
        *,
        drain_s: float,
        on_death: OnDeath,
        silent_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = list(places)
        self._undertaker = undertaker
        self._drain_s = drain_s
        self._on_death = on_death
        # One that drains by itself, because it was lost, says nothing meanwhile.
        self._silent_s = max(SILENT_S, drain_s + 2 * GRACE_S) if silent_s is None else silent_s
        self._clock = clock
        # Not an Event: a signal handler that comes while this thread holds the lock of one would wait for itself.
        self._stopping = False
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._waker, False)

    def stop(self) -> None:
        """Drain all children, then end `run`."""
        self._stopping = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b"s")

    def run(self) -> int:
        """Supervise until `stop`; 0 when all children drained in time, 1 when not or when nothing is left to supervise."""
        ended = threading.Event()
        recovering = threading.Thread(
            target=self._undertaker.run, args=(ended,), name="mailfleet-undertaker", daemon=True
        )
        recovering.start()
        try:
            while not self._stopping:
                try:
                    self.run_once()
                except Exception:
                    # A bug, or a machine at its limits: the children that live must not end with it.
                    log.exception("supervision_failed")
                    told = select.poll()
                    told.register(self._wake, select.POLLIN)
                    told.poll(1000)
                if all(place.given_up for place in self._places):
                    log.error("no_worker_left", extra={"apps": self.apps})
                    return 1
            return 0 if self._drain() and not any(place.given_up for place in self._places) else 1
        finally:
            ended.set()
            # It looks once more before it ends; a database that does not answer is left to the next start.
            self._undertaker.wake()
            recovering.join(GRACE_S)

    @property
    def apps(self) -> list[str]:
        """The apps that have a place here, each once."""
        return list(dict.fromkeys(place.app for place in self._places))

    def missing(self, app: str) -> list[str]:
        """Why no process of *app* is ready, one line for each; empty when at least one is."""
        found = []
        for place in self._places:
            if place.app != app:
                continue
            if place.given_up and not (place.child and place.child.report.ready):
                found.append("given up: it cannot work with these settings or modules; tried once a minute")
                continue
            child = place.child  # this is asked in other threads too
            if place.elsewhere and not (child and child.report.ready):
                found.append(f"the database is a copy, or was moved: {REMEDY}")
                continue
            if child is None:
                found.append("waits to be started again")
            elif child.report.ready:
                silent_for_s = self._clock() - place.heard_at
                if silent_for_s < STALE_S:
                    return []
                found.append(f"has not reported for {silent_for_s:.0f} s")
            else:
                found.append(", ".join(child.report.missing) or "starting")
        return found

    def notes(self) -> list[str]:
        """What the processes want everybody to know, each line once."""
        children = [child for place in self._places if (child := place.child) is not None]
        return list(dict.fromkeys(note for child in children for note in child.report.notes))

    def run_once(self) -> None:
        """Start what is due, take in reports, notice ends."""
        now = self._clock()
        for place in self._places:
            if place.child is None and place.start_at <= now:
                self._start(place)
        self._listen(WAIT_S)
        for place in self._places:
            try:
                self._look(place)
            except Exception:
                # One child's trouble is not its neighbours'.
                log.exception("supervision_failed", extra={"app": place.app})

    def _start(self, place: Place) -> None:
        try:
            place.child = place.start()
        except OSError as error:
            log.warning("child_not_started", extra={"app": place.app, "error": str(error)})
            place.start_at = self._clock() + 1.0
            return
        place.ready_since = None
        place.heard_at = self._clock()
        log.info("child_started", extra={"app": place.app, "child": place.child.pid})

    def _listen(self, timeout_s: float) -> None:
        places = {place.child.reports: place for place in self._places if place.child is not None}
        # Not select(): a parent of many processes has files beyond its 1,024.
        poll = select.poll()
        for number in (self._wake, *places):
            poll.register(number, select.POLLIN)
        ended = False
        for number, _ in poll.poll(timeout_s * 1000):
            if number == self._wake:
                os.read(self._wake, 1024)
                continue
            place = places[number]
            if place.child is None:
                continue
            if place.child.read():
                place.heard_at = self._clock()
            else:
                ended = True
        if ended:
            # Its pipe is at its end, itself not quite: without a pause this would be asked again at once. One that lives
            # on without its pipe is silent, and killed in the end.
            time.sleep(0.1)

    def _look(self, place: Place) -> None:
        child = place.child
        if child is None:
            return
        if place.ready_since is None and child.report.ready:
            place.ready_since = self._clock()
            place.given_up = place.elsewhere = False
            log.info(
                "child_ready",
                extra={"app": place.app, "child": child.pid, "worker_id": child.report.worker_id},
            )
        status = child.ended()
        if status is None:
            now = self._clock()
            if now - place.heard_at <= self._silent_s:
                place.doubted_at = None
            elif place.doubted_at is None:
                # Perhaps all of us were paused, and it has not had its turn yet.
                place.doubted_at = now
            elif now - place.doubted_at > SECOND_LOOK_S:
                log.error("child_silent", extra={"app": place.app, "child": child.pid})
                child.kill()
                place.heard_at = now
            return
        self._bury(place, child, status)
        if self._stopping:
            return
        place.elsewhere = status == ELSEWHERE
        ready_for_s = None if place.ready_since is None else self._clock() - place.ready_since
        match place.restarts.decide(status=status, ready_for_s=ready_for_s):
            case Again(after_s):
                place.start_at = self._clock() + after_s
            case GiveUp():
                if not place.given_up:
                    log.error("child_given_up", extra={"app": place.app})
                place.given_up = True
                place.start_at = self._clock() + REFUSED_S

    def _bury(self, place: Place, child: ChildProcess, status: int) -> None:
        child.read()
        level = logging.INFO if status == 0 else logging.WARNING
        worker_id = child.report.worker_id
        log.log(
            level,
            "child_ended",
            extra={"app": place.app, "child": child.pid, "worker_id": worker_id, "status": status},
        )
        child.close()
        place.child = None
        if worker_id and status != 0:
            self._undertaker.bury(worker_id)
        try:
            self._on_death(place.app, child.pid, asked=self._stopping)
        except Exception:
            # Whoever counts the dead must not stop who replaces them.
            log.exception("death_not_counted", extra={"app": place.app})

    def _drain(self) -> bool:
        """End all children; False when one had to be killed or did not drain."""
        for place in self._places:
            if place.child is not None:
                place.child.terminate()
        until = self._clock() + self._drain_s + GRACE_S
        in_time = True
        while (living := [p for p in self._places if p.child is not None]) and self._clock() < until:
            self._listen(min(WAIT_S, 0.1))
            for place in living:
                in_time &= self._reap(place)
        for place in self._places:
            if place.child is not None:
                log.warning("child_killed", extra={"app": place.app, "child": place.child.pid})
                place.child.kill()
                place.child.wait(GRACE_S)
                self._reap(place)
                in_time = False
        return in_time

    def _reap(self, place: Place) -> bool:
        if place.child is None or (status := place.child.ended()) is None:
            return True
        # One that had not begun yet has no handler, and nothing to drain.
        unborn = status == -signal.SIGTERM and not place.child.report.worker_id
        self._bury(place, place.child, status)
        return status == 0 or unborn
