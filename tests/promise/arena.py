"""A fleet that is struck: one app for each instant, twenty sending threads in each, and the checker over all of it."""

import os
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mailfleet import Mail
from mailfleet_schema.hint import Hint, group
from mailfleet_schema.states import Priority, State
from mailfleet_workers.catcher import Action, Default, Event, Hold, Latch, Step
from tests.checker import Audit, Ledger, check, copies_of, rows_of
from tests.promise.cell import INTAKE, THREADS, Cell, Harm
from tests.promise.result import Result, drop
from tests.services.base import MissingServiceError, RabbitServer
from tests.services.locate import find_postgres
from tests.services.postgres import PrivatePostgres
from tests.stage import Parent, Stage
from tests.stage.armed import ROOT
from tests.stage.ordered import GATHER_S, Orders
from tests.waiting import wait_until

#: A quarter of a pool's threads is kept for mail of priority high; of these, twenty are not.
POOL_THREADS = 26
#: A whole number of accounts in every hint, so that no thread begins with a part of its chunk.
IDS_IN_HINT = 40
STRUCK_S = GATHER_S + 30.0
REST_S = 120.0
#: Long enough for the heartbeats of nine workers with twenty busy threads each, on two processors.
#: Nobody else hints a mail before its own hint is read, or threads would begin with a part of their chunk.
TIMING = {"QUIET_S": "20", "GRACE_S": "15", "SETTLE_S": "2", "HEARTBEAT_S": "1", "PREPARE_S": "120"}
#: Where a parent's own knowledge is what counts, nobody else may come first.
NEVER_QUIET = {"QUIET_S": "120"}
_RESTING = frozenset({State.SENT.value, State.HELD.value})


class _Doorman:
    """The server's script: mail from some senders waits at MAIL until it is let in."""

    def __init__(self) -> None:
        self._latches: dict[str, Latch] = {}

    def stop(self, sender: str) -> Latch:
        self._latches[sender] = latch = Latch()
        return latch

    def __call__(self, event: Event) -> Action:
        latch = self._latches.get(event.argument) if event.step is Step.MAIL else None
        return Default() if latch is None else Hold(latch)


@dataclass(frozen=True, slots=True)
class Struck:
    """A worker process that was struck in *cell*, with how many threads at the instant."""

    cell: Cell
    pid: int
    threads: int


