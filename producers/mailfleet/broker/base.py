"""What producers and reconcilers need of a broker: to carry hints, some of them later.

A broker owes nothing: a hint may be lost, come twice or come late, because the rows are the truth and reconcilers
read them. What it must not do is to keep its caller waiting: see `HintBroker.publish`.
"""

from collections.abc import Sequence
from typing import Protocol

from mailfleet.errors import MailfleetError
from mailfleet_schema.hint import Hint


class BrokerUnavailable(MailfleetError):  # noqa: N818 - reads as the fact it states
    """The broker did not take the hints, or did not say so in time; some may arrive all the same."""


#: Hints that wait equally long, with that delay in whole seconds.
Batch = tuple[int, Sequence[Hint]]


class HintBroker(Protocol):
    """A way for hints from those who write rows to those who send them. Safe to use from several threads.

    A class of one's own may inherit from it, and then needs `publish` and `close` only.
    """

    def publish(self, hints: Sequence[Hint], *, delay_s: int = 0) -> None:
        """Hand over *hints*, to be delivered after *delay_s* seconds, never earlier, at most `topology.MAX_DELAY_S`.

        Returns when the broker has confirmed all of them. Raises BrokerUnavailable when it has not; the caller need
        not repeat it, and may: a hint that arrives twice does no harm. An implementation keeps its own deadline of
        about two seconds; callers that cannot wait use `mailfleet.publisher`.
        """

    def publish_all(self, batches: Sequence[Batch]) -> None:
        """The same for hints with different delays, within one deadline.

        A broker across a network waits once for all of them, not once for each delay: rows that were inserted together
        may be due at hundreds of different seconds.
        """
        for delay_s, hints in batches:
            self.publish(hints, delay_s=delay_s)

    def close(self) -> None:
        """Let go of connections and threads. Harmless when repeated; `publish` then raises BrokerUnavailable."""
