"""Faults of the standard library's client that no other test meets: each against a server that provokes it."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from mailfleet_workers.catcher import Action, Catcher, Endless, Event, Long, MemoryStore, Plan, Raw, Say, Step
from mailfleet_workers.smtp.base import Answer, Phase, Reply
from mailfleet_workers.smtp.connection import SmtpConnection, SmtpTransport
from tests.integration.smtp.branch import account
from tests.integration.smtp.dialogue import (
    Dialogue,
    Peer,
    connect,
    envelope,
    send_one,
    server_context,
    try_connect,
)
from tests.integration.smtp.login import login, refused, starttls

AGREE: Callable[[], bool] = lambda: True  # noqa: E731 - shorter than a function


@pytest.mark.smtplib(2)
@pytest.mark.parametrize("after", [Peer.close, Peer.reset, Peer.until_closed])
@pytest.mark.parametrize("reply", [Reply(535, "5.7.8 abnormal"), Reply(421, "4.7.0 too many logins")])
def test_a_refused_login_is_heard_whatever_follows(reply: Reply, after: Callable[[Peer], object]) -> None:
    """The reply to AUTH is the Answer's, also when the connection ends right behind it."""

    def script(peer: Peer) -> None:
        starttls(peer, "AUTH PLAIN")
        peer.answer("AUTH PLAIN", f"{reply.code} {reply.text}")
        if after is Peer.reset:
            # Only when the client has read: a reset throws away what is under way.
            peer.until_closed()
        after(peer)

    with Dialogue(script) as server:
        answer = refused(try_connect(server, **login()))
    assert (answer.phase, answer.reply) == (Phase.AUTH, reply)


@pytest.mark.smtplib(8)
def test_421_to_data_closes_the_socket() -> None:
    """The descriptor is closed before the Answer is there, and the server sees the end."""
    ended: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet()
        peer.answer("MAIL", "250 ok")
        peer.answer("RCPT", "250 ok")
        peer.answer("DATA", "421 4.3.2 going down")
        ended.append(peer.until_closed())

    with Dialogue(script) as server:
        connection = connect(server)
        sock = connection._wire.sock
        assert isinstance(sock, socket.socket)
        answer = connection.transmit(envelope(), before_dot=AGREE)
        assert sock.fileno() == -1
        assert connection._wire.sock is None
    assert (answer.phase, answer.reply) == (Phase.DATA, Reply(421, "4.3.2 going down"))
    assert ended == [b""]


@pytest.mark.smtplib(9)
@pytest.mark.parametrize("said", [Say(451, "4.3.0 not now"), Say(554, "5.6.0 no"), Say(452, "4.3.1 full")])
def test_the_next_mail_passes_after_a_refused_data(said: Say) -> None:
    """RSET is said after anything but 354, and the same connection takes the next mail."""
    asked: list[Step] = []
    plan = Plan({Step.DATA: [said]})

    def script(event: Event) -> Action:
        asked.append(event.step)
        return plan(event)

    store = MemoryStore()
    with Catcher(store, script) as catcher:
        connection = _open(catcher.port)
        first = connection.transmit(envelope("ada@example.net"), before_dot=AGREE)
        second = connection.transmit(envelope("bob@example.net"), before_dot=AGREE)
        connection.close()
        assert catcher.sessions_seen == 1
    assert (first.phase, first.reply, first.reusable) == (Phase.DATA, Reply(said.code, said.text), True)
    assert second.accepted
    assert [receipt.recipients for receipt in store] == [("bob@example.net",)]
    one = [Step.MAIL, Step.RCPT, Step.DATA]
    assert asked[2:9] == [*one, Step.RSET, *one]


