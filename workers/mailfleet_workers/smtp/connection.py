"""Opening a connection for an account: connect, greet, encrypt, log in. One transport per account.

Everything a server or the network does on the way becomes an `Answer` of phase connect, ehlo or auth; so do a
password or CA file that cannot be read, because an operator mends those while mail waits. TLS is always verified and
at least 1.2, a server that does not offer STARTTLS where the account asks for it gets neither credentials nor mail.
Each opening is one login at most, with one mechanism.
"""

import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from mailfleet.errors import SettingsError
from mailfleet.failpoints import failpoint
from mailfleet_workers.account import Account, Proxy
from mailfleet_workers.accounts.credentials import Credentials, Logins, NoCredentials
from mailfleet_workers.smtp import auth, mechanisms, socks
from mailfleet_workers.smtp.base import Answer, Connection, Envelope, Phase, Reply, Transport
from mailfleet_workers.smtp.transaction import Transaction
from mailfleet_workers.smtp.wire import Dial, Wire, WireError, describe
from mailfleet_workers.telemetry.meter import SILENT, Meter, SmtpPart
from mailfleet_workers.telemetry.stopwatch import Stopwatch

#: Replies by which a server says that it does not want these credentials, not that it cannot look at them (RFC 4954 6).
_NOT_THESE = range(500, 600)
_USUAL_PORTS = frozenset({25, 465, 587})

Clock = Callable[[], float]


def server_name(account: Account) -> str:
    """The name of *account*'s server: lower case, with its port unless it is a usual one."""
    host = account.host.lower()
    return host if account.port in _USUAL_PORTS else f"{host}:{account.port}"


class _NotOpened(Exception):  # noqa: N818 - control flow inside this module, never seen outside
    """The opening ended in `phase`: with the server's reply, or with what we saw or refused instead."""

    def __init__(self, phase: Phase, reply: Reply | None, error: str | None = None) -> None:
        super().__init__(phase)
        self.phase = phase
        self.reply = reply
        self.error = error


@dataclass(frozen=True, slots=True)
class TokenRejected(Answer):
    """The server refused an access token that was not new: a login with another one may be tried at once."""


class SmtpTransport(Transport):
    """Opens connections for *account*. Secrets are looked up in *environ* at every connect; *clock* is monotonic.

    *logins* say what it logs in with; None: *environ* does, and access tokens are shared with nobody.
    """

    def __init__(
        self,
        account: Account,
        *,
        environ: Mapping[str, str],
        clock: Clock = time.monotonic,
        meter: Meter = SILENT,
        logins: Logins | None = None,
    ) -> None:
        self._account = account
        self._logins = Logins(environ) if logins is None else logins
        self._meter = meter
        self._server = server_name(account)
        self._environ = environ
        self._clock = clock
        self._context: ssl.SSLContext | None = None

    def connect(self) -> Connection | Answer:
        started = self._clock()
        wire: Wire | None = None
        credentials: Credentials | None = None
        try:
            # Both before the socket: a connection that cannot be used only costs the server patience.
            credentials = self._credentials()
            context = self._tls()
            dial = self._dial()
            wire = Wire(
                helo=self._account.helo,
                context=context if self._account.tls == "implicit" else None,
                clock=self._clock,
                dial=dial,
            )
            self._open(wire, context, credentials)
        except _NotOpened as end:
            if wire is not None:
                wire.drop()
            kind = TokenRejected if self._token_is_old(end, credentials) else Answer
            return kind(end.phase, end.reply, end.error, seconds=self._clock() - started)
        except BaseException:
            if wire is not None:
                wire.drop()
            raise
        return SmtpConnection(wire, self._account, clock=self._clock, meter=self._meter)

    def _credentials(self) -> Credentials | None:
        if self._account.tls == "plain":
            return None  # an account with a login and without TLS does not exist; and if it did
        match self._logins.credentials_of(self._account):
            case NoCredentials(why):
                raise _NotOpened(Phase.AUTH, None, why)
            case credentials:
                return credentials

    def _token_is_old(self, end: _NotOpened, credentials: Credentials | None) -> bool:
        refused = end.phase is Phase.AUTH and end.reply is not None and end.reply.code in _NOT_THESE
        return refused and credentials is not None and self._logins.rejected(self._account, credentials)

    def _dial(self) -> Dial | None:
        """How the server is reached where there is a proxy; its password is looked up now."""
        proxy = self._account.proxy
        if proxy is None:
            return None
        try:
            login = _proxy_login(proxy, self._environ)
        except SettingsError as error:
            raise _NotOpened(Phase.CONNECT, None, f"setting {error}") from None

        def dial(host: str, port: int, timeout: float) -> socket.socket:
            where = proxy.host, proxy.port
            try:
                return socks.connect(where, (host, port), login=login, timeout_s=timeout, clock=self._clock)
            except socks.ProxyError as error:
                raise WireError(f"proxy: {error}") from None
            except OSError as error:
                raise WireError(f"proxy: {describe(error)}") from None

        return dial

    def _tls(self) -> ssl.SSLContext | None:
        if self._account.tls == "plain":
            return None
        if self._context is None:
            try:
                context = ssl.create_default_context(cafile=self._account.ca_file)
            except OSError:
                key = f"accounts.{self._account.name}.ca_file"
                said = f"setting {key}: expected a readable PEM file, got {self._account.ca_file!r}"
                raise _NotOpened(Phase.CONNECT, None, said) from None
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._context = context
        return self._context

    def _open(self, wire: Wire, context: ssl.SSLContext | None, credentials: Credentials | None) -> None:
        account, timeouts = self._account, self._account.timeouts
        phase = Phase.CONNECT
        watch = Stopwatch(self._clock, self._part)
        watch.begin("connect")
        try:
            wire.timeout = wire.patience = timeouts.connect
            greeting = Reply(*_text(wire.connect(account.host, account.port)))
            _must(greeting, 220, phase)
            failpoint("after_connect")
            phase = Phase.EHLO
            watch.begin("ehlo")
            wire.patience = timeouts.ehlo
            _greet(wire)
            if account.tls == "starttls" and context is not None:
                if not wire.has_extn("starttls"):
                    raise _NotOpened(phase, None, "TLS: the server does not offer STARTTLS")
                watch.begin("starttls")
                _must(Reply(*_text(wire.docmd("STARTTLS"))), 220, phase)
                wire.encrypt(context)
                watch.begin("ehlo")
                _greet(wire)
            if credentials is not None:
                phase = Phase.AUTH
                watch.begin("auth")
                wire.patience = timeouts.command
                offered = wire.esmtp_features.get("auth", "")
                mechanism = mechanisms.choose(offered, credentials.kind, account.mechanism)
                if mechanism is None:
                    raise _NotOpened(phase, None, _not_offered(account, credentials))
                reply = auth.log_in(wire, mechanism, credentials)
                if reply.code >= 400:
                    raise _NotOpened(phase, reply)
        except WireError as error:
            refusal = error.partial if error.partial and error.partial.code >= 400 else None
            raise _NotOpened(phase, refusal, None if refusal else str(error)) from None
        finally:
            watch.end()

    def _part(self, name: SmtpPart, seconds: float) -> None:
        self._meter.part(self._account.name, self._server, name, seconds)


