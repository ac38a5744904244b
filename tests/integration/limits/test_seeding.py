"""A real Redis that has lost its memory is told by a real database what was sent, and grants nothing before."""

import time
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from mailfleet_schema.statements.sent import Sent, sent
from mailfleet_workers.limits.base import Refusal, Report
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.redis import RedisLimiter
from mailfleet_workers.limits.seeding import HEARD_S, Seeding
from mailfleet_workers.pulse import boottime
from tests.conformance.limits.kinds import HOST, granted, of_host, recipients, rule, wish
from tests.integration.limits.telling import DAY, LEASE_S, Make, attempted, forget, lived, used
from tests.waiting import wait_until


def test_a_new_fleet_begins_at_once(process: Make) -> None:
    """A fresh Redis grants nothing unasked; told by one pass, with no older worker to wait for, it grants."""
    limiter, seeding = process(DAY)
    assert isinstance(limiter.ask(wish("early")), Refusal)
    assert seeding.run_once()
    assert granted(limiter.ask(wish("first", 5))).permits == 5
    assert limiter.usage("default").ready_in_s == 0.0
    assert seeding.run_once()
    assert used(limiter) == [5]


def test_workers_that_start_together_do_not_wait_for_each_other(
    process: Make, postgres_engine: Engine
) -> None:
    """Their rows are as young as the memory: nobody can hold anything of a time before."""
    limiter, seeding = process(DAY)
    assert isinstance(limiter.ask(wish("early")), Refusal)
    for _ in range(3):
        lived(postgres_engine, started_s=0.0)
    assert seeding.run_once()
    granted(limiter.ask(wish("first")))


@pytest.mark.parametrize("heard_s", [0.0, LEASE_S / 2])
def test_a_lease_is_waited_for_where_others_lived(
    process: Make, postgres_engine: Engine, heard_s: float
) -> None:
    """An older worker may hold permits, also one that has just died: nothing is granted until its leases are over."""
    lived(postgres_engine, heard_s=heard_s)
    limiter, seeding = process(DAY)
    began = time.monotonic()
    refused = limiter.ask(wish("early"))
    assert isinstance(refused, Refusal)
    assert not seeding.run_once()
    assert isinstance(limiter.ask(wish("still-early")), Refusal)
    assert 0.0 < limiter.usage("default").ready_in_s <= LEASE_S
    wait_until(seeding.run_once, 30, lambda: "nothing was told")
    assert time.monotonic() - began >= LEASE_S - 0.1
    granted(limiter.ask(wish("in-time")))


def test_who_was_quiet_for_a_lease_is_not_waited_for(process: Make, postgres_engine: Engine) -> None:
    """A worker that died long ago holds nothing."""
    lived(postgres_engine, heard_s=LEASE_S + 30.0)
    limiter, seeding = process(DAY)
    assert seeding.run_once()
    granted(limiter.ask(wish("first")))


def test_a_day_is_remembered_by_the_database(process: Make, redis_url: str, postgres_engine: Engine) -> None:
    """After a loss the rule of a day counts what is in the database of that day, and lets no more than the rest pass."""
    limiter, seeding = process(DAY)
    assert seeding.run_once()
    assert used(limiter) == [0]
    attempted(postgres_engine, 40, age_s=3600.0)
    attempted(postgres_engine, 57, age_s=80_000.0)
    attempted(postgres_engine, 500, age_s=90_000.0)
    attempted(postgres_engine, 50, account="other")
    attempted(postgres_engine, 50, phase="connect", verdict="retry")
    forget(redis_url)
    assert isinstance(limiter.ask(wish("early")), Refusal)
    assert seeding.run_once()
    assert used(limiter) == [97]
    assert granted(limiter.ask(wish("rest", 10))).permits == 3
    refused = limiter.ask(wish("more"))
    assert isinstance(refused, Refusal)
    assert refused.rule == "account messages 100/d"
    # Those of 80,000 seconds ago are the first to leave the window; a step of it is what they may be told younger.
    assert 6400.0 - 60 < refused.wait_s <= 6400.0 + 86_400 / 120


def test_what_is_in_flight_counts_beside_what_was_sent(
    process: Make, redis_url: str, postgres_engine: Engine
) -> None:
    """A living worker says after the loss what it still holds; the database says the rest."""
    limiter, seeding = process(DAY)
    assert seeding.run_once()
    granted(limiter.ask(wish("held", 3)))
    attempted(postgres_engine, 5)
    forget(redis_url)
    limiter.renew()
    assert limiter.holds("held")
    assert seeding.run_once()
    (use,) = limiter.usage("default").rules
    assert (use.used, use.in_flight) == (8, 3)


