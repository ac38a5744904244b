"""From settings, presets and what operators changed since to the limits of every account."""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mailfleet.errors import SettingsError
from mailfleet_schema.statements.limit import LimitChange
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.preset import preset
from mailfleet_workers.limits.rule import Rate, Rule, Scope, Unit
from mailfleet_workers.settings import AccountSettings, HostSettings, Settings
from mailfleet_workers.settings.limits import check_limit
from mailfleet_workers.smtp.connection import server_name

log = logging.getLogger(__name__)


def limits_of(
    settings: Settings,
    changes: Sequence[LimitChange] = (),
    *,
    accounts: Mapping[str, AccountSettings] | None = None,
    catcher: tuple[str, int] | None = None,
) -> dict[str, Limits]:
    """The limits of every account that has a server: a preset's, over them the settings' keys, over them *changes*.

    *accounts* are those to look at, None those of *settings*.
    Each of them wins key by key: who sets `messages` replaces all rules of messages that were there. *catcher* is where
    the catching server of the embedded mode listens; without it accounts without a host are left out. A change that
    means no limit, or whose account is not set, is left out; the former with the event `limit_unread`, every time: ask
    again when the changes are others.
    """
    changed = _read(changes)
    found = {}
    for name, account in (settings.accounts if accounts is None else accounts).items():
        if account.host is None and catcher is None:
            continue
        host = server_name(account.account(name, catcher))
        own = _of_account(account) | changed.get(("account", name), {})
        shared = _of_host(settings.hosts.get(host)) | changed.get(("host", host), {})
        found[name] = Limits(
            account=name,
            host=host,
            rules=(*_rules(Scope.ACCOUNT, own), *_rules(Scope.HOST, shared)),
            connections=own["connections"],
            host_connections=shared["connections"],
            login_gap_ms=own["login_gap_ms"],
            host_login_gap_ms=shared["login_gap_ms"],
            max_idle_ms=own["max_idle_ms"],
            reserve=settings.limits.reserve,
            weights=_weights(settings, name),
            login=account.username is not None,
        )
    return found


def limited(limits: Limits) -> bool:
    """Whether the settings limit the account or its host, so that workers of a fleet need Redis.

    That connections log in is not enough: without limits nobody has to count wrong passwords for all workers.
    """
    gap_ms = limits.login_gap_ms or limits.host_login_gap_ms
    return bool(limits.rules or limits.connections or limits.host_connections or gap_ms)


def _of_account(account: AccountSettings) -> dict[str, Any]:
    """The account's limits by name, before anybody changed them: rates, and numbers."""
    set_here = account.limits
    known = None if account.preset is None else preset(account.preset)
    found: dict[str, Any] = {
        "messages": () if known is None else known.messages,
        "recipients": () if known is None else known.recipients,
        "connections": None if known is None else known.connections,
        "login_gap_ms": set_here.login_gap_ms,
        "max_idle_ms": set_here.max_idle_ms,
    }
    for name in ("messages", "recipients", "connections"):
        value = getattr(set_here, name)
        if value is not None:
            found[name] = _as_limit(value)
    return found


def _of_host(host: HostSettings | None) -> dict[str, Any]:
    limits = (host or HostSettings()).limits
    return {
        "messages": _as_limit(limits.messages or ()),
        "recipients": _as_limit(limits.recipients or ()),
        "connections": limits.connections,
        "login_gap_ms": limits.login_gap_ms,
    }


def _as_limit(value: Any) -> Any:
    """Rules as written become rates; they were looked at before."""
    return tuple(Rate.parse(text) for text in value) if isinstance(value, tuple) else value


def _read(changes: Sequence[LimitChange]) -> dict[tuple[str, str], dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for change in changes:
        try:
            value = check_limit(change.scope, change.name, json.loads(change.value))
        except (SettingsError, ValueError, RecursionError) as error:
            expected = error.expected if isinstance(error, SettingsError) else "JSON"
            fields = {"scope": change.scope, "key": change.key, "limit": change.name, "expected": expected}
            log.warning("limit_unread", extra=fields)
            continue
        found.setdefault((change.scope, change.key), {})[change.name] = _as_limit(value)
    return found


def _rules(scope: Scope, limits: dict[str, Any]) -> list[Rule]:
    return [Rule(scope, unit, rate) for unit in Unit for rate in limits[unit.value]]


def _weights(settings: Settings, account: str) -> dict[str, int]:
    """The apps that may use *account*, with those that are sent for by another app's workers."""
    names = dict.fromkeys([*settings.apps, *(also for app in settings.apps.values() for also in app.also)])
    return {name: settings.app(name).weight for name in names if settings.app(name).may_use(account)}
