"""What keeps a pool's accounts as they are now: looks again every two seconds, and lets mail that waited for a change come back."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from mailfleet_schema.statements.account import account_known
from mailfleet_workers.accounts.directory import Directory
from mailfleet_workers.accounts.found import Found, Known
from mailfleet_workers.operators.credentials import open_refused

log = logging.getLogger(__name__)

#: A change is heard of within so many seconds; and later by as much as a loader takes that hangs, once in its `REST_S`.
EVERY_S = 2.0
#: Every process of a machine has heard of a change within so many seconds: a login that was refused since was one with what is new.
HEARD_S = 5.0


class Watch:
    """For a pool that sends for *apps*; *may_use* says which of them may use an account.

    Rows wait at most *most_s* seconds for an account that nobody knows, or that cannot be used. *came_back* hears that some are due.
    """

    def __init__(
        self,
        engine: Engine,
        directory: Directory,
        *,
        apps: Sequence[str],
        may_use: Callable[[str, str], bool],
        most_s: float,
        came_back: Callable[[], None],
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._directory = directory
        self._apps = apps
        self._may_use = may_use
        self._most_s = most_s
        self._came_back = came_back
        self._every_s = every_s
        self._lock = threading.Lock()
        self._known: set[str] = set()
        #: Whose credentials are others, and since when we know.
        self._other: dict[str, float] = {}
        directory.listen(self._heard)

    def _heard(self, name: str, before: Found, found: Found) -> None:
        if isinstance(found, Known):
            with self._lock:
                if isinstance(before, Known):
                    self._other[name] = self._clock()
                else:
                    self._known.add(name)

    def run(self, stop: threading.Event) -> None:
        """Look again and again until *stop*."""
        while not stop.wait(self._every_s):
            try:
                self.run_once()
            except SQLAlchemyError as error:
                log.warning("accounts_not_read", extra={"error": type(error).__name__})
            except Exception:
                # A bug in it must not leave a pool with old passwords for ever.
                log.exception("accounts_not_followed")

    def run_once(self) -> None:
        """Look at every account in use, then let mail come back that waited for one that can be used now."""
        try:
            self._directory.refresh()
        finally:
            self._bring_back()
            self._try_again()

    def _try_again(self) -> None:
        """Whose login was refused has other credentials now, perhaps.

        A gate that was closed just now may be the answer to the new ones, or to the old ones of a process that has not heard of
        them: it is looked at again as long as that may be.
        """
        with self._lock:
            others = dict(self._other)
        for name, since in sorted(others.items()):
            opened = open_refused(self._engine, name, older_s=HEARD_S) is not None
            if opened:
                log.info("account_tried_again", extra={"account": name})
                self._came_back()
            with self._lock:
                if (opened or self._clock() - since > 2 * HEARD_S) and self._other.get(name) == since:
                    del self._other[name]

    def _bring_back(self) -> None:
        with self._lock:
            names, self._known = self._known, set()
        try:
            for app in self._apps:
                usable = [name for name in names if self._may_use(app, name)]
                if usable:
                    with self._engine.begin() as connection:
                        mails = account_known(connection, app, usable, most_s=self._most_s)
                    if mails:
                        self._came_back()
        except SQLAlchemyError:
            with self._lock:
                self._known |= names
            raise
