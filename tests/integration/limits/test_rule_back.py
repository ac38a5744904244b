"""A rule that was in nobody's limits for a while, with a real Redis and a real database: it is compared, not believed."""

import struct

import pytest
from redis import Redis
from sqlalchemy import Engine

from mailfleet_workers.limits.base import Refusal, Report
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.seeding import HEARD_S
from tests.conformance.limits.kinds import HOST, granted, wish
from tests.integration.limits.telling import DAY, Make, attempted, lived, used
from tests.waiting import wait_until


def unheard_for(url: str, seconds: float) -> None:
    """As if nobody had had the day's rule in his limits for so long."""
    with Redis.from_url(url) as client:
        (key,) = client.keys("*:r:a:default:m:86400000")
        head = list(struct.unpack("<7d", client.getrange(key, 0, 55)))
        head[6] -= seconds * 1000
        client.setrange(key, 0, struct.pack("<7d", *head))


def test_a_rule_that_comes_back_is_told_again(process: Make, redis_url: str, postgres_engine: Engine) -> None:
    """What was sent while nobody had it in his limits it has not counted; what is in flight it knows."""
    limiter, seeding = process(DAY)
    assert seeding.run_once()
    granted(limiter.ask(wish("before", 5)))
    limiter.report([Report("before", 0)])
    granted(limiter.ask(wish("in-flight", 2)))
    limiter.renew()
    unheard_for(redis_url, 16.0)
    attempted(postgres_engine, 7, age_s=5.0)
    later, telling = process(DAY)
    assert isinstance(later.ask(wish("early")), Refusal)
    assert [[one.rate for _, one, _ in lacking.rules] for lacking in later.unready()] == [[DAY.rules[0].rate]]
    assert telling.run_once()
    assert used(later) == [9]
    granted(later.ask(wish("late")))


def test_a_rule_that_comes_back_while_others_send_is_told_as_a_new_one(
    process: Make, redis_url: str, postgres_engine: Engine
) -> None:
    """From its first question on nothing is granted, until all have heard of it and a lease is over."""
    lived(postgres_engine)
    now = [0.0]
    limiter, seeding = process(DAY, lease_s=1.0, clock=lambda: now[0])
    wait_until(seeding.run_once, 30, lambda: "nothing was told")
    granted(limiter.ask(wish("before", 5)))
    limiter.report([Report("before", 0)])
    limiter.book.replace({"default": Limits("default", HOST)})
    assert seeding.run_once()
    granted(limiter.ask(wish("free", 60)))
    attempted(postgres_engine, 60)
    unheard_for(redis_url, 16.0)
    limiter.book.replace({"default": DAY})
    assert isinstance(limiter.ask(wish("early", 60)), Refusal)
    limiter.renew()
    for waited_s in (0.0, 1.0 + HEARD_S - 0.1):
        now[0] = waited_s
        assert not seeding.run_once()
        assert isinstance(limiter.ask(wish(f"after-{waited_s}")), Refusal)
    now[0] = 1.0 + HEARD_S
    assert seeding.run_once()
    assert granted(limiter.ask(wish("rest", 60))).permits == 40


def test_a_fleet_that_was_killed_and_comes_back_later_waits(
    process: Make, redis_url: str, postgres_engine: Engine
) -> None:
    """After more than fifteen seconds, while a dead worker may still be thought alive: as if its limits were new."""
    before, told = process(DAY)
    assert told.run_once()
    granted(before.ask(wish("before", 5)))
    before.report([Report("before", 0)])
    unheard_for(redis_url, 20.0)
    with Redis.from_url(redis_url) as client:
        (host,) = client.keys(f"*{{{HOST}}}")
        (began_ms,) = struct.unpack("<d", client.getrange(host, 0, 7))
        client.setrange(host, 0, struct.pack("<d", began_ms - 60_000))
    lived(postgres_engine, heard_s=20.0)
    now = [0.0]
    limiter, seeding = process(DAY, lease_s=1.0, quiet_s=30.0, clock=lambda: now[0])
    assert not seeding.run_once()
    assert isinstance(limiter.ask(wish("early")), Refusal)
    now[0] = 1.0 + HEARD_S
    assert seeding.run_once()
    assert used(limiter) == [5]


