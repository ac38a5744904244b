"""Where a mailer's committed rows go: to its broker, to the embedded broker of its database, or nowhere.

Nowhere is not lost: workers' reconcilers find rows that nobody hinted, some seconds later.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mailfleet.broker.base import HintBroker
from mailfleet.broker.running import database_key, running_for
from mailfleet.counters import Counts
from mailfleet.publisher import Publisher, Row
from mailfleet.publishers import publisher_of
from mailfleet_schema.hint import Hint
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import MAX_DELAY_S


class _Nowhere(HintBroker):
    def publish(self, hints: Sequence[Hint], *, delay_s: int = 0) -> None:
        """Forget *hints*."""

    def close(self) -> None:
        """There is nothing to close."""


_NOWHERE = _Nowhere()


class Outlet:
    """Takes committed rows and never raises. *broker* None means the embedded one for *database_url*, if one runs.

    An embedded broker that starts later is found too. *database_url* None, or a database in memory, has none.
    """

    def __init__(self, broker: HintBroker | None, database_url: Any = None) -> None:
        self._broker = broker
        self._key = None if database_url is None else database_key(database_url)
        self._nowhere = publisher_of(_NOWHERE)
        self._publisher: Publisher | None = None if broker is None else publisher_of(broker)

    def put(self, rows: Sequence[Row]) -> None:
        """Let *rows* be hinted."""
        publisher = self._current()
        if publisher is None:
            self._nowhere.put([replace(row, due=None) for row in rows])
        else:
            publisher.put(rows)

    def flush(self, deadline_s: float) -> bool:
        """Wait until what was put is with the broker or given up; False after *deadline_s*."""
        publisher = self._current()
        return publisher is None or publisher.flush(deadline_s)

    def counts(self) -> Counts:
        """What became of the rows; mailers that share a broker, or have none, are counted together."""
        publisher = self._current()
        if self._broker is not None and publisher is not None:
            return publisher.counts()
        return self._nowhere.counts() + (Counts() if publisher is None else publisher.counts())

    def _current(self) -> Publisher | None:
        if self._broker is None and self._key is not None:
            running = running_for(self._key)
            if running is None:
                self._publisher = None
            elif self._publisher is None or self._publisher.broker is not running:
                self._publisher = publisher_of(running)
        return self._publisher


def row_of(app: str, priority: Priority, mail_id: int, due_in_s: float, *, to: str | None = None) -> Row:
    """The row to hint for a mail, in the queue of *to*: at its due time, or not at all if that is too far ahead."""
    far = due_in_s > MAX_DELAY_S
    return Row(app, priority, mail_id, None if far else time.monotonic() + due_in_s, to)
