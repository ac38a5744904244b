"""Closing and opening gates by hand: `waits add` and `clear`, `pause` and `resume`.

A gate that is opened brings back the mail that waits for it. That is done again whenever the gate is opened again, also
when it was open: a run that broke off is finished by the next one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from mailfleet_schema.statements import gate, waiting
from mailfleet_workers.operators.scope import Scope
from mailfleet_workers.outcome import cut
from mailfleet_workers.views.base import View
from mailfleet_workers.views.waits import GateStatus, list_waits

#: Rows that are looked through in one transaction.
STRETCH = 1000


@dataclass(frozen=True, slots=True)
class Closed(View):
    """What became of a wish to close a gate: `gate` is how it is closed now; `changed` False when it was so before."""

    changed: bool
    gate: GateStatus


@dataclass(frozen=True, slots=True)
class Opened(View):
    """A gate that is open now: whether it was closed before, how many mails came back, what everybody waits for still."""

    scope: str
    key: str
    was_closed: bool
    mails: int
    everything: GateStatus | None


def close(engine: Engine, scope: Scope, *, seconds: float | None, reason: str) -> Closed:
    """Let *scope* wait *seconds*, None until somebody opens it, for *reason*.

    The later of two waits stands: one that is closed for longer already stays as it is, with its own reason. Raises
    ValueError for a wait that is over at once.
    """
    text = cut(reason)
    with engine.begin() as connection:
        before = _closed(connection, scope)
        if before is not None and before.remaining_s is None and before.reason == text and seconds is None:
            return Closed(changed=False, gate=before)
        changed = gate.close_gate(
            connection,
            scope=scope.scope,
            key=scope.key,
            seconds=gate.UNTIL_OPENED_S if seconds is None else seconds,
            reason=text,
        )
        now = _closed(connection, scope)
    if now is None:
        raise ValueError(f"seconds: expected a wait that is not over at once, got {seconds}")
    return Closed(changed=changed, gate=now)


def open_again(
    engine: Engine,
    scope: Scope,
    *,
    servers: Mapping[str, str],
    told: Callable[[int], None] = lambda _: None,
) -> Opened:
    """Open the gate of *scope* and let the mail that waits for it come back.

    *servers* are the servers of the accounts that are known here. *told* hears how many mails came back so far.
    """
    with engine.begin() as connection:
        was_closed = gate.open_gate(connection, scope=scope.scope, key=scope.key)
    mails = bring_back(engine, scope, servers=servers, told=told)
    with engine.connect() as connection:
        everything = _closed(connection, Scope("all", gate.EVERYTHING))
    return Opened(scope.scope, scope.key, was_closed, mails, everything)


def bring_back(
    engine: Engine,
    scope: Scope,
    *,
    servers: Mapping[str, str],
    told: Callable[[int], None] = lambda _: None,
    limited: bool = False,
) -> int:
    """Let the mail that waits for the gate of *scope* come back now, with *limited* what a limit of it put off.

    Returns how many that is. Harmless beside workers, and when repeated.
    """
    come_back = waiting.come_back_limited if limited else waiting.come_back
    others = [account for account, server in servers.items() if server != scope.key]
    mails = 0
    with engine.connect() as connection:
        for app in waiting.apps_of(connection, scope.scope, scope.key):
            for stretch in waiting.stretches(connection, app, most=STRETCH):
                mails += come_back(connection, stretch, scope=scope.scope, key=scope.key, others=others)
                connection.commit()
                told(mails)
    return mails


def _closed(connection: Connection, scope: Scope) -> GateStatus | None:
    found = list_waits(connection).gates
    return next((one for one in found if (one.scope, one.key) == (scope.scope, scope.key)), None)
