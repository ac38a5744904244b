"""The plug-point that carries hints: `base` says what is needed, `embedded` does it inside one process."""

from mailfleet.broker import farewell  # noqa: F401 - registered for the end before anything that publishes then
from mailfleet.broker.base import BrokerUnavailable, HintBroker

__all__ = ["BrokerUnavailable", "HintBroker"]
