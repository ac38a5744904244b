"""Gates: waits of an account, host or recipient domain that everybody respects."""

from collections.abc import Sequence
from dataclasses import dataclass

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template


@dataclass(frozen=True, slots=True)
class Gate:
    """A closed gate: `key` of `scope` waits `remaining_s` more; `generation` grows with every change."""

    scope: str
    key: str
    remaining_s: float
    generation: int
    reason: str


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
    """Let *key* of *scope* (account, host, recipient) wait *seconds*; False if it waits longer already."""
    d = dialect_of(connection)
    bound = {"scope": scope, "key": key, "seconds": seconds, "reason": reason}
    return connection.execute(_close(d), bound).rowcount == 1


@template
def _gates(d: Dialect) -> str:
    return d.format(
        """
        SELECT scope, key, {remaining_s} AS remaining_s, generation, reason FROM {gate}
        WHERE until_at > {now} ORDER BY scope, key
        """,
        remaining_s=d.seconds_until("until_at"),
    )


def closed_gates(connection: Executor) -> Sequence[Gate]:
    """Every gate that is closed now."""
    d = dialect_of(connection)
    return [
        Gate(row.scope, row.key, float(row.remaining_s), row.generation, row.reason)
        for row in connection.execute(_gates(d))
    ]


@template
def _open(d: Dialect) -> str:
    return d.format(
        """
        UPDATE {gate} SET until_at = {clock}, generation = generation + 1, changed_at = {clock}
        WHERE scope = :scope AND key = :key AND until_at > {now}
        """
    )


def open_gate(connection: Executor, *, scope: str, key: str) -> bool:
    """End a wait at once; False if there was none."""
    d = dialect_of(connection)
    return connection.execute(_open(d), {"scope": scope, "key": key}).rowcount == 1
