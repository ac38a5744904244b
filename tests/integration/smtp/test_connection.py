"""Opening a connection: greeting, EHLO, TLS, AUTH; every failure is an Answer, and no secret is in it."""

import base64
import gc
import hmac
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace

import pytest

from mailfleet import failpoints
from mailfleet_workers.account import Secret
from mailfleet_workers.smtp.base import Answer, Phase, Reply
from mailfleet_workers.smtp.connection import SmtpConnection, SmtpTransport
from tests.integration.smtp.dialogue import (
    AUTHORITY,
    QUICK,
    Dialogue,
    Peer,
    account,
    connect,
    envelope,
    server_context,
    try_connect,
)

USER, PASSWORD = "canary-user", "canary-pässword"


def _login(tls: str = "starttls", **more: object) -> dict[str, object]:
    return {
        "tls": tls,
        "ca_file": AUTHORITY,
        "username": USER,
        "password": Secret.literal(PASSWORD),
        **more,
    }


def _starttls(peer: Peer, *extensions: str) -> None:
    peer.greet("STARTTLS")
    peer.answer("STARTTLS", "220 go")
    peer.encrypt()
    peer.ehlo(*extensions)


def _refused(opened: object) -> Answer:
    assert isinstance(opened, Answer), opened
    assert not opened.dot_sent
    assert not opened.reusable
    return opened


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
        answer = _refused(try_connect(server, timeouts=replace(QUICK, connect=0.4, ehlo=0.4)))
    assert (answer.phase, answer.reply, answer.error) == (phase, reply, error)


def test_nobody_listening_is_an_answer() -> None:
    """A refused connection and a host without an address are silences of phase connect."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    answer = _refused(SmtpTransport(account(port), environ={}).connect())
    assert (answer.phase, answer.error) == (Phase.CONNECT, "connection refused")
    unknown = account(port, host=f"{'a' * 64}.invalid")
    answer = _refused(SmtpTransport(unknown, environ={}).connect())
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


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_login_is_made_inside_tls(tls: str, mechanism: str) -> None:
    """Each mechanism logs in after the handshake, in both TLS modes, and a mail passes."""
    seen: list[bytes] = []

    def heard(line: str) -> bytes:
        return base64.b64decode(line.rpartition(" ")[2])

    def script(peer: Peer) -> None:
        if tls == "implicit":
            peer.encrypt()
            peer.greet(f"AUTH {mechanism} XOAUTH2")
        else:
            _starttls(peer, f"AUTH {mechanism} XOAUTH2")
        line = peer.hear(f"AUTH {mechanism}")
        match mechanism:
            case "PLAIN":
                seen.extend(heard(line).split(b"\0"))
            case "LOGIN":
                peer.say("334 VXNlcm5hbWU6")
                seen.append(heard(peer.hear()))
                peer.say("334 UGFzc3dvcmQ6")
                seen.append(heard(peer.hear()))
            case _:
                peer.say("334 " + base64.b64encode(b"<1@test>").decode())
                seen.append(heard(peer.hear()))
        peer.say("235 2.7.0 ok")
        peer.accept_mail()
        peer.answer("QUIT", "221 bye")

    with Dialogue(script) as server:
        connection = connect(server, **_login(tls))
        assert connection.transmit(envelope(), before_dot=lambda: True).accepted
        connection.close()
    digest = hmac.new(PASSWORD.encode(), b"<1@test>", "md5").hexdigest()
    expected = {
        "PLAIN": [b"", USER.encode(), PASSWORD.encode()],
        "LOGIN": [USER.encode(), PASSWORD.encode()],
        "CRAM-MD5": [f"{USER} {digest}".encode()],
    }
    assert seen == expected[mechanism]


@pytest.mark.parametrize("after", [Peer.close, Peer.until_closed])
def test_a_refused_login_keeps_the_reply_and_is_tried_once(after: Callable[[Peer], object]) -> None:
    """535 followed by a close is not lost, and one wrong password costs one AUTH command."""

    def script(peer: Peer) -> None:
        _starttls(peer, "AUTH CRAM-MD5 PLAIN LOGIN")
        peer.answer("AUTH PLAIN", "535-Login fail.", "535 Account is abnormal")
        after(peer)

    with Dialogue(script) as server:
        answer = _refused(try_connect(server, **_login()))
    assert (answer.phase, answer.reply) == (Phase.AUTH, Reply(535, "Login fail.\nAccount is abnormal"))
    assert len(server.lines("AUTH")) == 1


def test_credentials_that_a_server_repeats_are_blotted_out() -> None:
    """User name and password, plain or encoded, are not in the Answer when the server quotes them."""

    def script(peer: Peer) -> None:
        _starttls(peer, "AUTH PLAIN")
        line = peer.hear("AUTH PLAIN ").removeprefix("AUTH PLAIN ")
        encoded = base64.b64encode(PASSWORD.encode()).decode()
        peer.say(f"535 no {USER} with {PASSWORD} ({encoded}) in {line}")

    with Dialogue(script) as server:
        answer = _refused(try_connect(server, **_login()))
    assert answer.reply == Reply(535, "no *** with *** (***) in ***")


def test_a_third_question_during_login_is_declined() -> None:
    """334 after the last answer is met with "*", and the reply to that is the Answer's."""

    def script(peer: Peer) -> None:
        _starttls(peer, "AUTH LOGIN")
        for _ in range(3):
            peer.hear()
            peer.say("334 ")
        peer.answer("*", "501 cancelled")

    with Dialogue(script) as server:
        answer = _refused(try_connect(server, **_login()))
    assert answer.reply == Reply(501, "cancelled")


