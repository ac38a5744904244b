"""Servers whose TLS is none, or cannot be trusted: each mail waits before AUTH, and nobody is told the password.

The password is a canary. It is looked for on the wire, in what the server understood, in the log, in every row of every
table, in files, hints, what the command line says, and every exception that is alive.
"""

import base64
import io
import smtplib
import ssl
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mailfleet_schema.hint import group
from mailfleet_workers.account import Account
from mailfleet_workers.catcher import (
    Action,
    Catcher,
    Default,
    Event,
    MemoryStore,
    Plan,
    Raw,
    Say,
    Script,
    Step,
)
from mailfleet_workers.secret import Secret
from mailfleet_workers.settings.model import LogSettings
from mailfleet_workers.smtp.connection import SmtpTransport
from mailfleet_workers.smtp.pool import ConnectionPool
from mailfleet_workers.telemetry.log import configure
from tests.integration.cli import conftest as cli
from tests.integration.smtp.branch import Branch, account
from tests.integration.smtp.canary import PASSWORD, USER, dump, told, tracebacks
from tests.integration.smtp.dialogue import AUTHORITY, server_context
from tests.integration.smtp.tap import Tap
from tests.unit.telemetry.loggers import loggers_as_they_were

command = cli.command


def old_context() -> ssl.SSLContext:
    """TLS 1.0 and nothing else."""
    context = server_context("localhost")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@dataclass(frozen=True)
class Sink:
    """A server of tests; *why* is what the worker says of it."""

    name: str
    tls: str
    why: str
    context: Callable[[], ssl.SSLContext] | None = None
    starttls: Action = field(default_factory=Default)

    def __str__(self) -> str:
        return f"{self.name}, {self.tls}"

    def catcher(self, script: Script) -> Catcher:
        return Catcher(
            MemoryStore(),
            script,
            tls=self.context() if self.context else None,
            implicit_tls=self.tls == "implicit",
            auth=True,
        )


def certificate(name: str) -> Callable[[], ssl.SSLContext]:
    return partial(server_context, name)


GOOD = certificate("localhost")
SINKS = [
    Sink("no starttls", "starttls", "does not offer STARTTLS"),
    Sink("454", "starttls", "454", GOOD, Say(454, "4.7.0 TLS not available")),
    Sink("injected", "starttls", "bytes arrived before the handshake", GOOD,
         Raw(b"220 2.0.0 go\r\n250-injected\r\n250 AUTH PLAIN LOGIN\r\n")),
    *[
        Sink(name, tls, why, context)
        for name, why, context in (
            ("self-signed", "self-signed certificate", certificate("selfsigned")),
            ("wrong name", "Hostname mismatch", certificate("elsewhere")),
            ("expired", "certificate has expired", certificate("expired")),
            # The catcher hangs up without an alert.
            ("tls 1.0", "no connection: ", old_context),
        )
        for tls in ("starttls", "implicit")
    ],
]  # fmt: skip
FINE = Sink("fine", "starttls", "", GOOD)


class Site:
    """A sink behind a tap, its mail, and what it understood of what was said to it."""

    def __init__(self, name: str, sink: Sink, stack: ExitStack) -> None:
        self.name = name
        self.sink = sink
        self.heard: list[Event] = []
        self.tap = stack.enter_context(Tap(stack.enter_context(sink.catcher(self._act)).port))
        self.mail_id = 0

    def _act(self, event: Event) -> Action:
        self.heard.append(event)
        return self.sink.starttls if event.step is Step.STARTTLS else Default()

    def at(self, step: Step) -> list[Event]:
        return [event for event in self.heard if event.step is step]

    def account(self) -> Account:
        return account(
            self.name,
            self.tap.port,
            host="localhost",
            tls=self.sink.tls,
            ca_file=AUTHORITY,
            username=USER,
            password=Secret("env:CANARY", key=f"accounts.{self.name}.password"),
        )

    def settings(self) -> str:
        """The account as it stands in an operator's file."""
        return (
            f'[accounts.{self.name}]\nhost = "localhost"\nfrom = "us@example.com"'
            f'\nusername = "{USER}"\npassword = "env:CANARY"\n'
        )


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the worker's log says, at DEBUG."""
    lines = io.StringIO()
    with loggers_as_they_were():
        configure(LogSettings(level="debug"), app="billing", stream=lines)
        yield lines


@pytest.fixture
def branch(engine: Engine, tmp_path: Path) -> Branch:
    """A worker that finds the password where its accounts say."""
    one = Branch(engine, tmp_path)
    transport = partial(SmtpTransport, environ={"CANARY": PASSWORD})
    one.connections = ConnectionPool(transport, one.clock)
    one.desk = replace(one.desk, connections=one.connections)
    return one


