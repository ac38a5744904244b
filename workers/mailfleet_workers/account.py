"""What a worker knows of one account: where its server is, how to greet it, and where its password is kept.

Values only: nothing here connects, and nothing reads the environment by itself. Limits belong to the limiter, and the
settings file is read elsewhere; this is what both agree on. An `Account` is hashable, and two of them are equal
only if every setting is, and the version of its secrets: a pool keyed by it never reuses a connection that was opened with
other credentials.
"""

import re
from dataclasses import dataclass, field
from typing import Literal, Self, get_args

from mailfleet.errors import SettingsError
from mailfleet_schema.content import Address
from mailfleet_workers.accounts.oauth.client import OAuthClient
from mailfleet_workers.classify.rule import Rule
from mailfleet_workers.secret import NOT_SHOWN, Secret
from mailfleet_workers.smtp.envelope import Dsn

#: How a client proves who it is (RFC 4954): with a password, or with an access token.
Mechanism = Literal["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"]
Tls = Literal["implicit", "starttls", "plain"]

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_HOST = re.compile(r"(?!\.)[!-~]+")
# The user name may hold anything but what ends it; a reference to a file may hold slashes.
_PROXY = re.compile(
    r"socks5://(?:(?P<user>[^:@/\s]{1,255}):(?P<secret>(?:env|file):[^@]+)@)?"
    r"(?:(?P<host>[A-Za-z0-9._-]{1,253})|\[(?P<ipv6>[0-9A-Fa-f:.]{2,45})\])(?::(?P<port>[1-9][0-9]{0,4}))?"
)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for the other side, in seconds per phase.

    RFC 5321 4.5.3.2 asks for 5 minutes at least for the greeting and each command, 2 for DATA, 3 per block of the body and 10 for the
    final dot: servers that look something up, or slow senders down on purpose, take their time. It says nothing of the connection and of QUIT.
    """

    connect: float = 30
    #: The greeting too.
    ehlo: float = 300
    #: MAIL, RCPT and each step of AUTH.
    command: float = 300
    data: float = 120
    #: Each 64 KiB of the body.
    block: float = 180
    dot: float = 600
    #: QUIT, and RSET after a refusal: neither may hold up an outcome that is already known.
    quit: float = 5


@dataclass(frozen=True, slots=True)
class Proxy:
    """A SOCKS5 proxy (RFC 1928) through which an account's server is reached; it looks up the server's name.

    `username` and `password` (RFC 1929) are both None where it asks for none; they travel in the clear to the proxy.
    """

    host: str
    port: int = 1080
    username: str | None = field(default=None, repr=False)
    password: Secret | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str, *, key: str = "proxy") -> Self:
        """The proxy that *text* means; raises SettingsError, which shows nothing of a text that may hold a password."""
        found = _PROXY.fullmatch(text)
        if found is None or int(found["port"] or 1080) > 65535:
            expected = (
                "socks5://host:port, or socks5://user:env:NAME@host:port with a reference to the password"
            )
            raise SettingsError(key, expected, NOT_SHOWN if "@" in text else text)
        secret = None if found["secret"] is None else Secret(found["secret"], key=key)
        return cls(found["host"] or found["ipv6"], int(found["port"] or 1080), found["user"], secret)


@dataclass(frozen=True, slots=True)
class Account:
    """One named SMTP configuration.

    `username` None means no AUTH; with one there is either `password` or `oauth`. `mechanism` None means the first that both sides know;
    `sender` None means that every mail names its own From; `helo` None means the
    machine's name if it is a full one, else the address literal of the connection (RFC 5321 4.1.3). `ca_file` None
    means the system's certificate authorities, `proxy` None a direct connection. `max_age_s` and `max_idle_s` are in
    seconds. `dry_run` says that it never sends. `recipients_per_message` are for one transaction, and `max_message_bytes` for one message as
    it is sent; None for any number. `dsn` are the reports that mails ask for which do not say it themselves. `replies` are rules for what its
    server answers, searched before all others. `secret_version` tells the values behind its secrets from others, in this
    process only; it is empty where nobody looks after them. Raises SettingsError for a value out of range, and
    for a user name without TLS: credentials never travel in the clear.
    """

    name: str
    host: str
    port: int
    tls: Tls = "implicit"
    username: str | None = field(default=None, repr=False)
    password: Secret | None = field(default=None, repr=False)
    oauth: OAuthClient | None = None
    mechanism: Mechanism | None = None
    sender: Address | None = None
    helo: str | None = None
    ca_file: str | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_messages: int = 50
    max_age_s: float = 300
    max_idle_s: float = 8
    proxy: Proxy | None = None
    dry_run: bool = False
    recipients_per_message: int | None = None
    max_message_bytes: int | None = None
    dsn: Dsn | None = None
    #: Out of the hash, which is asked for often.
    replies: tuple[Rule, ...] = field(default=(), repr=False, hash=False)
    secret_version: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SettingsError("accounts", "a name of a-z, 0-9 and -, at most 40 characters", self.name)
        self._require("host", _HOST.fullmatch(self.host), "a host name in ASCII", self.host)
        self._require("port", 0 < self.port < 65536, "a port from 1 to 65535", self.port)
        self._require("tls", self.tls in get_args(Tls), "implicit, starttls or plain", self.tls)
        self._require(
            "helo", self.helo is None or _HOST.fullmatch(self.helo), "a host name in ASCII", self.helo
        )
        both = (self.username is None) == (self.password is None and self.oauth is None)
        self._require("password", both, "username and password together, or neither", "only one of them")
        one = self.password is None or self.oauth is None
        self._require("password", one, "either a password or oauth", "both")
        fits = self.mechanism is None or (self.mechanism == "XOAUTH2") == (self.oauth is not None)
        self._require("mechanism", fits, "XOAUTH2 with oauth, another one with a password", self.mechanism)
        safe = self.username is None or self.tls != "plain"
        self._require("tls", safe, "implicit or starttls where there is a username", self.tls)
        for key in ("max_messages", "recipients_per_message", "max_message_bytes"):
            value = getattr(self, key)
            self._require(key, value is None or value > 0, "at least 1", value)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Every reference to a secret that its connections need."""
        proxy = None if self.proxy is None else self.proxy.password
        login = () if self.oauth is None else self.oauth.secrets
        return tuple(one for one in (self.password, *login, proxy) if one is not None)

    def _require(self, key: str, holds: object, expected: str, value: object) -> None:
        if not holds:
            raise SettingsError(f"accounts.{self.name}.{key}", expected, value)
