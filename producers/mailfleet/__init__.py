"""Mail of an application, sent by mailfleet's workers: written in the application's own transactions, never lost.

```python
mailer = Mailer.from_env(app="billing")

with Session(engine) as session, session.begin():
    session.add(invoice)
    mailer.emit(Mail(to="ada@example.net", subject="Invoice 17", text=text), session=session)
```
Importing it reads no settings and connects to nothing. Everything else that an application may use is in
`mailfleet.testing`, `mailfleet.django` and `mailfleet.stores` (`store`); other modules are mailfleet's own.
"""

from typing import TYPE_CHECKING

from mailfleet.async_mailer import AsyncMailer
from mailfleet.emailmessage import from_email_message, from_eml
from mailfleet.errors import (
    EditConflict,
    IdempotencyConflict,
    InvalidMail,
    MailfleetError,
    NotSent,
    RetryScheduled,
    SendFailed,
    SendRefused,
    SendSkipped,
    SettingsError,
    UnknownMail,
)
from mailfleet.mail import Attachment, Lazy, Mail, Ref
from mailfleet.mailer import Mailer
from mailfleet.registry import Attempt, CannotRender, Rendered, on_attempt, renderer
from mailfleet.results import (
    Conflict,
    Failed,
    Invalid,
    Pending,
    Refused,
    Reply,
    Result,
    Retry,
    Scheduled,
    Sent,
    Skipped,
    Unknown,
)
from mailfleet.status import Status
from mailfleet.validation import Limits
from mailfleet_schema.content import Address

if TYPE_CHECKING:
    __version__: str

__all__ = [
    "Address",
    "AsyncMailer",
    "Attachment",
    "Attempt",
    "CannotRender",
    "Conflict",
    "EditConflict",
    "Failed",
    "IdempotencyConflict",
    "Invalid",
    "InvalidMail",
    "Lazy",
    "Limits",
    "Mail",
    "Mailer",
    "MailfleetError",
    "NotSent",
    "Pending",
    "Ref",
    "Refused",
    "Rendered",
    "Reply",
    "Result",
    "Retry",
    "RetryScheduled",
    "Scheduled",
    "SendFailed",
    "SendRefused",
    "SendSkipped",
    "Sent",
    "SettingsError",
    "Skipped",
    "Status",
    "Unknown",
    "UnknownMail",
    "from_email_message",
    "from_eml",
    "on_attempt",
    "renderer",
]


def __getattr__(name: str) -> str:
    # Reading a distribution's metadata takes longer than the rest of this module.
    if name == "__version__":
        from importlib.metadata import version

        return version("mailfleet")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
