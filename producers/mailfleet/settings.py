"""What a producer must know: the database, and a few figures that it shares with the workers.

Read from `mailfleet.toml` and from variables, which win; once, when a mailer is made, never at import. The file is the
workers' own: keys that only they need are left to them, and checked by them.

| variable | key | meaning |
|---|---|---|
| MAILFLEET_CONFIG | | the file; without it `mailfleet.toml` in the working directory, if there is one |
| MAILFLEET_DATA_DIR | `data_dir` | where embedded mode keeps its database; `mailfleet-data` |
| MAILFLEET_DATABASE_URL | `database_url` | `postgresql://…` or `sqlite:///…`; `mailfleet.db` in the data directory |
| MAILFLEET_BROKER_URL | `broker_url` | RabbitMQ: `amqp://…` or `amqps://…`; none in the embedded mode |
| MAILFLEET_RUN_MODE | `run_mode` | what this installation is; mails that are not for it are not hinted; unset leaves that to the workers |
| | `timing.grace_s` | how long after its due time a mail without a hint is looked for; 10 |
| | `apps.NAME.on_doubt` | for mails of the app that do not say it themselves |
| | `stores.NAME` | of the kind `directory`: `path` and `apps`; attachments from it are read when a mail is emitted |
| | `accounts.default.from` | its domain is in the Message-ID of mails that name no sender |

URLs may be `env:NAME` or `file:/path`, as for the workers.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from sqlalchemy import URL

from mailfleet.errors import InvalidMail, SettingsError
from mailfleet.run_mode import EXPECTED as RUN_MODE_EXPECTED
from mailfleet.run_mode import RUN_MODES
from mailfleet.stores import Directory
from mailfleet.validation import DEFAULT_LIMITS
from mailfleet.validation.addresses import address
from mailfleet.validation.attachments import Shelves
from mailfleet_schema.engine import parse_url
from mailfleet_schema.states import OnDoubt

PREFIX = "MAILFLEET_"
CONFIG = "MAILFLEET_CONFIG"
FILE = Path("mailfleet.toml")


class _NotShown:
    def __repr__(self) -> str:
        return "a value that is not shown"


_NOT_SHOWN = _NotShown()


@dataclass(frozen=True, slots=True)
class ProducerSettings:
    """Everything checked. `database_url` may hold a password, so the repr leaves it out."""

    database_url: URL = field(repr=False)
    broker_url: str | None = field(default=None, repr=False)
    grace_s: float = 10.0
    on_doubt: OnDoubt | None = None
    message_id_domain: str | None = None
    shelves: Shelves = field(default_factory=dict)
    run_mode: str | None = None

    @classmethod
    def load(cls, app: str, environ: Mapping[str, str]) -> Self:
        """The settings for *app*. Raises SettingsError with the key as it is written in the file or variable."""
        source = _Source.read(environ)
        return cls(
            database_url=_database_url(source),
            broker_url=_broker_url(source),
            grace_s=_grace_s(source),
            on_doubt=_on_doubt(source, app),
            message_id_domain=_domain(source),
            shelves=_shelves(source, app),
            run_mode=_run_mode(source),
        )


@dataclass(frozen=True, slots=True)
class _Source:
    """The file's tables under the variables."""

    environ: Mapping[str, str]
    values: Mapping[str, Any]
    directory: Path

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        named = environ.get(CONFIG)
        path = Path(named) if named else FILE
        if not named and not path.is_file():
            return cls(environ, {}, Path())
        try:
            return cls(environ, tomllib.loads(path.read_text(encoding="utf-8")), path.parent)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise SettingsError("settings file", f"a readable file ({reason})", str(path)) from error
        except ValueError as error:  # TOML's and Unicode's errors name the place, not the text
            raise SettingsError("settings file", f"TOML ({error})", str(path)) from None

    def get(self, *path: str) -> tuple[Any, str]:
        """The value at *path*, None when it is not set, and what to call it; an empty variable counts as not set."""
        variable = PREFIX + "__".join(path).upper().replace("-", "_")
        if value := self.environ.get(variable):
            return value, variable
        table: Any = self.values
        for place, part in enumerate(path, start=1):
            if not isinstance(table, Mapping):
                raise SettingsError(".".join(path), "tables on the way to it", table)
            table = table.get(part, {} if place < len(path) else None)
        return table, ".".join(path)

    def names(self, table: str) -> list[str]:
        """The names below *table*, from the file and from variables."""
        start = f"{PREFIX}{table.upper()}__"
        said = [key.removeprefix(start).partition("__")[0] for key in self.environ if key.startswith(start)]
        found = self.values.get(table, {})
        named = [str(name) for name in found] if isinstance(found, Mapping) else []
        return list(dict.fromkeys([*named, *(name.lower().replace("_", "-") for name in said)]))

    def from_file(self, key: str) -> bool:
        return not key.startswith(PREFIX)


