"""Mailers find the embedded broker of their database by themselves."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from mailfleet import Mailer
from mailfleet.broker.embedded import EmbeddedBroker
from mailfleet.counters import Counts
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import queue_name
from tests.integration.producers.databases import ids, mail
from tests.waiting import wait_until

QUEUE = queue_name("billing", Priority.NORMAL)


@pytest.fixture
def broker(sqlite_engine: Engine) -> Iterator[EmbeddedBroker]:
    broker = EmbeddedBroker(sqlite_engine.url)
    broker.declare_queue(QUEUE)
    yield broker
    broker.close()


def test_a_mailer_from_variables_publishes_in_its_process(
    sqlite_engine: Engine, broker: EmbeddedBroker
) -> None:
    """Nothing but the database is configured, and hints arrive."""
    url = sqlite_engine.url.render_as_string()
    with Mailer.from_env("billing", {"MAILFLEET_DATABASE_URL": url}) as mailer:
        number = mailer.emit(mail())
        wait_until(lambda: broker.queues[QUEUE].qsize() == 1, 5, lambda: "no hint")

    assert ids(sqlite_engine) == [number]


def test_a_broker_that_starts_later_is_found(sqlite_engine: Engine) -> None:
    """Before it runs, mails are stored without hints; afterwards with; after its end without again."""
    mailer = Mailer("billing", engine=sqlite_engine)
    before = mailer.counts()
    mailer.emit(mail())
    broker = EmbeddedBroker(sqlite_engine.url)
    broker.declare_queue(QUEUE)
    mailer.emit(mail())
    assert mailer.close()
    assert broker.queues[QUEUE].qsize() == 1
    broker.close()
    mailer.emit(mail())
    assert mailer.close()

    assert len(ids(sqlite_engine)) == 3
    # Mailers without a broker are counted together.
    assert mailer.counts() == before + Counts(emitted=2)


def test_another_database_has_no_broker(sqlite_engine: Engine, broker: EmbeddedBroker) -> None:
    """An embedded broker is for its own database."""
    mailer = Mailer("billing", engine=sqlite_engine.execution_options())
    other = Mailer.from_env("billing", {"MAILFLEET_DATABASE_URL": "sqlite:////nowhere/other.db"})

    assert mailer._writer.outlet._current() is not None
    assert other._writer.outlet._current() is None
    mailer.close()
