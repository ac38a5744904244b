"""A fleet whose limits are measured where they matter: at a server that stamps every mail and every connection.

The rules are those of two scopes at once: one of the host, three of the account, and a number of connections. Times of
the reconciler are those of operation: with the short ones of other tests what waits would be looked at all the time.
"""

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mailfleet import Mail
from mailfleet_workers.limits.rule import Rate
from tests.integration.fleet.sockets import connections_to
from tests.services.faketime import Clock
from tests.services.virtual_host import VirtualHost
from tests.stage import Parent, Stage
from tests.stage.gauge import Gauge, Seen
from tests.stage.sliding import Use
from tests.stage.withheld import Withheld
from tests.waiting import wait_until

APP = "billing"
ROOT = Path(__file__).parents[2]
#: Sending threads of each process.
THREADS = 8
#: How long permits and connections of a dead process stay taken: the least that can be set.
LEASE_S = 5.0
BATCH = 500
#: A stretch of a run is as good as undisturbed if no more of the processors was withheld from this machine; if none of
#: so many was, the least disturbed one is taken.
DISTURBED = 0.03
STRETCHES = 4
TIMING = {
    "HEARTBEAT_S": "5",
    "QUIET_S": "30",
    "GRACE_S": "10",
    "STEP_S": "30",
    "MOST_STEP_S": "900",
    "RECONCILE_S": "5",
}


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the server allows, as settings have it: messages of the host, messages of the account, its connections."""

    host: tuple[str, ...] = ("50/s",)
    account: tuple[str, ...] = ("30/s", "300/10s", "100000/d")
    connections: int = 4

    @property
    def rates(self) -> list[Rate]:
        return [Rate.parse(text) for text in (*self.host, *self.account)]


ALLOWED = Allowed()


class Limited:
    """A stage, the server that measures, and what is allowed at it."""

    def __init__(self, stage: Stage, gauge: Gauge, allowed: Allowed) -> None:
        self.stage = stage
        self.gauge = gauge
        self.allowed = allowed
        self._written = 0

    @classmethod
    @contextmanager
    def opened(
        cls,
        directory: Path,
        database_url: str,
        host: VirtualHost,
        redis_url: str,
        *,
        allowed: Allowed = ALLOWED,
        delay_s: float = 0.01,
        settings: Mapping[str, str] | None = None,
    ) -> Iterator[Self]:
        """A fleet without workers yet, and a server that answers after *delay_s*."""
        with Gauge(directory, delay_s=delay_s) as gauge:
            file = directory / "limits.toml"
            # The name of a host has dots, which no variable can have.
            listed = ", ".join(f'"{text}"' for text in allowed.host)
            file.write_text(f'[hosts."127.0.0.1:{gauge.port}".limits]\nmessages = [{listed}]\n')
            named = {
                "CONFIG": str(file),
                "REDIS_URL": redis_url,
                "ACCOUNTS__DEFAULT__PORT": str(gauge.port),
                "ACCOUNTS__DEFAULT__LIMITS__MESSAGES": ",".join(allowed.account),
                "ACCOUNTS__DEFAULT__LIMITS__CONNECTIONS": str(allowed.connections),
                "LIMITS__LEASE_S": f"{LEASE_S:g}",
                **{f"TIMING__{key}": value for key, value in TIMING.items()},
                **(settings or {}),
            }
            with Stage(directory, database_url, host.url, settings=named) as stage:
                yield cls(stage, gauge, allowed)

    def start(
        self,
        *apps: str,
        hosts: int = 2,
        processes: int = 4,
        modules: Sequence[str] = (),
        clocks: Sequence[Clock] = (),
        settings: Mapping[str, str] | None = None,
    ) -> list[Parent]:
        """So many hosts with so many worker processes for each of *apps*, ready.

        Their apps load *modules*; the first hosts have *clocks*; *settings* are further variables without their prefix.
        """
        apps = apps or (APP,)
        started = []
        for number in range(hosts):
            environ = {"PYTHONPATH": str(ROOT)}
            environ["MAILFLEET_DATA_DIR"] = str(self.stage.directory / f"mx{len(self.stage.parents)}")
            environ |= {f"MAILFLEET_{key}": value for key, value in (settings or {}).items()}
            for app in apps:
                environ.setdefault(f"MAILFLEET_APPS__{app.upper()}__THREADS", str(THREADS))
                if modules:
                    environ[f"MAILFLEET_APPS__{app.upper()}__IMPORT"] = ",".join(modules)
            if number < len(clocks):
                environ = clocks[number].environ(environ)
            name = f"mx{len(self.stage.parents)}"
            started.append(
                self.stage.parent(*apps, "--processes", str(processes), "--host", name, environ=environ)
            )
        for parent in started:
            parent.wait_ready(processes * len(apps), 150)
        return started

    def workers(self) -> list[int]:
        """The process ids of all worker processes, in order."""
        return sorted(pid for parent in self.stage.parents if parent.running for pid in parent.children())

    def holders(self) -> list[int]:
        """Of those the ones that have a connection to the server."""
        return sorted(pid for pid, held in connections_to(self.gauge.port, self.workers()).items() if held)

    def kill(self, pids: Sequence[int]) -> None:
        """SIGKILL for all of them, before anybody notices that one is gone."""
        for sign in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                os.kill(pid, sign)

    def emit(self, count: int, name: str = "mail", app: str = APP, **more: Any) -> None:
        """So many committed mails to one recipient each; their subjects are `NAME 0`, `NAME 1`, … over all calls."""
        numbers = range(self._written, self._written + count)
        self._written += count
        mails = [
            Mail(to=[f"{number}@example.net"], subject=f"{name} {number}", text="Hello", **more)
            for number in numbers
        ]
        for first in range(0, count, BATCH):
            self.stage.mailer(app).emit_many(mails[first : first + BATCH])

    def wait_mails(self, count: int, deadline_s: float, *, after: float = 0.0) -> list[float]:
        """Until the server has begun so many mails later than *after*; when that was, in order."""
        came: list[float] = []

        def enough() -> bool:
            came[:] = [mail.mail_at for mail in self.gauge.seen().mails if mail.mail_at > after]
            return len(came) >= count

        def what() -> str:
            return f"{len(came)} of {count} mails came in {deadline_s:g} s: {dict(self.stage.states())}"

        wait_until(enough, deadline_s, what, step_s=0.2)
        return came

    def wait_connections(self, count: int, deadline_s: float, *, after: float = 0.0) -> float:
        """Until so many that were opened later than *after* are open at once at the server; when that was seen."""

        def open_now() -> int:
            seats = self.gauge.seen().seats.values()
            return sum(seat.closed_at is None and seat.opened_at > after for seat in seats)

        wait_until(
            lambda: open_now() >= count, deadline_s, lambda: f"{open_now()} of {count} connections are open"
        )
        return time.monotonic()

    def wait_workers(self, count: int, deadline_s: float) -> None:
        """Until so many worker processes are ready, those included that follow dead ones."""

        def ready() -> set[int]:
            said = {event["child"] for parent in self.stage.parents for event in parent.events("child_ready")}
            return said & set(self.workers())

        wait_until(lambda: len(ready()) == count, deadline_s, lambda: f"{ready()}", step_s=0.2)

    def run(self, seconds: float) -> Seen:
        """Until so long after the server's first mail; what it has seen by then."""
        first = self.wait_mails(1, 60)[0]
        wait_for(first + seconds)
        return self.gauge.seen()

    def run_undisturbed(self, seconds: float) -> tuple[float, float]:
        """Stretches of so many seconds, from the server's first mail on, until one is undisturbed: when it was."""
        began = self.wait_mails(1, 60)[0]
        found: list[tuple[float, tuple[float, float]]] = []
        while True:
            withheld = Withheld()
            wait_for(began + seconds)
            found.append((withheld.share(), (began, began + seconds)))
            if found[-1][0] <= DISTURBED or len(found) == STRETCHES:
                break
            began += seconds
        share, best = min(found)
        print(
            f"{share:.1%} of the processors were withheld in stretch {found.index((share, best)) + 1} of {len(found)}"
        )
        return best

    def goes_on(self, since: float, deadline_s: float) -> float:
        """Until mail comes again for certain, so long after *since* did it begin to; in seconds."""
        return self.wait_mails(30, deadline_s, after=since)[0] - since

    def judge(self, what: str, within: tuple[float, float] | None = None) -> list[Use]:
        """Print what was used of each rule, and demand that no window was over one and no connection too many.

        The mean use is that *within* some time; the rest is of the whole run.
        """
        seen = self.gauge.seen()
        uses = seen.uses(self.allowed.rates, within=within)
        print(
            f"{what}: {len(seen.answered)} mails; worst window and mean use of {', '.join(map(str, uses))};"
            f" {seen.peak} of {self.allowed.connections} connections at once, {len(seen.seats)} in all"
        )
        assert seen.answered
        assert [str(use) for use in uses if use.over] == []
        assert seen.peak <= self.allowed.connections
        return uses


def wait_for(moment: float) -> None:
    """Until that moment of the monotonic clock."""
    wait_until(
        lambda: time.monotonic() >= moment, moment - time.monotonic() + 30, lambda: "no end", step_s=0.1
    )
