"""Limits as people say them: `30 messages a minute; 10,000 recipients a day; 3 connections`."""

from collections.abc import Iterable, Sequence

from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.preset import Preset
from mailfleet_workers.limits.rule import Rate, Scope, Unit

_ONE = {"s": "a second", "min": "a minute", "h": "an hour", "d": "a day"}


def of_preset(preset: Preset) -> str:
    """What *preset* sets, and that nothing is documented where it sets nothing."""
    parts = [
        *_rates(preset.messages, "messages"),
        *_rates(preset.recipients, "recipients"),
        *_connections(preset.connections),
    ]
    if preset.max_messages:
        parts.append(f"{preset.max_messages:,} messages on a connection")
    nothing = "no documented figures without a plan" if preset.plans else "no documented figures"
    return "; ".join(parts) or nothing


def of_account(limits: Limits) -> str:
    """What the account may do by itself; `no limits` if it may do anything."""
    return _said(limits, Scope.ACCOUNT, limits.connections, limits.login_gap_ms) or "no limits"


def of_host(limits: Limits) -> str:
    """What all accounts of its host may do together; empty if they may do anything."""
    return _said(limits, Scope.HOST, limits.host_connections, limits.host_login_gap_ms)


def rate(one: Rate) -> str:
    """`14 a second`, `300 in 10 s`."""
    return f"{one.limit:,} {_window(one)}"


def _said(limits: Limits, scope: Scope, connections: int | None, gap_ms: int) -> str:
    parts: list[str] = []
    for unit in Unit:
        mine = [rule.rate for rule in limits.rules if rule.scope is scope and rule.unit is unit]
        parts += _rates(mine, unit.value)
    parts += _connections(connections)
    if gap_ms:
        parts.append(f"{gap_ms:,} ms between logins")
    return "; ".join(parts)


def _rates(rates: Sequence[Rate], what: str) -> Iterable[str]:
    if rates:
        noun = what.removesuffix("s") if rates[0].limit == 1 else what
        first = f"{rates[0].limit:,} {noun} {_window(rates[0])}"
        yield ", ".join([first, *(rate(one) for one in rates[1:])])


def _connections(number: int | None) -> Iterable[str]:
    if number is not None:
        yield f"{number:,} connection{'' if number == 1 else 's'}"


def _window(one: Rate) -> str:
    written = one.window
    if written in _ONE:
        return _ONE[written]
    number = written.rstrip("dhimns")
    unit = written.removeprefix(number)
    return f"in {number} {'days' if unit == 'd' else unit}"
