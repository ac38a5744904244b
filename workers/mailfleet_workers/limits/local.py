"""The limiter of one process: every rule, slot and wait in its own memory, decided one request at a time.

What it knows ends with the process: the next one is told from the database what was sent.
"""

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from mailfleet_schema.statements.gate import Gate
from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Grant, Lacking, Login, Refusal, Renewal, Report, Request, Slot
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.gates import GateCache
from mailfleet_workers.limits.line import Line, Place, Standing
from mailfleet_workers.limits.parking import Parking
from mailfleet_workers.limits.rule import Rule, Scope, Unit
from mailfleet_workers.limits.slots import Obstacle, Slots
from mailfleet_workers.limits.usage import RuleUse, Usage
from mailfleet_workers.limits.window import Window, class_limit

#: Refused only because others go first: ask again after so long for each of them.
_TURN_MS = 20.0
#: What is over is looked for so often.
_FORGET_MS = 10_000
#: Ask again so long after a rule was found that does not know what was sent.
_NOT_READY_S = 0.25

_Key = tuple[Scope, str, Unit, int]


@dataclass(slots=True)
class Flight:
    """A grant that is not finished: how much of it is in flight, and the windows in which it counts."""

    grant: Grant
    windows: Mapping[Window, Unit]
    messages: int
    recipients: int
    until_ms: float
    unused: int = 0
    unused_recipients: int = 0
    account: str = ""


