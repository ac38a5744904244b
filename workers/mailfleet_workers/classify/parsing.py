"""From TOML to rules: every entry is checked as it is read, and a mistake is named with its place."""

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from mailfleet.errors import SettingsError
from mailfleet_workers.classify.rule import Kind, Rule, Silence
from mailfleet_workers.smtp.base import Phase
from mailfleet_workers.verdict import Scope

#: What a rule may say, wherever it stands; `host` and `source` belong to a table.
RULE_KEYS = ("reason", "verdict", "scope", "wait_s", "phase", "code", "enhanced", "text", "unless", "source")
_SILENCE_KEYS = ("reason", "error", "scope", "wait_s")
_TABLE_KEYS = ("families", "rule", "silence")
#: Seconds. A shorter wait is a loop, a longer one is for nobody to see the end of.
_LEAST_S, _MOST_S = 1.0, 604_800.0


@dataclass(frozen=True, slots=True)
class Table:
    """What one text holds: `families` of hosts by name, rules and silences in their order."""

    families: Mapping[str, tuple[str, ...]]
    rules: tuple[Rule, ...]
    silences: tuple[Silence, ...]


def table(text: str, *, origin: str, families: Collection[str] = ()) -> Table:
    """The table in *text*; *origin* is what errors and rules call it. Rules may name its own families and *families*.

    Raises SettingsError, which names the rule and what is wrong in it.
    """
    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(origin, "TOML", str(error)) from None
    _known(read, _TABLE_KEYS, origin)
    given = read.get("families", {})
    own = {name: _list(given, name, f"{origin}: families.{name}") for name in given}
    known = {*families, *own}
    return Table(
        families=own,
        rules=tuple(
            _of_table(entry, f"{origin}: rule {n}", known) for n, entry in enumerate(read.get("rule", ()), 1)
        ),
        silences=tuple(
            _silence(entry, f"{origin}: silence {n}") for n, entry in enumerate(read.get("silence", ()), 1)
        ),
    )


def own_rule(entry: object, where: str, *, hosts: Collection[str] = ()) -> Rule:
    """A rule that somebody adds for one account, or for *hosts*; `source` may be left out. *where* is its place.

    Raises SettingsError, whose key is that of the entry that is wrong ("" for the whole).
    """
    if not isinstance(entry, Mapping):
        raise SettingsError("", "a table with reason and verdict", "something else")
    _known(entry, RULE_KEYS, "")
    return _rule({"source": where, **entry}, where, "", frozenset(hosts))


def _of_table(entry: Mapping[str, Any], where: str, families: Collection[str]) -> Rule:
    _known(entry, (*RULE_KEYS, "host"), where)
    hosts = frozenset(_list(entry, "host", _key(where, "host")))
    if unknown := sorted(hosts - set(families)):
        raise SettingsError(_key(where, "host"), "names from [families]", ", ".join(unknown))
    return _rule(entry, where, where, hosts)


def _rule(entry: Mapping[str, Any], name: str, where: str, hosts: frozenset[str]) -> Rule:
    kind = _kind(entry, where)
    wait_s = entry.get("wait_s")
    if kind == "stop" and (wait_s is not None or "scope" in entry):
        raise SettingsError(_key(where, "wait_s, scope"), "none where the verdict is stop", kind)
    return Rule(
        name=name,
        reason=_text(entry, "reason", where),
        kind=kind,
        scope=_scope(entry, where) if "scope" in entry else None,
        wait_s=None if wait_s is None else _seconds(wait_s, where),
        phases=frozenset(_phase(one, where) for one in _list(entry, "phase", _key(where, "phase"))),
        hosts=hosts,
        code=_pattern(entry, "code", where),
        enhanced=_pattern(entry, "enhanced", where),
        text=_pattern(entry, "text", where),
        unless=_pattern(entry, "unless", where),
        source=_text(entry, "source", where),
    )


def _silence(entry: Mapping[str, Any], where: str) -> Silence:
    _known(entry, _SILENCE_KEYS, where)
    return Silence(
        name=where,
        reason=_text(entry, "reason", where),
        error=_pattern(entry, "error", where) or re.compile(""),
        scope=_scope(entry, where),
        wait_s=_seconds(entry.get("wait_s"), where),
    )


def _key(where: str, key: str) -> str:
    return f"{where}: {key}" if where else key


def _known(entry: Mapping[str, Any], keys: Collection[str], where: str) -> None:
    if unknown := sorted(str(key) for key in entry if key not in keys):
        raise SettingsError(where, f"keys {', '.join(sorted(keys))}", ", ".join(unknown))


def _list(entry: Mapping[str, Any], key: str, where: str) -> tuple[Any, ...]:
    value = entry.get(key, ())
    if not isinstance(value, list | tuple):
        raise SettingsError(where, "a list of names", value)
    return tuple(value)


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise SettingsError(_key(where, key), "text", value)
    return value


def _seconds(value: object, where: str) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and _LEAST_S <= value <= _MOST_S
    if not good:
        raise SettingsError(_key(where, "wait_s"), f"seconds, from {_LEAST_S:g} to {_MOST_S:.0f}", value)
    return float(cast(float, value))


def _kind(entry: Mapping[str, Any], where: str) -> Kind:
    said = entry.get("verdict")
    for kind in get_args(Kind):
        if said == kind:
            return cast(Kind, kind)
    raise SettingsError(_key(where, "verdict"), "stop, wait or retry", said)


def _scope(entry: Mapping[str, Any], where: str) -> Scope:
    try:
        return Scope(str(entry.get("scope")))
    except ValueError:
        expected = "mail, recipient, account or host"
        raise SettingsError(_key(where, "scope"), expected, entry.get("scope")) from None


def _phase(name: object, where: str) -> Phase:
    try:
        return Phase(str(name))
    except ValueError:
        raise SettingsError(_key(where, "phase"), ", ".join(Phase), name) from None


def _pattern(entry: Mapping[str, Any], key: str, where: str) -> re.Pattern[str] | None:
    if key not in entry:
        return None
    try:
        return re.compile(entry[key])
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        raise SettingsError(_key(where, key), "a regular expression", str(error)) from None