def test_recipients_are_counted_by_their_rule(process: Make, postgres_engine: Engine) -> None:
    """A rule of recipients is told recipients, one of messages beside it messages."""
    limiter, seeding = process(Limits("default", HOST, (recipients("100/h"), rule("50/h"))))
    attempted(postgres_engine, 4, age_s=60.0, recipients=20)
    attempted(postgres_engine, 4, age_s=7200.0, recipients=20)
    assert seeding.run_once()
    assert used(limiter) == [80, 4]
    assert isinstance(limiter.ask(wish("wide", to=(30,))), Refusal)
    granted(limiter.ask(wish("narrow", to=(20,))))


def test_a_host_counts_all_its_accounts(process: Make, postgres_engine: Engine) -> None:
    """A rule of a host is told what went there by any account, one of an account its own only."""
    both = [Limits(name, HOST, (of_host("100/h"), rule("50/h"))) for name in ("default", "second")]
    limiter, seeding = process(*both)
    attempted(postgres_engine, 20, age_s=60.0)
    attempted(postgres_engine, 30, age_s=90.0, account="second")
    attempted(postgres_engine, 5, account="removed")
    attempted(postgres_engine, 40, host="mx.example.org")
    assert seeding.run_once()
    assert used(limiter, "second") == [55, 30]
    # What `default` sent elsewhere counts for the account too.
    assert used(limiter) == [55, 60]


def test_whose_heart_beats_seldom_is_waited_for(process: Make, postgres_engine: Engine) -> None:
    """Quiet for more than a lease, but not gone: it may hold permits, so a lease is waited for."""
    lived(postgres_engine, heard_s=2 * LEASE_S)
    limiter, seeding = process(DAY, quiet_s=30.0)
    assert not seeding.run_once()
    assert isinstance(limiter.ask(wish("early")), Refusal)
    _, quick = process(DAY)
    assert quick.run_once()


def test_a_rule_that_is_new_is_told_alone(process: Make, postgres_engine: Engine) -> None:
    """Set while others send, it is told when all have heard of it and a lease is over, also what they sent meanwhile."""
    lived(postgres_engine)
    now = [0.0]
    limiter, seeding = process(DAY, lease_s=1.0, clock=lambda: now[0])
    wait_until(seeding.run_once, 30, lambda: "nothing was told")
    granted(limiter.ask(wish("before", 2)))
    attempted(postgres_engine, 7, age_s=100.0)
    limiter.book.replace({"default": Limits("default", HOST, (*DAY.rules, rule("10/h")))})
    assert isinstance(limiter.ask(wish("early")), Refusal)
    for waited_s in (0.0, 2.0, 1.0 + HEARD_S - 0.1):
        now[0] = waited_s
        assert not seeding.run_once()
        assert isinstance(limiter.ask(wish(f"after-{waited_s}")), Refusal)
    attempted(postgres_engine, 1)  # by somebody who had not heard of it
    now[0] = 1.0 + HEARD_S
    assert seeding.run_once()
    assert used(limiter)[0] == 2
    assert used(limiter)[1] >= 8
    assert granted(limiter.ask(wish("rest", 10))).permits <= 2


def test_another_number_in_the_same_window_is_not_new(process: Make, postgres_engine: Engine) -> None:
    """It has the memory of the rule before it, in which everybody counts."""
    lived(postgres_engine)
    limiter, seeding = process(DAY, lease_s=1.0)
    wait_until(seeding.run_once, 30, lambda: "nothing was told")
    limiter.book.replace({"default": Limits("default", HOST, (rule("50/d"),))})
    assert seeding.run_once()
    assert granted(limiter.ask(wish("at-once", 60))).permits == 50


def test_a_rule_that_comes_while_all_is_forgotten_waits_by_itself(
    process: Make, redis_url: str, postgres_engine: Engine
) -> None:
    """What is known otherwise goes on a lease after the loss; the new rule's account waits for its own time."""
    lived(postgres_engine)
    now = [0.0]
    other = Limits("other", HOST, (rule("5/s"),))
    limiter, seeding = process(DAY, other, lease_s=1.0, clock=lambda: now[0])
    wait_until(seeding.run_once, 30, lambda: "nothing was told")
    forget(redis_url)
    limiter.renew()
    limiter.book.replace({"default": Limits("default", HOST, (*DAY.rules, rule("10/h"))), "other": other})
    assert not seeding.run_once()

    def goes() -> bool:
        assert not seeding.run_once()
        return not isinstance(limiter.ask(wish("other", account="other")), Refusal)

    wait_until(goes, 30, lambda: "nothing was told")
    assert isinstance(limiter.ask(wish("early")), Refusal)
    now[0] = 1.0 + HEARD_S
    assert seeding.run_once()
    granted(limiter.ask(wish("default")))