def _not_offered(account: Account, credentials: Credentials) -> str:
    wanted = account.mechanism or ("XOAUTH2" if credentials.kind == "token" else None)
    if wanted is None:
        return "the server offers no AUTH mechanism that we know"
    return f"the server does not offer the AUTH mechanism {wanted}"


def _proxy_login(proxy: Proxy, environ: Mapping[str, str]) -> tuple[str, str] | None:
    if proxy.username is None or proxy.password is None:
        return None
    return proxy.username, proxy.password.reveal(environ)


def _greet(wire: Wire) -> None:
    """EHLO, or HELO where the server knows no EHLO (RFC 5321 3.2)."""
    reply = Reply(*_text(wire.ehlo()))
    if reply.code >= 500:
        helo = Reply(*_text(wire.helo()))
        # What it said to EHLO is the better explanation when it wants neither.
        reply = reply if helo.code >= 500 else helo
    _must(reply, 250, Phase.EHLO)


def _must(reply: Reply, code: int, phase: Phase) -> None:
    if reply.code >= 400:
        raise _NotOpened(phase, reply)
    if reply.code != code:
        raise _NotOpened(phase, None, f"unexpected reply {reply.code}")


def _text(pair: tuple[int, bytes]) -> tuple[int, str]:
    return pair[0], pair[1].decode()


class SmtpConnection(Connection):
    """An open connection over one `Wire`. For one thread at a time."""

    def __init__(self, wire: Wire, account: Account, *, clock: Clock, meter: Meter = SILENT) -> None:
        self._wire = wire
        self._timeouts = account.timeouts
        self._clock = clock
        self._part = partial(meter.part, account.name, server_name(account))

    def transmit(self, envelope: Envelope, *, before_dot: Callable[[], bool]) -> Answer:
        try:
            watch = Stopwatch(self._clock, self._part)
            answer = Transaction(self._wire, envelope, self._timeouts, self._clock, watch).run(before_dot)
        except BaseException:
            # A bug or a killed thread: the server must not take what we have sent so far for a mail.
            self._wire.drop()
            raise
        if not answer.reusable:
            self._wire.drop()
        return answer

    def alive(self) -> bool:
        """Whether the server answers RSET now, within the timeout of QUIT. Costs one round trip; never raises."""
        if self._wire.broken:
            return False
        self._wire.patience = self._timeouts.quit
        try:
            return not self._wire.heard() and self._wire.rset()[0] == 250
        except WireError:
            return False

    def close(self) -> None:
        if not self._wire.broken:
            self._wire.patience = self._timeouts.quit
            try:
                # Whatever is said to QUIT, 421 included, changes nothing about the mails before it.
                self._wire.docmd("QUIT")
            except WireError:
                pass
            finally:
                self._wire.drop()
