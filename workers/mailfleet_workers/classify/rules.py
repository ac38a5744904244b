"""The table of rules: read from TOML, checked when read, searched in order.

A rule says for which hosts, phases and replies it speaks and what they mean; the first that fits decides. What the
rules mean for a mail with several recipients, and times stated in a reply, are the classifier's business.
"""

import fnmatch
import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args

from mailfleet.errors import SettingsError
from mailfleet_workers.smtp.base import Phase, Reply
from mailfleet_workers.verdict import Scope

Kind = Literal["stop", "wait", "retry"]

_ADDRESS = re.compile(r"[^\s<>()\[\]\"',;:]+@[^\s<>()\[\]\"',;:]+")
#: Characters of a reply that are read: reasons stand at the beginning, and a hostile server can send 64 KB.
_READ = 2000
#: What follows the path of a URL is an identifier or a parameter, never a reason.
_QUERY = re.compile(r"(https?://[^\s?#]*)[?#]\S*")
_ENHANCED = re.compile(r"(?m)^[245]\.\d{1,3}\.\d{1,3}[ \t]+")
_RULE_KEYS = {
    "reason",
    "verdict",
    "scope",
    "wait_s",
    "phase",
    "host",
    "code",
    "enhanced",
    "text",
    "unless",
    "source",
}
_SILENCE_KEYS = {"reason", "error", "scope", "wait_s"}


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table.

    `scope` and `wait_s` (seconds) are None where the phase's defaults apply, and for stop and retry. Empty `phases` or
    `hosts` mean all. `code` and `enhanced` must fit as a whole, `text` and `unless` anywhere in the text as
    `plain_text` makes it; None does not ask. `source` says where the meaning is documented.
    """

    reason: str
    kind: Kind
    scope: Scope | None
    wait_s: float | None
    phases: frozenset[Phase]
    hosts: frozenset[str]
    code: re.Pattern[str] | None
    enhanced: re.Pattern[str] | None
    text: re.Pattern[str] | None
    unless: re.Pattern[str] | None
    source: str

    def fits(self, phase: Phase, families: frozenset[str], reply: Reply, text: str) -> bool:
        """Whether this rule speaks for *reply*, whose text is given as `plain_text` made it."""
        return (
            (not self.phases or phase in self.phases)
            and (not self.hosts or not self.hosts.isdisjoint(families))
            and (self.code is None or bool(self.code.fullmatch(str(reply.code))))
            and (self.enhanced is None or bool(self.enhanced.fullmatch(reply.enhanced or "")))
            and (self.text is None or bool(self.text.search(text)))
            and (self.unless is None or not self.unless.search(text))
        )


@dataclass(frozen=True, slots=True)
class Silence:
    """How long a host or account waits when nothing was said before MAIL; `error` is searched in `Answer.error`."""

    reason: str
    error: re.Pattern[str]
    scope: Scope
    wait_s: float


@dataclass(frozen=True, slots=True)
class Rules:
    """The whole table: `families` of hosts by name, with shell patterns; rules and silences in their order."""

    families: Mapping[str, tuple[str, ...]]
    rules: tuple[Rule, ...]
    silences: tuple[Silence, ...]

    @classmethod
    @functools.cache
    def builtin(cls) -> Self:
        """The table that comes with the product."""
        text = resources.files(__package__).joinpath("replies.toml").read_text(encoding="utf-8")
        return cls.parse(text, origin="replies.toml")

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """An operator's own table, the product's when *path* is None.

        Raises SettingsError, which names file and rule, when it is wrong; OSError.
        """
        return (
            cls.builtin() if path is None else cls.parse(path.read_text(encoding="utf-8"), origin=str(path))
        )

    @classmethod
    def parse(cls, text: str, *, origin: str) -> Self:
        """The table in *text*; *origin* is what errors call it. Raises SettingsError."""
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(origin, "TOML", str(error)) from None
        families = {name: tuple(globs) for name, globs in table.get("families", {}).items()}
        return cls(
            families=families,
            rules=tuple(
                _rule(entry, f"{origin}: rule {n}", families)
                for n, entry in enumerate(table.get("rule", ()), 1)
            ),
            silences=tuple(
                _silence(entry, f"{origin}: silence {n}")
                for n, entry in enumerate(table.get("silence", ()), 1)
            ),
        )

    def find(self, host: str, phase: Phase, reply: Reply) -> Rule | None:
        """The first rule that speaks for *reply*, None if none does."""
        families = self._families_of(host.lower())
        text = plain_text(reply.text)
        return next((rule for rule in self.rules if rule.fits(phase, families, reply, text)), None)

    def find_silence(self, error: str) -> Silence | None:
        """The first line of the table for what was seen instead of a reply, None if none fits."""
        return next((silence for silence in self.silences if silence.error.search(error)), None)

    def _families_of(self, host: str) -> frozenset[str]:
        return frozenset(
            name
            for name, globs in self.families.items()
            if host == name or any(fnmatch.fnmatchcase(host, glob) for glob in globs)
        )


def plain_text(text: str) -> str:
    """A reply's text as rules see it: one line, lower case, without the enhanced codes that providers repeat on every
    line, and with "<address>" for addresses, so that nobody's address reads like a reason. Only the first 2000 characters are read.
    """
    one_line = " ".join(_ENHANCED.sub("", text[:_READ]).split()).lower()
    return _ADDRESS.sub("address", _QUERY.sub(r"\1", one_line))


def _rule(entry: Mapping[str, Any], where: str, families: Mapping[str, Any]) -> Rule:
    _known(entry, _RULE_KEYS, where)
    kind = _kind(entry, where)
    wait_s = entry.get("wait_s")
    if kind != "wait" and (wait_s is not None or "scope" in entry):
        raise SettingsError(f"{where}: wait_s, scope", "none unless the verdict is wait", kind)
    hosts = frozenset(entry.get("host", ()))
    if unknown := sorted(hosts - families.keys()):
        raise SettingsError(f"{where}: host", "names from [families]", ", ".join(unknown))
    return Rule(
        reason=_text(entry, "reason", where),
        kind=kind,
        scope=_scope(entry, where) if "scope" in entry else None,
        wait_s=None if wait_s is None else _seconds(wait_s, where),
        phases=frozenset(_phase(name, where) for name in entry.get("phase", ())),
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
        reason=_text(entry, "reason", where),
        error=_pattern(entry, "error", where) or re.compile(""),
        scope=_scope(entry, where),
        wait_s=_seconds(entry.get("wait_s"), where),
    )


def _known(entry: Mapping[str, Any], keys: set[str], where: str) -> None:
    if unknown := sorted(entry.keys() - keys):
        raise SettingsError(where, f"keys {', '.join(sorted(keys))}", ", ".join(unknown))


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise SettingsError(f"{where}: {key}", "text", value)
    return value


def _seconds(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise SettingsError(f"{where}: wait_s", "seconds, more than 0", value)
    return float(value)


def _kind(entry: Mapping[str, Any], where: str) -> Kind:
    said = entry.get("verdict")
    for kind in get_args(Kind):
        if said == kind:
            return cast(Kind, kind)
    raise SettingsError(f"{where}: verdict", "stop, wait or retry", said)


def _scope(entry: Mapping[str, Any], where: str) -> Scope:
    try:
        return Scope(str(entry.get("scope")))
    except ValueError:
        raise SettingsError(
            f"{where}: scope", "mail, recipient, account or host", entry.get("scope")
        ) from None


def _phase(name: object, where: str) -> Phase:
    try:
        return Phase(str(name))
    except ValueError:
        raise SettingsError(f"{where}: phase", ", ".join(Phase), name) from None


def _pattern(entry: Mapping[str, Any], key: str, where: str) -> re.Pattern[str] | None:
    if key not in entry:
        return None
    try:
        return re.compile(entry[key])
    except (re.error, TypeError) as error:
        raise SettingsError(f"{where}: {key}", "a regular expression", str(error)) from None
