"""Who waits for a short time, and who of them goes first: one line for each account.

Whoever is refused for a short time is told when to come again, and is expected until a moment after that. Meanwhile a
permit is kept for it from everybody of a lower priority and, where several apps compete, from apps of the same priority
that have had more for their weight. Among equals nobody is refused; those that come later are told a later time.

What an app has had is counted as start-time fair queueing does (Goyal, Vin, Cheng: SIGCOMM 1996): an app that comes begins
where the last one was served. So nobody has a claim on what it left unused, nobody pays for having been alone, and between
apps that wait all the time permits go by weight.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mailfleet_schema.states import Priority

#: How long after the time it was told somebody is still expected.
GRACE_MS = 250
#: So long after its last grant a line with nobody in it is forgotten.
_REMEMBERED_MS = 10_000

_RANK = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.BULK: 2}


class Place(NamedTuple):
    """Whose place in a line it is: all threads of a process that ask for the same share it."""

    owner: str
    app: str
    priority: Priority


@dataclass(frozen=True, slots=True)
class _Waiter:
    """Told to come at `told_ms`; since `slot_since_ms` it lacks a slot, None if it lacks permits.

    `wanted`: it could go on if somebody closed a connection. `virtual`: what its app had had when it came.
    """

    told_ms: float
    slot_since_ms: float | None
    wanted: bool
    virtual: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an asker stands: how many of a higher priority, and of apps that have had less, go before it.

    `told_ms` has the times, ascending and none of them past, that equals were told: they do not refuse it, but the
    permits that are free then are theirs. `others`: somebody else is in line; `wanted`: and lacks a connection.
    """

    higher: int
    poorer: int
    told_ms: tuple[float, ...]
    others: bool
    wanted: bool

    @property
    def ahead(self) -> int:
        """How many permits are kept for others."""
        return self.higher + self.poorer


class Line:
    """The line of one account. Not thread-safe; times in milliseconds."""

    def __init__(self) -> None:
        self._waiters: dict[Place, _Waiter] = {}
        self._virtual = 0.0
        self._had: dict[str, float] = {}
        self._served_ms = float("-inf")

    def standing(self, place: Place, weights: Mapping[str, int], now_ms: float) -> Standing:
        """Where *place* stands; apps are compared where *weights* has two or more."""
        self._forget(now_ms)
        rank, mine = _RANK[place.priority], self._had_by(place)
        higher = poorer = 0
        others = wanted = False
        told = []
        for other, waiter in self._waiters.items():
            if other == place:
                continue
            others, wanted = True, wanted or waiter.wanted
            if waiter.slot_since_ms is not None:
                continue
            theirs = waiter.virtual if len(weights) > 1 and other.app != place.app else mine
            if _RANK[other.priority] < rank:
                higher += 1
            elif other.priority is place.priority and theirs < mine:
                poorer += 1
            elif other.priority is place.priority and theirs == mine and waiter.told_ms > now_ms:
                told.append(waiter.told_ms)
        return Standing(higher, poorer, tuple(sorted(told)), others, wanted)

    def before_for_slot(self, place: Place, now_ms: float) -> int:
        """How many go before *place* where a slot becomes free: a higher priority, or the same and longer in line."""
        self._forget(now_ms)
        since, rank = self._slot_since_ms(place, now_ms), _RANK[place.priority]
        return sum(
            waiter.slot_since_ms is not None
            and (
                _RANK[other.priority] < rank
                or (other.priority is place.priority and waiter.slot_since_ms < since)
            )
            for other, waiter in self._waiters.items()
            if other != place
        )

    def stand(self, place: Place, now_ms: float, *, told_ms: float, slot: bool, wanted: bool) -> None:
        """Let *place* stand in line until shortly after *told_ms*, in place of where it stood."""
        since = self._slot_since_ms(place, now_ms) if slot else None
        self._waiters[place] = _Waiter(told_ms, since, wanted, self._had_by(place))

    def leave(self, place: Place) -> None:
        """*place* waits no more, or for so long that nobody keeps anything for it."""
        self._waiters.pop(place, None)

    def serve(self, place: Place, permits: int, weights: Mapping[str, int], now_ms: float) -> None:
        """*place* was granted *permits*: it leaves, and its app has had so much more."""
        started = self._had_by(place)
        self._waiters.pop(place, None)
        self._virtual, self._served_ms = max(self._virtual, started), now_ms
        self._had[place.app] = max(self._had.get(place.app, 0.0), started) + permits / weights.get(
            place.app, 1
        )
        # What is not above the virtual time says nothing that the virtual time does not say.
        self._had = {app: had for app, had in self._had.items() if had > self._virtual}

    def waiting(self, now_ms: float) -> int:
        """How many stand in line."""
        self._forget(now_ms)
        return len(self._waiters)

    def wanted(self, now_ms: float) -> bool:
        """Whether anybody waits for a connection."""
        self._forget(now_ms)
        return any(waiter.wanted for waiter in self._waiters.values())

    def over(self, now_ms: float) -> bool:
        """Whether there is nothing left to remember."""
        return not self.waiting(now_ms) and now_ms - self._served_ms > _REMEMBERED_MS

    def _had_by(self, place: Place) -> float:
        own = self._waiters.get(place)
        return max(self._had.get(place.app, 0.0), own.virtual if own else self._virtual)

    def _slot_since_ms(self, place: Place, now_ms: float) -> float:
        own = self._waiters.get(place)
        return own.slot_since_ms if own and own.slot_since_ms is not None else now_ms

    def _forget(self, now_ms: float) -> None:
        for place in [place for place, one in self._waiters.items() if now_ms > one.told_ms + GRACE_MS]:
            del self._waiters[place]
