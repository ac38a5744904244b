"""Accounts for people who look after them: what is there, what one is made of, and storing one in the database.

What is stored is looked at as a whole before it is written, and never holds a secret: passwords are references, which workers look up.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic.fields import FieldInfo
from sqlalchemy import Connection, Engine

from mailfleet.errors import SettingsError
from mailfleet_schema.engine import read_only
from mailfleet_schema.names import EXPECTATION, InvalidName, check_name
from mailfleet_schema.statements import stored_account
from mailfleet_workers.accounts.directory import STORED
from mailfleet_workers.accounts.found import SETTINGS, read_account
from mailfleet_workers.accounts.loaders import Loader, NoAnswer
from mailfleet_workers.operators.credentials import open_refused
from mailfleet_workers.operators.tokens import TokenState, token_states
from mailfleet_workers.settings import AccountSettings, Settings, WrongSettings
from mailfleet_workers.settings.effective import Effective, effective_account
from mailfleet_workers.settings.inherit import DEFAULT, as_written, given_keys
from mailfleet_workers.settings.keys import node_at
from mailfleet_workers.settings.problems import Words
from mailfleet_workers.settings.sources import read_text
from mailfleet_workers.views.base import View

#: Stored accounts that are read at once.
PAGE = 200
#: A document that describes an account is no longer, in characters.
MOST_TEXT = 64_000


class UnknownAccount(SettingsError):  # noqa: N818 - reads as the fact it states
    """Nobody knows an account of this name."""

    def __init__(self, name: str, expected: str) -> None:
        super().__init__("account", expected, name)


@dataclass(frozen=True, slots=True)
class Summary(View):
    """One account: `origin` is `settings` or `stored account`; `host` None means the catching server, or `problem` says why not.

    `version` and `changed_at` are None for those of the settings. `used` False: the settings have one of this name, which comes first.
    """

    name: str
    origin: str
    host: str | None
    username: str | None
    version: int | None
    changed_at: datetime | None
    problem: str | None
    used: bool = True


@dataclass(frozen=True, slots=True)
class Shown(View):
    """One account with every setting and where it comes from; empty where `problem` says what is wrong.

    `tokens` are the access tokens that its workers share: empty without `oauth`, before the first, and where nobody could look.
    """

    name: str
    origin: str
    problem: str | None
    settings: tuple[Effective, ...]
    tokens: tuple[TokenState, ...] = ()


@dataclass(frozen=True, slots=True)
class Stored(View):
    """Account `name` was stored as `version`; `opened`: its login had been refused, and is tried again."""

    name: str
    version: int
    opened: bool


def summaries(connection: Connection, settings: Settings) -> list[Summary]:
    """The accounts of the settings, then those that are stored, in the order of their names."""
    found = [
        Summary(name, SETTINGS, one.host, one.username, None, None, None)
        for name, one in sorted(settings.accounts.items())
    ]
    after = ""
    while page := stored_account.page(connection, after=after, most=PAGE):
        found += [_summary(settings, one) for one in page]
        after = page[-1].name
    return found


def _summary(settings: Settings, one: stored_account.StoredAccount) -> Summary:
    used = one.name not in settings.accounts
    try:
        account = checked(settings, one.name, one.settings)
    except WrongSettings as error:
        return Summary(one.name, STORED, None, None, one.version, one.changed_at, error.lines()[0], used)
    return Summary(one.name, STORED, account.host, account.username, one.version, one.changed_at, None, used)


def with_stored(connection: Connection, settings: Settings) -> Settings:
    """*settings* with the stored accounts that can be used among their own; for looking, not for workers."""
    found = dict(settings.accounts)
    after = ""
    while page := stored_account.page(connection, after=after, most=PAGE):
        for one in page:
            if one.name not in settings.accounts:
                with suppress(WrongSettings):
                    found[one.name] = checked(settings, one.name, one.settings)
        after = page[-1].name
    return settings.model_copy(update={"accounts": found})


def show(connection: Connection, settings: Settings, name: str, loaders: Sequence[Loader] = ()) -> Shown:
    """Account *name* as workers would find it: in the settings, by *loaders*, or stored. Raises UnknownAccount."""
    default = given_keys(as_written(settings.accounts[DEFAULT]))
    if name in settings.accounts:
        raise ValueError(f"name: expected one that is not of the settings, got {name!r}")
    origin, given = STORED, None
    for loader in loaders:
        answer = loader.ask(name)
        if isinstance(answer, NoAnswer):
            return Shown(name, loader.origin, answer.why, ())
        if answer is not None:
            origin, given = loader.origin, answer
            break
    else:
        rows = stored_account.read(connection, [name])
        if not rows:
            raise UnknownAccount(name, "an account of the settings, of a loader, or a stored one")
        given = rows[0].settings
    try:
        account = checked(settings, name, given, origin=origin)
    except WrongSettings as error:
        return Shown(name, origin, str(error), ())
    keys = given_keys(given) if isinstance(given, Mapping) else set()
    tokens = token_states(connection, name) if account.oauth.used else ()
    return Shown(name, origin, None, tuple(effective_account(account, keys, default, origin)), tokens)


def checked(settings: Settings, name: str, given: Any, *, origin: str = STORED) -> AccountSettings:
    """What *given* means for account *name*; raises WrongSettings with every problem."""
    account = read_account(settings.accounts[DEFAULT], name, given, origin=origin)
    embedded = settings.database_url.startswith("sqlite")
    try:
        account.account(name, ("catching-server", 25) if embedded else None)
    except SettingsError as error:
        raise WrongSettings([error], {error.key: origin}) from None
    return account


def store(engine: Engine, settings: Settings, name: str, given: Mapping[str, Any]) -> Stored:
    """Store *given*, with the keys of `[accounts.NAME]`, as account *name*, in place of what is there. Workers follow within seconds.

    Where its login was refused it is tried again at once. Raises SettingsError, and WrongSettings with every problem; then nothing is
    written.
    """
    try:
        check_name("account", name)
    except InvalidName:
        raise SettingsError("account", EXPECTATION, name) from None
    if name in settings.accounts:
        expected = (
            "a name that the settings do not have: theirs comes first, and a stored one would never be used"
        )
        raise SettingsError("account", expected, name)
    checked(settings, name, given)
    with engine.begin() as connection:
        version = stored_account.put(connection, name, json.dumps(given))
    return Stored(name, version, open_refused(engine, name) is not None)


def remove(engine: Engine, name: str) -> None:
    """Forget the stored account *name*: its mail waits from now on, as that of a name that nobody knows. Raises UnknownAccount."""
    with engine.begin() as connection:
        if not stored_account.remove(connection, name):
            raise UnknownAccount(name, "a stored account")


def given_now(engine: Engine, name: str) -> dict[str, Any]:
    """What is stored of *name* at the moment; nothing where it is not, or where that is no table."""
    with read_only(engine) as connection:
        rows = stored_account.read(connection, [name])
    return dict(rows[0].settings) if rows and isinstance(rows[0].settings, Mapping) else {}


def read_document(text: str) -> dict[str, Any]:
    """The keys of an account in *text*: an object in JSON, or TOML. Raises SettingsError, which shows nothing of *text*."""
    shown = Words("a document that is not shown")
    if len(text) > MOST_TEXT:
        raise SettingsError("account", f"at most {MOST_TEXT} characters", Words(f"{len(text)} of them"))
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, RecursionError):
        # Their texts quote the document.
        raise SettingsError("account", "TOML, or an object in JSON", shown) from None
    return dict(found)


def read_words(words: Sequence[str]) -> dict[str, Any]:
    """The keys of an account in *words* such as `port=465`, `limits.messages=14/s,10000/d`. Raises SettingsError."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        path = key.split(".")
        if not equals or not all(path) or len(path) > 2:
            # The word may be a password that somebody meant otherwise.
            raise SettingsError("account", "KEY=VALUE, such as port=465", Words("something else"))
        node = node_at(AccountSettings, path)
        value = read_text(text, node) if isinstance(node, FieldInfo) else text
        table = found.setdefault(path[0], {}) if len(path) == 2 else found
        if not isinstance(table, dict):
            raise SettingsError(path[0], "a table or a value, not both", Words("both"))
        table[path[-1]] = value
    return found
