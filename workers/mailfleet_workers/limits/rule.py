"""One rule: so many messages or recipients in any window of a length. `14/s`, `30/min`, `300 per 10 s`, `10000/d`."""

import re
from dataclasses import dataclass
from enum import StrEnum

EXPECTED = (
    "NUMBER/WINDOW, such as 14/s, 30/min, 300/10s or 10000/d:"
    " from 1 to 100,000,000 in a window of 100 ms to 31 days (ms, s, min, h, d; a month is 31d)"
)
MOST = 100_000_000
LEAST_WINDOW_MS, MOST_WINDOW_MS = 100, 31 * 86_400_000

_UNITS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_NAMES = {"sec": "s", "second": "s", "seconds": "s", "m": "min", "minute": "min", "minutes": "min"}
_NAMES |= {"hour": "h", "hours": "h", "day": "d", "days": "d"}
_RULE = re.compile(r"\s*([0-9]{1,10})\s*(?:/|\bper\b)\s*([0-9]{0,10})\s*([a-z]+)\s*", re.ASCII)


class Scope(StrEnum):
    """Whose sending a rule limits."""

    HOST = "host"
    ACCOUNT = "account"


class Unit(StrEnum):
    """What a rule counts: messages, or recipients (each recipient of each message)."""

    MESSAGES = "messages"
    RECIPIENTS = "recipients"


class InvalidRule(ValueError):  # noqa: N818 - reads as the fact it states
    """A text that is no rule; its message says what was expected."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` in every window of `window_ms` milliseconds."""

    limit: int
    window_ms: int

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """The rate that *text* says. Raises InvalidRule."""
        found = _RULE.fullmatch(text)
        if found is None:
            raise InvalidRule(EXPECTED)
        unit = _NAMES.get(found[3], found[3])
        if unit not in _UNITS:
            raise InvalidRule(EXPECTED)
        rate = cls(int(found[1]), int(found[2] or 1) * _UNITS[unit])
        if not 1 <= rate.limit <= MOST or not LEAST_WINDOW_MS <= rate.window_ms <= MOST_WINDOW_MS:
            raise InvalidRule(EXPECTED)
        return rate

    @property
    def window(self) -> str:
        """The window as it is written: `s`, `10s`, `min`."""
        for unit in ("d", "h", "min", "s"):
            count, rest = divmod(self.window_ms, _UNITS[unit])
            if not rest:
                return unit if count == 1 else f"{count}{unit}"
        return f"{self.window_ms}ms"

    def __str__(self) -> str:
        return f"{self.limit}/{self.window}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rate of `unit` for a whole host or for one account."""

    scope: Scope
    unit: Unit
    rate: Rate

    def __str__(self) -> str:
        """As refusals and metrics name it: `account messages 30/min`."""
        return f"{self.scope} {self.unit} {self.rate}"
