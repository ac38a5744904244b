"""Messages that one caller publishes together, and what became of them."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from mailfleet.broker.rabbit.envelope import Envelope


@dataclass(frozen=True, slots=True)
class Published:
    """The broker has taken all of them, but for those that no queue wanted."""

    returned: tuple[Envelope, ...] = ()


@dataclass(frozen=True, slots=True)
class NotPublished:
    """Some were not taken, or nobody knows; *cause* is for a person. *missing*: there is no such exchange."""

    cause: str
    missing: bool = False


Outcome = Published | NotPublished


class Call:
    """Filled in by the connection's thread, waited for by the caller. The first outcome counts, later ones are ignored."""

    def __init__(self, envelopes: Sequence[Envelope]) -> None:
        self.envelopes = tuple(envelopes)
        self._left = len(self.envelopes)
        self._returned: list[Envelope] = []
        self._outcome: Outcome | None = None
        self._lock = threading.Lock()
        self._done = threading.Event()
        if not self.envelopes:
            self.end(Published())

    @property
    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._done.is_set()

    def wait(self, timeout_s: float) -> Outcome | None:
        """The outcome; None when there is none after *timeout_s* seconds."""
        self._done.wait(max(0.0, timeout_s))
        return self._outcome

    def confirm(self, envelope: Envelope, *, returned: bool) -> None:
        """The broker is done with *envelope*; *returned*: no queue wanted it."""
        if returned:
            self._returned.append(envelope)
        self._left -= 1
        if self._left == 0:
            self.end(Published(tuple(self._returned)))

    def end(self, outcome: Outcome) -> Outcome:
        """Set *outcome* unless there is one; returns the one that counts."""
        with self._lock:
            if self._outcome is None:
                self._outcome = outcome
                self._done.set()
            return self._outcome
