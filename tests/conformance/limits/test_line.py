"""The line: who goes first when several wait, by priority, by weight, by time."""

from dataclasses import replace
from itertools import pairwise

import pytest

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Report
from mailfleet_workers.limits.book import Limits
from tests.conformance.limits.conftest import WorldOf
from tests.conformance.limits.crowd import Sender, run
from tests.conformance.limits.kinds import HOST, granted, refused, rule, wish

TEN = Limits("default", HOST, (rule("10/s"),))
HIGH, NORMAL, BULK = Priority.HIGH, Priority.NORMAL, Priority.BULK


def test_high_before_normal_before_bulk(world_of: WorldOf) -> None:
    """A permit that becomes free is for the highest priority in line, whoever comes for it first."""
    world = world_of(replace(TEN, rules=(rule("1/s"),)))
    granted(world.limiter.ask(wish("t0")))
    world.limiter.report([Report("t0", 0)])
    for turn in range(3):
        wait = max(
            refused(world.limiter.ask(wish(f"{turn}{priority}", priority=priority))).wait_s
            for priority in list(Priority)[turn:]
        )
        world.pass_s(min(wait, 1.02))
        for priority in reversed(list(Priority)[turn + 1 :]):
            refusal = refused(world.limiter.ask(wish(f"{turn}{priority}", priority=priority)))
            assert refusal.rule == "priority"
            assert refusal.wait_s < 0.1
        first = list(Priority)[turn]
        granted(world.limiter.ask(wish(f"{turn}{first}", priority=first)))
        world.limiter.report([Report(f"{turn}{first}", 0)])


def test_higher_priority_does_not_wait_for_lower(world_of: WorldOf) -> None:
    """Who is of a higher priority passes those in line, and is told a time as if they were not there."""
    world = world_of(replace(TEN, rules=(rule("2/s"),)))
    granted(world.limiter.ask(wish("t0", 2)))
    world.limiter.report([Report("t0", 0)])
    alone = refused(world.limiter.ask(wish("bulk", priority=BULK))).wait_s
    for number in range(5):
        refused(world.another().ask(wish(f"n{number}", app=f"app{number}")))
    assert refused(world.limiter.ask(wish("high", priority=HIGH))).wait_s <= alone + 0.001
    world.pass_s(1.02)
    assert granted(world.limiter.ask(wish("high", 2, priority=HIGH))).permits == 2


def test_nobody_is_waited_for_long(world_of: WorldOf) -> None:
    """A permit is kept for somebody in line a quarter of a second beyond its time, not longer."""
    world = world_of(replace(TEN, rules=(rule("1/s"),)))
    granted(world.limiter.ask(wish("t0")))
    world.limiter.report([Report("t0", 0)])
    wait = refused(world.limiter.ask(wish("high", priority=HIGH))).wait_s
    world.pass_s(wait + 0.2)
    refused(world.limiter.ask(wish("normal")))
    world.pass_s(0.1)
    granted(world.limiter.ask(wish("normal")))


def test_a_long_wait_is_not_waited_for(world_of: WorldOf) -> None:
    """Who is told to wait longer than it may sit idle does not stand in line: nothing is kept for it."""
    world = world_of(replace(TEN, rules=(rule("1/10s"),), max_idle_ms=3000))
    granted(world.limiter.ask(wish("t0")))
    world.limiter.report([Report("t0", 0)])
    refused(world.limiter.ask(wish("high", priority=HIGH)))
    world.pass_s(10.2)
    granted(world.limiter.ask(wish("normal")))


def test_a_wait_that_becomes_long_is_waited_for_no_more(world_of: WorldOf) -> None:
    """Who stood in line and is told a long wait when it asks again stands there no more."""
    world = world_of(replace(TEN, rules=(rule("1/s"), rule("9/20s"))))
    granted(world.limiter.ask(wish("t0")))
    world.limiter.report([Report("t0", 0)])
    assert refused(world.limiter.ask(wish("high", priority=HIGH))).wait_s < 1.1
    world.change(replace(TEN, rules=(rule("1/s"), rule("1/20s"))))
    assert refused(world.limiter.ask(wish("high", priority=HIGH))).wait_s > 10
    world.change(replace(TEN, rules=(rule("1/s"), rule("9/20s"))))
    world.pass_s(1.02)
    granted(world.limiter.ask(wish("normal")))


