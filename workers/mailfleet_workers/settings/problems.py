"""What is wrong with settings, one line for each problem: key, expectation, value. A secret's value is never in it.

Pydantic finds the problems; its own texts speak of types and show whole inputs, so each is put into our words here.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from mailfleet.errors import SettingsError
from mailfleet_workers.settings.keys import known_keys, node_at, part_of_key

#: What every model of the settings is: frozen, without keys of its own making, and silent about what it was given.
STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False)

_SECRETS = frozenset(
    {
        "password",
        "secret",
        "client_secret",
        "refresh_token",
        "token_url",
        "database_url",
        "broker_url",
        "redis_url",
        "proxy",
    }
)
_LONGEST = 60


@dataclass(frozen=True, slots=True)
class Words:
    """What stands in an error instead of a value that cannot or must not be shown."""

    text: str

    def __repr__(self) -> str:
        return self.text


NOT_SHOWN = Words("a value that is not shown")


class WrongSettings(SettingsError):  # noqa: N818 - reads as the fact it states
    """At least one setting is wrong. `problems` holds all of them, each with key, expectation and value.

    As an error it is its first problem; its text has one line for each, with where the value came from.
    """

    def __init__(self, problems: Sequence[SettingsError], origins: Mapping[str, str] | None = None) -> None:
        first = problems[0]
        super().__init__(first.key, first.expected, first.value)
        self.problems = tuple(problems)
        self._origins = dict(origins or {})

    def lines(self) -> tuple[str, ...]:
        """One line for each problem."""
        return tuple(f"{problem}{self._origin(problem.key)}" for problem in self.problems)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _origin(self, key: str) -> str:
        # A problem of a part (`import[0]`, a missing key) comes from where the whole was given.
        parts = key.replace("[", ".").split(".")
        for length in range(len(parts), 0, -1):
            origin = self._origins.get(".".join(parts[:length]))
            if origin is not None:
                return "" if origin == key else f" ({origin})"
        return ""


def wrong(*problems: tuple[str, str, object]) -> PydanticCustomError:
    """The error that a validator raises for *problems*: (key below the validated field or "", expectation, value)."""
    return PydanticCustomError("mailfleet", "see context", {"problems": problems})


def from_pydantic(error: ValidationError, root: type[BaseModel]) -> list[SettingsError]:
    """The problems of *error*, in the order of the keys. Neither texts nor tracebacks keep the input."""
    found: list[SettingsError] = []
    for one in error.errors(include_url=False):
        # A default that follows from a wrong setting is no problem of its own.
        if one["type"] != "default_factory_not_called":
            found += _translate(one, root)
    return found


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean …?)` when one of *known* is like *word*, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def key_of(loc: Sequence[int | str]) -> str:
    """`("apps", "billing", "import", 0)` as `apps.billing.import[0]`; a server's name as TOML has it, in quotes."""
    key = ""
    for part in loc:
        if part == "[key]":
            continue
        word = f"[{part}]" if isinstance(part, int) else part_of_key(part)
        key += word if isinstance(part, int) or not key else f".{word}"
    return key


def _translate(one: ErrorDetails, root: type[BaseModel]) -> list[SettingsError]:
    loc, context = one["loc"], one.get("ctx", {})
    key = key_of(loc)
    if one["type"] == "mailfleet":
        return [
            SettingsError(_join(key, below), expected, value)
            for below, expected, value in context["problems"]
        ]
    if one["type"] == "extra_forbidden":
        table = node_at(root, loc[:-1])
        known = known_keys(table) if isinstance(table, type) else []
        return [SettingsError(key, f"a known key{nearest(str(loc[-1]), known)}", Words("an unknown one"))]
    return [SettingsError(key, _expected(one["type"], context), _shown(loc, one["input"]))]


def _join(key: str, below: str) -> str:
    return f"{key}.{below}" if key and below and not below.startswith("[") else key + below


_EXPECTED = {
    "literal_error": "{expected}",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number from {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number up to {le:g}",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "is_instance_of": "text",
    "tuple_type": "a list",
    "too_short": "at least one entry",
    "model_type": "a table",
    "dict_type": "a table",
}


def _expected(kind: str, context: Mapping[str, Any]) -> str:
    # A kind that is not listed can come from no field of ours today; pydantic's name for it shows no input.
    return _EXPECTED.get(kind, f"something else ({kind})").format_map(context).replace("'", "")


def _shown(loc: Sequence[int | str], value: object) -> object:
    if _SECRETS.intersection(str(part) for part in loc):
        return NOT_SHOWN
    match value:
        case Mapping():
            return Words("a table")
        case list() | tuple():
            return Words("a list")
        case str() if len(value) > _LONGEST:
            return value[: _LONGEST - 1] + "…"
        case _:
            return value
