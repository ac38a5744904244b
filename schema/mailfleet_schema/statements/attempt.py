"""The history of attempts: append-only, one line for every try and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template


@dataclass(frozen=True, slots=True)
class Attempt:
    """One line of `mail_attempt`; append-only. `verdict` is the verdict's name in lower case.

    `code`, `enhanced` and `text` are the reply that ended it (a server's enhanced code, RFC 3463); `queue_id` is the server's name of
    what it took over, None where it took nothing or named none.
    """

    mail_id: int
    fence: int
    worker_id: int
    account: str
    host: str | None
    phase: str | None
    verdict: str
    reason: str | None = None
    code: int | None = None
    text: str | None = None
    duration_ms: int | None = None
    recipients: int = 0
    dry_run: bool = False
    enhanced: str | None = None
    queue_id: str | None = None


_ATTEMPT_COLUMNS = {
    "mail_id": "bigint",
    "fence": "bigint",
    "worker_id": "bigint",
    "account": "text",
    "host": "text",
    "phase": "text",
    "verdict": "text",
    "reason": "text",
    "code": "integer",
    "text": "text",
    "duration_ms": "integer",
    "recipients": "integer",
    "dry_run": "boolean",
    "enhanced": "text",
    "queue_id": "text",
}


@template
def _attempts(d: Dialect) -> str:
    listed = ", ".join(_ATTEMPT_COLUMNS)
    return d.format(
        "INSERT INTO {mail_attempt} ({listed}, ended_at) SELECT {listed}, {clock} FROM {rows}",
        listed=listed,
        rows=d.rows("rows", _ATTEMPT_COLUMNS, "v"),
    )


def add_attempts(connection: Executor, attempts: Sequence[Attempt]) -> None:
    """Append *attempts*; call it in the transaction that settles them."""
    if attempts:
        d = dialect_of(connection)
        connection.execute(_attempts(d), {"rows": d.bind_rows(attempts)})
