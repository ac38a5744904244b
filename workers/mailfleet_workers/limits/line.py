"""Who waits for a short time, and who of them goes first: one line for each account.

Whoever is refused for a short time is told when to come again, and is expected until a moment after that. Meanwhile a
permit is kept for it from everybody of a lower priority and, where several apps compete, from apps of the same priority
that have had more for their weight. Among equals nobody is refused; those that come later are told a later time.

What an app has had is counted as start-time fair queueing does (Goyal, Vin, Cheng: SIGCOMM 1996): an app that comes begins
where those are that have had least, and goes before them. So nobody has a claim on what it left unused, and nobody pays for
having been alone. Workers are out of line while they send, so an app competes a moment longer; and those that wait for a
connection are behind the others, which is made up when they have one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Want

#: How long after the time it was told, or after its last grant, somebody is still expected.
GRACE_MS = 250
#: How far an app that competes may be behind the one served last, in permits at weight 1: what it catches up at most.
_BEHIND = 50.0
#: Of those that have had the same, who has had nothing lately has had so much less.
_FIRST = 0.001
#: Apps whose permits go in turn are so far apart: more, and a connection changes hands.
_APART = 2.0
#: Who waits for a connection for so long goes first: those whose mails take long have had little for ever.
_LONG_MS = 5_000
#: So long after its last grant a line with nobody in it is forgotten.
_REMEMBERED_MS = 10_000

#: What goes first: the lower.
RANK = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.BULK: 2}


class Place(NamedTuple):
    """Whose place in a line it is: all threads of a process that ask for the same share it."""

    owner: str
    app: str
    priority: Priority


@dataclass(frozen=True, slots=True)
class _Waiter:
    """Told to come at `told_ms`; since `slot_since_ms` it lacks a slot, None if it lacks permits.

    `wanted`: it could go on if somebody closed a connection.
    """

    told_ms: float
    slot_since_ms: float | None
    wanted: bool


@dataclass(frozen=True, slots=True)
class _Share:
    """What an app has had, permits by weight, and what it was granted last."""

    had: float
    priority: Priority
    served_ms: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an asker stands: how many of a higher priority, and of apps that have had less, go before it.

    `told_ms` has the times, ascending and none of them past, that equals were told: they do not refuse it, but the
    permits that are free then are theirs. `others`: somebody else is in line; `want`: what those who lack a connection
    want of the asker's.
    """

    higher: int
    poorer: int
    told_ms: tuple[float, ...]
    others: bool
    want: Want

    @property
    def ahead(self) -> int:
        """How many permits are kept for others."""
        return self.higher + self.poorer


