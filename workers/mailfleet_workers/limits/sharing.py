"""The limiter of a fleet that goes on without Redis: each process uses one part of every limit by itself.

It begins when Redis has been away for a lease and a little more: then nothing that Redis granted holds any more, to any
process that cannot reach it either. What was sent until then is told from the database. So no limit is exceeded while no
process reaches Redis and there are no more processes than parts. It ends with Redis's first answer: Redis forgets what it
knew of a host before this process sent mail to it, and is told from the database too; what is on its way then is taken
over, and does not hold until Redis has heard of it.
"""

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from mailfleet_schema.statements.gate import Gate
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
)
from mailfleet_workers.limits.book import Book
from mailfleet_workers.limits.redis import RedisLimiter
from mailfleet_workers.limits.share import PartLimiter, TooLittle, part_of, part_of_sent
from mailfleet_workers.limits.usage import Usage
from mailfleet_workers.pulse import boottime

log = logging.getLogger(__name__)

#: Longer than a lease by so much, in seconds: a process that uses Redis seldom may have found it away before it was.
SURE_S = 2.0
#: Before the names of rules that a part is to be told of.
_MARK = "part "


class SharingLimiter:
    """Thread-safe. Asks *redis*, and while that is away grants one of *shares* parts. *clock* is that of *redis*."""

    def __init__(self, redis: RedisLimiter, *, shares: int, clock: Callable[[], float] = boottime) -> None:
        #: The limits of the whole fleet.
        self.book: Book = redis.book
        self._redis = redis
        self._shares = shares
        self._clock = clock
        self._lock = threading.Lock()
        #: What grants without Redis, the outage for which it was made, and how many there were.
        self._part: PartLimiter | None = None
        self._since: float | None = None
        self._number = 0
        #: The outage in which the connections opened before were reported lost, and that in which they are closed too.
        self._said_lost: float | None = None
        self._lost_in: float | None = None
        #: Hosts of which Redis does not know everything, and when something was granted last.
        self._unknown: dict[str, float] = {}
        #: What never holds again: it lapsed before Redis was back.
        self._gone: set[str] = set()

    @property
    def instance(self) -> str:
        """Which installation's limits these are."""
        return self._redis.instance

    @instance.setter
    def instance(self, value: str) -> None:
        self._redis.instance = value

    def announce(self) -> None:
        """As RedisLimiter."""
        self._redis.announce()

    @property
    def away(self) -> str | None:
        """Why nothing can be granted at all; None while Redis answers, and while parts are granted without it."""
        return None if self._sharing() is not None else self._redis.away

    def close(self) -> None:
        """End the connections to Redis. Harmless when repeated."""
        self._redis.close()

    def usage(self, account: str) -> Usage:
        """As RedisLimiter, which alone knows what all processes use."""
        return self._redis.usage(account)

    # Who grants.

    def _noticed(self) -> PartLimiter | None:
        """What grants without Redis now, with the lock held; None when Redis is to be asked, or nobody."""
        part = self._part
        if part is not None and self._redis.away_since != self._since:
            grants, slots, gone = part.leases()
            self._redis.take_over(grants, slots)
            self._gone |= gone
            self._part = part = None
            log.warning("limits_not_shared", extra={"grants": len(grants), "slots": len(slots)})
        return part

    def _sharing(self) -> PartLimiter | None:
        with self._lock:
            return self._noticed()

    def _begun(self) -> PartLimiter | None:
        """Begin to grant without Redis if it is time to."""
        with self._lock:
            part, since = self._noticed(), self._redis.away_since
            if part is None and since is not None and self._lost_in == since:
                lease_s, owner = self._redis.lease_s, self._redis.owner
                part = PartLimiter(self.book, self._shares, self._clock, lease_s=lease_s, owner=owner)
                part.adopt(*self._redis.held())
                self._part, self._since = part, since
                self._number += 1
                log.warning("limits_shared", extra={"shares": self._shares})
            return part

    def _known(self, host: str) -> bool:
        """Whether Redis may be asked about *host*: what it knew before we sent mail without it is forgotten."""
        while True:
            with self._lock:
                self._noticed()
                granted_at = self._unknown.get(host)
            if granted_at is None:
                return True
            try:
                self._redis.forget(host, older_s=self._clock() - granted_at)
            except LimiterUnavailable:
                return False
            with self._lock:
                self._noticed()
                # Else another thread has granted something meanwhile: Redis's new memory may be older than that.
                if self._unknown.get(host) == granted_at:
                    del self._unknown[host]

    # Asking.

    def ask(self, request: Request, reports: Sequence[Report] = ()) -> Grant | Refusal:
        part = self._sharing()
        if part is not None and reports:
            part.report(reports)
        limits = self.book.of(request.account)
        host = request.host if limits is None else limits.host
        if not self._known(host):
            self._redis.report(reports)
            reports = ()
        answer = self._redis.ask(request, reports)
        if isinstance(answer, Grant) or self._redis.away_since is None:
            return answer
        return self._by_ourselves(request, host, answer)

    def _by_ourselves(self, request: Request, host: str, away: Refusal) -> Grant | Refusal:
        """A part of the limits, if they are shared now; else *away*, the refusal of Redis's limiter."""
        with self._lock:
            part, limits = self._noticed(), self.book.of(request.account)
            if part is None or limits is None:
                return away
            share = part_of(limits, self._shares)
            if isinstance(share, TooLittle):
                return replace(away, rule=f"limiter away, {share.rule} is too little to share")
            answer = part.ask(request)
            if isinstance(answer, Grant):
                self._unknown[host] = self._clock()
            elif math.isinf(answer.wait_s):
                # The whole limit may let it pass.
                return replace(away, rule=f"limiter away, {answer.rule} is too little for one mail")
            return answer

    def report(self, reports: Sequence[Report]) -> None:
        part = self._sharing()
        if part is not None:
            part.report(reports)
        # After that: what is handed over meanwhile is told there.
        self._redis.report(reports)
        if self._gone:
            with self._lock:
                self._gone.difference_update(one.token for one in reports if one.remaining == 0)

    def holds(self, token: str) -> bool:
        with self._lock:
            part = self._noticed()
            if token in self._gone:
                return False
            if part is not None and part.granted(token):
                return part.holds(token)
        return self._redis.holds(token)

    def park(
        self, *, app: str, account: str, priority: Priority, mails: int, after_s: float
    ) -> Sequence[float]:
        part, limits = self._sharing(), self.book.of(account)
        if part is None or limits is None or isinstance(part_of(limits, self._shares), TooLittle):
            return self._redis.park(app=app, account=account, priority=priority, mails=mails, after_s=after_s)
        return part.park(app=app, account=account, priority=priority, mails=mails, after_s=after_s)

    # Connections.

    def login(self, slot: Slot) -> Refusal | None:
        if not self.holds(slot.token):
            return Refusal("connection lost", 0.1, slot=True)
        part = self._sharing()
        if part is not None and part.granted(slot.token):
            return part.login(slot)
        return self._redis.login(slot)

    def logged_in(self, slot: Slot, login: Login) -> None:
        part = self._sharing()
        if part is not None:
            part.logged_in(slot, login)
        if part is None or not part.granted(slot.token):
            self._redis.logged_in(slot, login)

    def close_slot(self, slot: Slot, *, linger_s: float = 0.0) -> None:
        part = self._sharing()
        if part is not None:
            part.close_slot(slot, linger_s=linger_s)
        self._redis.close_slot(slot, linger_s=linger_s)
        with self._lock:
            self._gone.discard(slot.token)

    def renew(self) -> Renewal:
        for host in list(self._unknown):
            self._known(host)
        told = self._redis.renew()
        with self._lock:
            part, since, now = self._noticed(), self._redis.away_since, self._clock()
            if part is None and since is not None and now - since >= self._redis.lease_s + SURE_S:
                _, slots = self._redis.held()
                lapsed = [one.slot for one in slots if one.slot is not None and one.until <= now]
                told = replace(told, lost=tuple(dict.fromkeys((*told.lost, *lapsed))))
                # Whoever asks closes their connections, before it asks again and the first part is granted.
                if not told.lost or self._said_lost == since:
                    self._lost_in = since
                self._said_lost = since
        if part is None:
            return told
        ours = part.renew()
        return Renewal(
            (*told.lost, *ours.lost),
            tuple(sorted({*told.wanted, *ours.wanted})),
        )

    # Gates.

    def gate(self, *, account: str, host: str, app: str = "", domains: Sequence[str] = ()) -> Gate | None:
        return self._redis.gate(account=account, host=host, app=app, domains=domains)

    def close_gate(self, gate: Gate) -> None:
        self._redis.close_gate(gate)

    def refresh_gates(self, gates: Sequence[Gate]) -> None:
        self._redis.refresh_gates(gates)

    # What is to be told.

    def unready(self) -> Iterator[Lacking]:
        if all(map(self._known, list(self._unknown))):
            try:
                yield from self._redis.unready()
            except LimiterUnavailable:
                part = self._begun()
                if part is None:
                    raise
            else:
                return
        else:
            part = self._begun()
            if part is None:
                raise LimiterUnavailable(self._redis.away or "it has just gone away")
        for lacking in part.unready():
            names = ((f"{self._mark}{name}", rule, limits) for name, rule, limits in lacking.rules)
            yield replace(lacking, rules=tuple(names))

    def seed(self, host: str, sent: Sequence[tuple[str, Sequence[tuple[float, int]]]], *, epoch: str) -> None:
        ours = [(name, each) for name, each in sent if name.startswith(_MARK)]
        if not ours:
            self._redis.seed(host, sent, epoch=epoch)
            return
        with self._lock:
            part, mark = self._noticed(), self._mark
            if part is not None:
                # What was found for an outage before says nothing of what was sent since.
                parts = [(name, each) for name, each in ours if name.startswith(mark)]
                part.seed(
                    host,
                    [(name.removeprefix(mark), part_of_sent(each, self._shares)) for name, each in parts],
                    epoch=epoch,
                )

    @property
    def _mark(self) -> str:
        return f"{_MARK}{self._number} "
