"""What a process holds of Redis's limits while Redis is away, empty, or answers at a bad moment."""

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis import Redis

from mailfleet_workers.limits.base import Grant, LimiterUnavailable, Login, Refusal, Report, Slot
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.redis import RedisLimiter
from mailfleet_workers.limits.redis_script import Script, Words
from tests.conformance.limits.kinds import HOST, LEASE_S, granted, refused, rule, timed_by, wish

LIMITS = Limits("default", HOST, (rule("10/s"),), connections=2)
CREDENTIALS = Limits("login", HOST, login=True)


class Unsteady(Script):
    """The script behind a network that can fail; what is in `meanwhile` happens once, between a question and its way."""

    away = False
    meanwhile: dict[str, Callable[[], None]]

    def call(self, host: str, operation: str, *words: Any, epoch: str | None = None) -> tuple[str, list[Any]]:
        if self.away:
            raise LimiterUnavailable("away")

        def said(known: str) -> Words:
            one: Words = words[0](known)
            self.meanwhile.pop(operation, lambda: None)()
            return one

        if words and callable(words[0]):
            return super().call(host, operation, said, epoch=epoch)
        self.meanwhile.pop(operation, lambda: None)()
        return super().call(host, operation, *words, epoch=epoch)


@dataclass
class Hall:
    """Processes over one Redis, on a clock that stands still."""

    client: "Redis"
    url: str
    now_s: float = 1000.0
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    made: list[RedisLimiter] = field(default_factory=list)

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        self.client.set(self.name, f"{self.now_s * 1000:.3f}")

    def process(self) -> tuple[RedisLimiter, Unsteady]:
        book = Book({one.account: one for one in (LIMITS, CREDENTIALS)})
        script = Unsteady(self.url, lease_s=LEASE_S, text=timed_by(self.name))
        script.meanwhile = {}
        limiter = RedisLimiter(
            "", book, instance=self.name, lease_s=LEASE_S, clock=lambda: self.now_s, script=script
        )
        self.made.append(limiter)
        self.tell(limiter)
        return limiter, script

    def tell(self, limiter: RedisLimiter) -> None:
        for lacking in limiter.unready():
            told = [(name, ()) for name, _, _ in lacking.rules]
            limiter.seed(lacking.host, told, epoch=lacking.epoch)

    def empty(self) -> None:
        """Redis forgets everything but the time."""
        self.client.flushall()
        self.pass_s(0.01)

    def back(self, script: Unsteady) -> None:
        """Redis answers again, and those that found it away ask it."""
        script.away = False
        self.pass_s(1.0)

    def slots(self) -> list[object]:
        """The tokens of the host's slots."""
        keys = self.client.keys(f"*{self.name}*:slots")
        return [token for key in keys for token in self.client.zrange(key, 0, -1)]


@pytest.fixture
def hall(redis_url: str) -> Iterator[Hall]:
    with Redis.from_url(redis_url) as client:
        one = Hall(client, redis_url)
        one.pass_s(0)
        yield one
        for limiter in one.made:
            limiter.close()


def opened(limiter: RedisLimiter, name: str, account: str = "default") -> Slot:
    slot = granted(limiter.ask(wish(f"t{name}", account=account, slot=f"s{name}"))).slot
    assert slot is not None
    limiter.report([Report(f"t{name}", 0)])
    return slot


def test_a_lapsed_lease_is_not_taken_into_a_new_memory(hall: Hall) -> None:
    """What another process may have by now is not ours because Redis forgot that; what we hold for certain is."""
    sleeper, _ = hall.process()
    granted(sleeper.ask(wish("old", 2)))
    slot = opened(sleeper, "old")
    hall.pass_s(LEASE_S)
    granted(sleeper.ask(wish("young", 3)))
    young = opened(sleeper, "young")
    hall.empty()
    assert sleeper.renew().lost == (slot,)
    assert [sleeper.holds(token) for token in ("old", "sold", "young", "syoung")] == [
        False,
        False,
        True,
        True,
    ]
    hall.tell(sleeper)
    assert sleeper.usage("default").rules[0].in_flight == 2 + 3
    # Its connection is open still, and its mails may be at the server.
    assert sleeper.usage("default").connections == 2
    sleeper.close_slot(slot)
    assert hall.slots() == [young.token.encode()]


