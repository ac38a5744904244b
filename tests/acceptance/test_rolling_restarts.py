"""Workers are restarted all the time while mail is sent, as a deployment does it, and while a backlog waits."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from mailfleet.broker.rabbit import RabbitBroker
from mailfleet_schema.hint import Hint
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import PARKED_QUEUE, queue_name
from mailfleet_workers.catcher import Action, Default, Delay, Event, Step
from tests.checker import Audit, Ledger
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.stage.traffic import Traffic, emit, judged, mixed, percentiles, start_host, wait_rest
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(400)]

APP = "billing"
QUEUE = queue_name(APP, Priority.NORMAL)
HOSTS = ("mx1", "mx2")
RESTARTS = 20
#: Waiting from the beginning, more than few threads send meanwhile.
BACKLOG = 4_000
#: A message is given back to the queue so often: more than RabbitMQ 4 allows by itself (20).
RETURNS = 25
#: As many messages as a consumer takes without a word.
TAKEN = 16

SETTINGS = {
    # Nothing is found by a reconciler while the test runs: a hint that is dropped is a mail that is missing.
    "TIMING__GRACE_S": "900",
    "APPS__BILLING__THREADS": "8",
    "APPS__BILLING__HEAP": "32",
}


class Server:
    """Answers the final dot after up to a fifth of a second."""

    def __init__(self) -> None:
        self._rng = random.Random(4)
        self.hurried = False

    def __call__(self, event: Event) -> Action:
        if event.step is Step.EOD and not self.hurried:
            return Delay(self._rng.uniform(0.0, 0.2))
        return Default()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost, server: Server) -> Iterator[Stage]:
    with Stage(tmp_path, migrated_url, rabbitmq.url, script=server, settings=SETTINGS) as stage:
        Audit.install(stage.engine)
        yield stage


def test_twenty_rolling_restarts(stage: Stage, server: Server, rabbitmq: VirtualHost) -> None:
    """Under load and with a backlog: nothing is lost, doubled or in doubt, no hint is dropped, each exit status is 0."""
    ledger = Ledger()
    running = {host: start_host(stage, APP, host) for host in HOSTS}
    for parent in running.values():
        parent.wait_ready(1)
    emit(stage, APP, ledger, [mixed("Backlog")(number) for number in range(BACKLOG)])
    wait_until(lambda: rabbitmq.ready(QUEUE) > 0, 20, lambda: "no hint waits")

    took, waiting = [], []
    with Traffic(stage, APP, ledger, mixed("Mail"), every_s=0.05) as traffic:
        for number in range(RESTARTS):
            host = HOSTS[number % len(HOSTS)]
            waiting.append(rabbitmq.ready(QUEUE))
            asked = time.monotonic()
            assert running[host].stop() == 0
            took.append(time.monotonic() - asked)
            running[host] = start_host(stage, APP, host)
            running[host].wait_ready(1)
    server.hurried = True
    wait_rest(stage, 60)

    found = judged(stage, ledger)
    print(f"{RESTARTS} restarts, each ended within {max(took):.1f} s; hints waited: {waiting}")
    print(f"{len(traffic.committed_at)} mails under load: {percentiles(traffic.late(stage.arrivals()))}")
    assert (found.sent, found.held, found.doubts) == (found.mails, 0, 0)
    assert found.duplicates == dict.fromkeys(found.duplicates, 0)
    assert min(waiting[:10]) > 0
    # All of it by hints: of those that were given back again and again, too.
    assert sum(one.get("hinted", 0) for parent in stage.parents for one in parent.events("pass")) == 0
    assert rabbitmq.ready(PARKED_QUEUE) == 0


def taken_by(connection: pika.BlockingConnection) -> int:
    """How many hints a consumer takes and does not acknowledge, until it has `TAKEN`, or none comes for long."""
    channel = connection.channel()
    channel.basic_qos(prefetch_count=TAKEN)
    taken = 0
    for method, _properties, _body in channel.consume(QUEUE, inactivity_timeout=20):
        if method is None:
            break
        taken += 1
        if taken == TAKEN:
            break
    return taken


def test_a_hint_that_is_given_back_again_and_again(stage: Stage, rabbitmq: VirtualHost) -> None:
    """Hints that 25 consumers took and gave back, as 25 restarts do, are all still there."""
    broker: RabbitBroker = stage.hints(APP)
    broker.publish([Hint(APP, Priority.NORMAL, (number,)) for number in range(1, 21)])
    for _ in range(RETURNS):
        with pika.BlockingConnection(pika.URLParameters(rabbitmq.url)) as connection:
            assert taken_by(connection) == TAKEN
            # Without a word: what was taken and not acknowledged goes back.
    wait_until(lambda: rabbitmq.ready(QUEUE) == 20, 20, lambda: f"{rabbitmq.ready(QUEUE)} of 20 are left")
    assert rabbitmq.ready(PARKED_QUEUE) == 0
