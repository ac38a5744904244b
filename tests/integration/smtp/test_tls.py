"""TLS in both modes: verified, not stripped, not injected into."""

import ssl

import pytest

from mailfleet_workers.smtp.base import Phase, Reply
from tests.integration.smtp.dialogue import (
    Dialogue,
    Peer,
    server_context,
    try_connect,
)
from tests.integration.smtp.login import USER, login, refused


def test_starttls_that_is_not_offered_ends_the_conversation() -> None:
    """A stripped STARTTLS is no reason to go on in the clear: neither AUTH nor MAIL follows."""

    def script(peer: Peer) -> None:
        peer.greet("AUTH PLAIN")
        assert peer.until_closed() == b""

    with Dialogue(script) as server:
        answer = refused(try_connect(server, **login()))
    assert (answer.phase, answer.error) == (Phase.EHLO, "TLS: the server does not offer STARTTLS")


def test_a_refused_starttls_ends_the_conversation() -> None:
    """454 to STARTTLS is an Answer of phase ehlo."""

    def script(peer: Peer) -> None:
        peer.greet("STARTTLS", "AUTH PLAIN")
        peer.answer("STARTTLS", "454 4.7.0 not now")
        assert peer.until_closed() == b""

    with Dialogue(script) as server:
        answer = refused(try_connect(server, **login()))
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
        answer = refused(try_connect(server, **login()))
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
        answer = refused(try_connect(server, **login()))
    assert "no AUTH mechanism" in (answer.error or "")


@pytest.mark.smtplib(19)
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
        answer = refused(try_connect(server, **login(tls)))
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
        answer = refused(try_connect(server, **login("implicit")))
    assert (answer.phase, answer.reply) == (Phase.CONNECT, None)
    assert (answer.error or "").startswith(("TLS: ", "connection "))


def test_a_plain_server_behind_implicit_tls_is_an_answer() -> None:
    """Plain text where TLS was expected is a silence of phase connect, and tells nothing of the account."""

    def script(peer: Peer) -> None:
        peer.say("220 plain")
        assert USER.encode() not in peer.until_closed()

    with Dialogue(script) as server:
        answer = refused(try_connect(server, **login("implicit")))
    assert answer.phase is Phase.CONNECT
    assert (answer.error or "").startswith("TLS: ")
