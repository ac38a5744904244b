"""How late hints leave the delay ladder: a publisher at a steady rate, a plain consumer that notes when each arrives.

No worker and no database are involved: what is measured is the broker, and the way to it. Times are monotonic seconds.
"""

import json
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Self

import pika

from mailfleet.broker.base import Batch, BrokerUnavailable
from mailfleet.broker.rabbit import RabbitBroker
from mailfleet_schema.hint import Hint
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import PARKED_EXCHANGE, queue_name
from tests.waiting import wait_until

#: A publisher comes so often.
TICK_S = 0.05
#: Every hint has a row of its own, over all measurements of a process.
_ids = count(1)


@dataclass(frozen=True)
class Lateness:
    """Of so many hints, in seconds after their time; `least` is negative when one came early."""

    hints: int
    least: float
    p50: float
    p99: float
    most: float

    @classmethod
    def of(cls, due: Mapping[int, float], arrived: Mapping[int, float]) -> Self:
        """Raises KeyError when one has not arrived."""
        late = sorted(arrived[row] - moment for row, moment in due.items())
        return cls(len(late), late[0], late[len(late) // 2], late[math.ceil(len(late) * 0.99) - 1], late[-1])

    def __str__(self) -> str:
        return (
            f"{self.hints} hints, late by min {self.least * 1000:.1f} ms, p50 {self.p50 * 1000:.1f} ms,"
            f" p99 {self.p99 * 1000:.0f} ms, max {self.most * 1000:.0f} ms"
        )


class Listener:
    """Consumes the queues of *app* while it is entered; `arrived` is when each row's hint came first, `seen` how often."""

    def __init__(self, url: str, app: str) -> None:
        self.arrived: dict[int, float] = {}
        self.seen: Counter[int] = Counter()
        self._ending = threading.Event()
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        for priority in Priority:
            name = queue_name(app, priority)
            self._channel.basic_consume(name, self._on_message, auto_ack=True)
        self._thread = threading.Thread(target=self._run, name=f"listener-{app}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join(10)
        self._connection.close()

    def wait_for(self, rows: Mapping[int, float], deadline_s: float) -> None:
        """Until a hint of each of *rows* has come."""
        wait_until(
            lambda: self.arrived.keys() >= rows.keys(),
            deadline_s,
            lambda: f"{len(rows.keys() - self.arrived.keys())} of {len(rows)} hints did not come",
            step_s=0.1,
        )

    def _on_message(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        now = time.monotonic()
        for row in json.loads(body)["args"][0]["ids"]:
            self.seen[row] += 1
            self.arrived.setdefault(row, now)

    def _run(self) -> None:
        while not self._ending.is_set():
            self._connection.process_data_events(0.1)


@dataclass(frozen=True)
class Flow:
    """What was published: when each row's hint is due, how many hints that were in a second, and how many may have come.

    `unconfirmed` counts hints that the broker did not confirm within two seconds; they are not among `due`.
    """

    due: Mapping[int, float]
    per_second: float
    unconfirmed: int


def publish_steadily(
    broker: RabbitBroker,
    app: str,
    *,
    number: int,
    per_second: float,
    delays: Sequence[int],
    rng: random.Random,
) -> Flow:
    """Publish *number* hints of one row each with *delays* drawn at random; it takes longer when the machine is too slow.

    A hint's time is counted from before its publishing, so what publishing takes counts as late.
    """
    due: dict[int, float] = {}
    unconfirmed = 0
    began = time.monotonic()
    pause = threading.Event()
    while len(due) + unconfirmed < number:
        now = time.monotonic()
        wanted = min(int((now - began) * per_second) + 1, number) - len(due) - unconfirmed
        batches = _draw(app, min(wanted, 500), delays, rng)
        rows = {row: now + delay_s for delay_s, hints in batches for hint in hints for row in hint.ids}
        try:
            broker.publish_all(batches)
        except BrokerUnavailable as error:
            print(f"{len(rows)} hints of {app} were not confirmed: {error}")
            unconfirmed += len(rows)
        else:
            due |= rows
        pause.wait(max(0.0, TICK_S - (time.monotonic() - now)))
    return Flow(due, len(due) / (time.monotonic() - began), unconfirmed)


def _draw(app: str, number: int, delays: Sequence[int], rng: random.Random) -> list[Batch]:
    found: dict[int, list[Hint]] = {}
    for _ in range(number):
        found.setdefault(rng.choice(delays), []).append(Hint(app, Priority.NORMAL, (next(_ids),)))
    return list(found.items())


def park(url: str, number: int) -> None:
    """*number* messages that are no hints, straight to where unwanted ones go; confirmed."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        properties = pika.BasicProperties(delivery_mode=2, app_id="parked")
        for _ in range(number):
            channel.basic_publish(PARKED_EXCHANGE, "", b"nobody wants this", properties)
        # What is declared after them on the same channel is answered after them.
        channel.exchange_declare(PARKED_EXCHANGE, passive=True)
