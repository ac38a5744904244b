"""One process's part of every limit, for the time in which nobody counts for the whole fleet.

Every limit is divided by the number of processes there may be, rounded down: all parts together are never more than the
limit. What cannot be divided so has no part. A gap between logins is as many times longer instead. Refused logins are
counted by each process for itself; the gate that they close in the database holds for all.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mailfleet_workers.limits.base import Grant, Login, Refusal, Report, Request, Slot
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.encoding import Lease, counted
from mailfleet_workers.limits.local import Flight, LocalLimiter
from mailfleet_workers.limits.rule import Rate, Rule, Scope, Unit

#: No gap is longer, in milliseconds: a limiter of one process remembers logins for a day.
_MOST_GAP_MS = 86_400_000
#: Lets nothing pass.
_NOTHING = (Rule(Scope.ACCOUNT, Unit.MESSAGES, Rate(0, 1000)),)


@dataclass(frozen=True, slots=True)
class TooLittle:
    """`rule` is less than the number of processes: none of them has a part of it."""

    rule: str


def part_of(limits: Limits, shares: int) -> Limits | TooLittle:
    """What one of *shares* processes may use of *limits* by itself."""
    rules = tuple(
        replace(rule, rate=replace(rule.rate, limit=rule.rate.limit // shares)) for rule in limits.rules
    )
    for whole, rule in zip(limits.rules, rules, strict=True):
        if rule.rate.limit == 0:
            return TooLittle(str(whole))
    numbers = []
    for scope, most in ((Scope.ACCOUNT, limits.connections), (Scope.HOST, limits.host_connections)):
        if most and most < shares:
            return TooLittle(f"{scope} connections {most}")
        numbers.append(most // shares if most else most)
    return replace(
        limits,
        rules=rules,
        connections=numbers[0],
        host_connections=numbers[1],
        login_gap_ms=min(limits.login_gap_ms * shares, _MOST_GAP_MS),
        host_login_gap_ms=min(limits.host_login_gap_ms * shares, _MOST_GAP_MS),
    )


def part_of_sent(sent: Sequence[tuple[float, int]], shares: int) -> list[tuple[float, int]]:
    """What each of *shares* processes counts of what all have sent: pairs of age and amount, oldest first, as *sent*.

    At every time, what is left of it in all of them is no less than what is left of *sent*: it is rounded up from the
    youngest on, since the oldest leave first.
    """
    found, whole, told = [], 0, 0
    for age_s, amount in reversed(sent):
        whole += amount
        part = math.ceil(whole / shares) - told
        told += part
        if part:
            found.append((age_s, part))
    return found[::-1]


class _Parts(Book):
    """The parts of what is in *whole*. What has no part lets nothing pass, and is not among `all`."""

    def __init__(self, whole: Book, shares: int) -> None:
        super().__init__({})
        self._whole = whole
        self._shares = shares

    def of(self, account: str) -> Limits | None:
        limits = self._whole.of(account)
        if limits is None:
            return None
        part = part_of(limits, self._shares)
        return replace(limits, rules=_NOTHING) if isinstance(part, TooLittle) else part

    def all(self) -> Mapping[str, Limits]:
        parts = {name: part_of(one, self._shares) for name, one in self._whole.all().items()}
        return {name: one for name, one in parts.items() if not isinstance(one, TooLittle)}


class PartLimiter(LocalLimiter):
    """Grants one of *shares* parts of *whole*, and knows what it granted itself."""

    def __init__(
        self, whole: Book, shares: int, clock: Callable[[], float], *, lease_s: float, owner: str
    ) -> None:
        super().__init__(_Parts(whole, shares), clock, lease_s=lease_s, owner=owner, empty=False)
        self._whole = whole
        self._granted: dict[str, str] = {}
        self._given: dict[str, Slot] = {}

    def _forget_taken_away(self) -> None:
        """Of what it is told a part takes its part: told again, it would forget most of what it has sent itself."""

    def ask(self, request: Request, reports: Sequence[Report] = ()) -> Grant | Refusal:
        answer = super().ask(request, reports)
        if isinstance(answer, Grant):
            with self._lock:
                if answer.permits:
                    self._granted[request.token] = request.account
                if answer.slot is not None:
                    self._given[answer.slot.token] = answer.slot
        return answer

    def report(self, reports: Sequence[Report]) -> None:
        super().report(reports)
        with self._lock:
            for one in reports:
                if one.remaining == 0:
                    self._granted.pop(one.token, None)

    def close_slot(self, slot: Slot, *, linger_s: float = 0.0) -> None:
        super().close_slot(slot, linger_s=linger_s)
        with self._lock:
            self._given.pop(slot.token, None)

    def granted(self, token: str) -> bool:
        """Whether *token* is that of a grant or slot of ours that has not been finished or closed."""
        return token in self._granted or token in self._given

    def adopt(self, grants: Sequence[Lease], slots: Sequence[Lease]) -> None:
        """Count what was granted by another limiter and is not over: mails on their way, connections that are open."""
        with self._lock:
            now_ms = self._now_ms()
            for one in grants:
                limits = self.book.of(one.account)
                if limits is None:
                    continue
                windows = {self._window(limits, rule): rule.unit for rule in limits.rules}
                r = one.report
                for window, unit in windows.items():
                    window.take(r.remaining if unit is Unit.MESSAGES else r.remaining_recipients)
                self._flights[r.token] = Flight(
                    Grant(r.token, r.remaining),
                    windows,
                    r.remaining,
                    r.remaining_recipients,
                    now_ms + self._lease_ms,
                    r.unused,
                    r.unused_recipients,
                    one.account,
                )
            for slot in (one.slot for one in slots if one.slot is not None):
                self._slots.open(slot, now_ms)
                self._slots.end_login(slot, Login.FAILED, now_ms)

    def leases(self) -> tuple[list[Lease], list[Lease], set[str]]:
        """The grants and slots of ours that hold, for another limiter to take over, and the tokens of those that lapsed."""
        grants, slots, gone = [], [], set[str]()
        with self._lock:
            now_ms = self._now_ms()
            self._take((), now_ms)
            for token, account in self._granted.items():
                flight, limits = self._flights.get(token), self._whole.of(account)
                if flight is None or limits is None:
                    gone.add(token)
                elif flight.messages:
                    report = Report(
                        token,
                        flight.messages,
                        flight.recipients,
                        flight.unused,
                        flight.unused_recipients,
                    )
                    names = " ".join(counted(limits))
                    grants.append(Lease(account, limits.host, "", -math.inf, report, names))
            for token, slot in self._given.items():
                limits = self._whole.of(slot.account)
                if not self._slots.holds(token, now_ms):
                    gone.add(token)
                elif limits is not None and limits.slots:
                    slots.append(Lease(slot.account, limits.host, "", -math.inf, slot=slot))
        return grants, slots, gone
