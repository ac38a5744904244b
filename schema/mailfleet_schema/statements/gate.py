"""Gates: waits of an account, host, recipient domain, app or of everything, that everybody respects."""

from collections.abc import Sequence
from dataclasses import dataclass

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template

SCOPES = ("account", "host", "recipient", "app", "all")
#: The key of the one gate of scope `all`.
EVERYTHING = "*"
#: How long a gate is closed that stays so until somebody opens it, in seconds: a hundred years.
UNTIL_OPENED_S = 36_525 * 86_400.0
#: A gate that was opened is told of for so long.
OPENED_S = 3600.0


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate: `key` of `scope` waits `remaining_s` more; `generation` grows with every change.

    `remaining_s` 0 or less means that it is open.
    """

    scope: str
    key: str
    remaining_s: float
    generation: int
    reason: str

    @property
    def until_opened(self) -> bool:
        """Whether it stays closed until somebody opens it."""
        return until_opened(self.remaining_s)


def until_opened(remaining_s: float) -> bool:
    """Whether a wait of *remaining_s* has no end of its own: a gate that was closed for `UNTIL_OPENED_S`."""
    return remaining_s > UNTIL_OPENED_S / 2


def reason_of(scope: str, reason: str) -> str:
    """The reason of rows that wait for a gate of *scope* which is closed for *reason*; `come_back` finds them by it."""
    return f"wait({scope}): {reason}"


@template
def _close(d: Dialect) -> str:
    # The later of two waits stands: a short one must not open what a long one closed.
    return d.format(
        """
        INSERT INTO {gate} AS g (scope, key, until_at, generation, reason, changed_at)
        VALUES (:scope, :key, {until_at}, 1, :reason, {clock})
        ON CONFLICT (scope, key) DO UPDATE
        SET until_at = excluded.until_at, generation = g.generation + 1, reason = excluded.reason,
            changed_at = excluded.changed_at
        WHERE excluded.until_at > g.until_at
        """,
        until_at=d.plus(d.clock, ":seconds"),
    )


def close_gate(connection: Executor, *, scope: str, key: str, seconds: float, reason: str) -> bool:
    """Let *key* of *scope* (one of `SCOPES`) wait *seconds*; False if it waits longer already."""
    d = dialect_of(connection)
    bound = {"scope": scope, "key": key, "seconds": seconds, "reason": reason}
    return connection.execute(_close(d), bound).rowcount == 1


@template
def _gates(d: Dialect) -> str:
    return d.format(
        """
        SELECT scope, key, {remaining_s} AS remaining_s, generation, reason FROM {gate}
        WHERE until_at > {since} ORDER BY scope, key
        """,
        remaining_s=d.seconds_until("until_at"),
        since=d.plus(d.now, "-:opened_s"),
    )


def gates(connection: Executor, *, opened_s: float = OPENED_S) -> Sequence[Gate]:
    """Every gate that is closed now, or was opened or ended within the last *opened_s* seconds.

    By the open ones who keeps gates elsewhere learns that one has ended before its time.
    """
    d = dialect_of(connection)
    return [
        Gate(row.scope, row.key, float(row.remaining_s), row.generation, row.reason)
        for row in connection.execute(_gates(d), {"opened_s": opened_s})
    ]


def closed_gates(connection: Executor) -> Sequence[Gate]:
    """Every gate that is closed now."""
    return gates(connection, opened_s=0.0)


@template
def _open(d: Dialect) -> str:
    return d.format(
        """
        UPDATE {gate} SET until_at = {clock}, generation = generation + 1, changed_at = {clock}
        WHERE scope = :scope AND key = :key AND until_at > {now}
          AND (CAST(:reason AS text) IS NULL OR (reason = :reason AND changed_at <= {since}))
        """,
        since=d.plus(d.now, "-:older_s"),
    )


def open_gate(
    connection: Executor, *, scope: str, key: str, reason: str | None = None, older_s: float = 0.0
) -> bool:
    """End a wait at once; False if there was none.

    With *reason* only one that has it, and was closed at least *older_s* seconds ago.
    """
    d = dialect_of(connection)
    bound = {"scope": scope, "key": key, "reason": reason, "older_s": older_s}
    return connection.execute(_open(d), bound).rowcount == 1
