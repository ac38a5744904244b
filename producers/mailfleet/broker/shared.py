"""One broker object for all mailers of a process that speak for one app to one RabbitMQ.

Its connection carries the app's name, which is what a person sees in the management UI; mailers of several apps in one
process have one connection each.
"""

import os
import threading
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from mailfleet.broker.rabbit import RabbitBroker


class _Brokers:
    """By URL and app, for as long as somebody uses them."""

    def __init__(self) -> None:
        self.known: WeakValueDictionary[tuple[str, str], RabbitBroker] = WeakValueDictionary()
        self.renew()

    def renew(self) -> None:
        # A lock that another thread held at the fork would stay locked for ever.
        self.lock = threading.Lock()


_brokers = _Brokers()


def producer_broker(url: str, app: str) -> "RabbitBroker":
    """The broker for *app* at *url*; nothing is connected before the first hint."""
    from mailfleet.broker.rabbit import RabbitBroker

    with _brokers.lock:
        broker = _brokers.known.get((url, app))
        if broker is None:
            broker = _brokers.known[url, app] = RabbitBroker(url, app=app, role="producer")
        return broker


os.register_at_fork(after_in_child=_brokers.renew)
