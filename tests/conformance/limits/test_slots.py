"""Slots: how many connections are open at once, whose they are, and who gets the next."""

from dataclasses import replace

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Grant, Limiter, Report, Slot, Want
from mailfleet_workers.limits.book import Limits
from tests.conformance.limits.conftest import WorldOf
from tests.conformance.limits.kinds import HOST, granted, refused, rule, wish

THREE = Limits("default", HOST, connections=3)


def opened(limiter: Limiter, number: int, account: str = "default", app: str = "billing") -> Slot:
    """The slot of connection *number*, whose permit is finished at once."""
    token = f"{account}-{number}"
    slot = granted(limiter.ask(wish(f"t{token}", account=account, app=app, slot=f"s{token}"))).slot
    limiter.report([Report(f"t{token}", 0)])
    assert slot == Slot(f"s{token}", account, HOST)
    return slot


def test_never_more_connections_than_slots(world_of: WorldOf) -> None:
    """As many slots are granted as there are; then the refusal names the rule, and the wait is short."""
    world = world_of(THREE)
    for number in range(3):
        opened(world.another(), number)
    refusal = refused(world.limiter.ask(wish("t4", slot="s4")))
    assert refusal.rule == "account connections 3"
    assert refusal.slot
    assert 0.05 <= refusal.wait_s <= 0.501


def test_a_slot_given_back_is_free_at_once(world_of: WorldOf) -> None:
    """A closed connection makes room for one more, once, however often it is said."""
    limiter = world_of(THREE).limiter
    slots = [opened(limiter, number) for number in range(3)]
    limiter.close_slot(slots[0])
    limiter.close_slot(slots[0])
    opened(limiter, 4)
    limiter.close_slot(slots[0])
    refused(limiter.ask(wish("t5", slot="s5")))
    assert not limiter.renew().lost


def test_a_slot_that_lingers_is_free_later(world_of: WorldOf) -> None:
    """A server may count a connection a while after its end: its slot is free then, not before, and said twice too."""
    world = world_of(THREE)
    slots = [opened(world.limiter, number) for number in range(3)]
    world.limiter.close_slot(slots[0], linger_s=4)
    world.pass_s(2)
    world.limiter.close_slot(slots[0], linger_s=4)
    world.pass_s(1.9)
    refused(world.limiter.ask(wish("t4", slot="s4")))
    assert not world.limiter.renew().lost
    world.pass_s(0.2)
    opened(world.limiter, 5)
    refused(world.limiter.ask(wish("t6", slot="s6")))


def test_permits_over_an_open_connection_need_no_slot(world_of: WorldOf) -> None:
    """Only the opening of a connection asks for a slot; what is sent over it later does not."""
    limiter = world_of(replace(THREE, connections=1, rules=(rule("100/min"),))).limiter
    opened(limiter, 1)
    for number in range(10):
        assert granted(limiter.ask(wish(f"t{number}"))).slot is None


def test_permits_and_slot_are_granted_together_or_not_at_all(world_of: WorldOf) -> None:
    """Without a permit no slot is taken, and without a slot no permit."""
    world = world_of(replace(THREE, connections=1, rules=(rule("2/s"),)))
    granted(world.limiter.ask(wish("t1", 2)))
    world.limiter.report([Report("t1", 0)])
    refusal = refused(world.limiter.ask(wish("t2", slot="s2")))
    assert refusal.rule == "account messages 2/s"
    assert not refusal.slot
    world.pass_s(1.1)
    opened(world.limiter, 3)
    for number in range(5):
        assert refused(world.limiter.ask(wish(f"again{number}", slot=f"again{number}"))).slot
    assert granted(world.limiter.ask(wish("t4", 2))).permits == 1


def test_a_lost_answer_opens_no_second_slot(world_of: WorldOf) -> None:
    """The same question again is answered with the same slot, which is taken once."""
    limiter = world_of(replace(THREE, connections=2)).limiter
    question = wish("t1", slot="s1")
    assert (
        granted(limiter.ask(question)).slot
        == granted(limiter.ask(question)).slot
        == Slot("s1", "default", HOST)
    )
    opened(limiter, 2)
    refused(limiter.ask(wish("t3", slot="s3")))


