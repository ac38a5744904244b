"""AUTH with an access token: XOAUTH2, the reply behind its challenge, and a second login where the token was old."""

import base64
import gc
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from mailfleet_schema.states import Priority
from mailfleet_workers.account import Account
from mailfleet_workers.accounts.credentials import Credentials, Logins
from mailfleet_workers.accounts.oauth import tokens
from mailfleet_workers.accounts.oauth.tokens import Tokens
from mailfleet_workers.classify import Rules, classify
from mailfleet_workers.limits.base import Grant, Request
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.local import LocalLimiter
from mailfleet_workers.limits.right import SlotRight
from mailfleet_workers.smtp.base import Answer, Phase, Reply
from mailfleet_workers.smtp.connection import SmtpConnection, SmtpTransport, TokenRejected
from mailfleet_workers.smtp.pool import ConnectionPool
from mailfleet_workers.smtp.pooled import PooledConnection
from mailfleet_workers.verdict import Scope, Wait
from tests.integration.smtp.dialogue import AUTHORITY, Dialogue, Peer, account, envelope
from tests.integration.smtp.hall import Recording
from tests.integration.smtp.login import USER, refused, starttls
from tests.stage.token_endpoint import Says, TokenEndpoint, document

NOW = datetime(2026, 11, 23, tzinfo=UTC)
ENVIRON = {"CLIENT_SECRET": "canary-client-secret"}


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    with TokenEndpoint() as endpoint:
        yield endpoint


class Bank:
    """An account with an access token at the server of a test, and the logins of its process."""

    def __init__(self, server: Dialogue, endpoint: TokenEndpoint, **more: Any) -> None:
        given = {"tls": "starttls", "ca_file": AUTHORITY, "username": USER, "oauth": endpoint.client()}
        self.account: Account = account(server.port, **given | more)
        self.now = 1000.0
        self.logins = Logins(ENVIRON, Tokens(ENVIRON, clock=lambda: self.now))

    def transport(self, of: Account | None = None) -> SmtpTransport:
        return SmtpTransport(of or self.account, environ=ENVIRON, logins=self.logins)

    def open(self, right: Any = None) -> PooledConnection | Answer:
        return ConnectionPool(self.transport, lambda: self.now).open(self.account, right)


def bearer(number: int) -> bytes:
    return f"user={USER}\x01auth=Bearer canary-token-{number}\x01\x01".encode()


def accepts(number: int) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        starttls(peer, "AUTH PLAIN XOAUTH2")
        line = peer.answer("AUTH XOAUTH2 ", "235 2.7.0 ok")
        assert base64.b64decode(line.split()[2]) == bearer(number)
        peer.accept_mail()
        peer.quit()

    return script


def rejects(code: str = "535 5.7.3 Authentication unsuccessful") -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        starttls(peer, "AUTH XOAUTH2")
        why = json.dumps({"status": "401", "schemes": "bearer"})
        peer.answer("AUTH XOAUTH2 ", "334 " + base64.b64encode(why.encode()).decode())
        peer.answer("\r\n", code)
        peer.until_closed()

    return script


@pytest.mark.smtplib(23)
def test_a_mail_leaves_with_an_access_token(endpoint: TokenEndpoint) -> None:
    """The token goes with the command, after the handshake, and the mail passes."""
    with Dialogue(accepts(1)) as server:
        connection = Bank(server, endpoint).open()
        assert isinstance(connection, PooledConnection), connection
        assert connection.transmit(envelope(), before_dot=lambda: True).accepted
        connection.close()
    assert len(server.lines("AUTH")) == 1


@pytest.mark.smtplib(2, 23)
@pytest.mark.parametrize("code", [535, 454])
def test_the_reply_behind_the_challenge_is_kept(endpoint: TokenEndpoint, code: int) -> None:
    """The 334 with JSON is answered with an empty line, and what the server says then is the Answer's."""
    with Dialogue(rejects(f"{code} 5.7.3 no")) as server:
        bank = Bank(server, endpoint)
        answer = refused(bank.transport().connect())
    assert (answer.phase, answer.reply) == (Phase.AUTH, Reply(code, "5.7.3 no"))
    assert not isinstance(answer, TokenRejected), "a new token is not to blame"


