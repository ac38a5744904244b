"""The plug-point's real broker: RabbitMQ, by way of dramatiq and pika, which are loaded when `RabbitBroker` is asked for."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailfleet.broker.rabbit.broker import RabbitBroker

__all__ = ["RabbitBroker"]


def __getattr__(name: str) -> Any:
    if name == "RabbitBroker":
        from mailfleet.broker.rabbit.broker import RabbitBroker

        return RabbitBroker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