class LocalLimiter:
    """Thread-safe. *clock* is monotonic, in seconds.

    A grant that nobody renews for *lease_s* counts as used, and such a slot is free again.
    *owner* tells its places in line from those of another limiter. *empty* False means that mails were sent before it was
    made: no rule grants anything until `seed` has told it of them.
    """

    def __init__(
        self,
        book: Book,
        clock: Callable[[], float],
        *,
        lease_s: float = 15.0,
        owner: str = "local",
        empty: bool = True,
    ) -> None:
        self.book, self._clock, self._lease_ms, self._owner = book, clock, lease_s * 1000, owner
        self._lock = threading.Lock()
        self._gates = GateCache(clock)
        self._windows: dict[_Key, Window] = {}
        self._flights: dict[str, Flight] = {}
        #: What is left of grants whose leases ran out: sent, as far as is known, and on its way still.
        self._lapsed: dict[str, Flight] = {}
        self._lines: dict[str, Line] = {}
        self._parked: dict[str, Parking] = {}
        self._slots = Slots(self._lease_ms)
        self._forgot_ms = -math.inf
        self._told: set[_Key] | None = None if empty else set()

    def ask(self, request: Request, reports: Sequence[Report] = ()) -> Grant | Refusal:
        with self._lock:
            now_ms = self._now_ms()
            self._take(reports, now_ms)
            known = self._flights.get(request.token)
            if known is not None:
                return known.grant
            limits = self.book.of(request.account) or Limits(request.account, request.host)
            if self._lacks(limits):
                return Refusal("not ready", _NOT_READY_S)
            line = self._lines.setdefault(request.account, Line())
            place = Place(self._owner, request.app, request.priority)
            standing = line.standing(place, limits.weights, now_ms)
            obstacle = self._obstacle(request, limits, line, place, now_ms)
            if obstacle is not None:
                return self._refuse(limits, line, place, standing, obstacle, now_ms, slot=True)
            # Without mails only a slot is asked for.
            decided = self._decide(request, limits, standing, now_ms) if request.recipients else 0
            if isinstance(decided, Obstacle):
                return self._refuse(limits, line, place, standing, decided, now_ms)
            line.serve(place, decided, limits.weights, now_ms)
            return self._grant(request, limits, decided, standing, now_ms)

    def report(self, reports: Sequence[Report]) -> None:
        with self._lock:
            self._take(reports, self._now_ms())

    def holds(self, token: str) -> bool:
        with self._lock:
            now_ms = self._now_ms()
            flight = self._flights.get(token)
            return self._slots.holds(token, now_ms) or (flight is not None and flight.until_ms > now_ms)

    def park(
        self, *, app: str, account: str, priority: Priority, mails: int, after_s: float
    ) -> Sequence[float]:
        limits = self.book.of(account)
        if limits is None or not limits.rules:
            return [after_s] * mails
        with self._lock:
            now_ms = self._now_ms()
            parking = self._parked.setdefault(account, Parking())
            windows = {rule: self._window(limits, rule) for rule in limits.rules}
            waits_ms = parking.park(limits, windows, app, priority, mails, after_s * 1000, now_ms)
        return [max(after_s, wait_ms / 1000) for wait_ms in waits_ms]

    def login(self, slot: Slot) -> Refusal | None:
        with self._lock:
            now_ms = self._now_ms()
            if not self._slots.holds(slot.token, now_ms):
                return Refusal("connection lost", 0.1, slot=True)
            limits = self.book.of(slot.account)
            if limits is None or self._slots.logging_in(slot.token):
                return None
            obstacle = self._slots.login_obstacle(limits, now_ms)
            if obstacle is not None:
                return Refusal(obstacle.rule, _wait_s(obstacle.wait_ms), slot=True)
            self._slots.begin_login(slot.token)
            return None

    def logged_in(self, slot: Slot, login: Login) -> None:
        with self._lock:
            self._slots.end_login(slot, login, self._now_ms())

    def close_slot(self, slot: Slot, *, linger_s: float = 0.0) -> None:
        with self._lock:
            self._slots.close(slot, linger_s * 1000, self._now_ms())

    def renew(self) -> Renewal:
        with self._lock:
            now_ms = self._now_ms()
            self._take((), now_ms)
            for flight in self._flights.values():
                flight.until_ms = now_ms + self._lease_ms
            for flight in (*self._flights.values(), *self._lapsed.values()):
                self._join(flight)
            lost = self._slots.renew(self.book.of, now_ms)
            wanted = tuple(sorted(account for account, line in self._lines.items() if line.wanted(now_ms)))
            return Renewal(lost, wanted)

    def gate(self, *, account: str, host: str, app: str = "", domains: Sequence[str] = ()) -> Gate | None:
        return self._gates.gate(account=account, host=host, app=app, domains=domains)

    def close_gate(self, gate: Gate) -> None:
        self._gates.close_gate(gate)

    def refresh_gates(self, gates: Sequence[Gate]) -> None:
        self._gates.refresh(gates)

    def unready(self) -> Iterator[Lacking]:
        found: dict[str, list[tuple[str, Rule, Limits]]] = {}
        with self._lock:
            self._forget_taken_away()
            for limits in self.book.all().values():
                for key, rule in self._lacks(limits).items():
                    found.setdefault(limits.host, []).append((repr(key), rule, limits))
        for host, rules in found.items():
            yield Lacking(host, math.inf, tuple(rules), "")

    def seed(self, host: str, sent: Sequence[tuple[str, Sequence[tuple[float, int]]]], *, epoch: str) -> None:
        del epoch  # a process has one memory
        amounts = dict(sent)
        with self._lock:
            now_ms = self._now_ms()
            for limits in self.book.all().values():
                for key, rule in self._lacks(limits).items() if limits.host == host else ():
                    if self._told is not None and repr(key) in amounts:
                        ages = [(age_s * 1000, amount) for age_s, amount in amounts[repr(key)]]
                        self._window(limits, rule).tell(ages, now_ms)
                        self._told.add(key)

    def _lacks(self, limits: Limits) -> dict[_Key, Rule]:
        """The rules of *limits* that do not know what was sent before."""
        if self._told is None:
            return {}
        keys = {self._key(limits, rule): rule for rule in limits.rules}
        return {key: rule for key, rule in keys.items() if key not in self._told}

    def _forget_taken_away(self) -> None:
        """A rule that comes back has not counted what was sent meanwhile: it has to be told again."""
        if self._told is None:
            return
        known = {self._key(limits, rule) for limits in self.book.all().values() for rule in limits.rules}
        for key in self._told - known:
            self._told.discard(key)
            if key in self._windows:
                self._windows[key].clear()

    def usage(self, account: str) -> Usage:
        """How far the limits of *account* are used; an account that nobody configured has none."""
        limits = self.book.of(account) or Limits(account, "")
        with self._lock:
            now_ms = self._now_ms()
            self._take((), now_ms)
            rules = tuple(self._rule_use(limits, rule, now_ms) for rule in limits.rules)
            taken, taken_of_host = self._slots.taken(account, limits.host, now_ms)
            line = self._lines.get(account)
            parking = self._parked.get(account)
            login = self._slots.login_obstacle(limits, now_ms)
            return Usage(
                account=account,
                host=limits.host,
                ready_in_s=0.0,
                rules=rules,
                connections=taken,
                host_connections=taken_of_host,
                waiting=0 if line is None else line.waiting(now_ms),
                parked_s=0.0 if parking is None else parking.last_ms(now_ms) / 1000,
                login_failures=self._slots.failures(account, now_ms),
                login_wait_s=0.0 if login is None else login.wait_ms / 1000,
            )

    def _rule_use(self, limits: Limits, rule: Rule, now_ms: float) -> RuleUse:
        window = self._window(limits, rule)
        wait_ms = window.free_at_ms(1, rule.rate.limit, now_ms) - now_ms
        return RuleUse(rule, window.used(now_ms), window.flight, wait_ms / 1000)

    def _obstacle(
        self, request: Request, limits: Limits, line: Line, place: Place, now_ms: float
    ) -> Obstacle | None:
        if request.slot is None or self._slots.holds(request.slot, now_ms):
            return None
        return self._slots.obstacle(
            limits, request.priority, line.before_for_slot(place, limits.weights, now_ms), now_ms
        )

    def _decide(self, request: Request, limits: Limits, standing: Standing, now_ms: float) -> int | Obstacle:
        """How many permits of *request* fit every rule, or what is in the way of the first."""
        fitting, blocked, needs = request.permits, False, []
        for rule in limits.rules:
            window, limit = self._window(limits, rule), self._limit(limits, rule, request)
            wished = (1,) * fitting if rule.unit is Unit.MESSAGES else request.recipients[:fitting]
            first = 1 if rule.unit is Unit.MESSAGES else request.recipients[0]
            if first > rule.rate.limit:
                return Obstacle(str(rule), math.inf)
            free = limit - window.used(now_ms)
            blocked = blocked or first > free
            fitting = sum(amount <= free - standing.ahead for amount in accumulate(wished))
            needs.append((rule, window, limit, first + standing.ahead))
        if fitting or not limits.rules:
            return fitting
        if not blocked:
            return Obstacle("priority" if standing.higher else "share", _TURN_MS * standing.ahead)

        def free_at(before: int) -> tuple[float, str]:
            return max(
                (window.free_at_ms(need + before, limit, now_ms), str(rule))
                for rule, window, limit, need in needs
            )

        free_ms, name = free_at(0)
        for before, told_ms in enumerate(standing.told_ms, start=1):
            if told_ms > free_ms:
                break
            free_ms, name = free_at(before)
        return Obstacle(name, free_ms - now_ms)

    def _grant(
        self, request: Request, limits: Limits, permits: int, standing: Standing, now_ms: float
    ) -> Grant:
        recipients, tight = sum(request.recipients[:permits]), standing.others
        # Two rules of one kind and length are counted once.
        windows = {self._window(limits, rule): rule.unit for rule in limits.rules}
        for window, unit in windows.items():
            window.take(permits if unit is Unit.MESSAGES else recipients)
        for rule in limits.rules if permits else ():
            limit = self._limit(limits, rule, request)
            tight = tight or (limit - self._window(limits, rule).used(now_ms)) * 10 < limit
        slot = None
        if request.slot is not None:
            slot = Slot(request.slot, request.account, request.host)
            if not self._slots.holds(request.slot, now_ms):
                self._slots.open(slot, now_ms)
        grant = Grant(request.token, permits, slot, tight, standing.want)
        if permits:
            until_ms = now_ms + self._lease_ms
            self._flights[request.token] = Flight(
                grant, windows, permits, recipients, until_ms, account=request.account
            )
        return grant

    def _join(self, flight: Flight) -> None:
        """Count *flight* in the rules that its account has now, too: one may have begun while it was on its way."""
        limits = self.book.of(flight.account)
        more = {self._window(limits, rule): rule.unit for rule in limits.rules} if limits is not None else {}
        for window in more.keys() - flight.windows.keys():
            window.take(flight.messages if more[window] is Unit.MESSAGES else flight.recipients)
        flight.windows = {**more, **flight.windows}

    def _refuse(
        self,
        limits: Limits,
        line: Line,
        place: Place,
        standing: Standing,
        obstacle: Obstacle,
        now_ms: float,
        *,
        slot: bool = False,
    ) -> Refusal:
        if obstacle.wait_ms <= limits.max_idle_ms:
            told_ms = now_ms + obstacle.wait_ms
            line.stand(place, now_ms, told_ms=told_ms, slot=slot, wanted=obstacle.full)
        else:
            line.leave(place)
        return Refusal(obstacle.rule, _wait_s(obstacle.wait_ms), slot, standing.want)

    def _take(self, reports: Iterable[Report], now_ms: float) -> None:
        """Take *reports* into account, and what nobody renewed as sent."""
        for report in reports:
            for flights in (self._flights, self._lapsed):
                flight = flights.get(report.token)
                if flight is not None:
                    _finish(flight, report, now_ms)
                    if not flight.messages and not flight.recipients:
                        del flights[report.token]
        # Leases begin or are renewed with the same length, so the oldest stand first.
        while self._flights:
            token, flight = next(iter(self._flights.items()))
            if flight.until_ms > now_ms:
                break
            self._lapsed[token] = replace(flight, windows={})
            _finish(flight, Report(token, 0), now_ms)
            del self._flights[token]
        if now_ms - self._forgot_ms >= _FORGET_MS:
            self._forgot_ms = now_ms
            self._forget(now_ms)

    def _forget(self, now_ms: float) -> None:
        self._windows = {key: window for key, window in self._windows.items() if window.used(now_ms)}
        self._lines = {account: line for account, line in self._lines.items() if not line.over(now_ms)}
        self._parked = {account: one for account, one in self._parked.items() if not one.over(now_ms)}
        self._slots.forget(now_ms)

    def _window(self, limits: Limits, rule: Rule) -> Window:
        key = self._key(limits, rule)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = Window(rule.rate.window_ms)
        return window

    @staticmethod
    def _key(limits: Limits, rule: Rule) -> _Key:
        name = limits.host if rule.scope is Scope.HOST else limits.account
        return rule.scope, name, rule.unit, rule.rate.window_ms

    @staticmethod
    def _limit(limits: Limits, rule: Rule, request: Request) -> int:
        limit = class_limit(rule.rate.limit, request.priority, limits.reserve)
        # A mail of `bulk` that needs the reserve too goes when nothing else counts: else it could never go.
        return limit if rule.unit is Unit.MESSAGES else max(limit, request.recipients[0])

    def _now_ms(self) -> float:
        return self._clock() * 1000


def _finish(flight: Flight, report: Report, now_ms: float) -> None:
    """Take *report* into account; one that says less than was known already changes nothing."""
    messages, unused = flight.messages, flight.unused
    recipients, unused_recipients = flight.recipients, flight.unused_recipients
    flight.messages = min(messages, report.remaining)
    flight.recipients = min(recipients, report.remaining_recipients)
    gone, gone_recipients = messages - flight.messages, recipients - flight.recipients
    back = min(gone, max(0, report.unused - unused))
    back_recipients = min(gone_recipients, max(0, report.unused_recipients - unused_recipients))
    flight.unused, flight.unused_recipients = unused + back, unused_recipients + back_recipients
    for window, unit in flight.windows.items():
        window.give_back(back if unit is Unit.MESSAGES else back_recipients)
        window.finish(
            gone - back if unit is Unit.MESSAGES else gone_recipients - back_recipients,
            now_ms,
        )


def _wait_s(wait_ms: float) -> float:
    """*wait_ms* in seconds, longer by as much as sums of such numbers may be wrong."""
    return (wait_ms + 0.01) / 1000
