"""What waits, and for how long about, can be read off the ladder's queues; a person who looks changes nothing."""

import time
from collections.abc import Iterator

import pytest

from mailfleet.broker.rabbit import RabbitBroker
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import ACTOR, DELAY_LEVELS, delay_level_name, queue_name
from tests.integration.broker.reader import hint
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

#: Delays in seconds, and on which level each waits first: that of its highest bit. None of them moves during a test.
FIRST_LEVELS = {
    131_071: 16,
    65_536: 16,
    65_535: 15,
    40_000: 15,
    20_000: 14,
    8_192: 13,
    5_000: 12,
    3_600: 11,
    1_200: 10,
    900: 9,
    300: 8,
    255: 7,
    128: 7,
    100: 6,
}
NORMAL = queue_name("billing", Priority.NORMAL)

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def broker(rabbitmq: VirtualHost) -> Iterator[RabbitBroker]:
    opened = RabbitBroker(rabbitmq.url, app="billing", role="producer", host="web-1")
    yield opened
    opened.close()


def test_delays_are_seen_on_the_level_of_their_highest_bit(
    rabbitmq: VirtualHost, broker: RabbitBroker
) -> None:
    """The management API counts each hint on its level and nothing elsewhere: level n holds waits of 2^n to 2^(n+1) s."""
    for number, delay_s in enumerate(FIRST_LEVELS, start=1):
        broker.publish([hint(number)], delay_s=delay_s)
    expected = {delay_level_name(level): 0 for level in range(DELAY_LEVELS)}
    for delay_s, level in FIRST_LEVELS.items():
        assert 2**level <= delay_s < 2 ** (level + 1)
        expected[delay_level_name(level)] += 1

    def seen() -> dict[str, int]:
        queues = {one["name"]: int(one.get("messages_ready", 0)) for one in rabbitmq.management.queues()}
        return {name: queues[name] for name in expected}

    wait_until(lambda: seen() == expected, 20, lambda: f"{seen()}, expected {expected}", step_s=0.2)
    assert rabbitmq.ready(NORMAL) == 0


def test_a_wait_comes_down_level_by_level(rabbitmq: VirtualHost, broker: RabbitBroker) -> None:
    """Three seconds are two on level 01 and then one on level 00, seen there in turn."""
    order = [delay_level_name(1), delay_level_name(0), NORMAL]
    broker.publish([hint(17)], delay_s=3)
    seen: list[str] = []

    def arrived() -> bool:
        seen.extend(name for name in order if name not in seen and rabbitmq.ready(name) == 1)
        return NORMAL in seen

    wait_until(arrived, 10, lambda: f"seen on {seen}")
    assert seen == order


def test_looking_at_what_waits_changes_nothing(rabbitmq: VirtualHost, broker: RabbitBroker) -> None:
    """A waiting hint tells what it is; looked at and put back, it arrives neither early nor late."""
    began = time.monotonic()
    broker.publish([hint(17, 18)], delay_s=6)
    published = time.monotonic()
    # Late enough to tell a wait that begins anew from one that goes on.
    wait_until(lambda: time.monotonic() > published + 3, 5, lambda: "time stands still")

    (found,) = rabbitmq.management.get(delay_level_name(2), requeue=True)
    said = found["properties"]
    assert (said["type"], said["app_id"], said["delivery_mode"]) == (ACTOR, "billing", 2)
    assert said["headers"]["mails"] == 2
    assert said["headers"]["from"].startswith("billing web-1 ")
    assert found["routing_key"] == "0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.1.0.billing.normal"

    wait_until(lambda: rabbitmq.ready(NORMAL) == 1, 15, lambda: "never arrived")
    assert time.monotonic() >= began + 6
    assert time.monotonic() < published + 8.5
