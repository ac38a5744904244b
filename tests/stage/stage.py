"""One fleet: where its processes find everything, who sends for it, and what became of its mail."""

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from email import message_from_bytes
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import func, select

from mailfleet import Mailer
from mailfleet.broker.rabbit import RabbitBroker
from mailfleet_schema import migrations
from mailfleet_schema.dialects import POSTGRESQL
from mailfleet_schema.engine import open_engine, parse_url, read_only
from mailfleet_schema.tables import tables_of
from mailfleet_workers.catcher import Catcher, MemoryStore, Script
from tests.stage.parent import Parent
from tests.waiting import wait_until

#: Times that suit a test: a tenth of what a fleet has, and above what a busy machine may sleep.
TIMING = {
    "heartbeat_s": "1",
    "quiet_s": "10",
    "grace_s": "2",
    "step_s": "3",
    "most_step_s": "12",
    "reconcile_s": "1",
    "drain_s": "10",
    "settle_s": "5",
}


class Stage:
    """A database at *database_url*, a broker at *broker_url*, a catching server of our own.

    *settings* are further MAILFLEET_ variables without that prefix. Ends its parents and their children at exit.
    """

    def __init__(
        self,
        directory: Path,
        database_url: str,
        broker_url: str,
        *,
        script: Script | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.sink = Catcher(MemoryStore(), script=script)
        self._urls = database_url, broker_url
        self._settings = dict(settings or {})
        self._ending = ExitStack()
        self._parents: list[Parent] = []
        self._mailers: dict[str, Mailer] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.sink)
            self.engine = open_engine(parse_url("database_url", self._urls[0]))
            stack.callback(self.engine.dispose)
            migrations.upgrade(self.engine)
            stack.callback(self._end)
            self._ending = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._ending:
            if error is not None:
                for number, parent in enumerate(self._parents):
                    print(f"--- parent {number}\n{parent.log[-4000:]}", file=sys.stderr)

    def _end(self) -> None:
        # One that raises leaves none of the others running; the parents come first.
        with ExitStack() as stack:
            for mailer in self._mailers.values():
                stack.callback(mailer.close)
            for parent in self._parents:
                stack.callback(parent.kill_all)

    @property
    def environ(self) -> dict[str, str]:
        """What a process of this fleet finds in its environment."""
        ours = {
            "DATABASE_URL": self._urls[0],
            "BROKER_URL": self._urls[1],
            "DELIVERY": "live",
            "DATA_DIR": str(self.directory / "data"),
            "ACCOUNTS__DEFAULT__HOST": "127.0.0.1",
            "ACCOUNTS__DEFAULT__PORT": str(self.sink.port),
            "ACCOUNTS__DEFAULT__TLS": "plain",
            "ACCOUNTS__DEFAULT__FROM": "Fleet <fleet@example.com>",
            "POOL__LISTEN": "127.0.0.1:0",
            **{f"TIMING__{key.upper()}": value for key, value in TIMING.items()},
            **self._settings,
        }
        others = {key: value for key, value in os.environ.items() if not key.startswith("MAILFLEET_")}
        return others | {f"MAILFLEET_{key}": value for key, value in ours.items()}

    def parent(
        self, *arguments: str, environ: Mapping[str, str] | None = None, ready: int | None = None
    ) -> Parent:
        """`mailfleet worker *arguments*`, ended with the stage; *ready* waits for so many ready children."""
        log = self.directory / f"parent-{len(self._parents)}.log"
        parent = Parent(arguments, self.environ | dict(environ or {}), log)
        self._parents.append(parent)
        if ready is not None:
            parent.wait_ready(ready)
        return parent

    @property
    def parents(self) -> Sequence[Parent]:
        """All that were started, in order."""
        return tuple(self._parents)

    def mailer(self, app: str) -> Mailer:
        """A mailer of *app*, as the application would make it."""
        if app not in self._mailers:
            self._mailers[app] = Mailer.from_env(app, self.environ)
        return self._mailers[app]

    def rows(self, *columns: str, ids: Sequence[int] | None = None) -> list[Any]:
        """The named columns of all mails, or of *ids*."""
        mail = tables_of(POSTGRESQL).mail
        statement = select(*(mail.c[name] for name in columns)).order_by(mail.c.id)
        if ids is not None:
            statement = statement.where(mail.c.id.in_(ids))
        with read_only(self.engine) as connection:
            return list(connection.execute(statement))

    def states(self) -> Counter[str]:
        """How many mails are in each state."""
        mail = tables_of(POSTGRESQL).mail
        with read_only(self.engine) as connection:
            found = connection.execute(
                select(mail.c.state, func.count().label("mails")).group_by(mail.c.state)
            )
            return Counter({str(row.state): int(row.mails) for row in found})

    def wait_states(self, expected: Mapping[str, int], deadline_s: float) -> None:
        """Until the states are just that."""
        wait_until(
            lambda: self.states() == Counter(expected),
            deadline_s,
            lambda: f"{dict(self.states())}, expected {dict(expected)}",
            step_s=0.1,
        )

    def copies(self) -> Counter[str]:
        """How many copies of each subject the server took."""
        return Counter(str(message_from_bytes(one.message)["Subject"]) for one in self.sink.store.receipts())

    def arrivals(self) -> dict[str, list[float]]:
        """When the server took each copy of each subject, in seconds since 1970."""
        found: dict[str, list[float]] = {}
        for one in self.sink.store.receipts():
            found.setdefault(str(message_from_bytes(one.message)["Subject"]), []).append(one.received_at)
        return found

    def hints(self, app: str) -> RabbitBroker:
        """A broker to publish hints of our own with, closed with the stage."""
        broker = RabbitBroker(self._urls[1], app=app, role="producer")
        self._ending.callback(broker.close)
        return broker
