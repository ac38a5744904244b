"""Many processes after the same mail: hints come twice and to everybody, the claim decides, each mail is sent once."""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from mailfleet import Mail
from mailfleet.broker.rabbit import RabbitBroker
from mailfleet_schema.engine import read_only
from mailfleet_schema.hint import Hint, group
from mailfleet_schema.states import Priority
from mailfleet_workers.catcher import Action, Default, Delay, Event, Step
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.waiting import wait_until

APP = "billing"
PROCESSES = 8


class Slow:
    """A server that takes a while for each mail, so that whoever comes second comes while the first one sends."""

    def __init__(self) -> None:
        self.data: Counter[str] = Counter()

    def __call__(self, event: Event) -> Action:
        if event.step is Step.DATA:
            self.data[event.recipients[0]] += 1
        return Delay(0.05) if event.step is Step.EOD else Default()


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost, slow: Slow) -> Iterator[Stage]:
    with Stage(tmp_path, migrated_url, rabbitmq.url, script=slow) as stage:
        yield stage


def unhinted(stage: Stage, count: int) -> list[int]:
    """So many committed mails that nobody was told of."""
    with stage.engine.begin() as connection:
        return stage.mailer(APP).emit_many(
            [Mail(to=[f"{n}@example.net"], subject=f"Mail {n}", text="Hello") for n in range(count)],
            session=connection,
        )


def publish_often(broker: RabbitBroker, mail_id: int, times: int) -> None:
    """The same id in *times* messages, at once."""
    broker.publish([Hint(APP, Priority.NORMAL, (mail_id,)) for _ in range(times)])


def hosts_of(stage: Stage) -> Counter[str]:
    """How many mails each host has sent."""
    query = text("SELECT w.host FROM mailfleet.mail_attempt a JOIN mailfleet.worker w ON w.id = a.worker_id")
    with read_only(stage.engine) as connection:
        return Counter(connection.execute(query).scalars())


def consumers(rabbitmq: VirtualHost) -> int:
    """How many processes consume."""
    return len({one["channel_details"]["connection_name"] for one in rabbitmq.management.consumers()})


@pytest.mark.tinymail("U5", "16")
@pytest.mark.acceptance
@pytest.mark.timeout(400)
def test_one_id_published_fifty_times(stage: Stage, slow: Slow, rabbitmq: VirtualHost) -> None:
    """Fifty hints for one mail, eight processes that take them: one DATA. Ten times over."""
    stage.parent(APP, "--processes", str(PROCESSES), ready=PROCESSES)
    # The management API shows a consumer a moment after it is there.
    wait_until(lambda: consumers(rabbitmq) == PROCESSES, 15, lambda: f"{consumers(rabbitmq)} consume")
    broker = stage.hints(APP)
    ids = unhinted(stage, 10)

    for mail_id in ids:
        publish_often(broker, mail_id, 50)

    stage.wait_states({"sent": len(ids)}, 60)
    names = [f"mailfleet.{APP}.{priority}" for priority in Priority]
    wait_until(lambda: not any(rabbitmq.ready(name) for name in names), 30, lambda: "hints are left")
    assert slow.data == Counter({f"{n}@example.net": 1 for n in range(len(ids))})


@pytest.mark.tinymail("U5", "16")
@pytest.mark.acceptance
@pytest.mark.timeout(400)
def test_two_hosts_race(stage: Stage, slow: Slow, tmp_path: Path) -> None:
    """Two hosts, every hint twice: 5,000 mails, each sent once, and neither host leaves the work to the other."""
    mails = 5_000
    for host in ("mx1", "mx2"):
        environ = {"MAILFLEET_DATA_DIR": str(tmp_path / host)}
        stage.parent(APP, "--host", host, "--processes", "2", environ=environ)
    for parent in stage.parents:
        parent.wait_ready(2)
    ids = unhinted(stage, mails)
    hints = group([(APP, Priority.NORMAL, one) for one in ids])
    brokers = [stage.hints(APP), stage.hints(APP)]

    threads = [
        threading.Thread(target=lambda broker=broker: [broker.publish([hint]) for hint in hints])
        for broker in brokers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stage.wait_states({"sent": mails}, 240)
    assert slow.data == Counter({f"{n}@example.net": 1 for n in range(mails)})
    sent = hosts_of(stage)
    print(f"5,000 mails, by host: {dict(sent)}")
    assert sum(sent.values()) == mails
    assert min(sent["mx1"], sent["mx2"]) >= mails / 5
