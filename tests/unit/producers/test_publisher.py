"""The publisher: groups, delays, drops and counts; never raises, never waits."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from mailfleet import failpoints
from mailfleet.breaker import Breaker
from mailfleet.broker.base import Batch
from mailfleet.counters import Counts
from mailfleet.publisher import Publisher, Row
from mailfleet_schema.hint import Hint
from mailfleet_schema.states import Priority
from tests.unit.producers.brokers import FailingBroker, HangingBroker, MemoryBroker
from tests.waiting import wait_until


def row(
    mail_id: int, *, app: str = "billing", priority: Priority = Priority.NORMAL, due: float | None = 0
) -> Row:
    return Row(app, priority, mail_id, due)


@pytest.fixture
def disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


@pytest.fixture
def slow_breaker() -> Callable[[], Breaker]:
    """A breaker that stays open longer than any test."""
    return lambda: Breaker(first_s=600, most_s=600)


def test_groups_by_app_and_priority() -> None:
    """Rows of one app and priority travel together, in their order."""
    broker = MemoryBroker()
    publisher = Publisher(broker)
    publisher.put([row(1), row(2, app="news"), row(3), row(4, priority=Priority.HIGH)])

    assert publisher.flush(5)
    assert broker.published == [
        (Hint("billing", Priority.NORMAL, (1, 3)), 0),
        (Hint("news", Priority.NORMAL, (2,)), 0),
        (Hint("billing", Priority.HIGH, (4,)), 0),
    ]
    assert publisher.counts() == Counts(emitted=4, published=4)
    assert publisher.counts_by_labels()["billing", "normal"] == Counts(emitted=2, published=2)


def test_a_delay_is_rounded_up() -> None:
    """What is due in 1.2 s is delayed by 2, what was due long ago not at all: an early hint is wasted."""
    broker = MemoryBroker()
    now = time.monotonic()
    publisher = Publisher(broker, monotonic=lambda: now)
    publisher.put([row(1, due=now + 1.2), row(2, due=now - 50), row(3, due=now + 60)])
    publisher.flush(5)

    assert {hint.ids: delay for hint, delay in broker.published} == {(1,): 2, (2,): 0, (3,): 60}


def test_different_delays_are_one_call() -> None:
    """Rows that were committed together are handed over together: the broker's answer is waited for once."""
    calls: list[dict[int, Sequence[Hint]]] = []

    class Counting(MemoryBroker):
        def publish_all(self, batches: Sequence[Batch]) -> None:
            calls.append(dict(batches))

    now = time.monotonic()
    publisher = Publisher(Counting(), monotonic=lambda: now)
    publisher.put([row(n, due=now + n) for n in range(1, 301)])

    assert publisher.flush(5)
    (batches,) = calls
    assert batches == {n: [Hint("billing", Priority.NORMAL, (n,))] for n in range(1, 301)}
    assert publisher.counts() == Counts(emitted=300, published=300)


def test_a_row_too_far_ahead_is_counted_and_not_hinted() -> None:
    """A row without a time is a reconciler's: no hint, nothing dropped."""
    broker = MemoryBroker()
    publisher = Publisher(broker)
    publisher.put([row(1, due=None)])

    assert publisher.flush(5)
    assert broker.published == []
    assert publisher.counts() == Counts(emitted=1)


def test_a_failure_is_a_number_and_a_log_line(
    slow_breaker: Callable[[], Breaker], caplog: pytest.LogCaptureFixture
) -> None:
    """A broker that refuses costs a warning without its text, which may hold a password."""
    publisher = Publisher(FailingBroker(), breaker=slow_breaker)
    with caplog.at_level(logging.WARNING, "mailfleet.publisher"):
        publisher.put([row(1), row(2)])
        assert publisher.flush(5)

    assert publisher.counts() == Counts(emitted=2, failed=2)
    (line,) = caplog.messages
    assert "BrokerUnavailable" in line
    assert "hidden" not in line


def test_while_the_breaker_is_open_rows_are_dropped_at_once(slow_breaker: Callable[[], Breaker]) -> None:
    """After a failure nothing is tried, nothing is queued, and everything is counted."""
    broker = FailingBroker()
    publisher = Publisher(broker, breaker=slow_breaker)
    publisher.put([row(1)])
    publisher.flush(5)
    broker.broken = False
    publisher.put([row(2), row(3)])

    assert publisher.flush(5)
    assert broker.tries == 1
    assert publisher.counts() == Counts(emitted=3, failed=1, dropped=2)


def test_after_the_pause_the_next_row_tries_again() -> None:
    """Once the breaker's time is over, hints flow again."""
    broker = FailingBroker()
    now = [0.0]
    publisher = Publisher(broker, monotonic=lambda: now[0])
    publisher.put([row(1)])
    wait_until(lambda: broker.tries == 1 and publisher.counts().failed == 1, 5, lambda: "no failure counted")
    broker.broken = False
    now[0] += 1.9
    publisher.put([row(2)])
    assert publisher.counts().dropped == 1
    now[0] += 0.2
    publisher.put([row(3)])
    # Counted a moment after the broker has it.
    wait_until(lambda: publisher.counts().published == 1, 5, lambda: f"{publisher.counts()}, {broker.ids}")

    assert broker.ids == [3]
    assert publisher.counts() == Counts(emitted=3, failed=1, dropped=1, published=1)


