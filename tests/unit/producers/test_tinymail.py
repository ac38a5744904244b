"""TinyMail's integers for what mailfleet's verbs answer and raise."""

from datetime import UTC, datetime, timedelta

import pytest

from mailfleet import (
    Conflict,
    EditConflict,
    Failed,
    IdempotencyConflict,
    Invalid,
    InvalidMail,
    MailfleetError,
    Pending,
    Refused,
    Retry,
    Scheduled,
    SendRefused,
    Sent,
    Skipped,
    Unknown,
    UnknownMail,
)
from mailfleet.results import Result, raised
from mailfleet.tinymail import ERR_CHECK, ERR_OTHER, SUCCESS, Answer, code_of, planned

NOW = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
MS = 1_769_846_400_000

ANSWERS: list[tuple[Answer, int]] = [
    (Sent(1), SUCCESS),
    (Sent(1, reason="dry_run"), SUCCESS),
    (Skipped(1, "sent", "max_done: 1 of 1 copies are out"), ERR_CHECK),
    (Failed(1, "failed", "condition: run mode: the mail is for product, this is local"), ERR_CHECK),
    (Failed(1, "failed", "render: no renderer 'bill' is registered"), ERR_CHECK),
    (Failed(1, "failed", "stop: 550 no such user"), ERR_OTHER),
    (Failed(1, "held", "poison"), ERR_OTHER),
    (Retry(1, LATER, "retry: 451"), MS + 300_000),
    (Scheduled(1, LATER), MS + 300_000),
    (Pending(1, "queued", LATER, None), MS + 300_000),
    (Pending(1, "queued", NOW - timedelta(days=1), None), MS),
    (Pending(1, "sending", None, None), MS),
    (Unknown(1), ERR_OTHER),
    (Invalid("to[0]", "expected one @"), ERR_OTHER),
    (Conflict("billing", "k", 2), ERR_OTHER),
    (Refused("in a worker's thread"), ERR_OTHER),
    (InvalidMail("to", "empty"), ERR_OTHER),
    (IdempotencyConflict("billing", "k", 2), ERR_OTHER),
    (SendRefused("in a worker's thread"), ERR_OTHER),
    (UnknownMail(1), ERR_OTHER),
    (EditConflict(1, 2, "edited"), ERR_OTHER),
]


@pytest.mark.tinymail("2")
@pytest.mark.parametrize(("answer", "code"), ANSWERS, ids=repr)
def test_the_code_of_an_answer(answer: Answer, code: int) -> None:
    """0 for sent, -1 where a check said no, a time in ms where something is planned, -2 for the rest."""
    assert code_of(answer, now=NOW) == code


@pytest.mark.parametrize(
    "result",
    [one for one, _ in ANSWERS if not isinstance(one, MailfleetError | Scheduled | Sent | Pending)],
    ids=repr,
)
def test_what_send_raises_has_the_code_of_what_post_answers(result: Result) -> None:
    """`send` and `post` differ in how they say it, not in what it means."""
    with pytest.raises(MailfleetError) as caught:
        raised(result)
    assert code_of(caught.value, now=NOW) == code_of(result, now=NOW)


def test_what_emit_planned() -> None:
    """The time of a mail that is to come, else now: TinyMail's emit says so of a mail that is due."""
    assert planned(LATER, now=NOW) == MS + 300_000
    assert planned(NOW - timedelta(days=1), now=NOW) == planned(None, now=NOW) == MS
