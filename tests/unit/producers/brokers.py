"""Brokers for tests: one that remembers, one that fails on demand, one that hangs until it is let go."""

import threading
from collections.abc import Sequence

from mailfleet.broker import BrokerUnavailable, HintBroker
from mailfleet_schema.hint import Hint


class MemoryBroker(HintBroker):
    """Takes every hint and remembers it with its delay."""

    def __init__(self) -> None:
        self.published: list[tuple[Hint, int]] = []

    def publish(self, hints: Sequence[Hint], *, delay_s: int = 0) -> None:
        self.published += [(hint, delay_s) for hint in hints]

    def close(self) -> None:
        """There is nothing to close."""

    def forget(self) -> None:
        """As if nothing had been hinted yet."""
        self.published.clear()

    @property
    def ids(self) -> list[int]:
        """Every hinted row, in order."""
        return [row_id for hint, _ in list(self.published) for row_id in hint.ids]


class FailingBroker(MemoryBroker):
    """Refuses as long as `broken`; counts the tries."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = True
        self.tries = 0

    def publish(self, hints: Sequence[Hint], *, delay_s: int = 0) -> None:
        self.tries += 1
        if self.broken:
            raise BrokerUnavailable("amqp://user:hidden@broker is away")
        super().publish(hints, delay_s=delay_s)


class HangingBroker(MemoryBroker):
    """Every publish waits until `release` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.release = threading.Event()

    def publish(self, hints: Sequence[Hint], *, delay_s: int = 0) -> None:
        self.entered.set()
        assert self.release.wait(60), "the test has forgotten to release the broker"
        super().publish(hints, delay_s=delay_s)
