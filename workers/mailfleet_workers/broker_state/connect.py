"""Opens a connection to RabbitMQ for a command, or says in one line why there is none and what to do."""

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pika
from pika.exceptions import (
    AMQPError,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from mailfleet.broker.rabbit.parameters import CONNECT_ERRORS, BrokerUrl, parameters_of, parse_broker_url
from mailfleet.broker.rabbit.quiet import quiet

_REFUSED = (
    ProbableAuthenticationError,
    ProbableAccessDeniedError,
    IncompatibleProtocolError,
    ssl.SSLError,
    FileNotFoundError,
    PermissionError,
)


class NoBroker(Exception):  # noqa: N818 - reads as the fact it states
    """No connection, in one line for a person; never with a password.

    `refused` says that a server answered and will not have us: waiting does not help, somebody has to do something.
    """

    def __init__(self, line: str, *, refused: bool = False) -> None:
        super().__init__(line)
        self.refused = refused


@contextmanager
def connected(url: str) -> Iterator[pika.BlockingConnection]:
    """A connection to the first server of *url* that answers, closed at the end; raises NoBroker.

    A connection that breaks inside the block is NoBroker as well. Raises ValueError for what is no URL.
    """
    servers = parse_broker_url("broker_url", url)
    try:
        # pika logs what it raises, at length; the one line is ours.
        with quiet():
            connection = pika.BlockingConnection(
                parameters_of(url, app=None, role="setup", host=socket.gethostname(), pid=os.getpid())
            )
    except CONNECT_ERRORS as error:
        refused = any(isinstance(cause, _REFUSED) for cause in _causes(error))
        raise NoBroker(explain(error, servers), refused=refused) from error
    try:
        with quiet():
            yield connection
    except (AMQPError, OSError) as error:
        raise NoBroker(f"broker: {servers[0].shown} ended the work: {_text(error)}") from error
    finally:
        with quiet(), suppress(AMQPError, OSError):
            connection.close()


def explain(error: Exception, servers: tuple[BrokerUrl, ...]) -> str:
    """Why there is no connection to *servers*; pika reports what the last of them said."""
    url = servers[-1]
    names = ", ".join(one.shown for one in servers)
    said = _text(error)
    match error:
        case ProbableAuthenticationError():
            guest = "; guest may connect from its own machine only" if url.user == "guest" else ""
            return (
                f"broker: {names} refuses the user {url.user!r} or its password; expected those for which"
                f" `rabbitmqctl authenticate_user {url.user}` succeeds{guest}"
            )
        case ProbableAccessDeniedError() if "not found" in said:
            return (
                f"broker: {names} has no vhost {url.vhost!r}; `rabbitmqctl add_vhost {url.vhost}` makes it, then"
                f" {permissions(url)}"
            )
        case ProbableAccessDeniedError():
            return f"broker: {names} lets {url.user!r} not use the vhost {url.vhost!r}; {permissions(url)}"
    for cause in _causes(error):
        match cause:
            case socket.gaierror():
                return (
                    f"broker: {names}: the name {url.host!r} is unknown; expected a host that runs RabbitMQ"
                )
            case ssl.SSLError():
                what = cause.reason or cause
                return (
                    f"broker: {names}: no TLS ({what}); expected a certificate for {url.host} that this machine"
                    " trusts (?cacertfile=/path), and the port that RabbitMQ has for amqps"
                )
            case ConnectionRefusedError():
                return (
                    f"broker: {names}: nothing listens there; expected RabbitMQ to run and to listen for AMQP"
                )
            case FileNotFoundError() | PermissionError():
                reason = cause.strerror
                return f"broker: {names}: a certificate file cannot be read ({reason})"
    if isinstance(error, IncompatibleProtocolError) or "handshake" in said:
        return f"broker: {names} does not speak AMQP; expected RabbitMQ's AMQP port (5672, with amqps 5671)"
    return f"broker: {names} does not answer; expected RabbitMQ to open a connection within 2 s ({said})"


def permissions(url: BrokerUrl) -> str:
    """The command that lets the user of *url* do what mailfleet does."""
    everything = " ".join(["'^mailfleet\\.'"] * 3)
    return f"`rabbitmqctl set_permissions --vhost {url.vhost} {url.user} {everything}` allows it"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """*error* and what pika has put inside it."""
    yield error
    for inner in (*error.args, getattr(error, "exception", None)):
        if isinstance(inner, BaseException):
            yield from _causes(inner)


def _text(error: BaseException) -> str:
    return " ".join((str(error) or repr(error)).split())
