"""The storm itself: hosts are started, mails emitted, workers killed and paused, servers killed, all by the plan."""

import heapq
import itertools
import random
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from mailfleet import Mailer
from mailfleet_schema.dialects import POSTGRESQL
from mailfleet_schema.engine import read_only
from tests.torture.ground import Ground
from tests.torture.machine import Machine
from tests.torture.outage import Outage
from tests.torture.plan import APPS, Plan
from tests.torture.producer import Producer
from tests.torture.victims import Victims
from tests.torture.zygote import Forks

#: A worker is spared for so many quiet times, so that somebody lives long enough to judge others.
SPARED = 3.0
#: A strike that found nobody is tried again after so many seconds.
AGAIN_S = 0.05
#: A storm that struck too few workers with mails in their hands goes on: one more kill in so many seconds, as long as
#: mails are open. On a machine that is starved a worker is killed before it has any.
MORE_EVERY_S = 0.5
#: Not when hardly any are: who holds one of the last is struck until it counts as poison.
MORE_OPEN = 500
#: Of those that were seen with mails a moment before, so many are counted for each that the audit has to confirm.
SEEN_FOR_ONE = 1.5
#: How long a fleet of forked workers may take to be ready, in seconds.
READY_S = 40.0

_AT_WORK = """SELECT DISTINCT worker_id FROM {mail} WHERE state = 'sending'"""
_OPEN = """SELECT count(*) FROM {mail} WHERE state IN ('queued', 'sending', 'doubt')"""


class NotReadyError(TimeoutError):
    """The fleet did not come up: the storm has not begun, and says nothing of the promise."""


@dataclass(slots=True)
class Log:
    """What happened, and how long the parts took, in seconds."""

    kills: int = 0
    pauses: int = 0
    #: Paused workers that were alive when they might go on again.
    resumed: int = 0
    missed: int = 0
    parents_killed: int = 0
    hosts_lost: int = 0
    took_s: dict[str, float] = field(default_factory=dict)
    outages: list[Outage] = field(default_factory=list)
    #: Mails that were still on their way, or due later, when the storm ended: its waiting time was over.
    left_open: int = 0


