"""Where tokens are shared: rows of the database, or this process's memory where there is no database."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy import Engine

from mailfleet_schema.engine import read_only
from mailfleet_schema.statements import oauth_token
from mailfleet_schema.statements.oauth_token import StoredToken

#: Rows of other secrets of the same account are removed when nothing happened to them for so long, in seconds.
FORGOTTEN_S = 30 * 86400.0


class Rows(Protocol):
    """As `statements.oauth_token`, each call in a transaction of its own; raises what the database raises."""

    def read(self, name: str) -> StoredToken | None: ...

    def lease(self, name: str, *, generation: int, by: str, lease_s: float) -> bool: ...

    def store(self, name: str, *, by: str, sealed: bytes, expires_s: float) -> int | None: ...

    def fail(self, name: str, *, by: str, reason: str, rest_s: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class DatabaseRows:
    """Shared by everybody who uses the database."""

    engine: Engine

    def read(self, name: str) -> StoredToken | None:
        with read_only(self.engine) as connection:
            return oauth_token.read(connection, name)

    def lease(self, name: str, *, generation: int, by: str, lease_s: float) -> bool:
        with self.engine.begin() as connection:
            return oauth_token.lease(connection, name, generation=generation, by=by, lease_s=lease_s)

    def store(self, name: str, *, by: str, sealed: bytes, expires_s: float) -> int | None:
        account = name.partition("/")[0]
        with self.engine.begin() as connection:
            generation = oauth_token.store(connection, name, by=by, sealed=sealed, expires_s=expires_s)
            if generation is not None:
                oauth_token.forget(connection, f"{account}/", keep=name, older_s=FORGOTTEN_S)
            return generation

    def fail(self, name: str, *, by: str, reason: str, rest_s: float) -> bool:
        with self.engine.begin() as connection:
            return oauth_token.fail(connection, name, by=by, reason=reason, rest_s=rest_s)


@dataclass(slots=True)
class _Row:
    token: StoredToken
    expires: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class MemoryRows:
    """Of one process that has no database, as with `Notice`. Thread-safe; *clock* is monotonic, in seconds."""

    clock: Callable[[], float]
    _rows: dict[str, _Row] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, name: str) -> StoredToken | None:
        with self._lock:
            row = self._rows.get(name)
            if row is None:
                return None
            now = self.clock()
            left_s = None if row.expires is None else row.expires - now
            held_s = None if row.until is None else row.until - now
            return replace(row.token, left_s=left_s, held_s=held_s)

    def lease(self, name: str, *, generation: int, by: str, lease_s: float) -> bool:
        with self._lock:
            new = StoredToken(name, None, None, 0, None, None, None, None, None, datetime.now(UTC))
            row = self._rows.setdefault(name, _Row(new))
            free = row.until is None or row.until <= self.clock()
            if row.token.generation != generation or not free:
                return False
            row.token, row.until = replace(row.token, held_by=by), self.clock() + lease_s
            return True

    def store(self, name: str, *, by: str, sealed: bytes, expires_s: float) -> int | None:
        with self._lock:
            row = self._rows[name]
            if row.token.held_by != by:
                return None
            generation = row.token.generation + 1
            row.token = replace(
                row.token, sealed=sealed, generation=generation, held_by=None, failed_at=None, reason=None
            )
            row.expires, row.until = self.clock() + expires_s, None
            return generation

    def fail(self, name: str, *, by: str, reason: str, rest_s: float) -> bool:
        with self._lock:
            row = self._rows[name]
            if row.token.held_by != by:
                return False
            row.token = replace(row.token, held_by=None, failed_at=datetime.now(UTC), reason=reason)
            row.until = self.clock() + rest_s
            return True
