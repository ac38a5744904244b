"""From committed rows to hints at the broker, without keeping the application waiting.

One daemon thread per broker and process takes rows from a bounded queue, groups them into hints and publishes them.
Nothing here raises into the application, and nothing waits: a broker that fails, hangs or is away costs a counter and a
log line, and reconcilers find the rows a few seconds later. What is still queued when the process is killed is lost
in the same harmless way.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mailfleet.breaker import Breaker
from mailfleet.broker.base import Batch, HintBroker
from mailfleet.counters import Counters, Counts, Labels
from mailfleet.failpoints import failpoint
from mailfleet_schema.hint import group
from mailfleet_schema.states import Priority

_log = logging.getLogger("mailfleet.publisher")

#: At most so many rows wait for the thread; what comes on top is dropped.
CAPACITY = 10_000
#: At most so many rows are taken at once.
BATCH = 500
#: A publish that takes longer has failed, whatever it says in the end.
DEADLINE_S = 2.0
#: The thread ends when it had nothing to do for so long; the next row starts another.
IDLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Row:
    """A committed mail to look at, at the monotonic time `due`; None is further ahead than a broker can delay.

    `to` is the app whose workers are asked to send it where others than its own may (`mailfleet_schema.senders`), else None.
    """

    app: str
    priority: Priority
    mail_id: int
    due: float | None
    to: str | None = None

    @property
    def labels(self) -> Labels:
        return self.app, self.priority.value


@dataclass(slots=True)
class _Publishing:
    """What is with the broker now; `overdue` once its deadline was found missed."""

    rows: Sequence[Row]
    since: float
    overdue: bool = False


class Publisher:
    """The queue and thread in front of one *broker*. Use `publishers.publisher_of` to share one."""

    def __init__(
        self,
        broker: HintBroker,
        *,
        capacity: int = CAPACITY,
        deadline_s: float = DEADLINE_S,
        idle_s: float = IDLE_S,
        breaker: Callable[[], Breaker] = Breaker,
        monotonic: Callable[[], float] = time.monotonic,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        self.broker = broker
        self.monotonic = monotonic
        self._capacity = capacity
        self._deadline_s = deadline_s
        self._idle_s = idle_s
        self._new_breaker = breaker
        self._on_start = on_start
        self.reset()

    def reset(self) -> None:
        """Begin anew with nothing queued and no thread: what a forked child needs, where locks may be held."""
        self._changed = threading.Condition()
        self._queue: deque[Row] = deque()
        self._thread: threading.Thread | None = None
        self._in_hand = False
        self._publishing: _Publishing | None = None
        self._breaker = self._new_breaker()
        self._counters = Counters()
        self._full = False

    # The application's side: never raises, never waits.

    def put(self, rows: Sequence[Row]) -> None:
        """Queue *rows* for publishing; those that cannot be are dropped and counted."""
        with self._changed:
            self._counters.add("emitted", [row.labels for row in rows])
            rows = [row for row in rows if row.due is not None]
            said = self._judge()
            alone = self._left_alone()
            room = 0 if alone else max(0, self._capacity - len(self._queue))
            self._queue.extend(rows[:room])
            dropped = rows[room:]
            self._counters.add("dropped", [row.labels for row in dropped])
            # Said once for each time that it fills up: a flood must not flood the log.
            if dropped and not alone and not self._full:
                said.append("the queue is full: hints are dropped, reconcilers will find the mails")
            self._full = bool(dropped) and not alone
            if self._queue:
                said += self._start()
                self._changed.notify_all()
        _say(said)

    def room(self) -> int:
        """How many rows would be taken now; 0 while the broker is left alone after a failure, or a try is under way."""
        with self._changed:
            said = self._judge()
            trying = self._breaker.failing and (self._in_hand or bool(self._queue))
            room = 0 if self._left_alone() or trying else max(0, self._capacity - len(self._queue))
        _say(said)
        return room

    def try_again(self) -> None:
        """The broker is known to be back: do not wait for the breaker's next try."""
        with self._changed:
            self._breaker.succeeded()

    def flush(self, deadline_s: float) -> bool:
        """Wait until everything queued is with the broker or given up, at most *deadline_s*; True if it is."""
        end = self.monotonic() + deadline_s
        with self._changed:
            while True:
                said = self._judge()
                if not self._queue and (not self._in_hand or self._overdue()):
                    break
                left_s = end - self.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(min(left_s, self._until_overdue()))
        _say(said)
        return True

    def counts(self) -> Counts:
        """What became of every row so far."""
        with self._changed:
            said = self._judge()
            counts = self._counters.total()
        _say(said)
        return counts

    def counts_by_labels(self) -> dict[Labels, Counts]:
        """The same by app and priority."""
        return dict(self._counters.by_labels())

    # Under the lock.

    def _overdue(self) -> bool:
        return self._publishing is not None and self._publishing.overdue

    def _left_alone(self) -> bool:
        """Whether nothing is queued now: the broker has just failed, or the thread hangs in it."""
        return self._overdue() or not self._breaker.allows(self.monotonic())

    def _start(self) -> list[str]:
        if self._thread is not None and self._thread.is_alive():
            return []
        self._thread = threading.Thread(target=self._run, name="mailfleet-publisher", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads, or the interpreter is shutting down
            self._thread = None
            return [f"no thread could be started ({error}): {self._drop_queue()} hints dropped"]
        self._on_start()
        return []

    def _judge(self) -> list[str]:
        """Give up a publish that takes too long: its thread may hang for ever, but nobody waits behind it."""
        publishing = self._publishing
        if publishing is None or publishing.overdue:
            return []
        if self.monotonic() - publishing.since <= self._deadline_s:
            return []
        publishing.overdue = True
        return [self._fail(publishing.rows, f"nothing said within {self._deadline_s:g} s")]

    def _until_overdue(self) -> float:
        if self._publishing is None:
            return self._deadline_s
        return max(0.001, self._publishing.since + self._deadline_s - self.monotonic())

    def _fail(self, rows: Sequence[Row], why: str) -> str:
        pause_s = self._breaker.failed(self.monotonic())
        self._counters.add("failed", [row.labels for row in rows])
        dropped = self._drop_queue()
        return (
            f"publishing failed ({why}): {len(rows)} hints failed, {dropped} queued ones dropped,"
            f" the next try in {pause_s:g} s at the earliest; reconcilers will find the mails"
        )

    def _drop_queue(self) -> int:
        self._counters.add("dropped", [row.labels for row in self._queue])
        dropped = len(self._queue)
        self._queue.clear()
        return dropped

    # The thread.

    def _run(self) -> None:
        while rows := self._take():
            try:
                self._publish(rows)
            finally:
                with self._changed:
                    self._in_hand = False
                    self._changed.notify_all()

    def _take(self) -> list[Row]:
        """The next rows; none after some idle time, and then this thread is no longer the publisher's."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._queue, self._idle_s):
                self._thread = None
                return []
            self._in_hand = True
            return [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]

    def _publish(self, rows: Sequence[Row]) -> None:
        with self._changed:
            if not self._breaker.allows(self.monotonic()):
                self._counters.add("dropped", [row.labels for row in rows])
                return
            publishing = self._publishing = _Publishing(rows, self.monotonic())
        why = None
        try:
            failpoint("in_publish")
            self.broker.publish_all(_batches(rows, self.monotonic()))
            failpoint("after_hint")
        except Exception as error:  # noqa: BLE001 - whatever a broker raises, the rows are safe and we go on
            # The error's text may hold the broker's URL, and so a password.
            why = type(error).__name__
        with self._changed:
            said = self._judge()
            self._publishing = None
            if not publishing.overdue:
                if why is None:
                    self._breaker.succeeded()
                    self._counters.add("published", [row.labels for row in rows])
                else:
                    said = [self._fail(rows, why)]
        _say(said)


def _batches(rows: Sequence[Row], now: float) -> list[Batch]:
    """Hints for *rows* by the whole seconds they must wait, rounded up: a hint that comes early is wasted."""
    found: dict[tuple[int, bool], list[tuple[str, Priority, int]]] = {}
    for row in rows:
        left_s = 0 if row.due is None else math.ceil(row.due - now)
        together = found.setdefault((max(0, left_s), row.to is not None), [])
        together.append((row.to or row.app, row.priority, row.mail_id))
    return [(delay_s, group(together, shared=shared)) for (delay_s, shared), together in found.items()]


def _say(lines: Sequence[str]) -> None:
    # Never under the lock: a logging handler may itself emit a mail.
    for line in lines:
        _log.warning("%s", line)
