"""What a process knows of a name: an account, one that cannot be used, or none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import ValidationError

from mailfleet.errors import SettingsError
from mailfleet_workers.account import Account
from mailfleet_workers.settings.account import AccountSettings
from mailfleet_workers.settings.inherit import merged_account
from mailfleet_workers.settings.problems import Words, WrongSettings, from_pydantic

#: What `origin` is for accounts of the settings.
SETTINGS = "settings"


@dataclass(frozen=True, slots=True)
class Known:
    """An account, with the settings that it was made of; `origin` says who gave them."""

    account: Account
    settings: AccountSettings = field(repr=False)
    origin: str


@dataclass(frozen=True, slots=True)
class Broken:
    """Somebody configured it, or may have, and it cannot be used: *why* is for people, and names where it comes from."""

    why: str


#: None: nobody knows the name.
Found: TypeAlias = Known | Broken | None


def read_account(default: AccountSettings, name: str, given: object, *, origin: str) -> AccountSettings:
    """The settings of account *name* that *origin* has *given*, merged with *default*.

    Raises WrongSettings with every problem; its keys are those of an account (`port`, `limits.messages[0]`).
    """
    if not isinstance(given, Mapping):
        raise WrongSettings([SettingsError(name, "a table of an account's keys", Words(_kind(given)))])
    values: Mapping[Any, Any] = given
    try:
        return merged_account(default, {str(key): value for key, value in values.items()})
    except ValidationError as error:
        problems = from_pydantic(error, AccountSettings)
    raise WrongSettings(problems, {problem.key: origin for problem in problems})


def broken(origin: str, error: SettingsError) -> Broken:
    """What stands in the reason of mails: who gave the account, and the first thing that is wrong with it."""
    text = f"{error.key}: expected {error.expected}, got {error.value!r}"
    return Broken(f"{origin}: {' '.join(text.split())}")


def _kind(given: object) -> str:
    return f"something else ({type(given).__name__})"
