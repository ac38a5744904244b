"""How many calls a second the limiter makes through one client, and through four: `python -m tests.bench.limiter_calls`.

Every call is judged by four rules, in an account whose connections are limited, and reports the permits of the call
before. PING through the same connection says what the machine and the client alone allow. Each is measured in intervals,
all kinds in turn: other tenants of a machine can only slow a call down, so the best interval says what a call costs, and
the median what this machine gave. With `--write` the table goes into `docs/limits-compared.md`. The status is 1 where
one client stays below the budget in every interval.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Grant, Report, Request
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.redis import RedisLimiter
from mailfleet_workers.limits.rule import Rate, Rule, Scope, Unit
from tests.bench.compared_page import PAGE, markdown
from tests.bench.ours import APP, opened
from tests.promise.page import write
from tests.services.locate import find_redis
from tests.services.redis import PrivateRedis, ask

#: One look at one kind of call: so many intervals of so many seconds, and so many looks.
INTERVAL_S = 0.5
INTERVALS = 4
ROUNDS = 4
#: Processes and what they import are there within this time, also on a busy machine.
START_S = 60.0
CLIENTS = (1, 4)
GROUP = 20

#: So wide that nothing is refused, with logs as full as those of rules that bind.
LIMITS = Limits(
    account="calls",
    host="smtp.example.com",
    rules=(
        Rule(Scope.HOST, Unit.MESSAGES, Rate(10_000_000, 1000)),
        Rule(Scope.ACCOUNT, Unit.MESSAGES, Rate(10_000_000, 1000)),
        Rule(Scope.ACCOUNT, Unit.MESSAGES, Rate(100_000_000, 10_000)),
        Rule(Scope.ACCOUNT, Unit.MESSAGES, Rate(100_000_000, 86_400_000)),
    ),
    connections=64,
)


class Refused(Exception):  # noqa: N818 - reads as the fact it states
    """A limit that should not bind did; what was measured then is something else."""


@dataclass(eq=False)
class Client:
    """One process's way to the limiter; each method is one thing to measure, and says how many calls it made."""

    limiter: RedisLimiter
    token: str = ""
    permits: int = 0

    def ping(self) -> int:
        script = self.limiter._script
        link, _ = script._borrow()
        link.command("PING")
        script._give_back(link)
        return 1

    def ask(self, mails: int, slot: str | None = None) -> Grant:
        """Take permits and report those before. Raises Refused."""
        reports = [Report(self.token, 0)] if self.token else []
        token = uuid.uuid4().hex
        request = Request(token, APP, LIMITS.account, LIMITS.host, Priority.NORMAL, (1,) * mails, slot)
        answer = self.limiter.ask(request, reports)
        if not isinstance(answer, Grant) or answer.permits != mails:
            raise Refused(answer)
        self.token = token
        return answer

    def single(self) -> int:
        self.ask(1)
        return 1

    def group(self) -> int:
        self.ask(GROUP)
        return 1

    def connection(self) -> int:
        slot = self.ask(1, uuid.uuid4().hex).slot
        if slot is None:
            raise Refused(slot)
        self.limiter.close_slot(slot)
        return 2


@dataclass(frozen=True, slots=True)
class Work:
    """What is measured: the method of Client, its words, permits for each call, and the least a second for one client."""

    name: str
    words: str
    command: str
    permits: int = 0
    budget: int = 0


WORKS = (
    Work("ping", "`PING`", "ping"),
    Work("single", "1 permit", "evalsha", permits=1, budget=5_000),
    Work("group", f"{GROUP} permits", "evalsha", permits=GROUP, budget=50_000),
    Work("connection", "1 permit with a new connection, and its end", "evalsha"),
)


@dataclass(frozen=True, slots=True)
class Interval:
    """Calls a second of all clients together in one interval, and microseconds of one call.

    `client_us` is what a client's processor is busy with it, `server_us` how long the server says that it took: a server
    that waits for a processor in the middle counts that too.
    """

    calls: float
    client_us: float
    server_us: float


