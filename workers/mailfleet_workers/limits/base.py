"""What a limiter answers: permits to send, slots to connect, gates that are closed.

A permit counts from its grant until one window after the server's reply, so that no window is exceeded at the server
however slow it is; therefore every finished permit is reported, with the next question or by itself. Nothing is
reserved by a refusal: it names the rule that refused and how long to wait before asking again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mailfleet_schema.statements.gate import Gate
from mailfleet_schema.states import Priority


@dataclass(frozen=True, slots=True)
class Request:
    """A wish for up to `permits` permits for one account; `token` names the grant in later reports.

    The same token asked twice gets the same answer: a lost reply cannot take twice.
    """

    token: str
    app: str
    account: str
    host: str
    priority: Priority
    permits: int


@dataclass(frozen=True, slots=True)
class Grant:
    """`permits` (1 to what was wished) may be sent now."""

    token: str
    permits: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Not now: `rule` refused; asking again makes sense after `wait_s` seconds."""

    rule: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """Of grant `token`, `remaining` permits are still in flight: an absolute number, so repeating it is harmless."""

    token: str
    remaining: int


@dataclass(frozen=True, slots=True)
class Slot:
    """The right to one open connection; a lease that `renew` keeps and `close_slot` gives back."""

    token: str
    account: str
    host: str


class Limiter(Protocol):
    """Thread-safe. Raises nothing: a limiter that cannot answer refuses."""

    def ask(self, request: Request, reports: Sequence[Report] = ()) -> Grant | Refusal:
        """Permits for *request*, after taking *reports* into account."""
        ...

    def report(self, reports: Sequence[Report]) -> None:
        """Say which permits are finished, with nothing to ask."""
        ...

    def open_slot(self, token: str, account: str, host: str) -> Slot | Refusal:
        """The right to open one connection."""
        ...

    def close_slot(self, slot: Slot) -> None:
        """The connection is closed. Harmless when repeated."""
        ...

    def renew(self) -> None:
        """Keep the leases of all slots and grants of this process."""
        ...

    def gate(self, *, account: str, host: str, domains: Sequence[str] = ()) -> Gate | None:
        """The gate that is closed longest for this account, its host or one of the recipient *domains*; None if open."""
        ...

    def close_gate(self, gate: Gate) -> None:
        """Know of a gate at once that this process has just closed in the database."""
        ...

    def refresh_gates(self, gates: Sequence[Gate]) -> None:
        """Replace what is known by what the database says."""
        ...
