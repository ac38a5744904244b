"""Declares what consumers and publishers find missing, and says what that means: new queues are empty, hints are lost."""

import logging
import threading
import time
from collections.abc import Callable, Iterable

import pika

from mailfleet.broker.rabbit.declare import Ensured, ensure
from mailfleet.broker.rabbit.forks import keep_untouched, renew_after_fork
from mailfleet.broker.rabbit.quiet import quiet
from mailfleet.broker.rabbit.servers import LOST, close_in_time, reason
from mailfleet_schema.declarations import fleet, of_apps
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import DELAY_LEVELS, delay_level_name, queue_name

_log = logging.getLogger("mailfleet.broker")

#: After a declaration that the server refused, publishers do not ask again for so long, in seconds.
REFUSED_S = 30.0


class Declarer:
    """*connect* opens a connection for one declaration. *on_created* gets the apps whose hints are lost.

    It is called in the thread that declared, perhaps in two at once; what it raises is logged.
    """

    def __init__(
        self, connect: Callable[[], pika.BlockingConnection], on_created: Callable[[frozenset[str]], None]
    ) -> None:
        self._connect = connect
        self._on_created = on_created
        self._lock = threading.Lock()
        self._running: dict[frozenset[str], threading.Event] = {}
        self._refused_until = 0.0
        self._said: tuple[str, ...] = ()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin anew in a forked child."""
        keep_untouched(self._lock)
        self._lock = threading.Lock()
        self._running = {}

    def declare_on(self, connection: pika.BlockingConnection, apps: frozenset[str]) -> frozenset[str]:
        """Declare everything that hints of *apps* need, on *connection*; returns those whose hints are lost.

        Raises pika's AMQPError.
        """
        ensured = ensure(connection, fleet() + of_apps(sorted(apps)))
        self._complain(ensured)
        if ensured.refused:
            self._refused_until = time.monotonic() + REFUSED_S
        if ensured.created:
            _log.info("queues_created", extra={"queues": sorted(ensured.created)})
        return _emptied(ensured.created, apps)

    def tell(self, apps: frozenset[str]) -> None:
        """The hints of *apps* are lost."""
        if apps:
            try:
                self._on_created(apps)
            except Exception:  # noqa: BLE001 - whoever's mistake it is, consuming and publishing go on
                _log.exception("whoever wanted to know of new queues failed")

    def declare(self, apps: Iterable[str], deadline: float) -> bool:
        """The same over a connection of its own, for publishers, and tell who is told; waits until the monotonic time *deadline*.

        False when it was not done by then (it goes on), failed, or was refused a short while ago.
        """
        apps = frozenset(apps)
        with self._lock:
            if time.monotonic() < self._refused_until:
                return False
            done = self._running.get(apps)
            if done is None:
                done = self._running[apps] = threading.Event()
                thread = threading.Thread(
                    target=self._run, args=(apps, done), name="mailfleet-declare", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:  # no more threads, or the interpreter is shutting down
                    del self._running[apps]
                    return False
        return done.wait(max(0.0, deadline - time.monotonic()))

    def _run(self, apps: frozenset[str], done: threading.Event) -> None:
        with quiet():
            try:
                connection = self._connect()
                try:
                    emptied = self.declare_on(connection, apps)
                finally:
                    close_in_time(connection)
                done.set()
                self.tell(emptied)
            except LOST as error:
                _log.warning("queues of %s could not be declared: %s", ", ".join(sorted(apps)), reason(error))
            finally:
                with self._lock:
                    self._running.pop(apps, None)

    def _complain(self, ensured: Ensured) -> None:
        """Say once what only a person can mend; hints go on as well as they can."""
        found = (*ensured.different, *ensured.refused)
        if found and found != self._said:
            _log.error(
                "RabbitMQ differs from what mailfleet declares (%s; %d in all): run `mailfleet broker check`",
                found[0],
                len(found),
            )
        self._said = found


def _emptied(created: frozenset[str], apps: frozenset[str]) -> frozenset[str]:
    """The apps of *apps* that had hints in queues that were just created; a level of the ladder has those of all."""
    if created & {delay_level_name(level) for level in range(DELAY_LEVELS)}:
        return apps
    return frozenset(app for app in apps if created & {queue_name(app, priority) for priority in Priority})
