"""Leases: what a process that is gone held does not stay taken, and what a live one holds does."""

from dataclasses import replace

from mailfleet_workers.limits.base import Report
from mailfleet_workers.limits.book import Limits
from tests.conformance.limits.conftest import WorldOf
from tests.conformance.limits.kinds import HOST, LEASE_S, granted, refused, rule, wish

LIMITS = Limits("default", HOST, (rule("3/s"),), connections=2)


def test_what_is_renewed_stays(world_of: WorldOf) -> None:
    """A permit and a slot that are renewed in time stay ours for as long as that goes on."""
    world = world_of(LIMITS)
    grant = granted(world.limiter.ask(wish("t1", 3, slot="s1")))
    assert grant.slot is not None
    for _ in range(10):
        world.pass_s(LEASE_S / 3)
        renewal = world.limiter.renew()
        assert not renewal.lost
        assert world.limiter.holds("t1")
        assert world.limiter.holds("s1")
        refused(world.limiter.ask(wish("t2")))


def test_what_nobody_renews_counts_as_sent(world_of: WorldOf) -> None:
    """Permits of a process that is gone count for its lease and a window more; then they are free again."""
    world = world_of(LIMITS)
    granted(world.limiter.ask(wish("t1", 3)))
    assert world.limiter.holds("t1")
    world.pass_busy_s(int(LEASE_S) - 2)
    refused(world.limiter.ask(wish("t2")))
    world.pass_busy_s(3)
    assert not world.limiter.holds("t1")
    world.pass_s(1.1)
    assert granted(world.limiter.ask(wish("t2", 5))).permits == 3


def test_a_lapsed_permit_may_have_been_sent_just_now(world_of: WorldOf) -> None:
    """When a lease is over its permits count as sent at that time, not earlier."""
    world = world_of(LIMITS)
    granted(world.limiter.ask(wish("t1", 3)))
    world.pass_busy_s(int(LEASE_S))
    world.pass_s(0.9)
    refused(world.limiter.ask(wish("t2")))


def test_a_report_after_the_lease_is_too_late(world_of: WorldOf) -> None:
    """What counts as sent is not given back by somebody who wakes up and says that it was not used."""
    world = world_of(LIMITS)
    granted(world.limiter.ask(wish("t1", 3)))
    world.pass_busy_s(int(LEASE_S))
    world.pass_s(0.5)
    world.limiter.report([Report("t1", 0, 0, 3, 3)])
    refused(world.limiter.ask(wish("t2")))
    world.pass_s(1.1)
    granted(world.limiter.ask(wish("t2")))
    world.limiter.report([Report("t1", 0, 0, 3, 3)])
    assert granted(world.limiter.ask(wish("t3", 5))).permits == 2


def test_a_slot_of_a_dead_process_is_free_after_its_lease(world_of: WorldOf) -> None:
    """Connections of a process that is gone come back within the lease, not earlier."""
    world = world_of(LIMITS)
    for number in range(2):
        granted(world.limiter.ask(wish(f"t{number}", slot=f"s{number}")))
        world.limiter.report([Report(f"t{number}", 0)])
    world.pass_busy_s(int(LEASE_S) - 2)
    assert refused(world.another().ask(wish("t3", slot="s3"))).slot
    world.pass_busy_s(3)
    granted(world.another().ask(wish("t3", slot="s3")))


def test_a_slot_that_others_have_now_is_lost(world_of: WorldOf) -> None:
    """Who slept through its lease hears which of its slots others have, and does not hold them."""
    world = world_of(LIMITS)
    first = granted(world.limiter.ask(wish("t1", slot="s1"))).slot
    assert first is not None
    world.limiter.report([Report("t1", 0)])
    world.pass_busy_s(int(LEASE_S) + 1)
    assert not world.limiter.holds("s1")
    others = world.another()
    for number in (2, 3):
        granted(others.ask(wish(f"t{number}", slot=f"s{number}")))
    assert world.limiter.renew().lost == (first,)
    assert not world.limiter.holds("s1")
    assert not world.limiter.renew().lost
    assert not world.limiter.holds("s1")
    assert others.holds("s2")
    assert others.holds("s3")
    world.limiter.close_slot(first)
    refused(others.ask(wish("t4", slot="s4")))


