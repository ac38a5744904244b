"""The script and the connections to Redis: calls are short, never repeated behind our back, and know which Redis answers.

A connection knows the run id of the server that it was opened to, and every call says it: a Redis that was restarted, or
another one that took over, notices and begins a new epoch.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Self, TypeVar

from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as TimedOut
from redis.retry import Retry

from mailfleet_workers.limits.base import LimiterUnavailable

_PARTS = ("state", "line", "ask", "wait", "lease", "epoch")
#: No answer for so long is no answer, in seconds.
TIMEOUT_S = 0.5
#: Beginnings of calls that are kept: a few for each host.
MOST_HEADS = 1000
#: Connections of one process: its threads take turns. There is one more for renewals, which wait for nobody.
MOST = 4
#: The operation that keeps leases.
_RENEWAL = "renew"
#: Who waits for a turn while calls are not answered has no answer either, after so many times the time of a call.
_TURNS = 1.2

Words = list[object]
T = TypeVar("T")


def script_text() -> str:
    """The whole script."""
    folder = resources.files(__package__) / "lua"
    return "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in _PARTS)


@dataclass(frozen=True, slots=True)
class Packed:
    """Words as they go over the wire (RESP2 bulk strings), for those that are said again and again."""

    count: int
    data: bytes

    @classmethod
    def of(cls, words: Sequence[object]) -> Self:
        """*words* together."""
        return cls(*pack(words))


def pack(words: Sequence[object]) -> tuple[int, bytes]:
    """How many *words* there are, and all of them; those among them that are packed already stay so."""
    count, parts = 0, []
    for word in words:
        if type(word) is Packed:
            count += word.count
            parts.append(word.data)
        else:
            text = word if type(word) is bytes else str(word).encode()
            count += 1
            parts.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return count, b"".join(parts)


class _Link:
    """One connection, with the run id of its server."""

    def __init__(self, pool: ConnectionPool) -> None:
        connection: Any = pool.make_connection()
        connection.connect()
        self._connection = connection
        info = self.command("INFO", "server")
        text = info.decode() if isinstance(info, bytes) else str(info)
        found = [line for line in text.splitlines() if line.startswith("run_id:")]
        self.run_id = found[0].partition(":")[2].strip() if found else ""

    def command(self, *words: object) -> Any:
        self._connection.send_packed_command([b"*%d\r\n%b" % pack(words)])
        return self._connection.read_response(disable_decoding=True)

    def close(self) -> None:
        self._connection.disconnect()


class Script:
    """Calls about one host: `call` names the operation. Thread-safe.

    *prefix* begins every key. *text* is the script (tests give it another clock). Raises ValueError for a URL that
    redis-py does not know.
    """

    def __init__(
        self,
        url: str,
        *,
        lease_s: float,
        prefix: str = "mailfleet",
        text: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._text = script_text() if text is None else text
        sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()
        self._by_sha = Packed.of(("EVALSHA", sha))
        self._heads: dict[tuple[str, ...], Packed] = {}
        self.prefix = prefix
        self._lease_ms = round(lease_s * 1000)
        self._pool = ConnectionPool.from_url(
            url,
            max_connections=2**31
            - 1,  # it counts those that could not be opened too; how many are is our business
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            client_name="mailfleet",
        )
        self._patience_s = _TURNS * timeout_s
        self._lock = threading.Lock()
        self._free: list[_Link] = []
        self._room = threading.Condition(self._lock)
        self._lent = 0
        self._epochs: dict[str, str] = {}
        self._closed = False

    def epoch(self, host: str) -> str:
        """The epoch in which *host* was last heard of; empty before."""
        return self._epochs.get(host, "")

    def call(
        self,
        host: str,
        operation: str,
        *words: object | Callable[[str], Words],
        epoch: str | None = None,
    ) -> tuple[str, list[Any]]:
        """What *operation* of the script answers for *host*, and the epoch in which it did.

        A single callable instead of words is asked for them with each epoch that is tried. Of *epoch* alone where one is
        given: in another nothing happens, and the answer is empty. Raises LimiterUnavailable.
        """
        return self._answered(lambda: self._call(host, operation, words, epoch))

    def plain(self, *words: object) -> Any:
        """What Redis answers to the command *words*, which may be repeated. Raises LimiterUnavailable."""
        return self._answered(lambda: self._used(lambda link: link.command(*words), waits=True))

    def _answered(self, ask: Callable[[], T]) -> T:
        """What *ask* returns. Raises LimiterUnavailable for all that may go wrong."""
        try:
            try:
                return ask()
            except _Stale:
                # A kept connection that its server has closed meanwhile: every operation may be repeated.
                return ask()
        except _Stale as error:
            raise LimiterUnavailable(str(error)) from None
        except TimedOut:
            raise LimiterUnavailable("no answer in time") from None
        except RedisError as error:
            raise LimiterUnavailable(f"{type(error).__name__}: {error}") from None
        except OSError as error:
            raise LimiterUnavailable(f"{type(error).__name__}: {error}") from None

    def _call(
        self, host: str, operation: str, words: tuple[object | Callable[[str], Words], ...], only: str | None
    ) -> tuple[str, list[Any]]:
        key = f"{self.prefix}:{{{host}}}"
        for _ in range(3):
            epoch = self._epochs.get(host, "") if only is None else only
            given = words[0](epoch) if words and callable(words[0]) else words
            answer = self._asked(key, operation, epoch, given)
            if answer and answer[0] == b"epoch":
                self._epochs[host] = answer[1].decode()
                if only is not None:
                    return self._epochs[host], []
                continue
            return epoch, answer
        raise LimiterUnavailable("its state changes all the time: is something else writing to it?")

    def _head(self, key: str, operation: str, run_id: str, epoch: str) -> Packed:
        """What a call begins with."""
        named = (key, operation, run_id, epoch)
        head = self._heads.get(named)
        if head is None:
            if len(self._heads) > MOST_HEADS:
                self._heads.clear()  # epochs that are over
            head = self._heads[named] = Packed.of((1, *named, self._lease_ms))
        return head

    def _run(self, link: _Link, head: Packed, words: Sequence[object]) -> list[Any]:
        try:
            found = link.command(self._by_sha, head, *words)
        except NoScriptError:
            found = link.command("EVAL", self._text, head, *words)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, bytes):
            return found.split(b" ", 4)
        assert isinstance(found, list)  # noqa: S101 - every operation answers so
        return found

    def _asked(self, key: str, operation: str, epoch: str, words: Sequence[object]) -> list[Any]:
        """The answer to one call."""
        return self._used(
            lambda link: self._run(link, self._head(key, operation, link.run_id, epoch), words),
            waits=operation != _RENEWAL,
        )

    def _used(self, use: Callable[[_Link], T], *, waits: bool) -> T:
        """What *use* makes of a connection, which is kept if it is in order afterwards."""
        link, used = self._borrow(waits=waits)
        kept: _Link | None = link
        try:
            return use(link)
        except ReadOnlyError:
            # A replica now: the name of the server may lead to another one.
            kept = None
            self._forget()
            raise
        except ResponseError:
            raise
        except BaseException as error:
            kept = None
            if used and isinstance(error, Disconnected) and not isinstance(error, TimedOut):
                self._forget()
                raise _Stale(str(error)) from None
            raise
        finally:
            if kept is None:
                link.close()
            self._give_back(kept, waited=waits)

    def _borrow(self, *, waits: bool = True) -> tuple[_Link, bool]:
        """A connection for one call, when there is one, and whether it was used before; at once, if nobody *waits*."""
        with self._lock:
            if waits:
                # Looked at first because nearly every call finds one at once.
                if self._lent >= MOST and not self._room.wait_for(
                    lambda: self._lent < MOST, self._patience_s
                ):
                    raise LimiterUnavailable("no answer to those before in time")
                self._lent += 1
            if self._free:
                return self._free.pop(), True
        try:
            return _Link(self._pool), False
        except BaseException:
            self._give_back(None, waited=waits)
            raise

    def _give_back(self, link: _Link | None, *, waited: bool = True) -> None:
        """A call is over; its connection is kept unless it is closed."""
        with self._lock:
            if waited:
                self._lent -= 1
                self._room.notify()
            if link is None:
                return
            if not self._closed:
                self._free.append(link)
                return
        link.close()

    def _forget(self) -> None:
        """The others are as old."""
        with self._lock:
            links, self._free = self._free, []
        for link in links:
            link.close()

    def close(self) -> None:
        """End the connections. Harmless when repeated."""
        with self._lock:
            self._closed = True
        self._forget()


class _Stale(Exception):  # noqa: N818 - control flow inside this module
    """A connection that was kept turned out to be closed."""
