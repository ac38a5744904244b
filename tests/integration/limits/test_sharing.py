"""`when_away = "share"` over a real Redis that dies, hangs, and comes back with its memory or without it."""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from mailfleet_workers.limits.base import Grant, LimiterUnavailable, Login, Refusal, Report
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.redis import RedisLimiter
from mailfleet_workers.limits.sharing import SURE_S, SharingLimiter
from mailfleet_workers.pulse import boottime
from tests.conformance.limits.kinds import HOST, granted, recipients, refused, rule, wish
from tests.services.redis import PrivateRedis
from tests.waiting import wait_until

LEASE_S = 2.0
ACCOUNT = Limits("default", HOST, (rule("20/2s"), rule("400/h")), connections=4)
TINY = Limits("tiny", HOST, (rule("100/s"), rule("5/d")))
WIDE = Limits("wide", HOST, (recipients("100/h"),))


@dataclass
class Sent:
    """A mail: its dot may have been said since `begun_at`, and was answered at `ended_at`."""

    begun_at: float
    ended_at: float | None = None


@dataclass
class Fleet:
    """Processes on one clock, with what they sent: what a database would know."""

    url: str
    shares: int
    sent: list[Sent] = field(default_factory=list)
    made: list[SharingLimiter] = field(default_factory=list)
    #: How far the clock was put forward.
    ahead_s: float = 0.0

    def now(self) -> float:
        return boottime() + self.ahead_s

    def process(self) -> SharingLimiter:
        """One more process."""
        book = Book({one.account: one for one in (ACCOUNT, TINY, WIDE)})
        redis = RedisLimiter(self.url, book, instance="sharing", lease_s=LEASE_S, clock=self.now)
        self.made.append(SharingLimiter(redis, shares=self.shares, clock=self.now))
        return self.made[-1]

    def keep(self, limiter: SharingLimiter) -> None:
        """What a process does every two seconds. A lease is waited for, as where others live."""
        limiter.renew()
        try:
            for lacking in limiter.unready():
                if lacking.age_s < LEASE_S and len(self.sent) > 0:
                    continue
                limiter.seed(
                    lacking.host, [(name, self.ages()) for name, _, _ in lacking.rules], epoch=lacking.epoch
                )
        except LimiterUnavailable:
            pass

    def ages(self) -> list[tuple[float, int]]:
        now = self.now()
        ages = (now - (one.ended_at or now) for one in list(self.sent))
        return [(max(0.0, age_s), 1) for age_s in sorted(ages, reverse=True)]

    def send(self, limiter: SharingLimiter, token: str, last_s: float = 0.0) -> bool:
        """Whether a mail was sent."""
        if not isinstance(limiter.ask(wish(token)), Grant) or not limiter.holds(token):
            limiter.report([Report(token, 0, 0, 1, 1)])
            return False
        # Not before: an answer that takes long says nothing earlier to a server.
        sent = Sent(self.now())
        self.sent.append(sent)
        time.sleep(last_s)
        sent.ended_at = self.now()
        limiter.report([Report(token, 0)])
        return True

    def worst(self, window_s: float) -> int:
        """How many mails one window may have held at the server, whenever it took each."""
        spans = [(one.begun_at, one.ended_at or one.begun_at) for one in self.sent]
        return max(
            sum(begun < start + window_s and ended >= start for begun, ended in spans) for _, start in spans
        )


@pytest.fixture
def fleet_of(redis_server: PrivateRedis) -> Iterator[Callable[[int], Fleet]]:
    """Makes a fleet that has so many shares."""
    made: list[Fleet] = []

    def make(shares: int) -> Fleet:
        made.append(Fleet(redis_server.url, shares))
        return made[-1]

    yield make
    for fleet in made:
        for limiter in fleet.made:
            limiter.close()


def alone(fleet: Fleet) -> SharingLimiter:
    """A process that has sent nothing, and shares because Redis has been away long enough."""
    limiter = fleet.process()
    assert limiter.away is None
    fleet.keep(limiter)
    fleet.ahead_s += LEASE_S + SURE_S
    fleet.keep(limiter)
    return limiter


def take_all(limiter: SharingLimiter, account: str = "default") -> int:
    """How many permits there are."""
    for number in itertools.count():
        answer = limiter.ask(wish(f"all {number}", account=account))
        if isinstance(answer, Refusal):
            return number
    raise AssertionError