def test_a_permit_that_counts_as_sent_never_holds_again(world_of: WorldOf) -> None:
    """Who slept through its lease does not have its permits back by a renewal."""
    world = world_of(LIMITS)
    granted(world.limiter.ask(wish("t1", 3)))
    world.pass_busy_s(int(LEASE_S) + 1)
    world.pass_s(1.1)
    for _ in range(2):
        world.limiter.renew()
        assert not world.limiter.holds("t1")
    world.limiter.report([Report("t1", 1, 1)])
    world.limiter.renew()
    assert not world.limiter.holds("t1")
    world.limiter.report([Report("t1", 0)])
    world.pass_s(1.1)
    granted(world.another().ask(wish("t2", 3)))
    assert world.another().holds("t2")


def test_a_lapsed_permit_counts_until_its_answer(world_of: WorldOf) -> None:
    """Its dot may have been said before it was lost: the server may take it until it answers, and a window more."""
    world = world_of(LIMITS)
    granted(world.limiter.ask(wish("t1", 3)))
    world.pass_busy_s(int(LEASE_S) + 1)
    for _ in range(4):
        world.limiter.renew()
        world.pass_busy_s(int(LEASE_S / 2))
        refused(world.another().ask(wish("t2")))
    world.limiter.report([Report("t1", 0)])
    world.pass_s(0.9)
    refused(world.another().ask(wish("t2")))
    world.pass_s(0.2)
    assert granted(world.another().ask(wish("t2", 5))).permits == 3


def test_a_slot_whose_place_at_the_host_is_taken_is_lost(world_of: WorldOf) -> None:
    """A place of the account that nobody wanted is not enough: the host's place is another account's by now."""
    default = Limits("default", HOST, connections=1, host_connections=1)
    world = world_of(default, replace(default, account="other"))
    first = granted(world.limiter.ask(wish("t1", slot="s1"))).slot
    world.limiter.report([Report("t1", 0)])
    world.pass_busy_s(int(LEASE_S) + 1)
    others = world.another()
    second = granted(others.ask(wish("t2", account="other", slot="s2"))).slot
    assert second is not None
    assert world.limiter.renew().lost == (first,)
    assert not world.limiter.holds("s1")
    assert others.holds("s2")
    others.close_slot(second)
    granted(others.ask(wish("t3", account="other", slot="s3")))


def test_a_slot_asked_for_again_is_the_same(world_of: WorldOf) -> None:
    """A question for a slot alone, repeated after a lost answer, takes nothing more."""
    world = world_of(replace(LIMITS, connections=1))
    question = wish("t1", 0, slot="s1")
    assert granted(world.limiter.ask(question)).slot == granted(world.limiter.ask(question)).slot
    assert refused(world.limiter.ask(wish("t2", slot="s2"))).slot


def test_a_lapsed_slot_that_nobody_took_is_ours_again(world_of: WorldOf) -> None:
    """Renewed late, but before anybody else came: nothing is lost, and the slot counts."""
    world = world_of(LIMITS)
    for number in range(2):
        granted(world.limiter.ask(wish(f"t{number}", slot=f"s{number}")))
        world.limiter.report([Report(f"t{number}", 0)])
    world.pass_busy_s(int(LEASE_S) + 1)
    assert not world.limiter.renew().lost
    assert world.limiter.holds("s1")
    refused(world.limiter.ask(wish("t3", slot="s3")))


def test_a_lapsed_slot_that_was_closed_stays_closed(world_of: WorldOf) -> None:
    """A connection closed after its lease was over is not taken up again by a renewal."""
    world = world_of(LIMITS)
    for number in range(2):
        slot = granted(world.limiter.ask(wish(f"t{number}", slot=f"s{number}"))).slot
        assert slot is not None
        world.limiter.report([Report(f"t{number}", 0)])
        world.pass_busy_s(int(LEASE_S) + 1)
        world.limiter.close_slot(slot)
        assert not world.limiter.renew().lost
    for number in (2, 3):
        granted(world.limiter.ask(wish(f"t{number}", slot=f"s{number}")))
