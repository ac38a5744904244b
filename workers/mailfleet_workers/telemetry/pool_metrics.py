"""All metrics of `mailfleet worker`: what its children counted, what the database says, and what it did itself."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mailfleet_workers.telemetry.fleet_files import FleetFiles
from mailfleet_workers.telemetry.fleet_gauges import FleetGauges
from mailfleet_workers.telemetry.prometheus import PREFIX, VARIABLE, source_of

if TYPE_CHECKING:
    from prometheus_client import Metric


class PoolMetrics:
    """For the parent of worker processes; the files are under *directory*. Thread-safe.

    *apps* are those that have children here; *gauges* None leaves out what the database says. Raises OSError when the directory cannot be written.
    """

    def __init__(
        self, directory: Path, gauges: FleetGauges | None = None, *, apps: Iterable[str] = ()
    ) -> None:
        # Ours are no files: with this variable the library would want a directory for them too.
        os.environ.pop(VARIABLE, None)
        from prometheus_client import CollectorRegistry, Counter

        self._files = FleetFiles(directory)
        registry = CollectorRegistry()
        registry.register(_Undescribed(self._files))
        if gauges is not None:
            registry.register(gauges)
        self._lost = Counter(
            "processes_lost",
            "Worker processes of this pool that ended unasked.",
            ("app",),
            namespace=PREFIX,
            registry=registry,
        )
        for app in apps:
            self._lost.labels(app)  # shown with 0 from the start: its first growth is seen
        self._source = source_of(registry)

    def environ(self) -> dict[str, str]:
        """What the environment of every child needs beside that of this process."""
        return self._files.environ()

    def child_ended(self, pid: int) -> None:
        """The child *pid* has ended and was waited for: what it counted stays counted. Harmless when repeated."""
        self._files.child_ended(pid)

    def child_lost(self, app: str) -> None:
        """A child of *app* ended that nobody had told to."""
        self._lost.labels(app).inc()

    def exposition(self) -> tuple[bytes, str]:
        """What a scrape gets, and its content type."""
        return self._source()

    def close(self) -> None:
        """Remove the files. Harmless when repeated."""
        self._files.close()


class _Undescribed:
    """Registers without being read."""

    def __init__(self, files: FleetFiles) -> None:
        self._files = files

    def describe(self) -> "list[Metric]":
        return []

    def collect(self) -> "list[Metric]":
        return self._files.collect()
