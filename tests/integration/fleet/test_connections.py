"""How many connections a fleet has under load, and by which names a person finds them: measured at both servers."""

import json
import os
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, text

from mailfleet import Mail
from mailfleet_schema.engine import read_only
from mailfleet_workers.catcher import Action, Default, Delay, Event, Say, Step
from tests.integration.fleet.sockets import connections_to
from tests.services.management import Answer
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.waiting import wait_until

APP = "billing"
#: An app whose mail nobody sends here: its hints stay in the queue.
IDLE_APP = "crm"
HOST = "mx1"
PROCESSES = 2
MAILS = 500


def script(event: Event) -> Action:
    """A server that takes a while, so that all threads are at work at once, and lets some mail wait."""
    if event.step is Step.RCPT and event.argument.startswith("later"):
        return Say(450, "4.2.1 come back later")
    return Delay(0.02) if event.step is Step.EOD else Default()


@pytest.fixture(scope="module")
def stage(directory: Path, database_url: str, virtual_host: VirtualHost) -> Iterator[Stage]:
    with Stage(directory, database_url, virtual_host.url, script=script) as stage:
        stage.parent(APP, "--host", HOST, "--processes", str(PROCESSES), ready=PROCESSES)
        yield stage


@dataclass
class Most:
    """The most connections seen at once: at PostgreSQL by name, and for each worker process as `/proc` knows it."""

    by_name: Counter[str] = field(default_factory=Counter)
    by_process: Counter[int] = field(default_factory=Counter)

    def look(self, stage: Stage, port: int) -> None:
        with read_only(stage.engine) as connection:
            found = connection.execute(
                text(
                    "SELECT application_name, count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() GROUP BY application_name"
                )
            )
            self.by_name |= Counter({row[0]: row[1] for row in found})
        self.by_process |= connections_to(port, stage.parents[0].children())


def amqp(host: VirtualHost) -> list[Answer]:
    """The open connections whose properties the management API knows by now."""
    return [one for one in host.management.connections() if one.get("client_properties")]


def test_connections_under_load(stage: Stage, database_url: str, virtual_host: VirtualHost) -> None:
    """Three of PostgreSQL at most for each worker process, two of RabbitMQ, and one for a process that publishes."""
    port = make_url(database_url).port or 5432
    most = Most()
    children = stage.parents[0].children()
    mails = [
        Mail(to=[f"{'later' if n % 20 == 0 else 'now'}.{n}@example.net"], subject=f"{n}", text="Hello")
        for n in range(MAILS)
    ]
    stage.mailer(APP).emit_many(mails)

    def sent() -> bool:
        assert stage.parents[0].get("/metrics")[0] == 200
        most.look(stage, port)
        return stage.states()["sent"] >= MAILS * 19 // 20

    wait_until(sent, 60, lambda: f"{stage.states()}", step_s=0.05)
    expected = 2 * PROCESSES + 1
    wait_until(lambda: len(amqp(virtual_host)) == expected, 15, lambda: f"{names(virtual_host)}")

    print(
        f"PostgreSQL: {dict(most.by_name)}, by process {dict(most.by_process)}; AMQP: {names(virtual_host)}"
    )
    workers = f"mailfleet {APP} worker"
    assert 0 < most.by_name[workers] <= 3 * PROCESSES
    assert set(most.by_process) == set(children)
    assert max(most.by_process.values()) <= 3
    assert 0 < most.by_name["mailfleet parent"] <= 2
    own = socket.gethostname()
    assert names(virtual_host) == sorted(
        [
            *(f"mailfleet {APP} {HOST} {pid}" for pid in children),
            *(f"mailfleet {APP} {HOST} {pid} publisher" for pid in children),
            f"mailfleet {APP} {own} {os.getpid()} producer",
        ]
    )


def names(host: VirtualHost) -> list[str]:
    return sorted(one["client_properties"]["connection_name"] for one in amqp(host))