@pytest.mark.parametrize("hears", ["renew", "ask"])
def test_who_is_heard_keeps_a_rule(process: Make, redis_url: str, hears: str) -> None:
    """Renewing or asking, a little late is not too late: nothing is told again."""
    limiter, seeding = process(DAY)
    assert seeding.run_once()
    granted(limiter.ask(wish("before", 5)))
    limiter.report([Report("before", 0)])
    for number in range(2):
        unheard_for(redis_url, 10.0)
        if hears == "ask":
            granted(limiter.ask(wish(f"one-{number}")))
        else:
            limiter.renew()
    assert seeding.run_once()
    assert used(limiter) == [5 + 2 * (hears == "ask")]


@pytest.mark.parametrize(("sent_s", "most"), [([5.0] * 3, 8), ([5.0] * 20, 20), ([], 8), ([400.0] * 6, 8)])
def test_what_is_told_again_is_what_is_known_or_more(
    process: Make, redis_url: str, postgres_engine: Engine, sent_s: list[float], most: int
) -> None:
    """After a long silence: the database lacks what never came to its dot, the rule lacks what it did not see."""
    limiter, seeding = process(DAY)
    assert seeding.run_once()
    granted(limiter.ask(wish("before", 8)))
    limiter.report([Report("before", 0)])
    unheard_for(redis_url, 20.0)
    for age_s in sent_s:
        attempted(postgres_engine, 1, age_s=age_s)
    limiter.renew()
    assert isinstance(limiter.ask(wish("early")), Refusal)
    assert seeding.run_once()
    assert used(limiter) == [most]


def test_a_rule_that_is_told_at_a_start_is_told_once(
    process: Make, redis_url: str, postgres_engine: Engine
) -> None:
    """Whoever looks first and asks later is granted: who looks is heard."""
    limiter, seeding = process(DAY)
    assert seeding.run_once()
    granted(limiter.ask(wish("before", 5)))
    limiter.report([Report("before", 0)])
    unheard_for(redis_url, 40.0)
    attempted(postgres_engine, 60, age_s=30.0)
    later, telling = process(DAY)
    assert telling.run_once()
    assert granted(later.ask(wish("late", 60))).permits == 40


@pytest.mark.parametrize("hears", ["renew", "ask", "refused"])
def test_who_is_heard_prolongs_a_rule(process: Make, redis_url: str, hears: str) -> None:
    """Its key never expires while somebody has it in his limits, whether anything is sent or not."""
    limiter, seeding = process(DAY)
    assert seeding.run_once()
    granted(limiter.ask(wish("before", 100 if hears == "refused" else 5)))
    with Redis.from_url(redis_url) as client:
        (key,) = client.keys("*:r:a:default:m:86400000")
        client.expire(key, 60)
        unheard_for(redis_url, 2.0)
        if hears == "renew":
            limiter.renew()
        else:
            assert isinstance(limiter.ask(wish("later")), Refusal) is (hears == "refused")
        assert client.ttl(key) > 2 * 86_400


def test_what_another_version_has_left_is_not_read(process: Make, redis_url: str) -> None:
    """Values are written in another way there: it is another memory, which is told anew."""
    limiter, seeding = process(DAY)
    assert seeding.run_once()
    granted(limiter.ask(wish("before", 5)))
    with Redis.from_url(redis_url) as client:
        (host,) = client.keys(f"*{{{HOST}}}")
        value = client.get(host)
        assert value.endswith(b" 3")
        client.set(host, value[:-2], keepttl=True)
    assert isinstance(limiter.ask(wish("early")), Refusal)
    limiter.renew()
    wait_until(seeding.run_once, 30, lambda: "nothing was told")
    granted(limiter.ask(wish("after")))
