"""Every id a hundred times, to four workers at once, before and after its mail was sent: each mail goes out once."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mailfleet.broker.rabbit import RabbitBroker
from mailfleet_schema.hint import Hint
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import PARKED_QUEUE, queue_name
from mailfleet_workers.catcher import Action, Default, Delay, Event, Step
from tests.checker import Audit, Ledger
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.stage.traffic import judged, loading, mixed, wait_rest
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

APP = "billing"
QUEUE = queue_name(APP, Priority.NORMAL)
MAILS = 60
TIMES = 100
PRODUCERS = 4
HOSTS = ("mx1", "mx2")


def slow(event: Event) -> Action:
    """A server that takes a while: others come with the same id while one sends."""
    return Delay(0.05) if event.step is Step.EOD else Default()


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost) -> Iterator[Stage]:
    with Stage(tmp_path, migrated_url, rabbitmq.url, script=slow) as stage:
        Audit.install(stage.engine)
        for host in HOSTS:
            environ = loading(APP) | {"MAILFLEET_DATA_DIR": str(tmp_path / host)}
            stage.parent(APP, "--processes", "2", "--host", host, environ=environ)
        for parent in stage.parents:
            parent.wait_ready(2)
        yield stage


def publish(broker: RabbitBroker, ids: Sequence[int], times: int) -> None:
    """Each id by itself, and all of them together, in hints of one message each."""
    alone = [Hint(APP, Priority.NORMAL, (one,)) for one in ids]
    for _ in range(times):
        broker.publish([*alone, Hint(APP, Priority.NORMAL, tuple(ids[:50]))])


def at_once(stage: Stage, ids: Sequence[int]) -> None:
    """A hundred hints for each id, from four producers."""
    brokers = [stage.hints(APP) for _ in range(PRODUCERS)]
    threads = [threading.Thread(target=publish, args=(broker, ids, TIMES // PRODUCERS)) for broker in brokers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_every_id_a_hundred_times(stage: Stage, rabbitmq: VirtualHost) -> None:
    """Each mail is sent once, whoever else was told of it; hints for mails that have ended do nothing."""
    ledger = Ledger()
    mails = [mixed("Mail")(number) for number in range(MAILS)]
    with stage.engine.begin() as connection:
        ids = stage.mailer(APP).emit_many(mails, session=connection)
    for mail, mail_id in zip(mails, ids, strict=True):
        ledger.emitted(mail, mail_id)

    at_once(stage, ids)
    wait_rest(stage, 240)
    fences = stage.rows("id", "fence")
    at_once(stage, ids)
    wait_until(lambda: rabbitmq.ready(QUEUE) == 0, 240, lambda: f"{rabbitmq.ready(QUEUE)} hints are left")

    found = judged(stage, ledger)
    assert (found.sent, found.doubts) == (MAILS, 0)
    assert found.duplicates == dict.fromkeys(found.duplicates, 0)
    # Nobody claimed any of them again.
    assert stage.rows("id", "fence") == fences
    assert {row.fence for row in fences} == {1}
    assert rabbitmq.ready(PARKED_QUEUE) == 0
