"""From a verdict to what is written: one pure decision about one attempt (the table in `docs/states.md`).

Nothing here touches a database, a clock or a network; the sender does what an `Outcome` says.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from mailfleet_schema.reasons import CONDITION
from mailfleet_schema.statements.attempt import Attempt
from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.statements.recipient import Recipient
from mailfleet_schema.statements.settle import Settlement
from mailfleet_schema.states import OnDoubt, Phase, State
from mailfleet_workers.outcome import GateWish, Outcome, Policy, Tried, cut
from mailfleet_workers.outcome_recipients import Parts, reason_of, reply_of
from mailfleet_workers.verdict import Accepted, Judgement, Retry, Scope, Stop, Uncertain, Wait


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
    as sent (partial), never as failed. Whoever had no room in the transaction goes at once, and that is no failure.
    """
    base, attempt = _written(row, judgement, tried, phase)
    parts = Parts.of(row.id, judgement, tried, before)
    outcome = _decided(row, judgement, Outcome(base, attempt), parts, policy, tried)
    return replace(outcome, gates=_gates(row, judgement, tried), purge=tried.purge)


def retry_in_s(fails_before: int, policy: Policy) -> float:
    """The back-off after a failure that *fails_before* others came before."""
    return min(policy.try_next_s * policy.backoff ** min(fails_before, 20), policy.most_retry_s)


def _written(row: Claimed, judgement: Judgement, tried: Tried, phase: Phase) -> tuple[Settlement, Attempt]:
    """What is written whatever follows: the server's reply, and the line of the history."""
    verdict = judgement.verdict
    reply = reply_of(verdict)
    queue_id = verdict.queue_id if isinstance(verdict, Accepted) else None
    base = Settlement(
        mail_id=row.id,
        fence=row.fence,
        phase=phase,
        state=State.FAILED,
        sends=1,
        code=reply.code if reply else None,
        enhanced=reply.enhanced if reply else None,
        text=cut(reply.text if reply else reason_of(verdict)),
        queue_id=queue_id,
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
        reason=cut(reason_of(verdict)),
        code=base.code,
        enhanced=base.enhanced,
        text=cut(reply.text) if reply else None,
        queue_id=queue_id,
        duration_ms=tried.duration_ms,
        recipients=len(tried.recipients),
        dry_run=tried.dry_run,
    )
    return base, attempt


def _decided(
    row: Claimed, judgement: Judgement, outcome: Outcome, parts: Parts, policy: Policy, tried: Tried
) -> Outcome:
    """*outcome* with what follows; its settlement has what does not depend on that."""
    verdict, base = judgement.verdict, outcome.settlement
    if isinstance(verdict, Accepted) or (judgement.each and (parts.rest or parts.others)):
        return _of_recipients(row, judgement, outcome, parts, policy, tried)
    match verdict:
        case Stop():
            counts = 0 if verdict.kind == CONDITION else 1
            ended = _ended(
                replace(base, sends=counts), parts, f"{verdict.kind}: {cut(verdict.reason)}", fails=counts
            )
            return replace(outcome, settlement=ended, recipients=parts.last_rows())
        case Wait():
            waiting = replace(
                base,
                state=State.QUEUED,
                waits=1,
                due_in_s=verdict.seconds,
                reason=f"wait({verdict.scope.value}): {cut(verdict.reason)}",
            )
            return replace(outcome, settlement=waiting, recipients=parts.open_rows())
        case Retry():
            if spent := _spent(row):
                ended = _ended(base, parts, spent, fails=1)
                return replace(outcome, settlement=ended, recipients=parts.last_rows())
            again = replace(
                base,
                state=State.QUEUED,
                fails=1,
                due_in_s=retry_in_s(row.sum_fail, policy),
                reason=f"retry: {cut(verdict.reason)}",
            )
            return replace(outcome, settlement=again, recipients=parts.open_rows())
        case Uncertain():
            look_in_s = 0.0 if row.on_doubt is OnDoubt.HOLD else policy.settle_s
            doubt = replace(
                base,
                state=State.DOUBT,
                look_in_s=look_in_s,
                reason=f"uncertain: {cut(verdict.reason)}",
            )
            return replace(outcome, settlement=doubt)
        case _:
            assert_never(verdict)


def _of_recipients(
    row: Claimed, judgement: Judgement, outcome: Outcome, parts: Parts, policy: Policy, tried: Tried
) -> Outcome:
    """Some have it, or at least everybody was heard: what follows depends on who is left."""
    base, accepted = outcome.settlement, isinstance(judgement.verdict, Accepted)
    verdicts = [one.verdict for one in parts.told]
    waits = [one for one in verdicts if isinstance(one, Wait)]
    failing, spent = any(isinstance(one, Retry) for one in verdicts), _spent(row)
    if parts.rest:
        # Those who failed count when everybody had a turn. A gate that closes keeps the others too.
        rows = parts.open_rows(spent=bool(spent))
        gated = [one.seconds for one in waits if one.scope in {Scope.ACCOUNT, Scope.HOST}]
        on = replace(base, state=State.QUEUED, due_in_s=max(gated, default=0.0), reason=parts.open_of(rows))
        return replace(outcome, settlement=on, recipients=rows)
    if (waits or failing or parts.others) and not (failing and spent):
        rows = parts.open_rows()
        seconds = [one.seconds for one in waits]
        if failing or parts.others:
            seconds.append(retry_in_s(row.sum_fail, policy))
        later = replace(
            base,
            state=State.QUEUED,
            due_in_s=max(seconds),
            fails=1 if failing else 0,
            waits=0 if failing else 1,
            reason=parts.open_of(rows),
        )
        return replace(outcome, settlement=later, recipients=rows)
    rows, fails = parts.last_rows(), 1 if failing else 0
    if not accepted:
        ended = _ended(base, parts, spent or "max_fail", fails=fails)
        return replace(outcome, settlement=ended, recipients=rows)
    if row.sum_done + 1 < row.max_done:
        copy = replace(
            base, state=State.QUEUED, dones=1, fails=fails, due_in_s=policy.try_next_s, reason="copy"
        )
        # The rows are for whoever stops it here; the next copy forgets them.
        return replace(outcome, settlement=copy, recipients=rows, forget_recipients=True)
    note = "dry_run" if tried.dry_run else tried.note
    refused = any(one.outcome == "refused" for one in (*parts.before, *rows))
    # Whoever refused a redirected mail was none of its recipients.
    reason = "partial" if refused and note != "redirected" else note
    sent = replace(base, state=State.SENT, dones=1, fails=fails, reason=reason)
    return replace(outcome, settlement=sent, recipients=rows)


def _ended(base: Settlement, parts: Parts, reason: str, *, fails: int) -> Settlement:
    if parts.accepted_before:
        return replace(base, state=State.SENT, dones=1, fails=fails, reason="partial")
    return replace(base, state=State.FAILED, fails=fails, reason=reason)


def _spent(row: Claimed) -> str | None:
    if not row.retry:
        return "no retry"
    return "max_fail" if row.sum_fail + 1 >= row.max_fail else None


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
