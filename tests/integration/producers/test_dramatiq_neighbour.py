"""An application that uses dramatiq itself, and mailfleet in the same process: neither notices the other."""

import threading
from collections.abc import Iterator

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.encoder import PickleEncoder
from dramatiq.middleware import Middleware
from sqlalchemy import Engine

from mailfleet import Mailer, Pending
from mailfleet.broker.embedded import EmbeddedBroker
from mailfleet_schema.hint import Hint
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import ACTOR, queue_name
from tests.integration.producers.databases import ids, mail
from tests.waiting import wait_until


class Watching(Middleware):
    """Remembers what passes the application's broker."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        self.seen.append(message.actor_name)


@pytest.fixture
def own_dramatiq() -> Iterator[StubBroker]:
    """The application's broker and encoder, set as dramatiq's globals, put back afterwards."""
    before = (dramatiq.broker.global_broker, dramatiq.get_encoder())
    broker = StubBroker()
    dramatiq.set_broker(broker)
    dramatiq.set_encoder(PickleEncoder())
    yield broker
    broker.close()
    dramatiq.broker.global_broker = before[0]
    dramatiq.set_encoder(before[1])


def test_neither_notices_the_other(sqlite_engine: Engine, own_dramatiq: StubBroker) -> None:
    """Both process their own messages at the same time; dramatiq's globals stay the application's objects."""
    encoder = dramatiq.get_encoder()
    watching = Watching()
    own_dramatiq.add_middleware(watching)
    came: list[object] = []
    mailer: Mailer

    @dramatiq.actor(max_retries=3, min_backoff=1)
    def invoice(number: object) -> None:
        # JSON could not carry a complex number: the application's encoder is at work.
        assert isinstance(number, complex)
        if number == 3j and came.count(3j) == 0:
            came.append(number)
            raise RuntimeError("once more, please")
        mailer.emit(mail(idempotency_key=f"invoice-{number}"))
        came.append(number)

    hints = EmbeddedBroker(sqlite_engine.url)
    looked: list[int] = []
    dramatiq.Actor(
        lambda argument: looked.extend(Hint.from_argument(argument).ids),
        broker=hints,
        actor_name=ACTOR,
        queue_name=queue_name("billing", Priority.NORMAL),
        priority=0,
        options={},
    )
    hints.declare_queue(queue_name("billing", Priority.HIGH))
    mailer = Mailer("billing", engine=sqlite_engine)
    own_middleware = list(own_dramatiq.middleware)
    own_worker = dramatiq.Worker(own_dramatiq, worker_threads=2, worker_timeout=50)
    mail_worker = dramatiq.Worker(hints, worker_threads=1, worker_timeout=50)
    own_worker.start()
    mail_worker.start()
    for number in range(5):
        invoice.send(complex(0, number))
    mailer.send(mail(), deadline_s=0)
    wait_until(lambda: len(came) == 6 and len(looked) == 6, 20, lambda: f"{came}, {looked}")
    assert isinstance(mailer.post(mail(), deadline_s=0), Pending)
    wait_until(lambda: len(looked) == 7, 10, lambda: f"{looked}")
    mail_worker.stop()
    invoice.send(9j)
    wait_until(lambda: 9j in came, 10, lambda: f"{came}")
    own_worker.stop()
    mailer.close()
    hints.close()

    assert dramatiq.get_broker() is own_dramatiq
    assert dramatiq.get_encoder() is encoder
    assert set(own_dramatiq.actors) == {"invoice"}
    assert ACTOR not in dramatiq.get_broker().actors
    assert set(own_dramatiq.queues) == {"default", "default.DQ"}
    assert [m for m in own_dramatiq.middleware if m in own_middleware] == own_middleware
    assert set(watching.seen) == {"invoice"}
    assert came.count(3j) == 2
    assert sorted(looked) == ids(sqlite_engine)[:7]
    assert hints.parked == 0
    assert not [one.name for one in threading.enumerate() if one.name == "mailfleet-delays"]


def test_the_application_may_change_its_mind(sqlite_engine: Engine, own_dramatiq: StubBroker) -> None:
    """Hints that were published under one encoder are read under another."""
    hints = EmbeddedBroker(sqlite_engine.url)
    looked: list[int] = []
    dramatiq.Actor(
        lambda argument: looked.extend(Hint.from_argument(argument).ids),
        broker=hints,
        actor_name=ACTOR,
        queue_name=queue_name("billing", Priority.NORMAL),
        priority=0,
        options={},
    )
    hints.publish([Hint("billing", Priority.NORMAL, (1,))])
    dramatiq.set_encoder(dramatiq.JSONEncoder())
    hints.publish([Hint("billing", Priority.NORMAL, (2,))], delay_s=1)
    dramatiq.set_encoder(PickleEncoder())
    worker = dramatiq.Worker(hints, worker_threads=1, worker_timeout=50)
    worker.start()
    wait_until(lambda: looked == [1, 2], 10, lambda: f"{looked}")
    worker.stop()
    hints.close()
