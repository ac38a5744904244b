"""The catcher: an SMTP server in its own thread that takes every mail and passes none on.

It is where embedded mode sends its mail, and what tests send to. It is no mail server: nothing is relayed, no
address is checked, and whoever reaches the port may speak to it, so it listens on loopback unless told otherwise.
"""

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from mailfleet_workers.catcher.auth import MECHANISMS, USUAL_MECHANISMS
from mailfleet_workers.catcher.script import Script
from mailfleet_workers.catcher.session import Session
from mailfleet_workers.catcher.sessions import Sessions
from mailfleet_workers.catcher.store import Store

_BACKLOG = 1024
_CLOSE_S = 5.0


class Catcher:
    """An SMTP server for synchronous programs: `start` and `stop`, or a `with` block.

    Args:
        store: takes every mail before its final dot is answered.
        script: what to do at each step; None is a server without moods.
        host: address to listen on.
        port: 0 takes a free one; `port` says which.
        hostname: the name the server gives itself.
        tls: a server-side context; offers STARTTLS, or with *implicit_tls* encrypts from the first byte.
        implicit_tls: see *tls*.
        auth: offer AUTH, inside TLS only where there is *tls*. Everybody is let in unless the script
            says otherwise, and nobody needs to log in unless the script asks for it at `mail`.
        mechanisms: of AUTH, out of PLAIN, LOGIN, CRAM-MD5 and XOAUTH2, in the order in which they are offered.
        dsn: offer DSN; what is asked for is in the receipts, and nothing is ever reported.
        lenient: accept bare LF and CR as line ends, as careless servers do; see `catcher.body`.
        max_size: the most bytes of a message, offered as SIZE; larger ones are refused after the dot with 552.
        wall_clock: gives `Receipt.received_at`.
        monotonic_clock: gives `Receipt.monotonic` and `Event.time`.
    """

    def __init__(
        self,
        store: Store,
        script: Script | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        hostname: str = "catcher.test",
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        auth: bool = False,
        mechanisms: Sequence[str] = USUAL_MECHANISMS,
        dsn: bool = False,
        lenient: bool = False,
        max_size: int = 64 * 1024 * 1024,
        wall_clock: Callable[[], float] = time.time,
        monotonic_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if implicit_tls and tls is None:
            raise ValueError("implicit_tls: expected a context in tls, got None")
        for name in mechanisms:
            if name not in MECHANISMS:
                raise ValueError(f"mechanisms: expected some of {', '.join(MECHANISMS)}, got {name!r}")
        self.store = store
        self.host = host
        self._wanted_port = port
        self._script = script
        self._hostname = hostname
        self._tls = tls
        self._implicit_tls = implicit_tls
        self._mechanisms = tuple(mechanisms) if auth else ()
        self._dsn = dsn
        self._lenient = lenient
        self._max_size = max_size
        self._wall_clock = wall_clock
        self._monotonic_clock = monotonic_clock
        self._port: int | None = None
        self._thread: threading.Thread | None = None
        self._halt: Callable[[], object] | None = None
        self._sessions: Sessions | None = None

    @property
    def port(self) -> int:
        """The port of the running, or last, server. Raises RuntimeError before the first start."""
        if self._port is None:
            raise RuntimeError("the catcher was never started")
        return self._port

    @property
    def open_sessions(self) -> int:
        """How many connections are open now."""
        return len(self._sessions.open) if self._sessions is not None else 0

    @property
    def peak_sessions(self) -> int:
        """The most connections that were open at the same time since the start."""
        return self._sessions.peak if self._sessions is not None else 0

    @property
    def sessions_seen(self) -> int:
        """How many connections there have been since the start."""
        return self._sessions.seen if self._sessions is not None else 0

    @property
    def faults(self) -> tuple[Exception, ...]:
        """What the script or the store raised since the start; a test does well to find this empty."""
        return tuple(self._sessions.faults) if self._sessions is not None else ()

    def start(self) -> None:
        """Listen, and return when clients can connect. After `stop` it may be started again, on the port it had.

        Raises OSError when the address cannot be had, RuntimeError when it runs already.
        """
        if self._thread is not None:
            raise RuntimeError("the catcher runs already")
        started: Future[int] = Future()
        thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(started)), name="mailfleet-catcher", daemon=True
        )
        thread.start()
        try:
            self._port = started.result()
        except BaseException:
            thread.join()
            raise
        self._thread = thread

    def stop(self) -> None:
        """Close the port, drop all connections as they are, end the thread. What was caught stays in the store."""
        if self._thread is None:
            return
        if self._halt is not None:
            self._halt()
        self._thread.join()
        self._thread = None
        self._halt = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _serve(self, started: "Future[int]") -> None:
        loop = asyncio.get_running_loop()
        sessions = self._new_sessions()
        try:
            server = await loop.create_server(
                lambda: Session(sessions), self.host, self._port or self._wanted_port, backlog=_BACKLOG
            )
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that called start
            started.set_exception(error)
            return
        halt = asyncio.Event()
        self._halt = lambda: loop.call_soon_threadsafe(halt.set)
        self._sessions = sessions
        started.set_result(server.sockets[0].getsockname()[1])
        await halt.wait()
        server.close()
        sessions.closing = True
        for session in tuple(sessions.open):
            session.abort()
        async with asyncio.timeout(_CLOSE_S):
            await sessions.emptied.wait()
            await server.wait_closed()

    def _new_sessions(self) -> Sessions:
        return Sessions(
            store=self.store,
            script=self._script,
            hostname=self._hostname,
            max_size=self._max_size,
            lenient=self._lenient,
            mechanisms=self._mechanisms,
            dsn=self._dsn,
            tls=self._tls,
            implicit_tls=self._implicit_tls,
            wall_clock=self._wall_clock,
            monotonic_clock=self._monotonic_clock,
        )
