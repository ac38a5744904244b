"""The verdict on an Answer: who is at fault, and what becomes of the mail and of each recipient.

The phase decides before the code does. Before MAIL no mail was judged, so nothing there is ever a Stop or a Retry: it is
a Wait of the host or the account. Silence from MAIL to the dot is a Retry, silence after the dot is Uncertain. Where
there is a reply, a time stated in it comes first, then the table of rules, whose last lines know codes only.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from mailfleet_workers.classify.rules import Rules
from mailfleet_workers.classify.ruling import BEFORE_MAIL, rule_on, rule_on_silence
from mailfleet_workers.classify.stated import queue_id
from mailfleet_workers.smtp.base import Answer, Envelope, Phase, Reply
from mailfleet_workers.verdict import (
    Accepted,
    Judgement,
    RecipientVerdict,
    Retry,
    Scope,
    Stop,
    Uncertain,
    Verdict,
    Wait,
)

#: The reason of the rules that speak of a server that takes so many recipients at once.
NO_ROOM = "too many recipients for one mail"


def classify(
    answer: Answer, envelope: Envelope | None, *, host: str, rules: Rules, now: datetime
) -> Judgement:
    """What *answer* means for the mail in *envelope*, sent to *host*; *now* is aware and read for stated moments.

    *envelope* may be None for an Answer of connect, ehlo or auth. An Answer that is `withheld` has no verdict: the
    mail is no longer the caller's to judge, and ValueError says so.

    When the dot was accepted, `verdict` is Accepted and `recipients` is empty or holds everybody. Otherwise recipients
    refused at RCPT keep their own verdicts, the others share `verdict`; when all were refused, `verdict` is the one
    that keeps the mail open longest. A recipient's Wait may be of the account or host: the caller parks those too. Those for
    whom a transaction had no room that was accepted for others are its `rest` (RFC 5321 4.5.3.1.10).
    """
    if answer.withheld:
        raise ValueError("an answer that is withheld has no verdict")
    recipients = envelope.recipients if envelope is not None else ()
    refused: dict[str, Verdict] = {
        address: of_reply(reply, Phase.RCPT, host=host, rules=rules, now=now)
        for address, reply in answer.recipients.items()
        if reply.code >= 400 and address in recipients
    }
    refused |= {address: Stop(why) for address, why in answer.kept_back.items()}
    surplus = _without_room(answer, refused)
    refused = {address: own for address, own in refused.items() if address not in surplus}
    if refused and len(refused) == len(set(recipients)):
        verdict = max(refused.values(), key=_openness)
        return Judgement(verdict, tuple(_listed(recipients, refused, verdict)), each=True)
    verdict = _of_answer(answer, host=host, rules=rules, now=now)
    if answer.phase is Phase.RCPT and isinstance(verdict, Stop) and not answer.refused_locally:
        # It was said of one recipient and ended the conversation before the others were heard.
        verdict = Retry(verdict.reason, verdict.reply)
    if not isinstance(verdict, Accepted):
        # What became of the mail is true of everybody who was not refused himself.
        return Judgement(verdict, tuple(_listed(recipients, refused, verdict)))
    named = tuple(address for address in recipients if address not in surplus)
    rest = tuple(address for address in dict.fromkeys(recipients) if address in surplus)
    return Judgement(verdict, tuple(_listed(named, refused, verdict)), rest)


def _without_room(answer: Answer, refused: Mapping[str, Verdict]) -> frozenset[str]:
    """Those who were *refused* only because others were accepted before them."""
    if not any(reply.code < 300 for reply in answer.recipients.values()):
        return frozenset()
    return frozenset(
        address
        for address, own in refused.items()
        # A time that the server stated makes a Wait of it.
        if isinstance(own, Stop | Retry) and own.reason == NO_ROOM
    )


def _listed(
    recipients: tuple[str, ...], refused: dict[str, Verdict], verdict: Verdict
) -> Iterator[RecipientVerdict]:
    """Every recipient once, nobody when all share *verdict*."""
    if any(own != verdict for own in refused.values()):
        for address in dict.fromkeys(recipients):
            yield RecipientVerdict(address, refused.get(address, verdict))


def _openness(verdict: Verdict) -> tuple[int, float]:
    match verdict:
        case Wait(scope=scope, seconds=seconds):
            return (3 if scope in {Scope.ACCOUNT, Scope.HOST} else 2), seconds
        case Retry():
            return 1, 0
        case _:
            return 0, 0


def _of_answer(answer: Answer, *, host: str, rules: Rules, now: datetime) -> Verdict:
    if answer.accepted and answer.reply is not None:
        return Accepted(answer.reply, queue_id(answer.reply.text))
    error = answer.error or "no reply"
    if answer.refused_locally:
        return Stop(error)
    if answer.reply is not None:
        return of_reply(answer.reply, answer.phase, host=host, rules=rules, now=now)
    if answer.dot_sent:
        return Uncertain(error)
    if answer.phase not in BEFORE_MAIL:
        return Retry(error)
    return rule_on_silence(error, rules=rules).verdict


def of_reply(reply: Reply, phase: Phase, *, host: str, rules: Rules, now: datetime) -> Verdict:
    """What one refusal means, by itself."""
    return rule_on(reply, phase, host=host, rules=rules, now=now).verdict
