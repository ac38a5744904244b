"""One event for every change of a mail's state; `docs/metrics.md` lists them with their fields.

`from` and `to` are places as in `docs/states.md`. What a server said is hidden here already, because an application that
embeds mailfleet has log handlers of its own. No event says anything of a mail's content or recipients.
"""

import logging
from collections.abc import Collection, Iterable
from typing import Any

from mailfleet_schema.statements.claim import Claimed, Return
from mailfleet_schema.states import Phase, Place, State
from mailfleet_workers.outcome import Outcome
from mailfleet_workers.telemetry.addresses import hide

log = logging.getLogger(__name__)

_PREPARE = str(Place(State.SENDING, Phase.PREPARE))
_DOT = str(Place(State.SENDING, Phase.DOT))


def _row(row: Claimed) -> dict[str, Any]:
    return {
        "mail_id": row.id,
        "app": row.app,
        "account": row.account,
        "priority": row.priority.value,
        "fence": row.fence,
    }


def claimed(rows: Iterable[Claimed], *, worker_id: int) -> None:
    """A worker has taken *rows*."""
    if log.isEnabledFor(logging.DEBUG):
        for row in rows:
            more = {"worker_id": worker_id, "from": State.QUEUED.value, "to": _PREPARE}
            log.debug("mail_claimed", extra=_row(row) | more)


def recorded(rows: Iterable[Claimed]) -> None:
    """The final dot of *rows* may be said."""
    if log.isEnabledFor(logging.DEBUG):
        for row in rows:
            log.debug("mail_recorded", extra=_row(row) | {"from": _PREPARE, "to": _DOT})


def expired(rows: Iterable[Claimed]) -> None:
    """The time of *rows* went by while they were prepared."""
    for row in rows:
        more = {"from": _PREPARE, "to": State.EXPIRED.value, "reason": "expires_at"}
        log.info("mail_expired", extra=_row(row) | more)


def settled(row: Claimed, outcome: Outcome, *, ours: bool) -> None:
    """The result of an attempt at *row*; when the claim is not *ours* any more, nothing was written."""
    settlement, attempt = outcome.settlement, outcome.attempt
    fields = _row(row) | {
        "worker_id": attempt.worker_id,
        "host": attempt.host,
        "from": str(Place(State.SENDING, settlement.phase)),
        "to": settlement.state.value,
        "verdict": attempt.verdict,
        "reason": _said(settlement.reason),
        "code": settlement.code,
        "enhanced": settlement.enhanced,
        # An acceptance says nothing but the queue id.
        "said": _said(settlement.text) if (settlement.code or 0) >= 400 else None,
        "queue_id": _said(settlement.queue_id),
        "duration_ms": attempt.duration_ms,
        "due_in_s": _seconds(settlement.due_in_s),
        "dry_run": attempt.dry_run or None,
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    if not ours:
        del fields["from"], fields["to"]
        log.warning("result_unused", extra=fields)
    elif settlement.state is State.DOUBT:
        log.warning("mail_doubt", extra=fields)
    else:
        log.info("mail_settled", extra=fields)


def given_back(
    rows: Iterable[Claimed],
    returns: Iterable[Return],
    *,
    ours: Collection[int],
    held: Collection[int],
    worker_id: int | None,
) -> None:
    """Of *rows*, those that were *ours* are queued again, but *held* after too many interruptions."""
    by_id = {one.mail_id: one for one in returns}
    for row in rows:
        if row.id not in ours:
            continue
        one = by_id[row.id]
        fields = _row(row) | {"worker_id": worker_id, "from": State.SENDING.value}
        if row.id in held:
            log.warning("mail_held", extra=fields | {"to": State.HELD.value, "reason": "poison"})
            continue
        more = {"to": State.QUEUED.value, "reason": _said(one.reason), "due_in_s": _seconds(one.due_in_s)}
        more |= {"interrupted": one.begun or None}
        log.info("mail_given_back", extra=fields | {k: v for k, v in more.items() if v is not None})


def poisoned(rows: Iterable[Claimed], *, worker_id: int) -> None:
    """*rows* were interrupted too often, and are held as soon as they are claimed."""
    for row in rows:
        more = {"worker_id": worker_id, "from": _PREPARE, "to": State.HELD.value, "reason": "poison"}
        log.warning("mail_held", extra=_row(row) | more)


# What a reconciler or a recovery does with rows of which it knows the ids.


def overdue(ids: Iterable[int]) -> None:
    """The time of *ids* went by before anybody could send them."""
    _found("mail_expired", ids, State.QUEUED.value, State.EXPIRED.value)


def resent(ids: Iterable[int]) -> None:
    """*ids* were in doubt and are sent again, as their policy says."""
    _found("mail_resent", ids, State.DOUBT.value, State.QUEUED.value, reason="doubt")


def held(ids: Iterable[int]) -> None:
    """*ids* were in doubt and wait for a person."""
    _found("mail_held", ids, State.DOUBT.value, State.HELD.value, reason="doubt")


def taken_back(ids: Iterable[int], *, reason: str) -> None:
    """*ids* were a worker's that does not hold them any more; nothing final was said of them."""
    _found("mail_taken_back", ids, State.SENDING.value, State.QUEUED.value, reason=reason)


def doubted(ids: Iterable[int], *, reason: str) -> None:
    """*ids* were a worker's that does not hold them any more, and a server may have them."""
    _found("mail_doubt", ids, _DOT, State.DOUBT.value, reason=reason)


def recovered(outcomes: Iterable[Outcome], *, ours: Collection[int]) -> None:
    """What a dead worker's journal knew of, where it was news to the database."""
    for outcome in outcomes:
        settlement = outcome.settlement
        if settlement.mail_id in ours:
            more: dict[str, Any] = {"fence": settlement.fence, "worker_id": outcome.attempt.worker_id}
            more |= {"verdict": outcome.attempt.verdict, "code": settlement.code}
            _found(
                "mail_recovered", [settlement.mail_id], State.SENDING.value, settlement.state.value, **more
            )


def _found(event: str, ids: Iterable[int], source: str, target: str, **more: Any) -> None:
    level = logging.WARNING if target in {State.DOUBT, State.HELD} else logging.INFO
    for mail_id in sorted(ids):
        log.log(level, event, extra={"mail_id": mail_id, "from": source, "to": target, **more})


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _said(text: str | None) -> str | None:
    return None if text is None else hide(text)
