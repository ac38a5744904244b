"""Permits of a fleet's account for which several apps wait: one after the other, so that who comes new finds one soon."""

from dataclasses import replace

import pytest

from mailfleet_workers.limits.base import Grant, Report
from mailfleet_workers.limits.book import Book, Limits
from tests.conformance.limits.kinds import HOST, KINDS, World, granted, refused, rule, wish

ALONE = Limits("default", HOST, (rule("10/s"),), weights={"a": 1})
SHARED = replace(ALONE, weights={"a": 1, "b": 1, "c": 1})


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    return KINDS["redis"](request, Book({SHARED.account: SHARED}))


def used_up(world: World) -> None:
    """Ten permits of one moment are used; a second later all of them are free again."""
    granted(world.limiter.ask(wish("all", 10, app="a")))
    world.limiter.report([Report("all", 0)])
    for app in world.book.all()["default"].weights:
        if app != "c":
            refused(world.another().ask(wish(f"first {app}".replace(" ", "-"), app=app)))
    world.pass_s(1.02)


def taken(world: World, apps: str, seconds: float) -> list[int]:
    """How many permits *apps*, which want any number, get in each tenth of a second."""
    askers = {app: world.another() for app in apps}
    counts = []
    for tenth in range(round(seconds * 10)):
        count = 0
        for turn in range(5):
            for app, limiter in askers.items():
                answer = limiter.ask(wish(f"{app}{tenth}.{turn}", 10, app=app))
                count += answer.permits if isinstance(answer, Grant) else 0
                limiter.report([Report(f"{app}{tenth}.{turn}", 0)])
            world.pass_s(0.02)
        counts.append(count)
    return counts


def test_permits_of_one_moment_are_spread(world: World) -> None:
    """Ten permits that are free at once for two apps go out over almost half of the window, and all of them do."""
    used_up(world)
    counts = taken(world, "ab", 1.0)
    assert max(counts) <= 5
    assert sum(counts[4:]) >= 1
    assert sum(counts) == 10


def test_who_comes_new_finds_one(world: World) -> None:
    """In the middle of what would have been a burst a third app has a permit at once."""
    used_up(world)
    taken(world, "ab", 0.2)
    granted(world.another().ask(wish("c", app="c")))


def test_an_app_alone_is_not_slowed(world: World) -> None:
    """Where nobody else waits all that are free are taken at once."""
    world.change(ALONE)
    used_up(world)
    assert taken(world, "a", 0.1) == [10]
