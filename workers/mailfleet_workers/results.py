"""What one thread's attempts came to and the database does not know yet; hooks hear of it before it is written.

Nothing is written that the application's hooks have not heard. A hook that takes its time keeps no other mail from being
settled: what was heard is written before the next one is told.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mailfleet.failpoints import failpoint
from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.statements.recipient import Recipient
from mailfleet_workers.desk import Desk
from mailfleet_workers.hooks import attempt_of
from mailfleet_workers.ledger import Result
from mailfleet_workers.outcome import Outcome
from mailfleet_workers.stopping import stopped

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Untold:
    """A result of which hooks have not heard; `noted`: the journal has it."""

    row: Claimed
    outcome: Outcome
    before: Sequence[Recipient]
    note: str | None
    noted: bool = False


class Results:
    """One thread's; not thread-safe."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._told: list[Result] = []
        self._untold: deque[_Untold] = deque()

    def add(
        self, row: Claimed, outcome: Outcome, *, before: Sequence[Recipient] = (), note: str | None = None
    ) -> None:
        """Keep *outcome* until it is written; *before* and *note* are for `stopped`."""
        if self._desk.hooks.listen(row.app):
            self._untold.append(_Untold(row, outcome, before, note))
        else:
            self._told.append((row, outcome))

    def journal(self, row: Claimed, outcome: Outcome, *, dot_sent: bool) -> None:
        """Write the result added last into the journal: from here on a killed process has not forgotten it."""
        self._journal(row, outcome)
        if self._untold and self._untold[-1].row is row:
            self._untold[-1].noted = True
        if dot_sent:
            failpoint("after_reply")

    def _journal(self, row: Claimed, outcome: Outcome) -> None:
        try:
            self._desk.journal.answer(row.id, row.fence, outcome.as_json())
        except OSError:
            # The result is in memory, and the database gets it next.
            log.exception("journal_failed", extra={"mail_id": row.id, "app": row.app})

    def tell(self) -> float:
        """Let hooks hear of what was added; how many seconds that took. Not inside a transaction."""
        if not self._untold:
            return 0.0
        since = began = time.monotonic()
        while self._untold:
            one = self._untold.popleft()
            outcome = one.outcome
            try:
                outcome = self._heard(one)
            except Exception:
                # A bug of ours: the result must not be lost with it.
                log.exception("hooks_not_told", extra={"mail_id": one.row.id, "app": one.row.app})
            finally:
                self._told.append((one.row, outcome))
            if time.monotonic() - since > self._desk.chunk_s:
                self._write()
                since = time.monotonic()
        return time.monotonic() - began

    def _heard(self, one: _Untold) -> Outcome:
        """What *one* comes to after its hooks have heard of it."""
        desk, row, outcome = self._desk, one.row, one.outcome
        if outcome.gates and desk.ledger.close_gates(outcome.gates):
            # Others must not run into it while a hook takes its time.
            outcome = replace(outcome, gates=())
        labels = desk.ledger.labels(row.id)
        if labels is None or not desk.hooks.tell(attempt_of(row, outcome, labels)):
            return outcome
        ended = stopped(outcome, before=one.before, copies=row.sum_done, note=one.note)
        if one.noted and ended is not outcome:
            # The last line of a claim counts: a process that is killed now has not forgotten the stop.
            self._journal(row, ended)
        return ended

    def take(self) -> list[Result]:
        """Everything that was added and heard, for whoever writes it."""
        self.tell()
        told, self._told = self._told, []
        return told

    def settle(self) -> None:
        """Write everything."""
        self.tell()
        self._write()

    def settle_gates(self) -> None:
        """Write everything if it closes a gate: the limiter knows of it then."""
        if any(outcome.gates for _, outcome in self._told):
            self.settle()

    def _write(self) -> None:
        told, self._told = self._told, []
        self._desk.ledger.settle(told)
