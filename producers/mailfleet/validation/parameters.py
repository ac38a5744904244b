r"""Whether a value is JSON that every database and language here can hold, and a copy of it that nobody can change.

PostgreSQL's jsonb refuses \u0000 and lone surrogates; other languages lose integers beyond 64 bits; NaN and
infinities are no JSON (RFC 8259 6).
"""

import json
import math
from collections.abc import Mapping

from mailfleet.errors import InvalidMail
from mailfleet.mail import JSON
from mailfleet.validation.limits import Limits
from mailfleet.validation.text import sized

_BEYOND = 2**63

#: JSON in one form: keys sorted, no blanks, UTF-8 as it is. Equal values, equal text, on every Python.
canonical = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=False
).encode


def parameter(value: object, field: str, limits: Limits) -> JSON:
    """A copy of *value* in plain dict, list, str, int, float, bool and None. Raises InvalidMail for *field*.

    Tuples become lists. The size that counts is that of the canonical form.
    """
    if value is None:
        return None
    done = _Copier(field, limits).copy(value, 0)
    size = len(canonical(done).encode())
    if size > limits.parameter_bytes:
        raise InvalidMail(field, f"expected at most {limits.parameter_bytes} bytes of JSON, got {size}")
    return done


class _Copier:
    """Copies within a budget: a few lists that name each other would else unfold into billions of values."""

    def __init__(self, field: str, limits: Limits) -> None:
        self._field = field
        self._limits = limits
        self._left = limits.parameter_bytes

    def copy(self, value: object, depth: int) -> JSON:
        self._spend(1)
        if depth > self._limits.parameter_depth:
            raise InvalidMail(self._field, f"nests deeper than {self._limits.parameter_depth}")
        match value:
            case None | bool():
                return value
            case str():
                return self._text(value)
            case int():
                number = int(value)
                if not -_BEYOND <= number < _BEYOND:
                    raise InvalidMail(self._field, "has an integer beyond 64 bits: pass it as text")
                return number
            case float():
                if not math.isfinite(value):
                    raise InvalidMail(self._field, "has NaN or an infinity, which JSON has not")
                return float(value)
            case list() | tuple():
                return [self.copy(item, depth + 1) for item in value]
            case Mapping():
                return {self._key(key): self.copy(item, depth + 1) for key, item in value.items()}
            case _:
                raise InvalidMail(self._field, f"has a {type(value).__name__}, which JSON has not")

    def _key(self, key: object) -> str:
        if not isinstance(key, str):
            raise InvalidMail(self._field, f"has a {type(key).__name__} as a key: keys are str")
        return self._text(key)

    def _text(self, value: str) -> str:
        text, data = sized(value, self._field, self._limits.parameter_bytes)
        self._spend(len(data))
        return text

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise InvalidMail(self._field, f"expected at most {self._limits.parameter_bytes} bytes of JSON")
