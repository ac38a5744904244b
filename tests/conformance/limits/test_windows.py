"""Rules: how many permits any window lets through, and when the next is free."""

import math

import pytest

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Report
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.rule import Rule
from tests.conformance.limits.conftest import WorldOf
from tests.conformance.limits.kinds import HOST, granted, of_host, recipients, refused, rule, wish


def limited(*rules: Rule, account: str = "default", reserve: float = 0.1) -> Limits:
    return Limits(account, HOST, rules, reserve=reserve)


def test_as_many_as_fit_are_granted(world_of: WorldOf) -> None:
    """Of a group as many permits are granted as every rule has left, and then none."""
    limiter = world_of(limited(rule("10/s"), rule("7/min"))).limiter
    assert granted(limiter.ask(wish("t1", 5))).permits == 5
    assert granted(limiter.ask(wish("t2", 64))).permits == 2
    refusal = refused(limiter.ask(wish("t3", 64)))
    assert refusal.rule == "account messages 7/min"
    assert 0 < refusal.wait_s < 61.1
    assert not refusal.slot


def test_the_rule_that_frees_last_is_named(world_of: WorldOf) -> None:
    """Where several rules are used up, the refusal says for which one the wait is."""
    limiter = world_of(limited(rule("5/s"), rule("5/10s"), rule("5/2s"))).limiter
    granted(limiter.ask(wish("t1", 5)))
    limiter.report([Report("t1", 0)])
    refusal = refused(limiter.ask(wish("t2")))
    assert refusal.rule == "account messages 5/10s"
    assert refusal.wait_s > 10


def test_a_refusal_takes_nothing(world_of: WorldOf) -> None:
    """Of several rules all are taken or none: what one refuses does not count in the others."""
    shared = of_host("10/min")
    world = world_of(limited(rule("1/min"), shared), limited(shared, account="other"))
    granted(world.limiter.ask(wish("t1")))
    for number in range(20):
        refused(world.limiter.ask(wish(f"again{number}")))
    assert granted(world.limiter.ask(wish("t2", 20, account="other"))).permits == 9


def test_a_host_is_shared_by_its_accounts(world_of: WorldOf) -> None:
    """A host's rule counts what all accounts on it send; an account's rule its own only."""
    shared = of_host("10/min")
    limiter = world_of(limited(rule("8/min"), shared), limited(shared, account="other")).limiter
    assert granted(limiter.ask(wish("t1", 20))).permits == 8
    assert granted(limiter.ask(wish("t2", 20, account="other"))).permits == 2
    assert refused(limiter.ask(wish("t3", account="other"))).rule == "host messages 10/min"


@pytest.mark.tinymail("D27")
def test_accounts_do_not_disturb_each_other(world_of: WorldOf) -> None:
    """What one account has used up is no matter to another."""
    limiter = world_of(limited(rule("1/min")), limited(rule("1/min"), account="other")).limiter
    granted(limiter.ask(wish("t1")))
    refused(limiter.ask(wish("t2")))
    granted(limiter.ask(wish("t3", account="other")))


def test_an_account_without_limits_is_granted_at_once(world_of: WorldOf) -> None:
    """Neither one that nobody knows nor one with nothing set waits for anything."""
    limiter = world_of(Limits("free", HOST), limited(rule("1/min"))).limiter
    for account in ("free", "unknown"):
        for number in range(100):
            grant = granted(
                limiter.ask(wish(f"{account}{number}", 64, account=account, slot=f"s{account}{number}"))
            )
            assert grant.permits == 64
            assert grant.slot is not None
            assert limiter.holds(grant.token)


def test_recipients_are_counted_as_well(world_of: WorldOf) -> None:
    """A rule for recipients counts those of each mail; as many mails are granted, in order, as fit."""
    limiter = world_of(limited(rule("100/min"), recipients("10/min"))).limiter
    assert granted(limiter.ask(wish("t1", to=(4, 4, 4, 1)))).permits == 2
    assert refused(limiter.ask(wish("t2", to=(3, 1)))).rule == "account recipients 10/min"
    assert granted(limiter.ask(wish("t3", to=(2, 1)))).permits == 1


def test_a_mail_that_can_never_pass_waits_for_ever(world_of: WorldOf) -> None:
    """More recipients than a rule allows in its whole window: an infinite wait, not one that is told again and again."""
    limiter = world_of(limited(recipients("10/min"))).limiter
    refusal = refused(limiter.ask(wish("t1", to=(11,))))
    assert math.isinf(refusal.wait_s)
    assert refusal.rule == "account recipients 10/min"
    assert granted(limiter.ask(wish("t2", to=(9, 11, 1)))).permits == 1


def test_a_permit_counts_until_one_window_after_its_finish(world_of: WorldOf) -> None:
    """However long a server takes: what it has not answered counts, and then for one window more."""
    world = world_of(limited(rule("2/s")))
    assert granted(world.limiter.ask(wish("t1", 2))).permits == 2
    for _ in range(5):
        world.pass_s(1)
        world.limiter.renew()
        refused(world.limiter.ask(wish("early")))
    world.limiter.report([Report("t1", 1, 1)])
    world.pass_s(0.99)
    refused(world.limiter.ask(wish("early")))
    world.pass_s(0.03)
    assert granted(world.limiter.ask(wish("t2", 2))).permits == 1


def test_reports_come_with_the_next_question(world_of: WorldOf) -> None:
    """What a question reports is finished before it is answered."""
    world = world_of(limited(rule("2/s")))
    granted(world.limiter.ask(wish("t1", 2)))
    refused(world.limiter.ask(wish("t2"), [Report("t1", 0)]))
    world.pass_s(1.02)
    assert granted(world.limiter.ask(wish("t3", 2))).permits == 2


