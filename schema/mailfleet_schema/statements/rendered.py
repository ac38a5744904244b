"""What a renderer made of a lazy mail: stored once, so that no other attempt renders it again."""

from collections.abc import Mapping
from dataclasses import dataclass

from mailfleet_schema.content import FileRef
from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.settle import CLAIMANT
from mailfleet_schema.statements.template import template


@dataclass(frozen=True, slots=True)
class RenderedContent:
    """The content that the row (`mail_id`, `fence`) has from now on; its files are stored already.

    `worker_id` is whose claim it is; None asks for the fence alone.
    """

    mail_id: int
    fence: int
    subject: str
    text: str | None
    html: str | None
    attachments: tuple[FileRef, ...] = ()
    worker_id: int | None = None


@template
def _own(d: Dialect) -> str:
    # It changes the row, and so keeps it until the content is there: an edit or a cancel comes before or after both.
    return d.format(
        """
        UPDATE {mail} AS m SET changed_at = {clock}
        FROM {rows}
        WHERE m.id = v.mail_id AND m.fence = v.fence AND {claimant} AND m.phase = 'prepare'
        RETURNING id
        """,
        claimant=CLAIMANT,
        rows=d.rows("rows", {"mail_id": "bigint", "fence": "bigint", "worker_id": "bigint"}, "v"),
    )


_COLUMNS = {"id": "bigint", "subject": "text", "text": "text", "html": "text", "attachments": "jsonb"}


@template
def _store(d: Dialect) -> str:
    # A content that is there was rendered before, or written by somebody: it stays.
    return d.format(
        """
        UPDATE {mail_content} AS c
        SET subject = v.subject, text = v.text, html = v.html, attachments = v.attachments
        FROM {rows}
        WHERE c.mail_id = v.id AND c.text IS NULL AND c.html IS NULL
        RETURNING mail_id
        """,
        rows=d.rows("rows", _COLUMNS, "v"),
    )


def store_rendered(connection: Executor, content: RenderedContent) -> bool:
    """Store *content* in the caller's transaction if the row is still that claim's and has no body; whether it was.

    Store its files before, in a transaction of their own: an application that waits for this row may hold the same file.
    """
    d = dialect_of(connection)
    claim: Mapping[str, int | None] = {
        "mail_id": content.mail_id,
        "fence": content.fence,
        "worker_id": content.worker_id,
    }
    if not connection.execute(_own(d), {"rows": d.bind_rows([claim])}).all():
        return False
    row = {
        "id": content.mail_id,
        "subject": content.subject,
        "text": content.text,
        "html": content.html,
        "attachments": [one.as_json() for one in content.attachments] or None,
    }
    return bool(connection.execute(_store(d), {"rows": d.bind_rows([row])}).all())
