"""Rows whose account their workers do not know: they wait, with that as their reason, until somebody configures it.

A worker that knows such an account, because it was started with other settings, need not wait for the time that the one
before has set.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, literal

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template

_START = "unknown account "


def unknown_account(account: str) -> str:
    """The reason of rows that wait for *account*."""
    return f"{_START}'{account}'"


def unknown_account_of(account: ColumnElement[str]) -> ColumnElement[str]:
    """The same in SQL, of the column *account*."""
    return literal(f"{_START}'").concat(account).concat("'")


@template
def _account_known(d: Dialect) -> str:
    return d.format(
        """
        WITH page AS MATERIALIZED (
            SELECT id AS mail_id FROM {mail}
            WHERE app = :app AND state = 'queued' AND look_at > {now} AND look_at <= {latest}
              AND reason {reasons} AND due_at > {now} {skip_locked}
        )
        UPDATE {mail} AS m
        SET due_at = {clock}, look_at = {look_at}, looks = 0, changed_at = {clock}
        FROM page WHERE m.id = page.mail_id
        RETURNING id
        """,
        reasons=d.in_names("reasons"),
        latest=d.plus(d.now, ":most_s"),
        look_at=d.earliest(d.clock, "m.expires_at"),
    )


def account_known(connection: Executor, app: str, accounts: Sequence[str], *, most_s: float) -> int:
    """Let mail of *app* that waited for one of *accounts* be due now, and looked at; how many that is.

    Concerns rows whose next look is at most *most_s* seconds ahead, so that its cost is not in a whole backlog. May
    be run by any number of processes.
    """
    d = dialect_of(connection)
    reasons = d.bind_names([unknown_account(one) for one in accounts])
    bound = {"app": app, "reasons": reasons, "most_s": most_s}
    return len(connection.execute(_account_known(d), bound).all())
