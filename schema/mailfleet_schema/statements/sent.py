"""What was sent lately, for limits whose memory was lost: from the attempts, and from mails whose answer nobody knows yet.

It counts too much rather than too little: a mail that is in the air may not arrive, one in doubt may have an attempt, and one
that leaves its dot while it is read here may be told twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template


@dataclass(frozen=True, slots=True)
class Sent:
    """So many mails to so many recipients, the last of them `age_s` seconds ago."""

    age_s: float
    messages: int
    recipients: int


def _age(d: Dialect, instant: str) -> str:
    return f"(-{d.seconds_until(instant)})"


@template
def _attempts(d: Dialect) -> str:
    # Before MAIL nothing was said of a mail; an attempt without a phase ended before, unless it ended unknown.
    return d.format(
        """
        SELECT MIN({age}) AS age_s, COUNT(*) AS messages, SUM(recipients) AS recipients FROM {mail_attempt}
        WHERE ended_at > {since} AND NOT dry_run
          AND (phase IN ('mail', 'rcpt', 'data', 'eod') OR verdict = 'uncertain')
          AND ((CAST(:host AS text) IS NULL AND account {names}) OR host = :host)
        GROUP BY CAST({age} / :step_s AS bigint)
        """,
        age=_age(d, "ended_at"),
        since=d.plus(d.now, "-:window_s"),
        names=d.in_names("accounts"),
    )


@template
def _unknown(d: Dialect) -> str:
    length = " + ".join(f"COALESCE({d.json_length(column)}, 0)" for column in ('c."to"', "c.cc", "c.bcc"))
    return d.format(
        """
        SELECT 0.0 AS age_s, COUNT(*) AS messages, COALESCE(SUM({length}), 0) AS recipients
        FROM {mail} AS m JOIN {mail_content} AS c ON c.mail_id = m.id
        WHERE m.state = 'sending' AND m.phase = 'dot' AND m.account {names}
        UNION ALL
        SELECT MIN({age}), COUNT(*), COALESCE(SUM({length}), 0)
        FROM {mail} AS m JOIN {mail_content} AS c ON c.mail_id = m.id
        WHERE m.state = 'doubt' AND m.changed_at > {since} AND m.account {names}
        """,
        length=length,
        age=_age(d, "m.changed_at"),
        since=d.plus(d.now, "-:window_s"),
        names=d.in_names("accounts"),
    )


def sent(
    connection: Executor, *, accounts: Sequence[str], host: str | None, window_s: float, step_s: float
) -> list[Sent]:
    """What *accounts* sent within the last *window_s*, in steps of about *step_s*, oldest first.

    With *host* what was sent to that server by any account; *accounts* are those that use it now.
    """
    d = dialect_of(connection)
    bound = {"accounts": d.bind_names(accounts), "window_s": window_s}
    # First, because each statement sees what was committed before it: a mail that leaves its dot in between would be in neither.
    rows = [row for row in connection.execute(_unknown(d), bound) if row.messages]
    rows += connection.execute(_attempts(d), {**bound, "host": host, "step_s": step_s})
    found = [Sent(max(0.0, float(row.age_s)), row.messages, int(row.recipients)) for row in rows]
    return sorted(found, key=lambda one: -one.age_s)
