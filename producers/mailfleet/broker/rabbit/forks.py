"""What a forked child must begin anew, because its copies of threads, locks and sockets are the parent's.

The parent's objects stay referenced in the child and are never touched there: closing a connection in the child would say
goodbye on the parent's socket.
"""

import os
from typing import Any, Protocol
from weakref import WeakSet


class Renewable(Protocol):
    def renew(self) -> None:
        """Begin anew in a forked child: fresh locks, no thread, no connection. Runs while no other thread exists."""


_renewables: "WeakSet[Renewable]" = WeakSet()
_inherited: list[Any] = []


def renew_after_fork(one: Renewable) -> None:
    """Call `renew` of *one* in every child forked from now on, as long as it lives."""
    _renewables.add(one)


def keep_untouched(*inherited: Any) -> None:
    """Hold on to what belongs to the parent until this process ends."""
    _inherited.extend(inherited)


def _after_fork() -> None:
    for one in list(_renewables):
        one.renew()


os.register_at_fork(after_in_child=_after_fork)
