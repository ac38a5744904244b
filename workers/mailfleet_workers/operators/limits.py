"""The limits of every account as they are now: what applies, who has changed it, and what is used of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Engine

from mailfleet.errors import SettingsError
from mailfleet_schema.statements import limit
from mailfleet_schema.statements.limit import NAMES, SCOPES, LimitChange
from mailfleet_workers.limits.base import LimiterUnavailable
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.resolve import limits_of
from mailfleet_workers.limits.rule import Rate, Rule
from mailfleet_workers.limits.seeding import HEARD_S
from mailfleet_workers.limits.usage import RuleUse, Usage
from mailfleet_workers.operators.gates import bring_back
from mailfleet_workers.operators.scope import InvalidScope, Scope, servers
from mailfleet_workers.settings import Settings
from mailfleet_workers.settings.limits import LIFTED, check_limit
from mailfleet_workers.settings.problems import Words, nearest
from mailfleet_workers.views.base import View

#: The name under which the catching server of the embedded mode is shown.
CATCHER = "catching-server"
#: What lifts the rules of a name, and a number of connections.
NONE = "none"
_RULES = ("messages", "recipients")


class HasUsage(Protocol):
    """What knows what is used of an account's limits: a limiter. `usage` may raise LimiterUnavailable."""

    def usage(self, account: str) -> Usage: ...


@dataclass(frozen=True, slots=True)
class RuleStatus(View):
    """One rule: of `limit` in `window_ms` milliseconds `used` are taken, of them `in_flight` not answered yet.

    One more may be sent in `wait_s` seconds. Where nobody can say what is used, the three are None.
    """

    rule: str
    scope: str
    unit: str
    limit: int
    window_ms: int
    used: int | None
    in_flight: int | None
    wait_s: float | None


@dataclass(frozen=True, slots=True)
class AccountStatus(View):
    """One account. `connections_limit` None is any number. `host` is what its rules of scope host are shared on.

    What is used is None where nobody can say it: `connections` and `host_connections` that are open, `waiting`
    processes in line, `parked_s` up to which mails were put off, `login_failures` lately and `login_wait_s` until
    the next login is tried; `ready_in_s` is 0 as long as permits are granted at all.
    """

    account: str
    host: str
    rules: tuple[RuleStatus, ...]
    connections_limit: int | None
    host_connections_limit: int | None
    login_gap_ms: int
    host_login_gap_ms: int
    max_idle_ms: int
    connections: int | None
    host_connections: int | None
    waiting: int | None
    parked_s: float | None
    login_failures: int | None
    login_wait_s: float | None
    ready_in_s: float | None


@dataclass(frozen=True, slots=True)
class LimitsStatus(View):
    """All accounts; `changes` are in force instead of the settings; `trouble` says why nothing is known of what is used."""

    accounts: tuple[AccountStatus, ...]
    changes: tuple[LimitChange, ...]
    trouble: str | None


@dataclass(frozen=True, slots=True)
class Changed(View):
    """What became of a limit: `before` and `now` as the settings write it, None where nothing was or is set.

    `changed` False says that nobody had changed it, so that there was nothing to take back. `mails` came back that a
    limit had put off, where more is allowed than before. Where a window is new, mail waits `begins_in_s` seconds for it.
    """

    scope: str
    key: str
    name: str
    changed: bool
    before: Any
    now: Any
    mails: int = 0
    begins_in_s: float = 0.0


def limits_status(
    settings: Settings, changes: Sequence[LimitChange], limiter: HasUsage | None, trouble: str | None = None
) -> LimitsStatus:
    """The limits of every account of *settings*, and what *limiter* says of their use; None when there is none.

    When it cannot answer, its reason is the `trouble`, and the rules are listed all the same.
    """
    accounts = []
    for name, limits in book_of(settings, changes).items():
        usage = None
        if limiter is not None and trouble is None and limits.any:
            try:
                usage = limiter.usage(name)
            except LimiterUnavailable as error:
                trouble = f"Redis does not answer ({str(error).rstrip('.')})"
        accounts.append(_account(limits, usage))
    return LimitsStatus(tuple(accounts), tuple(changes), trouble)


def book_of(settings: Settings, changes: Sequence[LimitChange]) -> dict[str, Limits]:
    """The limits of every account, also of those that mean the catching server."""
    embedded = settings.database_url.startswith("sqlite")
    return limits_of(settings, changes, catcher=(CATCHER, 25) if embedded else None)


def _account(limits: Limits, usage: Usage | None) -> AccountStatus:
    used = {one.rule: one for one in usage.rules} if usage else {}
    return AccountStatus(
        account=limits.account,
        host=limits.host,
        rules=tuple(_rule(rule, used.get(rule)) for rule in limits.rules),
        connections_limit=limits.connections,
        host_connections_limit=limits.host_connections,
        login_gap_ms=limits.login_gap_ms,
        host_login_gap_ms=limits.host_login_gap_ms,
        max_idle_ms=limits.max_idle_ms,
        connections=usage.connections if usage else None,
        host_connections=usage.host_connections if usage else None,
        waiting=usage.waiting if usage else None,
        parked_s=usage.parked_s if usage else None,
        login_failures=usage.login_failures if usage else None,
        login_wait_s=usage.login_wait_s if usage else None,
        ready_in_s=usage.ready_in_s if usage else None,
    )


