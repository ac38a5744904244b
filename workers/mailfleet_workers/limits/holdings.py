"""What one process holds of the fleet's limits: permits on their way, connections that are open, ends not told yet.

A lease that is lost stays known, and is renewed, until its mail or connection has ended: it counts until then, though it
does not hold. What is unknown here belongs to an account without limits, and holds. Nothing is asked or told here; `RedisLimiter` does that.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from mailfleet_workers.limits.base import Login, Report, Slot
from mailfleet_workers.limits.encoding import Lease, Renewed

#: Ends of logins that are kept for the time in which nobody hears of them.
MOST_ENDS = 1000

_Leases = dict[str, Lease]


class Holdings:
    """Thread-safe. *clock* is that of `Lease.until`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._grants: _Leases = {}
        self._slots: _Leases = {}
        self._ends: dict[str, tuple[Slot, Login]] = {}

    def granted(self, held: Lease) -> None:
        """These permits are ours from now on."""
        with self._lock:
            self._grants[held.report.token] = held

    def opened(self, held: Lease) -> None:
        """This slot is ours from now on."""
        if held.slot is not None:
            with self._lock:
                self._slots[held.slot.token] = held

    def holds(self, token: str) -> bool:
        """Whether *token* is ours for certain, or nothing is known of it."""
        # A grant and the slot that came with it may have one token.
        leases = self._grants.get(token), self._slots.get(token)
        return all(one is None or self._clock() < one.until for one in leases)

    def all(self) -> tuple[list[Lease], list[Lease]]:
        """Copies of the grants that are not finished, and of the slots; lost ones too."""
        with self._lock:
            grants = [replace(one) for one in self._grants.values() if one.report.remaining]
            return grants, [replace(one) for one in self._slots.values()]

    # Permits.

    def of_host(self, reports: Sequence[Report], host: str) -> tuple[list[Report], list[Report]]:
        """Those of *reports* that are about grants of *host*, and the others."""
        with self._lock:
            mine = [one for one in reports if (held := self._grants.get(one.token)) and held.host == host]
        return mine, [one for one in reports if one not in mine] if len(mine) < len(reports) else []

    def keep(self, reports: Sequence[Report]) -> dict[str, list[Report]]:
        """Those of *reports* that are about our grants, by host; a renewal says them if nothing does before."""
        by_host: dict[str, list[Report]] = {}
        with self._lock:
            for one in reports:
                held = self._grants.get(one.token)
                if held is not None:
                    held.report = one
                    by_host.setdefault(held.host, []).append(one)
        return by_host

    def told(self, reports: Sequence[Report]) -> None:
        """The limiter has heard *reports*: grants that are finished are nobody's any more."""
        with self._lock:
            for one in reports:
                held = self._grants.get(one.token)
                if held is not None:
                    held.report = one
                    if one.remaining == 0:
                        del self._grants[one.token]

    # Connections.

    def close(self, slot: Slot, linger_s: float) -> Lease | None:
        """The lease of *slot*, whose connection is closed; None if that was known or nothing is held for it."""
        with self._lock:
            held = self._slots.pop(slot.token, None)
            if held is not None:
                held.linger_s = linger_s
            return held

    def put_off(self, slot: Slot, login: Login) -> None:
        """Nobody has heard yet how the *login* of *slot* ended. The oldest of too many are dropped."""
        with self._lock:
            self._ends[slot.token] = slot, login
            if len(self._ends) > MOST_ENDS:
                del self._ends[next(iter(self._ends))]

    def put_off_ends(self) -> list[tuple[Slot, Login]]:
        """The ends of logins of which nobody has heard yet."""
        if not self._ends:
            return []
        with self._lock:
            return list(self._ends.values())

    def end_told(self, slot: Slot, login: Login) -> None:
        """The limiter has heard how the *login* of *slot* ended."""
        with self._lock:
            if self._ends.get(slot.token) == (slot, login):
                del self._ends[slot.token]

    def refused_untold(self, slot: Slot) -> bool:
        """Whether nobody has heard yet that the login of *slot* was refused."""
        return self._ends.get(slot.token, (slot, None))[1] is Login.REFUSED

    # Renewals.

    def hosts(self) -> set[str]:
        """The hosts of which anything is held."""
        with self._lock:
            return {one.host for leases in (self._grants, self._slots) for one in leases.values()}

    def to_renew(self, host: str) -> tuple[_Leases, _Leases]:
        """The grants and slots of *host*, by token."""
        with self._lock:
            for token, held in list(self._grants.items()):
                if held.lost and held.report.remaining == 0:
                    del self._grants[token]
            grants = {t: held for t, held in self._grants.items() if held.host == host}
            slots = {t: held for t, held in self._slots.items() if held.host == host}
        return grants, slots

    def renewed(
        self, grants: Mapping[str, Lease], slots: Mapping[str, Lease], answer: Renewed, until: float
    ) -> tuple[list[Slot], list[Report], list[Lease]]:
        """*answer* says what the leases that were to be renewed are now.

        Returns the slots that are lost; then what ended while that was asked, so that it may have been taken up again: the
        last reports of grants, and slots.
        """
        ended: list[Report] = []
        with self._lock:
            for token, held in grants.items():
                if token not in self._grants and (held.epoch != answer.epoch or token in answer.gone):
                    ended.append(held.report)
                held.renew(answer.epoch, until, lost=token in answer.gone)
                if held.report.remaining == 0:
                    self._grants.pop(token, None)
            lost = []
            for token, held in slots.items():
                told = held.told
                held.renew(answer.epoch, until, lost=token in answer.lost)
                if held.lost and held.slot is not None and not told and token in self._slots:
                    lost.append(held.slot)
            closed = [held for token, held in slots.items() if token not in self._slots]
        return lost, ended, closed

    def lapsed(self, host: str) -> list[Slot]:
        """The slots of *host* whose leases ran out, each said once: others may have them."""
        found = []
        with self._lock:
            now = self._clock()
            for held in self._slots.values():
                if held.host == host and held.until <= now and held.slot is not None and not held.told:
                    held.told = True
                    found.append(held.slot)
        return found
