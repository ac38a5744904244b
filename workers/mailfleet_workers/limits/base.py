"""What a limiter answers: permits to send, slots to connect, gates that are closed.

A permit counts from its grant until one window after the server's reply, so that no window is exceeded at the server
however slow it is; therefore every finished permit is reported, with the next question or by itself. Nothing is
reserved by a refusal: it names the rule that refused and how long to wait before asking again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Protocol

from mailfleet_schema.statements.gate import Gate
from mailfleet_schema.states import Priority
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.rule import Rule


@dataclass(frozen=True, slots=True)
class Request:
    """A wish for permits for mails of one account, in their order; `token` names the grant in later reports.

    `recipients` holds the number of recipients of each mail; as many permits are wished as it has entries. With
    `slot` a connection is to be opened for them: the slot of that token is granted with the permits, or nothing is;
    without recipients only the slot is asked for. The same token asked twice gets the same answer: a lost reply cannot
    take twice. `comes` says that this process has used no connection of the account for a while: in a fleet its app may
    be one that waits for nobody's turn.
    """

    token: str
    app: str
    account: str
    host: str
    priority: Priority
    recipients: tuple[int, ...]
    slot: str | None = None
    comes: bool = False

    @property
    def permits(self) -> int:
        """How many permits are wished at most."""
        return len(self.recipients)


@dataclass(frozen=True, slots=True)
class Slot:
    """The right to one open connection; a lease that `renew` keeps and `close_slot` gives back."""

    token: str
    account: str
    host: str


class Want(IntEnum):
    """What others who wait for a connection of an account want of those that an app has; each wants what is before it too."""

    #: Nobody waits.
    NOTHING = 0
    #: Those that it does not use.
    IDLE = 1
    #: Each after its turn: somebody goes before this app.
    TURN = 2
    #: One now.
    NOW = 3


@dataclass(frozen=True, slots=True)
class Grant:
    """`permits` (1 to what was wished; 0 where only a slot was) may be sent now, over `slot` if one was asked for.

    `tight` says that others wait, or that little is left: then what is finished should be reported at once.
    `want` says what others who wait want of this app's connections.
    """

    token: str
    permits: int
    slot: Slot | None = None
    tight: bool = False
    want: Want = Want.NOTHING


@dataclass(frozen=True, slots=True)
class Refusal:
    """Not now: `rule` refused; asking again makes sense after `wait_s` seconds.

    `wait_s` is infinite for a mail that the limits can never let pass: it has more recipients than a rule allows in its
    whole window. `slot` says that permits are not the trouble, a connection is. `want` as in `Grant`.
    """

    rule: str
    wait_s: float
    slot: bool = False
    want: Want = Want.NOTHING


@dataclass(frozen=True, slots=True)
class Report:
    """How far grant `token` has come: absolute numbers, so that repeating a report is harmless.

    Of its permits `remaining` are still in flight and `unused` were not used: certainly nothing of their mails was said
    to a server. The others are sent. `remaining_recipients` and `unused_recipients` say the same of recipients.
    """

    token: str
    remaining: int
    remaining_recipients: int = 0
    unused: int = 0
    unused_recipients: int = 0


class Login(StrEnum):
    """How the opening of a connection ended."""

    DONE = "done"
    #: The server refused the credentials: after three of these nobody tries for a quarter of an hour.
    REFUSED = "refused"
    #: No connection, no greeting, no answer, or a refusal for now: nothing is known of the credentials.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Renewal:
    """What `renew` found: slots of ours that lapsed and are others' now, and accounts whose idle connections others want."""

    lost: tuple[Slot, ...] = ()
    wanted: tuple[str, ...] = ()


class Limiter(Protocol):
    """Thread-safe. Raises nothing: a limiter that cannot answer refuses."""

    def ask(self, request: Request, reports: Sequence[Report] = ()) -> Grant | Refusal:
        """Permits for *request*, after taking *reports* into account."""
        ...

    def report(self, reports: Sequence[Report]) -> None:
        """Say which permits are finished, with nothing to ask."""
        ...

    def holds(self, token: str) -> bool:
        """Whether the lease of grant or slot *token* is ours for certain: asked before anything final is said."""
        ...

    def park(
        self, *, app: str, account: str, priority: Priority, mails: int, after_s: float
    ) -> Sequence[float]:
        """When *mails* mails that are given back should come again: one wait in seconds for each, ascending.

        None is shorter than *after_s*. They follow what was parked before; nothing is reserved for them.
        """
        ...

    def login(self, slot: Slot) -> Refusal | None:
        """The right to log in once more with *slot*, whose connection was closed; None is the right to do so."""
        ...

    def logged_in(self, slot: Slot, login: Login) -> None:
        """The opening of the connection of *slot* has ended."""
        ...

    def close_slot(self, slot: Slot, *, linger_s: float = 0.0) -> None:
        """The connection is closed; the slot is free after *linger_s*. Harmless when repeated."""
        ...

    def renew(self) -> Renewal:
        """Keep the leases of all slots and grants of this process."""
        ...

    def gate(self, *, account: str, host: str, app: str = "", domains: Sequence[str] = ()) -> Gate | None:
        """The gate that is closed longest for this app, account, host or one of the recipient *domains*; None if open."""
        ...

    def close_gate(self, gate: Gate) -> None:
        """Know of a gate at once that this process has just closed in the database."""
        ...

    def refresh_gates(self, gates: Sequence[Gate]) -> None:
        """Replace what is known by what the database says."""
        ...


@dataclass(frozen=True, slots=True)
class Lacking:
    """A host of which the limiter has forgotten, or never knew, what was sent lately: nothing is granted for it.

    It has known nothing for `age_s` seconds; `rules` have the name by which `seed` wants to hear of each, and one of the
    accounts that it concerns. `epoch` names this memory: another one has to be told anew.
    """

    host: str
    age_s: float
    rules: tuple[tuple[str, Rule, Limits], ...]
    epoch: str


class CountingLimiter(Limiter, Protocol):
    """A limiter with limits. What it has lost it must be told before it grants anything. These raise LimiterUnavailable."""

    book: Book

    def unready(self) -> Iterator[Lacking]:
        """Every host that grants nothing before it is told what was sent."""
        ...

    def seed(self, host: str, sent: Sequence[tuple[str, Sequence[tuple[float, int]]]], *, epoch: str) -> None:
        """Tell *host*'s rules, by name, what was sent: pairs of age in seconds and amount, oldest first.

        *epoch* is that of the `Lacking`: what has been forgotten since is not told by it, and nothing happens.
        """
        ...


class LimiterUnavailable(Exception):  # noqa: N818 - reads as the fact it states
    """The limiter did not answer, or refused to: its text says which."""
