"""An account behind a SOCKS5 proxy: the proxy looks up the name, TLS is verified against the server, silence has an end."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from mailfleet_workers.account import Proxy, Timeouts
from mailfleet_workers.catcher import Catcher, MemoryStore
from mailfleet_workers.classify import Rules
from mailfleet_workers.classify.classifier import classify
from mailfleet_workers.secret import Secret
from mailfleet_workers.smtp.base import Answer, Phase
from mailfleet_workers.smtp.connection import SmtpConnection, SmtpTransport
from mailfleet_workers.verdict import Scope, Wait
from tests.integration.smtp.dialogue import AUTHORITY, account, envelope, server_context
from tests.integration.smtp.login import PASSWORD, USER
from tests.stage.socks import Asked, SocksServer

#: A name that is in the certificate, and that no resolver knows.
NAME = "elsewhere.example"


@pytest.fixture
def catcher() -> Iterator[Catcher]:
    with Catcher(MemoryStore(), tls=server_context("elsewhere"), implicit_tls=True, auth=True) as catcher:
        yield catcher


def transport(proxy: str, host: str = NAME, **settings: Any) -> SmtpTransport:
    behind = account(465, host=host, tls="implicit", ca_file=AUTHORITY, proxy=Proxy.parse(proxy), **settings)
    return SmtpTransport(behind, environ={"PROXY_PASSWORD": "canary-proxy"})


def refused(opened: object) -> Answer:
    assert isinstance(opened, Answer), opened
    assert (opened.phase, opened.reply) == (Phase.CONNECT, None)
    assert "canary" not in (opened.error or "")
    return opened


@pytest.mark.tinymail("T4")
@pytest.mark.parametrize("login", [True, False])
def test_a_mail_goes_through_the_proxy(catcher: Catcher, login: bool) -> None:
    """It looks up the name, and passes on TLS that is verified against that name; both logins are made, each where it belongs."""
    users = {"fleet": "canary-proxy"} if login else None
    with SocksServer({NAME: ("127.0.0.1", catcher.port)}, users=users) as proxy:
        who = "fleet:env:PROXY_PASSWORD@" if login else ""
        account_login: dict[str, Any] = {"username": USER, "password": Secret.literal(PASSWORD)}
        connection = transport(f"socks5://{who}localhost:{proxy.port}", **account_login).connect()
        assert isinstance(connection, SmtpConnection), connection
        for _ in range(2):
            assert connection.transmit(envelope(), before_dot=lambda: True).accepted
        connection.close()
    assert proxy.asked == [Asked("name", NAME, 465, "fleet" if login else None)]
    assert len(catcher.store.receipts()) == 2


@pytest.mark.tinymail("T4")
def test_a_certificate_is_the_servers_not_the_proxys(catcher: Catcher) -> None:
    """A server under another name than the account's is not spoken to, whatever the proxy says where it is."""
    with SocksServer({"localhost": ("127.0.0.1", catcher.port)}) as proxy:
        answer = refused(transport(f"socks5://127.0.0.1:{proxy.port}", "localhost").connect())
    assert (answer.error or "").startswith("TLS: certificate verify failed")


@pytest.mark.tinymail("T4")
@pytest.mark.parametrize(
    ("users", "proxy_url", "said"),
    [
        ({"fleet": "other"}, "socks5://fleet:env:PROXY_PASSWORD@{}", "proxy: login refused"),
        ({"fleet": "other"}, "socks5://{}", "proxy: wants a login"),
        (None, "socks5://{}", "proxy: host unreachable"),
    ],
)
def test_what_a_proxy_refuses_is_a_wait_of_the_host(
    users: dict[str, str] | None, proxy_url: str, said: str
) -> None:
    """Nothing of the mail was said: it waits, and the reason names the proxy."""
    with SocksServer({}, users=users) as proxy:
        answer = refused(transport(proxy_url.format(f"127.0.0.1:{proxy.port}")).connect())
    assert answer.error == said
    verdict = classify(answer, None, host=NAME, rules=Rules.builtin(), now=datetime.now(UTC)).verdict
    assert isinstance(verdict, Wait)
    assert verdict.scope is Scope.HOST


@pytest.mark.tinymail("T4")
def test_a_proxy_that_is_away_or_says_nothing_costs_the_time_of_a_connection() -> None:
    """Refused at once, or given up after `timeouts.connect` as a whole."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert refused(transport(f"socks5://127.0.0.1:{port}").connect()).error == "proxy: connection refused"
    with SocksServer({}, silent=True) as proxy:
        quick = transport(f"socks5://127.0.0.1:{proxy.port}", timeouts=Timeouts(connect=0.3))
        assert refused(quick.connect()).error == "proxy: timed out"


def test_a_password_that_is_missing_is_a_setting() -> None:
    """The account waits, not its host; and the proxy is not spoken to."""
    with SocksServer({}) as proxy:
        answer = refused(transport(f"socks5://fleet:env:MISSING@127.0.0.1:{proxy.port}").connect())
    assert (answer.error or "").startswith("setting proxy: expected the variable MISSING")
    assert proxy.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_is_passed_on_as_one(host: str) -> None:
    """Only names are looked up by the proxy."""
    with SocksServer({}) as proxy:
        refused(transport(f"socks5://127.0.0.1:{proxy.port}", host).connect())
    assert [(one.kind, one.host) for one in proxy.asked] == [("ipv6" if ":" in host else "ipv4", host)]
