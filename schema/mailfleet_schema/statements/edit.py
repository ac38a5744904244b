"""A stored mail gets other content, by somebody who has seen which version he replaces."""

from dataclasses import dataclass

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.reasons import CONDITION
from mailfleet_schema.statements.attachment import store_attachments
from mailfleet_schema.statements.insert import (
    CONTENT_COLUMNS,
    MAIL_COLUMNS,
    NewMail,
    content_row,
    look_at,
    mail_row,
)
from mailfleet_schema.statements.recipient import forget_recipients
from mailfleet_schema.statements.template import template
from mailfleet_schema.states import Priority, State
from mailfleet_schema.topology import MAX_DELAY_S

#: What nobody is sending, and no server may have.
EDITABLE = (State.DRAFT, State.QUEUED, State.FAILED, State.EXPIRED, State.CANCELLED)


@dataclass(frozen=True, slots=True)
class Edited:
    """The row after the edit; `due_in_s` is 0 or less when it is due."""

    version: int
    state: State
    priority: Priority
    due_in_s: float


@dataclass(frozen=True, slots=True)
class NotEdited:
    """The row is as it was: in this state, with this version, and so many copies are out.

    `doubted` says that it is queued again out of doubt, `partly` that somebody has got it already.
    """

    version: int
    state: State
    sum_done: int
    doubted: bool = False
    partly: bool = False


@template
def _edit(d: Dialect) -> str:
    # A mail that is given no time keeps its own.
    due_at = "COALESCE(v.due_at, m.due_at)"
    listed = ", ".join(f"'{state}'" for state in EDITABLE)
    return d.format(
        """
        UPDATE {mail} AS m SET
            version = m.version + 1, account = v.account, priority = v.priority, due_at = {due_at},
            wanted_at = CASE WHEN v.due_at IS NULL THEN m.wanted_at ELSE v.due_at END,
            expires_at = v.expires_at, look_at = {look_at}, looks = 0,
            max_fail = v.max_fail, max_done = v.max_done, retry = v.retry, on_doubt = v.on_doubt,
            reason = CASE WHEN {voted} THEN v.reason ELSE m.reason END,
            pool = v.pool, only_apps = v.only_apps, changed_at = {clock}
        FROM {rows}
        WHERE m.id = :mail_id AND m.app = :app AND m.version = :version AND m.state || '' IN ({listed})
          AND m.sum_done < v.max_done AND COALESCE(m.reason, '') <> 'doubt'
          AND NOT EXISTS (SELECT 1 FROM {mail_recipient} AS r WHERE r.mail_id = m.id AND r.outcome = 'accepted')
        RETURNING id
        """,
        due_at=due_at,
        look_at=look_at(d, due_at, "v.expires_at"),
        # What the vote at publish said is said anew; other reasons are of what became of the mail.
        voted=f"m.state = 'queued' AND (v.reason IS NOT NULL OR m.reason LIKE '{CONDITION}:%')",
        rows=d.rows("rows", MAIL_COLUMNS, "v"),
        listed=listed,
    )


@template
def _replace(d: Dialect) -> str:
    # Every attempt and every copy keeps the Message-ID: an answer to an earlier one is an answer to this mail.
    names = [name for name in CONTENT_COLUMNS if name not in {"mail_id", "message_id"}]
    # Whose content was purged has one again.
    return d.format(
        "UPDATE {mail_content} AS c SET {settings}, purged_at = NULL FROM {rows} WHERE c.mail_id = v.mail_id",
        settings=", ".join(f'"{name}" = v."{name}"' for name in names),
        rows=d.rows("rows", CONTENT_COLUMNS, "v"),
    )


@template
def _standing(d: Dialect) -> str:
    return d.format(
        """
        SELECT version, state, priority, reason, sum_done, {due_in_s} AS due_in_s,
               EXISTS (SELECT 1 FROM {mail_recipient} AS r WHERE r.mail_id = m.id AND r.outcome = 'accepted') AS partly
        FROM {mail} AS m WHERE id = :mail_id AND app = :app
        """,
        due_in_s=d.seconds_until("due_at"),
    )


def edit_mail(
    connection: Executor, app: str, mail_id: int, mail: NewMail, *, version: int, grace_s: float
) -> Edited | NotEdited | None:
    """Replace the content and the handling of mail *mail_id* of *app*, if it still has *version*; None: there is none.

    State, sums, Message-ID and idempotency key stay; so does its time where *mail* has none. With nothing written where it
    has another version, is none of `EDITABLE`, has as many copies out as *mail* wants, where a recipient has got it, and
    where a server may have it: queued again out of doubt, it may still turn out to be sent as it was.
    """
    d = dialect_of(connection)
    bound = {"mail_id": mail_id, "app": app, "version": version, "grace_s": grace_s, "horizon_s": MAX_DELAY_S}
    edited = connection.execute(_edit(d), bound | {"rows": d.bind_rows([mail_row(d, app, 0, mail)])}).all()
    row = connection.execute(_standing(d), {"mail_id": mail_id, "app": app}).one_or_none()
    if row is None or not edited:
        if row is None:
            return None
        doubted = row.state == State.QUEUED and row.reason == "doubt"
        return NotEdited(
            row.version, State(row.state), row.sum_done, doubted=doubted, partly=bool(row.partly)
        )
    # Nobody has it: whom a server refused is as unknown as the new recipients.
    forget_recipients(connection, [mail_id])
    store_attachments(connection, app, mail.blobs)
    connection.execute(_replace(d), {"rows": d.bind_rows([content_row(mail_id, mail)])})
    return Edited(row.version, State(row.state), Priority(row.priority), float(row.due_in_s))
