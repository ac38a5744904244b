"""Rows whose account their workers do not know, or cannot use: they wait, with that as their reason, until somebody configures it.

A worker that knows such an account, because it was started with other settings or has heard of a change, need not wait for the time
that the one before has set.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, literal

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template

_START = "unknown account "
_BROKEN = "broken account "


def unknown_account(account: str) -> str:
    """The reason of rows that wait for *account*."""
    return f"{_START}'{account}'"


def unknown_account_of(account: ColumnElement[str]) -> ColumnElement[str]:
    """The same in SQL, of the column *account*."""
    return literal(f"{_START}'").concat(account).concat("'")


def broken_account(account: str, why: str) -> str:
    """The reason of rows that wait for *account*, which somebody configured in a way that cannot be used."""
    return f"{_BROKEN}'{account}': {why}"


def is_broken_account(reason: str) -> bool:
    """Whether *reason* is one of `broken_account`."""
    return reason.startswith(_BROKEN)


@template
def _account_known(d: Dialect) -> str:
    return d.format(
        """
        WITH page AS MATERIALIZED (
            SELECT id AS mail_id FROM {mail}
            WHERE app = :app AND state = 'queued' AND look_at > {now} AND look_at <= {latest}
              AND account {accounts} AND (reason LIKE :unknown OR reason LIKE :broken)
              AND due_at > {now} {skip_locked}
        )
        UPDATE {mail} AS m
        SET due_at = {clock}, look_at = {look_at}, looks = 0, changed_at = {clock}
        FROM page WHERE m.id = page.mail_id
        RETURNING id
        """,
        accounts=d.in_names("accounts"),
        latest=d.plus(d.now, ":most_s"),
        look_at=d.earliest(d.clock, "m.expires_at"),
    )


def account_known(connection: Executor, app: str, accounts: Sequence[str], *, most_s: float) -> int:
    """Let mail of *app* that waited for one of *accounts* be due now, and looked at; how many that is.

    Concerns rows whose next look is at most *most_s* seconds ahead, so that its cost is not in a whole backlog. May
    be run by any number of processes.
    """
    d = dialect_of(connection)
    bound = {"app": app, "accounts": d.bind_names(accounts), "most_s": most_s}
    bound |= {"unknown": f"{_START}%", "broken": f"{_BROKEN}%"}
    return len(connection.execute(_account_known(d), bound).all())
