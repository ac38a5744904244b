"""Limits that change while they are used: what is asked next is judged by the new ones, and what was granted counts."""

from dataclasses import replace

from mailfleet_workers.limits.base import Report
from mailfleet_workers.limits.book import Limits
from tests.conformance.limits.conftest import WorldOf
from tests.conformance.limits.kinds import HOST, LEASE_S, granted, refused, rule, wish

TEN = Limits("default", HOST, (rule("10/s"),), connections=3)


def with_rules(*texts: str) -> Limits:
    """The account with other rules."""
    return replace(TEN, rules=tuple(rule(text) for text in texts))


def test_a_limit_that_is_raised(world_of: WorldOf) -> None:
    """What is more than before is free at once, and no more than that."""
    world = world_of(TEN)
    granted(world.limiter.ask(wish("t1", 10)))
    refused(world.limiter.ask(wish("t2")))
    world.change(with_rules("15/s"))
    assert granted(world.limiter.ask(wish("t2", 20))).permits == 5
    refused(world.limiter.ask(wish("t3")))


def test_a_limit_that_is_lowered(world_of: WorldOf) -> None:
    """Nothing is granted until less than the new limit counts; what was in flight counts on."""
    world = world_of(TEN)
    granted(world.limiter.ask(wish("t1", 6)))
    world.limiter.report([Report("t1", 0)])
    world.pass_s(0.5)
    granted(world.limiter.ask(wish("t2", 4)))
    world.change(with_rules("5/s"))
    refused(world.limiter.ask(wish("t3")))
    world.pass_s(0.52)
    assert granted(world.limiter.ask(wish("t4", 10))).permits == 1
    world.limiter.report([Report("t2", 0), Report("t4", 0)])
    world.pass_s(1.02)
    assert granted(world.limiter.ask(wish("t5", 10))).permits == 5


def test_the_wait_after_a_limit_was_lowered(world_of: WorldOf) -> None:
    """The wait that is told is until the new limit lets one pass."""
    world = world_of(TEN)
    for number in range(10):
        granted(world.limiter.ask(wish(f"t{number}")))
        world.limiter.report([Report(f"t{number}", 0)])
        world.pass_s(0.05)
    world.change(with_rules("2/s"))
    wait = refused(world.limiter.ask(wish("next"))).wait_s
    world.pass_s(wait - 0.02)
    refused(world.limiter.ask(wish("next")))
    world.pass_s(0.021)
    assert granted(world.limiter.ask(wish("next", 5))).permits == 1


def test_a_rule_more_and_a_rule_less(world_of: WorldOf) -> None:
    """A new rule applies at once, one that is gone no more; permits of an old rule are reported as ever."""
    world = world_of(TEN)
    granted(world.limiter.ask(wish("t1", 10)))
    world.change(with_rules("3/min"))
    assert granted(world.limiter.ask(wish("t2", 10))).permits == 3
    refused(world.limiter.ask(wish("t3"), [Report("t1", 0), Report("t2", 0)]))
    world.change(TEN)
    refused(world.limiter.ask(wish("t4")))
    world.pass_s(1.02)
    assert granted(world.limiter.ask(wish("t5", 20))).permits == 10


def test_a_rule_that_begins_while_mail_is_on_its_way(world_of: WorldOf) -> None:
    """What was granted before it, and lasts long, counts in it from the next renewal until a window after its answer."""
    world = world_of(TEN)
    granted(world.limiter.ask(wish("t1", 10)))
    world.limiter.report([Report("t1", 4, 4)])
    world.change(with_rules("10/s", "6/min"))
    for _ in range(6):
        world.limiter.renew()
        world.pass_s(5.0)
    assert granted(world.limiter.ask(wish("t2", 10))).permits == 2
    refused(world.limiter.ask(wish("t3")))
    world.limiter.report([Report("t1", 1, 1, 1, 1), Report("t2", 0)])
    world.limiter.renew()
    assert granted(world.limiter.ask(wish("t3", 10))).permits == 1
    world.limiter.report([Report("t1", 0, 0, 1, 1), Report("t3", 0)])
    refused(world.limiter.ask(wish("t4")))
    world.pass_s(62.0)
    assert granted(world.limiter.ask(wish("t4", 10))).permits == 6


def test_limits_that_begin_and_end(world_of: WorldOf) -> None:
    """An account is limited from when it gets limits until it loses them; what it was granted before is reported."""
    world = world_of(Limits("default", HOST))
    granted(world.limiter.ask(wish("t1", 64)))
    world.change(with_rules("2/min"))
    assert granted(world.limiter.ask(wish("t2", 64), [Report("t1", 0)])).permits == 2
    world.change()
    assert granted(world.limiter.ask(wish("t3", 64), [Report("t2", 0)])).permits == 64


def test_what_was_granted_holds_when_limits_end(world_of: WorldOf) -> None:
    """A host without any limit is renewed as long as mail to it is on its way, over a connection that has a slot."""
    world = world_of(TEN)
    slot = granted(world.limiter.ask(wish("t1", 10, slot="s1"))).slot
    assert slot is not None
    world.change(Limits("default", HOST))
    for _ in range(4):
        world.pass_s(LEASE_S / 2)
        assert not world.limiter.renew().lost
        assert world.limiter.holds("t1")
        assert world.limiter.holds("s1")
    world.limiter.report([Report("t1", 0)])
    world.limiter.close_slot(slot)


def test_slots_that_become_fewer(world_of: WorldOf) -> None:
    """Open connections stay open; a new one is granted when fewer are open than the new number."""
    world = world_of(TEN)
    slots = [granted(world.limiter.ask(wish(f"t{number}", slot=f"s{number}"))).slot for number in range(3)]
    world.change(replace(TEN, connections=2))
    assert not world.limiter.renew().lost
    for slot in slots[:2]:
        assert refused(world.limiter.ask(wish("t4", slot="s4"))).rule == "account connections 2"
        assert slot is not None
        world.limiter.close_slot(slot)
    granted(world.limiter.ask(wish("t4", slot="s4")))