def test_a_full_queue_drops_what_comes_on_top(caplog: pytest.LogCaptureFixture) -> None:
    """The queue is bounded: the surplus is dropped, counted, and said once."""
    broker = HangingBroker()
    publisher = Publisher(broker, capacity=10)
    publisher.put([row(1)])
    broker.entered.wait(5)
    with caplog.at_level(logging.WARNING, "mailfleet.publisher"):
        publisher.put([row(n) for n in range(2, 15)])
        publisher.put([row(15)])
    assert publisher.counts() == Counts(emitted=15, dropped=4)
    assert len(caplog.messages) == 1
    broker.release.set()

    assert publisher.flush(5)
    assert broker.ids == list(range(1, 12))


def test_a_broker_that_hangs_is_given_up_after_the_deadline(slow_breaker: Callable[[], Breaker]) -> None:
    """`put` never waits for it; after the deadline its rows have failed, and queued ones are dropped."""
    broker = HangingBroker()
    now = [0.0]
    publisher = Publisher(broker, breaker=slow_breaker, deadline_s=2, monotonic=lambda: now[0])
    publisher.put([row(1)])
    broker.entered.wait(5)
    publisher.put([row(2)])
    now[0] = 1.9
    assert publisher.counts() == Counts(emitted=2)
    now[0] = 2.1
    assert publisher.counts() == Counts(emitted=2, failed=1, dropped=1)
    publisher.put([row(3)])
    assert publisher.counts() == Counts(emitted=3, failed=1, dropped=2)
    # Nobody waits behind the thread that hangs.
    assert publisher.flush(0)
    broker.release.set()

    wait_until(lambda: broker.ids == [1], 5, lambda: f"{broker.ids}")
    wait_until(lambda: not publisher._in_hand, 5, lambda: "the thread has not come back")
    assert publisher.counts().published == 0


def test_flush_gives_up_at_its_deadline() -> None:
    """A flush waits no longer than it was told."""
    broker = HangingBroker()
    publisher = Publisher(broker, deadline_s=600)
    publisher.put([row(1)])
    began = time.monotonic()

    assert not publisher.flush(0.05)
    assert time.monotonic() - began < 5
    broker.release.set()
    assert publisher.flush(5)


def test_flush_waits_for_what_the_thread_has_in_hand() -> None:
    """Rows that the thread has taken but not yet handed over count as not flushed."""
    broker = MemoryBroker()
    publisher = Publisher(broker)
    for n in range(1, 200):
        publisher.put([row(n)])
        assert publisher.flush(5)
        assert len(broker.ids) == n


def test_the_idle_thread_ends_and_the_next_row_starts_another() -> None:
    """No thread stays behind for a broker that nobody uses any more."""
    broker = MemoryBroker()
    started: list[None] = []
    publisher = Publisher(broker, idle_s=0.01, on_start=lambda: started.append(None))
    for n in (1, 2):
        publisher.put([row(n)])
        wait_until(lambda: publisher._thread is None, 5, lambda: "the thread stays")
        assert broker.ids[-1] == n

    assert len(started) == 2


def test_many_threads_lose_nothing() -> None:
    """Rows put by many threads at once arrive once each."""
    broker = MemoryBroker()
    publisher = Publisher(broker, idle_s=0.001)

    def put_hundred(start: int) -> None:
        for n in range(100):
            publisher.put([row(start + n)])

    threads = [threading.Thread(target=put_hundred, args=(start,)) for start in range(1, 1001, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert publisher.flush(10)
    assert sorted(broker.ids) == list(range(1, 1001))


@pytest.mark.usefixtures("disarmed")
def test_a_failpoint_stands_before_the_broker(slow_breaker: Callable[[], Breaker]) -> None:
    """`in_publish` is passed before the broker has the hints, and an error there is a failed publish."""
    broker = MemoryBroker()

    def fail() -> None:
        raise failpoints.FailpointError("in_publish")

    failpoints.arm("in_publish", fail)
    publisher = Publisher(broker, breaker=slow_breaker)
    publisher.put([row(1)])

    assert publisher.flush(5)
    assert broker.published == []
    assert publisher.counts() == Counts(emitted=1, failed=1)


def test_a_logging_handler_may_put_rows(slow_breaker: Callable[[], Breaker]) -> None:
    """An application that mails its own warnings does not lock itself out."""
    publisher = Publisher(FailingBroker(), breaker=slow_breaker)

    class Mailing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            publisher.put([row(99)])

    handler = Mailing()
    logging.getLogger("mailfleet.publisher").addHandler(handler)
    try:
        publisher.put([row(1)])
        assert publisher.flush(5)
        wait_until(lambda: publisher.counts().emitted == 2, 5, lambda: f"{publisher.counts()}")
    finally:
        logging.getLogger("mailfleet.publisher").removeHandler(handler)


def test_reset_forgets_everything_even_with_its_lock_held() -> None:
    """What a forked child does: a new lock, an empty queue, no thread, and it works."""
    broker = HangingBroker()
    publisher = Publisher(broker)
    publisher.put([row(1), row(2)])
    broker.entered.wait(5)
    with publisher._changed:
        publisher.reset()
        assert publisher.counts() == Counts()
        broker.release.set()
        publisher.put([row(3)])
        assert publisher.flush(5)

    assert 3 in broker.ids
