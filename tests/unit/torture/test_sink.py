"""What servers answer in a storm."""

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mailfleet_workers.catcher import Cut, Default, Event, Say, Step
from mailfleet_workers.classify import Rules
from mailfleet_workers.classify.classifier import of_reply
from mailfleet_workers.smtp.base import Phase, Reply
from mailfleet_workers.verdict import Wait
from tests.torture.sink import FATES, Moods, fate_of

EVENT = Event(session_id=1, step=Step.CONNECT, peer=("127.0.0.1", 1), time=0.0)


def test_a_fate_follows_from_the_seed() -> None:
    """The same try of the same mail has the same fate, whatever was sent before; about one in ten is not well."""
    fates = [fate_of(3, f"m{number}@storm.example.com", 0) for number in range(2_000)]
    assert fates == [fate_of(3, f"m{number}@storm.example.com", 0) for number in range(2_000)]
    assert 100 <= sum(fate is not None for fate in fates) <= 300
    assert {fate.step for fate in fates if fate} == {step for _, step, _ in FATES}


@pytest.mark.parametrize("phase", [Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.EOD])
def test_no_wait_is_long(phase: Phase) -> None:
    """What a server says from MAIL on makes nobody wait for longer than a storm lasts."""
    said = [draw for _, step, draw in FATES if step.value == phase.value]
    for draw in said:
        match draw(random.Random(0)):
            case Say(code=code, text=text):
                verdict = of_reply(
                    Reply(code, text), phase, host="localhost", rules=Rules.builtin(), now=datetime.now(UTC)
                )
                assert not isinstance(verdict, Wait) or verdict.seconds <= 2.0


def test_a_fate_strikes_once() -> None:
    """It comes at its step of its try, and the next try has a fate of its own."""
    sender = next(
        f"m{number}@storm.example.com"
        for number in range(10_000)
        if (fate := fate_of(1, f"m{number}@storm.example.com", 0))
        and fate.step is Step.MAIL
        and fate.action == Cut()
        if fate_of(1, f"m{number}@storm.example.com", 1) is None
    )
    moods = Moods(1)
    mail = replace(EVENT, step=Step.MAIL, argument=sender)
    assert moods(EVENT) == Default()
    assert moods(mail) == Cut()
    assert moods(mail) == Default()
    assert moods.done == Counter({"mail: cut": 1})


def test_an_ailing_server() -> None:
    """It fails before MAIL now and then; the others never do."""
    ailing, well = Moods(1, ailing=True), Moods(1)
    assert {type(ailing(EVENT)) for _ in range(300)} > {Default, Cut}
    assert {well(EVENT) for _ in range(300)} == {Default()}
