"""How to reach RabbitMQ: the URL that people write, and what pika is told from it.

Whatever goes wrong, no message shows the password. Time limits are part of it, because pika has none for some waits:
with an alarm set on the server, a connection without `blocked_connection_timeout` waits for ever.
"""

import ssl
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError

#: What opening a connection may raise: not every error of pika's is an AMQPError, and a name may be unknown.
CONNECT_ERRORS: tuple[type[Exception], ...] = (AMQPError, AMQPConnectorException, OSError)

#: What a connection is for: consuming, publishing inside a worker, publishing in an application, declaring.
Role = Literal["worker", "publisher", "producer", "setup"]

EXPECTED = (
    "amqp://user:password@host:5672/vhost, or amqps:// for TLS, several servers of a cluster separated by ';',"
    " special characters of a part percent-encoded ('/' is %2F)"
)

#: For each of: the TCP connection, the whole way to an open AMQP connection. A publish has two seconds in all.
CONNECT_S = 2.0
#: The server and we both notice within two of these that the other one vanished.
HEARTBEAT_S = 20
#: How long a connection may stay blocked by an alarm before it is given up, in seconds. A publisher gives up on the
#: hint, not on the connection: a new one would be blocked as well.
BLOCKED_S = 60.0

_PORTS = {"amqp": 5672, "amqps": 5671}
_FILES = {"cacertfile", "certfile", "keyfile"}


class InvalidBrokerUrl(ValueError):  # noqa: N818 - a value's name, as the schema's InvalidName
    """The URL under *key* is none of RabbitMQ's; *expected* says what is. Holds nothing of the URL itself."""

    def __init__(self, key: str, expected: str) -> None:
        super().__init__(f"{key}: expected {expected}")
        self.expected = expected


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """One server. The file names are for TLS: who is trusted, and a certificate of our own; None is the system's."""

    tls: bool
    host: str
    port: int
    vhost: str
    user: str
    password: str = field(repr=False)
    cacertfile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None

    @property
    def shown(self) -> str:
        """The URL without its password."""
        scheme = "amqps" if self.tls else "amqp"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{quote(self.user, safe='')}@{host}:{self.port}/{quote(self.vhost, safe='')}"


def parse_broker_url(key: str, value: str) -> tuple[BrokerUrl, ...]:
    """The servers in *value*, at least one; raises InvalidBrokerUrl that names *key* and shows nothing of a password.

    As in RabbitMQ's URI specification: no user means `guest`, no vhost means `/`, special characters are percent-encoded,
    and `amqps` takes `cacertfile`, `certfile` and `keyfile` as parameters. Certificates are always verified.
    """
    urls = tuple(_parse_one(key, one.strip()) for one in value.split(";"))
    if len({url.vhost for url in urls}) > 1:
        raise InvalidBrokerUrl(key, "one vhost for all servers, they are of one cluster")
    return urls


def _parse_one(key: str, value: str) -> BrokerUrl:
    try:
        parts = urlsplit(value)
        port = parts.port
        query = parse_qsl(parts.query, strict_parsing=True) if parts.query else []
    except ValueError:
        raise InvalidBrokerUrl(key, EXPECTED) from None
    if parts.scheme not in _PORTS:
        raise InvalidBrokerUrl(key, EXPECTED)
    vhost = parts.path.removeprefix("/")
    if not parts.hostname or "/" in vhost or parts.fragment:
        raise InvalidBrokerUrl(key, EXPECTED)
    files = dict(query)
    allowed = _FILES if parts.scheme == "amqps" else set()
    if len(files) != len(query) or not files.keys() <= allowed:
        names = ", ".join(sorted(_FILES))
        raise InvalidBrokerUrl(key, f"no parameters but, with amqps, {names}, each at most once")
    if "keyfile" in files and "certfile" not in files:
        raise InvalidBrokerUrl(key, "certfile beside keyfile")
    return BrokerUrl(
        tls=parts.scheme == "amqps",
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        vhost=unquote(vhost) or "/",
        user=unquote(parts.username) if parts.username else "guest",
        password=unquote(parts.password or ("" if parts.username else "guest")),
        cacertfile=files.get("cacertfile"),
        certfile=files.get("certfile"),
        keyfile=files.get("keyfile"),
    )


def connection_name(*, app: str | None, role: Role, host: str, pid: int) -> str:
    """What the management UI shows: `mailfleet billing mx1 4711` consumes, others have their role behind it."""
    words = ["mailfleet", *([app] if app else []), host, str(pid), *([] if role == "worker" else [role])]
    return " ".join(words)


def parameters_of(
    url: str, *, app: str | None, role: Role, host: str, pid: int
) -> list[pika.ConnectionParameters]:
    """What pika needs for each server in *url*, in that order; for `pika.BlockingConnection` and the others.

    *app* None is for what belongs to no app. *host* and *pid* say whose connection it is, they reach nothing. Reads the
    certificate files: raises OSError (with `ssl.SSLError` among them) when they cannot be used, and
    InvalidBrokerUrl as `parse_broker_url`.
    """
    properties = {
        "connection_name": connection_name(app=app, role=role, host=host, pid=pid),
        "product": "mailfleet",
        "version": _version(),
        "role": role,
        "host": host,
        "pid": pid,
    }
    if app:
        properties["app"] = app
    return [
        pika.ConnectionParameters(
            host=one.host,
            port=one.port,
            virtual_host=one.vhost,
            credentials=pika.PlainCredentials(one.user, one.password),
            ssl_options=_ssl_options(one),
            heartbeat=HEARTBEAT_S,
            connection_attempts=1,
            socket_timeout=CONNECT_S,
            stack_timeout=CONNECT_S,
            blocked_connection_timeout=BLOCKED_S,
            client_properties=dict(properties),
        )
        for one in parse_broker_url("broker_url", url)
    ]


def _ssl_options(url: BrokerUrl) -> pika.SSLOptions | None:
    if not url.tls:
        return None
    context = ssl.create_default_context(cafile=url.cacertfile)
    if url.certfile is not None:
        context.load_cert_chain(url.certfile, url.keyfile)
    return pika.SSLOptions(context, server_hostname=url.host)


def _version() -> str:
    try:
        return version("mailfleet")
    except PackageNotFoundError:
        return "unknown"
