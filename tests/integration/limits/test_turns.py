"""Connections of a fleet's account for which several wait: who gets one at once, and who after a turn."""

from dataclasses import replace
from typing import Any

import pytest

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.base import Grant, Limiter, Refusal, Report, Slot, Want
from mailfleet_workers.limits.book import Book, Limits
from tests.conformance.limits.kinds import HOST, KINDS, World, granted, refused, rule, wish

SHARED = Limits("default", HOST, (rule("100/s"),), connections=2, weights={"a": 1, "b": 1, "c": 1, "d": 1})


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    return KINDS["redis"](request, Book({SHARED.account: SHARED}))


def mails(limiter: Limiter, app: str, number: int, *, slot: str | None = None, tag: str = "") -> Grant:
    """*app* sends *number* mails, one after the other; the answer to its last question."""
    for each in range(number):
        token = f"{app}{tag}{each}"
        answer = granted(limiter.ask(wish(token, app=app, slot=slot if each == 0 else None)))
        limiter.report([Report(token, 0)])
    return answer


def lacks(limiter: Limiter, app: str, tag: str = "", **more: Any) -> Refusal:
    """The answer to *app*, which wants to open a connection and must not."""
    refusal = refused(limiter.ask(wish(f"{app}{tag}", app=app, slot=f"s{app}{tag}", **more)))
    assert refusal.slot
    return refusal


def test_an_app_that_comes_has_one_at_once(world: World) -> None:
    """Somebody closes one now, once; the place is for it, before those who wait for longer and have had less."""
    first, second, waits, comes = (world.another() for _ in range(4))
    mails(first, "a", 5, slot="sa")
    mails(second, "b", 5, slot="sb")
    mails(waits, "c", 1)
    lacks(waits, "c")
    assert mails(first, "a", 1, tag="wait").want is not Want.NOW
    lacks(comes, "d", comes=True)
    assert mails(first, "a", 1, tag="now").want is Want.NOW
    assert mails(second, "b", 1, tag="now").want is not Want.NOW
    assert mails(first, "a", 1, tag="later").want is not Want.NOW
    lacks(comes, "d", "again", comes=True)
    assert mails(first, "a", 1, tag="again").want is not Want.NOW
    first.close_slot(Slot("sa", "default", HOST))
    lacks(waits, "c", "again")
    granted(comes.ask(wish("d2", app="d", slot="sd2")))


def test_of_several_that_come_the_first_is_first(world: World) -> None:
    """Each of them makes somebody close one; the places go by time."""
    first, earlier, later = (world.another() for _ in range(3))
    for slot in ("sa", "sa2"):
        mails(first, "a", 5, slot=slot, tag=slot)
    lacks(earlier, "b", comes=True)
    world.pass_s(0.01)
    lacks(later, "c", comes=True)
    said = [mails(first, "a", 1, tag=f"now{number}").want for number in range(3)]
    assert said == [Want.NOW, Want.NOW, Want.TURN]
    first.close_slot(Slot("sa", "default", HOST))
    lacks(later, "c", "again")
    granted(earlier.ask(wish("b2", app="b", slot="sb2")))


def test_an_app_that_comes_again_has_one_at_once_too(world: World) -> None:
    """One mail now and then: though it had its part a moment ago, it does not wait for turns behind those who always wait."""
    first, comes = world.another(), world.another()
    slot = granted(comes.ask(wish("d", app="d", slot="sd"))).slot
    assert slot is not None
    comes.report([Report("d", 0)])
    comes.close_slot(slot)
    granted(first.ask(wish("a", app="a", slot="sa")))
    granted(first.ask(wish("b", app="a", slot="sb")))
    waits = world.another()
    mails(waits, "c", 1)
    for tenth in range(6):
        lacks(waits, "c", str(tenth))
        mails(first, "a", 1, tag=f"t{tenth}")
        world.pass_s(0.1)
    lacks(comes, "d", "again", comes=True)
    assert mails(first, "a", 1, tag="now").want is Want.NOW
    first.close_slot(Slot("sa", "default", HOST))
    assert lacks(waits, "c", "6").wait_s > 0.15
    granted(comes.ask(wish("e", app="d", slot="se")))


def test_an_app_that_was_there_just_now_waits_for_a_turn(world: World) -> None:
    """Who has lost its connection to others is not who comes new, however long its mails take."""
    first, others, waits = (world.another() for _ in range(3))
    granted(first.ask(wish("a", app="a", slot="sa")))
    slot = granted(others.ask(wish("b", app="b", slot="sb"))).slot
    assert slot is not None
    lacks(waits, "c")
    world.pass_s(0.6)
    others.close_slot(slot)
    granted(waits.ask(wish("d", app="c", slot="sc")))
    lacks(others, "b", "again")
    assert mails(first, "a", 1, tag="then").want is Want.IDLE
    assert mails(first, "a", 5, tag="more").want is Want.TURN


@pytest.mark.parametrize("number", [1, 5])
def test_an_app_that_has_had_more_than_all_others_does_not_come(world: World, number: int) -> None:
    """By sending now and then nobody gets more than those that always wait."""
    first, comes = world.another(), world.another()
    granted(first.ask(wish("a", app="a", slot="sa")))
    mails(comes, "d", number)
    granted(first.ask(wish("b", app="a", slot="sb")))
    world.pass_s(0.6)
    mails(first, "a", 1, tag="then")
    lacks(comes, "d", comes=True)
    assert (mails(first, "a", 1, tag="now").want is Want.NOW) is (number == 1)


def test_an_app_whose_settings_name_no_others_has_turns_too(world: World) -> None:
    """What it has had is not known, so that nobody can have had less."""
    first = world.another()
    for slot in ("sa", "sa2"):
        mails(first, "a", 1, slot=slot, tag=slot)
    alone = replace(SHARED, weights={"d": 1})
    world.change(alone)
    lacks(world.another(), "d")
    world.change(SHARED)
    assert mails(first, "a", 1, tag="then").want is Want.TURN


def test_high_has_one_at_once_of_those_that_others_use(world: World) -> None:
    """A connection of the same priority is not closed for it before its turn is over."""
    first, second = world.another(), world.another()
    granted(first.ask(wish("a", app="a", slot="sa", priority=Priority.HIGH)))
    granted(second.ask(wish("b", app="b", slot="sb")))
    lacks(world.another(), "a", "high", priority=Priority.HIGH)
    assert granted(first.ask(wish("a2", app="a", priority=Priority.HIGH))).want is Want.TURN
    assert mails(second, "b", 1, tag="now").want is Want.NOW
    assert mails(second, "b", 1, tag="then").want is Want.TURN
