"""What all sessions of one catcher share: the settings, the store, the script, and who is there."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from mailfleet_workers.catcher.channel import Channel
from mailfleet_workers.catcher.script import Script
from mailfleet_workers.catcher.store import Store

#: What went wrong in a service that runs for months must not fill its memory: the last ones tell enough.
MOST_FAULTS = 100


@dataclass(kw_only=True)
class Sessions:
    """Made anew for every start of a catcher. Written by the loop's thread only; numbers may be read by others.

    `seen` counts connections, `peak` is the most that were open at once, `faults` holds what a script or the store
    raised, the last MOST_FAULTS of it. `emptied` is set while no session is open. While `closing`, whoever still comes is turned away.
    """

    store: Store
    script: Script | None
    hostname: str
    max_size: int
    lenient: bool
    mechanisms: tuple[str, ...]
    dsn: bool
    tls: ssl.SSLContext | None
    implicit_tls: bool
    wall_clock: Callable[[], float]
    monotonic_clock: Callable[[], float]
    open: set[Channel] = field(default_factory=set)
    emptied: asyncio.Event = field(default_factory=asyncio.Event)
    faults: deque[Exception] = field(default_factory=lambda: deque(maxlen=MOST_FAULTS))
    closing: bool = False
    seen: int = 0
    peak: int = 0

    def __post_init__(self) -> None:
        self.emptied.set()

    def enter(self, session: Channel) -> int:
        """Count *session* in; its number, from 1."""
        self.open.add(session)
        self.emptied.clear()
        self.seen += 1
        self.peak = max(self.peak, len(self.open))
        return self.seen

    def leave(self, session: Channel) -> None:
        self.open.discard(session)
        if not self.open:
            self.emptied.set()

    def may_encrypt(self, *, encrypted: bool) -> bool:
        """Whether STARTTLS is offered now."""
        return self.tls is not None and not encrypted

    def may_login(self, *, encrypted: bool) -> bool:
        """Whether AUTH is offered now: where there is TLS, only inside it."""
        return bool(self.mechanisms) and not self.may_encrypt(encrypted=encrypted)

    def capabilities(self, *, encrypted: bool) -> str:
        """The text of the EHLO reply."""
        lines = [
            self.hostname,
            "PIPELINING",
            f"SIZE {self.max_size}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
        ]
        if self.dsn:
            lines.append("DSN")
        if self.may_encrypt(encrypted=encrypted):
            lines.append("STARTTLS")
        if self.may_login(encrypted=encrypted):
            lines.append(f"AUTH {' '.join(self.mechanisms)}")
        return "\n".join(lines)
