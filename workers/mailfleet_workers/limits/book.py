"""Which limits apply to an account: its own and its host's, as all workers of a fleet should know them."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from mailfleet_workers.limits.rule import Rule


@dataclass(frozen=True, slots=True)
class Limits:
    """All that limits one account. Rules of its host are shared with every account on that host.

    `connections` and `host_connections` None mean any number. `login_gap_ms` passes between the end of one login and
    the beginning of the next, 0 for none. A wait of at most `max_idle_ms` is slept out, a longer one is requeued.
    `reserve` (0 to below 1) is the last share of each limit that priority `bulk` cannot use. `weights` has the apps that
    may use the account, each with its weight when they compete; with fewer than two there is nobody to share with.
    """

    account: str
    host: str
    rules: tuple[Rule, ...] = ()
    connections: int | None = None
    host_connections: int | None = None
    login_gap_ms: int = 0
    host_login_gap_ms: int = 0
    max_idle_ms: int = 3000
    reserve: float = 0.1
    weights: Mapping[str, int] = field(default_factory=dict)
    #: Whether connections log in: then wrong passwords are counted for the whole fleet.
    login: bool = False

    @property
    def slots(self) -> bool:
        """Whether a connection needs a slot: its number is limited, or logins are paced or counted."""
        return bool(
            self.connections
            or self.host_connections
            or self.login_gap_ms
            or self.host_login_gap_ms
            or self.login
        )

    @property
    def any(self) -> bool:
        """Whether anything is limited at all."""
        return bool(self.rules) or self.slots


class Book:
    """The limits of every account, replaceable while they are used: what is asked next is judged by the new ones."""

    def __init__(self, limits: Mapping[str, Limits]) -> None:
        self._lock = threading.Lock()
        self._limits = dict(limits)

    def of(self, account: str) -> Limits | None:
        """The limits of *account*; None for an account that nobody configured."""
        with self._lock:
            return self._limits.get(account)

    def all(self) -> Mapping[str, Limits]:
        """Every account's limits, by its name."""
        with self._lock:
            return dict(self._limits)

    def replace(self, limits: Mapping[str, Limits]) -> None:
        """From now on *limits* apply; what is granted stays granted and counts."""
        with self._lock:
            self._limits = dict(limits)
