"""Goodbyes at the end of a process: connections are closed after the publishers' last hints.

Python runs what was registered for the end in reverse order, so this is imported before `mailfleet.publishers`.
"""

import atexit
from typing import Protocol
from weakref import WeakSet


class Leaving(Protocol):
    def leave(self) -> None:
        """Close what is open; must not raise, and take no more than half a second."""


_leaving: "WeakSet[Leaving]" = WeakSet()


def leave_at_exit(one: Leaving) -> None:
    """Call `leave` of *one* when this process ends, if it still lives."""
    _leaving.add(one)


@atexit.register
def _leave() -> None:
    for one in list(_leaving):
        one.leave()
