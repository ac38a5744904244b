"""Running an application's functions beside our own: with a time limit, whatever they raise.

Python cannot end a thread. A function that does not come back keeps its thread, which is written off; nothing waits for
it. Too many of those, and the next is refused at once: a worker must not fill up with them.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: How often it is asked whether to wait on, in seconds.
LOOK_S = 0.25
#: So many functions may be written off at a time.
MOST_LOST = 8


@dataclass(frozen=True, slots=True)
class Returned(Generic[T]):
    """It came back in time with `value`."""

    value: T


@dataclass(frozen=True, slots=True)
class Raised:
    """It raised `error`."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Overdue:
    """It has not come back within `after_s`, or before a drain; it may still, and nobody will hear of it.

    None: it was not begun.
    """

    after_s: float | None


class Job(Generic[T]):
    """One call, and whether somebody still waits for it."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.call = call
        self.done = threading.Event()
        self.outcome: Returned[T] | Raised | None = None
        self.given_up = False


class Containment:
    """Threads for functions that may hang. Thread-safe; *name* is what their threads are called."""

    def __init__(self, name: str, *, most_lost: int = MOST_LOST) -> None:
        self._name = name
        self._most_lost = most_lost
        self._lock = threading.Lock()
        self._idle: list[queue.SimpleQueue[Job[Any] | None]] = []
        self._lost = 0

    @property
    def lost(self) -> int:
        """How many functions have been written off and have not come back."""
        return self._lost

    def run(
        self, call: Callable[[], T], timeout_s: float, *, stop: threading.Event | None = None
    ) -> Returned[T] | Raised | Overdue:
        """Call *call* in a thread of ours and wait at most *timeout_s*, and hardly longer once *stop* is set."""
        job: Job[T] = Job(call)
        with self._lock:
            if self._lost >= self._most_lost:
                return Overdue(None)
            jobs = self._idle.pop() if self._idle else self._start()
        jobs.put(job)
        _wait(job.done, timeout_s, stop)
        with self._lock:
            if job.outcome is None:
                job.given_up = True
                self._lost += 1
                return Overdue(timeout_s)
        return job.outcome

    def close(self) -> None:
        """End the threads that wait for work; those that were written off end when their function does."""
        with self._lock:
            idle, self._idle = self._idle, []
        for jobs in idle:
            jobs.put(None)

    def _start(self) -> "queue.SimpleQueue[Job[Any] | None]":
        jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, args=(jobs,), name=self._name, daemon=True).start()
        return jobs

    def _work(self, jobs: "queue.SimpleQueue[Job[Any] | None]") -> None:
        while (job := jobs.get()) is not None:
            outcome: Returned[Any] | Raised | None
            try:
                outcome = Returned(job.call())
            except BaseException as error:  # noqa: BLE001 - SystemExit too: it is the application's, not ours
                outcome = Raised(error)
            with self._lock:
                job.outcome = outcome
                if job.given_up:
                    self._lost -= 1
                self._idle.append(jobs)
            job.done.set()
            # While it waits for the next one a thread must not keep what the last one made.
            del job, outcome


def _wait(done: threading.Event, timeout_s: float, stop: threading.Event | None) -> None:
    if stop is None:
        done.wait(timeout_s)
        return
    end = time.monotonic() + timeout_s
    while not done.wait(min(LOOK_S, max(end - time.monotonic(), 0.0))):
        if stop.is_set() or time.monotonic() >= end:
            return
