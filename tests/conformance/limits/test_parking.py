"""Parking: when mails that cannot be sent for long come again."""

from itertools import pairwise

import pytest

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Report
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.local import LocalLimiter
from mailfleet_workers.limits.redis import RedisLimiter
from tests.conformance.limits.conftest import WorldOf
from tests.conformance.limits.kinds import HOST, World, granted, rule, wish


def park(
    world: World,
    mails: int,
    *,
    app: str = "billing",
    priority: Priority = Priority.NORMAL,
    after_s: float = 0.0,
) -> list[float]:
    """The waits of *mails* mails of the account; what every answer keeps to is checked."""
    waits = list(
        world.limiter.park(app=app, account="default", priority=priority, mails=mails, after_s=after_s)
    )
    assert len(waits) == mails
    assert waits == sorted(waits)
    assert waits[0] >= after_s - 0.001
    return waits


@pytest.fixture
def used_up(world_of: WorldOf) -> World:
    """A world in which 600 a minute were sent, evenly over this last minute."""
    weights = {"billing": 1, "shop": 1}
    world = world_of(Limits("default", HOST, (rule("600/min"), rule("100000/d")), weights=weights))
    for second in range(58):
        world.pass_s(1.0)
        count = 10 if second else 30
        assert granted(world.limiter.ask(wish(f"t{second}", count))).permits == count
        world.limiter.report([Report(f"t{second}", 0)])
    return world


def test_mails_come_as_permits_become_free(used_up: World) -> None:
    """They come when permits become free, or earlier by less than may be slept: thirty first, then ten a second."""
    waits = park(used_up, 300)
    assert 1 <= waits[0] <= 5
    assert waits[-1] == pytest.approx(28, abs=1.5)
    gaps = [later - earlier for earlier, later in pairwise(waits)]
    assert max(gaps) <= 2.2


def test_the_next_follow_those_before(used_up: World) -> None:
    """What is parked later comes after what was parked before, as if both had been parked at once."""
    first = [wait for _ in range(6) for wait in park(used_up, 50)]
    assert first == sorted(first)
    assert first[-1] == pytest.approx(28, abs=1.5)


def test_those_whose_time_has_come_are_not_counted(used_up: World) -> None:
    """After half the mails have come again, the next is told to come after the other half."""
    park(used_up, 300)
    used_up.pass_s(15)
    waits = park(used_up, 1)
    assert waits[0] < 20


def test_what_fits_comes_at_once(world_of: WorldOf) -> None:
    """As many mails as there are permits come without a wait of their own."""
    world = world_of(Limits("default", HOST, (rule("10/min"),)))
    waits = park(world, 12, after_s=0.5)
    assert waits[:10] == pytest.approx([0.5] * 10, abs=0.01)
    assert waits[10] > 0.5


def test_what_is_free_after_a_wait_is_not_spread(used_up: World) -> None:
    """Of a wait that ends while permits become free, those free by then are for the first; nothing is slower for it."""
    waits = park(used_up, 300, after_s=3.5)
    assert waits[29] == pytest.approx(3.5, abs=0.1)
    assert waits[-1] == pytest.approx(28, abs=1.5)


def test_all_come_within_a_day(world_of: WorldOf) -> None:
    """A turn that is years ahead is looked at again after a day: the limit may be another one by then."""
    world = world_of(Limits("default", HOST, (rule("1/31d"),)))
    waits = park(world, 300)
    assert waits[-1] == pytest.approx(86_400, abs=1)


def test_those_that_ask_again_after_a_day_are_not_behind_themselves(world_of: WorldOf) -> None:
    """Of a backlog of more than a day all have come when the day is over: the next are told times from now on."""
    world = world_of(Limits("default", HOST, (rule("10/h"),)))
    assert park(world, 500)[-1] == pytest.approx(86_400, abs=1)
    world.pass_s(86_402.0)
    assert park(world, 260)[0] < 10


def test_how_long_mail_is_put_off_is_known(used_up: World) -> None:
    """People see when the last of those parked comes, or a little later."""
    last = park(used_up, 300)[-1]
    limiter = used_up.limiter
    assert isinstance(limiter, RedisLimiter | LocalLimiter)
    assert limiter.usage("default").parked_s == pytest.approx(last, abs=4)


@pytest.mark.tinymail("31", "D8")
def test_none_comes_before_it_may(used_up: World) -> None:
    """After a wait that was told by a server, mails come at the pace of the rule as well, not all in one moment."""
    waits = park(used_up, 100, after_s=3600.0)
    assert waits[0] >= 3600
    assert 3605 <= waits[-1] <= 3620


def test_high_is_not_parked_behind_bulk(used_up: World) -> None:
    """A mail of a higher priority comes as if nothing of a lower one was parked."""
    park(used_up, 500, priority=Priority.BULK)
    park(used_up, 500)
    assert park(used_up, 1, priority=Priority.HIGH)[0] <= 4.2
    assert park(used_up, 1, priority=Priority.BULK)[0] > 100


def test_normal_is_parked_behind_high(used_up: World) -> None:
    """What goes first comes first: a mail of a lower priority comes after those of a higher one."""
    park(used_up, 300, priority=Priority.HIGH)
    assert park(used_up, 1)[0] > 25


def test_an_app_is_not_parked_behind_another_s_backlog(used_up: World) -> None:
    """Mails of several apps come back in turns: a few of one do not wait for thousands of another."""
    park(used_up, 2000)
    assert park(used_up, 3, app="shop")[-1] <= 4.2


def test_without_rules_nothing_is_spread(world_of: WorldOf) -> None:
    """Mails of an account without rules come when they may."""
    world = world_of(Limits("default", HOST, connections=1))
    assert park(world, 5, after_s=7.0) == [7.0] * 5
    assert list(
        world.limiter.park(app="billing", account="unknown", priority=Priority.NORMAL, mails=2, after_s=1.0)
    ) == [1.0, 1.0]


def test_parking_reserves_nothing(world_of: WorldOf) -> None:
    """Who asks while others are parked is granted what is free."""
    world = world_of(Limits("default", HOST, (rule("10/min"),)))
    park(world, 50)
    assert granted(world.limiter.ask(wish("t1", 20))).permits == 10
