"""Messages that are no hints, published by hand where hints are: a pool puts them aside, counts them, and works on."""

import json
import pickle
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from mailfleet import Mail
from mailfleet_schema.hint import Hint
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import ACTOR, MAIL_EXCHANGE, PARKED_QUEUE, queue_name, routing_key
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.waiting import wait_until

APP = "billing"
QUEUE = queue_name(APP, Priority.NORMAL)
#: Nothing is found by a reconciler while a test runs: what is sent was hinted.
NEVER = {"TIMING__GRACE_S": "900"}


@pytest.fixture(scope="module")
def stage(directory: Path, database_url: str, virtual_host: VirtualHost) -> Iterator[Stage]:
    with Stage(directory, database_url, virtual_host.url, settings=NEVER) as stage:
        stage.parent(APP, "--processes", "1", ready=1)
        yield stage


def message(**changes: Any) -> bytes:
    """A hint's message with some fields replaced."""
    fields = {
        "queue_name": QUEUE,
        "actor_name": ACTOR,
        "args": [{"v": 1, "app": APP, "priority": "normal", "ids": [1]}],
        "kwargs": {},
        "options": {},
        "message_id": "5d0e6f1c",
        "message_timestamp": 1,
    }
    return json.dumps(fields | changes).encode()


def argument(**changes: Any) -> bytes:
    """The same with some fields of its argument replaced."""
    return message(args=[{"v": 1, "app": APP, "priority": "normal", "ids": [1]} | changes])


POISON = {
    "nothing": b"",
    "no JSON": b"\x00\xff\xfe",
    "no object": b"[1, 2, 3]",
    "deep": b"[" * 4000,
    "a pickle": pickle.dumps({"actor_name": ACTOR, "args": (1,)}),
    "another actor": message(actor_name="send_mail"),
    "another app": argument(app="shop"),
    "another version": argument(v=2),
    "another priority": argument(priority="urgent"),
    "another queue's": argument(priority="high"),
    "a huge id": argument(ids=[2**63]),
    "a negative id": argument(ids=[-1]),
    "text as an id": argument(ids=["1; DROP TABLE mail"]),
    "no ids": argument(ids=[]),
    "1 MB": argument(filler="x" * 2**20),
    "1 MB that is nothing": b"x" * 2**20,
}


def publish(host: VirtualHost, bodies: list[bytes], exchange: str, key: str) -> None:
    """By hand, as somebody with another library would."""
    with pika.BlockingConnection(pika.URLParameters(host.url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish(exchange, key, body, mandatory=True)


def parked(stage: Stage) -> Counter[str]:
    """What the pool's metrics say: messages put aside, by reason."""
    status, text = stage.parents[0].get("/metrics")
    assert status == 200
    found = re.findall(r'^mailfleet_parked_total\{app="billing",reason="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return Counter({reason: int(float(number)) for reason, number in found})


def parked_messages(host: VirtualHost, count: int) -> list[tuple[bytes, dict[str, Any]]]:
    """Take *count* bodies out of the parking queue, each with its first entry of x-death."""
    wait_until(lambda: host.ready(PARKED_QUEUE) >= count, 20, lambda: f"{host.ready(PARKED_QUEUE)} parked")
    found: list[tuple[bytes, dict[str, Any]]] = []
    with pika.BlockingConnection(pika.URLParameters(host.url)) as connection:
        channel = connection.channel()
        while len(found) < count:
            _, properties, body = channel.basic_get(PARKED_QUEUE, auto_ack=True)
            found.append((body, properties.headers["x-death"][0]))
    assert host.ready(PARKED_QUEUE) == 0
    return found


def unhinted(stage: Stage, subject: str) -> int:
    """A committed mail that nobody was told of."""
    with stage.engine.begin() as connection:
        mail = Mail(to=["ada@example.net"], subject=subject, text="Hello")
        return stage.mailer(APP).emit(mail, session=connection)


@pytest.mark.parametrize("way", ["the queue", "the exchange"])
def test_poison_is_parked_and_counted(stage: Stage, virtual_host: VirtualHost, way: str) -> None:
    """Each comes to the parking queue as it was, refused once; the good hint behind them is served over the same connection."""
    (child,) = stage.parents[0].children()
    before = parked(stage)
    mail_id = unhinted(stage, f"behind the poison of {way}")
    target = ("", QUEUE) if way == "the queue" else (MAIL_EXCHANGE, routing_key(APP, Priority.NORMAL))

    publish(virtual_host, list(POISON.values()), *target)
    began = time.time()
    stage.hints(APP).publish([Hint(APP, Priority.NORMAL, (mail_id,))])

    wait_until(
        lambda: stage.copies()[f"behind the poison of {way}"] == 1, 20, lambda: stage.parents[0].log[-3000:]
    )
    ((arrived,),) = [times for subject, times in stage.arrivals().items() if subject.endswith(way)]
    messages = parked_messages(virtual_host, len(POISON))
    assert Counter(body for body, _ in messages) == Counter(POISON.values())
    assert {(death["reason"], death["queue"], death["count"]) for _, death in messages} == {
        ("rejected", QUEUE, 1)
    }
    expected = Counter({"size": 2, "no_hint": len(POISON) - 2})
    wait_until(lambda: parked(stage) - before == expected, 20, lambda: f"{parked(stage)}, before {before}")
    print(
        f"{len(POISON)} by {way}: {dict(expected)}; the good hint behind them after {arrived - began:.2f} s"
    )
    assert stage.parents[0].children() == [child]
    assert len(stage.parents[0].events("consuming")) == 1
    assert not stage.parents[0].events("consuming_ended")


def test_a_hint_with_somebody_s_options(stage: Stage, virtual_host: VirtualHost) -> None:
    """Dramatiq's options in a message mean nothing: a far `eta` does not keep it, `pipe_target` sends it nowhere."""
    mail_id = unhinted(stage, "with options")
    far_ms = (int(time.time()) + 86_400) * 1000
    options = {"eta": far_ms, "pipe_target": {"queue_name": "x"}, "max_retries": 9}

    body = message(options=options, args=[{"v": 1, "app": APP, "priority": "normal", "ids": [mail_id]}])
    publish(virtual_host, [body], "", QUEUE)

    wait_until(lambda: stage.copies()["with options"] == 1, 20, lambda: stage.parents[0].log[-3000:])
    names = {one["name"] for one in virtual_host.management.queues()}
    assert not [name for name in names if name.endswith((".DQ", ".XQ"))]


def test_ids_of_no_row(stage: Stage, virtual_host: VirtualHost) -> None:
    """Rows that are not there, or belong to another app, are left out: the hint is done, the other rows of it are sent."""
    mail_id = unhinted(stage, "beside ids of no row")
    with stage.engine.begin() as connection:
        mail = Mail(to=["ada@example.net"], subject="of another app", text="Hello")
        other = stage.mailer("crm").emit(mail, session=connection)

    publish(virtual_host, [argument(ids=[2**63 - 1, other, mail_id])], "", QUEUE)

    wait_until(lambda: stage.copies()["beside ids of no row"] == 1, 20, lambda: stage.parents[0].log[-3000:])
    wait_until(lambda: virtual_host.ready(QUEUE) == 0, 10, lambda: "the hint is still there")
    assert virtual_host.ready(PARKED_QUEUE) == 0
    assert stage.rows("state", ids=[other])[0].state == "queued"
