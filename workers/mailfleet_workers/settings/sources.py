"""Where settings come from: defaults, then a TOML file, then variables; later ones win, and each is remembered.

Nothing is taken silently: a key or a variable that nobody knows is an error, because a misspelt
`MAILFLEET_DATABASE_URL` would send a fleet's mail to a new and empty database.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from mailfleet.errors import SettingsError
from mailfleet_workers.secret import Secret
from mailfleet_workers.settings.keys import NAME, Names, dotted, keys, node_at
from mailfleet_workers.settings.model import Settings
from mailfleet_workers.settings.problems import NOT_SHOWN, Words, WrongSettings, from_pydantic, nearest

PREFIX = "MAILFLEET_"
CONFIG = "MAILFLEET_CONFIG"
#: The file that is read when nothing names one and it is there.
FILE = Path("mailfleet.toml")

#: Settings that may hold a password, and may be given by reference as a whole.
URLS = ("database_url", "broker_url", "redis_url")

# Variables of the same prefix that are somebody else's: tests, failpoints, and what Kubernetes sets in every pod for
# services whose names begin with "mailfleet" (MAILFLEET_SERVICE_HOST, MAILFLEET_REST_PORT_8080_TCP_ADDR).
_OTHERS = re.compile(
    r"MAILFLEET_(CONFIG|FAILPOINTS|TEST_.*"
    r"|(.*_)?SERVICE_(HOST|PORT(_.*)?)"
    r"|(.*_)?PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
#: The variable that a proxy's password is in.
_IN_PROXY = re.compile(r"socks5://[^:@]*:env:([^@]+)@")
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://.*")

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[S]):
    """Settings, and where each one that is no default came from: the file's name or the variable's, by dotted key.

    `path` is the file that was read, None when there was none.
    """

    settings: S
    origins: Mapping[str, str]
    path: Path | None


@dataclass(slots=True)
class _Reading:
    """What was read so far."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[SettingsError] = field(default_factory=list)

    def put(self, path: tuple[str, ...], value: Any, origin: str) -> None:
        table = self.values
        for position, part in enumerate(path[:-1], start=1):
            below = table.setdefault(part, {})
            if not isinstance(below, dict):
                # The file has a value where a table belongs; validation says so.
                self.origins[dotted(path[:position])] = origin
                return
            table = below
        table[path[-1]] = value
        self.origins[dotted(path)] = origin


def load(environ: Mapping[str, str], path: Path | None = None, *, model: type[S]) -> Loaded[S]:
    """`Settings.load`, with the origins. Raises WrongSettings with every problem that was found."""
    reading = _Reading()
    found = _find(environ, path)
    if found is not None:
        _read_file(reading, found)
    _read_variables(reading, environ, model)
    for key in URLS:
        _resolve(reading, key, environ)
    try:
        settings = model.model_validate(reading.values)
    except ValidationError as error:
        problems = reading.problems + from_pydantic(error, model)
        raise WrongSettings(problems, reading.origins) from None
    if reading.problems:
        raise WrongSettings(reading.problems, reading.origins)
    return Loaded(settings, reading.origins, found)


def _find(environ: Mapping[str, str], path: Path | None) -> Path | None:
    if path is not None:
        return path
    if named := environ.get(CONFIG):
        return Path(named)
    return FILE if FILE.is_file() else None


def _read_file(reading: _Reading, path: Path) -> None:
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        reading.problems.append(SettingsError("settings file", f"a readable file ({reason})", str(path)))
        return
    except ValueError as error:  # TOML's errors and UnicodeDecodeError: both name the place, not the text
        reading.problems.append(SettingsError("settings file", f"TOML ({error})", str(path)))
        return
    origin = path.name
    data_dir = values.get("data_dir")
    if isinstance(data_dir, str) and data_dir:
        values["data_dir"] = str(path.parent / data_dir)
    for key in URLS:
        value = values.get(key)
        if isinstance(value, str) and not _is_reference(value) and _has_password(value):
            expected = "a URL without a password, or `env:NAME` or `file:/path` where the whole URL is"
            reading.problems.append(SettingsError(key, expected, NOT_SHOWN))
            reading.origins[key] = origin
            del values[key]
    reading.values = values
    reading.origins |= dict.fromkeys(_given((), values), origin)