def _rule(rule: Rule, use: RuleUse | None) -> RuleStatus:
    return RuleStatus(
        rule=str(rule),
        scope=rule.scope.value,
        unit=rule.unit.value,
        limit=rule.rate.limit,
        window_ms=rule.rate.window_ms,
        used=use.used if use else None,
        in_flight=use.in_flight if use else None,
        wait_s=use.wait_s if use else None,
    )


def limit_scope(scope: Scope) -> Scope:
    """*scope* if it has limits: an account or host. Raises InvalidScope."""
    if scope.scope not in SCOPES:
        raise InvalidScope("account:NAME or host:NAME: only they have limits", str(scope))
    return scope


def read_limit(scope: Scope, name: str, values: Sequence[str]) -> LimitChange:
    """The change that *values*, words of an operator, mean for limit *name* of *scope*.

    Rules stand in one word or several, also with commas between them; `none` lifts them, and a number of connections.
    Raises SettingsError with what was expected.
    """
    _check_name(scope, name)
    words = [word.strip() for value in values for word in value.split(",") if word.strip()]
    value: Any
    if name in _RULES:
        value = [] if words == [NONE] else words
        if not words:
            raise SettingsError(name, "at least one rule, or none", Words("nothing"))
        check_limit(scope.scope, name, value)
        value = [str(Rate.parse(word)) for word in value]
    elif name in LIFTED and words == [NONE]:
        value = check_limit(scope.scope, name, None)
    else:
        if len(words) != 1 or not (words[0].isascii() and words[0].isdigit() and len(words[0]) < 10):
            expected = "one whole number, or none" if name in LIFTED else "one whole number"
            raise SettingsError(name, expected, " ".join(words))
        value = check_limit(scope.scope, name, int(words[0]))
    return LimitChange(scope.scope, scope.key, name, json.dumps(value))


def _check_name(scope: Scope, name: str) -> None:
    known = NAMES if scope.scope == "account" else tuple(one for one in NAMES if one != "max_idle_ms")
    if name not in known:
        raise SettingsError("name", f"{', '.join(known[:-1])} or {known[-1]}{nearest(name, known)}", name)


def set_limit(engine: Engine, settings: Settings, change: LimitChange) -> Changed:
    """Put *change* in force; workers follow within seconds. What is granted already stays granted.

    Mail that was put off comes back if rules allow more than before. Raises SettingsError where workers of a fleet could
    not follow it.
    """
    if settings.redis_url is None and not settings.database_url.startswith("sqlite"):
        expected = "redis://host:6379/0: workers of a fleet keep limits in Redis, and follow none without it"
        raise SettingsError("redis_url", expected, Words("none"))
    return _changed(engine, settings, Scope(change.scope, change.key), change.name, change)


def unset_limit(engine: Engine, settings: Settings, scope: Scope, name: str) -> Changed:
    """Let the settings apply to *name* of *scope* again; `changed` False when nobody had changed it.

    Raises SettingsError for a name that *scope* has no limits of.
    """
    _check_name(scope, name)
    return _changed(engine, settings, scope, name, None)


def _changed(
    engine: Engine, settings: Settings, scope: Scope, name: str, change: LimitChange | None
) -> Changed:
    changed, mails = True, 0
    with engine.begin() as connection:
        before = _value(settings, limit.changes(connection), scope, name)
        if change is None:
            changed = limit.unset_limit(connection, scope.scope, scope.key, name)
        else:
            limit.set_limit(connection, change)
        now = _value(settings, limit.changes(connection), scope, name)
    if name in _RULES and _looser(before, now):
        mails = bring_back(engine, scope, servers=servers(settings), limited=True)
    begins_in_s = 0.0
    if name in _RULES and _windows(now) - _windows(before) and not settings.database_url.startswith("sqlite"):
        begins_in_s = settings.limits.lease_s + HEARD_S
    return Changed(scope.scope, scope.key, name, changed, before, now, mails, begins_in_s)


def _value(settings: Settings, changes: Sequence[LimitChange], scope: Scope, name: str) -> Any:
    """What applies to *name*, as settings write it; None for nothing, or for what these settings do not know."""
    for change in changes:
        if (change.scope, change.key, change.name) == (scope.scope, scope.key, name):
            return json.loads(change.value)
    book: Mapping[str, Limits] = book_of(settings, changes)
    if scope.scope == "account":
        limits = book.get(scope.key)
    else:
        limits = next((one for one in book.values() if one.host == scope.key), None)
    if limits is None:
        return None
    if name in _RULES:
        return [str(one.rate) for one in limits.rules if (one.scope, one.unit) == (scope.scope, name)] or None
    return getattr(limits, f"host_{name}" if scope.scope == "host" else name)


def _windows(rules: Any) -> set[int]:
    return {Rate.parse(rule).window_ms for rule in rules or ()}


def _looser(before: Any, now: Any) -> bool:
    """Whether rules *now* may let something pass that *before* did not."""
    strict = {rate.window_ms: rate.limit for rate in map(Rate.parse, now or ())}
    return any(
        strict.get(rate.window_ms, rate.limit + 1) > rate.limit for rate in map(Rate.parse, before or ())
    )
