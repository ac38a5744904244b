"""From a verdict to what is written: one pure decision about one attempt (the table in `docs/states.md`).

Nothing here touches a database, a clock or a network; the sender does what an `Outcome` says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, assert_never

from mailfleet_schema.reasons import CONDITION
from mailfleet_schema.statements.attempt import Attempt
from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.statements.recipient import Recipient
from mailfleet_schema.statements.settle import Settlement
from mailfleet_schema.states import OnDoubt, Phase, State
from mailfleet_workers.smtp.base import Reply
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

#: Longer texts of servers are cut: they go into a row that is read often.
MAX_TEXT = 500


@dataclass(frozen=True, slots=True)
class Policy:
    """The waiting times that a decision needs, in seconds.

    `try_next_s` is the gap between copies and the first back-off after a Retry; each further failure waits
    `backoff` times as long, `most_retry_s` at most.
    """

    try_next_s: float = 60.0
    backoff: float = 5.0
    most_retry_s: float = 4 * 3600.0
    settle_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Tried:
    """What is known of an attempt beside its verdict."""

    worker_id: int
    host: str | None
    smtp_phase: str | None
    recipients: tuple[str, ...]
    duration_ms: int
    dry_run: bool = False
    #: Why not everybody gets it, if that is so and it is accepted.
    note: str | None = None
    #: Its content is to be removed if it is sent by this.
    purge: bool = False


@dataclass(frozen=True, slots=True)
class GateWish:
    """An account, host or recipient domain has to wait, for everybody."""

    scope: str
    key: str
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything one attempt writes: the row, its history, its recipients; and who else has to wait.

    `purge` says that the mail's content is to be removed when it is sent for good.
    """

    settlement: Settlement
    attempt: Attempt
    recipients: tuple[Recipient, ...] = ()
    forget_recipients: bool = False
    gates: tuple[GateWish, ...] = ()
    purge: bool = False

    @property
    def accepted(self) -> bool:
        """Whether a server took the mail over: then it must be known, however late."""
        return self.attempt.verdict == "accepted"

    @property
    def purges(self) -> bool:
        """Whether the content goes with this result."""
        return self.purge and self.settlement.state is State.SENT

    def bare(self) -> "Outcome":
        """Without any text that came from outside: what is left when a database refuses to store one."""
        return replace(
            self,
            settlement=replace(self.settlement, reason=None, enhanced=None, text=None, queue_id=None),
            attempt=replace(self.attempt, reason=None, text=None),
            recipients=(),
            gates=(),
        )

    def as_json(self) -> dict[str, Any]:
        """For the journal; gates are left out, the next attempt finds them again."""
        return {
            "settlement": asdict(self.settlement),
            "attempt": asdict(self.attempt),
            "recipients": [
                {"address": r.address, "outcome": r.outcome, "code": r.code, "text": r.text}
                for r in self.recipients
            ],
            "forget_recipients": self.forget_recipients,
            "purge": self.purge,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Outcome":
        settlement = dict(value["settlement"])
        settlement["phase"] = Phase(settlement["phase"])
        settlement["state"] = State(settlement["state"])
        mail_id = settlement["mail_id"]
        return cls(
            settlement=Settlement(**settlement),
            attempt=Attempt(**value["attempt"]),
            recipients=tuple(Recipient(mail_id=mail_id, **r) for r in value["recipients"]),
            forget_recipients=value["forget_recipients"],
            purge=bool(value.get("purge")),  # a journal of before had none
        )


def decide(
    row: Claimed,
    judgement: Judgement,
    tried: Tried,
    policy: Policy,
    *,
    phase: Phase,
    before: Sequence[Recipient] = (),
) -> Outcome:
    """What the verdict on one attempt at *row*, now in *phase*, makes of it.

    *before* is what earlier attempts at this copy made of single recipients: where one was accepted, the mail ends
    as sent (partial), never as failed.
    """
    outcome = _decided(row, judgement, tried, policy, phase=phase, before=before)
    return replace(outcome, purge=True) if tried.purge else outcome


def _decided(
    row: Claimed,
    judgement: Judgement,
    tried: Tried,
    policy: Policy,
    *,
    phase: Phase,
    before: Sequence[Recipient],
) -> Outcome:
    verdict = judgement.verdict
    accepted_before = any(one.outcome == "accepted" for one in before)
    if before and not judgement.recipients:
        # Their outcomes are told apart already: what this attempt says is written for each.
        each = tuple(RecipientVerdict(address, verdict) for address in tried.recipients)
        judgement = Judgement(verdict, each)
    reply = _reply(verdict)
    base = Settlement(
        mail_id=row.id,
        fence=row.fence,
        phase=phase,
        state=State.FAILED,
        sends=1,
        code=reply.code if reply else None,
        enhanced=reply.enhanced if reply else None,
        text=cut(reply.text if reply else _reason(verdict)),
        cost_ms=tried.duration_ms,
        worker_id=tried.worker_id,
    )
    attempt = Attempt(
        mail_id=row.id,
        fence=row.fence,
        worker_id=tried.worker_id,
        account=row.account,
        host=tried.host,
        phase=tried.smtp_phase,
        verdict=type(verdict).__name__.lower(),
        reason=cut(_reason(verdict)),
        code=base.code,
        text=cut(reply.text) if reply else None,
        duration_ms=tried.duration_ms,
        recipients=len(tried.recipients),
        dry_run=tried.dry_run,
    )
    gates = _gates(row, judgement, tried)
    match verdict:
        case Accepted():
            refused_before = any(one.outcome == "refused" for one in before)
            return _accepted(
                row,
                judgement,
                base,
                attempt,
                policy,
                note="dry_run" if tried.dry_run else tried.note,
                refused_before=refused_before,
                gates=gates,
            )
        case Stop():
            counts = 0 if verdict.kind == CONDITION else 1
            ended = _ended(
                replace(base, sends=counts),
                accepted_before=accepted_before,
                reason=f"{verdict.kind}: {cut(verdict.reason)}",
                fails=counts,
            )
            return Outcome(ended, attempt, _given_up(row, judgement, before), gates=gates)
        case Wait():
            waiting = replace(
                base,
                state=State.QUEUED,
                waits=1,
                due_in_s=verdict.seconds,
                reason=f"wait({verdict.scope.value}): {cut(verdict.reason)}",
            )
            return Outcome(waiting, attempt, _recipients(row, judgement.recipients), gates=gates)
        case Retry():
            spent = _spent(row)
            if spent:
                ended = _ended(base, accepted_before=accepted_before, reason=spent, fails=1)
                return Outcome(ended, attempt, _given_up(row, judgement, before), gates=gates)
            again = replace(
                base,
                state=State.QUEUED,
                fails=1,
                due_in_s=retry_in_s(row.sum_fail, policy),
                reason=f"retry: {cut(verdict.reason)}",
            )
            return Outcome(again, attempt, _recipients(row, judgement.recipients), gates=gates)
        case Uncertain():
            look_in_s = 0.0 if row.on_doubt is OnDoubt.HOLD else policy.settle_s
            doubt = replace(
                base,
                state=State.DOUBT,
                look_in_s=look_in_s,
                reason=f"uncertain: {cut(verdict.reason)}",
            )
            return Outcome(doubt, attempt)
        case _:
            assert_never(verdict)


def retry_in_s(fails_before: int, policy: Policy) -> float:
    """The back-off after a failure that *fails_before* others came before."""
    return min(policy.try_next_s * policy.backoff ** min(fails_before, 20), policy.most_retry_s)


def _accepted(
    row: Claimed,
    judgement: Judgement,
    base: Settlement,
    attempt: Attempt,
    policy: Policy,
    *,
    note: str | None,
    refused_before: bool,
    gates: tuple[GateWish, ...],
) -> Outcome:
    verdict = judgement.verdict
    assert isinstance(verdict, Accepted)  # noqa: S101 - the caller matched it
    base = replace(base, queue_id=verdict.queue_id)
    open_ones = [r for r in judgement.recipients if isinstance(r.verdict, Wait | Retry)]
    failing = any(isinstance(r.verdict, Retry) for r in open_ones)
    if open_ones and not (failing and _spent(row)):
        waits = [r.verdict.seconds for r in open_ones if isinstance(r.verdict, Wait)]
        if failing:
            waits.append(retry_in_s(row.sum_fail, policy))
        later = replace(
            base,
            state=State.QUEUED,
            due_in_s=max(waits),
            fails=1 if failing else 0,
            waits=0 if failing else 1,
            reason=f"open: {len(open_ones)} of {len(judgement.recipients)} recipients",
        )
        return Outcome(later, attempt, _recipients(row, judgement.recipients), gates=gates)
    fails = 1 if failing else 0
    if row.sum_done + 1 < row.max_done:
        copy = replace(
            base, state=State.QUEUED, dones=1, fails=fails, due_in_s=policy.try_next_s, reason="copy"
        )
        # For whoever stops it here; the next copy forgets them.
        recipients = _recipients(row, judgement.recipients, give_up=True)
        return Outcome(copy, attempt, recipients, forget_recipients=True, gates=gates)
    refused = refused_before or any(not isinstance(r.verdict, Accepted) for r in judgement.recipients)
    # Whoever refused a redirected mail was none of its recipients.
    reason = "partial" if refused and note != "redirected" else note
    sent = replace(base, state=State.SENT, dones=1, fails=fails, reason=reason)
    return Outcome(sent, attempt, _recipients(row, judgement.recipients, give_up=True), gates=gates)


def _ended(base: Settlement, *, accepted_before: bool, reason: str, fails: int) -> Settlement:
    if accepted_before:
        return replace(base, state=State.SENT, dones=1, fails=fails, reason="partial")
    return replace(base, state=State.FAILED, fails=fails, reason=reason)


def _spent(row: Claimed) -> str | None:
    if not row.retry:
        return "no retry"
    return "max_fail" if row.sum_fail + 1 >= row.max_fail else None


def _recipients(
    row: Claimed, verdicts: Sequence[RecipientVerdict], *, give_up: bool = False
) -> tuple[Recipient, ...]:
    return tuple(_recipient(row, one, give_up=give_up) for one in verdicts)


def _given_up(row: Claimed, judgement: Judgement, before: Sequence[Recipient]) -> tuple[Recipient, ...]:
    """The recipients of a mail that has ended: also of those that this attempt did not come to nobody is open."""
    told = _recipients(row, judgement.recipients, give_up=True)
    return told + still_open(before, told)


def still_open(before: Sequence[Recipient], told: Sequence[Recipient]) -> tuple[Recipient, ...]:
    """Those open *before* of whom nothing was *told*, given up."""
    addresses = {one.address for one in told}
    return tuple(
        replace(one, outcome="refused")
        for one in before
        if one.outcome == "open" and one.address not in addresses
    )


def _recipient(row: Claimed, one: RecipientVerdict, *, give_up: bool) -> Recipient:
    reply = _reply(one.verdict)
    code, text = (reply.code, cut(reply.text)) if reply else (None, cut(_reason(one.verdict)))
    match one.verdict:
        case Accepted():
            return Recipient(row.id, one.address, "accepted", code, text)
        case Stop():
            return Recipient(row.id, one.address, "refused", code, text)
        case Wait() | Retry() | Uncertain():
            return Recipient(row.id, one.address, "refused" if give_up else "open", code, text)
        case _:
            assert_never(one.verdict)


def _gates(row: Claimed, judgement: Judgement, tried: Tried) -> tuple[GateWish, ...]:
    """Who else has to wait: the account or host that a Wait speaks of, also when it was said of one recipient."""
    wishes: dict[tuple[str, str], GateWish] = {}
    for verdict in (judgement.verdict, *(one.verdict for one in judgement.recipients)):
        if not isinstance(verdict, Wait):
            continue
        if verdict.scope is Scope.ACCOUNT:
            wish = GateWish("account", row.account, verdict.seconds, cut(verdict.reason))
        elif verdict.scope is Scope.HOST and tried.host:
            wish = GateWish("host", tried.host, verdict.seconds, cut(verdict.reason))
        else:
            continue
        known = wishes.get((wish.scope, wish.key))
        if known is None or known.seconds < wish.seconds:
            wishes[wish.scope, wish.key] = wish
    return tuple(wishes.values())


def _reply(verdict: Verdict) -> Reply | None:
    return None if isinstance(verdict, Uncertain) else verdict.reply


def _reason(verdict: Verdict) -> str:
    return verdict.reply.text if isinstance(verdict, Accepted) else verdict.reason


def cut(text: str) -> str:
    """*text* as a row can hold it: no NUL, valid UTF-8, at most `MAX_TEXT` characters."""
    # PostgreSQL's text holds no NUL, and a server may say one; a lone surrogate is no UTF-8.
    clean = text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= MAX_TEXT else clean[: MAX_TEXT - 1] + "…"