def test_a_challenge_that_is_no_base64_does_not_matter(endpoint: TokenEndpoint) -> None:
    """Nothing in it is needed."""

    def script(peer: Peer) -> None:
        starttls(peer, "AUTH XOAUTH2")
        peer.answer("AUTH XOAUTH2 ", "334 {no base64}")
        peer.answer("\r\n", "535 no")

    with Dialogue(script) as server:
        answer = refused(Bank(server, endpoint).transport().connect())
    assert answer.reply == Reply(535, "no")


def test_an_old_token_is_replaced_in_a_second_login(endpoint: TokenEndpoint) -> None:
    """535 to a token that has been there for a while: one refresh, one more login, both by right of the limiter."""
    right = Recording()
    with Dialogue(accepts(1), rejects(), accepts(2)) as server:
        bank = Bank(server, endpoint)
        for heard in (["opened"], ["opened", "refused at auth", "again", "opened"]):
            connection = bank.open(right)
            assert isinstance(connection, PooledConnection), connection
            assert connection.transmit(envelope(), before_dot=lambda: True).accepted
            assert right.heard == heard
            connection.close()
            right.heard.remove("closed")
            bank.now += 100
    assert len(endpoint.asked) == 2


def test_a_second_login_that_is_refused_is_the_answer(endpoint: TokenEndpoint) -> None:
    """There is no third; the account waits as for a wrong password."""
    right = Recording()
    with Dialogue(accepts(1), rejects(), rejects("535 5.7.139 disabled")) as server:
        bank = Bank(server, endpoint)
        first = bank.open()
        assert isinstance(first, PooledConnection)
        assert first.transmit(envelope(), before_dot=lambda: True).accepted
        first.close()
        bank.now += 100
        answer = refused(bank.open(right))
    assert answer.reply == Reply(535, "5.7.139 disabled")
    assert right.heard == ["refused at auth", "again", "refused at auth", "lingers"]
    assert server.connections == 3
    assert len(endpoint.asked) == 2


def test_a_second_login_waits_where_it_is_too_early(endpoint: TokenEndpoint) -> None:
    """Where the limiter gives no right to it the account waits a minute, and the next login has the fresh token."""
    right = Recording(allows=False)
    with Dialogue(accepts(1), rejects(), accepts(2)) as server:
        bank = Bank(server, endpoint)
        for expected in (None, "token rejected: 535 5.7.3 Authentication unsuccessful", None):
            opened = bank.open(right)
            if isinstance(opened, Answer):
                assert (opened.phase, opened.reply, opened.error) == (Phase.AUTH, None, expected)
                verdict = judged(opened)
                assert (verdict.scope, verdict.seconds) == (Scope.ACCOUNT, 60)
            else:
                assert expected is None
                assert opened.transmit(envelope(), before_dot=lambda: True).accepted
                opened.close()
            bank.now += 100


def judged(answer: Answer) -> Wait:
    verdict = classify(answer, None, host="smtp.example.com", rules=Rules.builtin(), now=NOW).verdict
    assert isinstance(verdict, Wait)
    return verdict


def test_old_tokens_of_many_workers_do_not_lock_the_account(endpoint: TokenEndpoint) -> None:
    """More of them are rejected in a row than refused logins are allowed; a login with a fresh one follows all the same."""
    now = [5000.0]
    limits = Limits("default", "localhost", login=True, login_gap_ms=10_000)
    limiter = LocalLimiter(Book({"default": limits}), lambda: now[0], empty=False)
    number = 1
    endpoint.answer = lambda _: document(access_token=f"canary-token-{number}", expires_in=3600)

    def open_one(bank: Bank) -> PooledConnection | Answer:
        now[0] += 20
        bank.now += 100
        token = str(now[0])
        granted = limiter.ask(
            Request(token, "billing", "default", "localhost", Priority.NORMAL, (1,), slot=token)
        )
        assert isinstance(granted, Grant), granted
        assert granted.slot is not None
        opened = bank.open(SlotRight(limiter, granted.slot, lambda _: None))
        if isinstance(opened, PooledConnection):
            assert opened.transmit(envelope(), before_dot=lambda: True).accepted
            opened.close()
        return opened

    with Dialogue(*[accepts(1)] * 4, *[rejects()] * 4, accepts(2)) as server:
        banks = [Bank(server, endpoint) for _ in range(4)]
        assert all(isinstance(open_one(bank), PooledConnection) for bank in banks)
        number = 2
        for bank in banks:
            answer = refused(open_one(bank))
            assert (answer.error or "").startswith("token rejected")
        assert isinstance(open_one(banks[0]), PooledConnection)