def test_equals_are_told_one_time_after_the_other(world_of: WorldOf) -> None:
    """Those that wait for single permits are told the times at which these become free, each its own."""
    world = world_of(replace(TEN, rules=(rule("5/s"),)))
    for number in range(5):
        granted(world.limiter.ask(wish(f"t{number}")))
        world.limiter.report([Report(f"t{number}", 0)])
        world.pass_s(0.1)
    waits = [refused(world.limiter.ask(wish(f"w{app}", app=app))).wait_s for app in "abcde"]
    gaps = [later - earlier for earlier, later in pairwise(waits)]
    assert all(0.08 < gap < 0.12 for gap in gaps), waits


def test_who_was_told_later_pushes_nobody_back(world_of: WorldOf) -> None:
    """A time before those that others were told is told to the next that comes, not one behind them all."""
    world = world_of(replace(TEN, rules=(rule("5/s"),)))
    for number in range(4):
        granted(world.limiter.ask(wish(f"t{number}")))
        world.limiter.report([Report(f"t{number}", 0)])
        world.pass_s(0.1)
    granted(world.limiter.ask(wish("unused")))
    first, second = (refused(world.limiter.ask(wish(app, app=app))).wait_s for app in ("a", "b"))
    assert second > first + 0.08
    world.limiter.report([Report("unused", 0, 0, 1, 1)])
    granted(world.limiter.ask(wish("a", app="a")))
    assert abs(refused(world.limiter.ask(wish("c", app="c"))).wait_s - first) < 0.02


def test_high_passes_a_backlog_of_bulk(world_of: WorldOf) -> None:
    """Where bulk is sent as fast as it may, high mails wait less than two seconds."""
    world = world_of(TEN)
    bulk = [Sender(world.another(), app=f"bulk{number}", priority=BULK) for number in range(6)]
    high = Sender(world.another(), priority=HIGH, pause_s=0.7)
    run(world, [*bulk, high], 20)
    assert len(high.sent) > 20
    assert max(high.waited_s) < 1
    assert sum(len(one.sent) for one in bulk) > 125


def test_a_backlog_uses_the_whole_rate(world_of: WorldOf) -> None:
    """Many who wait for one account leave nothing of its rate unused."""
    world = world_of(TEN)
    crowd = [Sender(world.another(), app=f"app{number}") for number in range(8)]
    run(world, crowd, 20)
    assert sum(one.within(0, 20) for one in crowd) >= 0.95 * 200


def jain(parts: list[float]) -> float:
    """Jain's index: 1 where all parts are equal."""
    return sum(parts) ** 2 / (len(parts) * sum(part * part for part in parts))


@pytest.mark.parametrize(
    ("text", "rate", "seconds"), [("10/s", 10, 30), ("100/s", 100, 5), ("20/2s", 10, 30)]
)
def test_ten_equal_apps_have_equal_parts(world_of: WorldOf, text: str, rate: int, seconds: int) -> None:
    """Ten apps that always wait for one account are served alike, and use its whole rate."""
    apps = [f"app{number}" for number in range(10)]
    world = world_of(replace(TEN, rules=(rule(text),), weights=dict.fromkeys(apps, 1)))
    crowd = [Sender(world.another(), app=app) for app in apps]
    run(world, crowd, seconds)
    parts = [float(len(one.sent)) for one in crowd]
    assert jain(parts) >= 0.98, parts
    assert sum(parts) >= 0.9 * seconds * rate


