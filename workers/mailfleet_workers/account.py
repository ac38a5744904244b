"""What a worker knows of one account: where its server is, how to greet it, and where its password is kept.

Values only: nothing here connects, and nothing reads the environment by itself. Limits belong to the limiter, and the
settings file is read elsewhere; this is what both agree on. An `Account` is hashable, and two of them are equal
only if every setting is, and the version of its secrets: a pool keyed by it never reuses a connection that was opened with
other credentials.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

from mailfleet.errors import SettingsError
from mailfleet_schema.content import Address

Tls = Literal["implicit", "starttls", "plain"]

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_HOST = re.compile(r"(?!\.)[!-~]+")
# The user name may hold anything but what ends it; a reference to a file may hold slashes.
_PROXY = re.compile(
    r"socks5://(?:(?P<user>[^:@/\s]{1,255}):(?P<secret>(?:env|file):[^@]+)@)?"
    r"(?:(?P<host>[A-Za-z0-9._-]{1,253})|\[(?P<ipv6>[0-9A-Fa-f:.]{2,45})\])(?::(?P<port>[1-9][0-9]{0,4}))?"
)
_NOT_SHOWN = "a value that is not shown"

#: Literals are compared by this digest; the key lives as long as the process, so a digest says nothing outside it.
_PROCESS_KEY = secrets.token_bytes(32)


class Secret:
    """A reference to a secret (`env:NAME`, `file:/run/secrets/x`), or one given at run time (`Secret.literal`).

    The value is fetched by `reveal` only and never shown: not by repr, str, format, an error or pickle (a literal
    refuses to be pickled, a reference stays a reference). *key* is the setting that errors name. Raises
    SettingsError when *reference* is neither form, for instance a password written into the settings file.
    """

    __slots__ = ("_digest", "_key", "_reference", "_value")

    def __init__(self, reference: str, *, key: str = "password") -> None:
        scheme, _, where = reference.partition(":")
        if scheme not in {"env", "file"} or not where:
            raise SettingsError(key, "`env:NAME` or `file:/path`", _NOT_SHOWN)
        self._reference: str | None = reference
        self._value: str | None = None
        self._key = key
        self._digest = reference.encode("utf-8", "surrogatepass")

    @classmethod
    def literal(cls, value: str, *, key: str = "password") -> Self:
        """A secret whose value is already known to this process, as in tests and in `Notice`."""
        made = cls.__new__(cls)
        made._reference = None  # noqa: SLF001 - our own instance
        made._value = value  # noqa: SLF001 - our own instance
        made._key = key  # noqa: SLF001 - our own instance
        made._digest = _digest(value)  # noqa: SLF001 - our own instance
        return made

    @property
    def key(self) -> str:
        """The setting that errors name."""
        return self._key

    def reveal(self, environ: Mapping[str, str]) -> str:
        """The value, looked up anew at every call; a file's last line end is no part of it.

        Raises SettingsError, which names the key and the reference, when it is missing, unreadable or empty.
        """
        if self._reference is None:
            return self._value or ""
        scheme, _, where = self._reference.partition(":")
        if scheme == "env":
            value = environ.get(where, "")
            if not value:
                raise SettingsError(
                    self._key, f"the variable {where} to be set and not empty", self._reference
                )
            return value
        try:
            value = Path(where).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, ValueError):
            # ValueError: not UTF-8; its text would quote the file's bytes.
            raise SettingsError(self._key, f"a readable UTF-8 file at {where}", self._reference) from None
        if not value:
            raise SettingsError(self._key, f"a file at {where} that is not empty", self._reference)
        return value

    def digest(self, environ: Mapping[str, str]) -> bytes:
        """What tells this value from another one in this process, and nothing outside it. Raises as `reveal`."""
        return _digest(self.reveal(environ))

    @property
    def path(self) -> Path | None:
        """The file where the value is; None where it is in no file."""
        if self._reference is None or not self._reference.startswith("file:"):
            return None
        return Path(self._reference.removeprefix("file:"))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return (self._reference is None) == (other._reference is None) and hmac.compare_digest(
            self._digest, other._digest
        )

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return "Secret(literal, not shown)" if self._reference is None else f"Secret({self._reference!r})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reference is None:
            raise TypeError("a literal Secret does not leave its process; pickle a reference instead")
        return _from_reference, (self._reference, self._key)


def _digest(value: str) -> bytes:
    return hmac.digest(_PROCESS_KEY, value.encode("utf-8", "surrogatepass"), hashlib.sha256)


def _from_reference(reference: str, key: str) -> Secret:
    return Secret(reference, key=key)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for the other side, in seconds per phase.

    RFC 5321 4.5.3.2 asks for 5 minutes per command, 2 for DATA, 3 per block of the body and 10 for the final dot. The
    commands before DATA have less, as in Postfix: giving up there costs nothing but a new try.
    """

    connect: float = 30
    ehlo: float = 60
    #: MAIL, RCPT and each step of AUTH.
    command: float = 60
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
            raise SettingsError(key, expected, _NOT_SHOWN if "@" in text else text)
        secret = None if found["secret"] is None else Secret(found["secret"], key=key)
        return cls(found["host"] or found["ipv6"], int(found["port"] or 1080), found["user"], secret)


@dataclass(frozen=True, slots=True)
class Account:
    """One named SMTP configuration.

    `username` None means no AUTH; `sender` None means that every mail names its own From; `helo` None means the
    machine's name if it is a full one, else the address literal of the connection (RFC 5321 4.1.3). `ca_file` None
    means the system's certificate authorities, `proxy` None a direct connection. `max_age_s` and `max_idle_s` are in
    seconds. `dry_run` says that it never sends. `secret_version` tells the values behind its secrets from others, in this
    process only; it is empty where nobody looks after them. Raises SettingsError for a value out of range, and
    for a user name without TLS: credentials never travel in the clear.
    """

    name: str
    host: str
    port: int
    tls: Tls = "implicit"
    username: str | None = field(default=None, repr=False)
    password: Secret | None = field(default=None, repr=False)
    sender: Address | None = None
    helo: str | None = None
    ca_file: str | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_messages: int = 50
    max_age_s: float = 300
    max_idle_s: float = 8
    proxy: Proxy | None = None
    dry_run: bool = False
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
        both = (self.username is None) == (self.password is None)
        self._require("password", both, "username and password together, or neither", "only one of them")
        safe = self.username is None or self.tls != "plain"
        self._require("tls", safe, "implicit or starttls where there is a username", self.tls)
        self._require("max_messages", self.max_messages > 0, "at least 1", self.max_messages)

    def _require(self, key: str, holds: object, expected: str, value: object) -> None:
        if not holds:
            raise SettingsError(f"accounts.{self.name}.{key}", expected, value)
