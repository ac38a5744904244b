"""Hints with many different delays in one call: all or an error, waited for once."""

from collections.abc import Iterator

import pytest

from mailfleet.broker import BrokerUnavailable
from mailfleet.broker.rabbit import RabbitBroker
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import MAX_DELAY_S, queue_name
from tests.integration.broker.reader import hint
from tests.services.virtual_host import VirtualHost

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def broker(rabbitmq: VirtualHost) -> Iterator[RabbitBroker]:
    made = RabbitBroker(rabbitmq.url, app="billing", role="producer")
    yield made
    made.close()


def in_ladder(rabbitmq: VirtualHost, level: int) -> int:
    return rabbitmq.ready(f"mailfleet.delay.{level:02d}")


def test_three_hundred_delays(rabbitmq: VirtualHost, broker: RabbitBroker) -> None:
    """All are taken, each at its level, those without a delay in their queue; in an empty virtual host too."""
    broker.publish_all([(delay, [hint(delay + 1)]) for delay in (0, *range(4000, 4300))])

    assert rabbitmq.ready(queue_name("billing", Priority.NORMAL)) == 1
    # 4,096 s is where the next level begins.
    assert in_ladder(rabbitmq, 11) == 96
    assert in_ladder(rabbitmq, 12) == 204


def test_one_wrong_delay_publishes_nothing(rabbitmq: VirtualHost, broker: RabbitBroker) -> None:
    """It is a mistake of the caller, told before anything is sent."""
    broker.publish([hint(1)], delay_s=64)
    with pytest.raises(ValueError, match="delay_s"):
        broker.publish_all([(64, [hint(2)]), (MAX_DELAY_S + 1, [hint(3)])])
    assert in_ladder(rabbitmq, 6) == 1


def test_only_what_no_queue_wanted_is_published_again(rabbitmq: VirtualHost, broker: RabbitBroker) -> None:
    """Hints of an unknown app are healed by declaring; the others of the same call are not sent twice."""
    broker.publish([hint(1)])
    broker.publish_all([(0, [hint(2), hint(3, app="shop")]), (64, [hint(4)])])

    assert rabbitmq.ready(queue_name("billing", Priority.NORMAL)) == 2
    assert rabbitmq.ready(queue_name("shop", Priority.NORMAL)) == 1
    assert in_ladder(rabbitmq, 6) == 1


def test_one_that_is_refused_fails_the_call(rabbitmq: VirtualHost, broker: RabbitBroker) -> None:
    """Who published is told, and may publish all of them again."""
    broker.publish([hint(1)])
    rabbitmq.management.create_user("weak", "weak")
    rabbitmq.management.grant("weak", configure="^$")
    weak = RabbitBroker(rabbitmq.url_of("weak", "weak"), app="billing", role="producer")
    try:
        with pytest.raises(BrokerUnavailable, match="no queue for shop"):
            weak.publish_all([(64, [hint(2)]), (0, [hint(3, app="shop")])])
    finally:
        weak.close()
        rabbitmq.management.delete_user("weak")


def test_empty_batches_need_no_connection() -> None:
    """Nothing to publish succeeds wherever the server is."""
    broker = RabbitBroker("amqp://nobody.invalid/x", app="billing", role="producer")
    broker.publish_all([])
    broker.publish_all([(5, [])])
    broker.close()
