"""The limiter of a fleet: every decision is one call of a Lua script in Redis, on Redis's clock.

Redis is the brake, not the truth. When it does not answer, nothing is granted: `ask` refuses, and mail waits. When it
has lost what it knew, it says so (another epoch), and grants nothing before `Seeding` has told it what was sent.
Leases of permits and slots are renewed by `renew`; what this process holds is adopted by a new epoch.
"""

import math
import threading
import uuid
from collections.abc import Callable, Iterator, KeysView, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from mailfleet_schema.statements.gate import Gate, reason_of
from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import (
    Grant,
    Lacking,
    LimiterUnavailable,
    Login,
    Refusal,
    Renewal,
    Report,
    Request,
    Slot,
    Want,
)
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.encoding import (
    Lease,
    Renewed,
    Spec,
    counted,
    gate_words,
    lines,
    login_words,
    named,
    question,
    read_usage,
    renewal_words,
    rules_of,
)
from mailfleet_workers.limits.gates import GateCache
from mailfleet_workers.limits.holdings import Holdings
from mailfleet_workers.limits.installation import announce
from mailfleet_workers.limits.line import RANK
from mailfleet_workers.limits.presence import AWAY_S, Presence
from mailfleet_workers.limits.redis_script import Script
from mailfleet_workers.limits.usage import Usage
from mailfleet_workers.pulse import boottime

#: A lease counts as lost to us so much before Redis takes it back, in seconds.
MARGIN_S = 1.0
#: The script's word for a rule that does not know what was sent.
NOT_READY = "not ready"