class Line:
    """The line of one account. Not thread-safe; times in milliseconds."""

    def __init__(self) -> None:
        self._waiters: dict[Place, _Waiter] = {}
        self._shares: dict[str, _Share] = {}
        self._last_had = 0.0
        self._least_had: dict[Priority, float] = {}
        self._served_ms = float("-inf")

    def standing(self, place: Place, weights: Mapping[str, int], now_ms: float) -> Standing:
        """Where *place* stands; apps are compared where *weights* has two or more."""
        self._forget(now_ms)
        compared, rank, mine = len(weights) > 1, RANK[place.priority], self._had(place)
        others = {other: waiter for other, waiter in self._waiters.items() if other != place}
        higher = poorer = 0
        told = []
        for other, waiter in others.items():
            if waiter.slot_since_ms is not None:
                continue
            theirs = self._had(other) if compared and other.app != place.app else mine
            if RANK[other.priority] < rank:
                higher += 1
            elif other.priority is place.priority and theirs < mine:
                poorer += 1
            elif other.priority is place.priority and theirs == mine and waiter.told_ms > now_ms:
                told.append(waiter.told_ms)
        if compared:
            waiting = {other.app for other in self._waiters}
            poorer += sum(
                app != place.app
                and app not in waiting
                and share.priority is place.priority
                and now_ms - share.served_ms <= GRACE_MS
                and self._capped(share) < mine
                for app, share in self._shares.items()
            )
        want = max(
            (self._want(place, other, compared, now_ms) for other in others if others[other].wanted),
            default=Want.NOTHING,
        )
        return Standing(higher, poorer, tuple(sorted(told)), bool(others), want)

    def _want(self, place: Place, other: Place, compared: bool, now_ms: float) -> Want:
        """What *other*, who waits for a connection, wants of those of *place*."""
        before = RANK[other.priority] < RANK[place.priority]
        if other.priority is place.priority:
            alike = other.app == place.app or not compared
            before = alike or self._long(other, now_ms) or self._had(other) + _APART <= self._had(place)
        return Want.TURN if before else Want.IDLE

    def before_for_slot(self, place: Place, weights: Mapping[str, int], now_ms: float) -> int:
        """How many go before *place* where a slot becomes free.

        Those of a higher priority; of the same, who has waited long, then apps that have had less; of the same app who is longer
        in line.
        """
        self._forget(now_ms)

        def claim(one: Place, since_ms: float) -> tuple[int, bool, float, float]:
            had = self._had(one) if len(weights) > 1 else 0.0
            return RANK[one.priority], now_ms - since_ms <= _LONG_MS, had, since_ms

        mine = claim(place, self._slot_since_ms(place, now_ms))
        return sum(
            waiter.slot_since_ms is not None and claim(other, waiter.slot_since_ms) < mine
            for other, waiter in self._waiters.items()
            if other != place
        )

    def stand(self, place: Place, now_ms: float, *, told_ms: float, slot: bool, wanted: bool) -> None:
        """Let *place* stand in line until shortly after *told_ms*, in place of where it stood."""
        since = self._slot_since_ms(place, now_ms) if slot else None
        self._waiters[place] = _Waiter(told_ms, since, wanted)
        if place.app not in self._shares:
            self._shares[place.app] = _Share(self._had(place), place.priority, float("-inf"))

    def leave(self, place: Place) -> None:
        """*place* waits no more, or for so long that nobody keeps anything for it."""
        self._waiters.pop(place, None)

    def serve(self, place: Place, permits: int, weights: Mapping[str, int], now_ms: float) -> None:
        """*place* was granted *permits*: it leaves, and its app has had so much more."""
        self._waiters.pop(place, None)
        begun = self._had(place)
        self._last_had, self._served_ms = max(self._last_had, begun), now_ms
        had = begun + permits / weights.get(place.app, 1)
        self._shares[place.app] = _Share(had, place.priority, now_ms)

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

    def _had(self, place: Place) -> float:
        share = self._shares.get(place.app)
        if share is None:
            return self._least_had.get(place.priority, self._last_had) - _FIRST
        return self._capped(share)

    def _capped(self, share: _Share) -> float:
        return max(share.had, self._last_had - _BEHIND)

    def _long(self, place: Place, now_ms: float) -> bool:
        return now_ms - self._slot_since_ms(place, now_ms) > _LONG_MS

    def _slot_since_ms(self, place: Place, now_ms: float) -> float:
        own = self._waiters.get(place)
        return own.slot_since_ms if own and own.slot_since_ms is not None else now_ms

    def _forget(self, now_ms: float) -> None:
        for place in [place for place, one in self._waiters.items() if now_ms > one.told_ms + GRACE_MS]:
            del self._waiters[place]
        waiting = {place.app for place in self._waiters}
        competing = {
            app
            for app, share in self._shares.items()
            if app in waiting or now_ms - share.served_ms <= GRACE_MS
        }
        self._least_had = {}
        for app in competing:
            share = self._shares[app]
            # Those that came and were not served yet are before the others already, and equal to who comes now.
            had = self._capped(share) + _FIRST * math.isinf(share.served_ms)
            self._least_had[share.priority] = min(had, self._least_had.get(share.priority, had))
        for app in self._shares.keys() - competing:
            # One that is ahead of the others stays so, and one that competes no more begins where they are.
            share = self._shares[app]
            if share.had <= self._least_had.get(share.priority, self._last_had):
                del self._shares[app]
