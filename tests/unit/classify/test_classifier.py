"""Judgements: phases, silences, several recipients, and what is no verdict at all."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from mailfleet_workers.classify import Rules, classify
from mailfleet_workers.smtp.base import Answer, Envelope, Phase, Reply
from mailfleet_workers.smtp.message import InMemory
from mailfleet_workers.verdict import (
    Accepted,
    Judgement,
    RecipientVerdict,
    Retry,
    Scope,
    Stop,
    Uncertain,
    Wait,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
A, B, C = "a@x.example", "b@x.example", "c@x.example"
OK = Reply(250, "2.1.5 ok")
UNKNOWN = Reply(550, "5.1.1 User unknown")
GREY = Reply(450, "4.2.0 Greylisted")
QUEUED = Reply(250, "2.0.0 Ok: queued as 4ABC")


def _judge(answer: Answer, *recipients: str) -> Judgement:
    envelope = Envelope("me@x.example", recipients or (A,), InMemory(b"\r\n"))
    return classify(answer, envelope, host="mail.example.com", rules=Rules.builtin(), now=NOW)


def _at(phase: Phase, reply: Reply | None, recipients: Mapping[str, Reply], **more: object) -> Answer:
    return Answer(phase, reply, recipients=recipients, **more)  # type: ignore[arg-type] # fields of a test


def test_an_accepted_mail_has_the_servers_queue_id() -> None:
    """250 after the dot is Accepted for everybody, and names no recipient."""
    judgement = _judge(_at(Phase.EOD, QUEUED, {A: OK}, dot_sent=True))
    assert judgement == Judgement(Accepted(QUEUED, "4ABC"))


def test_some_accepted_lists_every_recipient() -> None:
    """With one recipient refused the mail is Accepted, and each recipient has its verdict in order."""
    judgement = _judge(_at(Phase.EOD, QUEUED, {A: OK, B: UNKNOWN, C: GREY}, dot_sent=True), A, B, C)
    assert isinstance(judgement.verdict, Accepted)
    assert [(r.address, type(r.verdict)) for r in judgement.recipients] == [
        (A, Accepted),
        (B, Stop),
        (C, Wait),
    ]
    assert judgement.recipients[2] == RecipientVerdict(C, Wait(Scope.RECIPIENT, 300, "greylisted", GREY))


def test_all_refused_for_good_is_a_stop() -> None:
    """When every recipient is refused alike the mail shares the verdict, and nobody is listed."""
    judgement = _judge(_at(Phase.RCPT, UNKNOWN, {A: UNKNOWN, B: UNKNOWN}), A, B)
    assert judgement == Judgement(Stop("recipient unknown", UNKNOWN), each=True)


FULL = (
    Reply(452, "4.5.3 Too many recipients"),
    Reply(452, "4.5.3 no"),
    Reply(552, "too many recipients"),
    Reply(550, "5.5.3 Too many recipients"),
)


@pytest.mark.parametrize("full", FULL, ids=lambda reply: f"{reply.code} {reply.text}")
def test_those_without_room_are_the_rest(full: Reply) -> None:
    """A server that has enough recipients refuses the others for that only: nothing is said of them, and they are not listed."""
    judgement = _judge(_at(Phase.EOD, QUEUED, {A: OK, B: full, C: full}, dot_sent=True), A, B, C)
    assert judgement == Judgement(Accepted(QUEUED, "4ABC"), (), rest=(B, C))
    judgement = _judge(_at(Phase.EOD, QUEUED, {A: OK, B: UNKNOWN, C: full}, dot_sent=True), A, B, C)
    assert ([one.address for one in judgement.recipients], judgement.rest) == ([A, B], (C,))


@pytest.mark.parametrize("full", FULL, ids=lambda reply: f"{reply.code} {reply.text}")
def test_there_is_no_rest_of_what_nobody_has(full: Reply) -> None:
    """Where nobody is accepted it is a refusal as any other; where the message is refused, everybody shares that."""
    nobody = _judge(_at(Phase.RCPT, full, {A: full, B: full}), A, B)
    assert (nobody.rest, nobody.each) == ((), True)
    refused = Reply(554, "5.6.0 no such message")
    message = _judge(_at(Phase.EOD, refused, {A: OK, B: full}, dot_sent=True), A, B)
    assert (type(message.verdict), message.recipients, message.rest) == (Stop, (), ())


def test_a_time_that_is_stated_with_it_is_waited_for() -> None:
    """Then it is no matter of one transaction."""
    full = Reply(452, "4.5.3 Too many recipients, try again in 5 minutes")
    judgement = _judge(_at(Phase.EOD, QUEUED, {A: OK, B: full}, dot_sent=True), A, B)
    assert judgement.rest == ()
    assert isinstance(judgement.recipients[1].verdict, Wait)


def test_whom_we_kept_back_is_refused_alone() -> None:
    """An address that the server cannot take: a Stop of that recipient, with our reason; all of them are one of the mail."""
    one = _judge(_at(Phase.EOD, QUEUED, {A: OK}, dot_sent=True, kept_back={B: "not ASCII"}), A, B)
    assert one.recipients[1] == RecipientVerdict(B, Stop("not ASCII"))
    both = Answer(Phase.MAIL, None, "not ASCII", refused_locally=True, kept_back={A: "not ASCII", B: "no"})
    judgement = _judge(both, A, B)
    assert (type(judgement.verdict), judgement.each) == (Stop, True)


@pytest.mark.parametrize("order", [(UNKNOWN, GREY), (GREY, UNKNOWN)])
def test_all_refused_keeps_the_mail_open_for_those_who_wait(order: tuple[Reply, Reply]) -> None:
    """A Wait of one recipient is the mail's verdict, whichever reply came last; the other keeps its Stop."""
    judgement = _judge(_at(Phase.RCPT, order[1], dict(zip((A, B), order, strict=True))), A, B)
    assert judgement.verdict == Wait(Scope.RECIPIENT, 300, "greylisted", GREY)
    assert {type(r.verdict) for r in judgement.recipients} == {Stop, Wait}