def test_a_process_that_starts_with_a_new_rule_waits_for_older_ones(
    process: Make, postgres_engine: Engine
) -> None:
    """Who started before it may have other limits; who started with it has the same, and is not waited for."""
    lease_s = 1.0
    _, older = process(DAY, lease_s=lease_s)
    assert older.run_once()
    lived(postgres_engine)
    now = [0.0]
    wider = Limits("default", HOST, (*DAY.rules, rule("10/h")))
    limiter, new = process(wider, lease_s=lease_s, clock=lambda: now[0])
    wait_until(lambda: next(limiter.unready()).age_s > lease_s, 30, lambda: "Redis has forgotten it")
    assert not new.run_once()
    assert isinstance(limiter.ask(wish("early")), Refusal)
    now[0] = lease_s + HEARD_S
    assert new.run_once()
    granted(limiter.ask(wish("late")))

    with postgres_engine.begin() as connection:
        connection.execute(text("DELETE FROM mailfleet.worker"))
    lived(postgres_engine, started_s=1.0)
    wider = Limits("default", HOST, (*wider.rules, rule("10/min")))
    limiter, together = process(wider, lease_s=lease_s)
    assert together.run_once()
    granted(limiter.ask(wish("at-once")))


@pytest.mark.parametrize(
    "error", [OperationalError("SELECT 1", {}, Exception("too long")), KeyError("default")]
)
def test_a_host_that_cannot_be_told_keeps_no_other_from_it(
    process: Make, postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """What fails for the first host is tried again with the next pass; the second one goes at once."""
    elsewhere = Limits("other", "mx.example.org", (rule("100/d"),))
    limiter, seeding = process(DAY, elsewhere)
    attempted(postgres_engine, 5)
    fails = [True]

    def failing(*given: Any, **options: Any) -> list[Sent]:
        if fails[0] and options["accounts"] == ["default"]:
            raise error
        return sent(*given, **options)

    monkeypatch.setattr("mailfleet_workers.limits.seeding.sent", failing)
    assert [one.host for one in limiter.unready()] == [HOST, elsewhere.host]
    for _ in range(2):
        assert not seeding.run_once()
        assert isinstance(limiter.ask(wish("early")), Refusal)
        assert used(limiter, "other") == [0]
    granted(limiter.ask(replace(wish("other", account="other"), host=elsewhere.host)))
    fails[0] = False
    assert seeding.run_once()
    assert used(limiter) == [5]
    granted(limiter.ask(wish("late")))


def test_a_rule_that_comes_while_others_are_told_is_new(
    process: Make, postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limits are replaced at any time, also while a long pass goes on: the rule waits for its own time all the same."""
    lived(postgres_engine)
    now = [0.0]
    limiter, seeding = process(DAY, lease_s=1.0, clock=lambda: now[0])

    def slow(*given: Any, **options: Any) -> list[Sent]:
        limiter.book.replace({"default": Limits("default", HOST, (*DAY.rules, rule("10/h")))})
        return sent(*given, **options)

    monkeypatch.setattr("mailfleet_workers.limits.seeding.sent", slow)
    wait_until(seeding.run_once, 30, lambda: "nothing was told")
    monkeypatch.undo()
    assert not seeding.run_once()
    assert isinstance(limiter.ask(wish("early")), Refusal)
    now[0] = 1.0 + HEARD_S
    assert seeding.run_once()
    granted(limiter.ask(wish("late")))


def test_two_processes_may_tell_it_at_once(process: Make, redis_url: str, postgres_engine: Engine) -> None:
    """Told twice nothing is counted twice."""
    (limiter, one), (second, other) = process(DAY), process(DAY)
    attempted(postgres_engine, 30)
    lacking = list(limiter.unready())
    for _ in range(2):
        told = [(name, [(0.0, 30)]) for each in lacking for name, _, _ in each.rules]
        limiter.seed(HOST, told, epoch=lacking[0].epoch)
    assert one.run_once()
    assert other.run_once()
    assert used(limiter) == [30]
    forget(redis_url)
    limiter.renew()
    assert one.run_once()
    second.renew()
    assert other.run_once()
    assert used(limiter) == [30]


def test_a_rule_that_was_long_unused_is_told_again(process: Make, redis_url: str) -> None:
    """Redis drops the key of a rule that nobody used for an hour: a pass tells it again, and mail goes."""
    limiter, seeding = process(Limits("default", HOST, (rule("10/s"),)))
    assert seeding.run_once()
    granted(limiter.ask(wish("before")))
    limiter.report([Report("before", 0)])
    with Redis.from_url(redis_url) as client:
        assert [client.delete(key) for key in client.keys("*:r:a:default:m:1000")] == [1]
    assert isinstance(limiter.ask(wish("early")), Refusal)
    limiter.renew()
    assert seeding.run_once()
    granted(limiter.ask(wish("after")))


def test_without_redis_nothing_is_told(process: Make, postgres_engine: Engine) -> None:
    """A Redis that does not answer is no error here: what is told is told when it is back."""
    limiter = RedisLimiter(
        "redis://127.0.0.1:1/0", Book({"default": DAY}), instance="seeding", clock=boottime
    )
    assert not Seeding(postgres_engine, limiter, lease_s=LEASE_S).run_once()
    limiter.close()
