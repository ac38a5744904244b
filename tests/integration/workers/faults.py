"""Making a real database fail at a statement or a commit: the driver's own errors, at a chosen moment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event


class Fault:
    """How often it struck (`struck`), and how often it still will (`left`), after sparing `spared` occasions."""

    def __init__(self, times: int, spared: int = 0) -> None:
        self.left = times
        self.spared = spared
        self.struck = 0

    def strike(self) -> bool:
        if self.left <= 0:
            return False
        if self.spared > 0:
            self.spared -= 1
            return False
        self.left -= 1
        self.struck += 1
        return True


@contextmanager
def failing_statement(
    engine: Engine,
    fragment: str,
    *,
    times: int = 1_000_000,
    spared: int = 0,
    error: Callable[[], Exception] | None = None,
) -> Iterator[Fault]:
    """Statements that contain *fragment* fail, *times* times, with the driver's OperationalError or *error*.

    The first *spared* of them do not.
    """
    fault = Fault(times, spared)

    def refuse(_cursor: Any, statement: str, _parameters: Any, _context: Any) -> None:
        if fragment in statement and fault.strike():
            raise error() if error else engine.dialect.loaded_dbapi.OperationalError("injected")

    event.listen(engine, "do_execute", refuse)
    try:
        yield fault
    finally:
        event.remove(engine, "do_execute", refuse)


@contextmanager
def failing_commit(engine: Engine, *, done: bool, times: int = 1) -> Iterator[Fault]:
    """The next commits fail; *done* says whether the database has committed before the connection was lost."""
    fault = Fault(times)
    dialect: Any = engine.dialect
    real = dialect.do_commit

    def commit(connection: Any) -> None:
        if not fault.strike():
            real(connection)
            return
        if done:
            real(connection)
        raise dialect.loaded_dbapi.OperationalError("injected: connection lost in COMMIT")

    dialect.do_commit = commit
    try:
        yield fault
    finally:
        del dialect.do_commit