@pytest.mark.smtplib(19)
def test_nobody_is_told_the_password(
    branch: Branch, tmp_path: Path, log: io.StringIO, command: cli.Command
) -> None:
    """At each sink the mail waits, AUTH is never said, and the password is nowhere; at a fine server it is sent."""
    with ExitStack() as stack:
        sites = [Site(f"s{number}", sink, stack) for number, sink in enumerate([*SINKS, FINE])]
        for site in sites:
            branch.accounts[site.name] = site.account()
            site.mail_id = branch.write(str(site.sink), account=site.name)
        branch.work(threads=8)
        errors = tracebacks()
        branch.end()

    *bad, good = sites
    assert branch.state(good.mail_id) == "sent"
    (login,) = (event.credentials for event in good.at(Step.AUTH))
    assert login is not None
    assert (login.user, login.password) == (USER, PASSWORD)
    for site in bad:
        row = branch.row(site.mail_id)
        assert (row["state"], row["waits"], row["sum_fail"]) == ("queued", 1, 0), site.sink
        assert branch.attempts(site.mail_id) == ["wait"], site.sink
        assert site.sink.why in f"{row['last_code']} {row['last_text']}", (site.sink, row)
        assert site.at(Step.AUTH) == site.at(Step.CHALLENGE) == site.at(Step.MAIL) == [], site.sink
        assert site.tap.up, site.sink
        assert b"AUTH" not in site.tap.up.upper(), site.sink
        assert told(site.tap.up, site.tap.down, repr(site.heard)) == [], site.sink
    assert told(good.tap.up, good.tap.down) == []

    rows, said, hints = dump(branch.engine), log.getvalue(), hints_of(branch)
    assert all("certificate has expired" in one for one in (rows, said))
    assert all(str(site.mail_id) in hints for site in bad)
    assert told(rows, said, hints, errors, repr(branch.accounts)) == []
    assert told(*(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())) == []

    (tmp_path / "mailfleet.toml").write_text("".join(site.settings() for site in sites))
    command.environ["MAILFLEET_DATABASE_URL"] = branch.engine.url.render_as_string(hide_password=False)
    command.environ["CANARY"] = PASSWORD
    assert told(*(command(word).output for word in ("list", "status", "waits"))) == []
    for site in bad:
        why = command("why", site.mail_id).output
        assert site.sink.why in why, site.sink
        rest = [
            command(*words).output
            for words in (
                ("why", site.mail_id, "--json"),
                ("show", site.mail_id),
                ("show", site.mail_id, "--json"),
                ("account", "show", site.name),
            )
        ]
        assert told(why, *rest) == [], site.sink


def hints_of(branch: Branch) -> str:
    """What this worker's hints carry."""
    rows = [(one.to or one.app, one.priority, one.mail_id) for one in branch.notices]
    return str([hint.as_argument() for hint in group(rows)])


def test_what_is_looked_for_would_be_found() -> None:
    """The password is recognised in a command, in a quotation and in a traceback."""
    token = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())
    assert told(b"AUTH PLAIN " + token + b"\r\n")
    assert told(base64.b64encode(PASSWORD.encode()))
    assert told(f"password: {PASSWORD!r}")
    try:
        raise ValueError(PASSWORD)
    except ValueError:
        assert told(tracebacks())


@pytest.mark.parametrize(
    "sink", [sink for sink in SINKS if sink.context and sink.name not in {"454", "injected"}], ids=str
)
def test_a_careless_client_would_have_told_it(sink: Sink) -> None:
    """A client that verifies nothing logs in at these servers: they do speak TLS, and only trust is missing."""
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        careless.minimum_version = ssl.TLSVersion.TLSv1
    careless.set_ciphers("ALL:@SECLEVEL=0")
    with sink.catcher(Plan({})) as catcher, _client(sink, catcher.port, careless) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        assert (client.sock.version() == "TLSv1") == (sink.name == "tls 1.0")
        client.user, client.password = "ada", "s3cret"
        assert client.auth("PLAIN", client.auth_plain)[0] == 235


def _client(sink: Sink, port: int, context: ssl.SSLContext) -> smtplib.SMTP:
    if sink.tls == "implicit":
        client: smtplib.SMTP = smtplib.SMTP_SSL("127.0.0.1", port, context=context, timeout=10)
    else:
        client = smtplib.SMTP("127.0.0.1", port, timeout=10)
        client.starttls(context=context)
    client.ehlo()
    return client
