"""A hint: the only thing that a broker carries. "Look at rows 17, 18, 23."

On the wire a hint is a dramatiq message whose one argument is `{"v": 1, "app": …, "priority": …, "ids": […]}`. It has
no content, no address, no personal data, and may arrive twice, late or never. `docs/wire.md` shows it for
producers in other languages.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from mailfleet_schema.names import InvalidName, check_name, shown
from mailfleet_schema.states import Priority

VERSION = 1
#: At most so many ids in one hint, and so many bytes of JSON: a broker message stays under 1 KiB.
MAX_IDS = 50
MAX_BYTES = 1024
#: Ids are positive PostgreSQL bigints.
MAX_ID = 2**63 - 1
_PRIORITIES = frozenset(priority.value for priority in Priority)


class InvalidHint(ValueError):  # noqa: N818 - reads as the fact it states
    """A message is no hint; the text says what was expected. It is parked and counted, never retried."""


@dataclass(frozen=True, slots=True)
class Hint:
    """Rows of one app and priority to look at; 1 to 50 ids, each once.

    *shared* ones may be other apps': `app` is then whose workers are asked to send them.
    """

    app: str
    priority: Priority
    ids: tuple[int, ...]
    shared: bool = False

    def as_argument(self) -> dict[str, Any]:
        """The one argument of the dramatiq message."""
        plain = {"v": VERSION, "app": self.app, "priority": self.priority.value, "ids": list(self.ids)}
        return plain | {"shared": True} if self.shared else plain

    @classmethod
    def from_argument(cls, argument: object) -> Self:
        """The hint in *argument*; raises InvalidHint for anything that is none, however hostile."""
        if not isinstance(argument, Mapping):
            raise InvalidHint(f"expected an object, got {type(argument).__name__}")
        version = argument.get("v")
        if type(version) is not int or version != VERSION:
            raise InvalidHint(f"v: expected {VERSION}, got {shown(version)}")
        try:
            app = check_name("app", argument.get("app"))
        except InvalidName as error:
            raise InvalidHint(str(error)) from error
        priority = argument.get("priority")
        if not isinstance(priority, str) or priority not in _PRIORITIES:
            raise InvalidHint(f"priority: expected high, normal or bulk, got {shown(priority)}")
        shared = argument.get("shared", False)
        if not isinstance(shared, bool):
            raise InvalidHint(f"shared: expected true or false, got {shown(shared)}")
        return cls(app, Priority(priority), _ids(argument.get("ids")), shared)


def _ids(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_IDS:
        raise InvalidHint(f"ids: expected a list of 1 to {MAX_IDS} row ids")
    for one in value:
        if type(one) is not int or not 1 <= one <= MAX_ID:
            raise InvalidHint(f"ids: expected row ids from 1 to {MAX_ID}, got {shown(one)}")
    return tuple(dict.fromkeys(value))


def group(rows: Sequence[tuple[str, Priority, int]], *, shared: bool = False) -> list[Hint]:
    """Hints for *rows* of (app, priority, id), grouped by app and priority, in order, within the size limits.

    *shared* rows are those that others than their own app's workers may send.
    """
    by_key: dict[tuple[str, Priority], list[int]] = {}
    for app, priority, row_id in rows:
        by_key.setdefault((app, priority), []).append(row_id)
    return [
        Hint(app, priority, tuple(ids[start : start + size]), shared)
        for (app, priority), ids in by_key.items()
        for size in (_per_hint(app, priority, ids, shared=shared),)
        for start in range(0, len(ids), size)
    ]


def _per_hint(app: str, priority: Priority, ids: Sequence[int], *, shared: bool) -> int:
    """How many ids fit: the argument takes at most half of MAX_BYTES, dramatiq's envelope has the rest."""
    frame = len(json.dumps(Hint(app, priority, (), shared).as_argument()))
    widest = len(str(max(ids))) + 2
    return max(1, min(MAX_IDS, (MAX_BYTES - 420 - frame) // widest))
