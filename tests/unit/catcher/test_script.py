"""Scripts as data: what keeps a mail, plans, latches."""

import threading

import pytest

from mailfleet_workers.catcher.actions import (
    Action,
    Challenge,
    Cut,
    Default,
    Delay,
    Drip,
    Endless,
    Hold,
    Keep,
    Long,
    Raw,
    Reset,
    Say,
    Silent,
    keeps,
)
from mailfleet_workers.catcher.latch import Latch
from mailfleet_workers.catcher.script import Credentials, Event, Plan, Step


def event(step: Step, *, sender: str | None = None) -> Event:
    return Event(session_id=1, step=step, peer=("127.0.0.1", 1), time=0.0, sender=sender)


@pytest.mark.parametrize(
    "action",
    [
        Default(),
        Say(250, "2.0.0 Ok"),
        Delay(1, Say(250, "late")),
        Delay(1),
        Hold(Latch()),
        Hold(Latch(), Delay(1, Keep(Reset()))),
        Drip(Default(), 0.1),
        Drip(Say(250, "slow"), 0.1),
        Keep(Cut()),
        Keep(Silent()),
        Keep(Say(451, "4.3.0 taken all the same")),
        Keep(Raw(b"nonsense")),
        Endless(),
        Long(Say(250, "2.0.0 Ok")),
        Challenge("", Default()),
    ],
)
def test_what_accepts_keeps(action: Action) -> None:
    """A mail is kept by every action that accepts it, however deeply wrapped, and by Keep always."""
    assert keeps(action)


@pytest.mark.parametrize(
    "action",
    [
        Say(354, "no final reply"),
        Say(421, "4.3.2 closing"),
        Say(550, "5.7.1 no"),
        Delay(1, Say(450, "4.2.0 later")),
        Delay(1, Cut()),
        Hold(Latch(), Silent()),
        Drip(Say(550, "no"), 0.1),
        Raw(b"250 looks like a reply\r\n"),
        Endless(Say(451, "4.3.0 no")),
        Long(Say(550, "5.7.1 no")),
        Challenge("", Cut()),
        Cut(),
        Reset(),
        Silent(),
    ],
)
def test_what_does_not_accept_does_not_keep(action: Action) -> None:
    """Refusals and silent endings keep nothing unless they are wrapped in Keep."""
    assert not keeps(action)


def test_plan_repeats_single_actions() -> None:
    """A single action answers its step every time, and other steps get the default."""
    plan = Plan({Step.MAIL: Say(451, "4.3.0 no")})

    assert [plan(event(Step.MAIL)), plan(event(Step.RCPT)), plan(event(Step.MAIL))] == [
        Say(451, "4.3.0 no"),
        Default(),
        Say(451, "4.3.0 no"),
    ]


def test_plan_uses_sequences_up() -> None:
    """A sequence is used up in order, and then the step is answered by default."""
    plan = Plan({Step.EOD: [Cut(), Silent()]})

    assert [plan(event(Step.EOD)) for _ in range(3)] == [Cut(), Silent(), Default()]


def test_plan_uses_nothing_up_for_others() -> None:
    """Events that the condition leaves out use nothing of a sequence up."""
    plan = Plan({Step.RCPT: [Cut()]}, only=lambda asked: asked.sender == "a@x.test")

    assert plan(event(Step.RCPT, sender="b@x.test")) == Default()
    assert plan(event(Step.RCPT, sender="a@x.test")) == Cut()


def test_released_latch_does_not_hold() -> None:
    """Who comes to a released latch goes on at once, and counts as arrived."""
    latch = Latch()
    latch.release()
    passed: list[bool] = []

    latch.enter(lambda: passed.append(True))

    assert passed == [True]
    assert latch.arrived == 1


def test_latch_lets_everybody_go_once() -> None:
    """A release lets each waiting one go exactly once, even when it is repeated."""
    latch = Latch()
    passed: list[int] = []
    latch.enter(lambda: passed.append(1))
    latch.enter(lambda: passed.append(2))
    assert passed == []

    latch.release()
    latch.release()

    assert passed == [1, 2]


def test_arrival_is_seen_from_another_thread() -> None:
    """Waiting for an arrival ends when somebody arrives, in whichever thread."""
    latch = Latch()
    other = threading.Thread(target=latch.enter, args=(lambda: None,))
    other.start()

    latch.wait_for_arrival(deadline_s=10)

    other.join()


def test_missing_arrival_is_a_timeout() -> None:
    """Without the arrivals asked for, the wait ends with the number there was."""
    latch = Latch()
    latch.enter(lambda: None)

    with pytest.raises(TimeoutError, match="1 of 2 sessions"):
        latch.wait_for_arrival(2, deadline_s=0.01)


def test_password_is_not_in_the_repr() -> None:
    """An event can be printed without printing the password in it."""
    assert "s3cret" not in repr(Credentials("PLAIN", "ada", "s3cret"))
