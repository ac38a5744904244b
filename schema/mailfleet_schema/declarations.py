"""What has to be declared in RabbitMQ: exchanges, queues and bindings with their exact arguments, as plain data.

Whoever talks to a broker declares from it, checks against it or writes it down for an operator. The arguments are the
ones that RabbitMQ 3.10 to 4.3 take alike; those of an existing queue cannot be changed, so none of them is a matter of
taste. Everything is durable. Nothing here talks to anybody.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

from mailfleet_schema.states import Priority
from mailfleet_schema.topology import (
    DELAY_LEVELS,
    DELAY_OUT_EXCHANGE,
    MAIL_EXCHANGE,
    PARKED_EXCHANGE,
    PARKED_QUEUE,
    delay_level_name,
    queue_name,
    routing_key,
)

#: RabbitMQ 4 drops or dead-letters a message after 20 returns to its queue, counting those of a crashed worker and of
#: a person who looks at it in the management UI. A hint harms nobody, however often it comes.
DELIVERY_LIMIT = 1_000_000
PARKED_MAX_LENGTH = 10_000
PARKED_MAX_BYTES = 64 * 2**20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Exchange:
    name: str
    kind: Literal["topic", "fanout"]
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Queue:
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Binding:
    """Messages of exchange *source* whose routing key matches *key* go to *target*, a queue or another exchange."""

    source: str
    target: str
    key: str
    target_is_queue: bool


@dataclass(frozen=True, slots=True)
class Topology:
    """What belongs together, in an order in which it can be declared: exchanges, queues, then bindings."""

    exchanges: tuple[Exchange, ...] = ()
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()

    def __add__(self, other: Self) -> "Topology":
        """Both, without repeating what is in both."""
        return Topology(
            _once((*self.exchanges, *other.exchanges)),
            _once((*self.queues, *other.queues)),
            _once((*self.bindings, *other.bindings)),
        )


def _once(items: Iterable[T]) -> tuple[T, ...]:
    # Arguments are dictionaries, so the items have no hash.
    kept: list[T] = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return tuple(kept)


def fleet() -> Topology:
    """What all apps share: the exchange for hints, the delay ladder, the parking queue.

    `mailfleet.mail` has no alternate exchange: a publisher must see (as a returned message) that an app has no queue.
    What leaves the ladder has no publisher any more, so there it is parked; without that, messages for one app that has
    no queue would fill the ladder's last queue and stop everybody's.
    """
    exchanges = [
        Exchange(PARKED_EXCHANGE, "fanout", {}),
        Exchange(MAIL_EXCHANGE, "topic", {}),
        Exchange(DELAY_OUT_EXCHANGE, "topic", {"alternate-exchange": PARKED_EXCHANGE}),
    ]
    queues = [Queue(PARKED_QUEUE, _parked_arguments())]
    bindings = [Binding(PARKED_EXCHANGE, PARKED_QUEUE, "", target_is_queue=True)]
    for level in range(DELAY_LEVELS):
        name, below = delay_level_name(level), _below(level)
        exchanges.append(Exchange(name, "topic", {}))
        queues.append(Queue(name, _delay_arguments(level)))
        bindings.append(Binding(name, name, _delay_pattern(level, "1"), target_is_queue=True))
        bindings.append(Binding(name, below, _delay_pattern(level, "0"), target_is_queue=False))
    return Topology(tuple(exchanges), tuple(queues), tuple(bindings))


def of_apps(apps: Iterable[str]) -> Topology:
    """The work queues of *apps*, three for each, bound to exchanges of `fleet()`; raises InvalidName."""
    queues, bindings = [], []
    for app in apps:
        for priority in Priority:
            name, key = queue_name(app, priority), routing_key(app, priority)
            queues.append(Queue(name, _work_arguments()))
            bindings.append(Binding(MAIL_EXCHANGE, name, key, target_is_queue=True))
            bits = ".".join("*" * DELAY_LEVELS)
            bindings.append(Binding(DELAY_OUT_EXCHANGE, name, f"{bits}.{key}", target_is_queue=True))
    return Topology((), tuple(queues), tuple(bindings))


def _below(level: int) -> str:
    return delay_level_name(level - 1) if level else DELAY_OUT_EXCHANGE


def _delay_pattern(level: int, bit: str) -> str:
    """Matches keys of exactly 17 bits, app and priority whose bit *level* is *bit*; highest bit first."""
    words = ["*"] * DELAY_LEVELS
    words[DELAY_LEVELS - 1 - level] = bit
    return ".".join([*words, "*", "*"])


def _work_arguments() -> dict[str, Any]:
    """No length limit: a work queue never refuses, and never drops silently what nobody has looked at."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": PARKED_EXCHANGE,
    }


def _parked_arguments() -> dict[str, Any]:
    """Full, it drops the oldest: a queue that refuses would hold up whoever dead-letters into it."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-max-length": PARKED_MAX_LENGTH,
        "x-max-length-bytes": PARKED_MAX_BYTES,
        "x-overflow": "drop-head",
    }


def _delay_arguments(level: int) -> dict[str, Any]:
    """One TTL for the whole queue, because messages expire at its head only.

    RabbitMQ dead-letters at least once only together with `reject-publish`; there is no length at which it would reject.
    """
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-message-ttl": 2**level * 1000,
        "x-dead-letter-exchange": _below(level),
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
