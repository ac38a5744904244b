"""What is declared with MAIL, what is not sent at all, and how the body travels."""

import socket
import time

import pytest

from mailfleet_workers.smtp.base import Envelope, Phase
from mailfleet_workers.smtp.message import InMemory
from tests.integration.smtp.dialogue import Dialogue, Peer, connect, envelope, send_one


def test_dots_are_doubled_and_the_body_ends_once() -> None:
    """Lines that begin with a dot arrive doubled, and the one lone dot is ours."""
    message = b".\r\n..two\r\n\r\n.\r\n.\r\nend\r\n"
    wire = []

    def script(peer: Peer) -> None:
        peer.greet()
        wire.append(peer.accept_mail())
        peer.quit()

    with Dialogue(script) as server:
        assert send_one(server, envelope(message=message)).accepted
    assert wire == [b"..\r\n...two\r\n\r\n..\r\n..\r\nend\r\n.\r\n"]


@pytest.mark.smtplib(14)
def test_size_and_body_are_declared_where_offered() -> None:
    """SIZE counts the message without doubled dots; BODY=8BITMIME is said for 8-bit bodies only."""

    def script(peer: Peer) -> None:
        peer.greet("SIZE 1000", "8BITMIME")
        peer.accept_mail()
        peer.accept_mail()
        peer.quit()

    eight_bit = "Subject: x\r\n\r\n.Grüße\r\n".encode()
    with Dialogue(script) as server:
        connection = connect(server)
        for message in (b"Subject: hi\r\n\r\n.x\r\n", eight_bit):
            connection.transmit(envelope(message=message), before_dot=lambda: True)
        connection.close()
    assert server.lines("MAIL") == [
        "MAIL FROM:<me@example.com> SIZE=19",
        f"MAIL FROM:<me@example.com> SIZE={len(eight_bit)} BODY=8BITMIME",
    ]


@pytest.mark.smtplib(16)
def test_smtputf8_is_said_for_addresses_that_need_it() -> None:
    """A local part that is not ASCII travels as UTF-8, and the next mail's commands are ASCII again."""

    def script(peer: Peer) -> None:
        peer.greet("SMTPUTF8", "8BITMIME")
        peer.accept_mail()
        peer.accept_mail()
        peer.quit()

    with Dialogue(script) as server:
        connection = connect(server)
        assert connection.transmit(envelope("jörg@example.net"), before_dot=lambda: True).accepted
        assert connection.transmit(envelope(), before_dot=lambda: True).accepted
        connection.close()
    assert server.lines("MAIL") == ["MAIL FROM:<me@example.com> SMTPUTF8", "MAIL FROM:<me@example.com>"]
    assert server.lines("RCPT") == ["RCPT TO:<jörg@example.net>", "RCPT TO:<ada@example.net>"]


@pytest.mark.smtplib(14, 16, 20, 21)
@pytest.mark.parametrize(
    ("mail", "error"),
    [
        (
            envelope(message=b"x" * 2000 + b"\r\n"),
            "message of 2002 bytes exceeds the server's SIZE limit 1000",
        ),
        (envelope(message="Subject: x\r\n\r\nü\r\n".encode()), "8BITMIME"),
        (envelope("jörg@example.net"), "SMTPUTF8"),
        (envelope(message="To: jörg@example.net\r\n\r\n".encode()), "SMTPUTF8"),
        (envelope(message=b"bare\nLF\r\n"), "not canonical"),
        (envelope(message=b"bare\rCR\r\n"), "not canonical"),
        (envelope(message=b"\r\r\n"), "not canonical"),
        (envelope(message=b"NUL\0\r\n"), "not canonical"),
        (envelope(message=b"no end"), "not canonical"),
        (envelope("a@x.example>\r\nDATA"), "recipient 0"),
        (envelope("ä@x.example", "a@x.example> NOTIFY=NEVER"), "SMTPUTF8"),
        (envelope("a b@x.example"), "recipient 0"),
        (envelope("\ud800@x.example"), "recipient 0"),
        (envelope(sender="me@example.com>\n"), "sender"),
        (Envelope("me@example.com", (), InMemory(b"\r\n")), "no recipient"),
    ],
)
def test_what_the_server_could_never_take_is_not_sent(mail: Envelope, error: str) -> None:
    """A mail that breaks the server's stated limits or SMTP itself is refused here, and the connection goes on."""

    def script(peer: Peer) -> None:
        peer.greet("SIZE 1000")
        peer.quit()

    with Dialogue(script) as server:
        answer = send_one(server, mail)
    assert answer.refused_locally
    assert answer.phase is Phase.MAIL
    assert answer.reply is None
    assert answer.reusable
    assert error in (answer.error or "")


def test_the_null_sender_is_sent_as_such() -> None:
    """An empty envelope sender is MAIL FROM:<>."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.accept_mail()
        peer.quit()

    with Dialogue(script) as server:
        assert send_one(server, envelope(sender="")).accepted
    assert server.lines("MAIL") == ["MAIL FROM:<>"]


def test_the_lone_dot_does_not_wait_for_an_acknowledgement() -> None:
    """Fifty small mails take no 40 ms each: Nagle's algorithm is off."""

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        for _ in range(50):
            peer.accept_mail()
        peer.quit()

    with Dialogue(script) as server:
        connection = connect(server)
        wire = connection._wire.sock
        assert wire is not None
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        started = time.monotonic()
        for _ in range(50):
            assert connection.transmit(envelope(), before_dot=lambda: True).accepted
        took = time.monotonic() - started
        connection.close()
    assert took < 1.5
