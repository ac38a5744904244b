"""Reading a mail's content when it is about to be sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mailfleet_schema.content import Address, Content, addresses_from_json, file_from_json
from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.purge import purges
from mailfleet_schema.statements.template import template
from mailfleet_schema.states import ContentPolicy


@dataclass(frozen=True, slots=True)
class StoredContent:
    """What a row says, and what only sending needs: the lazy renderer's name and parameter, run modes, mark.

    `content_policy` None is its app's. A content whose `purged_at` is not None is no content any more.
    """

    mail_id: int
    content: Content
    renderer: str | None
    parameter: Any
    run_modes: tuple[str, ...]
    mark: str | None
    content_policy: ContentPolicy | None = None
    purged_at: datetime | None = None

    def purges(self, of_app: ContentPolicy) -> bool:
        """Whether it is to be removed when the mail is sent, where its app's setting is *of_app*."""
        return purges(self.content_policy, of_app, lazy=self.renderer is not None)


@dataclass(frozen=True, slots=True)
class Labels:
    """What an application knows a mail by: its mark, and its reference as (type, key1, key2)."""

    mark: str | None = None
    ref: tuple[str | None, str | None, str | None] = (None, None, None)


@template
def _labels(d: Dialect) -> str:
    return d.format("SELECT mark, ref_type, ref_key1, ref_key2 FROM {mail_content} WHERE mail_id = :mail_id")


def labels_of(connection: Executor, mail_id: int) -> Labels:
    """The labels of a mail; of one without content there are none."""
    row = connection.execute(_labels(dialect_of(connection)), {"mail_id": mail_id}).one_or_none()
    return Labels() if row is None else Labels(row.mark, (row.ref_type, row.ref_key1, row.ref_key2))


@template
def _contents(d: Dialect) -> str:
    return d.format(
        """
        SELECT mail_id, message_id, sender, reply_to, "to", cc, bcc, subject, text, html, headers, attachments,
               list_unsubscribe, renderer, parameter, run_modes, mark, content_policy, purged_at
        FROM {mail_content} WHERE mail_id {ids}
        """,
        ids=d.in_ids("ids"),
    )


def contents_of(connection: Executor, ids: Sequence[int]) -> dict[int, StoredContent]:
    """The contents of the mails *ids*, by id; one that is missing has no content row."""
    d = dialect_of(connection)
    found = {}
    for row in connection.execute(_contents(d), {"ids": d.bind_ids(ids)}):
        sender = d.read_json(row.sender)
        found[row.mail_id] = StoredContent(
            mail_id=row.mail_id,
            content=Content(
                message_id=row.message_id,
                from_=Address.from_json(sender) if sender else None,
                to=addresses_from_json(d.read_json(row.to) or ()),
                cc=addresses_from_json(d.read_json(row.cc) or ()),
                bcc=addresses_from_json(d.read_json(row.bcc) or ()),
                reply_to=addresses_from_json(d.read_json(row.reply_to) or ()),
                subject=row.subject,
                text=row.text,
                html=row.html,
                headers=tuple((name, value) for name, value in d.read_json(row.headers) or ()),
                attachments=tuple(file_from_json(a) for a in d.read_json(row.attachments) or ()),
                list_unsubscribe=tuple(d.read_json(row.list_unsubscribe) or ()),
            ),
            renderer=row.renderer,
            parameter=d.read_json(row.parameter),
            run_modes=tuple(d.read_json(row.run_modes) or ()),
            mark=row.mark,
            content_policy=ContentPolicy(row.content_policy) if row.content_policy else None,
            purged_at=d.read_instant(row.purged_at),
        )
    return found
