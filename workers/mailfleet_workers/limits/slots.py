"""Connection slots: so many open connections for an account and for its host, each a lease with its owner's token.

With them goes what concerns the opening of connections: the gap between two logins, and the breaker that lets nobody try
credentials that a server has refused three times within a quarter of an hour. Times are milliseconds of one clock that never
goes back.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Login, Slot
from mailfleet_workers.limits.book import Limits

#: Refused logins within so long count, and after the last of too many nobody tries for so long.
BREAK_MS = 900_000
TRIES = 3
#: A breaker that nobody asks about is forgotten.
_FORGOTTEN_MS = 86_400_000
#: Asking again makes sense so long after somebody else's login was found in progress.
_LOGIN_MS = 250

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why no connection can be opened now: `rule`, and for how long. `full`: a connection that is closed would help."""

    rule: str
    wait_ms: float
    full: bool = False


@dataclass(slots=True)
class _Open:
    slot: Slot
    until_ms: float
    logging_in: bool = False


@dataclass(slots=True)
class _Breaker:
    """Refused logins: when, the last ones; `broken` from too many on until one succeeds."""

    times: list[float] = field(default_factory=list)
    broken: bool = False

    def counting(self, now_ms: float) -> int:
        return sum(self.broken or now_ms - time < BREAK_MS for time in self.times)

    def refuse(self, now_ms: float) -> None:
        self.times = [*self.times, now_ms][-TRIES:]
        self.broken = self.counting(now_ms) >= TRIES


