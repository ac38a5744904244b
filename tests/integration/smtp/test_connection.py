"""Opening a connection: every failure on the way is an Answer that names the phase."""

import socket
from collections.abc import Callable
from dataclasses import replace

import pytest

from mailfleet import failpoints
from mailfleet_workers.secret import Secret
from mailfleet_workers.smtp.base import Phase, Reply
from mailfleet_workers.smtp.connection import SmtpConnection, SmtpTransport
from tests.integration.smtp.dialogue import (
    QUICK,
    Dialogue,
    Peer,
    account,
    connect,
    envelope,
    try_connect,
)
from tests.integration.smtp.login import login, refused


@pytest.mark.smtplib(7)
@pytest.mark.parametrize(
    ("script", "phase", "reply", "error"),
    [
        (lambda p: p.say("554 5.7.1 no"), Phase.CONNECT, Reply(554, "5.7.1 no"), None),
        (lambda p: p.say("421-busy", "421 later"), Phase.CONNECT, Reply(421, "busy\nlater"), None),
        (lambda p: p.say("250 hm"), Phase.CONNECT, None, "unexpected reply 250"),
        (lambda p: p.say("SSH-2.0-OpenSSH"), Phase.CONNECT, None, "unparsable reply"),
        (lambda p: None, Phase.CONNECT, None, "connection closed"),
        (lambda p: p.until_closed(), Phase.CONNECT, None, "timed out"),
        (lambda p: (p.say("220 x"), p.answer("ehlo", "421 4.7.0 later")), Phase.EHLO, Reply(421, "4.7.0 later"), None),
        (
            lambda p: (p.say("220 x"), p.answer("ehlo", "550 go away"), p.answer("helo", "550 really")),
            Phase.EHLO,
            Reply(550, "go away"),
            None,
        ),
        (lambda p: (p.say("220 x"), p.hear("ehlo")), Phase.EHLO, None, "connection closed"),
        (lambda p: (p.say("220 x"), p.hear("ehlo"), p.until_closed()), Phase.EHLO, None, "timed out"),
    ],
)  # fmt: skip
def test_a_server_that_does_not_greet_is_an_answer(
    script: Callable[[Peer], None], phase: Phase, reply: Reply | None, error: str | None
) -> None:
    """Refusal, nonsense, EOF and silence at the greeting or EHLO are told by phase, with the server's words."""
    with Dialogue(script) as server:
        answer = refused(try_connect(server, timeouts=replace(QUICK, connect=0.4, ehlo=0.4)))
    assert (answer.phase, answer.reply, answer.error) == (phase, reply, error)


def test_nobody_listening_is_an_answer() -> None:
    """A refused connection and a host without an address are silences of phase connect."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    answer = refused(SmtpTransport(account(port), environ={}).connect())
    assert (answer.phase, answer.error) == (Phase.CONNECT, "connection refused")
    unknown = account(port, host=f"{'a' * 64}.invalid")
    answer = refused(SmtpTransport(unknown, environ={}).connect())
    assert (answer.phase, answer.error) == (Phase.CONNECT, "host name not found")


def test_a_server_without_ehlo_is_greeted_with_helo() -> None:
    """502 to EHLO is followed by HELO, and nothing that needs an extension is used."""

    def script(peer: Peer) -> None:
        peer.say("220 old")
        peer.answer("ehlo client.example", "502 what")
        peer.answer("helo client.example", "250 hello")
        peer.accept_mail()
        peer.answer("QUIT", "221 bye")

    with Dialogue(script) as server:
        connection = connect(server)
        assert connection.transmit(envelope(), before_dot=lambda: True).accepted
        connection.close()
    assert server.lines("MAIL") == ["MAIL FROM:<me@example.com>"]


def test_without_a_name_the_address_literal_is_said() -> None:
    """Without a helo name we say a full host name or this connection's address, and asks no name server."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.answer("QUIT", "221 bye")

    with Dialogue(script) as server:
        connect(server, helo=None).close()
    (line,) = server.lines("ehlo")
    name = socket.gethostname()
    assert line.split()[1] in {name, "[127.0.0.1]"}
    assert "." in line


@pytest.mark.parametrize(
    ("settings", "phase", "key"),
    [
        ({"password": Secret("env:NOT_SET", key="accounts.default.password")}, Phase.AUTH, "NOT_SET"),
        ({"ca_file": "/nowhere/ca.pem"}, Phase.CONNECT, "accounts.default.ca_file"),
    ],
)
def test_a_setting_that_cannot_be_read_is_an_answer(
    settings: dict[str, object], phase: Phase, key: str
) -> None:
    """A missing secret or CA file names its key, and no connection is opened for it."""
    answer = refused(SmtpTransport(account(1, **login("implicit", **settings)), environ={}).connect())
    assert (answer.phase, answer.reply) == (phase, None)
    assert key in (answer.error or "")


def test_a_failing_failpoint_closes_the_socket() -> None:
    """An exception while opening leaves no connection behind."""
    failpoints.arm("after_connect", lambda: (_ for _ in ()).throw(ZeroDivisionError))

    def script(peer: Peer) -> None:
        peer.say("220 x")
        assert peer.until_closed() == b""

    try:
        with Dialogue(script) as server, pytest.raises(ZeroDivisionError):
            try_connect(server)
    finally:
        failpoints.disarm()


def test_alive_asks_the_server_once() -> None:
    """alive() says RSET; it is False after unasked words, after a close, and never raises."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.answer("rset", "250 ok")
        peer.hear("rset")
        peer.say("421 timeout")

    with Dialogue(script) as server:
        connection = connect(server)
        assert connection.alive()
        assert not connection.alive()
        connection.close()
        assert not connection.alive()
        assert isinstance(connection, SmtpConnection)
