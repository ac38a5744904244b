"""What an operator's word means: `account:default`, `host:smtp.example.com`, `recipient:example.net`, `app:billing`, `all`.

And whether it is known here: settings may differ from machine to machine, so a name that is not in ours may still be
one of the fleet's.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from mailfleet.errors import InvalidMail, MailfleetError
from mailfleet.validation.addresses import addr_spec
from mailfleet_schema.names import InvalidName, check_name
from mailfleet_schema.statements import gate, limit, stored_account, waiting, worker
from mailfleet_schema.topology import SHARED_APP
from mailfleet_workers.settings import Settings
from mailfleet_workers.settings.problems import nearest
from mailfleet_workers.smtp.connection import server_name

EXPECTED = "account:NAME, host:NAME, recipient:DOMAIN, app:NAME or all"

# A name or IPv4 address, perhaps with a port; or an IPv6 address, whose port cannot be told from its end.
_HOST = re.compile(
    r"(?P<name>(?![.-])[a-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?|[0-9a-f:.]{2,45}(?::[0-9]{1,5})?"
)
_USUAL = frozenset({"25", "465", "587"})


class InvalidScope(MailfleetError):  # noqa: N818 - reads as the fact it states
    """A word that names no scope: *expected* says what would have."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"scope: expected {expected}, got {got!r:.100}")
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Scope:
    """A gate's `scope` (one of `gate.SCOPES`) and `key`, as the table has them."""

    scope: str
    key: str

    def __str__(self) -> str:
        """As operators write it."""
        return "all" if self.scope == "all" else f"{self.scope}:{self.key}"

    @property
    def words(self) -> str:
        """As a sentence begins with it."""
        return "Everything" if self.scope == "all" else str(self)


def parse_scope(text: str) -> Scope:
    """The scope that *text* says, its key as gates have it. Raises InvalidScope.

    Host names are in lower case, and without a usual port (25, 465, 587); domains in lower-case ASCII.
    """
    if text == "all":
        return Scope("all", gate.EVERYTHING)
    scope, colon, key = text.partition(":")
    if not colon or scope not in gate.SCOPES or scope == "all":
        raise InvalidScope(EXPECTED, text)
    match scope:
        case "account" | "app":
            try:
                return Scope(scope, check_name(scope, key))
            except InvalidName:
                raise InvalidScope(
                    f"{scope}:NAME with a-z, 0-9 and '-', beginning with a letter", text
                ) from None
        case "host":
            return Scope(scope, _host(key, text))
        case _:
            try:
                return Scope(scope, addr_spec(f"x@{key}", "domain").partition("@")[2])
            except InvalidMail as error:
                raise InvalidScope(f"recipient:DOMAIN ({error.reason})", text) from None


def _host(key: str, text: str) -> str:
    found = _HOST.fullmatch(key.lower())
    if found is None or (found["port"] and not 0 < int(found["port"]) < 65_536):
        raise InvalidScope(
            "host:NAME or host:NAME:PORT, a server's name or address as an account has it", text
        )
    return found["name"] if found["name"] and found["port"] in _USUAL else found[0]


def servers(settings: Settings) -> dict[str, str]:
    """The name of every account's server as gates and limits know it; not of accounts without a `host`."""
    return {
        name: server_name(settings.account(name))
        for name, one in settings.accounts.items()
        if one.host is not None
    }


def known(connection: Connection, settings: Settings, scope: Scope) -> str | None:
    """Whether *scope* means something: None if it is in *settings*, else a remark why it is accepted all the same.

    A name that the database knows (its mail, workers, gates or changed limits) is accepted, and so is any host. Raises
    InvalidScope for an account or app that nobody knows.
    """
    name = scope.key
    match scope.scope:
        case "account":
            if name in settings.accounts or stored_account.marks(connection, [name]):
                return None
            changed = any((one.scope, one.key) == (scope.scope, name) for one in limit.changes(connection))
            if changed or _gated(connection, scope) or waiting.account_queued(connection, name):
                return f"account {name} is not in these settings"
            raise _unknown(scope, "an account", settings.accounts)
        case "app":
            apps = {
                SHARED_APP,
                *settings.apps,
                *(also for app in settings.apps.values() for also in app.also),
            }
            if name in apps:
                return None
            seen = {one for each in worker.all_workers(connection) for one in (each.app, *each.also)}
            seen |= set(waiting.queued_apps(connection))
            if name in seen or _gated(connection, scope):
                return f"app {name} is not in these settings"
            raise _unknown(scope, "an app", apps | seen)
        case "host":
            hosts = set(servers(settings).values())
            if name in hosts:
                return None
            listed = f"; they have {', '.join(sorted(hosts))}" if hosts else ""
            return f"no account of these settings is on host {name}{nearest(name, hosts)}{listed}"
        case _:
            return None


def _gated(connection: Connection, scope: Scope) -> bool:
    return any((one.scope, one.key) == (scope.scope, scope.key) for one in gate.gates(connection))


def _unknown(scope: Scope, what: str, names: Iterable[str]) -> InvalidScope:
    listed = sorted(names)
    shown = ", ".join([*listed[:8], *(["…"] if len(listed) > 8 else [])])
    expected = (
        f"{what} of the settings{nearest(scope.key, listed)}: {shown}"
        if listed
        else f"{what} of the settings"
    )
    return InvalidScope(expected, str(scope))