def test_a_host_s_slots_are_shared_by_its_accounts(world_of: WorldOf) -> None:
    """An account has its own slots and, with all others on its host, those of the host."""
    default = replace(THREE, connections=2, host_connections=3)
    limiter = world_of(default, replace(default, account="other")).limiter
    opened(limiter, 1)
    slot = opened(limiter, 2)
    assert refused(limiter.ask(wish("t3", slot="s3"))).rule == "account connections 2"
    opened(limiter, 4, "other")
    refusal = refused(limiter.ask(wish("t5", account="other", slot="s5")))
    assert refusal.rule == "host connections 3"
    assert refusal.slot
    limiter.close_slot(slot)
    opened(limiter, 6, "other")


def test_bulk_leaves_slots_to_others(world_of: WorldOf) -> None:
    """Bulk opens no connection of the reserve, but at least one."""
    ten = Limits("default", HOST, connections=10, reserve=0.2)
    limiter = world_of(ten, Limits("one", HOST, connections=1, reserve=0.9)).limiter
    for number in range(8):
        granted(limiter.ask(wish(f"t{number}", priority=Priority.BULK, slot=f"s{number}")))
    assert refused(limiter.ask(wish("t8", priority=Priority.BULK, slot="s8"))).slot
    granted(limiter.ask(wish("t9", slot="s9")))
    granted(limiter.ask(wish("t10", account="one", priority=Priority.BULK, slot="s10")))


def test_somebody_who_lacks_a_connection_is_wanted(world_of: WorldOf) -> None:
    """Others hear that a connection of the account is wanted, with every answer, until there was one or time is over."""
    world = world_of(replace(THREE, connections=1, rules=(rule("3/10s"),)))
    mine, others = world.limiter, world.another()
    slot = opened(mine, 1)
    assert granted(mine.ask(wish("t2"))).want is Want.NOTHING
    assert not mine.renew().wanted
    refused(others.ask(wish("t3", app="shop", slot="s3")))
    assert granted(mine.ask(wish("t4"))).want is Want.TURN
    assert refused(mine.ask(wish("t5"))).want is Want.TURN
    assert mine.renew().wanted == ("default",)
    world.pass_s(0.9)
    assert refused(mine.ask(wish("t6"))).want is Want.NOTHING
    assert not mine.renew().wanted
    mine.close_slot(slot)


def test_a_slot_goes_by_priority_then_to_who_waits_longest(world_of: WorldOf) -> None:
    """Whoever lacks a slot has the next that is free before those of lower priority and those that came later."""
    world = world_of(replace(THREE, connections=1))
    slot = opened(world.limiter, 1)
    waiting = [
        ("normal", Priority.NORMAL),
        ("bulk", Priority.BULK),
        ("later", Priority.NORMAL),
        ("high", Priority.HIGH),
    ]
    for app, priority in waiting:
        refused(world.limiter.ask(wish(f"t{app}", app=app, priority=priority, slot=f"s{app}")))
        world.pass_s(0.01)
    world.limiter.close_slot(slot)
    order = ["high", "normal", "later", "bulk"]
    while order:
        for app in reversed(order):
            answer = world.limiter.ask(wish(f"t{app}", app=app, priority=dict(waiting)[app], slot=f"s{app}"))
            if app != order[0]:
                assert refused(answer).slot
        freed = granted(answer).slot
        assert freed is not None
        world.limiter.close_slot(freed)
        del order[0]


#: One connection, of which apps have their parts by what they have had.
SHARED = Limits("default", HOST, (rule("1000/s"),), connections=1, weights={"a": 1, "b": 1, "c": 1})


def test_a_slot_goes_to_the_app_that_has_had_least(world_of: WorldOf) -> None:
    """Of apps that lack a connection the one that has had less for its weight goes first, however short it waits."""
    world = world_of(replace(SHARED, weights={"a": 1, "b": 2, "c": 1}))
    slot = opened(world.limiter, 1, app="a")
    for app, mails in (("a", 1), ("b", 16), ("c", 9)):
        granted(world.limiter.ask(wish(f"had-{app}", mails, app=app)))
    askers = {app: world.another() for app in "cb"}
    for app, limiter in askers.items():
        refused(limiter.ask(wish(f"t{app}", app=app, slot=f"s{app}")))
        world.pass_s(0.01)
    world.limiter.close_slot(slot)
    assert refused(askers["c"].ask(wish("tc", app="c", slot="sc"))).slot
    granted(askers["b"].ask(wish("tb", app="b", slot="sb")))


