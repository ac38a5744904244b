"""The files in which the processes of one pool keep their metrics, and their sum.

The parent makes a directory of its own under `data_dir/metrics` and says to its children where it is, by a variable that
the metrics library reads when it is imported; the parent itself must not have that variable. What a dead child has
counted stays counted: its files are added to one that belongs to nobody, so that a pool whose children die again and
again does not gather files. What parents left that were killed is removed by the next one.
"""

import contextlib
import fcntl
import os
import shutil
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailfleet_workers.telemetry.prometheus import VARIABLE
from mailfleet_workers.telemetry.room import take_room

if TYPE_CHECKING:
    from prometheus_client import Metric

#: Whose files hold what dead children have counted; no process has this number.
_NOBODY = 0
_LOCK = "lock"
#: What the library raises for a file that is not whole.
_BROKEN = (OSError, RuntimeError, ValueError, struct.error)
#: What is added up over all processes that ever were. Everything else ends with its process.
_KEPT = ("counter", "histogram")


class FleetFiles:
    """The files of the children of this process, under *directory*. Thread-safe.

    Raises OSError when it cannot be written. Use `close` at the end.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        with _held(directory / _LOCK):
            _remove_left(directory)
            self.path = _make(directory)
            try:
                take_room(self.path, _NOBODY)
            except OSError:
                shutil.rmtree(self.path, ignore_errors=True)
                raise
            # Ends with this process, however that ends: who can take it knows that we are dead. Not the process's
            # number: containers that share a directory all have the same one.
            self._alive = _take(self.path)

    def environ(self) -> dict[str, str]:
        """What the environment of every child needs."""
        return {VARIABLE: str(self.path)}

    def child_ended(self, pid: int) -> None:
        """Keep what the dead child *pid* has counted, and forget its gauges. Harmless when repeated."""
        with self._lock:
            for kind in _KEPT:
                self._fold(self.path / f"{kind}_{pid}.db", self.path / f"{kind}_{_NOBODY}.db")
            for path in self.path.glob(f"gauge_*_{pid}.db"):
                path.unlink(missing_ok=True)

    def _fold(self, source: Path, target: Path) -> None:
        from prometheus_client import mmap_dict

        if not source.exists():
            return
        files: Any = mmap_dict.MmapedDict
        total = files(str(target))
        try:
            # A child that was killed while it made the file may have left less than one.
            with contextlib.suppress(*_BROKEN):
                for key, value, timestamp, _ in files.read_all_values_from_file(str(source)):
                    total.write_value(key, total.read_value(key)[0] + value, timestamp)
        finally:
            total.close()
        source.unlink()

    def collect(self) -> "list[Metric]":
        """The sum over all children, dead ones included where something was counted."""
        from prometheus_client import multiprocess

        collector: Any = multiprocess.MultiProcessCollector
        with self._lock:
            files = [str(path) for path in self.path.glob("*.db") if _is_whole(path)]
            return list(collector.merge(files))

    def close(self) -> None:
        """Remove the files. Harmless when repeated."""
        with self._lock:
            if self._alive is not None:
                shutil.rmtree(self.path, ignore_errors=True)
                os.close(self._alive)
                self._alive = None


def _is_whole(path: Path) -> bool:
    """Whether a file can be read: one that is just being made, or broke off, must not hide all others."""
    from prometheus_client import mmap_dict

    files: Any = mmap_dict.MmapedDict
    try:
        for _ in files.read_all_values_from_file(str(path)):
            pass
    except _BROKEN:
        return False
    return True


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Whoever cleans or makes a directory does it alone."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _make(directory: Path) -> Path:
    """A new directory, named after this process."""
    number = 0
    while True:
        path = directory / (f"{os.getpid()}-{number}" if number else str(os.getpid()))
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            return path
        number += 1


def _take(path: Path) -> int | None:
    """The lock of directory *path*; None when its owner lives."""
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _remove_left(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and (lock := _take(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
