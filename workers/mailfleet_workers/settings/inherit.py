"""What an account takes over from `accounts.default`: every key that is not given, but for what belongs to another server.

Given is what stands there, whatever its value; nothing is taken for "empty". An account that names a `host` stands for itself in all
that belongs to a server: a password must never be sent to another server than it was given for, and limits are those of a provider.
"""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from mailfleet_workers.settings.account import AccountSettings

DEFAULT = "default"

#: What belongs to a server, and is not taken over by an account that names its own.
_OF_SERVER = frozenset(
    {
        "host",
        "port",
        "tls",
        "username",
        "password",
        "mechanism",
        "oauth",
        "ca_file",
        "preset",
        "max_messages",
        "recipients_per_message",
        "max_message_bytes",
        "replies",
        "limits.messages",
        "limits.recipients",
        "limits.connections",
        "limits.login_gap_ms",
    }
)
#: Taken over together or not at all: a password is one user's, and so is every key of `oauth`.
_LOGIN = frozenset({"username", "password", "oauth"})
#: What a preset says: an account that names one has its figures, not those that were set beside another.
_OF_PRESET = frozenset(
    {
        "max_messages",
        "recipients_per_message",
        "max_message_bytes",
        "limits.messages",
        "limits.recipients",
        "limits.connections",
    }
)
#: Where one of these is wrong in `default`, nothing is said of what others would have made of it.
_ESSENTIAL = frozenset({"host", "port", "tls", "mechanism", *_LOGIN})

_TABLES = ("limits", "timeouts", "dsn", "oauth")


def inherits(key: str, given: Collection[str]) -> bool:
    """Whether an account to which *given* keys (`port`, `limits.messages`) are given takes over *key* of `default`."""
    whole = _whole(key)
    if key in given or ("host" in given and (key in _OF_SERVER or whole in _OF_SERVER)):
        return False
    if whole in _LOGIN or key == "mechanism":
        return not _LOGIN.intersection(_whole(one) for one in given)
    if key in _OF_PRESET:
        return "preset" not in given
    # The port goes with the way to encrypt.
    return not (key == "port" and "tls" in given)


def _whole(key: str) -> str:
    """What is taken over as one: all of `oauth`, whichever of its keys."""
    return "oauth" if key.startswith("oauth.") else key


def given_keys(account: Mapping[str, Any]) -> set[str]:
    """The keys that stand in *account*, those of its tables dotted."""
    found = set()
    for key, value in account.items():
        if key in _TABLES and isinstance(value, Mapping):
            found |= {f"{key}.{below}" for below in value}
        else:
            found.add(key)
    return found


def merged(default: Mapping[str, Any], account: Mapping[str, Any]) -> dict[str, Any]:
    """*account* as written, with what it takes over from *default* as written. Neither is looked at otherwise."""
    given = given_keys(account)
    found = {key: dict(value) if _is_table(key, value) else value for key, value in account.items()}
    for key in given_keys(default):
        if not inherits(key, given):
            continue
        table, _, below = key.rpartition(".")
        if not table:
            found[key] = default[key]
        elif isinstance(into := found.setdefault(table, {}), dict):
            # Else something stands there that is no table; validation says so.
            into[below] = default[table][below]
    return found


def merge_all(accounts: Mapping[Any, Any]) -> dict[Any, Any]:
    """Every account of the settings as written, `default` among them, each merged with it.

    What is wrong in `default` is not taken over: it is said once, where it stands.
    """
    written = {name: as_written(account) for name, account in accounts.items()}
    default = written.setdefault(DEFAULT, {})
    if not isinstance(default, Mapping):
        return written
    sound, essential = _without_wrong(default)
    found = {DEFAULT: default}
    for name, account in written.items():
        if name == DEFAULT or not isinstance(account, Mapping):
            found[name] = account
            continue
        if not essential and "host" not in account:
            account = {key: value for key, value in account.items() if key not in _OF_SERVER}  # noqa: PLW2901
        found[name] = merged(sound, account)
    return found


def merged_account(default: AccountSettings, account: Mapping[str, Any]) -> AccountSettings:
    """*account* as a loader gave it, merged with *default*. Raises pydantic's ValidationError."""
    return AccountSettings.model_validate(merged(as_written(default), account))


def as_written(account: Any) -> Any:
    """The keys that were given to *account*; what is no AccountSettings is as written already."""
    if isinstance(account, AccountSettings):
        return account.model_dump(by_alias=True, exclude_unset=True)
    return account


def _without_wrong(default: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """*default* without what is wrong in it, and whether its server and login are right."""
    try:
        AccountSettings.model_validate(default)
    except ValidationError as error:
        wrong = {str(part) for one in error.errors(include_url=False) for part in one["loc"][:1]}
        # A problem of several keys together has no place.
        essential = not (_ESSENTIAL & wrong or any(not one["loc"] for one in error.errors()))
        unsound = wrong if essential else wrong | _OF_SERVER
        return {key: value for key, value in default.items() if key not in unsound}, essential
    return default, True


def _is_table(key: str, value: object) -> bool:
    return key in _TABLES and isinstance(value, Mapping)
