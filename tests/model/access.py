"""One process's way to the database: each transaction may work, fail, be lost at COMMIT, or be done without a word of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from tests.model.strands import pause

WORKS, FAILS, LOST, DONE_UNSAID = "works", "fails", "lost at COMMIT", "done, and not said"


class Access(Engine):
    """An engine as the product uses one (`begin`, `connect`). *alive* raises once the process is dead; *observe* is called after
    every commit.

    A transaction runs whole: the strand stands still before it and after its commit, never within.
    """

    def __init__(self, engine: Engine, *, alive: Callable[[], None], observe: Callable[[], None]) -> None:
        # Not Engine's: it is one for the type checker, and has nothing of its own.
        self._engine = engine
        self._check_alive = alive
        self._observe = observe

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        self._check_alive()
        fate = pause("transaction", WORKS, FAILS, LOST, DONE_UNSAID)
        self._check_alive()
        if fate == FAILS:
            raise _unavailable("no answer")
        with self._engine.connect() as connection, connection.begin() as transaction:
            yield connection
            if fate == LOST:
                transaction.rollback()
        if fate != LOST:
            self._observe()
        if fate != WORKS:
            raise _unavailable("connection lost in COMMIT")
        pause("committed", "go")
        self._check_alive()

    def connect(self) -> Connection:
        self._check_alive()
        if pause("read", WORKS, FAILS) == FAILS:
            raise _unavailable("no answer")
        self._check_alive()
        return self._engine.connect()


def _unavailable(why: str) -> OperationalError:
    return OperationalError("injected", None, Exception(why))
