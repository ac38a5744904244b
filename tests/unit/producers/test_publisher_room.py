"""How much a reconciler may hand over: much when all is well, nothing to a broker that fails, one page while it is tried."""

import threading
from collections.abc import Sequence

from mailfleet.breaker import Breaker
from mailfleet.broker.base import BrokerUnavailable, HintBroker
from mailfleet.publisher import Publisher, Row
from mailfleet_schema.hint import Hint
from mailfleet_schema.states import Priority
from tests.waiting import wait_until


class Tried(HintBroker):
    """A broker that fails the first time, and then waits to be let go."""

    def __init__(self) -> None:
        self.calls = 0
        self.go_on = threading.Event()

    def publish(self, hints: Sequence[Hint], *, delay_s: int = 0) -> None:
        assert hints
        assert delay_s == 0
        self.calls += 1
        if self.calls == 1:
            raise BrokerUnavailable("no connection")
        assert self.go_on.wait(30)

    def close(self) -> None:
        self.go_on.set()


def row(mail_id: int) -> Row:
    return Row("billing", Priority.NORMAL, mail_id, 0.0)


def failed_once(first_s: float) -> tuple[Publisher, Tried]:
    broker = Tried()
    publisher = Publisher(broker, capacity=10, breaker=lambda: Breaker(first_s, first_s))
    publisher.put([row(1)])
    assert publisher.flush(10)
    return publisher, broker


def test_nothing_while_the_broker_is_left_alone() -> None:
    """After a failure there is no room, until it is told that the broker is back."""
    publisher, _ = failed_once(600.0)
    assert publisher.room() == 0

    publisher.try_again()
    assert publisher.room() == 10


def test_one_page_while_it_is_tried() -> None:
    """The first rows after a pause decide; what is looked at meanwhile would be looked at in vain."""
    publisher, broker = failed_once(0.0)
    assert publisher.room() == 10
    publisher.put([row(2)])
    assert publisher.room() == 0
    wait_until(lambda: broker.calls == 2, 10, lambda: "not tried")
    assert publisher.room() == 0

    broker.go_on.set()
    assert publisher.flush(10)
    assert publisher.room() == 10
