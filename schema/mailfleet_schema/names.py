"""The grammar of app and account names: they become queue names, routing keys, metric labels and headings."""

import re

NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
EXPECTATION = "a name of 1 to 40 characters a-z, 0-9 and '-', beginning with a letter"


def shown(value: object) -> str:
    """*value* for an error message, short; only its type where showing it could fail (a huge number, deep nesting)."""
    if value is None or isinstance(value, str | float | bool):
        return f"{value!r:.60}"
    return f"{value}" if isinstance(value, int) and abs(value) < 10**20 else type(value).__name__


class InvalidName(ValueError):  # noqa: N818 - reads as the fact it states
    """*field* holds no name."""

    def __init__(self, field: str, value: object) -> None:
        super().__init__(f"{field}: expected {EXPECTATION}, got {shown(value)}")
        self.field = field


def check_name(field: str, value: object) -> str:
    """*value* if it is a name; raises InvalidName with *field* otherwise."""
    if not isinstance(value, str) or NAME.fullmatch(value) is None:
        raise InvalidName(field, value)
    return value
