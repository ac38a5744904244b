"""What people do with rows: cancel, queue a draft, hold, release, confirm, retry, force a copy, fail what can never be sent."""

from collections.abc import Sequence
from dataclasses import dataclass

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.purge import has_content
from mailfleet_schema.statements.recipient import (
    confirm_recipients,
    forget_recipients,
    reopen_recipients,
    unfinished,
)
from mailfleet_schema.statements.template import template
from mailfleet_schema.states import State


@dataclass(frozen=True, slots=True)
class Operation:
    """One verb: from which states (and, for `sending`, only in `prepare`) to which."""

    name: str
    sources: tuple[State, ...]
    target: State
    from_prepare: bool = False


CANCEL = Operation("cancel", (State.DRAFT, State.QUEUED, State.HELD), State.CANCELLED, from_prepare=True)
QUEUE = Operation("queue", (State.DRAFT,), State.QUEUED)
HOLD = Operation("hold", (State.QUEUED, State.DOUBT), State.HELD)
RELEASE = Operation("release", (State.HELD,), State.QUEUED)
CONFIRM = Operation("confirm", (State.HELD,), State.SENT)
RETRY = Operation("retry", (State.FAILED, State.EXPIRED, State.CANCELLED), State.QUEUED)
FORCE = Operation("force", (State.SENT,), State.QUEUED)
FAIL = Operation("fail", (State.QUEUED,), State.FAILED)
OPERATIONS = (CANCEL, QUEUE, HOLD, RELEASE, CONFIRM, RETRY, FORCE, FAIL)


def _sql(operation: Operation, d: Dialect) -> str:
    sources = ", ".join(f"'{source.value}'" for source in operation.sources)
    # An expression of the state: by id, never through the index over all queued rows (see `claim`).
    where = f"state || '' IN ({sources})"
    if operation.from_prepare:
        # fence + 1 takes the row from the thread that prepares it: its record will find nothing.
        where = f"({where} OR phase = 'prepare')"
    queued = operation.target is State.QUEUED
    if queued:
        where = f"{where} AND {has_content(d, d.table('mail') + '.id')}"
    settings = [
        f"state = '{operation.target.value}'",
        "phase = NULL",
        "worker_id = NULL",
        "reason = :reason",
        "fence = fence + 1",
        f"changed_at = {d.clock}",
    ]
    if queued:
        # A draft keeps the time it was given if that is still to come; everything else is wanted now, however old
        # the row is: its age must not expire it before it is sent.
        wanted = f"CASE WHEN due_at > {d.clock} THEN due_at ELSE {d.clock} END"
        wanted = wanted if operation is QUEUE else d.clock
        settings += [
            f"due_at = {wanted}",
            f"wanted_at = {wanted}",
            f"look_at = {d.clock}",
            "looks = 0",
            "interruptions = 0",
        ]
    if operation is RETRY:
        settings.append("sum_fail = 0")  # all failures are allowed again
    if operation in {RETRY, FORCE}:
        settings.append("expires_at = NULL")  # what made it expire, or would at once, is lifted
    if operation is FORCE:
        settings.append("max_done = sum_done + 1")
    if operation is CONFIRM:
        # The copy is out: without counting it, a forced copy later would be sent twice.
        settings += ["sum_done = sum_done + 1", f"sent_at = {d.clock}"]
    return d.format(
        "UPDATE {mail} SET {settings} WHERE id {ids} AND app {apps} AND {where} RETURNING id, app, priority",
        settings=", ".join(settings),
        ids=d.in_ids("ids"),
        apps=d.in_names("apps"),
        where=where,
    )


_STATEMENTS = {
    operation: template(lambda d, operation=operation: _sql(operation, d))  # type: ignore[misc]
    for operation in OPERATIONS
}


def operate(
    connection: Executor,
    operation: Operation,
    ids: Sequence[int],
    *,
    apps: Sequence[str],
    reason: str | None = None,
) -> set[int]:
    """Apply *operation* to those of *ids* in *apps* that are in one of its states; returns which were.

    A mail whose content was purged is not queued any more. A forced copy goes to every recipient again, a retry to those who were refused; in the same transaction. What
    became `queued` is due and looked at by the next pass of a reconciler; publish a hint to be faster. A mail that goes in several
    transactions, one of which is confirmed, is queued for those who were not named in it.
    """
    if not ids:
        return set()
    if operation is CONFIRM and (more := unfinished(connection, ids)):
        went_on = _operate(connection, RELEASE, sorted(more), apps, reason)
        confirm_recipients(connection, sorted(went_on))
        return went_on | operate(
            connection, operation, [one for one in ids if one not in more], apps=apps, reason=reason
        )
    changed = _operate(connection, operation, ids, apps, reason)
    if operation is CONFIRM:
        confirm_recipients(connection, sorted(changed))
    elif operation is FORCE:
        forget_recipients(connection, sorted(changed))
    elif operation is RETRY:
        reopen_recipients(connection, sorted(changed))
    return changed


def _operate(
    connection: Executor, operation: Operation, ids: Sequence[int], apps: Sequence[str], reason: str | None
) -> set[int]:
    d = dialect_of(connection)
    bound = {"ids": d.bind_ids(ids), "apps": d.bind_names(apps), "reason": reason}
    return {row.id for row in connection.execute(_STATEMENTS[operation](d), bound)}