def test_a_server_without_a_known_mechanism_gets_no_credentials() -> None:
    """Where none of our mechanisms is offered AUTH is not said at all."""

    def script(peer: Peer) -> None:
        _starttls(peer, "AUTH GSSAPI NTLM")
        assert peer.until_closed() == b""

    with Dialogue(script) as server:
        answer = _refused(try_connect(server, **_login()))
    assert (answer.phase, answer.reply) == (Phase.AUTH, None)
    assert "no AUTH mechanism" in (answer.error or "")


def test_starttls_that_is_not_offered_ends_the_conversation() -> None:
    """A stripped STARTTLS is no reason to go on in the clear: neither AUTH nor MAIL follows."""

    def script(peer: Peer) -> None:
        peer.greet("AUTH PLAIN")
        assert peer.until_closed() == b""

    with Dialogue(script) as server:
        answer = _refused(try_connect(server, **_login()))
    assert (answer.phase, answer.error) == (Phase.EHLO, "TLS: the server does not offer STARTTLS")


def test_a_refused_starttls_ends_the_conversation() -> None:
    """454 to STARTTLS is an Answer of phase ehlo."""

    def script(peer: Peer) -> None:
        peer.greet("STARTTLS", "AUTH PLAIN")
        peer.answer("STARTTLS", "454 4.7.0 not now")
        assert peer.until_closed() == b""

    with Dialogue(script) as server:
        answer = _refused(try_connect(server, **_login()))
    assert (answer.phase, answer.reply) == (Phase.EHLO, Reply(454, "4.7.0 not now"))


@pytest.mark.parametrize("glued", ["250 injected\r\n", "250-injected\r\n250 AUTH PLAIN\r\n"])
def test_bytes_before_the_handshake_are_refused(glued: str) -> None:
    """Replies that arrive together with the 220 to STARTTLS never become replies to commands inside TLS."""

    def script(peer: Peer) -> None:
        peer.greet("STARTTLS", "AUTH PLAIN")
        peer.hear("STARTTLS")
        peer.say_bytes(f"220 go\r\n{glued}".encode())
        assert peer.until_closed() == b""

    with Dialogue(script) as server:
        answer = _refused(try_connect(server, **_login()))
    assert (answer.phase, answer.error) == (Phase.EHLO, "TLS: bytes arrived before the handshake")


def test_what_was_offered_before_tls_is_forgotten() -> None:
    """AUTH offered before the handshake only is not used after it (RFC 3207 4.2)."""

    def script(peer: Peer) -> None:
        peer.greet("STARTTLS", "AUTH PLAIN")
        peer.answer("STARTTLS", "220 go")
        peer.encrypt()
        peer.ehlo()
        assert peer.until_closed() == b""

    with Dialogue(script) as server:
        answer = _refused(try_connect(server, **_login()))
    assert "no AUTH mechanism" in (answer.error or "")


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        ("expired", "certificate has expired"),
        ("elsewhere", "mismatch"),
        ("selfsigned", "self-signed certificate"),
    ],
)
def test_a_certificate_that_does_not_verify_ends_the_conversation(
    tls: str, certificate: str, said: str
) -> None:
    """Expired, foreign and self-signed certificates are refused before AUTH, in both TLS modes."""

    def script(peer: Peer) -> None:
        if tls == "starttls":
            peer.greet("STARTTLS")
            peer.answer("STARTTLS", "220 go")
        with pytest.raises(ssl.SSLError):
            peer.encrypt(certificate)

    with Dialogue(script) as server:
        answer = _refused(try_connect(server, **_login(tls)))
    assert answer.phase is (Phase.CONNECT if tls == "implicit" else Phase.EHLO)
    assert answer.reply is None
    assert (answer.error or "").startswith("TLS: certificate verify failed: ")
    assert said in (answer.error or "").replace("self signed", "self-signed")
    assert server.lines("AUTH") == []


def test_an_old_tls_version_is_refused() -> None:
    """A server that speaks TLS 1.1 at most gets no handshake."""
    context = server_context("localhost")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1

    def script(peer: Peer) -> None:
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(peer._sock, server_side=True)

    with Dialogue(script) as server:
        answer = _refused(try_connect(server, **_login("implicit")))
    assert (answer.phase, answer.reply) == (Phase.CONNECT, None)
    assert (answer.error or "").startswith(("TLS: ", "connection "))


def test_a_plain_server_behind_implicit_tls_is_an_answer() -> None:
    """Plain text where TLS was expected is a silence of phase connect, and tells nothing of the account."""

    def script(peer: Peer) -> None:
        peer.say("220 plain")
        assert USER.encode() not in peer.until_closed()

    with Dialogue(script) as server:
        answer = _refused(try_connect(server, **_login("implicit")))
    assert answer.phase is Phase.CONNECT
    assert (answer.error or "").startswith("TLS: ")


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
    answer = _refused(SmtpTransport(account(1, **_login("implicit", **settings)), environ={}).connect())
    assert (answer.phase, answer.reply) == (phase, None)
    assert key in (answer.error or "")


def test_the_credentials_are_in_no_log_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """After a refused login neither logs, the Answer, the account nor any exception alive shows them."""

    def script(peer: Peer) -> None:
        _starttls(peer, "AUTH PLAIN LOGIN")
        peer.answer("AUTH PLAIN", "535 no")

    with caplog.at_level(logging.DEBUG), Dialogue(script) as server:
        settings = _login()
        answer = _refused(try_connect(server, **settings))
        shown = repr(answer) + repr(account(1, **settings)) + caplog.text
    shown += "".join(repr(o) for o in gc.get_objects() if isinstance(o, BaseException))
    encoded = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
    assert not [value for value in (USER, PASSWORD, encoded) if value in shown]


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