@pytest.mark.parametrize(
    ("said", "error", "seconds"),
    [
        (document(400, error="invalid_grant"), "token refused: invalid_grant", 3600),
        (Says(503, b""), "token not renewed: status 503", 60),
    ],
    ids=["refused", "unavailable"],
)
def test_without_a_token_nothing_is_connected(
    endpoint: TokenEndpoint, said: Says, error: str, seconds: float
) -> None:
    """The account waits, the mail does not fail, its server hears nothing, and no login counts as refused."""
    endpoint.answer = lambda _: said
    limits = Limits("default", "localhost", login=True)
    limiter = LocalLimiter(Book({"default": limits}), lambda: 0.0, empty=False)
    with Dialogue() as server:
        bank = Bank(server, endpoint)
        for number in range(4):
            token = str(number)
            granted = limiter.ask(
                Request(token, "billing", "default", "localhost", Priority.NORMAL, (1,), slot=token)
            )
            assert isinstance(granted, Grant), granted
            assert granted.slot is not None
            answer = refused(bank.open(SlotRight(limiter, granted.slot, lambda _: None)))
            assert (answer.phase, answer.reply, answer.error) == (Phase.AUTH, None, error)
        assert server.connections == 0
    verdict = judged(answer)
    assert (verdict.scope, verdict.seconds) == (Scope.ACCOUNT, seconds)
    assert verdict.reason == f"login: {error}"


@pytest.mark.parametrize(
    ("offered", "settings", "error"),
    [
        ("AUTH PLAIN LOGIN", {}, "the server does not offer the AUTH mechanism XOAUTH2"),
        ("AUTH GSSAPI", {"mechanism": "XOAUTH2"}, "the server does not offer the AUTH mechanism XOAUTH2"),
    ],
)
def test_a_token_is_sent_with_no_other_mechanism(
    endpoint: TokenEndpoint, offered: str, settings: dict[str, Any], error: str
) -> None:
    """Never as a password."""

    def script(peer: Peer) -> None:
        starttls(peer, offered)
        assert peer.until_closed() == b""

    with Dialogue(script) as server:
        answer = refused(Bank(server, endpoint, **settings).transport().connect())
    assert (answer.phase, answer.reply, answer.error) == (Phase.AUTH, None, error)
    assert judged(answer).seconds == 3600


def test_no_token_is_asked_for_a_connection_that_will_not_come(
    endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token comes before the socket; without STARTTLS it stays here."""

    def script(peer: Peer) -> None:
        peer.greet("AUTH XOAUTH2")
        assert b"canary" not in peer.until_closed()

    monkeypatch.setattr(tokens, "LOOK_S", 0.01)
    with Dialogue(script) as server:
        answer = refused(Bank(server, endpoint).transport().connect())
    assert (answer.phase, answer.error) == (Phase.EHLO, "TLS: the server does not offer STARTTLS")


def test_the_token_is_in_no_log_and_no_traceback(
    endpoint: TokenEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor in the Answer when the server quotes it, nor in what stands for it in memory."""

    def script(peer: Peer) -> None:
        starttls(peer, "AUTH XOAUTH2")
        line = peer.hear("AUTH XOAUTH2 ").removeprefix("AUTH XOAUTH2 ")
        peer.say(f"535 no canary-token-1 in {line}")

    with caplog.at_level(logging.DEBUG), Dialogue(script) as server:
        bank = Bank(server, endpoint)
        answer = refused(bank.transport().connect())
        found = bank.logins.credentials_of(bank.account)
        assert isinstance(found, Credentials)
        assert found.secret.reveal({}) == "canary-token-1"
        shown = repr(answer) + repr(bank.account) + repr(found) + caplog.text
    shown += "".join(repr(o) for o in gc.get_objects() if issubclass(type(o), BaseException))
    assert answer.reply == Reply(535, "no *** in ***")
    assert "canary" not in shown


def test_an_account_without_a_login_has_no_credentials() -> None:
    """And one in the clear gets none sent, whatever it says."""
    assert Logins({}).credentials_of(account(25)) is None
    with Dialogue(lambda peer: peer.greet("AUTH PLAIN XOAUTH2")) as server:
        opened = SmtpTransport(account(server.port), environ={}).connect()
        assert isinstance(opened, SmtpConnection)
    opened.close()
