"""Which mail a pool may take: that of its own apps, what lists of apps name, and, if it shares, what is for everybody."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from mailfleet_schema.senders import ANY, Apps, hinted
from mailfleet_schema.statements.claim import Shared
from mailfleet_schema.statements.reconcile import Looked

#: An account that we do not know may be configured meanwhile: mail of it is taken again after so many seconds.
REMEMBER_S = 300.0
#: At most so many are remembered.
MOST = 1000


@dataclass(frozen=True, slots=True)
class Taking:
    """*apps* are a pool's own, its name first."""

    apps: tuple[str, ...]
    shares: bool = False

    def may(self, app: str, apps: Apps) -> bool:
        """Whether the pool may send a mail of *app* that *apps* may send."""
        if apps is None:
            return app in self.apps
        if ANY in apps:
            return self.shares or app in self.apps
        return any(name in self.apps for name in apps)

    def hinted(self, row: Looked, *, idle: bool) -> str | None:
        """In whose queue *row* is hinted, None for its own app's: ours if we are *idle*, for we know that we are alive."""
        if row.apps is None or not self.may(row.app, row.apps):
            return hinted(row.app, row.apps, turn=row.mail_id, looks=row.looks)
        if row.app in self.apps and (ANY in row.apps or row.app in row.apps):
            # For us it is like any other mail.
            return None
        return self.apps[0] if idle else hinted(row.app, row.apps, turn=row.mail_id, looks=row.looks)

    def instead(self, row: Shared) -> str | None:
        """In whose queue *row* is hinted, for which we have no time: another's, or ours again if there is no other."""
        others = tuple(name for name in row.apps or () if name not in self.apps)
        return hinted(row.app, others or row.apps, turn=row.id)


class Unknown:
    """Accounts of other apps that this process does not know: it takes no more of their mail. Thread-safe.

    *clock* is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[tuple[str, str], float] = {}

    def remember(self, app: str, account: str) -> None:
        """*app*'s *account* is unknown here."""
        with self._lock:
            if len(self._until) >= MOST:
                self._until.clear()
            self._until[app, account] = self._clock() + REMEMBER_S

    def pairs(self) -> list[tuple[str, str]]:
        """Those that are not tried again yet."""
        now = self._clock()
        with self._lock:
            self._until = {pair: until for pair, until in self._until.items() if until > now}
            return list(self._until)
