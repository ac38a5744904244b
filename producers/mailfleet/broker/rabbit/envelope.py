"""A hint as RabbitMQ gets it: where it is published, its bytes, and the properties that a person sees."""

from dataclasses import dataclass

import pika

from mailfleet.broker.message import encode, message_of
from mailfleet_schema.hint import Hint
from mailfleet_schema.topology import (
    ACTOR,
    MAIL_EXCHANGE,
    delay_exchange,
    delay_routing_key,
    routing_key,
)

PERSISTENT = 2


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message to publish; `message_id` is different for every one."""

    app: str
    message_id: str
    exchange: str
    routing_key: str
    body: bytes
    properties: pika.BasicProperties


def envelope_of(hint: Hint, *, delay_s: int, message_id: str, now_ms: int, sender: str) -> Envelope:
    """*hint*, to be delivered after *delay_s* seconds; *now_ms* is milliseconds since 1970, *sender* says who publishes.

    A delayed one enters the ladder at the level of its highest bit: all levels above would only pass it on.
    """
    properties = pika.BasicProperties(
        type=ACTOR,
        app_id=hint.app,
        message_id=message_id,
        timestamp=now_ms // 1000,
        content_type="application/json",
        delivery_mode=PERSISTENT,
        headers={"priority": hint.priority.value, "mails": len(hint.ids), "from": sender},
    )
    if delay_s > 0:
        exchange = delay_exchange(delay_s)
        key = delay_routing_key(delay_s, hint.app, hint.priority)
    else:
        exchange, key = MAIL_EXCHANGE, routing_key(hint.app, hint.priority)
    body = encode(message_of(hint, message_id=message_id, now_ms=now_ms))
    return Envelope(hint.app, message_id, exchange, key, body, properties)