class Storm:
    """One run of *plan* on *ground*; `run`, then read `log`, `victims` and `producer`."""

    def __init__(self, plan: Plan, ground: Ground, forks: Forks) -> None:
        self._plan = plan
        self._ground = ground
        self._forks = forks
        figures = plan.figures
        self.log = Log()
        self.victims = Victims(random.Random(f"{plan.seed} victims"), spared_s=SPARED * figures.quiet_s)
        self.machines: list[Machine] = []
        self._rng = random.Random(f"{plan.seed} hosts")
        self._mailers = {app: Mailer.from_env(app, ground.environ("application")) for app in APPS}
        self.producer = Producer(plan.transactions, self._mailers, ground.engine)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def run(self, calm_until: float) -> None:
        """Storm, then wait until nothing is open any more, or the monotonic time *calm_until*; then drain all hosts."""
        emitting = threading.Thread(target=self.producer.run, name="storm-producer", daemon=True)
        try:
            with _Timed(self.log.took_s, "start"):
                self._start()
            with _Timed(self.log.took_s, "storm"):
                emitting.start()
                self._strike()
                self._strike_more(calm_until)
            with _Timed(self.log.took_s, "calm"):
                self._until(lambda: not emitting.is_alive(), calm_until)
                self._until(lambda: self._open() == 0, calm_until)
            self.log.left_open = self._open()
            with _Timed(self.log.took_s, "drain"):
                self._drain()
        finally:
            self.producer.stop()
            self.victims.close()
            for mailer in self._mailers.values():
                mailer.close()
            for machine in self.machines:
                machine.close()

    def _start(self) -> None:
        figures = self._plan.figures
        for number in range(figures.hosts):
            self.machines.append(Machine(f"host{number}", self._ground, self._forks))
        wanted = figures.hosts * figures.processes * len(APPS)
        until = time.monotonic() + READY_S

        def ready() -> bool:
            return sum(victim.ready for victim in self.victims.living) >= wanted

        self._until(ready, until)
        if not ready():
            raise NotReadyError(f"the workers are not ready within {READY_S:g} s")

    # The storm.

    def _strike(self) -> None:
        began = time.monotonic()
        for at, kind, length_s in self._plan.strikes:
            match kind:
                case "kill":
                    self._plan_at(began + at, self._kill)
                case "pause":
                    self._plan_at(began + at, lambda length_s=length_s: self._pause(length_s))  # type: ignore[misc]
                case "broker" | "database":
                    server = self._ground.rabbit if kind == "broker" else self._ground.postgres
                    self._plan_at(began + at, lambda kind=kind, server=server: self._break(kind, server))  # type: ignore[misc]
                case "parent":
                    self._plan_at(began + at, self._orphan)
                case "host":
                    self._plan_at(began + at, self._lose)
                case _:
                    assert_never(kind)
        while self._agenda or any(not outage.over for outage in self.log.outages):
            self._turn(self._agenda[0][0] if self._agenda else time.monotonic() + AGAIN_S)
            while self._agenda and self._agenda[0][0] <= time.monotonic():
                heapq.heappop(self._agenda)[2]()

    def _strike_more(self, until: float) -> None:
        """After the plan: go on until enough workers were hit with mails, or few are open, or *until*."""
        enough = SEEN_FOR_ONE * self._plan.figures.kills_with_rows
        while sum(strike.busy for strike in self.victims.struck) < enough and self._open() >= MORE_OPEN:
            due = time.monotonic() + MORE_EVERY_S
            if due >= until:
                return
            self._until(lambda: False, due)
            if self.victims.kill_busy(self._at_work):
                self.log.kills += 1

    def _plan_at(self, at: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at, next(self._numbers), action))

    def _kill(self) -> None:
        if self.victims.kill(self._at_work):
            self.log.kills += 1
        else:
            self.log.missed += 1
            self._plan_at(time.monotonic() + AGAIN_S, self._kill)

    def _at_work(self) -> frozenset[int]:
        """The workers that have mails in their hands; nobody while the database is away."""
        try:
            with read_only(self._ground.engine) as connection:
                return frozenset(connection.execute(text(POSTGRESQL.format(_AT_WORK))).scalars())
        except SQLAlchemyError:
            return frozenset()

    def _pause(self, length_s: float) -> None:
        victim = self.victims.pause(self._at_work)
        if victim is None:
            self.log.missed += 1
            self._plan_at(time.monotonic() + AGAIN_S, lambda: self._pause(length_s))
            return
        self.log.pauses += 1

        def go_on() -> None:
            self.log.resumed += self.victims.go_on(victim)

        self._plan_at(time.monotonic() + length_s, go_on)

    def _break(self, kind: str, server: object) -> None:
        outage = Outage(kind, server)  # type: ignore[arg-type]
        self.log.outages.append(outage)
        outage.begin()

    def _orphan(self) -> None:
        """A parent is killed and started again at once, on the same disk."""
        machine = self._rng.choice(self.machines)
        machine.kill()
        self.machines.remove(machine)
        self.machines.append(Machine(machine.name, self._ground, self._forks))
        self.log.parents_killed += 1

    def _lose(self) -> None:
        """A host is lost with its disk, and another one takes its place."""
        machine = self._rng.choice(self.machines)
        machine.kill()
        self.victims.lose(machine.name)
        machine.lose()
        self.machines.remove(machine)
        self.machines.append(Machine(f"host{self._plan.figures.hosts}", self._ground, self._forks))
        self.log.hosts_lost += 1

    # Listening and waiting.

    def _turn(self, until: float) -> None:
        """Hear what hosts tell, until something is due; half a second at most."""
        wait_s = max(0.0, min(until - time.monotonic(), 0.5))
        readable, _, _ = select.select([machine.events for machine in self.machines], [], [], wait_s)
        for machine in self.machines:
            if machine.events in readable:
                for event in machine.hear():
                    self.victims.hear(machine.name, event)
            if (status := machine.ended()) is not None:
                raise RuntimeError(f"{machine.name} ended with {status}, see {machine.log_path}")
        for fault in (self.producer.fault, *(outage.fault for outage in self.log.outages)):
            if fault is not None:
                raise fault

    def _until(self, condition: Callable[[], bool], until: float) -> None:
        while time.monotonic() < until and not condition():
            self._turn(time.monotonic() + 1.0)

    def _open(self) -> int:
        with read_only(self._ground.engine) as connection:
            return int(connection.execute(text(POSTGRESQL.format(_OPEN))).scalar_one())

    def _drain(self) -> None:
        for machine in self.machines:
            machine.stop()
        for machine in self.machines:
            machine.wait(self._plan.figures.quiet_s + 30.0)


class _Timed:
    """How long a block took."""

    def __init__(self, into: dict[str, float], name: str) -> None:
        self._into = into
        self._name = name

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._into[self._name] = round(time.monotonic() - self._began, 1)