def test_connections_say_whose_they_are(stage: Stage, virtual_host: VirtualHost) -> None:
    """Beside its name each has the product, its version, the app, what the process is, its host and its number."""
    children = set(stage.parents[0].children())

    def workers() -> list[Answer]:
        found = [one["client_properties"] for one in amqp(virtual_host)]
        return [one for one in found if one["role"] == "worker"]

    wait_until(lambda: {one["pid"] for one in workers()} == children, 15, lambda: f"{names(virtual_host)}")
    consuming = workers()
    assert len(consuming) == len(children)
    for one in consuming:
        said = {key: one[key] for key in ("product", "version", "app", "host")}
        assert said == {"product": "mailfleet", "version": version("mailfleet"), "app": APP, "host": HOST}
    for connection in amqp(virtual_host):
        assert connection["user_provided_name"] == connection["client_properties"]["connection_name"]


def test_consumers_say_whose_they_are(stage: Stage, virtual_host: VirtualHost) -> None:
    """One consumer for each priority and process; its tag has app, priority, host and number; one message at a time each."""
    children = stage.parents[0].children()
    wanted = {
        f"{APP}.{priority} {HOST} {pid}": f"mailfleet.{APP}.{priority}"
        for priority in ("high", "normal", "bulk")
        for pid in children
    }

    def found() -> dict[str, str]:
        return {one["consumer_tag"]: one["queue"]["name"] for one in virtual_host.management.consumers()}

    wait_until(lambda: found() == wanted, 15, lambda: f"{found()}")
    consumers = virtual_host.management.consumers()
    assert {one["prefetch_count"] for one in consumers} == {1}
    assert {one["ack_required"] for one in consumers} == {True}


def hint_in(host: VirtualHost, queue: str) -> Answer:
    """The one message in *queue*, left there."""
    wait_until(lambda: host.ready(queue) == 1, 15, lambda: f"{host.ready(queue)} messages in {queue}")
    (found,) = host.management.get(queue, requeue=True)
    return found


def check_properties(found: Answer, app: str, priority: str, mail_ids: list[int], sender: str) -> None:
    properties: dict[str, Any] = found["properties"]
    body = json.loads(found["payload"])
    assert body["args"] == [{"v": 1, "app": app, "priority": priority, "ids": mail_ids}]
    assert properties["type"] == body["actor_name"] == "mailfleet.look"
    assert properties["app_id"] == app
    assert properties["message_id"] == body["message_id"]
    assert properties["content_type"] == "application/json"
    assert properties["delivery_mode"] == 2
    assert abs(properties["timestamp"] - datetime.now(UTC).timestamp()) < 600
    headers = {name: value for name, value in properties["headers"].items() if not name.startswith("x-")}
    assert headers == {"priority": priority, "mails": len(mail_ids), "from": sender}
    assert len(found["payload"]) <= 1024


def test_messages_say_what_they_are(stage: Stage, virtual_host: VirtualHost) -> None:
    """Type, app, id, time, and in the headers priority, number of mails and who published; in a work queue and in the ladder."""
    mails = [Mail(to=["ada@example.net"], text="Hello", priority="high") for _ in range(3)]
    mailer = stage.mailer(IDLE_APP)
    ids = mailer.emit_many(mails)
    wait_until(lambda: mailer.counts().published == len(mails), 10, lambda: f"{mailer.counts()}")
    sender = f"{socket.gethostname()} {os.getpid()}"

    check_properties(
        hint_in(virtual_host, f"mailfleet.{IDLE_APP}.high"), IDLE_APP, "high", ids, f"{IDLE_APP} {sender}"
    )

    due_at = datetime.now(UTC) + timedelta(hours=10)
    scheduled = stage.mailer(APP).emit(Mail(to=["ada@example.net"], text="Hello", due_at=due_at))
    # Ten hours are 36,000 seconds: the highest of its bits is the fifteenth.
    waiting = hint_in(virtual_host, "mailfleet.delay.15")
    check_properties(waiting, APP, "normal", [scheduled], f"{APP} {sender}")