def test_nothing_is_shared_within_a_lease(
    redis_server: PrivateRedis, fleet_of: Callable[[int], Fleet]
) -> None:
    """Until what Redis granted has lapsed for certain, mail waits; then it goes, up to a process's part."""
    fleet = fleet_of(4)
    limiter = fleet.process()
    fleet.keep(limiter)
    granted(limiter.ask(wish("before", 3)))
    redis_server.kill()
    assert refused(limiter.ask(wish("t"))).rule.startswith("limiter unavailable: ")
    since = fleet.now()
    fleet.ahead_s += LEASE_S + SURE_S - 0.2
    fleet.keep(limiter)
    if fleet.now() - since < LEASE_S + SURE_S:
        assert refused(limiter.ask(wish("t"))).rule.startswith("limiter unavailable: ")
        assert limiter.away is not None
    assert not limiter.holds("before")
    fleet.ahead_s += 0.3
    limiter.renew()
    assert refused(limiter.ask(wish("t"))).rule.startswith("limiter unavailable: ")  # it was not told yet
    fleet.keep(limiter)
    # Of twenty it has five, and three are on their way still.
    assert take_all(limiter) == 2
    assert limiter.away is None
    assert limiter.holds("all 0")
    assert not limiter.holds("before")


def test_what_all_have_sent_is_told(redis_server: PrivateRedis, fleet_of: Callable[[int], Fleet]) -> None:
    """Of what the fleet has sent each process counts its part, rounded up."""
    fleet = fleet_of(4)
    redis_server.kill()
    limiter = fleet.process()
    fleet.keep(limiter)
    fleet.ahead_s += LEASE_S + SURE_S
    fleet.sent = [Sent(fleet.now(), fleet.now()) for _ in range(9)]
    fleet.keep(limiter)
    assert take_all(limiter) == 5 - 3


def test_too_little_to_share_waits(redis_server: PrivateRedis, fleet_of: Callable[[int], Fleet]) -> None:
    """A limit less than the number of processes, and a mail larger than a part: both wait, and say why."""
    fleet = fleet_of(8)
    redis_server.kill()
    limiter = alone(fleet)
    waits = refused(limiter.ask(wish("t", account="tiny")))
    assert waits.rule == "limiter away, account messages 5/d is too little to share"
    assert 0 < waits.wait_s < 10
    slot = refused(limiter.ask(wish("t", slot="s")))
    assert slot.rule == "limiter away, account connections 4 is too little to share"
    large = refused(limiter.ask(wish("t", account="wide", to=(13,))))
    assert large.rule == "limiter away, account recipients 12/h is too little for one mail"
    assert 0 < large.wait_s < 10
    granted(limiter.ask(wish("t", account="wide", to=(12,))))


def test_connections(redis_server: PrivateRedis, fleet_of: Callable[[int], Fleet]) -> None:
    """Those opened before are lost, a part is opened instead, and Redis counts it when it is back."""
    fleet = fleet_of(2)
    limiter, other = fleet.process(), fleet.process()
    fleet.keep(limiter)
    old = granted(limiter.ask(wish("old", slot="old"))).slot
    assert old is not None
    limiter.logged_in(old, Login.DONE)
    limiter.report([Report("old", 0)])
    with redis_server.frozen():
        assert limiter.renew().lost == ()
        fleet.ahead_s += LEASE_S + SURE_S + 1
        assert limiter.renew().lost == (old,)
        with pytest.raises(LimiterUnavailable):
            list(limiter.unready())  # another thread may ask while the connection is being closed
        assert not limiter.holds("old")
        limiter.close_slot(old)
        fleet.keep(limiter)
        slots = [granted(limiter.ask(wish(token, slot=token))).slot for token in ("a", "b")]
        assert refused(limiter.ask(wish("c", slot="c"))).rule == "account connections 2"
        assert limiter.holds("a")
        assert limiter.renew().lost == ()
        assert slots[1] is not None
        limiter.logged_in(slots[1], Login.DONE)
        limiter.close_slot(slots[1])

    def back() -> bool:
        limiter.ask(wish("probe"))
        return not limiter.holds("a")

    wait_until(back, 5, lambda: "Redis is not asked again")
    assert limiter.renew().lost == ()
    assert limiter.holds("a")
    assert limiter.usage("default").connections == 1
    # What it knew before is forgotten, and it is not open before a lease is over.
    fleet.sent = [Sent(fleet.now(), fleet.now())]
    fleet.keep(other)
    assert refused(other.ask(wish("t"))).rule == "not ready"
    assert limiter.usage("default").ready_in_s > 0


