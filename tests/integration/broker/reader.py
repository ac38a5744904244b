"""The consuming side of a worker process, without a database: an actor that remembers hints, behind real dramatiq workers."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from dramatiq import Actor, Worker
from dramatiq.broker import Consumer

from mailfleet.broker.rabbit import RabbitBroker
from mailfleet_schema.hint import Hint, InvalidHint
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import ACTOR, queue_name
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

HOST = "mx1"


def hint(*ids: int, app: str = "billing", priority: Priority = Priority.NORMAL) -> Hint:
    return Hint(app, priority, ids)


class PoolIsDraining(Exception):  # noqa: N818 - reads as the fact it states
    """What a pool's intake raises when it takes nothing more."""

    leave_unacknowledged = True


class _HeldBroker(RabbitBroker):
    """Consumes when it may."""

    def __init__(self, url: str, *, app: str, declare: bool) -> None:
        super().__init__(url, app=app, role="worker", host=HOST, declare=declare)
        self.may_consume = threading.Event()
        self.may_consume.set()

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        if not self.may_consume.wait(60):
            raise TimeoutError("held back for ever")
        return super().consume(queue_name, prefetch, timeout)


class Reader:
    """Consumes the queues of *apps* while it is entered, which waits until it does; *act* is called with every hint, in dramatiq's worker threads.

    `hints`: those whose *act* has returned, with the monotonic time. `begun`: those whose *act* was called. `created`: what
    `on_created` was told. With *complete* False it is not waited for.
    """

    def __init__(
        self,
        url: str,
        *apps: str,
        act: Callable[[Hint], None] = lambda _hint: None,
        threads: int | None = None,
        declare: bool = True,
        complete: bool = True,
    ) -> None:
        apps = apps or ("billing",)
        self.queues = [queue_name(app, priority) for app in apps for priority in Priority]
        self.hints: list[tuple[Hint, float]] = []
        self.begun: list[Hint] = []
        self.created: list[frozenset[str]] = []
        self._act = act
        self._threads = threads or len(self.queues)
        self._complete = complete
        self.broker = _HeldBroker(url, app=apps[0], declare=declare)
        self.broker.on_created = self.created.append
        self.broker.bundle("pool", self.queues)
        options = {"throws": (InvalidHint, PoolIsDraining)}
        Actor(
            self._look, broker=self.broker, actor_name=ACTOR, queue_name="pool", priority=0, options=options
        )
        self.worker = self._new_worker()

    def _new_worker(self) -> Worker:
        return Worker(self.broker, queues={"pool"}, worker_threads=self._threads, worker_timeout=50)

    def _look(self, argument: Any) -> None:
        found = Hint.from_argument(argument)
        self.begun.append(found)
        self._act(found)
        self.hints.append((found, time.monotonic()))

    @property
    def ids(self) -> list[int]:
        """Rows of all hints so far."""
        return [row for found, _ in list(self.hints) for row in found.ids]

    @property
    def begun_ids(self) -> list[int]:
        """The same for those that were begun."""
        return [row for found in list(self.begun) for row in found.ids]

    def __enter__(self) -> Self:
        self.worker.start()
        if self._complete:
            wait_until(lambda: self.broker.connected, 60, lambda: "never connected")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.worker.stop(timeout=10_000)
        self.broker.close()

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """It does not come back within the block once it has lost its connection, however long the test takes there."""
        self.broker.may_consume.clear()
        try:
            yield
        finally:
            self.broker.may_consume.set()

    def start_another(self) -> None:
        """Stop the worker and start a new one on the same broker."""
        self.worker.stop(timeout=10_000)
        self.worker = self._new_worker()
        self.worker.start()


class Gate:
    """An *act* that holds every hint until it is opened, so that tests decide what is in progress."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __call__(self, _hint: Hint) -> None:
        if not self.opened.wait(30):
            raise TimeoutError("the gate was never opened")


def by_id(hints: Sequence[Hint]) -> dict[int, int]:
    """How often each row was hinted."""
    counts: dict[int, int] = {}
    for found in hints:
        for row in found.ids:
            counts[row] = counts.get(row, 0) + 1
    return counts


def listed(rabbitmq: VirtualHost, role: str) -> list[str]:
    """The addresses of this process's connections for *role*; the management API lists one a moment after it was opened."""
    ours = f" {os.getpid()} {role}"
    return [
        one["name"]
        for one in rabbitmq.management.connections()
        if one["client_properties"].get("connection_name", "").endswith(ours)
    ]
