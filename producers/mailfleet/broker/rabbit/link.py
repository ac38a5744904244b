"""The one connection over which a process publishes for one app; opened with the first message, closed when idle.

Safe to use from several threads and over forks. Every call has its deadline, whatever the network does.
"""

import threading
import time
from collections.abc import Callable, Sequence

from mailfleet.broker.farewell import leave_at_exit
from mailfleet.broker.rabbit.call import Call, NotPublished, Outcome
from mailfleet.broker.rabbit.envelope import Envelope
from mailfleet.broker.rabbit.forks import keep_untouched, renew_after_fork
from mailfleet.broker.rabbit.parameters import Role
from mailfleet.broker.rabbit.servers import GOODBYE_S, Servers
from mailfleet.broker.rabbit.session import Session

#: An idle connection is closed after so long, in seconds.
IDLE_S = 60.0
#: How long the end of a process waits for the server's answer to its goodbye, in seconds.
LEAVE_S = 0.5


class Link:
    """Publishes to *servers* over one session at a time."""

    def __init__(
        self,
        servers: Servers,
        role: Role,
        *,
        idle_s: float = IDLE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = servers
        self._role: Role = role
        self._idle_s = idle_s
        self._monotonic = monotonic
        self._session: Session | None = None
        self._closed = False
        self._lock = threading.Lock()
        renew_after_fork(self)
        leave_at_exit(self)

    def publish(self, envelopes: Sequence[Envelope], deadline: float) -> Outcome:
        """Send all, then wait for all to be confirmed, until the monotonic time *deadline*.

        The outcome tells of all of them: when one was not taken, others may have been.
        """
        began = self._monotonic()
        if began >= deadline:
            return NotPublished("there was no time left")
        call = Call(envelopes)
        try:
            session = self._submit(call)
        except (OSError, RuntimeError) as error:
            return NotPublished(f"no thread or file for a connection: {error}")
        if session is None:
            return NotPublished("the broker was closed")
        outcome = call.wait(deadline - self._monotonic())
        if outcome is None:
            outcome = session.give_up(call, f"nothing said within {deadline - began:.1f} s")
        return outcome

    def close(self) -> None:
        """Close the connection, waiting a little for the server's answer. Harmless when repeated."""
        self._close(2 * GOODBYE_S)

    def leave(self) -> None:
        """The same at the end of a process, with less patience."""
        self._close(LEAVE_S)

    def _close(self, wait_s: float) -> None:
        with self._lock:
            self._closed = True
            session, self._session = self._session, None
        if session is not None:
            session.close()
            session.join(wait_s)

    def renew(self) -> None:
        """Begin anew in a forked child."""
        keep_untouched(self._session, self._lock)
        self._session = None
        self._lock = threading.Lock()

    def _submit(self, call: Call) -> Session | None:
        with self._lock:
            if self._closed:
                return None
            if self._session is None or not self._session.submit(call):
                self._session = Session(self._servers, self._role, call, idle_s=self._idle_s)
            return self._session