def test_what_is_lost_counts_as_long_as_it_lasts(hall: Hall) -> None:
    """After a loss a conversation of a minute keeps its place and its permits, though it holds neither."""
    limiter, _ = hall.process()
    granted(limiter.ask(wish("long", 4)))
    slot = opened(limiter, "long")
    hall.pass_s(LEASE_S)
    hall.empty()
    assert limiter.renew().lost == (slot,)
    hall.tell(limiter)
    other, _ = hall.process()
    for _ in range(6):
        hall.pass_s(LEASE_S * 0.6)
        assert not limiter.renew().lost
        assert not limiter.holds("long")
        assert not limiter.holds(slot.token)
        usage = other.usage("default")
        assert (usage.connections, usage.rules[0].in_flight) == (1, 4)
    limiter.report([Report("long", 0)])
    limiter.close_slot(slot)
    usage = other.usage("default")
    assert (usage.connections, usage.rules[0].in_flight, usage.rules[0].used) == (0, 0, 4)


def test_a_slot_that_others_have_counts_as_long_as_it_is_open(hall: Hall) -> None:
    """Who slept through its lease has one connection too many: none is opened for those that are closed meanwhile."""
    limiter, _ = hall.process()
    other, _ = hall.process()
    slot = opened(limiter, "sleeps")
    for _ in range(4):
        hall.pass_s(LEASE_S * 0.3)
        other.renew()
    opened(other, "one")
    second = opened(other, "two")
    assert limiter.renew().lost == (slot,)
    limiter.renew()
    other.close_slot(second)
    for _ in range(4):
        hall.pass_s(LEASE_S * 0.6)
        assert not limiter.renew().lost
        other.renew()
        assert not limiter.holds(slot.token)
        assert refused(other.ask(wish("t3", slot="s3"))).slot
    limiter.close_slot(slot)
    opened(other, "three")


def test_what_was_granted_without_redis_is_taken_over(hall: Hall) -> None:
    """It does not hold until Redis knows of it, and holds from then on, in whichever epoch that is."""
    partly, _ = hall.process()
    whole, _ = hall.process()
    granted(partly.ask(wish("t1", 2)))
    slot = opened(partly, "one")
    grants, slots = partly.held()
    for one in (*grants, *slots):
        one.epoch, one.until = "", float("-inf")
    partly.close_slot(slot)
    partly.report([Report("t1", 0)])
    whole.take_over(grants, slots)
    assert not whole.holds("t1")
    assert not whole.renew().lost
    assert whole.holds("t1")
    assert whole.holds(slot.token)
    assert hall.slots() == [slot.token.encode()]


def test_a_memory_is_told_what_it_lacks_itself(hall: Hall) -> None:
    """What was found for one memory says nothing to the next, which may be lost while somebody counts."""
    limiter, _ = hall.process()
    hall.empty()
    lacking = list(limiter.unready())
    hall.empty()
    hall.pass_s(3.0)
    told = [(name, ()) for name, _, _ in lacking[0].rules]
    for _ in range(2):
        limiter.seed(HOST, told, epoch=lacking[0].epoch)
        assert refused(limiter.ask(wish("early"))).rule == "not ready"
    hall.tell(limiter)
    granted(limiter.ask(wish("then")))


def test_who_hears_nothing_of_redis_loses_its_slots(hall: Hall) -> None:
    """Each is reported once when its lease is over; those that are left are ours again when Redis answers."""
    limiter, script = hall.process()
    slot = opened(limiter, "one")
    script.away = True
    hall.pass_s(LEASE_S - 2)
    assert not limiter.renew().lost
    hall.pass_s(2)
    assert limiter.renew().lost == (slot,)
    assert not limiter.renew().lost
    hall.back(script)
    assert not limiter.renew().lost
    assert limiter.holds(slot.token)
    script.away = True
    hall.pass_s(LEASE_S)
    assert limiter.renew().lost == (slot,)


def test_a_slot_closed_while_it_is_renewed_stays_closed(hall: Hall) -> None:
    """Whichever comes first, the slot is free, after its second where nobody said goodbye."""
    limiter, script = hall.process()
    first, second = opened(limiter, "one"), opened(limiter, "two")

    def close() -> None:
        limiter.close_slot(first)
        limiter.close_slot(second, linger_s=1.0)

    script.meanwhile["renew"] = close
    limiter.renew()
    assert hall.slots() == [second.token.encode()]
    hall.pass_s(1.1)
    opened(limiter, "three")
    opened(limiter, "four")
    limiter.renew()