def test_what_was_not_used_is_given_back(world_of: WorldOf) -> None:
    """Permits and recipients of mails of which a server was told nothing are free at once."""
    limiter = world_of(limited(rule("4/min"), recipients("8/min"))).limiter
    assert granted(limiter.ask(wish("t1", to=(2, 2, 2, 2)))).permits == 4
    limiter.report([Report("t1", 0, 0, 3, 6)])
    assert granted(limiter.ask(wish("t2", to=(2, 2, 1, 1)))).permits == 3
    refused(limiter.ask(wish("t3")))


def test_reports_may_be_repeated(world_of: WorldOf) -> None:
    """Reports say absolute numbers: repeated or late ones change nothing, and unknown tokens are nobody's."""
    world = world_of(limited(rule("6/s"), recipients("12/s")))
    granted(world.limiter.ask(wish("t1", to=(2,) * 6)))
    for _ in range(3):
        world.limiter.report([Report("t1", 3, 6, 1, 2), Report("nobody's", 1, 1, 5, 5)])
    world.limiter.report([Report("t1", 5, 10)])
    assert granted(world.limiter.ask(wish("t2", to=(2,) * 6))).permits == 1
    world.pass_s(1.02)
    assert granted(world.limiter.ask(wish("t3", to=(2,) * 6))).permits == 2
    world.limiter.report([Report("t1", 6, 12)])
    refused(world.limiter.ask(wish("t4")))


def test_what_was_given_back_is_not_given_back_again(world_of: WorldOf) -> None:
    """A later report repeats what was unused before: the mails finished since then are sent."""
    limiter = world_of(limited(rule("6/min"))).limiter
    granted(limiter.ask(wish("t1", 6)))
    limiter.report([Report("t1", 3, 3, 1, 1)])
    limiter.report([Report("t1", 1, 1, 1, 1)])
    limiter.report([Report("t1", 0, 0, 2, 2)])
    assert granted(limiter.ask(wish("t2", 6))).permits == 2


def test_the_same_token_takes_once(world_of: WorldOf) -> None:
    """A question repeated after a lost answer is answered as before, and takes nothing more."""
    limiter = world_of(limited(rule("5/min"))).limiter
    for _ in range(3):
        assert granted(limiter.ask(wish("t1", 3))).permits == 3
    assert granted(limiter.ask(wish("t2", 5))).permits == 2


def test_bulk_cannot_use_the_reserve(world_of: WorldOf) -> None:
    """The last part of a limit is not for bulk; high and normal use it, and nobody more than the limit."""
    limiter = world_of(limited(rule("10/min"), reserve=0.2)).limiter
    assert granted(limiter.ask(wish("t1", 20, priority=Priority.BULK))).permits == 8
    assert refused(limiter.ask(wish("t2", priority=Priority.BULK))).rule == "account messages 10/min"
    assert granted(limiter.ask(wish("t3", priority=Priority.NORMAL))).permits == 1
    assert granted(limiter.ask(wish("t4", 20, priority=Priority.HIGH))).permits == 1
    refused(limiter.ask(wish("t5", priority=Priority.HIGH)))


def test_a_limit_of_one_has_no_reserve(world_of: WorldOf) -> None:
    """Bulk is sent where a limit is too small to keep a part of it."""
    limiter = world_of(limited(rule("1/min"), reserve=0.9)).limiter
    granted(limiter.ask(wish("t1", priority=Priority.BULK)))


def test_a_bulk_mail_larger_than_its_part_goes_alone(world_of: WorldOf) -> None:
    """A mail with more recipients than bulk may use, but no more than the limit, passes when nothing else counts."""
    world = world_of(limited(recipients("10/s"), reserve=0.2))
    granted(world.limiter.ask(wish("t1", priority=Priority.BULK)))
    world.limiter.report([Report("t1", 0)])
    refusal = refused(world.limiter.ask(wish("t2", to=(10,), priority=Priority.BULK)))
    world.pass_s(refusal.wait_s)
    granted(world.limiter.ask(wish("t2", to=(10,), priority=Priority.BULK)))


def test_little_that_is_left_is_tight(world_of: WorldOf) -> None:
    """A grant says when little is left, so that what is finished is reported at once."""
    limiter = world_of(limited(rule("100/min"))).limiter
    assert not granted(limiter.ask(wish("t1", 10))).tight
    assert granted(limiter.ask(wish("t2", 85))).tight


@pytest.mark.parametrize(
    "rules",
    [
        (rule("5/s"),),
        (rule("1/300ms"),),
        (rule("30/min"),),
        (rule("100/h"), rule("7/s")),
        (rule("10000/d"), rule("3/s"), recipients("9/2s"), of_host("5/s")),
    ],
)
@pytest.mark.parametrize("size", [1, 3])
def test_the_wait_of_one_alone_is_right_to_20_ms(
    world_of: WorldOf, rules: tuple[Rule, ...], size: int
) -> None:
    """Whoever waits alone passes after the wait it is told, and 20 ms earlier it does not."""
    world = world_of(limited(*rules))
    told = 0
    for number in range(120):
        token = f"t{number}"
        answer = world.limiter.ask(wish(token, to=(size,)))
        if hasattr(answer, "permits"):
            world.limiter.report([Report(token, 0)])
            world.pass_s(0.0173)
            continue
        told += 1
        world.pass_s(max(0.0, answer.wait_s - 0.020))
        refused(world.limiter.ask(wish("early", to=(size,))))
        world.pass_s(min(0.020, answer.wait_s) + 0.0001)
        granted(world.limiter.ask(wish(token, to=(size,))))
        world.limiter.report([Report(token, 0)])
    assert told >= 2