def test_what_lapsed_without_redis_is_known_until_it_ends(
    redis_server: PrivateRedis, fleet_of: Callable[[int], Fleet]
) -> None:
    """It never holds again, gives no right to another connection, and is forgotten when it is over."""
    fleet = fleet_of(2)
    redis_server.kill()
    limiter = alone(fleet)
    slot = granted(limiter.ask(wish("t", slot="s"))).slot
    assert slot is not None
    fleet.ahead_s += LEASE_S + 1
    redis_server.restart()

    def back() -> bool:
        limiter.ask(wish("probe"))
        return bool(limiter._gone)

    wait_until(back, 5, lambda: "Redis is not asked")
    assert limiter._gone == {"t", "s"}
    assert not limiter.holds("s")
    again = limiter.login(slot)
    assert again is not None
    assert again.rule == "connection lost"
    limiter.report([Report("t", 1, 1)])
    assert not limiter.holds("t")
    limiter.report([Report("t", 0)])
    limiter.close_slot(slot)
    assert limiter._gone == set()


def test_a_younger_memory_is_not_forgotten_again(
    redis_server: PrivateRedis, fleet_of: Callable[[int], Fleet]
) -> None:
    """Of two processes that shared, one has Redis forget; the other finds a memory that began after its last mail."""
    fleet = fleet_of(2)
    both = fleet.process(), fleet.process()
    for limiter in both:
        fleet.keep(limiter)
    with redis_server.frozen():
        for limiter in both:
            limiter.renew()
        fleet.ahead_s += LEASE_S + SURE_S + 1
        for number, limiter in enumerate(both):
            fleet.keep(limiter)
            granted(limiter.ask(wish(f"t{number}")))
        fleet.ahead_s += 1
    first, second = both
    wait_until(lambda: ready_in_s(first) < LEASE_S - 0.5, 5, lambda: f"ready in {ready_in_s(first)}")
    wait_until(lambda: ready_in_s(second) < LEASE_S, 5, lambda: "Redis is not asked again")
    assert ready_in_s(second) < LEASE_S - 0.5


def ready_in_s(limiter: SharingLimiter) -> float:
    """How long Redis, which must know that it knows nothing, is not open; a lease while it is not asked."""
    limiter.renew()
    try:
        wait_s = limiter.usage("default").ready_in_s
    except LimiterUnavailable:
        return LEASE_S
    assert wait_s > 0
    return wait_s


@pytest.mark.parametrize("emptied", [False, True], ids=["memory kept", "memory lost"])
def test_no_window_is_over(
    redis_server: PrivateRedis, fleet_of: Callable[[int], Fleet], *, emptied: bool
) -> None:
    """Two processes that send all they may, before, while and after Redis is away, never exceed the limits together."""
    fleet, stop, tokens = fleet_of(2), threading.Event(), itertools.count()
    both = [fleet.process(), fleet.process()]
    failed: list[Exception] = []

    def run(limiter: SharingLimiter, seed: int) -> None:
        rng, kept_at = random.Random(seed), -1.0
        try:
            while not stop.is_set():
                if fleet.now() - kept_at > 0.3:
                    kept_at = fleet.now()
                    fleet.keep(limiter)
                if not fleet.send(limiter, f"m{next(tokens)}", rng.uniform(0, 0.03)):
                    stop.wait(0.02)
        except Exception as error:  # noqa: BLE001 - told by the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=run, args=(limiter, seed)) for seed, limiter in enumerate(both)]
    for thread in threads:
        thread.start()

    def comes(after: int, until_s: float, what: str) -> int:
        wait_until(lambda: len(fleet.sent) >= after or bool(failed), until_s, lambda: what)
        return len(fleet.sent)

    try:
        before = comes(25, 20, "with Redis")
        if emptied:
            redis_server.kill()
        else:
            redis_server.freeze()
        meanwhile = comes(before + 25, 30, "without Redis")
        if emptied:
            redis_server.restart()
        else:
            redis_server.thaw()
        wait_until(lambda: all(one._redis.away is None for one in both), 5, lambda: "Redis is not found")
        back = len(fleet.sent)
        assert back >= meanwhile
        comes(back + 25, 20, "with Redis again")
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert not failed
    assert fleet.worst(2.0) <= 20
    assert fleet.worst(2.0) >= 15
