"""The notices of this process, for forks and for the end: as `mailfleet.publishers` has the publishers."""

import atexit

# Resolving a name imports the one, decoding a message the other: a fork in the middle of that leaves the child its lock.
import encodings.idna
import encodings.raw_unicode_escape  # noqa: F401
import logging
import os
import sys
from typing import Protocol
from weakref import WeakSet

from mailfleet_workers.notice.outbox import Outbox, wait_all

log = logging.getLogger(__name__)


class HasOutbox(Protocol):
    """A notice, which may wait `exit_s` seconds at the end."""

    exit_s: float

    @property
    def outbox(self) -> Outbox: ...

    def forked(self) -> None: ...

    def __hash__(self) -> int: ...


_notices: WeakSet[HasOutbox] = WeakSet()
_state = {"finalizing": False}


def register(notice: HasOutbox) -> None:
    """From now on *notice* is told of forks, and its outbox is flushed at the end."""
    _notices.add(notice)


def finalize_in_child() -> None:
    """A multiprocessing child ends without atexit, by `os._exit`: it has a registry of its own."""
    process = sys.modules.get("multiprocessing.process")
    if _state["finalizing"] or process is None or process.parent_process() is None:
        return
    from multiprocessing.util import Finalize

    _state["finalizing"] = True
    Finalize(None, _end, exitpriority=100)


def _end() -> None:
    """What was emitted has `exit_s` seconds; then it is said what becomes of the rest."""
    notices = list(_notices)
    outboxes = [one.outbox for one in notices]
    if wait_all(outboxes, max((one.exit_s for one in notices), default=0.0)):
        return
    unfinished = sum(one.abandon() for one in outboxes)
    if unfinished:
        log.warning("notices_unfinished", extra={"mails": unfinished})


def _forked() -> None:
    _state["finalizing"] = False
    for one in list(_notices):
        one.forked()


os.register_at_fork(after_in_child=_forked)
atexit.register(_end)
