"""Which server of a cluster is tried first, and how a connection is ended without waiting for ever."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pika
from pika.exceptions import AMQPConnectionError, AMQPError

from mailfleet.broker.rabbit.parameters import CONNECT_ERRORS, Role, parameters_of, parse_broker_url

_log = logging.getLogger("mailfleet.broker")

#: How long a server may take to say goodbye, in seconds.
GOODBYE_S = 1.0
#: What a connection that cannot be made, or is lost, raises; pika asserts what a lost one may break.
LOST = (*CONNECT_ERRORS, AMQPError, OSError, AssertionError)


class Servers:
    """The servers in *url*, for connections of *app* on *host*. Raises ValueError for a wrong URL, without its password."""

    def __init__(self, url: str, *, app: str, host: str) -> None:
        self._addresses = [(one.host, one.port) for one in parse_broker_url("broker_url", url)]
        self._url = url
        self._app = app
        self._host = host
        self._first = 0

    def __repr__(self) -> str:
        return f"<Servers {self._addresses}>"  # the URL has a password

    def parameters(self, role: Role, pid: int) -> list[pika.ConnectionParameters]:
        """For pika, in the order to try; raises OSError when a certificate file cannot be used."""
        every = parameters_of(self._url, app=self._app, role=role, host=self._host, pid=pid)
        return every[self._first :] + every[: self._first]

    def answered(self, host: str, port: int) -> None:
        """This one did: begin with it. One that is away would cost every new connection its two seconds."""
        if (host, port) in self._addresses:
            self._first = self._addresses.index((host, port))

    def failed(self) -> None:
        """None did: begin with the next one. pika tries no further than the first whose name cannot be resolved."""
        self._first = (self._first + 1) % len(self._addresses)


@contextmanager
def cut_after(limit_s: float, connection: pika.BlockingConnection) -> Iterator[None]:
    """Cut *connection* when the block takes longer than *limit_s* seconds; what it waits for then raises AMQPConnectionError.

    pika itself waits as long as heartbeats come, for instance for a queue that has no leader.
    """
    inner = connection._impl  # noqa: SLF001 - pika has no public way; the contract test watches it
    timer = inner._adapter_call_later(limit_s, lambda: cut(inner))  # noqa: SLF001 - same
    try:
        yield
    finally:
        inner._adapter_remove_timeout(timer)  # noqa: SLF001 - same


def close_in_time(connection: pika.BlockingConnection, limit_s: float = GOODBYE_S) -> None:
    """Close *connection*, whatever state it is in; after *limit_s* seconds without an answer it is simply cut."""
    if not connection.is_open:
        return
    try:
        with cut_after(limit_s, connection):
            connection.close()
    except Exception:  # noqa: BLE001 - it was lost in between, which pika tells in many ways, and is closed now
        _log.debug("not_closed_politely", exc_info=True)


def cut(connection: pika.SelectConnection) -> None:
    """Take *connection* down without a word. In the thread of its loop only; harmless when it is closed."""
    if not connection.is_closed:
        connection._terminate_stream(AMQPConnectionError("no answer in time"))  # noqa: SLF001 - same


def reason(error: BaseException) -> str:
    """What a person is told of *error*: its type and what the server said. Passwords are never in it."""
    inner = getattr(error, "exception", None)
    for cause in (*getattr(error, "exceptions", ())[-1:], inner, *error.args[:1]):
        if isinstance(cause, BaseException):
            return reason(cause)
    code, text = getattr(error, "reply_code", None), getattr(error, "reply_text", None)
    if code is not None:
        return f"{code} {text}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error.args[0]) if error.args else ""
    return f"{type(error).__name__}: {text:.200}" if text else type(error).__name__
