"""The demo's plan and its judgement: they must be able to say no."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from mailfleet.validation import validate
from mailfleet_schema.states import State
from mailfleet_workers.demo.plan import APPS, Expected, Planned, plan
from mailfleet_workers.demo.verdicts import Row, judge

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_three_hundred_mails_of_three_apps() -> None:
    """A plan has 300 mails, numbered, and something of every fate."""
    planned = plan(1)

    assert [one.number for one in planned] == list(range(1, 301))
    assert Counter(one.app for one in planned) == {"billing": 100, "news": 140, "alerts": 60}
    assert {one.app for one in planned} == set(APPS)
    assert {one.expected for one in planned} == set(Expected)


def test_a_seed_repeats_itself() -> None:
    """The same seed gives the same mails, another one gives others."""
    assert plan(3) == plan(3)
    assert plan(3) != plan(4)


@pytest.mark.parametrize("seed", range(5))
def test_every_mail_is_valid_and_no_two_share_an_envelope(seed: int) -> None:
    """Validation takes all; no envelope comes twice, because greylisting and cuts go by sender and recipient."""
    planned = plan(seed)
    for one in planned:
        validate(one.mail, new_message_id=lambda: "<x@example.com>", now=NOW)
    envelopes = [
        (one.app, one.mail.to[0])  # type: ignore[index]
        for one in planned
        if one.expected is not Expected.FAILED
    ]
    assert len(set(envelopes)) == len(envelopes)


def made(expected: Expected) -> Planned:
    return Planned(1, "billing", plan(1)[0].mail, expected)


def row(state: State, reason: str | None = None, *, due_in_s: float = 0.0) -> Row:
    due = NOW + timedelta(seconds=due_in_s)
    return Row(1, 10, "billing", "default", state, reason, due, due)


RIGHT = [
    (Expected.SENT, row(State.SENT), 1),
    (Expected.PARTIAL, row(State.SENT, "partial"), 1),
    (Expected.FAILED, row(State.FAILED, "stop: recipient unknown"), 0),
    (Expected.SENT_OR_WAITING, row(State.SENT), 1),
    (Expected.SENT_OR_WAITING, row(State.QUEUED, "wait(account): quota", due_in_s=60), 0),
    (Expected.IN_DOUBT, row(State.DOUBT, "uncertain"), 1),
    (Expected.HELD, row(State.HELD, "doubt"), 1),
    (Expected.CANCELLED, row(State.CANCELLED), 0),
    (Expected.SCHEDULED, row(State.QUEUED, due_in_s=86_400), 0),
]


@pytest.mark.parametrize(("expected", "found", "copies"), RIGHT)
def test_what_is_right(expected: Expected, found: Row, copies: int) -> None:
    """A mail in its place, caught as often as it should be, is right."""
    assert judge(made(expected), found, copies, NOW).wrong is None


@pytest.mark.parametrize(("expected", "found", "copies"), RIGHT)
def test_a_copy_too_many_is_wrong(expected: Expected, found: Row, copies: int) -> None:
    """A second copy, or one of a mail that must not arrive, is always noticed."""
    assert "caught" in str(judge(made(expected), found, copies + 1, NOW).wrong)


@pytest.mark.parametrize("expected", list(Expected))
def test_a_mail_that_still_moves_is_wrong(expected: Expected) -> None:
    """A row that is due or being sent is no end for any mail."""
    assert judge(made(expected), row(State.QUEUED), 0, NOW).wrong
    assert judge(made(expected), row(State.SENDING), 0, NOW).wrong
