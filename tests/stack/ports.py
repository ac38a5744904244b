"""Which ports of loopback a stack listens on: what a variable says, else the last time's, else the usual one, else any."""

import socket
from collections.abc import Iterable, Iterator, Mapping

from tests.services.base import StartError
from tests.services.ports import free_port
from tests.services.private import HOST
from tests.stack.compose import Service

#: Ports that a container has to itself, and that need a place here.
UNPUBLISHED = {("rabbitmq", 4369), ("rabbitmq", 25672), ("redis", 6379)}

Key = tuple[str, int]


class Ports:
    """The port here for each service and port there.

    Args:
        stored: what was chosen before, by `service:port`; kept up to date.
        environ: may hold the variables that docker-compose.yml names; 0 means any free port.
    """

    def __init__(self, stored: dict[str, int], environ: Mapping[str, str]) -> None:
        self._stored = stored
        self._environ = environ

    def __getitem__(self, key: Key) -> int:
        return self._stored[f"{key[0]}:{key[1]}"]

    @property
    def all(self) -> dict[Key, int]:
        """Everything that was chosen."""
        return dict(self._pairs())

    def _pairs(self) -> Iterator[tuple[Key, int]]:
        for name, port in self._stored.items():
            service, _, inside = name.rpartition(":")
            yield (service, int(inside)), port

    def choose(self, services: Iterable[Service]) -> None:
        """Choose a port for everything that listens. Raises StartError for a variable's port that is not free."""
        wanted: list[tuple[Key, str | None, int | None]] = [(key, None, None) for key in sorted(UNPUBLISHED)]
        for service in services:
            wanted += [((service.name, port.inside), port.variable, port.usual) for port in service.ports]
        # What a variable names is not given to anybody else before.
        wanted.sort(key=lambda one: self._said(one[1]) in ("", "0"))
        taken: set[int] = set()
        for key, variable, usual in wanted:
            port = self._choose(key, variable, usual, taken)
            taken.add(port)
            self._stored[f"{key[0]}:{key[1]}"] = port

    def _said(self, variable: str | None) -> str:
        return self._environ.get(variable, "") if variable else ""

    def _choose(self, key: Key, variable: str | None, usual: int | None, taken: set[int]) -> int:
        said = self._said(variable)
        if said and not (said.isascii() and said.isdigit() and int(said) < 65536):
            raise StartError(f"{variable}: expected a port, not {said!r}")
        if said and int(said):
            if int(said) in taken or not free(int(said)):
                raise StartError(f"{variable}: port {said} is in use; name another one, or 0 for any")
            return int(said)
        for port in (self._stored.get(f"{key[0]}:{key[1]}"), None if said else usual):
            if port is not None and port not in taken and free(port):
                return port
        while (other := free_port(HOST)) in taken:
            pass
        return other


def free(port: int) -> bool:
    """Whether nothing listens on the port of loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
