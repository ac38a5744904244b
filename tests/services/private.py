"""What all private servers of the tests have in common: a guarded directory, a log, and a start that gets a port.

What a server is, how it is launched and how it ends stands in its own module.
"""

import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.services.base import StartError
from tests.services.guard import GuardedDirectory
from tests.services.locate import Binaries
from tests.services.ports import free_port

HOST = "127.0.0.1"
#: How many ports are tried: somebody may take one between its choice and the server's start.
TRIES = 3


class PrivateServer(ABC):
    """A server of our own. Use it as a context manager, or call `start` and `stop`.

    Args:
        binaries: which installation.
    """

    host = HOST
    #: The log's name in the directory.
    LOG: ClassVar = "server.log"
    #: What the message of a `StartError` holds when the port was somebody else's.
    TAKEN: ClassVar = "Address already in use"

    def __init__(self, binaries: Binaries) -> None:
        self.version = binaries.version
        self.port = 0
        self._bin = binaries.directory
        self._process: subprocess.Popen[bytes] | None = None
        self._home: GuardedDirectory | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def start(self) -> Self:
        """Return once the server answers."""

    @abstractmethod
    def stop(self) -> None:
        """End the server and delete its directory. A second call does nothing."""

    @property
    def directory(self) -> Path:
        """Everything of this server; deleted by `stop`."""
        if self._home is None:
            raise RuntimeError("the server was not started")
        return self._home.path

    @property
    def log(self) -> Path:
        """What the server printed, over all its restarts unless its class says less."""
        return self.directory / self.LOG

    def _launch_on_free_port(self) -> None:
        """Launch it, on another port if somebody took the first one in between.

        Raises:
            StartError: it does not start; anything but a taken port would not get better.
        """
        for attempt in range(1, TRIES + 1):
            self._choose_port()
            try:
                self._launch()
            except StartError as error:
                if attempt == TRIES or self.TAKEN not in str(error):
                    raise
            else:
                return

    def _choose_port(self) -> None:
        self.port = free_port(HOST)

    @abstractmethod
    def _launch(self) -> None:
        """Start the process on `port` and return once it answers; StartError where it ends instead."""