def test_a_wait_of_the_account_goes_before_longer_ones_of_a_recipient() -> None:
    """When all were refused, the wait that concerns more than one recipient is the mail's."""
    full = Reply(452, "4.2.2 mailbox full")
    limit = Reply(450, "4.7.1 hourly sending limit reached")
    judgement = _judge(_at(Phase.RCPT, limit, {A: full, B: limit}), A, B)
    assert isinstance(judgement.verdict, Wait)
    assert judgement.verdict.scope is Scope.ACCOUNT


def test_421_to_one_recipient_leaves_all_others_open() -> None:
    """Recipients that were accepted before a 421, or never tried, share its wait; one refused before keeps its Stop."""
    closing = Reply(421, "4.3.2 closing")
    judgement = _judge(_at(Phase.RCPT, closing, {A: OK, B: UNKNOWN}), A, B, C)
    wait = Wait(Scope.HOST, 60, "connection ended by the server", closing)
    assert judgement.verdict == wait
    assert [r.verdict for r in judgement.recipients] == [wait, Stop("recipient unknown", UNKNOWN), wait]


def test_a_final_421_text_never_stops_untried_recipients() -> None:
    """What ended the conversation at RCPT was not said of the recipients after it."""
    closing = Reply(421, "suspicious due to the nature of the content bare lf")
    assert not isinstance(_judge(_at(Phase.RCPT, closing, {A: OK}), A, B).verdict, Stop)


def test_silence_at_rcpt_after_a_refusal_is_a_retry_of_the_others() -> None:
    """One refused, then nothing: the refused one stops, the rest is tried again."""
    answer = _at(Phase.RCPT, None, {A: UNKNOWN}, error="connection closed")
    judgement = _judge(answer, A, B)
    assert judgement.verdict == Retry("connection closed")
    assert [type(r.verdict) for r in judgement.recipients] == [Stop, Retry]


def test_a_refusal_after_the_dot_keeps_the_verdicts_of_rcpt() -> None:
    """451 after the dot is a Retry of the accepted recipients only."""
    later = Reply(451, "4.3.0 queue file write error")
    judgement = _judge(_at(Phase.EOD, later, {A: OK, B: UNKNOWN}, dot_sent=True), A, B)
    assert judgement.verdict == Retry("system trouble", later)
    assert [type(r.verdict) for r in judgement.recipients] == [Retry, Stop]


@pytest.mark.parametrize("phase", [Phase.CONNECT, Phase.EHLO, Phase.AUTH])
@pytest.mark.parametrize(
    ("error", "scope", "seconds"),
    [
        ("timed out", Scope.HOST, 900),
        ("connection refused", Scope.HOST, 120),
        ("host name not found", Scope.HOST, 300),
        ("TLS: certificate verify failed: certificate has expired", Scope.HOST, 3600),
        ("setting accounts.x.password: expected", Scope.ACCOUNT, 3600),
        ("the server offers no AUTH mechanism that we know", Scope.ACCOUNT, 3600),
        ("never seen before", Scope.HOST, 120),
    ],
)
def test_silence_before_mail_is_a_wait(phase: Phase, error: str, scope: Scope, seconds: float) -> None:
    """No answer before MAIL parks the host, or the account where only that can be at fault; no envelope is needed."""
    answer = Answer(phase, None, error)
    verdict = classify(answer, None, host="mail.example.com", rules=Rules.builtin(), now=NOW).verdict
    assert isinstance(verdict, Wait)
    assert (verdict.scope, verdict.seconds) == (scope, seconds)
    assert error in verdict.reason


@pytest.mark.parametrize("phase", [Phase.MAIL, Phase.RCPT, Phase.DATA])
def test_silence_from_mail_to_the_dot_is_a_retry(phase: Phase) -> None:
    """The mail was begun and certainly not taken."""
    assert _judge(_at(phase, None, {}, error="timed out")).verdict == Retry("timed out")


def test_silence_after_the_dot_is_uncertain() -> None:
    """Whoever was refused at RCPT stops all the same."""
    judgement = _judge(_at(Phase.EOD, None, {A: OK, B: UNKNOWN}, error="timed out", dot_sent=True), A, B)
    assert judgement.verdict == Uncertain("timed out")
    assert [type(r.verdict) for r in judgement.recipients] == [Uncertain, Stop]


def test_what_we_refused_ourselves_is_a_stop() -> None:
    """A mail larger than the server's SIZE is never tried there again."""
    error = "message of 9 bytes exceeds the server's SIZE limit 8"
    assert _judge(_at(Phase.MAIL, None, {}, error=error, refused_locally=True)).verdict == Stop(error)


def test_a_withheld_mail_has_no_verdict() -> None:
    """The caller gave it up, so asking is a bug."""
    with pytest.raises(ValueError, match="withheld"):
        _judge(_at(Phase.DATA, None, {}, withheld=True))


def test_a_time_stated_in_the_text_goes_before_the_table() -> None:
    """Where a rule says stop or retry and the text names a time, the text is believed; the rule's scope stays."""
    stated = Reply(554, "5.7.1 spam; blocked for 10 minutes")
    assert _judge(_at(Phase.EOD, stated, {A: OK}, dot_sent=True)).verdict == Wait(
        Scope.MAIL, 600, "spam or content refused", stated
    )
