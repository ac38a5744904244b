"""The embedded broker with real dramatiq workers."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from dramatiq import Actor, QueueNotFound, Worker
from dramatiq.errors import QueueJoinTimeout

from mailfleet.broker import BrokerUnavailable
from mailfleet.broker.embedded import EmbeddedBroker, embedded_broker
from mailfleet_schema.hint import Hint, InvalidHint
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import ACTOR, MAX_DELAY_S, queue_name
from tests.waiting import wait_until

QUEUE = queue_name("billing", Priority.NORMAL)


@dataclass
class Consumed:
    """What the actor was called with, and when."""

    hints: list[tuple[Hint, float]] = field(default_factory=list)
    act: Callable[[Hint], None] = lambda _hint: None

    def look(self, argument: Any) -> None:
        hint = Hint.from_argument(argument)
        self.hints.append((hint, time.monotonic()))
        self.act(hint)

    @property
    def ids(self) -> list[int]:
        return [row_id for hint, _ in list(self.hints) for row_id in hint.ids]


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    broker = EmbeddedBroker()
    yield broker
    broker.close()


@pytest.fixture
def consumed(broker: EmbeddedBroker) -> Iterator[Consumed]:
    """An actor, with one worker for each of two queues, as the worker side has them."""
    consumed = Consumed()
    Actor(consumed.look, broker=broker, actor_name=ACTOR, queue_name=QUEUE, priority=0, options={})
    high = queue_name("billing", Priority.HIGH)
    broker.declare_queue(high)
    workers = [Worker(broker, queues={name}, worker_threads=1, worker_timeout=50) for name in (QUEUE, high)]
    for worker in workers:
        worker.start()
    yield consumed
    for worker in workers:
        worker.stop()


def hint(*numbers: int, priority: Priority = Priority.NORMAL) -> Hint:
    return Hint("billing", priority, numbers)


def test_hints_arrive(broker: EmbeddedBroker, consumed: Consumed) -> None:
    """Every hint reaches the actor once, from both queues."""
    broker.publish([hint(1, 2), hint(3), hint(4, priority=Priority.HIGH)])
    wait_until(lambda: len(consumed.hints) == 3, 5, lambda: f"{consumed.hints}")

    assert sorted(consumed.ids) == [1, 2, 3, 4]
    broker.join(QUEUE, timeout=5000)


def test_a_delayed_hint_is_never_early(broker: EmbeddedBroker, consumed: Consumed) -> None:
    """It waits in our own timer, not in a queue of dramatiq's, while others overtake it."""
    began = time.monotonic()
    broker.publish([hint(1)], delay_s=1)
    broker.publish([hint(2)])
    assert broker.delayed == 1
    assert not any(name.endswith(".DQ") for name in broker.queues)
    wait_until(lambda: len(consumed.hints) == 2, 5, lambda: f"{consumed.hints}")

    assert consumed.ids == [2, 1]
    assert 1.0 <= consumed.hints[1][1] - began < 4


def test_what_is_no_hint_does_not_stop_the_consumer(
    broker: EmbeddedBroker, consumed: Consumed, caplog: pytest.LogCaptureFixture
) -> None:
    """Damaged, foreign and misdirected messages are dropped and counted; what follows is consumed."""
    from mailfleet.broker.message import encode, message_of

    good = message_of(hint(1), message_id="m", now_ms=0).asdict()
    for data in (
        b"\x80junk",
        json.dumps({**good, "actor_name": "somebody.else"}).encode(),
        json.dumps({**good, "args": [{"v": 9}]}).encode(),
        encode(message_of(hint(1, priority=Priority.HIGH), message_id="m", now_ms=0)),
    ):
        broker.queues[QUEUE].put(data)
    broker.publish([hint(2)])
    wait_until(lambda: consumed.ids == [2], 5, lambda: f"{consumed.ids}")

    assert broker.parked == 4
    assert "no hint was dropped" in caplog.text
    broker.join(QUEUE, timeout=5000)


def test_an_actor_that_raises_loses_its_hint_only(broker: EmbeddedBroker, consumed: Consumed) -> None:
    """No retries of dramatiq's: the hint is gone, the row is found by its time, the next hint is consumed."""

    def act(one: Hint) -> None:
        if one.ids == (1,):
            raise RuntimeError("the actor failed")

    consumed.act = act
    broker.publish([hint(1), hint(2)])
    wait_until(lambda: consumed.ids == [1, 2], 5, lambda: f"{consumed.ids}")
    broker.join(QUEUE, timeout=5000)

    assert consumed.ids == [1, 2]


def test_a_hint_without_its_actor_is_parked(broker: EmbeddedBroker) -> None:
    """A worker that was started before the actor was declared drops the hint and lives on."""
    broker.declare_queue(QUEUE)
    worker = Worker(broker, queues={QUEUE}, worker_threads=1, worker_timeout=50)
    worker.start()
    broker.publish([hint(1)])
    wait_until(lambda: broker.parked == 1, 5, lambda: "not parked")
    worker.stop()


