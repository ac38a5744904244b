"""A fleet whose database breaks: every mail stands in a ledger, every change in an audit, and the checker has the last word.

It has a PostgreSQL of its own, which tests kill and start again; `postgres` may be None where it is somebody else's.
"""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest
from sqlalchemy.exc import SQLAlchemyError

from mailfleet import Mail
from mailfleet_schema.states import FINAL, OnDoubt, State
from mailfleet_workers.catcher import Action, Default, Event, Hold, Latch, Step
from tests.checker import Audit, Findings, Ledger, check_fleet
from tests.services.virtual_host import VirtualHost
from tests.stage import Parent, Stage
from tests.stage.armed import armed
from tests.waiting import wait_until

APP = "billing"
#: A server that dies within the first statements of a new connection: SQLAlchemy forgets it then, and it is closed with
#: its last reference, which psycopg remarks upon.
NEVER_BEGUN = pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")
#: A sender thread each, two more are kept for `high`.
THREADS = 6
#: Waiting times that suit an outage of seconds; their order is kept.
TIMING = {
    "HEARTBEAT_S": "0.5",
    "QUIET_S": "4",
    "SETTLE_S": "3",
    "STEP_S": "2",
    "MOST_STEP_S": "4",
}
#: In this order a chunk is not broken up: mail that is to be held goes one by one.
POLICIES = (OnDoubt.RESEND_ONCE, OnDoubt.RESEND, OnDoubt.HOLD)
_REST = {state.value for state in (*FINAL, State.HELD)}


class Barrier:
    """The sink's script: every conversation waits at *step* until it is lifted. At `eod` the mail is taken before."""

    def __init__(self) -> None:
        self._step: Step | None = None
        self._latch = Latch()

    def lower(self, step: Step) -> Latch:
        """From now on whoever comes to *step* waits."""
        self._latch, self._step = Latch(), step
        return self._latch

    def lift(self) -> None:
        """Nobody waits any more."""
        self._step = None
        self._latch.release()

    def __call__(self, event: Event) -> Action:
        return Hold(self._latch) if event.step is self._step else Default()


class Judged:
    """A stage, what its producers did, and the verdict at the end."""

    def __init__(self, stage: Stage, barrier: Barrier, *, chunk: int) -> None:
        self.stage = stage
        self.barrier = barrier
        self.ledger = Ledger()
        self._chunk = chunk
        self._audit = Audit.install(stage.engine)

    @classmethod
    @contextmanager
    def opened(
        cls,
        directory: Path,
        database_url: str,
        host: VirtualHost,
        *,
        chunk: int = 1,
        barrier: Barrier | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Iterator[Self]:
        """A fleet without hosts yet; each thread of theirs records *chunk* rows at once."""
        named = {f"TIMING__{key}": value for key, value in TIMING.items()}
        named |= {f"APPS__{APP.upper()}__THREADS": str(THREADS + 2), **(settings or {})}
        barrier = barrier or Barrier()
        with Stage(directory, database_url, host.url, script=barrier, settings=named) as stage:
            try:
                yield cls(stage, barrier, chunk=chunk)
            finally:
                barrier.lift()
                gc.collect()  # inside of the test, where the warnings of NEVER_BEGUN are known

    def host(self, name: str = "mx1", *, ready: int | None = 1) -> Parent:
        """A host with one worker process; its journals outlive it, in a directory of its own."""
        once = self.stage.directory / "armed-once"
        environ = armed(APP, "", once, chunk=self._chunk, also=("tests.stage.stamped",))
        own = {"MAILFLEET_DATA_DIR": str(self.data(name))}
        arguments = (APP, "--host", name, "--processes", "1")
        return self.stage.parent(*arguments, environ={**environ, **own}, ready=ready)

    def data(self, name: str = "mx1") -> Path:
        """Where the host of that name keeps its journals."""
        return self.stage.directory / name

    def emit(self, count: int, name: str = "mail", *, policies: Sequence[OnDoubt] = POLICIES) -> list[int]:
        """So many committed mails, an equal part of each policy, one policy after the other."""
        mails = [
            Mail(
                to=[f"{name}-{number}@example.net"],
                subject=f"{name} {number}",
                text="Hello",
                on_doubt=policies[number * len(policies) // count].value,
            )
            for number in range(count)
        ]
        ids = self.stage.mailer(APP).emit_many(mails)
        for mail, mail_id in zip(mails, ids, strict=True):
            self.ledger.emitted(mail, mail_id)
        return ids

    def wait_claimed(self, count: int, phase: str) -> None:
        """Until workers hold so many rows in that phase."""

        def claimed() -> int:
            return sum(one.phase == phase for one in self.stage.rows("phase"))

        wait_until(lambda: claimed() == count, 30, lambda: f"{claimed()} of {count} rows are in {phase}")

    def server_is_back(self) -> None:
        """Our own connections are as dead as everybody's: forget them."""
        self.stage.engine.dispose()
        self.stage.mailer(APP).close()

    def wait_rest(self, deadline_s: float = 60.0) -> None:
        """Until every mail has ended, or is held; a database that does not answer is asked again."""
        found: dict[str, int] = {}

        def resting() -> bool:
            try:
                found.clear()
                found.update(self.stage.states())
            except SQLAlchemyError:
                return False
            return not set(found) - _REST

        wait_until(resting, deadline_s, lambda: f"not at rest: {found}", step_s=0.1)

    def judge(self) -> Findings:
        """At rest: what the checker says. Raises AssertionError for any breach, and for a fault of the sink."""
        findings = check_fleet(self.stage.engine, self.ledger, self.stage.sink.store.receipts())
        findings.raise_for()
        assert not self.stage.sink.faults
        assert findings.lost == 0
        return findings