def _database_url(source: _Source) -> URL:
    value, key = source.get("database_url")
    if value is None:
        return parse_url(key, f"sqlite:///{_data_dir(source)}/mailfleet.db")
    expected = "postgresql://user@host/name or sqlite:///file"
    if not isinstance(value, str):
        raise SettingsError(key, expected, _NOT_SHOWN)
    try:
        url = parse_url(key, _revealed(source, key, value))
    except ValueError:
        raise SettingsError(key, expected, _NOT_SHOWN) from None
    if url.get_backend_name() == "sqlite" and url.database in {None, "", ":memory:"}:
        raise SettingsError(key, f"{expected}: what is in memory only would be lost", _NOT_SHOWN)
    return url


def _broker_url(source: _Source) -> str | None:
    value, key = source.get("broker_url")
    if value is None:
        return None
    from mailfleet.broker.rabbit.parameters import EXPECTED, InvalidBrokerUrl, parse_broker_url

    if not isinstance(value, str):
        raise SettingsError(key, EXPECTED, _NOT_SHOWN)
    url = _revealed(source, key, value)
    try:
        parse_broker_url(key, url)
    except InvalidBrokerUrl as error:
        raise SettingsError(key, error.expected, _NOT_SHOWN) from None
    return url


def _revealed(source: _Source, key: str, value: str) -> str:
    """What an `env:NAME` or `file:/path` refers to; *value* itself if it is none."""
    kind, _, name = value.partition(":")
    if kind == "env":
        found = source.environ.get(name)
        if not found:
            raise SettingsError(key, f"a variable named {name}", _NOT_SHOWN)
        return found
    if kind == "file":
        try:
            return Path(name).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeError) as error:
            raise SettingsError(key, f"a readable file ({type(error).__name__})", value) from error
    return value


def _data_dir(source: _Source) -> Path:
    value, key = source.get("data_dir")
    if value is None:
        return Path("mailfleet-data")
    if not isinstance(value, str) or not value:
        raise SettingsError(key, "a directory", value)
    return source.directory / value if source.from_file(key) else Path(value)


def _grace_s(source: _Source) -> float:
    value, key = source.get("timing", "grace_s")
    if value is None:
        return 10.0
    try:
        seconds = float("" if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise SettingsError(key, "seconds, above 0", value)
    return seconds


def _on_doubt(source: _Source, app: str) -> OnDoubt | None:
    value, key = source.get("apps", app, "on_doubt")
    if value is None:
        return None
    try:
        return OnDoubt(value)
    except ValueError:
        raise SettingsError(key, "resend_once, resend or hold", value) from None


def _run_mode(source: _Source) -> str | None:
    value, key = source.get("run_mode")
    if value is None or value in RUN_MODES:
        return value  # type: ignore[no-any-return]  # None or one of the names
    raise SettingsError(key, RUN_MODE_EXPECTED, value)


def _domain(source: _Source) -> str | None:
    value, key = source.get("accounts", "default", "from")
    if value is None:
        return None
    try:
        return address(value, key, DEFAULT_LIMITS).address.rpartition("@")[2]
    except InvalidMail as error:
        raise SettingsError(key, f"one address ({error.reason})", value) from None


def _shelves(source: _Source, app: str) -> Shelves:
    """The stores that the app may not use, and the directories that it reads itself; others are the workers' to read."""
    found: dict[str, Directory | None] = {}
    for name in source.names("stores"):
        apps, key = source.get("stores", name, "apps")
        listed = apps.split(",") if isinstance(apps, str) else apps or []
        if not isinstance(listed, list):
            raise SettingsError(key, "a list of apps", apps)
        if app not in [one.strip() if isinstance(one, str) else one for one in listed]:
            found[name] = None
            continue
        kind, _ = source.get("stores", name, "kind")
        path, key = source.get("stores", name, "path")
        if kind in {None, "directory"}:
            if not isinstance(path, str) or not Path(path).is_absolute():
                raise SettingsError(key, "an absolute path", path)
            found[name] = Directory(Path(path))
    return found