class Slots:
    """All slots that one process has given. Not thread-safe."""

    def __init__(self, lease_ms: float) -> None:
        self._lease_ms = lease_ms
        self._open: dict[str, _Open] = {}
        self._taken: Counter[_Key] = Counter()
        self._logins: Counter[_Key] = Counter()
        self._lingering: list[tuple[float, Slot]] = []
        self._lapsed: list[Slot] = []
        self._ended_ms: dict[_Key, float] = {}
        self._breakers: dict[str, _Breaker] = {}

    def obstacle(self, limits: Limits, priority: Priority, before: int, now_ms: float) -> Obstacle | None:
        """What is in the way of one more connection; *before* others go first where a slot becomes free."""
        self._lapse(now_ms)
        account, host = _keys(limits.account, limits.host)
        for key, most in ((account, limits.connections), (host, limits.host_connections)):
            if most is None:
                continue
            usable = max(1, most - math.floor(most * limits.reserve)) if priority is Priority.BULK else most
            if self._taken[key] + before >= usable:
                return Obstacle(f"{key[0]} connections {most}", min(300, 100 * (1 + before)), full=True)
        return self.login_obstacle(limits, now_ms)

    def login_obstacle(self, limits: Limits, now_ms: float) -> Obstacle | None:
        """What is in the way of one more login."""
        self._lapse(now_ms)
        keys = _keys(limits.account, limits.host)
        for key, gap_ms in zip(keys, (limits.login_gap_ms, limits.host_login_gap_ms), strict=True):
            wait_ms = self._ended_ms.get(key, -math.inf) + gap_ms - now_ms
            if gap_ms and self._logins[key]:
                return Obstacle("login gap", max(gap_ms, wait_ms, 100))
            if gap_ms and wait_ms > 0:
                return Obstacle("login gap", wait_ms)
        return self._refused(limits.account, now_ms) if limits.login else None

    def open(self, slot: Slot, now_ms: float) -> None:
        """Give *slot*; its login begins."""
        self._take(slot, now_ms)
        self.begin_login(slot.token)

    def logging_in(self, token: str) -> bool:
        """Whether a login of the open slot *token* is in progress."""
        return self._open[token].logging_in

    def begin_login(self, token: str) -> None:
        """A login of the open slot *token*, of which none is in progress, begins."""
        known = self._open[token]
        known.logging_in = True
        for key in _keys(known.slot.account, known.slot.host):
            self._logins[key] += 1

    def end_login(self, slot: Slot, login: Login, now_ms: float) -> None:
        """The login of *slot* has ended; a refusal counts even if the lease was lost meanwhile."""
        known = self._open.get(slot.token)
        if known is not None and known.logging_in:
            self._end_login(known, now_ms)
        if login is Login.DONE:
            self._breakers.pop(slot.account, None)
        elif login is Login.REFUSED:
            self._breakers.setdefault(slot.account, _Breaker()).refuse(now_ms)

    def close(self, slot: Slot, linger_ms: float, now_ms: float) -> None:
        """The connection of *slot* is closed; others may have its place after *linger_ms*."""
        self._lapse(now_ms)
        self._lapsed = [one for one in self._lapsed if one != slot]
        known = self._open.pop(slot.token, None)
        if known is None:
            return
        if known.logging_in:
            self._end_login(known, now_ms)
        if linger_ms > 0:
            self._lingering.append((now_ms + linger_ms, slot))
        else:
            self._free(slot)

    def holds(self, token: str, now_ms: float) -> bool:
        """Whether the slot *token* is open and its lease is not over."""
        known = self._open.get(token)
        return known is not None and known.until_ms > now_ms

    def renew(self, limits_of: Callable[[str], Limits | None], now_ms: float) -> tuple[Slot, ...]:
        """Keep every lease; one that was over is ours again unless others have its place: those slots are returned."""
        self._lapse(now_ms)
        lost = []
        for slot in self._lapsed:
            limits = limits_of(slot.account)
            if limits is None or self._full(limits, slot):
                lost.append(slot)
            else:
                self._take(slot, now_ms)
        self._lapsed = []
        for known in self._open.values():
            known.until_ms = now_ms + self._lease_ms
        return tuple(lost)

    def taken(self, account: str, host: str, now_ms: float) -> tuple[int, int]:
        """How many slots are taken of *account* and of *host*."""
        self._lapse(now_ms)
        of_account, of_host = _keys(account, host)
        return self._taken[of_account], self._taken[of_host]

    def failures(self, account: str, now_ms: float) -> int:
        """How many refused logins of *account* count."""
        breaker = self._breakers.get(account)
        return 0 if breaker is None else breaker.counting(now_ms)

    def forget(self, now_ms: float) -> None:
        """Drop what is over."""
        self._lapse(now_ms)
        # A gap is no longer than this by the settings' own bounds.
        for key in [key for key, ended_ms in self._ended_ms.items() if now_ms - ended_ms > _FORGOTTEN_MS]:
            del self._ended_ms[key]
        for account, breaker in list(self._breakers.items()):
            if now_ms - breaker.times[-1] > _FORGOTTEN_MS:
                del self._breakers[account]

    def _take(self, slot: Slot, now_ms: float) -> None:
        self._open[slot.token] = _Open(slot, now_ms + self._lease_ms)
        for key in _keys(slot.account, slot.host):
            self._taken[key] += 1

    def _full(self, limits: Limits, slot: Slot) -> bool:
        most = (limits.connections, limits.host_connections)
        keys = _keys(slot.account, slot.host)
        return any(one is not None and self._taken[key] >= one for key, one in zip(keys, most, strict=True))

    def _refused(self, account: str, now_ms: float) -> Obstacle | None:
        breaker, trying = self._breakers.get(account), self._logins["account", account]
        if breaker is not None and breaker.broken:
            wait_ms = breaker.times[-1] + BREAK_MS - now_ms
            if wait_ms > 0:
                return Obstacle("login refused", wait_ms)
            return Obstacle("login refused", _LOGIN_MS) if trying else None
        if trying + self.failures(account, now_ms) >= TRIES:
            return Obstacle("logins in progress", _LOGIN_MS)
        return None

    def _end_login(self, known: _Open, now_ms: float) -> None:
        known.logging_in = False
        for key in _keys(known.slot.account, known.slot.host):
            _less(self._logins, key)
            self._ended_ms[key] = now_ms

    def _lapse(self, now_ms: float) -> None:
        # Leases begin or are renewed with the same length, so the oldest stand first.
        for known in list(self._due(now_ms)):
            del self._open[known.slot.token]
            if known.logging_in:
                self._end_login(known, now_ms)
            self._free(known.slot)
            self._lapsed.append(known.slot)
        if self._lingering:
            for _, slot in (one for one in self._lingering if one[0] <= now_ms):
                self._free(slot)
            self._lingering = [one for one in self._lingering if one[0] > now_ms]

    def _due(self, now_ms: float) -> Iterator[_Open]:
        for known in self._open.values():
            if known.until_ms > now_ms:
                return
            yield known

    def _free(self, slot: Slot) -> None:
        for key in _keys(slot.account, slot.host):
            _less(self._taken, key)


def _keys(account: str, host: str) -> tuple[_Key, _Key]:
    return ("account", account), ("host", host)


def _less(counter: Counter[_Key], key: _Key) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
