"""The end of an attempt: the record before the final dot, the result after it, and a late acceptance.

The guards name the phase and not the state: a phase is in `sending` only, a constraint of the table. Naming the state too
would offer PostgreSQL the index over all rows in `sending`, and with the statistics of a quiet hour it took it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.reconcile import MAX_AGE_S
from mailfleet_schema.statements.template import template
from mailfleet_schema.states import Phase, Place, State, is_legal


@dataclass(frozen=True, slots=True)
class Settlement:
    """The result of one attempt at the row (`mail_id`, `fence`), which is in `phase`, and the state that follows.

    `due_in_s` is for `queued` and counts from now; `look_in_s` is for `doubt`: when the policy is applied. `fails`,
    `dones` and `waits` are added to the row's sums, `sends` too. Reply fields None leave the row's last reply.
    `worker_id` is whose claim it is; None asks for the fence alone.
    """

    mail_id: int
    fence: int
    phase: Phase
    state: State
    reason: str | None = None
    due_in_s: float | None = None
    look_in_s: float | None = None
    sends: int = 0
    fails: int = 0
    dones: int = 0
    waits: int = 0
    code: int | None = None
    enhanced: str | None = None
    text: str | None = None
    queue_id: str | None = None
    cost_ms: int | None = None
    worker_id: int | None = None


#: Beside the fence: where a failover has lost rows, their ids are given to other mails, whose fences begin anew. What is
#: said of a lost mail must change none of those. A row that is nobody's any more, or a caller None, has the fence alone.
CLAIMANT = "(m.worker_id = v.worker_id OR m.worker_id IS NULL OR v.worker_id IS NULL)"
_ROW = {"mail_id": "bigint", "fence": "bigint", "worker_id": "bigint"}


@template
def _record(d: Dialect) -> str:
    return d.format(
        """
        UPDATE {mail} AS m SET phase = 'dot', changed_at = {clock}
        FROM {rows}
        WHERE m.id = v.mail_id AND m.fence = v.fence AND {claimant} AND m.phase = 'prepare'
          AND (m.expires_at IS NULL OR m.expires_at > {now} OR NOT CAST(:expiring AS boolean))
        RETURNING id, {left_s} AS left_s
        """,
        left_s=d.seconds_until("expires_at"),
        claimant=CLAIMANT,
        rows=d.rows("rows", _ROW, "v"),
    )


@template
def _expire(d: Dialect) -> str:
    return d.format(
        """
        UPDATE {mail} AS m
        SET state = 'expired', phase = NULL, reason = 'expires_at', worker_id = NULL, changed_at = {clock}
        FROM {rows}
        WHERE m.id = v.mail_id AND m.fence = v.fence AND {claimant} AND m.phase = 'prepare'
          AND m.expires_at <= {now}
        RETURNING id
        """,
        claimant=CLAIMANT,
        rows=d.rows("rows", _ROW, "v"),
    )


@dataclass(frozen=True, slots=True)
class Recorded:
    """Which rows may now get their final dot, and which expired; all others are somebody else's.

    `left_s` has, of those in `dot` that expire at all, how many seconds were left: one whose commit took longer has
    expired before it was recorded.
    """

    dot: frozenset[int]
    expired: frozenset[int]
    left_s: Mapping[int, float] = field(default_factory=dict)


def record(
    connection: Executor,
    rows: Sequence[tuple[int, int]],
    *,
    worker_id: int | None = None,
    expiring: bool = True,
) -> Recorded:
    """Record that the final dot of *rows* (id, fence) may be said from the commit of this transaction on.

    They are claims of *worker_id*; None asks for the fences alone. A row past its `expires_at` becomes `expired`
    instead, but not with *expiring* False: of a dot that was said long ago. Commit before the dot.
    """
    if not rows:
        return Recorded(frozenset(), frozenset())
    d = dialect_of(connection)
    bound = {"rows": d.bind_rows([{"mail_id": i, "fence": f, "worker_id": worker_id} for i, f in rows])}
    left_s = {row.id: row.left_s for row in connection.execute(_record(d), bound | {"expiring": expiring})}
    expired: frozenset[int] = frozenset()
    if expiring and len(left_s) < len(rows):
        expired = frozenset(row.id for row in connection.execute(_expire(d), bound))
    ends = {mail_id: float(left) for mail_id, left in left_s.items() if left is not None}
    return Recorded(frozenset(left_s), expired, ends)


_COLUMNS = {
    "mail_id": "bigint",
    "fence": "bigint",
    "phase": "text",
    "state": "text",
    "reason": "text",
    "due_in_s": "double precision",
    "look_in_s": "double precision",
    "sends": "integer",
    "fails": "integer",
    "dones": "integer",
    "waits": "integer",
    "code": "integer",
    "enhanced": "text",
    "text": "text",
    "queue_id": "text",
    "cost_ms": "integer",
    "worker_id": "bigint",
}


def _result(d: Dialect, guard: str, state: str) -> str:
    due_at = f"CASE WHEN v.due_in_s IS NULL THEN m.due_at ELSE {d.plus(d.clock, 'v.due_in_s')} END"
    return d.format(
        """
        UPDATE {mail} AS m
        SET state = {state}, phase = NULL, reason = v.reason,
            worker_id = CASE WHEN v.state = 'doubt' THEN m.worker_id END,
            due_at = {due_at},
            look_at = CASE v.state WHEN 'queued' THEN {look_queued} WHEN 'doubt' THEN {look_doubt}
                                   ELSE m.look_at END,
            looks = 0, changed_at = {clock},
            sum_send = m.sum_send + v.sends, sum_fail = m.sum_fail + v.fails,
            sum_done = m.sum_done + v.dones, waits = m.waits + v.waits,
            interruptions = CASE WHEN v.sends > 0 THEN 0 ELSE m.interruptions END,
            last_code = COALESCE(v.code, m.last_code),
            last_enhanced = CASE WHEN v.code IS NULL THEN m.last_enhanced ELSE v.enhanced END,
            last_text = COALESCE(v.text, m.last_text), queue_id = COALESCE(v.queue_id, m.queue_id),
            cost_ms = COALESCE(v.cost_ms, m.cost_ms),
            sent_at = CASE WHEN v.dones > 0 OR (v.state = 'sent' AND m.sent_at IS NULL) THEN {clock}
                           ELSE m.sent_at END
        FROM {rows}
        WHERE m.id = v.mail_id AND m.fence = v.fence AND {claimant} AND {guard}
        RETURNING id
        """,
        state=state,
        guard=guard,
        claimant=CLAIMANT,
        due_at=due_at,
        # Not later than its greatest age: a mail that is told to wait again and again would never be looked at.
        look_queued=d.earliest(
            d.plus(f"({due_at})", ":grace_s"), d.earliest(d.plus("m.wanted_at", ":max_age_s"), "m.expires_at")
        ),
        look_doubt=d.plus(d.clock, "COALESCE(v.look_in_s, 0)"),
        rows=d.rows("rows", _COLUMNS, "v"),
    )


@template
def _settle(d: Dialect) -> str:
    return _result(d, "m.phase = v.phase", "v.state")


@template
def _accept_late(d: Dialect) -> str:
    # A queued or held row counts only while it still is what the doubt made of it: the same fence, reason doubt.
    # In `prepare` the record before the dot was lost: whoever has a 250 under this fence knows better.
    guard = (
        "(m.phase IS NOT NULL OR m.state = 'doubt' OR (m.state IN ('held', 'queued') AND m.reason = 'doubt'))"
    )
    return _result(d, guard, "v.state")


def settle(
    connection: Executor, settlements: Sequence[Settlement], *, grace_s: float, max_age_s: float = MAX_AGE_S
) -> set[int]:
    """Write the results of attempts; returns the ids whose claim was still ours.

    Raises ValueError for a transition that the states do not know, and for the reason `doubt` on a row that is none
    any more: that is a bug of the caller.
    """
    if not settlements:
        return set()
    for one in settlements:
        if not is_legal(Place(State.SENDING, one.phase), Place(one.state)):
            raise ValueError(f"mail {one.mail_id}: sending({one.phase}) cannot become {one.state}")
        _check_reason(one)
    d = dialect_of(connection)
    bound = {"rows": d.bind_rows(settlements), "grace_s": grace_s, "max_age_s": max_age_s}
    rows = connection.execute(_settle(d), bound)
    return {row.id for row in rows}


def _check_reason(one: Settlement) -> None:
    # Only the doubt policy writes it: it lets a late acceptance in, and a second one would count a second copy.
    if one.reason == "doubt" and one.state is not State.DOUBT:
        raise ValueError(f"mail {one.mail_id}: reason doubt belongs to the doubt policy, not to {one.state}")


def accept_late(
    connection: Executor, settlements: Sequence[Settlement], *, grace_s: float, max_age_s: float = MAX_AGE_S
) -> set[int]:
    """A 250 that is known late (a paused worker, a replayed journal) settles a doubt by the same fence.

    *settlements* are acceptances: `sent`, or `queued` for a further copy or for recipients still open. It also
    takes a row that is still being sent (in `prepare` only if a failover lost its record), one that policy `hold`
    holds, and one that waits to be sent again and that nobody has claimed since. Harmless when repeated. Returns
    the ids that it settled.
    """
    if not settlements:
        return set()
    for one in settlements:
        if one.state not in {State.SENT, State.QUEUED} or one.phase is not Phase.DOT:
            raise ValueError(f"mail {one.mail_id}: a late acceptance cannot become {one.state}")
        _check_reason(one)
    d = dialect_of(connection)
    bound = {"rows": d.bind_rows(settlements), "grace_s": grace_s, "max_age_s": max_age_s}
    rows = connection.execute(_accept_late(d), bound)
    return {row.id for row in rows}
