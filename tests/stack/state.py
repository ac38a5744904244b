"""What is known of a stack between two commands: what runs, where it listens, and what its passwords are.

It is one file in the stack's directory, readable for its owner only, and written anew as a whole. While a command
works on the stack, it holds a lock: two of them do not mix.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from tests.stack.process import Running

Mode = Literal["native", "compose"]


class BusyError(Exception):
    """Another command works on this stack now."""


@dataclass
class State:
    """One stack.

    Attributes:
        directory: where everything of it is.
        mode: how it was started; None while it is down.
        groups: what was started natively: each group needs those before it.
        ports: the port on loopback for each `service:port`; kept while it is down.
        password: of every server; kept, because the servers' data are.
    """

    directory: Path
    mode: Mode | None = None
    groups: list[list[Running]] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """What is stored in *directory*, or a new one."""
        path = directory / "state.json"
        if not path.exists():
            return cls(directory)
        stored: dict[str, Any] = json.loads(path.read_text())
        stored["groups"] = [[Running(**one) for one in group] for group in stored["groups"]]
        return cls(directory, **stored)

    def write(self) -> None:
        """Store it."""
        stored = asdict(self)
        del stored["directory"]
        new = self.directory / "state.json.new"
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(stored, file, indent=2)
        new.replace(self.directory / "state.json")

    @property
    def processes(self) -> list[Running]:
        """Everything that was started natively."""
        return [one for group in self.groups for one in group]


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Be the only command that works on the stack in *directory*. Raises BusyError."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BusyError(f"another command works on {directory} now") from None
        yield
