"""An index of a store's mails, for lists and searches that read no mail: one thread fills it as mails come.

It is a database without a name in the store's directory, made anew with every start and gone with the process, so it can
never disagree with an older run. The newest mails are taken first; `behind` says how many older ones are still to come.
"""

import json
import logging
import os
import sqlite3
import tempfile
import threading
from dataclasses import dataclass
from typing import Any

from mailfleet_workers.catcher import DirectoryStore
from mailfleet_workers.catcher_web.summary import Summary, fold, summarise

log = logging.getLogger(__name__)

#: Mails that are summarised between two looks at what is new.
_BATCH = 200
#: How long the thread sleeps when nothing happens; `stop` waits as long.
_WATCH_S = 0.2
_MAX_WORDS = 20

_TABLE = """
CREATE TABLE mail (
    number INTEGER PRIMARY KEY, received_at REAL, size INTEGER, sender TEXT, recipient TEXT, subject TEXT,
    message_id TEXT, app TEXT, envelope_from TEXT, envelope_to TEXT, searchable TEXT
)"""
_INSERT = "INSERT OR REPLACE INTO mail VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Page:
    """Some mails in the order that was asked for; `more`: others follow. `behind`: older mails not yet looked at."""

    mails: tuple[Summary, ...]
    more: bool
    behind: int


class Index:
    """The index of *store*; between `start` and `stop` it follows the store. Any thread may ask."""

    def __init__(self, store: DirectoryStore) -> None:
        self._store = store
        self._lock = threading.Condition()
        self._database = _open(store)
        numbers = store.numbers()
        self._fresh, self._backlog = numbers[-_BATCH:], numbers[:-_BATCH]
        self._first, self._last = store.first, store.last
        self._changes = 0
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mailfleet-catch-index", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and forget everything; whoever waits goes on, and finds nothing."""
        with self._lock:
            self._halt.set()
            self._lock.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            self._database.close()

    @property
    def stopped(self) -> bool:
        return self._halt.is_set()

    def page(
        self, query: str = "", *, after: int | None = None, before: int | None = None, limit: int = 50
    ) -> Page:
        """At most *limit* mails that have all words of *query*, newest first; with *after* the oldest after it first."""
        conditions, values = ["number >= ?"], [self._store.first]
        words = fold(query).split()[:_MAX_WORDS]
        if after is not None:
            conditions.append("number > ?")
            values.append(after)
        if before is not None:
            conditions.append("number < ?")
            values.append(before)
        where = " AND ".join(conditions + ["instr(searchable, ?) > 0"] * len(words))
        order = "DESC" if after is None else "ASC"
        statement = f"SELECT * FROM mail WHERE {where} ORDER BY number {order} LIMIT ?"
        with self._lock:
            if self.stopped:
                return Page((), more=False, behind=0)
            rows = self._database.execute(statement, [*values, *words, limit + 1]).fetchall()
            behind = len(self._backlog)
        return Page(tuple([_summary(row) for row in rows[:limit]]), len(rows) > limit, behind)

    def neighbours(self, number: int) -> tuple[int | None, int | None]:
        """The next newer and the next older mail than *number*."""
        with self._lock:
            if self.stopped:
                return None, None
            newer = self._database.execute(
                "SELECT min(number) FROM mail WHERE number > ?", [number]
            ).fetchone()
            older = self._database.execute(
                "SELECT max(number) FROM mail WHERE number < ?", [number]
            ).fetchone()
        return newer[0], older[0] if older[0] is not None and older[0] >= self._store.first else None

    @property
    def changes(self) -> int:
        """How often something changed here; see `wait_for_change`."""
        return self._changes

    def catch_up(self, deadline_s: float) -> bool:
        """Wait until every mail is in that the store took over before this call, except for the backlog of the start."""
        last = self._store.last
        with self._lock:
            return self._lock.wait_for(lambda: self._has(last) or self.stopped, deadline_s)

    def wait_for_change(self, changes: int, deadline_s: float) -> None:
        """Wait until `changes` is another than this, at most *deadline_s* seconds."""
        with self._lock:
            self._lock.wait_for(lambda: self._changes != changes or self.stopped, deadline_s)

    def _has(self, number: int) -> bool:
        """Whether *number*, and what came before it, is in, or has gone; called under the lock."""
        return self._last >= number and (not self._fresh or self._fresh[0] > number)

    def run_once(self) -> bool:
        """Take in what is new, or a piece of the backlog; False when there was nothing to do."""
        first, last = self._store.first, self._store.last
        if last > self._last:
            new = self._store.numbers(after=self._last)
            with self._lock:
                self._fresh += new
                self._last = max(self._last, new[-1] if new else last)
        # What came since the start in its order; what was there before from its newer end.
        source, part = (self._fresh, slice(_BATCH)) if self._fresh else (self._backlog, slice(-_BATCH, None))
        batch = source[part]
        rows = [_row(found) for number in batch if (found := self._summary(number)) is not None]
        if not batch and first == self._first:
            return False
        with self._lock:
            self._database.execute("BEGIN")
            self._database.executemany(_INSERT, rows)
            if first != self._first:
                self._database.execute("DELETE FROM mail WHERE number < ?", [first])
            self._database.execute("COMMIT")
            del source[part]
            self._first = first
            self._changes += 1
            self._lock.notify_all()
        return True

    def _run(self) -> None:
        while not self._halt.is_set():
            try:
                if not self.run_once():
                    self._store.wait_for_change(self._first, self._last, _WATCH_S)
            except (OSError, sqlite3.Error):
                # A full disk: mails are refused with 451 meanwhile, and lists lack the newest.
                log.exception("index_failed")
                self._recover()
                self._halt.wait(_WATCH_S)

    def _recover(self) -> None:
        with self._lock:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")

    def _summary(self, number: int) -> Summary | None:
        try:
            return summarise(self._store, number)
        except KeyError:
            # Removed meanwhile, or a file that is no receipt.
            return None


def _open(store: DirectoryStore) -> sqlite3.Connection:
    """A database in a file that has no name any more."""
    descriptor, name = tempfile.mkstemp(prefix=".index-", dir=store.directory)
    os.close(descriptor)
    try:
        database = sqlite3.connect(name, check_same_thread=False, isolation_level=None)
        # Without a name there is nothing to recover from: no journal, no waiting for the disk.
        for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
            database.execute(f"PRAGMA {pragma}")
        database.execute(_TABLE)
    finally:
        os.unlink(name)  # noqa: PTH108 - mkstemp gives a string
    return database


def _row(mail: Summary) -> tuple[object, ...]:
    values = (
        mail.number,
        mail.received_at,
        mail.size,
        mail.sender,
        mail.to,
        mail.subject,
        mail.message_id,
        mail.app,
        mail.envelope_from,
        json.dumps(mail.envelope_to),
        mail.searchable(),
    )
    # SQLite's text is UTF-8, which has no lone surrogates.
    return tuple([_stored(value) for value in values])


def _stored(value: object) -> object:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _summary(row: tuple[Any, ...]) -> Summary:
    """The line that _row made *row* of."""
    number, received_at, size, sender, to, subject, message_id, app, envelope_from, envelope_to, _ = row
    return Summary(
        number=number,
        received_at=received_at,
        size=size,
        sender=sender,
        to=to,
        subject=subject,
        message_id=message_id,
        app=app,
        envelope_from=envelope_from,
        envelope_to=tuple(json.loads(envelope_to)),
    )
