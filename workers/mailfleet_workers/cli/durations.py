"""Spans of time as operators write them: `90s`, `10m`, `2h`, `1d`, `1h30m`."""

import re

from mailfleet_workers.cli.failure import Failure

_PART = r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*"
_UNITS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_ONE = re.compile(_PART + f"({'|'.join(sorted(_UNITS, key=len, reverse=True))})\\s*")
_LEAST_S, _MOST_S = 1.0, 366 * 86_400.0


def parse_duration(option: str, text: str) -> float:
    """*text* in seconds. Raises Failure, which names *option* and what was expected."""
    seconds, rest = 0.0, text.strip().lower()
    while rest and (found := _ONE.match(rest)):
        seconds += float(found[1]) * _UNITS[found[2]]
        rest = rest[found.end() :]
    if rest or not _LEAST_S <= seconds <= _MOST_S:
        raise Failure(
            f"{option}: expected a time such as 90s, 10m, 2h or 1d, up to 366 days, got {text!r:.60}"
        )
    return seconds
