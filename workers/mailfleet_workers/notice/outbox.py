"""What was emitted and is not sent yet: a bounded queue in memory, and few threads that end when they are idle.

Whoever put something in holds a future of its result. Nothing is lost silently: what cannot be sent any more, because
there is no room or the process ends, gets `Dropped` as its result, and is counted and logged as any other.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from mailfleet_workers.notice.letter import Letter
from mailfleet_workers.notice.results import Dropped, Result

log = logging.getLogger(__name__)

#: So many mails wait at most.
CAPACITY = 1000
#: So many threads send at most: a server that hangs holds one of them.
THREADS = 2
#: So many mails are taken together at most, if they are of one account.
BATCH = 100
#: A thread ends when it had nothing to do for so long, in seconds.
IDLE_S = 10.0


@dataclass(eq=False, slots=True)
class Entry:
    """One letter, and the future of whoever waits for its result. To cancel that does not stop the mail."""

    letter: Letter
    future: "Future[Result]" = field(default_factory=Future)


class Outbox:
    """*send* is given entries of one account and tells each of them its result; *dropped* hears of what nobody sends.

    Thread-safe. Neither is called with a lock held.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Entry]], None],
        dropped: Callable[[Entry, Dropped], None],
        *,
        capacity: int = CAPACITY,
        threads: int = THREADS,
        idle_s: float = IDLE_S,
    ) -> None:
        self._send = send
        self._dropped = dropped
        self._capacity = capacity
        self._most_threads = threads
        self._idle_s = idle_s
        self._changed = threading.Condition()
        self._queue: deque[Entry] = deque()
        self._in_hand: set[Entry] = set()
        self._threads = 0
        self._idle = 0

    def put(self, entries: Sequence[Entry]) -> None:
        """Have *entries* sent. Never waits, never raises."""
        with self._changed:
            room = max(0, self._capacity - len(self._queue))
            self._queue.extend(entries[:room])
            lost = [(entry, Dropped("the outbox is full")) for entry in entries[room:]]
            lost += self._start()
            self._changed.notify_all()
        for entry, why in lost:
            self._dropped(entry, why)

    def flush(self, deadline_s: float) -> bool:
        """Wait until everything that was put in has a result, at most *deadline_s*; whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._in_hand, deadline_s)

    def abandon(self) -> int:
        """Send nothing more that is not begun; how many mails a server may be given at this moment."""
        with self._changed:
            lost, in_hand = list(self._queue), len(self._in_hand)
            self._queue.clear()
        for entry in lost:
            self._dropped(entry, Dropped("the process ended before its turn"))
        return in_hand

    def forked(self) -> None:
        """In a forked child: the parent sends what it has; whoever waits for it here is told so. For one thread."""
        waiting = [*self._queue, *self._in_hand]
        self._changed = threading.Condition()
        self._queue, self._in_hand = deque(), set()
        self._threads = self._idle = 0
        for entry in waiting:
            if not entry.future.done():
                # Its lock may have been held by a thread that is not here.
                entry.future.__init__()  # type: ignore[misc]
                entry.future.set_result(Dropped("this process was forked: its parent sends it"))

    # Under the lock.

    def _start(self) -> list[tuple[Entry, Dropped]]:
        wanted = self._queue and self._idle < len(self._queue)
        if not wanted or self._threads >= self._most_threads:
            return []
        thread = threading.Thread(target=self._run, name="mailfleet-notice", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads, or the interpreter is shutting down
            if self._threads:
                return []
            lost = list(self._queue)
            self._queue.clear()
            return [(entry, Dropped(f"no thread could be started: {error}")) for entry in lost]
        self._threads += 1
        return []

    # The threads.

    def _run(self) -> None:
        while entries := self._take():
            try:
                self._send(entries)
            except Exception as error:
                log.exception("notice_lost")
                for entry in entries:
                    if not entry.future.done():
                        entry.future.set_exception(error)
            finally:
                with self._changed:
                    self._in_hand -= set(entries)
                    self._changed.notify_all()

    def _take(self) -> list[Entry]:
        """The next entries, all of one account; none after some idle time, and then the thread ends."""
        with self._changed:
            self._idle += 1
            found = self._changed.wait_for(lambda: self._queue, self._idle_s)
            self._idle -= 1
            if not found:
                self._threads -= 1
                return []
            account = self._queue[0].letter.way.account
            entries: list[Entry] = []
            while self._queue and len(entries) < BATCH and self._queue[0].letter.way.account == account:
                entries.append(self._queue.popleft())
            self._in_hand |= set(entries)
            return entries


def wait_all(outboxes: Sequence[Outbox], deadline_s: float) -> bool:
    """Flush *outboxes*, at most *deadline_s* for all of them; whether all are empty."""
    end = time.monotonic() + deadline_s
    done = [one.flush(max(0.0, end - time.monotonic())) for one in outboxes]
    return all(done)
