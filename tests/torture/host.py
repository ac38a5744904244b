"""One machine of the fleet: the product's supervisor and undertaker on a data directory of its own, in one process.

Its worker processes are the product's children, forked by the zygote. Places are filled again at once: the product's
pauses between restarts are for children that fail by themselves, and with them a storm would run out of victims.
"""

import json
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from mailfleet_schema.engine import open_engine, parse_url
from mailfleet_workers.fleet import child
from mailfleet_workers.fleet.process import ChildProcess, Spawned
from mailfleet_workers.fleet.restart import Again, GiveUp, Restarts
from mailfleet_workers.fleet.supervisor import Place, Supervisor
from mailfleet_workers.fleet.undertaker import Undertaker
from mailfleet_workers.settings import Settings
from mailfleet_workers.telemetry.log import configure
from tests.torture.zygote import Forks


@dataclass(frozen=True, slots=True)
class Event:
    """What a host tells the storm: a worker process was born, has its `worker_id`, is ready, or is dead."""

    what: Literal["born", "registered", "ready", "dead"]
    pid: int
    app: str
    worker_id: int = 0

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> "Event":
        return cls(**json.loads(line))


class AtOnce(Restarts):
    """Every child is replaced at once, however the last ones ended."""

    def decide(self, *, status: int, ready_for_s: float | None) -> Again | GiveUp:
        del status, ready_for_s
        return Again(0.0)


class ForkedChild(ChildProcess):
    """The product's child, forked; its life is told to the storm."""

    def __init__(self, app: str, host: str, environ: Mapping[str, str], forks: Forks, events: int) -> None:
        self._forks = forks
        self._events = events
        self._said: set[str] = set()
        super().__init__(app, also=(), host=host, config=None, environ=environ)
        self._say("born")

    def _spawn(
        self, options: Sequence[str], reports_to: int, parent: int, environ: Mapping[str, str]
    ) -> Spawned:
        return self._forks.fork("worker", options, (reports_to, parent, 2), environ)

    def read(self) -> bool:
        more = super().read()
        if self.report.worker_id:
            self._say("registered")
        if self.report.ready:
            self._say("ready")
        return more

    def close(self) -> None:
        self._say("dead")
        super().close()

    def _say(self, what: Literal["born", "registered", "ready", "dead"]) -> None:
        if what not in self._said:
            self._said.add(what)
            os.write(self._events, Event(what, self.pid, self.app, self.report.worker_id).line())


def run_worker(options: list[str], files: list[int]) -> int:
    """The zygote's entry for a worker process: the product's own, to its end. *files*: reports, parent, log."""
    reports_to, parent, log = files
    _log_to(log)
    status = child.main([*options, "--report-to", str(reports_to), "--parent", str(parent)])
    logging.shutdown()
    return status


def run_host(arguments: list[str], files: list[int]) -> int:
    """The zygote's entry for a host. *arguments*: name, processes of each app, apps. *files*: zygote, events, log."""
    name, processes, *apps = arguments
    zygote, events, log = files
    _log_to(log)
    settings = Settings.load(os.environ)
    configure(settings.log)
    forks = Forks(socket.socket(fileno=zygote))
    environ = dict(os.environ)
    engine = open_engine(
        parse_url("database_url", settings.database_url), pool_size=1, application_name=f"mailfleet {name}"
    )

    def place(app: str) -> Place:
        return Place(app, lambda: ForkedChild(app, name, environ, forks, events), restarts=AtOnce())

    supervisor = Supervisor(
        [place(app) for _ in range(int(processes)) for app in apps],
        Undertaker(engine, settings.data_dir / "journal", settings.patience()),
        drain_s=settings.timing.drain_s,
        on_death=_nobody_counts,
    )
    signal.signal(signal.SIGTERM, lambda *_: supervisor.stop())
    try:
        return supervisor.run()
    finally:
        engine.dispose()


def _nobody_counts(app: str, pid: int, *, asked: bool) -> None:
    del app, pid, asked


def _log_to(log: int) -> None:
    for file in (1, 2):
        os.dup2(log, file)
    os.close(log)
