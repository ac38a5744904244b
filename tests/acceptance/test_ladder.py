"""The delay ladder keeps its time: no hint comes early, and 99 of 100 come within a second, at 500 in a second.

What an undelayed hint takes is measured beside it: on a machine whose disk or processors have other work, both are late,
the delayed one at every level that it waits in. Only the small size, which runs beside other tests, is granted that,
and that a confirmation takes longer than a publisher waits.
"""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from mailfleet.broker.rabbit import RabbitBroker
from mailfleet_schema.hint import Hint
from mailfleet_schema.states import Priority
from tests.bench.ladder import Flow, Lateness, Listener, publish_steadily
from tests.services.virtual_host import VirtualHost

#: What the ladder may add to 99 of 100 hints, in seconds.
P99_S = 1.0


@dataclass(frozen=True)
class Size:
    """So many delayed hints, so many in a second, with delays up to `longest_s`; `alone` on its machine or not."""

    number: int
    per_second: float
    longest_s: int
    alone: bool


sizes = pytest.mark.parametrize(
    "size",
    [
        pytest.param(Size(200, 100, 3, alone=False), id="100"),
        pytest.param(Size(5_000, 510, 30, alone=True), id="500", marks=pytest.mark.acceptance),
    ],
)


@pytest.fixture
def brokers(rabbitmq: VirtualHost) -> Iterator[tuple[RabbitBroker, RabbitBroker]]:
    """Two that publish, of two apps whose queues are there."""
    apps = ("billing", "crm")
    rabbitmq.declare(*apps)
    with ExitStack() as stack:
        made = []
        for app in apps:
            broker = RabbitBroker(rabbitmq.url, app=app, role="producer")
            stack.callback(broker.close)
            broker.publish([Hint(app, Priority.NORMAL, (2**40,))])
            made.append(broker)
        yield made[0], made[1]


@sizes
def test_hints_leave_the_ladder_in_time(
    rabbitmq: VirtualHost, brokers: tuple[RabbitBroker, RabbitBroker], size: Size
) -> None:
    """Each comes once; none early, 99 of 100 at most a second late."""

    def publish(broker: RabbitBroker, app: str, share: float, delays: range) -> Flow:
        return publish_steadily(
            broker,
            app,
            number=int(size.number * share),
            per_second=size.per_second * share,
            delays=delays,
            rng=random.Random(app),
        )

    with Listener(rabbitmq.url, "billing") as delayed, Listener(rabbitmq.url, "crm") as control:
        with ThreadPoolExecutor(2) as threads:
            publishing = threads.submit(publish, brokers[0], "billing", 1.0, range(1, size.longest_s + 1))
            beside = threads.submit(publish, brokers[1], "crm", 0.1, range(1))
        flow, other = publishing.result(), beside.result()
        delayed.wait_for(flow.due, size.longest_s + 30)
        control.wait_for(other.due, 10)

    late = Lateness.of(flow.due, delayed.arrived)
    plain = Lateness.of(other.due, control.arrived)
    print(f"{flow.per_second:.0f}/s delayed by 1 to {size.longest_s} s: {late}")
    print(f"not delayed, beside them: {plain}")
    assert flow.unconfirmed + other.unconfirmed <= (0 if size.alone else size.number // 4)
    # One for each row, the fixture's among them; of those that were not confirmed nobody knows.
    assert max(delayed.seen.values()) == 1
    assert 0 <= len(delayed.seen) - (late.hints + 1) <= flow.unconfirmed
    assert late.least >= 0
    assert late.p99 <= P99_S + (0.0 if size.alone else size.longest_s.bit_length() * plain.p99)