def test_a_permit_finished_while_a_new_memory_is_told_of_it_is_not_in_flight(hall: Hall) -> None:
    """Its end and its adoption cross: it has ended."""
    limiter, script = hall.process()
    granted(limiter.ask(wish("t1", 3)))
    hall.empty()
    assert list(limiter.unready())
    script.meanwhile["renew"] = lambda: limiter.report([Report("t1", 0)])
    limiter.renew()
    hall.tell(limiter)
    assert limiter.usage("default").rules[0].in_flight == 0


@pytest.mark.parametrize("away_s", [1.0, LEASE_S + 5])
def test_a_refused_login_is_not_forgotten(hall: Hall, away_s: float) -> None:
    """What a server said of a password while Redis was away counts when it is back, before anybody logs in."""
    limiter, script = hall.process()
    slots = [opened(limiter, f"{number}", "login") for number in range(3)]
    script.away = True
    for slot in slots:
        limiter.logged_in(slot, Login.REFUSED)
        limiter.close_slot(slot)
    hall.pass_s(away_s)
    hall.back(script)
    answer = limiter.ask(wish("next", account="login", slot="next"))
    assert isinstance(answer, Refusal)
    assert answer.rule == "login refused"


def test_a_refused_login_is_told_before_its_slot_is_free(hall: Hall) -> None:
    """Who closes its connection waits for the thread that tells of its refusal, and of others before it."""
    limiter, script = hall.process()
    slots = [opened(limiter, f"{number}", "login") for number in range(3)]
    script.away = True
    for slot in slots:
        limiter.logged_in(slot, Login.REFUSED)
    hall.back(script)
    tells, asked = threading.Event(), threading.Event()
    answers: list[Grant | Refusal] = []

    def slowly() -> None:
        tells.set()
        asked.wait(0.5)  # it must not be asked meanwhile

    def close() -> None:
        limiter.close_slot(slots[2])
        answers.append(limiter.ask(wish("next", account="login", slot="next")))
        asked.set()

    script.meanwhile["logged_in"] = slowly
    threads = [threading.Thread(target=limiter.renew), threading.Thread(target=close)]
    for thread in threads:
        thread.start()
        assert tells.wait(10)
    for thread in threads:
        thread.join(10)
    assert [refused(answer).rule for answer in answers] == ["login refused"]


def test_a_refused_login_that_nobody_heard_is_in_progress(hall: Hall) -> None:
    """The end of its connection, where Redis hears that alone, does not end it: nobody tries in its place."""
    limiter, script = hall.process()
    slots = [opened(limiter, f"{number}", "login") for number in range(3)]

    def fail() -> None:
        raise LimiterUnavailable("away")

    script.meanwhile["logged_in"] = fail
    limiter.logged_in(slots[0], Login.REFUSED)
    hall.back(script)
    assert limiter.usage("login").login_failures == 0
    script.meanwhile["logged_in"] = fail
    # Redis answers again between the two calls.
    limiter._presence._told = lambda _: hall.pass_s(1.0)
    limiter.close_slot(slots[0])
    other, _ = hall.process()
    assert refused(other.ask(wish("next", account="login", slot="next"))).rule == "logins in progress"
    limiter.renew()
    assert limiter.usage("login").login_failures == 1
    limiter.logged_in(slots[1], Login.DONE)
    assert limiter.usage("login").login_failures == 0


def test_a_refusal_said_twice_is_one(hall: Hall) -> None:
    """An answer that was lost makes the same refusal known again; another login with that slot is another one."""
    limiter, _ = hall.process()
    slot = opened(limiter, "one", "login")
    for _ in range(4):
        limiter.logged_in(slot, Login.REFUSED)
    assert limiter.usage("login").login_failures == 1
    assert limiter.login(slot) is None
    limiter.logged_in(slot, Login.REFUSED)
    assert limiter.usage("login").login_failures == 2


def test_permits_in_flight_are_known_as_long_as_their_host(hall: Hall) -> None:
    """The key of permits in flight lives as long as the host's own, from the first call on."""
    limiter, _ = hall.process()
    granted(limiter.ask(wish("t1")))
    (host,) = hall.client.keys(f"mailfleet:{hall.name}:{{{HOST}}}")
    (grants,) = hall.client.keys(f"*{hall.name}*:grants")
    days = 86_400_000
    assert all(39 * days < hall.client.pttl(key) <= 40 * days for key in (host, grants))
