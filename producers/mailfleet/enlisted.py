"""The application's transaction in which mails are written, whoever began it: SQLAlchemy, or a framework with connections of its own."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeAlias

from sqlalchemy import Connection
from sqlalchemy.orm import Session, scoped_session

from mailfleet.collected import Collected, Sink
from mailfleet.connections import collect_on_connection
from mailfleet.open_writes import note_write
from mailfleet.publisher import Row
from mailfleet.transactions import collect_in_session
from mailfleet_schema.dialects import Executor


class Enlisted(Protocol):
    """An open transaction, as a mailer needs it."""

    @property
    def executor(self) -> Executor:
        """Runs statements in it."""

    def note(self, locks: Iterable[tuple[str, str]]) -> None:
        """Remember what it holds locked as long as it is open, as `open_writes.note_write`."""

    def collect(self, sink: Sink, rows: Sequence[Row]) -> None:
        """Have *sink* told of *rows*, just written, once it is committed, and not otherwise."""


class Foreign(ABC):
    """A session that SQLAlchemy knows nothing of: `mailfleet.django.session()`."""

    @abstractmethod
    def enlist(self) -> AbstractContextManager[Enlisted]:
        """Its open transaction; where none is open one of its own, committed at the end of the block."""


#: Where an application's own transaction is. `scoped_session` means the session of this thread or scope.
SyncSession: TypeAlias = Session | scoped_session[Any] | Connection | Foreign


class _OfSqlalchemy:
    """A Session's transaction, or that of a Core connection that the application commits itself."""

    def __init__(self, orm: Session | None, connection: Connection) -> None:
        self._orm = orm
        self._connection = connection

    @property
    def executor(self) -> Executor:
        return self._connection

    def note(self, locks: Iterable[tuple[str, str]]) -> None:
        note_write(self._connection, locks)

    def collect(self, sink: Sink, rows: Sequence[Row]) -> None:
        if self._orm is None:
            collect_on_connection(self._connection, sink, rows)
        else:
            collect_in_session(self._orm, [Collected(sink, self._connection, row) for row in rows])


@contextmanager
def enlisted(session: SyncSession) -> Iterator[Enlisted]:
    """The transaction of *session*. Raises TypeError for what is none."""
    if isinstance(session, scoped_session):
        session = session()
    match session:
        case Session():
            yield _OfSqlalchemy(session, session.connection())
        case Connection():
            yield _OfSqlalchemy(None, session)
        case Foreign():
            with session.enlist() as here:
                yield here
        case _:
            raise TypeError(
                "session: expected a Session, a scoped_session, a Core Connection or mailfleet.django.session()"
                f" (AsyncMailer takes the async ones), got {type(session).__name__}"
            )
