"""The pipes between a parent and its children, where files are many or few."""

import errno
import fcntl
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from mailfleet_workers.fleet.child import Child
from mailfleet_workers.fleet.process import ChildProcess
from mailfleet_workers.fleet.worker import Worker
from mailfleet_workers.telemetry.meter import SILENT

#: Beyond what select() takes.
MANY = 1_100


class Idle:
    """A worker that has nothing to do."""

    worker_id = 7
    lost = False
    notes: tuple[str, ...] = ()

    def missing(self) -> tuple[str, ...]:
        return ()

    def tell_meter(self) -> None:
        """Nothing to tell."""


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process may have as many files as a parent of hundreds of children."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * MANY), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_child_of_a_parent_with_many_files() -> None:
    """Its end of the parent's pipe has the parent's number, however high: it sees that the parent is gone."""
    files = [*os.pipe(), *os.pipe(), *os.pipe()]
    parent, life, reports, report_to, wake, waker = files
    high = fcntl.fcntl(parent, fcntl.F_DUPFD_CLOEXEC, MANY)
    child = Child(cast("Worker", Idle()), SILENT, parent=high, report_to=report_to, wake=wake)
    os.close(life)
    assert high >= MANY
    assert not child.run_once()
    for file in (high, parent, reports, report_to, wake, waker):
        os.close(file)


def test_a_child_that_gets_no_second_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files have run out it is not started, and costs none: it is tried again every second."""
    opened: list[int] = []
    real = os.pipe

    def one_only() -> tuple[int, int]:
        if opened:
            raise OSError(errno.EMFILE, "too many open files")
        opened.extend(real())
        return opened[0], opened[1]

    monkeypatch.setattr(os, "pipe", one_only)
    with pytest.raises(OSError, match="too many"):
        ChildProcess("billing", also=(), host="mx1", config=None, environ={})
    assert [file for file in opened if Path(f"/proc/self/fd/{file}").exists()] == []