@pytest.mark.parametrize(("weight", "threads"), [(3, 1), (3, 4), (9, 1)])
def test_parts_are_by_weight(world_of: WorldOf, weight: int, threads: int) -> None:
    """Of two apps that always wait for one permit after the other, each has a part by its weight, not by its threads."""
    world = world_of(replace(TEN, weights={"large": weight, "small": 1}))
    large = Sender(world.another(), app="large")
    small = [Sender(world.another(), app="small") for _ in range(threads)]
    for number in range(10):
        granted(world.limiter.ask(wish(f"t{number}", app="before")))
        world.limiter.report([Report(f"t{number}", 0)])
        world.pass_s(0.1)
    run(world, [*small, large], 30)
    parts = len(large.sent), sum(len(one.sent) for one in small)
    assert parts[0] / parts[1] == pytest.approx(weight, rel=0.15), parts
    assert sum(parts) >= 0.9 * 300


def test_parts_are_by_app_not_by_threads(world_of: WorldOf) -> None:
    """An app that asks with five times as many threads has hardly more than its part."""
    apps = [f"app{number}" for number in range(10)]
    world = world_of(replace(TEN, weights=dict.fromkeys(apps, 1)))
    crowd = {
        app: [Sender(world.another(), app=app) for _ in range(1 + number // 2)]
        for number, app in enumerate(apps)
    }
    run(world, [one for senders in crowd.values() for one in senders], 20)
    parts = [float(sum(len(one.sent) for one in senders)) for senders in crowd.values()]
    assert jain(parts) >= 0.98, parts


def test_what_one_app_leaves_others_use(world_of: WorldOf) -> None:
    """An app alone has the whole rate, also while others could come, and after they went."""
    world = world_of(replace(TEN, weights={"one": 1, "two": 9, "three": 1}))
    one = Sender(world.another(), app="one")
    two = Sender(world.another(), app="two", begins_s=10, ends_s=20)
    run(world, [one, two], 30)
    assert one.within(0, 10) >= 0.95 * 100
    assert one.within(21, 30) >= 0.93 * 90
    assert two.within(11, 19) == pytest.approx(72, rel=0.1)


def test_nobody_pays_for_having_been_alone(world_of: WorldOf) -> None:
    """An app that had the whole rate for itself has its part when others come, at once."""
    world = world_of(replace(TEN, weights={"one": 1, "two": 1}))
    one, two = Sender(world.another(), app="one"), Sender(world.another(), app="two", begins_s=30)
    run(world, [one, two], 50)
    assert one.within(31, 50) == pytest.approx(95, rel=0.1)
    assert two.within(31, 50) == pytest.approx(95, rel=0.1)


@pytest.mark.parametrize("pause_s", [2.0, 0.2])
def test_nobody_has_a_claim_on_what_it_left(world_of: WorldOf, pause_s: float) -> None:
    """An app that sent little for a long time is not served before all others when it begins to send much."""
    world = world_of(replace(TEN, rules=(rule("50/s"),), weights={"one": 1, "two": 1}))
    one = [Sender(world.another(), app="one") for _ in range(2)]
    little = Sender(world.another(), app="two", pause_s=pause_s, ends_s=20)
    much = [Sender(world.another(), app="two", begins_s=20) for _ in range(2)]
    run(world, [*one, little, *much], 30)
    assert sum(sender.within(21, 30) for sender in one) == pytest.approx(225, rel=0.2)


def test_a_small_app_waits_a_second_at_most(world_of: WorldOf) -> None:
    """A mail now and then of an app beside nine with a backlog: it waits less than a second."""
    apps = [f"app{number}" for number in range(10)]
    world = world_of(replace(TEN, weights=dict.fromkeys(apps, 1)))
    crowd = [Sender(world.another(), app=app) for app in apps[1:]]
    small = Sender(world.another(), app=apps[0], pause_s=1.13)
    run(world, [*crowd, small], 60)
    assert len(small.sent) > 25
    assert max(small.waited_s) < 1


def test_apps_are_not_compared_where_there_is_one(world_of: WorldOf) -> None:
    """An account that one app may use has no shares: nobody is refused for another's sake."""
    world = world_of(replace(TEN, weights={"billing": 1}))
    granted(world.limiter.ask(wish("t1", 10)))
    world.limiter.report([Report("t1", 0)])
    refused(world.another().ask(wish("t2", app="other")))
    world.pass_s(1.02)
    assert granted(world.limiter.ask(wish("t3", 10))).permits == 10
