"""What people do with rows: cancel, queue a draft, release, confirm, retry, force a copy."""

from collections.abc import Sequence
from dataclasses import dataclass

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
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
RELEASE = Operation("release", (State.HELD,), State.QUEUED)
CONFIRM = Operation("confirm", (State.HELD,), State.SENT)
RETRY = Operation("retry", (State.FAILED, State.EXPIRED, State.CANCELLED), State.QUEUED)
FORCE = Operation("force", (State.SENT,), State.QUEUED)
OPERATIONS = (CANCEL, QUEUE, RELEASE, CONFIRM, RETRY, FORCE)


def _sql(operation: Operation, d: Dialect) -> str:
    sources = ", ".join(f"'{source.value}'" for source in operation.sources)
    where = f"state IN ({sources})"
    if operation.from_prepare:
        # fence + 1 takes the row from the thread that prepares it: its record will find nothing.
        where = f"({where} OR (state = 'sending' AND phase = 'prepare'))"
    queued = operation.target is State.QUEUED
    settings = [
        f"state = '{operation.target.value}'",
        "phase = NULL",
        "worker_id = NULL",
        "reason = :reason",
        "fence = fence + 1",
        f"changed_at = {d.clock}",
    ]
    if queued:
        settings += [
            # A draft keeps the time it was given; what is sent again is due now.
            "due_at = due_at" if operation is QUEUE else f"due_at = {d.clock}",
            f"look_at = {d.clock}",
            "looks = 0",
            "interruptions = 0",
        ]
    if operation is RETRY:
        # All failures are allowed again, and what made it expire is lifted.
        settings += ["sum_fail = 0", "expires_at = NULL", f"wanted_at = {d.clock}"]
    if operation is FORCE:
        settings.append("max_done = max_done + 1")
    if operation is CONFIRM:
        settings.append(f"sent_at = {d.clock}")
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

    What became `queued` is due and looked at by the next pass of a reconciler; publish a hint to be faster.
    """
    if not ids:
        return set()
    d = dialect_of(connection)
    bound = {"ids": d.bind_ids(ids), "apps": d.bind_names(apps), "reason": reason}
    return {row.id for row in connection.execute(_STATEMENTS[operation](d), bound)}