class Arena:
    """The fleet of *apps* on *database_url* and *broker_url*; one parent at a time works. Ends everything at exit."""

    def __init__(
        self, directory: Path, database_url: str, broker_url: str, *, harm: Harm, apps: Sequence[str]
    ) -> None:
        self.harm = harm
        self._apps = tuple(apps)
        self._doorman = _Doorman()
        timing = TIMING | (NEVER_QUIET if harm is Harm.KILLED else {})
        settings = {f"TIMING__{name}": value for name, value in timing.items()}
        self._stage = Stage(directory, database_url, broker_url, script=self._doorman, settings=settings)
        self._ledgers: dict[Cell, Ledger] = {}
        self._judged: dict[Struck, Result] = {}
        self._ending = ExitStack()
        self._orders: dict[Parent, Orders] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._stage)
            Audit.install(self._stage.engine)
            self._hints = self._stage.hints(self._apps[0])
            self._ending = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.__exit__(kind, error, trace)

    def host(self) -> Parent:
        """A new host: a parent with a worker process for each app, ready. It has a data directory of its own."""
        name = f"mx{len(self._stage.parents) + 1}"
        orders = Orders(self._stage.directory / name / "orders")
        environ = {**self._settings(), **orders.environ, "MAILFLEET_DATA_DIR": str(self._data(name))}
        parent = self._stage.parent(
            *self._apps, "--host", name, "--processes", "1", environ=environ, ready=len(self._apps)
        )
        self._orders[parent] = orders
        return parent

    def _data(self, host: str) -> Path:
        return self._stage.directory / host / "data"

    def _settings(self) -> Mapping[str, str]:
        accounts = [f"a{number:02d}" for number in range(THREADS)]
        found = {"PYTHONPATH": str(ROOT)}
        for name in accounts:
            key = f"MAILFLEET_ACCOUNTS__{name.upper()}__"
            found |= {
                f"{key}HOST": "127.0.0.1",
                f"{key}PORT": str(self._stage.sink.port),
                f"{key}TLS": "plain",
            }
        for app in self._apps:
            key = f"MAILFLEET_APPS__{app.upper().replace('-', '_')}__"
            found |= {
                f"{key}IMPORT": "tests.stage.ordered,tests.stage.stamped",
                f"{key}ACCOUNTS": ",".join(accounts),
                f"{key}THREADS": str(POOL_THREADS),
            }
        return found

    def strike(self, parent: Parent, cell: Cell) -> Struck:
        """Have the threads of *cell*'s worker held at its instant, and strike them: killed, or stopped until further."""
        verb = "kill" if cell.harm is Harm.KILLED else "stop"
        order = f"{cell.point}=gather:{cell.threads}:{verb}@{cell.nth}"
        pid = self._orders[parent].give(cell.app, order, chunk=cell.way.chunk)
        # Readers of hints are struck while no mail is further than its MAIL command.
        latch = self._doorman.stop(cell.sender) if cell.point in INTAKE else None
        self._emit(cell)

        def said() -> list[dict[str, Any]]:
            return [one for one in parent.events("failpoint") if one["pid"] == pid]

        wait_until(lambda: bool(said()), STRUCK_S, lambda: f"{cell.name} was not struck", step_s=0.1)
        wait_until(lambda: down(pid, killed=verb == "kill"), 10, lambda: f"{cell.name}: {pid} goes on")
        if latch is not None:
            latch.release()
        return Struck(cell, pid, int(said()[0]["threads"]))

    def _emit(self, cell: Cell) -> None:
        each = cell.mails_per_account
        # As many kinds of hints as there are threads to read them.
        priorities = list(Priority) if cell.point in INTAKE else [Priority.NORMAL]
        mails = [
            Mail(
                from_=cell.sender,
                to=[f"{number}@example.net"],
                subject=f"{cell.name} {number}",
                text="Hello",
                account=f"a{number // each:02d}",
                priority=priorities[number % len(priorities)].value,
                on_doubt=cell.way.on_doubt.value,
            )
            for number in range(THREADS * each)
        ]
        with self._stage.engine.begin() as connection:
            ids = self._stage.mailer(cell.app).emit_many(mails, session=connection)
        ledger = self._ledgers[cell] = Ledger()
        rows = []
        for mail, mail_id in zip(mails, ids, strict=True):
            ledger.emitted(mail, mail_id)
            rows.append((cell.app, Priority(mail.priority), mail_id))
        self._hints.publish(_aligned(rows))

    def lose(self, parent: Parent) -> None:
        """Its host is gone: the parent, its stopped children, and everything that they had on their disk."""
        name = next(f"mx{n}" for n, one in enumerate(self._stage.parents, start=1) if one is parent)
        parent.kill_all()
        shutil.rmtree(self._data(name))

    def resume(self, parent: Parent, struck: Sequence[Struck]) -> None:
        """Continue who was paused, until each has seen that it was taken for gone and has ended; then end the parent."""
        for one in struck:
            os.kill(one.pid, signal.SIGCONT)
        pids = {one.pid for one in struck}
        wait_until(
            lambda: pids <= {int(one["child"]) for one in parent.events("child_ended")},
            REST_S,
            lambda: f"{pids} go on\n{parent.log[-3000:]}",
            step_s=0.1,
        )
        parent.stop()

    def wait_rest(self) -> None:
        """Until every mail is sent or held."""
        wait_until(
            lambda: self._stage.states().keys() <= _RESTING,
            REST_S,
            lambda: f"no rest: {dict(self._stage.states())}",
            step_s=0.1,
        )

    def judge(self, struck: Sequence[Struck]) -> list[Result]:
        """What became of each cell's mail; raises AssertionError for a promise that was broken."""
        results = self._results(struck)
        self._judged |= zip(struck, results, strict=True)
        return results

    def judge_again(self) -> None:
        """At the end, over all that was struck: raises AssertionError if a mail of an earlier round came once more.

        Copies and rows that belong to no cell are seen here too.
        """
        check(
            [one for ledger in self._ledgers.values() for one in ledger.expected],
            rows_of(self._stage.engine),
            copies_of(self._stage.sink.store.receipts()),
            Audit(self._stage.engine).read(),
        ).raise_for()
        for before, after in zip(self._judged.values(), self._results(list(self._judged)), strict=True):
            assert after == before, f"{before.line}\nand at the end\n{after.line}"

    @property
    def cells(self) -> list[Cell]:
        """All that mails were emitted for."""
        return list(self._ledgers)

    def _results(self, struck: Sequence[Struck]) -> list[Result]:
        rows = rows_of(self._stage.engine)
        copies = copies_of(self._stage.sink.store.receipts())
        changes = Audit(self._stage.engine).read()
        results = []
        for one in struck:
            begins = f"{one.cell.name} "
            own = {row.id: row for row in rows if row.subject.startswith(begins)}
            came = [copy for copy in copies if copy.subject.startswith(begins)]
            findings = check(
                self._ledgers[one.cell].expected,
                own.values(),
                came,
                [change for change in changes if change.mail_id in own],
            )
            findings.raise_for()
            held = {row.subject for row in own.values() if row.state == State.HELD}
            results.append(Result.of(one.cell, one.threads, findings, held & {copy.subject for copy in came}))
        return results


@contextmanager
def opened(directory: Path, rabbit: RabbitServer, *, harm: Harm, apps: Sequence[str]) -> Iterator[Arena]:
    """An arena on a database server of its own that keeps the times of commits; at its end all is judged once more."""
    settings = {"track_commit_timestamp": "on"}
    if (found := find_postgres()) is None:
        raise MissingServiceError("this needs the programs of PostgreSQL on this machine")
    with (
        PrivatePostgres(found, durable=False, settings=settings) as server,
        rabbit.vhost() as host,
        Arena(directory, server.url(), host.url, harm=harm, apps=apps) as arena,
    ):
        yield arena
        try:
            arena.judge_again()
        except AssertionError:
            # It may be any round's: none of them stands.
            drop(arena.cells)
            raise


def _aligned(rows: Sequence[tuple[str, Priority, int]]) -> list[Hint]:
    hints = []
    for priority in Priority:
        of_one = [row for row in rows if row[1] is priority]
        for start in range(0, len(of_one), IDS_IN_HINT):
            hints += group(of_one[start : start + IDS_IN_HINT])
    return hints


def down(pid: int, *, killed: bool) -> bool:
    """Whether the process has ended, or, if it was not *killed*, is stopped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z" if killed else state == "T"
