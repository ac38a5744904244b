"""Messages that are no hints: parked, counted, and no reason for a consumer to end."""

import json
import logging
from typing import Any

import pika
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailfleet.broker.message import decode, encode, message_of
from mailfleet.broker.rabbit.delivery import Delivery
from mailfleet_schema.hint import Hint, InvalidHint
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import MAIL_EXCHANGE, PARKED_QUEUE, queue_name
from tests.integration.broker.reader import Reader, hint
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

QUEUE = queue_name("billing", Priority.NORMAL)


def message(**changes: Any) -> bytes:
    """A hint's message with some of its fields replaced."""
    fields = json.loads(encode(message_of(Hint("billing", Priority.NORMAL, (1,)), message_id="m", now_ms=0)))
    return json.dumps(fields | changes).encode()


def argument(**changes: Any) -> bytes:
    """The same with some fields of its argument replaced."""
    return message(args=[{"v": 1, "app": "billing", "priority": "normal", "ids": [1]} | changes])


POISON = {
    "nothing": b"",
    "no JSON": b"\x00\xff\xfe",
    "half a JSON": message()[:-1],
    "no object": b"[1, 2, 3]",
    "deep": b"[" * 4000,
    "a number too long": b'{"actor_name": ' + b"9" * 4000 + b"}",
    "no message": b"{}",
    "another actor": message(actor_name="send_mail"),
    "no argument": message(args=[]),
    "two arguments": message(args=[1, 2]),
    "keyword arguments": message(kwargs={"x": 1}),
    "unknown version": argument(v=2),
    "unknown app": argument(app="shop"),
    "no app name": argument(app="Robert'); DROP TABLE mail;--"),
    "unknown priority": argument(priority="urgent"),
    "another queue's": argument(priority="high"),
    "a huge id": argument(ids=[2**63]),
    "a negative id": argument(ids=[-1]),
    "no id": argument(ids=[]),
    "an id that is text": argument(ids=["1"]),
    "51 ids": argument(ids=list(range(1, 52))),
    "1 MB": argument(filler="x" * 2**20),
    "just too large": argument(filler="x" * 4096),
}


def test_poison_is_parked_and_counted_and_the_consumer_lives(
    rabbitmq: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of them goes to the parking queue as it came; the hint behind them arrives over the same connection."""
    with caplog.at_level(logging.INFO), Reader(rabbitmq.url) as reader:
        with pika.BlockingConnection(pika.URLParameters(rabbitmq.url)) as connection:
            channel = connection.channel()
            for body in POISON.values():
                channel.basic_publish(MAIL_EXCHANGE, "billing.normal", body)
        reader.broker.publish([hint(17)])
        wait_until(lambda: reader.ids == [17], 20, lambda: f"{reader.ids}, {reader.broker.parked}")
        assert reader.broker.parked == {"size": 2, "no_hint": len(POISON) - 2}
        wait_until(lambda: rabbitmq.ready(PARKED_QUEUE) == len(POISON), 20, lambda: "not all parked")
        assert rabbitmq.ready(QUEUE) == 0
    assert [one for one in caplog.messages if one == "consuming"] == ["consuming"]


def test_nothing_of_a_parked_message_is_logged(
    rabbitmq: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says which queue and what was expected, never what came."""
    with caplog.at_level(logging.INFO), Reader(rabbitmq.url) as reader:
        for secret in (
            argument(v="geheim"),
            argument(app="geheim@example.net"),
            b"geheim",
            message(x="g" * 5000),
        ):
            rabbitmq.management.publish(MAIL_EXCHANGE, "billing.normal", secret.decode())
        wait_until(lambda: sum(reader.broker.parked.values()) == 4, 20, lambda: f"{reader.broker.parked}")
    parked = [one for one in caplog.records if one.message == "hint_parked"]
    assert len(parked) == 4
    assert {getattr(one, "queue") for one in parked} == {QUEUE}  # noqa: B009 - an extra, which mypy does not know
    assert not [one for one in caplog.records if "geheim" in str(vars(one))]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(body=st.binary(max_size=200) | json_values.map(lambda one: json.dumps(one).encode()))
def test_any_bytes_are_a_hint_or_are_refused(body: bytes) -> None:
    """Decoding has two outcomes for whatever bytes."""
    try:
        decoded = decode(body, QUEUE)
    except InvalidHint:
        return
    assert Hint.from_argument(decoded.args[0]).app == "billing"


def test_a_delivery_has_the_bundle_s_name() -> None:
    """By it dramatiq finds the consumer thread; the hint itself keeps its queue."""
    decoded = decode(message(), QUEUE)
    delivery = Delivery(decoded, bundle="pool", queue=QUEUE, tag=1, consumer=None)  # type: ignore[arg-type]
    assert delivery.queue_name == "pool"
    assert delivery.args == decoded.args
