"""A sick broker costs the application nothing: emit and commit return as if it were well."""

import time

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from mailfleet import Mailer
from mailfleet.counters import Counts
from mailfleet.publisher import DEADLINE_S
from tests.integration.producers.databases import ids, mail
from tests.unit.producers.brokers import FailingBroker, HangingBroker, MemoryBroker
from tests.waiting import wait_until


def slowest_emit(mailer: Mailer, engine: Engine, count: int) -> float:
    """The longest emit with its commit, in seconds."""
    longest = 0.0
    for _ in range(count):
        began = time.monotonic()
        with Session(engine) as session, session.begin():
            mailer.emit(mail(), session)
        longest = max(longest, time.monotonic() - began)
    return longest


def test_a_broker_that_hangs(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Every emit takes milliseconds, from the first on; after two seconds the hang is a failed publish."""
    broker = HangingBroker()
    mailer = Mailer("billing", engine=engine, broker=broker)
    began = time.monotonic()
    assert slowest_emit(mailer, engine, 30) < DEADLINE_S / 2
    wait_until(lambda: mailer.counts().failed > 0, 10, lambda: f"{mailer.counts()}")
    assert time.monotonic() - began >= DEADLINE_S
    assert slowest_emit(mailer, engine, 5) < DEADLINE_S / 2
    counts = mailer.counts()
    broker.release.set()

    assert counts.emitted == 35
    assert counts.failed + counts.dropped == 35
    assert len(ids(engine)) == 35
    assert "nothing said within 2 s" in caplog.text


def test_a_broker_that_is_away(engine: Engine) -> None:
    """One failure opens the breaker, and the application does not notice."""
    broker = FailingBroker()
    mailer = Mailer("billing", engine=engine, broker=broker)
    assert slowest_emit(mailer, engine, 20) < DEADLINE_S / 2
    assert mailer.close()
    counts = mailer.counts()

    assert broker.tries < 3
    assert (counts.emitted, counts.published) == (20, 0)
    assert counts.failed + counts.dropped == 20
    assert len(ids(engine)) == 20


def test_mailers_of_one_broker_share_a_publisher(engine: Engine) -> None:
    """One thread and one queue for a broker, however many mailers a process makes."""
    broker = MemoryBroker()
    mailers = [Mailer(app, engine=engine, broker=broker) for app in ("billing", "news", "alerts")]
    for mailer in mailers:
        mailer.emit(mail())
    assert mailers[0].close()

    assert {mailer.counts() for mailer in mailers} == {Counts(emitted=3, published=3)}
    assert sorted(broker.ids) == ids(engine)