def _given(path: tuple[str, ...], value: object) -> list[str]:
    """The dotted keys of *value* and of everything below it."""
    below = value.items() if isinstance(value, dict) else ()
    here = [dotted(path)] if path else []
    return here + [key for name, each in below for key in _given((*path, name), each)]


def _read_variables(reading: _Reading, environ: Mapping[str, str], model: type[BaseModel]) -> None:
    mine = {name: value for name, value in sorted(environ.items()) if name.startswith(PREFIX) and value}
    unknown = []
    for name, value in mine.items():
        path = _path(name, model)
        if path is None:
            unknown.append(name)
            continue
        node = node_at(model, path)
        reading.put(path, read_text(value, node) if isinstance(node, FieldInfo) else value, name)
    referenced = set(_referenced(reading.values))
    known = [PREFIX + "__".join(key.path).upper() for key in keys(model) if NAME not in key.path]
    for name in unknown:
        if name in referenced or _OTHERS.fullmatch(name):
            continue
        if name.endswith("_PORT") and _KUBERNETES_PORT.fullmatch(mine[name]):
            continue
        expected = f"a variable that mailfleet knows{nearest(name, [*known, CONFIG])}"
        reading.problems.append(SettingsError(name, expected, Words("an unknown one")))


def _path(name: str, model: type[BaseModel]) -> tuple[str, ...] | None:
    """`MAILFLEET_ACCOUNTS__BIG_SHOP__PORT` as (accounts, big-shop, port); None when it is no key."""
    path: tuple[str, ...] = ()
    for part in name.removeprefix(PREFIX).lower().split("__"):
        # Names have no underscore, and variables have no hyphen.
        in_names = isinstance(node_at(model, path), Names)
        if path == ("hosts",):
            return None  # no variable's name can say which host: those have dots
        path = (*path, part.replace("_", "-") if in_names else part)
    return path if isinstance(node_at(model, path), FieldInfo) else None


def read_text(text: str, field_info: FieldInfo) -> Any:
    """*text*, a variable or a word, as the field's type has it; unchanged where it is none, so that validation finds the words."""
    kind: Any = field_info.annotation
    if kind in {tuple[str, ...], tuple[str, ...] | None}:
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return TypeAdapter(kind).validate_strings(text)
    except ValidationError:
        return text


def _referenced(value: object) -> list[str]:
    """The variables that `env:NAME` values name, wherever they stand."""
    match value:
        case dict():
            return [name for below in value.values() for name in _referenced(below)]
        case str() if value.startswith("env:"):
            return [value.removeprefix("env:")]
        case str() if found := _IN_PROXY.match(value):
            return [found[1]]
        case _:
            return []


def _resolve(reading: _Reading, key: str, environ: Mapping[str, str]) -> None:
    value = reading.values.get(key)
    if not isinstance(value, str) or not _is_reference(value):
        return
    origin = f"{reading.origins[key]}, {value}"
    try:
        reading.values[key] = Secret(value, key=key).reveal(environ)
    except SettingsError as error:
        reading.problems.append(error)
        del reading.values[key]
    reading.origins[key] = origin


def _is_reference(value: str) -> bool:
    return value.startswith(("env:", "file:"))


def separate(urls: str) -> list[str]:
    """The URLs in *urls*, which are RabbitMQ servers of one cluster if there are several."""
    # A password may hold a `;` too.
    return re.split(r";\s*(?=amqps?://)", urls.strip())


def _has_password(urls: str) -> bool:
    """Whether one of *urls*, servers of one cluster separated by `;`, holds a password."""
    for url in separate(urls):
        try:
            parts = urlsplit(url.strip())
        except ValueError:
            # What cannot be read might hold one.
            if "@" in url:
                return True
            continue
        if parts.password or "password=" in parts.query:
            return True
    return False