@pytest.mark.smtplib(9)
def test_no_354_is_no_permission() -> None:
    """250 to DATA is not understood: no body is sent, and the connection, whose state nobody knows, is left."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.answer("MAIL", "250 ok")
        peer.answer("RCPT", "250 ok")
        peer.answer("DATA", "250 ok")
        assert peer.until_closed() == b""

    with Dialogue(script) as server:
        answer = send_one(server)
    assert (answer.phase, answer.reply, answer.reusable) == (Phase.DATA, None, False)


#: What cannot be read, or has no end.
UNREADABLE: dict[str, Action] = {
    "no code": Raw(b"hello there\r\n"),
    "code 999": Raw(b"999 what\r\n"),
    "code 25": Raw(b"25\r\n"),
    "binary": Raw(bytes(range(256)) * 20 + b"\r\n"),
    "two codes": Raw(b"250-one\r\n550 two\r\n"),
    "long": Long(),
    "endless": Endless(),
}
PHASES = {
    Step.CONNECT: Phase.CONNECT,
    Step.EHLO: Phase.EHLO,
    Step.STARTTLS: Phase.EHLO,
    Step.CHALLENGE: Phase.AUTH,
    Step.AUTH: Phase.AUTH,
    Step.MAIL: Phase.MAIL,
    Step.RCPT: Phase.RCPT,
    Step.DATA: Phase.DATA,
    Step.EOD: Phase.EOD,
}


@pytest.mark.smtplib(3, 13)
@pytest.mark.parametrize("what", UNREADABLE)
@pytest.mark.parametrize("step", PHASES)
def test_what_cannot_be_read_is_no_reply(step: Step, what: str) -> None:
    """In every phase (`test_outage_table` has the body) it is an Answer without a reply: no exception, no code -1, no code 500, no second use."""
    secure = step in {Step.STARTTLS, Step.CHALLENGE, Step.AUTH}
    with Catcher(
        MemoryStore(),
        Plan({step: [UNREADABLE[what]]}),
        tls=server_context("localhost") if secure else None,
        auth=secure,
        mechanisms=("LOGIN",),
    ) as catcher:
        answer = _try(catcher.port, **(login() if secure else {}))
        assert catcher.faults == ()
    assert answer.phase is PHASES[step]
    assert answer.dot_sent is (step is Step.EOD)
    assert not answer.reusable
    if step is Step.EOD and what in {"long", "endless"}:
        # Its code was certain, and the server has the mail.
        assert answer.reply is not None
        assert answer.reply.code == 250
    else:
        assert answer.reply is None
        assert answer.error in {"unparsable reply", "reply too long"}


@pytest.mark.smtplib(21)
@pytest.mark.parametrize(
    "shape",
    [
        b"\r.\r\n",
        b"\r.\r",
        b"\r\r\n.\r\n",
        b"\r\n.\r\r\n",
        b"\r\n.\r",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\n.\n",
        b"\r\0.\r\n",
    ],
)
def test_a_second_mail_cannot_be_smuggled(shape: bytes) -> None:
    """Ends of data that careless servers see in bare CR and LF never leave, not even as far as MAIL."""
    smuggled = b"MAIL FROM:<e@x.example>\r\nRCPT TO:<f@x.example>\r\nDATA\r\n\r\n"
    store = MemoryStore()
    with Catcher(store, lenient=True) as catcher:
        connection = _open(catcher.port)
        answer = connection.transmit(
            envelope(message=b"Subject: x\r\n\r\nx" + shape + smuggled + b"\r\n"), before_dot=AGREE
        )
        assert (answer.refused_locally, answer.phase, answer.dot_sent) == (True, Phase.MAIL, False)
        assert connection.transmit(envelope(), before_dot=AGREE).accepted
        connection.close()
    assert len(store) == 1


def _open(port: int, **settings: Any) -> SmtpConnection:
    opened = SmtpTransport(account("default", port, **settings), environ={}).connect()
    assert isinstance(opened, SmtpConnection), opened
    return opened


def _try(port: int, **settings: Any) -> Answer:
    """Connect and send one mail; where it ended."""
    if settings:
        settings["host"] = "localhost"
    opened = SmtpTransport(account("default", port, **settings), environ={}).connect()
    if isinstance(opened, Answer):
        return opened
    answer = opened.transmit(envelope(), before_dot=AGREE)
    opened.close()
    return answer
