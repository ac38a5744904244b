"""A mail that is stored already is to be sent: a draft, one that waits, or one that ended and may be tried once more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.senders import Apps, apps_of
from mailfleet_schema.statements.purge import has_content
from mailfleet_schema.statements.recipient import forget_recipients, reopen_recipients
from mailfleet_schema.statements.template import template
from mailfleet_schema.states import Priority, State


@dataclass(frozen=True, slots=True)
class Again:
    """A row that is queued now. Its sums are what they were; it is due when `due_in_s` is 0 or less.

    `apps` are those whose workers may send it (`mailfleet_schema.senders`).
    """

    mail_id: int
    priority: Priority
    sum_fail: int
    sum_done: int
    due_in_s: float
    apps: Apps = None


@dataclass(frozen=True, slots=True)
class Standing:
    """A row that was left as it is, with what keeps it so."""

    mail_id: int
    state: State
    reason: str | None
    sum_fail: int
    sum_done: int
    max_fail: int
    max_done: int
    past: bool
    purged: bool = False

    def why(self) -> str:
        """Why it is not sent again, for the one who asked."""
        match self.state:
            case State.SENDING:
                return "a worker has it"
            case State.DOUBT:
                return "a server may have it: its policy decides after a while"
            case State.HELD:
                return f"held ({self.reason}): an operator decides"
            case _ if self.purged:
                return "its content was purged: there is nothing left to send"
            case State.CANCELLED:
                return "it is cancelled"
            case _ if self.sum_done >= self.max_done:
                return f"max_done: {self.sum_done} of {self.max_done} copies are out"
            case _ if self.sum_fail >= self.max_fail:
                return f"max_fail: it failed {self.sum_fail} of {self.max_fail} times"
            case _ if self.past:
                return "its expires_at has passed"
            case _:
                return f"it was {self.state} a moment ago"


def _sql(d: Dialect, *, sources: Sequence[State], where: str = "", settings: Sequence[str] = ()) -> str:
    # A row that waits keeps its fence and its age: nothing of it changes but when its turn is.
    waits = "state = 'queued'"
    due_at = f"CASE WHEN :at_once OR due_at <= {d.now} THEN {d.clock} ELSE due_at END"
    listed = ", ".join(f"'{source.value}'" for source in sources)
    return d.format(
        """
        UPDATE {mail} SET
            state = 'queued', worker_id = NULL, reason = CASE WHEN {stays} THEN reason END,
            interruptions = CASE WHEN {waits} THEN interruptions ELSE 0 END,
            fence = fence + CASE WHEN {waits} THEN 0 ELSE 1 END,
            wanted_at = CASE WHEN {waits} THEN wanted_at ELSE {due_at} END,
            due_at = {due_at}, look_at = {clock}, looks = 0, changed_at = {clock},
            retry = COALESCE(CAST(:retry AS boolean), retry),
            priority = COALESCE(CAST(:priority AS text), priority){settings}
        WHERE id {ids} AND app = :app AND state || '' IN ({listed}) AND {has_content}{where}
        RETURNING id, priority, sum_fail, sum_done, {due_in_s} AS due_in_s, pool, only_apps
        """,
        waits=waits,
        # A late 250 is let in by the reason `doubt`; what a row waits for, by what keeps it waiting.
        stays=f"{waits} AND (reason = 'doubt' OR NOT :at_once)",
        due_at=due_at,
        settings="".join(f", {one}" for one in settings),
        ids=d.in_ids("ids"),
        listed=listed,
        # An empty mail is none.
        has_content=has_content(d, f"{d.table('mail')}.id"),
        where=where,
        due_in_s=d.seconds_until("due_at"),
    )


_EXPIRED = "(expires_at IS NOT NULL AND expires_at <= {now})"


@template
def _drafts(d: Dialect) -> str:
    return _sql(d, sources=(State.DRAFT,), where=f" AND NOT {d.format(_EXPIRED)}")


@template
def _waiting(d: Dialect) -> str:
    return _sql(d, sources=(State.DRAFT, State.QUEUED), where=f" AND NOT {d.format(_EXPIRED)}")


@template
def _forced_waiting(d: Dialect) -> str:
    lifted = f"expires_at = CASE WHEN {d.format(_EXPIRED)} THEN NULL ELSE expires_at END"
    return _sql(d, sources=(State.DRAFT, State.QUEUED), settings=(lifted,))


@template
def _ended(d: Dialect) -> str:
    spent = f" AND sum_fail < max_fail AND sum_done < max_done AND NOT {d.format(_EXPIRED)}"
    return _sql(d, sources=(State.FAILED, State.EXPIRED), where=spent)


# One more try, or one more copy, than it may have.
_ONE_MORE_TRY = "max_fail = CASE WHEN sum_fail < max_fail THEN max_fail ELSE sum_fail + 1 END"
_ONE_MORE_COPY = "max_done = CASE WHEN sum_done < max_done THEN max_done ELSE sum_done + 1 END"


@template
def _forced_ended(d: Dialect) -> str:
    sources = (State.FAILED, State.EXPIRED, State.CANCELLED)
    return _sql(d, sources=sources, settings=(_ONE_MORE_TRY, _ONE_MORE_COPY, "expires_at = NULL"))


@template
def _forced_sent(d: Dialect) -> str:
    # Copies that were wanted and not sent are not: somebody ended it with those that are out.
    one_copy = "max_done = sum_done + 1"
    return _sql(d, sources=(State.SENT,), settings=(_ONE_MORE_TRY, one_copy, "expires_at = NULL"))


@template
def _standings(d: Dialect) -> str:
    return d.format(
        """
        SELECT id, state, reason, sum_fail, sum_done, max_fail, max_done, {expired} AS past, NOT {has_content} AS purged
        FROM {mail} WHERE id {ids} AND app = :app
        """,
        expired=d.format(_EXPIRED),
        has_content=has_content(d, f"{d.table('mail')}.id"),
        ids=d.in_ids("ids"),
    )


def send_again(
    connection: Executor,
    ids: Sequence[int],
    *,
    app: str,
    at_once: bool,
    force: bool = False,
    retry: bool | None = None,
    priority: Priority | None = None,
) -> dict[int, Again | Standing]:
    """Queue those of *ids* of *app* that may be sent: by id, without those that are unknown.

    Drafts, mails that wait, and those that failed or expired and have failures, copies and time left; their sums stay.
    *force* goes beyond `max_fail`, `max_done`, `expires_at` and a cancellation by one try, and a mail that was sent goes to
    everybody again. Nobody's claim is touched: what a worker has, is held or in doubt stays as it is. So does a mail whose
    content was purged, whatever is forced.

    *at_once* makes it due now; else a time that is still to come stays. *retry* and *priority* None leave the row's own.
    """
    d = dialect_of(connection)
    bound = {
        "ids": d.bind_ids(ids),
        "app": app,
        "at_once": at_once,
        "retry": retry,
        "priority": None if priority is None else priority.value,
    }
    ended = connection.execute((_forced_ended if force else _ended)(d), bound).all()
    reopen_recipients(connection, sorted(row.id for row in ended))
    sent = connection.execute(_forced_sent(d), bound).all() if force else []
    if sent:
        forget_recipients(connection, sorted(row.id for row in sent))
    # Last: what was ended a moment ago is queued now, and would be found again.
    done = {row.id for row in (*ended, *sent)}
    left = [one for one in ids if one not in done]
    wait = _forced_waiting if force else _waiting
    waiting = connection.execute(wait(d), bound | {"ids": d.bind_ids(left)}).all() if left else []
    found: dict[int, Again | Standing] = {row.id: _again(row) for row in (*ended, *sent, *waiting)}
    if others := [one for one in ids if one not in found]:
        rows = connection.execute(_standings(d), {"ids": d.bind_ids(others), "app": app})
        found |= {
            row.id: Standing(
                mail_id=row.id,
                state=State(row.state),
                reason=row.reason,
                sum_fail=row.sum_fail,
                sum_done=row.sum_done,
                max_fail=row.max_fail,
                max_done=row.max_done,
                past=bool(row.past),
                purged=bool(row.purged),
            )
            for row in rows
        }
    return found


def queue_drafts(connection: Executor, ids: Sequence[int], *, app: str) -> list[Again]:
    """Queue those of *ids* of *app* that are drafts, for their time or now."""
    d = dialect_of(connection)
    bound = {"ids": d.bind_ids(ids), "app": app, "at_once": False, "retry": None, "priority": None}
    return [_again(row) for row in connection.execute(_drafts(d), bound)] if ids else []


def _again(row: Any) -> Again:
    return Again(
        row.id,
        Priority(row.priority),
        row.sum_fail,
        row.sum_done,
        float(row.due_in_s),
        apps_of(row.pool, row.only_apps),
    )