class RedisLimiter:
    """Thread-safe, raises nothing while mail is sent. *book* says what is limited; it may be replaced meanwhile.

    *url* is Redis's, *instance* keeps apart what several databases of mailfleet have in one Redis (it may be set later,
    before the first question); *lease_s* is how long what a dead process held stays taken. *clock* is ours and never
    stops (`boottime`). *told* hears whether Redis answers, each time that changes. *place* is where the database is, for those who find our
    limits by it (`installation`).
    """

    def __init__(
        self,
        url: str,
        book: Book,
        *,
        instance: str = "",
        lease_s: float = 15.0,
        clock: Callable[[], float] = boottime,
        told: Callable[[bool], None] = lambda _: None,
        script: Script | None = None,
        place: str = "",
    ) -> None:
        self.book = book
        self._place = place
        self.owner = uuid.uuid4().hex[:12]
        self.lease_s = lease_s
        self._clock = clock
        self._presence = Presence(clock, told)
        self._script = script or Script(url, lease_s=lease_s)
        self.instance = instance
        self._gates = GateCache(clock)
        self.gate = self._gates.gate
        self._held = Holdings(clock)
        self.holds = self._held.holds
        self._telling = threading.Lock()
        self._specs: dict[str, Spec] = {}
        self._ready: dict[str, tuple[str, KeysView[str]]] = {}

    @property
    def instance(self) -> str:
        """Which installation's limits these are."""
        return self._instance

    @instance.setter
    def instance(self, value: str) -> None:
        self._instance = value
        self._script.prefix = f"mailfleet:{value}"

    def _call(
        self,
        host: str,
        operation: str,
        *words: object | Callable[[str], list[object]],
        epoch: str | None = None,
    ) -> tuple[str, list[Any]]:
        """As `Script.call`, at once LimiterUnavailable where that was just so."""
        return self._presence.of_call(self._script.call, host, operation, *words, epoch=epoch)

    # Asking.

    def ask(self, request: Request, reports: Sequence[Report] = ()) -> Grant | Refusal:
        limits = self.book.of(request.account)
        if limits is None or not limits.any:
            self.report(reports)
            slot = None if request.slot is None else Slot(request.slot, request.account, request.host)
            return Grant(request.token, request.permits, slot)
        mine, others = self._held.of_host(reports, limits.host) if reports else ([], [])
        if others:
            self.report(others)
        if request.slot is not None:
            self._tell_ends()
        spec = self._spec(limits)
        try:
            asked_at = self._clock()
            epoch, answer = self._call(limits.host, "ask", *question(request, limits, mine), spec.words)
        except LimiterUnavailable as error:
            self._held.keep(mine)
            return _refused_away(error)
        if mine:
            self._held.told(mine)
        return self._answered(request, spec, answer, epoch, asked_at)

    def _spec(self, limits: Limits) -> Spec:
        spec = self._specs.get(limits.account)
        if spec is None or spec.limits is not limits:
            spec = self._specs[limits.account] = Spec.of(limits, self.owner)
        return spec

    def _answered(
        self, request: Request, spec: Spec, answer: list[Any], epoch: str, asked_at: float
    ) -> Grant | Refusal:
        limits = spec.limits
        # Four words and the rest: what may have spaces comes last.
        match answer[0]:
            case b"yes":
                slot = None if request.slot is None else Slot(request.slot, request.account, request.host)
                permits, until = int(answer[1]), asked_at + self.lease_s - MARGIN_S
                whose = limits.account, limits.host, epoch, until
                if permits:
                    report = Report(request.token, permits, sum(request.recipients[:permits]))
                    self._held.granted(Lease(*whose, report, spec.names))
                if slot is not None and limits.slots:
                    self._held.opened(Lease(*whose, slot=slot))
                tight, want = answer[2] == b"1", Want(int(answer[3]))
                return Grant(request.token, permits, slot, tight=tight, want=want)
            case b"gate":
                wait_s, scope = float(answer[1]) / 1000, answer[2].decode()
                key = limits.host if scope == "host" else limits.account
                reason = answer[4].decode("utf-8", "replace")
                self._gates.close_gate(Gate(scope, key, wait_s, int(answer[3]), reason))
                return Refusal(reason_of(scope, reason), wait_s)
            case _:
                rule = named(answer[4].decode(), limits)
                if rule == NOT_READY:
                    self._ready.pop(limits.host, None)
                wait_s, want = float(answer[1]) / 1000, Want(int(answer[3]))
                return Refusal(rule, wait_s, slot=answer[2] != b"0", want=want)

    def report(self, reports: Sequence[Report]) -> None:
        for host, ours in self._held.keep(reports).items():
            try:
                self._call(host, "report", lines(ours))
            except LimiterUnavailable:
                continue
            self._held.told(ours)

    def park(
        self, *, app: str, account: str, priority: Priority, mails: int, after_s: float
    ) -> Sequence[float]:
        limits = self.book.of(account)
        if limits is None or not limits.rules:
            return [after_s] * mails
        words = [
            app,
            RANK[priority],
            account,
            mails,
            math.ceil(after_s * 1000),
            limits.reserve,
            limits.weights.get(app, 1),
            limits.max_idle_ms,
            *rules_of(limits),
        ]
        try:
            _, answer = self._call(limits.host, "park", *words)
        except LimiterUnavailable:
            return [after_s] * mails
        return [float(wait) / 1000 for wait in answer]

    # Connections.

    def login(self, slot: Slot) -> Refusal | None:
        limits = self.book.of(slot.account)
        if limits is None or not limits.slots:
            return None
        if not self.holds(slot.token):
            return Refusal("connection lost", 0.1, slot=True)
        self._tell_ends()
        try:
            _, answer = self._call(limits.host, "login", *login_words(slot, limits))
        except LimiterUnavailable as error:
            return _refused_away(error)
        if answer[0] == b"yes":
            return None
        return Refusal(answer[1].decode(), float(answer[2]) / 1000, slot=True)

    def logged_in(self, slot: Slot, login: Login) -> None:
        self._held.put_off(slot, login)
        self._tell_ends()

    def _tell_ends(self) -> None:
        """Say how logins ended; what nobody hears is said later.

        When this returns they are told, also those that another thread tells: a slot that is closed, or asked for, before
        a refusal is told would be a further try.
        """
        with self._telling:
            for slot, login in self._held.put_off_ends():
                limits = self.book.of(slot.account)
                if limits is not None and limits.slots:
                    try:
                        self._call(limits.host, "logged_in", *login_words(slot, limits), login.value)
                    except LimiterUnavailable:
                        continue
                self._held.end_told(slot, login)

    def close_slot(self, slot: Slot, *, linger_s: float = 0.0) -> None:
        # Else the end of its connection would be the end of its login.
        self._tell_ends()
        held = self._held.close(slot, linger_s)
        # After a refusal that nobody heard its login has to be in progress: it ends with the lease, or when that is told.
        if held is not None and not self._held.refused_untold(slot):
            self._tell_closed(held.host, slot, linger_s)

    def _tell_closed(self, host: str, slot: Slot, linger_s: float) -> None:
        limits = self.book.of(slot.account) or Limits(slot.account, slot.host)
        try:
            self._call(host, "close", *login_words(slot, limits), round(linger_s * 1000))
        except LimiterUnavailable:
            return  # its lease ends

    def renew(self) -> Renewal:
        self._tell_ends()
        lost: list[Slot] = []
        wanted: set[str] = set()
        for host, accounts in self._to_renew().items():
            grants, slots = self._held.to_renew(host)
            asked_at = self._clock()
            words = partial(renewal_words, self.owner, accounts, grants, slots, asked_at)
            try:
                answer = Renewed.of(*self._call(host, "renew", words))
            except LimiterUnavailable:
                lost += self._held.lapsed(host)
                continue
            if answer.unready:
                self._ready.pop(host, None)
            wanted |= answer.wanted
            until = asked_at + self.lease_s - MARGIN_S
            gone, ended, closed = self._held.renewed(grants, slots, answer, until)
            lost += gone
            self._end_again(host, ended, closed)
        return Renewal(tuple(lost), tuple(sorted(wanted)))

    def _end_again(self, host: str, ended: Sequence[Report], closed: Sequence[Lease]) -> None:
        """What ended while its renewal was on its way: whichever of the two came first, it has ended."""
        if ended:
            with suppress(LimiterUnavailable):
                self._call(host, "report", lines(ended))
        for one in closed:
            if one.slot is not None:
                self._tell_closed(host, one.slot, one.linger_s)

    def _to_renew(self) -> dict[str, dict[str, Limits]]:
        """Those hosts, and those whose limits were lifted while something of them is on its way."""
        return {host: {} for host in self._held.hosts()} | self._hosts()

    def _hosts(self) -> dict[str, dict[str, Limits]]:
        """The hosts that have anything to limit, each with its accounts."""
        found: dict[str, dict[str, Limits]] = {}
        for account, limits in self.book.all().items():
            if limits.any:
                found.setdefault(limits.host, {})[account] = limits
        return found

    # Gates.

    def close_gate(self, gate: Gate) -> None:
        self._gates.close_gate(gate)
        self._tell_gates([gate])

    def refresh_gates(self, gates: Sequence[Gate]) -> None:
        self._gates.refresh(gates)
        self._tell_gates(gates)

    def _tell_gates(self, gates: Sequence[Gate]) -> None:
        for host, words in gate_words(gates, self.book.all()).items():
            try:
                self._call(host, "gates", *words)
            except LimiterUnavailable:
                return

    # What is lost, and what people see.

    def unready(self) -> Iterator[Lacking]:
        for host, accounts in self._hosts().items():
            rules = {name: (rule, each) for each in accounts.values() for name, rule in counted(each).items()}
            known = self._ready.get(host) == (self._script.epoch(host), rules.keys())
            if known and self._presence.away is None:
                continue  # nothing was lost since
            epoch, answer = self._call(host, "status", *rules)
            missing = [name.decode() for name in answer[2:]]
            if int(answer[1]) and not missing:
                self._ready[host] = epoch, rules.keys()
                continue
            self._ready.pop(host, None)
            yield Lacking(
                host, float(answer[0]) / 1000, tuple((name, *rules[name]) for name in missing), epoch
            )

    def seed(self, host: str, sent: Sequence[tuple[str, Sequence[tuple[float, int]]]], *, epoch: str) -> None:
        words: list[object] = []
        for name, ages in sent:
            words += [name, " ".join(f"{age_s * 1000:.0f} {amount}" for age_s, amount in ages)]
        self._call(host, "seed", *words, epoch=epoch)
        self.announce()  # it may have forgotten that too

    def announce(self) -> None:
        """Say in Redis whose limits these are. Raises LimiterUnavailable."""
        if self._place:
            announce(self._script, self._place, self._instance)

    def usage(self, account: str) -> Usage:
        """What is used of the limits of *account*. Raises LimiterUnavailable, and KeyError for an unknown account."""
        limits = self.book.all()[account]
        _, answer = self._call(limits.host, "usage", account, *rules_of(limits))
        return read_usage(limits, [float(one) for one in answer], lease_s=self.lease_s)

    # What was granted without Redis: see `sharing`.

    def held(self) -> tuple[list[Lease], list[Lease]]:
        """The grants that are not finished, and the slots."""
        return self._held.all()

    def take_over(self, grants: Sequence[Lease], slots: Sequence[Lease]) -> None:
        """What was granted without Redis is ours from now on: the next `renew` tells Redis of it."""
        for one in grants:
            self._held.granted(one)
        for one in slots:
            self._held.opened(one)

    def forget(self, host: str, *, older_s: float) -> None:
        """Have Redis forget what it knows of *host* since longer than *older_s*; a younger memory stays.

        Raises LimiterUnavailable.
        """
        self._call(host, "forget", round(older_s * 1000))

    @property
    def away(self) -> str | None:
        """Why Redis does not answer; None while it does."""
        return self._presence.away

    @property
    def away_since(self) -> float | None:
        """When it was first found not to answer, on our clock; None while it does."""
        return self._presence.since

    def close(self) -> None:
        """End the connections to Redis. Harmless when repeated."""
        self._script.close()


def _refused_away(error: LimiterUnavailable) -> Refusal:
    return Refusal(f"limiter unavailable: {error}", 2 * AWAY_S)
