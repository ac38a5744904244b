"""The catcher as one thing to start and stop: mail server, store, index and web pages."""

import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from mailfleet_workers.catcher import Catcher, DirectoryStore
from mailfleet_workers.catcher_web.index import Index
from mailfleet_workers.catcher_web.listen import Listen
from mailfleet_workers.catcher_web.routes import Routes
from mailfleet_workers.catcher_web.server import WebServer

_GREETING_S = 2.0


class AddressTaken(Exception):  # noqa: N818 - reads as the fact it states
    """*listen* cannot be listened on, for the reason that *error* tells."""

    def __init__(self, listen: Listen, error: OSError) -> None:
        # The event loop adds the address to the system's words; a resolver has numbers of its own.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
        super().__init__(f"{listen}: {reason}")


class DirectoryTaken(Exception):  # noqa: N818 - same
    """Another catcher writes to *directory*."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"{directory}: another catcher uses this directory")


class CatchService:
    """Takes every mail at *smtp* into *directory* and shows it at *http*.

    Args:
        smtp: where to take mail; port 0 takes a free one.
        http: where to show it.
        directory: made if it is not there; what it holds from before is shown too.
        keep: the most mails that stay, the oldest go first, also those from before; None keeps all.
        names: host names under which browsers may ask, beside IP addresses and names without a public meaning.
    """

    def __init__(
        self,
        *,
        smtp: Listen,
        http: Listen,
        directory: Path,
        keep: int | None = None,
        names: frozenset[str] = frozenset(),
    ) -> None:
        self._wanted = (smtp, http)
        self._directory = directory
        self._keep = keep
        self._names = names

    @property
    def smtp(self) -> Listen:
        """Where mail is taken, once it runs."""
        return Listen(self._wanted[0].host, self._catcher.port)

    @property
    def http(self) -> Listen:
        """Where the pages are, once it runs."""
        return self._web.listens

    @property
    def store(self) -> DirectoryStore:
        return self._store

    def start(self) -> None:
        """Returns when both ports answer. Raises AddressTaken, DirectoryTaken and what the directory raises."""
        self._lock = _lock(self._directory)
        try:
            self._store = DirectoryStore(self._directory, keep=self._keep)
            self._start()
        except BaseException:
            os.close(self._lock)
            raise

    def _start(self) -> None:
        smtp, http = self._wanted
        self._catcher = Catcher(self._store, host=smtp.host, port=smtp.port)
        try:
            self._catcher.start()
        except OSError as error:
            raise AddressTaken(smtp, error) from error
        try:
            self._start_pages(http)
        except BaseException:
            self._catcher.stop()
            raise

    def _start_pages(self, http: Listen) -> None:
        self._index = Index(self._store)
        routes = Routes(
            self._store,
            self._index,
            smtp=str(self.smtp),
            limit=self._keep,
            alive=self._greets,
            names=self._names | {http.host.lower()},
        )
        try:
            self._web = WebServer(http, routes.answer)
        except OSError as error:
            self._index.stop()
            raise AddressTaken(http, error) from error
        self._index.start()
        self._web.start()

    def stop(self) -> None:
        """Close both ports and every connection; what was caught stays in the directory."""
        self._web.stop()
        self._catcher.stop()
        self._index.stop()
        os.close(self._lock)

    def _greets(self) -> bool:
        """Whether a client that connects now is greeted."""
        try:
            with socket.create_connection((self.smtp.host, self.smtp.port), timeout=_GREETING_S) as client:
                return client.recv(3) == b"220"
        except OSError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _lock(directory: Path) -> int:
    """A descriptor of *directory* that holds its lock until it is closed. Raises DirectoryTaken."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DirectoryTaken(directory) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
