"""What `configure` changes belongs to the process: tests that call it put everything back."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mailfleet_workers.telemetry import addresses
from mailfleet_workers.telemetry.log import _NOT_OURS, OURS

_FLAGS = ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing")


@contextmanager
def loggers_as_they_were() -> Iterator[None]:
    """Handlers, levels, hooks and flags after the block are those from before it."""
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in ("", *OURS, *_NOT_OURS)}
    flags = {name: getattr(logging, name) for name in _FLAGS}
    handlers, hooks = root.handlers[:], (sys.excepthook, threading.excepthook, sys.unraisablehook)
    hidden = addresses._current.addresses
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for name, value in flags.items():
            setattr(logging, name, value)
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
        addresses.use(hidden)
        logging.captureWarnings(capture=False)
