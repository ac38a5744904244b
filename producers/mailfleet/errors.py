"""What mailfleet raises.

MailfleetError
├── InvalidMail            a field of a mail is wrong; nothing was written
├── IdempotencyConflict    the same idempotency key came with another payload
├── SettingsError          a setting is wrong: key, expectation, value
├── UnknownMail            the app has no mail of that id
├── EditConflict           the mail was changed meanwhile, or is where nobody may edit it
├── NotSent                `send` ended without a server taking the mail over
│   ├── SendFailed         it never will: failed, expired, cancelled or held
│   ├── SendSkipped        a stored mail was left as it is: sent already, being sent, held, spent
│   └── RetryScheduled     not yet: it is queued again and will be tried at `due_at`
└── SendRefused            `send` cannot work here (inside a write transaction, in a worker thread)

Expected outcomes of `post` are values (`mailfleet.results`), not exceptions.
"""

from datetime import datetime


class MailfleetError(Exception):
    """The root of all errors of mailfleet."""


class InvalidMail(MailfleetError, ValueError):  # noqa: N818 - reads as the fact it states
    """A field of a mail is wrong: *field* names it (`to[2]`), *reason* says what was expected. Nothing was written."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class IdempotencyConflict(MailfleetError):  # noqa: N818
    """*key* was used before by *app* for mail *mail_id* with another payload. Nothing was written."""

    def __init__(self, app: str, key: str, mail_id: int) -> None:
        super().__init__(
            f"idempotency_key: {key!r} of app {app!r} belongs to mail {mail_id} with another payload"
        )
        self.app = app
        self.key = key
        self.mail_id = mail_id


class SettingsError(MailfleetError, ValueError):
    """A setting is wrong: its *key*, what was *expected*, and the *value* found (never a secret's)."""

    def __init__(self, key: str, expected: str, value: object) -> None:
        super().__init__(f"{key}: expected {expected}, got {value!r}")
        self.key = key
        self.expected = expected
        self.value = value


class NotSent(MailfleetError):  # noqa: N818
    """`send` ended without a server taking the mail over. *reason* is the row's, or the last reply's text."""

    def __init__(self, mail_id: int, reason: str) -> None:
        super().__init__(f"mail {mail_id}: {reason}")
        self.mail_id = mail_id
        self.reason = reason


class SendFailed(NotSent):
    """The mail will not be sent: the row is *state* failed, expired, cancelled or held."""

    def __init__(self, mail_id: int, state: str, reason: str) -> None:
        super().__init__(mail_id, f"{state}: {reason}")
        self.state = state


class RetryScheduled(NotSent):
    """The mail was tried and is queued again; it will be tried at *due_at* (aware, UTC)."""

    def __init__(self, mail_id: int, reason: str, due_at: datetime) -> None:
        super().__init__(mail_id, f"{reason}; next try at {due_at.isoformat()}")
        self.due_at = due_at


class SendSkipped(NotSent):
    """The mail is stored, and left as it is: in *state*, for *reason*. As `results.Skipped`."""

    def __init__(self, mail_id: int, state: str, reason: str) -> None:
        super().__init__(mail_id, reason)
        self.state = state


class UnknownMail(MailfleetError, LookupError):  # noqa: N818
    """The app has no mail *mail_id*: it never had, or its row was deleted."""

    def __init__(self, mail_id: int) -> None:
        super().__init__(f"mail {mail_id}: the app has no such mail")
        self.mail_id = mail_id


class EditConflict(MailfleetError):  # noqa: N818
    """Mail *mail_id* is not edited, for *reason*; its version is *version* now. Nothing was written."""

    def __init__(self, mail_id: int, version: int, reason: str) -> None:
        super().__init__(f"mail {mail_id}: {reason}")
        self.mail_id = mail_id
        self.version = version
        self.reason = reason


class SendRefused(MailfleetError):  # noqa: N818
    """`send` would wait for itself here; *reason* says why and what to do instead. Nothing was written."""
