"""A memory alarm: RabbitMQ takes nothing from publishers until it is over. It must keep nobody waiting."""

import time

import pytest

from mailfleet.broker import BrokerUnavailable
from mailfleet.broker.rabbit import RabbitBroker
from mailfleet.publisher import Publisher, Row
from mailfleet_schema.states import Priority
from tests.integration.broker.reader import Reader, hint
from tests.services.rabbitmq import PrivateRabbit
from tests.waiting import wait_until


def test_publishing_fails_in_time_and_goes_on_afterwards(breakable: PrivateRabbit) -> None:
    """The first hint fails with the alarm's name, the next at once, on the same connection; consumers go on."""
    with breakable.vhost() as rabbitmq, Reader(rabbitmq.url) as reader:
        broker = RabbitBroker(rabbitmq.url, app="billing", role="producer")
        broker.publish([hint(1)])
        wait_until(lambda: reader.ids == [1], 20, lambda: f"{reader.ids}")
        breakable.set_memory_alarm(True)
        try:
            for number, limit_s in ((2, 2.0), (3, 0.1)):
                began = time.monotonic()
                with pytest.raises(BrokerUnavailable, match="memory"):
                    broker.publish([hint(number)])
                assert time.monotonic() - began < limit_s
            assert reader.broker.connected
        finally:
            breakable.set_memory_alarm(False)

        def published() -> bool:
            try:
                broker.publish([hint(4)])
            except BrokerUnavailable:
                return False
            return True

        wait_until(published, 20, lambda: "still blocked")
        # What was sent into the alarm is taken when it is over; a hint that comes late does no harm.
        wait_until(lambda: {2, 4} <= set(reader.ids), 20, lambda: f"{reader.ids}")
        assert 3 not in reader.ids
        broker.close()


def test_an_application_does_not_notice(breakable: PrivateRabbit) -> None:
    """Rows are put in no time while the alarm is on; the breaker leaves the broker alone after the first failure."""
    with breakable.vhost() as rabbitmq:
        broker = RabbitBroker(rabbitmq.url, app="billing", role="producer")
        with Reader(rabbitmq.url):
            broker.publish([hint(1)])
        publisher = Publisher(broker)
        breakable.set_memory_alarm(True)
        try:
            began = time.monotonic()
            publisher.put([Row("billing", Priority.NORMAL, 2, began)])
            assert publisher.flush(3)
            assert time.monotonic() - began < 2.5
            assert publisher.counts().failed == 1
            began = time.monotonic()
            publisher.put([Row("billing", Priority.NORMAL, 3, began)])
            assert publisher.flush(3)
            assert time.monotonic() - began < 0.1
            assert publisher.counts().dropped == 1
        finally:
            breakable.set_memory_alarm(False)
        broker.close()


def test_closing_while_blocked_takes_no_time(breakable: PrivateRabbit) -> None:
    """An application may end in the middle of it."""
    with breakable.vhost() as rabbitmq:
        broker = RabbitBroker(rabbitmq.url, app="billing", role="producer")
        with Reader(rabbitmq.url):
            broker.publish([hint(1)])
        breakable.set_memory_alarm(True)
        try:
            with pytest.raises(BrokerUnavailable):
                broker.publish([hint(2)])
            began = time.monotonic()
            broker.close()
            assert time.monotonic() - began < 2.5
        finally:
            breakable.set_memory_alarm(False)