@dataclass(frozen=True, slots=True)
class Speed:
    """What all intervals of one kind of call found; the best is the one with the most calls."""

    work: Work
    clients: int
    intervals: tuple[Interval, ...]

    @property
    def best(self) -> Interval:
        """The interval in which the machine disturbed least."""
        return max(self.intervals, key=lambda one: one.calls)

    @property
    def median(self) -> float:
        """Calls a second, as this machine gave them."""
        return statistics.median(one.calls for one in self.intervals)

    @property
    def permits(self) -> float:
        """Permits a second of all clients together, in the best interval."""
        return self.best.calls * self.work.permits

    @property
    def short(self) -> bool:
        """Whether a single client missed the budget."""
        return self.clients == 1 and self.permits < self.work.budget


def run(name: str, url: str, ready: Barrier, found: Connection) -> None:
    """One process: prepare, wait for the others, and send each interval's calls a second and processor time of one."""
    client = Client(opened(url, LIMITS))
    client.ask(1, uuid.uuid4().hex)  # the connection that it keeps
    once: Callable[[], int] = getattr(client, name)
    once()
    for _ in range(INTERVALS):
        ready.wait(START_S)
        done, began, cpu_s = 0, time.monotonic(), time.process_time()
        while (now := time.monotonic()) < began + INTERVAL_S:
            done += once()
        found.send((done / (now - began), (time.process_time() - cpu_s) / done * 1e6))
    client.limiter.close()


def measure(work: Work, clients: int, url: str) -> list[Interval]:
    """With so many processes at once. Raises EOFError when one of them failed; it has printed why."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(clients + 1)
    pipes, processes = [], []
    for _ in range(clients):
        ours, theirs = context.Pipe()
        process = context.Process(target=run, args=(work.name, url, ready, theirs), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    intervals = []
    for _ in range(INTERVALS):
        ask(url, "CONFIG", "RESETSTAT")
        ready.wait(START_S)
        found: list[tuple[float, float]] = [pipe.recv() for pipe in pipes]
        info: dict[str, Any] = ask(url, "INFO", "commandstats")
        intervals.append(
            Interval(
                calls=sum(calls for calls, _ in found),
                client_us=sum(cpu_us for _, cpu_us in found) / clients,
                server_us=float(_stats(info, work.command)["usec_per_call"]),
            )
        )
    for process in processes:
        process.join()
    return intervals


def _stats(info: Mapping[str, Any], command: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = info[f"cmdstat_{command}"]
    return found


def table(speeds: Sequence[Speed]) -> str:
    """A line for each kind of call."""
    heads = ["call"]
    for clients in CLIENTS:
        who = f"{clients} client{'s' * (clients > 1)}"
        heads += [f"{who}: calls/s", "median", "permits/s", "of `PING`", "µs in a client", "µs in Redis"]
    lines = []
    for work in WORKS:
        line = [work.words]
        for clients in CLIENTS:
            one = next(each for each in speeds if (each.work, each.clients) == (work, clients))
            ping = next(each for each in speeds if (each.work.name, each.clients) == ("ping", clients))
            permits = f"{one.permits:,.0f}" if work.permits else "-"
            best = one.best
            line += [
                f"{best.calls:,.0f}",
                f"{one.median:,.0f}",
                permits,
                f"{best.calls / ping.best.calls:.0%}",
            ]
            line += [f"{best.client_us:.0f}", f"{best.server_us:.0f}"]
        lines.append(line)
    return markdown(heads, lines)


def main() -> int:
    """Print what was found."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", action="store_true", help="put the table into docs/limits-compared.md")
    asked = options.parse_args()
    programs = find_redis()
    if programs is None:
        print("this needs redis-server: `python -m tests.services.install`", file=sys.stderr)
        return 2
    with PrivateRedis(programs) as server:
        found: dict[tuple[Work, int], list[Interval]] = {}
        for _ in range(ROUNDS):
            for clients in CLIENTS:
                for work in WORKS:
                    found.setdefault((work, clients), []).extend(measure(work, clients, server.url))
    speeds = [Speed(work, clients, tuple(each)) for (work, clients), each in found.items()]
    print(table(speeds))
    for one in speeds:
        if one.short:
            print(f"{one.work.words}: {one.permits:,.0f} permits/s are less than {one.work.budget:,}")
    if asked.write:
        write(
            {"calls": f"{table(speeds)}\nThe load average afterwards was {os.getloadavg()[0]:.1f}.\n"}, PAGE
        )
    return 1 if any(one.short for one in speeds) else 0


if __name__ == "__main__":
    sys.exit(main())
