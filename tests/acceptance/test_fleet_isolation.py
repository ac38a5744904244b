"""Messages that nobody wants do not slow an app whose hints wait in the same ladder.

Three measurements in one run: an app's delayed hints alone, beside as many for another app that has its queues, beside as
many for an app that has none while the parking queue is full. Whatever the ladder is given takes some of its time; that
nobody wants it must not cost more.
"""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from mailfleet.broker.rabbit import RabbitBroker
from mailfleet_schema.declarations import PARKED_MAX_LENGTH
from mailfleet_schema.hint import Hint
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import PARKED_QUEUE
from tests.bench.ladder import Flow, Lateness, Listener, park, publish_steadily
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

APP, NEIGHBOUR, UNBOUND = "billing", "crm", "nobody"
#: What unwanted messages may add to 99 of 100 hints, in seconds.
MORE_S = 1.0


@dataclass(frozen=True)
class Size:
    """So many messages for others in so many seconds, with delays up to `longest_s`, and a tenth as many for the app.

    `parked` is how long the parking queue may get.
    """

    others: int
    in_s: float
    longest_s: int
    parked: int

    @property
    def delays(self) -> range:
        return range(1, self.longest_s + 1)


sizes = pytest.mark.parametrize(
    "size",
    [
        pytest.param(Size(500, 4, 4, 200), id="500"),
        pytest.param(Size(10_000, 25, 30, PARKED_MAX_LENGTH), id="10000", marks=pytest.mark.acceptance),
    ],
)


@pytest.fixture
def broker(rabbitmq: VirtualHost) -> Iterator[RabbitBroker]:
    """One that publishes, with the queues of the app and of its neighbour."""
    made = RabbitBroker(rabbitmq.url, app=APP, role="producer")
    made.publish([Hint(app, Priority.NORMAL, (2**40,)) for app in (APP, NEIGHBOUR)])
    yield made
    made.close()


def fill_parking(rabbitmq: VirtualHost, size: Size) -> None:
    """Until it is as long as it may be, and drops for every message that comes."""
    if size.parked < PARKED_MAX_LENGTH:
        policy = {"pattern": f"^{PARKED_QUEUE}$", "definition": {"max-length": size.parked}}
        rabbitmq.management.call("PUT", f"policies/{rabbitmq.vhost}/short", policy)
    park(rabbitmq.url, size.parked + 100)

    def full() -> bool:
        return rabbitmq.ready(PARKED_QUEUE) == size.parked

    wait_until(full, 30, lambda: f"{rabbitmq.ready(PARKED_QUEUE)} are parked, expected {size.parked}")


def waiting(rabbitmq: VirtualHost) -> int:
    """How many messages are in the ladder."""
    return sum(rabbitmq.ready(f"mailfleet.delay.{level:02d}") for level in range(6))


def publish(broker: RabbitBroker, app: str, number: int, size: Size) -> Flow:
    return publish_steadily(
        broker,
        app,
        number=number,
        per_second=number / size.in_s,
        delays=size.delays,
        rng=random.Random(app),
    )


@pytest.mark.acceptance
@pytest.mark.timeout(400)
@sizes
def test_an_unbound_app_and_a_full_parking_queue(
    rabbitmq: VirtualHost, broker: RabbitBroker, size: Size
) -> None:
    """Beside them an app's delayed hints come as beside those of any other app: all, none early, none much later."""

    def measure(others: str | None) -> Lateness:
        number = size.others // 10
        with ThreadPoolExecutor(1) as thread:
            beside = None if others is None else thread.submit(publish, broker, others, size.others, size)
            flow = publish(broker, APP, number, size)
            listener.wait_for(flow.due, size.longest_s + 60)
            rate = f" beside {beside.result().per_second:.0f}/s for {others}" if beside else ""
            assert beside is None or not beside.result().unconfirmed
        assert not flow.unconfirmed
        late = Lateness.of(flow.due, listener.arrived)
        print(f"{flow.per_second:.0f}/s for {APP}{rate}: {late}")
        wait_until(lambda: waiting(rabbitmq) == 0, 60, lambda: f"{waiting(rabbitmq)} stay in the ladder")
        return late

    with Listener(rabbitmq.url, APP) as listener, Listener(rabbitmq.url, NEIGHBOUR) as neighbour:
        alone = measure(None)
        wanted = measure(NEIGHBOUR)
        wait_until(
            lambda: neighbour.seen.total() == size.others + 1, 10, lambda: f"{neighbour.seen.total()} came"
        )
        fill_parking(rabbitmq, size)
        unwanted = measure(UNBOUND)

    assert min(alone.least, wanted.least, unwanted.least) >= 0
    assert unwanted.p99 <= max(alone.p99, wanted.p99) + MORE_S
    # The oldest are dropped: what is parked now are the last of those that nobody wanted.
    assert rabbitmq.ready(PARKED_QUEUE) == size.parked
    (parked,) = rabbitmq.management.get(PARKED_QUEUE)
    assert parked["properties"]["app_id"] == UNBOUND
