"""pika's own log lines about our connections, left out: whoever uses a connection here says what became of it.

pika logs one lost connection as half a dozen errors, some with tracebacks, on loggers that an application may use for
connections of its own. Those stay as they are; only what pika says while it works for us is dropped.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pika.adapters.blocking_connection
import pika.adapters.select_connection  # noqa: F401 - its loggers must exist


class _OurThreads(threading.local):
    depth = 0


_ours = _OurThreads()


class _LeaveOut(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Whether *record* is somebody else's, or for those who debug."""
        return _ours.depth == 0 or record.levelno <= logging.DEBUG


_leave_out = _LeaveOut()
# A filter counts for the logger that it is added to, not for those below.
for _name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "pika"]:
    logging.getLogger(_name).addFilter(_leave_out)


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what pika logs in this thread, within the block."""
    _ours.depth += 1
    try:
        yield
    finally:
        _ours.depth -= 1
