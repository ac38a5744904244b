"""The content of a lazy mail: rendered, and stored before anything is said to a server.

Stored once, it is what every later attempt sends, by whichever worker. Only where the content policy is `render_only` is it
stored nowhere, and rendered again for each attempt.
"""

from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy.exc import DataError, IntegrityError

from mailfleet_schema.reasons import RENDER
from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.statements.content import StoredContent
from mailfleet_schema.statements.rendered import RenderedContent
from mailfleet_workers.desk import Desk
from mailfleet_workers.ledger import FileHeld
from mailfleet_workers.rendering import Made, NotNow
from mailfleet_workers.verdict import Retry, Stop

#: The policy under which no column holds what was rendered.
RENDER_ONLY = "render_only"
#: A mail one of whose files somebody else is storing comes back after so many seconds.
FILE_HELD_S = 10.0


@dataclass(frozen=True, slots=True)
class Unwanted:
    """The row is not this claim's any more."""


Content: TypeAlias = Made | Stop | Retry | NotNow | Unwanted


class LazyContent:
    """Makes the contents of *desk*'s lazy mails. It keeps nothing, so each thread may have its own."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def make(self, row: Claimed, stored: StoredContent) -> Content:
        """Render *row*, which says *stored*, and store it. Raises SQLAlchemyError where the database does not answer."""
        made = self._desk.renderers.render(row.app, row.priority, stored)
        if not isinstance(made, Made):
            return made
        if (stored.content_policy or self._desk.content_policy(row.app)) == RENDER_ONLY:
            return made
        content = RenderedContent(
            mail_id=row.id,
            fence=row.fence,
            subject=made.content.subject,
            text=made.content.text,
            html=made.content.html,
            attachments=made.content.attachments,
        )
        try:
            ours = self._desk.ledger.store_rendered(row.app, content, made.blobs)
        except FileHeld:
            return NotNow("render: a file of it is being stored by somebody else", FILE_HELD_S)
        except (DataError, IntegrityError) as error:
            return Stop(f"result: the database refuses it ({type(error.orig).__name__})", kind=RENDER)
        return made if ours else Unwanted()
