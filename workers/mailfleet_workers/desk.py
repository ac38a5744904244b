"""What the sender threads of one app share, and how mail of an account leaves."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mailfleet_schema.states import ContentPolicy
from mailfleet_workers.account import Account
from mailfleet_workers.accounts.found import Broken
from mailfleet_workers.caps import Caps
from mailfleet_workers.classify import Rules
from mailfleet_workers.contained import Containment
from mailfleet_workers.files import Fetch
from mailfleet_workers.heap import RowHeap
from mailfleet_workers.hooks import Hooks
from mailfleet_workers.journal import Journal
from mailfleet_workers.ledger import Ledger
from mailfleet_workers.limits.base import Limiter
from mailfleet_workers.limits.book import Book
from mailfleet_workers.limits.refusals import Refusals
from mailfleet_workers.outcome import Policy
from mailfleet_workers.outgoing import AS_IT_IS, Outgoing
from mailfleet_workers.pulse import Pulse
from mailfleet_workers.rendering import Renderers
from mailfleet_workers.smtp.connection import server_name
from mailfleet_workers.smtp.pool import ConnectionPool
from mailfleet_workers.stores import ReadStored, no_stores
from mailfleet_workers.taking import Unknown
from mailfleet_workers.telemetry.meter import SILENT, Meter


@dataclass(frozen=True, slots=True)
class Way:
    """How mail of one account leaves; with `dry_run` nothing really does.

    A wait of at most `max_idle_ms` is slept out by one thread, a longer one is given back. `outgoing` is what is made of a mail
    before it leaves.
    """

    account: Account
    dry_run: bool
    max_idle_ms: int = 3000
    outgoing: Outgoing = AS_IT_IS

    @property
    def host(self) -> str:
        """The name under which limits, gates and metrics know the server."""
        return server_name(self.account)


@dataclass(frozen=True)
class Desk:
    """The shared parts of an app's pool. `way` is given an app and an account, and says how its mail leaves now; None means that the app has no such account,
    Broken that it cannot be used.

    `stop` asks for a drain: what is begun is finished, nothing new begins. `fixed_chunk` None adapts a chunk to
    `chunk_s` seconds of SMTP. `run_mode` is what mails vote on. `crowding` says that the apps use several accounts: a slow
    one must not fill the heap then. `unknown` are accounts of other apps that we do not know. `fetch` and `stores` find a
    mail's files. `caps` knows how much servers take at once. `book` has the limits of the accounts, None where nothing is limited. `content_policy` says of an app what
    becomes of the content of mails that do not say it themselves.
    """

    app: str
    worker_id: int
    heap: RowHeap
    ledger: Ledger
    journal: Journal
    pulse: Pulse
    limiter: Limiter
    connections: ConnectionPool
    rules: Rules
    policy: Policy
    fetch: Fetch
    way: Callable[[str, str], Way | Broken | None]
    stop: threading.Event
    rng: random.Random
    fixed_chunk: int | None = None
    chunk_s: float = 0.05
    run_mode: str = "local"
    meter: Meter = SILENT
    crowding: bool = False
    book: Book | None = None
    stores: ReadStored = no_stores
    caps: Caps = field(default_factory=Caps)
    refusals: Refusals = field(default_factory=lambda: Refusals(time.monotonic))
    hooks: Hooks = field(default_factory=lambda: Hooks(Containment("mailfleet-hook")))
    renderers: Renderers = field(default_factory=Renderers)
    unknown: Unknown = field(default_factory=lambda: Unknown(time.monotonic))
    content_policy: Callable[[str], ContentPolicy] = lambda _app: ContentPolicy.KEEP

    def moved(self, way: Way) -> bool:
        """Whether the account of *way* has left its server meanwhile: what is sent there now would be counted elsewhere."""
        limits = None if self.book is None else self.book.of(way.account.name)
        return limits is not None and limits.host != way.host
