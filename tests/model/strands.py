"""Threads whose every step is decided by somebody else: greenlets that stop at named points and offer what may happen.

Code of the product runs in a strand as it is. Where it meets the outside world (a transaction, a server), the model's
stand-in calls `pause`, and the strand stands still until `go` says what happens there. A strand is killed where it stands.
"""

from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped] # has neither types nor stubs that we pin
from sqlalchemy.exc import SQLAlchemyError


class Killed(BaseException):
    """The process of this strand ends here. Not an Exception: nothing that it would still do may catch it."""


class Strand:
    """*run*, up to its next `pause`, with every `go`. `point` and `offered` say where it stands and what may happen."""

    def __init__(self, name: str, run: Callable[[], object]) -> None:
        self.name = name
        self.point = "start"
        self.offered: tuple[str, ...] = ("go",)
        self.ended = False
        self._run = run
        self._greenlet: Any = greenlet(self._body)

    def _body(self, _choice: str) -> None:
        try:
            self._run()
        except (Killed, SQLAlchemyError):
            pass  # the loops of reconciler and undertaker log the latter, and try again
        finally:
            self.ended = True

    def go(self, choice: int = 0) -> None:
        """Go on with what is offered at *choice* (0 is what mostly happens), to the next point or the end.

        Raises what `run` raises, but for the database's errors: who runs it in the product outlives those.
        """
        assert not self.ended, f"{self.name} has ended"
        self._switch(self.offered[choice % len(self.offered)])

    def finish(self, most: int = 1000) -> None:
        """Go on with what mostly happens until the end."""
        for _ in range(most):
            if self.ended:
                return
            self.go()
        raise AssertionError(f"{self.name} does not end; it stands at {self.point}")

    def kill(self) -> None:
        """End it where it stands; its owner must refuse whatever its `finally` clauses still try."""
        if not self.ended and self.point != "start":
            self._greenlet.throw(Killed)
        self.ended = True

    def _switch(self, choice: str) -> None:
        stopped = self._greenlet.switch(choice)
        if not self.ended:
            self.point, self.offered = stopped


def pause(point: str, *offered: str) -> str:
    """Stand still at *point*; returns which of *offered* happens. Outside of a strand that is the first, at once."""
    current = getcurrent()
    if current.parent is None:
        return offered[0]
    choice: str = current.parent.switch((point, offered))
    return choice
