"""`closed_database`: a database that nobody may even ask; `catcher`: a server; `made`: a Notice that sends to it."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mailfleet_workers.catcher import Catcher, MemoryStore
from mailfleet_workers.notice import Notice
from mailfleet_workers.settings import Settings

Make = Callable[..., Notice]


class Listener:
    """Counts who connects, and answers nobody."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.asked = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.asked += 1
            connection.close()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def database() -> Iterator[Listener]:
    """What stands where the database should be: nobody has asked it anything when the test is over."""
    listener = Listener()
    yield listener
    listener.close()
    assert listener.asked == 0


@pytest.fixture
def catcher() -> Iterator[Catcher]:
    with Catcher(MemoryStore()) as server:
        yield server


def settings_of(port: int, database_port: int, **more: Any) -> Settings:
    """The settings of an app whose account `default` is a server on *port*; *account* are keys of that."""
    account = {"host": "127.0.0.1", "port": port, "tls": "plain", "from": "Alarm <alarm@example.com>"}
    values: dict[str, Any] = {
        "delivery": "live",
        "database_url": f"postgresql://mailfleet@127.0.0.1:{database_port}/mailfleet",
        "accounts": {"default": account | more.pop("account", {})},
    }
    return Settings.model_validate(values | more)


@pytest.fixture
def make(catcher: Catcher, database: Listener) -> Iterator[Make]:
    """Makes notices that send to the catcher; keywords are settings, and `of` has those of Notice itself."""
    made: list[Notice] = []

    def one(of: dict[str, Any] | None = None, **settings: Any) -> Notice:
        made.append(Notice(settings_of(catcher.port, database.port, **settings), "billing", **(of or {})))
        return made[-1]

    yield one
    for notice in made:
        notice.close(5)
