"""How a process asks one limiter about one account: the same few methods over limiters of several projects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol

from mailfleet_workers.limits.rule import Rate


@dataclass(frozen=True, slots=True)
class Permit:
    """One mail may be sent; its end is told by *token*."""

    token: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now; ask again in so many seconds."""

    s: float


class Taker(Protocol):
    """One process's way to a limiter, for one account. Not thread-safe."""

    def take(self) -> Permit | Wait:
        """A permit for one mail, if there is one."""
        ...

    def finish(self, token: str) -> None:
        """The server has answered the mail of *token*."""
        ...

    def flush(self) -> None:
        """Nothing will be asked for a while: tell what is not told yet."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """One limiter to be measured: what it is called, whose it is, what it can be given, and how a process opens it."""

    name: str
    distribution: str
    #: Several rates in one step, or only one.
    several: bool
    open: Callable[[str, str, Sequence[Rate]], Taker]

    @property
    def title(self) -> str:
        """For a table: with the version where it is a published package."""
        return (
            f"{self.name} ({self.distribution} {version(self.distribution)})"
            if self.distribution
            else self.name
        )
