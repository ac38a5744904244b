"""What may happen in the world, one value each: so that a history reads as a list, and shrinks to the few that matter.

Processes and hosts are counted 0 and 1; process 0 runs on host 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mailfleet_schema.statements.operate import OPERATIONS
from mailfleet_schema.states import FINAL, OnDoubt
from tests.model.strands import Strand
from tests.model.world import World

#: Steps after which any strand has come to its end, or to another that it waits for.
ALL = 200


class Event(Protocol):
    """Something that happens, and is over before the next does; what it leaves standing goes on later, or never."""

    def happen(self, world: World) -> None: ...


@dataclass(frozen=True, slots=True)
class Emit:
    """An application's transaction with one mail."""

    on_doubt: OnDoubt
    recipients: int
    due_in_s: float
    expires_in_s: float | None
    committed: bool

    def happen(self, world: World) -> None:
        world.emit(
            self.on_doubt,
            recipients=self.recipients,
            due_in_s=self.due_in_s,
            expires_in_s=self.expires_in_s,
            committed=self.committed,
        )


@dataclass(frozen=True, slots=True)
class Send:
    """A hint of the mails at *places* comes, they are claimed, and a thread goes *steps* far, where *choice* happens.

    A process that has ended, or that others have given up, is replaced first; where nothing is queued, there are two new
    mails first.
    """

    process: int
    places: frozenset[int]
    steps: int
    choice: int
    chunk: int
    beats: bool
    lies: bool
    on_doubt: OnDoubt
    expires_in_s: float | None

    def happen(self, world: World) -> None:
        if not any(mail.row.state == "queued" for mail in world.promise.mails.values()):
            world.emit(self.on_doubt, expires_in_s=self.expires_in_s)
            world.emit(self.on_doubt)
        if world.processes[self.process].pulse.lost:
            world.kill(self.process, seen=True)
        if world.processes[self.process].dead:
            world.processes[self.process] = world.start(self.process, chunk=self.chunk, lies=self.lies)
        if self.beats:
            _go(world, self.process, "heartbeat", ALL)
        _go(world, self.process, "intake", ALL, ids=_at(world, self.places))
        _go(world, self.process, "sender-1", self.steps)
        _go(world, self.process, "sender-1", 1, self.choice)


@dataclass(frozen=True, slots=True)
class Go:
    """A thread goes on for *steps*, or begins; in the first of them *choice* happens, then what mostly does."""

    process: int
    name: str
    steps: int
    choice: int
    places: frozenset[int]

    def happen(self, world: World) -> None:
        _go(world, self.process, self.name, self.steps, self.choice, ids=_at(world, self.places))


@dataclass(frozen=True, slots=True)
class Resume:
    """Every thread of a process that is at work goes on."""

    process: int
    steps: int
    choice: int

    def happen(self, world: World) -> None:
        for name, strand in list(world.processes[self.process].strands.items()):
            if not strand.ended:
                _go(world, self.process, name, self.steps, self.choice)


@dataclass(frozen=True, slots=True)
class Reconcile:
    """After *seconds*, through which only *awake* were not paused, whole passes of *by*."""

    seconds: float
    awake: tuple[int, ...]
    by: tuple[int, ...]

    def happen(self, world: World) -> None:
        world.pass_time(self.seconds, [world.processes[number] for number in self.awake])
        for number in self.by:
            _go(world, number, "reconciler", ALL)
            _go(world, number, "reconciler", ALL)


@dataclass(frozen=True, slots=True)
class Overtake:
    """What `first` leaves standing is overtaken: after *seconds*, through which only *awake* were not paused, the
    reconciler of *by* goes *halfway*; then the other worker does `second`; then the first goes on for *steps*, and the
    reconciler to its end.
    """

    first: Send
    seconds: float
    awake: tuple[int, ...]
    by: int
    halfway: int
    second: Send
    steps: int

    def happen(self, world: World) -> None:
        self.first.happen(world)
        world.pass_time(self.seconds, [world.processes[number] for number in self.awake])
        _go(world, self.by, "reconciler", self.halfway)
        replace(self.second, process=1 - self.first.process).happen(world)
        _go(world, self.first.process, "sender-1", self.steps)
        _go(world, self.by, "reconciler", ALL)


@dataclass(frozen=True, slots=True)
class Undertake:
    """The undertaker of a host goes on, or begins a pass."""

    host: int
    steps: int
    choice: int

    def happen(self, world: World) -> None:
        _advance(world.hosts[self.host].undertaker, self.steps, self.choice)


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL for a worker, at once or after it went as far as `first`; where that is not *seen*, for its parent too.

    The undertaker, or its successor, goes on for *steps* then.
    """

    process: int
    first: Send | None
    seen: bool
    steps: int

    def happen(self, world: World) -> None:
        if self.first is not None:
            replace(self.first, process=self.process).happen(world)
        world.kill(self.process, seen=self.seen)
        _advance(world.hosts[self.process].undertaker, self.steps, 0)


@dataclass(frozen=True, slots=True)
class Lose:
    """A host is gone (*lines* None), or has lost its power and all but the first *lines* of each journal."""

    host: int
    lines: int | None

    def happen(self, world: World) -> None:
        if self.lines is None:
            world.lose(self.host)
        else:
            world.lose_power(self.host, self.lines)


@dataclass(frozen=True, slots=True)
class SetClock:
    """The database's wall clock is set forward or back; it is off by *skew* seconds then."""

    skew: float

    def happen(self, world: World) -> None:
        world.times.set_clock(self.skew)


@dataclass(frozen=True, slots=True)
class Operate:
    """A person does something to the mail at *place*."""

    verb: str
    place: int

    def happen(self, world: World) -> None:
        operation = next(one for one in OPERATIONS if one.name == self.verb)
        world.operate(operation, _at(world, {self.place}))


def _go(
    world: World, number: int, name: str, steps: int, choice: int = 0, *, ids: Sequence[int] = ()
) -> None:
    process = world.processes[number]
    if not process.dead:
        _advance(process.strand(name, ids), steps, choice)


def _advance(strand: Strand, steps: int, choice: int) -> None:
    for step in range(steps):
        if strand.ended:
            return
        strand.go(0 if step else choice)


def _at(world: World, places: frozenset[int] | set[int]) -> list[int]:
    """The ids of the mails at *places*: of those that have not come to their end, as long as there are any."""
    mails = list(world.promise.mails.values())
    open_ones = [mail for mail in mails if mail.row.state not in FINAL] or mails
    return sorted({open_ones[place % len(open_ones)].id for place in places})