def test_what_a_stopping_worker_has_not_begun_goes_back(broker: EmbeddedBroker) -> None:
    """Prefetched hints return to their queue for the next worker."""
    begun, finish = threading.Event(), threading.Event()
    consumed = Consumed()

    def act(_hint: Hint) -> None:
        begun.set()
        finish.wait(10)

    consumed.act = act
    Actor(consumed.look, broker=broker, actor_name=ACTOR, queue_name=QUEUE, priority=0, options={})
    worker = Worker(broker, queues={QUEUE}, worker_threads=1, worker_timeout=50)
    worker.start()
    broker.publish([hint(1), hint(2)])
    assert begun.wait(5)

    def finish_when_stopping() -> None:
        # Finished earlier, the thread would begin the next one.
        wait_until(lambda: not worker.workers[0].running, 10, lambda: "not stopping")
        finish.set()

    # The second one is prefetched by now or will be; either way it must not be lost.
    finisher = threading.Thread(target=finish_when_stopping)
    finisher.start()
    worker.stop()
    finisher.join()
    assert consumed.ids == [1]
    consumed.act = lambda _hint: None
    again = Worker(broker, queues={QUEUE}, worker_threads=1, worker_timeout=50)
    again.start()
    wait_until(lambda: consumed.ids == [1, 2], 5, lambda: f"{consumed.ids}")
    again.stop()


def test_a_stopped_worker_is_forgotten(broker: EmbeddedBroker) -> None:
    """A queue that is declared later is consumed by workers that run, not by ones that were stopped."""
    worker = Worker(broker, worker_threads=1, worker_timeout=50)
    worker.start()
    worker.stop()
    before = threading.active_count()
    broker.declare_queue(QUEUE)

    assert broker.middleware == []
    assert threading.active_count() == before


def test_a_running_worker_follows_new_queues(broker: EmbeddedBroker) -> None:
    """As dramatiq promises: a worker without a list of queues consumes those declared later."""
    consumed = Consumed()
    worker = Worker(broker, worker_threads=1, worker_timeout=50)
    worker.start()
    Actor(consumed.look, broker=broker, actor_name=ACTOR, queue_name=QUEUE, priority=0, options={})
    broker.publish([hint(7)])
    wait_until(lambda: consumed.ids == [7], 5, lambda: f"{consumed.ids}")
    worker.stop()


def test_a_hint_for_nobody_is_dropped_and_counted(broker: EmbeddedBroker) -> None:
    """An app whose workers are not here gets no queue that grows for ever."""
    broker.publish([Hint("news", Priority.BULK, (1,))])

    assert broker.unrouted == 1
    assert broker.queues == {}


def test_close_leaves_nothing_running() -> None:
    """No thread stays, nothing is taken any more, and closing again is harmless."""
    before = set(threading.enumerate())
    broker = EmbeddedBroker()
    broker.publish([hint(1)], delay_s=3600)
    broker.close()
    broker.close()

    assert set(threading.enumerate()) <= before
    with pytest.raises(BrokerUnavailable):
        broker.publish([hint(1)])


def test_delays_are_those_of_the_ladder(broker: EmbeddedBroker) -> None:
    """What the real broker could not hold is refused here too."""
    for delay_s in (-1, MAX_DELAY_S + 1):
        with pytest.raises(ValueError, match="delay_s"):
            broker.publish([hint(1)], delay_s=delay_s)


def test_dramatiqs_own_ways_in(broker: EmbeddedBroker, consumed: Consumed) -> None:
    """`send_with_options` of the actor works, delays in milliseconds; what is no hint is refused."""
    actor = broker.get_actor(ACTOR)
    actor.send(hint(1).as_argument())
    actor.send_with_options(args=(hint(2).as_argument(),), delay=1)
    wait_until(lambda: consumed.ids == [1, 2], 5, lambda: f"{consumed.ids}")
    with pytest.raises(InvalidHint):
        actor.send("something else")
    with pytest.raises(InvalidHint):
        actor.send(hint(3).as_argument(), "more")
    with pytest.raises(QueueNotFound):
        broker.consume("unknown")
    with pytest.raises(QueueNotFound):
        broker.join("unknown")


def test_join_has_a_timeout(broker: EmbeddedBroker) -> None:
    """Without a worker nothing is acknowledged."""
    broker.declare_queue(QUEUE)
    broker.publish([hint(1)])
    with pytest.raises(QueueJoinTimeout):
        broker.join(QUEUE, timeout=50)
    broker.flush_all()
    broker.join(QUEUE, timeout=5000)


def test_is_found_by_its_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the URL is written; until it is closed; and one at a time."""
    monkeypatch.chdir(tmp_path)
    broker = EmbeddedBroker("sqlite:///m.db")

    assert embedded_broker(f"sqlite:///{tmp_path}/m.db") is broker
    assert embedded_broker("sqlite+pysqlite:///./m.db?timeout=3") is broker
    assert embedded_broker("sqlite:///other.db") is None
    assert embedded_broker("sqlite://") is None
    with pytest.raises(ValueError, match="runs in this process already"):
        EmbeddedBroker(f"sqlite:///{tmp_path}/m.db")
    broker.close()
    assert embedded_broker("sqlite:///m.db") is None
    EmbeddedBroker("sqlite:///m.db").close()
