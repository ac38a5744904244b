"""The fragments of SQL in which the two databases differ, and how their values are bound and read.

Every guarded statement is written once, as a template over these fragments. `now` is for comparing: it is
fixed for the statement, so that an index on a time can be used (a volatile clock made a claim among a million
rows 26,000 times slower). `clock` is for storing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from sqlalchemy import CursorResult, Executable
from sqlalchemy import Dialect as SqlalchemyDialect


class Executor(Protocol):
    """What statements need of a SQLAlchemy Connection."""

    @property
    def dialect(self) -> SqlalchemyDialect: ...

    def execute(
        self, statement: Executable, parameters: Any = None, /, *, execution_options: Any = None
    ) -> CursorResult[Any]: ...


@dataclass(frozen=True)
class Dialect:
    """One database's fragments. Frozen and without state, so that it can be the key of a statement cache."""

    name: str
    #: The database's time, fixed for one statement, for comparing.
    now: str
    #: The database's time as it passes, for storing.
    clock: str
    #: At the end of a SELECT whose rows will be changed: lock them, leave out those that others hold.
    skip_locked: str
    #: At the end of a SELECT of rows that must not be deleted before the transaction ends.
    key_share: str
    #: Before the name of a table.
    prefix: str

    def table(self, name: str) -> str:
        """The full name of table *name*."""
        return self.prefix + name

    def plus(self, instant: str, seconds: str) -> str:
        """*instant* and *seconds* (both SQL) later."""
        raise NotImplementedError

    def earliest(self, one: str, other: str) -> str:
        """The earlier of two instants (SQL); one that is NULL does not count."""
        raise NotImplementedError

    def seconds_until(self, instant: str) -> str:
        """Seconds from now until *instant* (SQL), negative when it has passed."""
        raise NotImplementedError

    def in_ids(self, parameter: str) -> str:
        """A condition's right side: one of the ids bound to *parameter* with `bind_ids`."""
        raise NotImplementedError

    def in_names(self, parameter: str) -> str:
        """A condition's right side: one of the strings bound to *parameter* with `bind_names`."""
        raise NotImplementedError

    def names_meet(self, text: str, parameter: str) -> str:
        """A condition: one of the names in *text* (SQL), each between spaces, is bound to *parameter* with `bind_names`."""
        raise NotImplementedError

    def json_length(self, column: str) -> str:
        """How many elements the JSON array in *column* (SQL) has; NULL where it is NULL."""
        raise NotImplementedError

    def json_has(self, column: str, key: str, value: str) -> str:
        """Whether one of the objects in the JSON array in *column* has the text *value* (both SQL) under *key*."""
        raise NotImplementedError

    def rows(self, parameter: str, columns: Mapping[str, str], alias: str) -> str:
        """A FROM item: the rows bound to *parameter* with `bind_rows`, *columns* by name and PostgreSQL type.

        The types that both understand: bigint, integer, double precision, boolean, text, jsonb, timestamptz.
        """
        raise NotImplementedError

    def bind_ids(self, ids: Sequence[int]) -> Any:
        raise NotImplementedError

    def bind_names(self, names: Sequence[str]) -> Any:
        raise NotImplementedError

    def bind_instant(self, instant: datetime | None) -> Any:
        """An aware time as this database stores it; None stays None."""
        raise NotImplementedError

    def read_instant(self, value: Any) -> datetime | None:
        """A stored time as an aware UTC datetime; None stays None."""
        raise NotImplementedError

    def read_json(self, value: Any) -> Any:
        """A JSON column's value as Python's; None stays None."""
        raise NotImplementedError

    def json_instant(self, instant: datetime | None) -> Any:
        """An aware time as a value inside the JSON of `bind_rows`; None stays None."""
        raise NotImplementedError

    def bind_rows(self, rows: Sequence[Any]) -> str:
        """Dataclass instances or mappings, as the JSON that `rows` reads."""
        return json.dumps([_plain(row) for row in rows], ensure_ascii=False, separators=(",", ":"))

    def format(self, template: str, **more: str) -> str:
        """*template* with `{now}`, `{clock}`, `{skip_locked}`, `{key_share}` and `{mail}`, `{worker}` … filled in."""
        names = {name: self.table(name) for name in TABLES}
        own = {"now": self.now, "clock": self.clock}
        own |= {"skip_locked": self.skip_locked, "key_share": self.key_share}
        return template.format(**own, **names, **more)


#: Every table of mailfleet.
TABLES = (
    "mail",
    "mail_content",
    "mail_recipient",
    "attachment",
    "mail_key",
    "mail_attempt",
    "worker",
    "gate",
    "limit_change",
    "instance",
    "mail_template",
    "stored_account",
    "fleet_setting",
    "webhook_event",
    "sent_copy",
    "oauth_token",
)


def _plain(row: Any) -> dict[str, Any]:
    values = {f.name: getattr(row, f.name) for f in fields(row)} if is_dataclass(row) else dict(row)
    return {key: value.value if isinstance(value, Enum) else value for key, value in values.items()}
