"""The transaction that is open on a connection of Django's, for every verb that takes a session."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connections, transaction
from sqlalchemy import URL

from mailfleet.collected import Sink
from mailfleet.django.executor import DjangoExecutor
from mailfleet.enlisted import Enlisted, Foreign
from mailfleet.open_writes import note_open
from mailfleet.publisher import Row
from mailfleet_schema.dialects import Executor


class _Committed:
    """What Django calls after the commit, and forgets when the transaction or its savepoint is rolled back.

    So it also stands for the transaction: it lasts as long as that may still be committed.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[Sink, Sequence[Row]]] = []

    def __call__(self) -> None:
        for sink, rows in self.rows:
            sink.committed(rows)


class _OfDjango:
    def __init__(self, connection: Any, committed: _Committed) -> None:
        self._connection = connection
        self._committed = committed
        self.executor: Executor = DjangoExecutor(connection)

    def note(self, locks: Iterable[tuple[str, str]]) -> None:
        note_open(self._committed, url_of(self._connection), locks)

    def collect(self, sink: Sink, rows: Sequence[Row]) -> None:
        self._committed.rows.append((sink, rows))


@dataclass(frozen=True, slots=True)
class DjangoSession(Foreign):
    """The connection *using* of the thread that uses it; holds nothing itself."""

    using: str

    @contextmanager
    def enlist(self) -> Iterator[Enlisted]:
        """The open `atomic()` block, or one of our own; with autocommit turned off the transaction as it is.

        Raises ValueError for a database that mailfleet does not know.
        """
        connection = connections[self.using]
        committed = _Committed()
        with ExitStack() as own:
            if not connection.in_atomic_block:
                if not connection.get_autocommit():
                    # The application ends it, and nobody tells us. In a block of ours Django would make a savepoint, which
                    # SQLite commits when it is released; without a hint workers find the mail some seconds later.
                    yield _OfDjango(connection, committed)
                    return
                # Else every statement would be committed by itself: a mail without its content.
                own.enter_context(transaction.atomic(using=self.using))
            transaction.on_commit(committed, using=self.using, robust=True)
            yield _OfDjango(connection, committed)


def session(using: str | None = None) -> DjangoSession:
    """The transaction of Django's database *using*; None is `MAILFLEET_DATABASE`, or `default`."""
    return DjangoSession(using or str(getattr(settings, "MAILFLEET_DATABASE", "default")))


def url_of(connection: Any) -> URL:
    """Which database that is, as far as a mailer's URL of the same one would tell."""
    known = connection.settings_dict
    if connection.vendor == "sqlite":
        return URL.create("sqlite", database=str(known["NAME"]))
    port = str(known.get("PORT") or "")
    return URL.create(
        "postgresql",
        host=known.get("HOST") or None,
        port=int(port) if port.isdecimal() else None,
        database=known.get("NAME") or None,
    )
