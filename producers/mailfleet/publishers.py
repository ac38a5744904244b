"""The publishers of this process: one for each broker, shared by its mailers, ready for forks and for the end.

A forked child has its own: nothing queued (the parent publishes what the parent committed), no thread until it emits
itself. At the end of a process, and of a multiprocessing child, what is queued is given EXIT_S seconds.
"""

import atexit
import os
import sys
import threading
import time
from weakref import WeakValueDictionary

from mailfleet.broker.base import HintBroker
from mailfleet.counters import Counts, Labels
from mailfleet.publisher import Publisher

#: How long an ending process waits for what is queued.
EXIT_S = 2.0


class _Registry:
    """By the broker's identity, which is certain as long as the publisher lives: it holds the broker."""

    def __init__(self) -> None:
        self.publishers: WeakValueDictionary[int, Publisher] = WeakValueDictionary()
        self.renew()

    def renew(self) -> None:
        self.lock = threading.Lock()
        self.finalizing = False


_registry = _Registry()


def publisher_of(broker: HintBroker) -> Publisher:
    """The publisher in front of *broker* in this process."""
    with _registry.lock:
        publisher = _registry.publishers.get(id(broker))
        if publisher is None:
            publisher = _registry.publishers[id(broker)] = Publisher(broker, on_start=_finalize_in_child)
        return publisher


def flush_all(deadline_s: float) -> bool:
    """Let every publisher hand over what it has, at most *deadline_s* for all of them; True if all did."""
    end = time.monotonic() + deadline_s
    done = [one.flush(max(0.0, end - time.monotonic())) for one in list(_registry.publishers.values())]
    return all(done)


def counts_by_labels() -> dict[Labels, Counts]:
    """What became of hints in this process, by app and priority, over all its brokers."""
    total: dict[Labels, Counts] = {}
    for publisher in list(_registry.publishers.values()):
        for labels, counts in publisher.counts_by_labels().items():
            total[labels] = total.get(labels, Counts()) + counts
    return total


def _finalize_in_child() -> None:
    """A multiprocessing child ends without atexit, by `os._exit`: it has a registry of its own."""
    process = sys.modules.get("multiprocessing.process")
    if _registry.finalizing or process is None or process.parent_process() is None:
        return
    from multiprocessing.util import Finalize

    _registry.finalizing = True
    Finalize(None, flush_all, args=(EXIT_S,), exitpriority=100)


def _after_fork() -> None:
    _registry.renew()
    for publisher in list(_registry.publishers.values()):
        publisher.reset()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(flush_all, EXIT_S)