def test_a_connection_changes_hands_for_who_has_had_less(world_of: WorldOf) -> None:
    """An app hears that its turn ends when another has had clearly less; who has had less itself keeps what it uses."""
    world = world_of(SHARED)
    mine, theirs = world.limiter, world.another()
    opened(mine, 1, app="a")
    granted(theirs.ask(wish("had", 20, app="b")))
    refused(theirs.ask(wish("t2", app="b", slot="s2")))
    for number in range(20):
        assert granted(mine.ask(wish(f"less-{number}", app="a"))).want is Want.IDLE
    assert mine.renew().wanted == ("default",)
    for number in range(5):
        granted(mine.ask(wish(f"more-{number}", app="a")))
    assert granted(mine.ask(wish("last", app="a"))).want is Want.TURN


def test_who_opens_a_connection_hears_who_waits(world_of: WorldOf) -> None:
    """With its grant already: it may have nothing more to send."""
    world = world_of(replace(SHARED, connections=2))
    slot = opened(world.limiter, 1, app="a")
    opened(world.limiter, 2, app="a")
    waits = world.another()
    for app in "bc":
        refused(waits.ask(wish(f"t{app}", app=app, slot=f"s{app}")))
    world.limiter.close_slot(slot)
    assert granted(waits.ask(wish("tb", app="b", slot="sb"))).want is Want.IDLE


def test_who_has_waited_for_long_has_a_turn_whatever_it_has_had(world_of: WorldOf) -> None:
    """Else those whose mails take long would have connections for ever, because they have had so little."""
    world = world_of(SHARED)
    mine, theirs, third = world.limiter, world.another(), world.another()
    slot = opened(mine, 1, app="a")
    granted(theirs.ask(wish("had", 40, app="b")))
    for fifth in range(24):
        refused(theirs.ask(wish(f"t{fifth}", app="b", slot=f"s{fifth}")))
        world.pass_s(0.21)
        expected = Want.IDLE if fifth < 23 else Want.TURN
        assert granted(mine.ask(wish(f"m{fifth}", app="a"))).want is expected
    refused(theirs.ask(wish("late", app="b", slot="slate")))
    mine.close_slot(slot)
    assert refused(third.ask(wish("poor", app="c", slot="spoor"))).slot
    granted(theirs.ask(wish("late", app="b", slot="slate")))


def test_an_app_that_comes_begins_with_those_of_its_priority(world_of: WorldOf) -> None:
    """One of a lower priority that gets nothing is far behind; who comes has no more permits in a row for that."""
    world = world_of(replace(SHARED, rules=(rule("10/s"),)))
    bulk, normal, comes = world.limiter, world.another(), world.another()
    granted(normal.ask(wish("first", 10, app="a")))
    normal.report([Report("first", 0)])
    got = {"a": 0, "c": 0}
    for tenth in range(160):
        for app, limiter in (("a", normal), ("c", comes)) if tenth >= 40 else (("a", normal),):
            answer = limiter.ask(wish(f"{app}{tenth}", 10, app=app))
            if isinstance(answer, Grant):
                limiter.report([Report(f"{app}{tenth}", 0)])
                got[app] += answer.permits if tenth >= 40 else 0
        refused(bulk.ask(wish(f"b{tenth}", app="b", priority=Priority.BULK)))
        world.pass_s(0.1)
    assert sum(got.values()) >= 90
    assert got["a"] >= 0.35 * sum(got.values())


def test_bulk_that_waits_ends_no_turn_of_others(world_of: WorldOf) -> None:
    """Who is of a lower priority has a connection when those of a higher one use it no more."""
    world = world_of(SHARED)
    opened(world.limiter, 1, app="a")
    refused(world.another().ask(wish("t2", app="b", priority=Priority.BULK, slot="s2")))
    assert granted(world.limiter.ask(wish("t3", 30, app="a"))).want is Want.IDLE
    assert granted(world.limiter.ask(wish("t4", app="a"))).want is Want.IDLE
