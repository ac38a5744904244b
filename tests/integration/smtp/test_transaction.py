"""One transaction: accepted, refused, partly refused, withheld."""

import re
from collections.abc import Iterator

import pytest

from mailfleet import failpoints
from mailfleet_workers.smtp.base import Phase, Reply
from tests.integration.smtp.dialogue import Dialogue, Peer, connect, envelope, noting, send_one

_RCPT_LINE = re.compile(r"RCPT TO:<[^<>\s]+>( [A-Z]+=[!-~]+)*")


@pytest.fixture(autouse=True)
def _no_failpoints() -> Iterator[None]:
    yield
    failpoints.disarm()


def test_a_mail_is_accepted_and_the_final_reply_kept() -> None:
    """250 after the dot is an accepted Answer whose reply is the server's, and the connection stays usable."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.accept_mail()
        peer.quit()

    with Dialogue(script) as server:
        answer = send_one(server)
    assert answer.accepted
    assert answer.phase is Phase.EOD
    assert answer.reply == Reply(250, "2.0.0 Ok: queued as ABC123")
    assert answer.dot_sent
    assert answer.reusable
    assert answer.recipients == {"ada@example.net": Reply(250, "ok")}


@pytest.mark.smtplib(9)
def test_several_mails_travel_over_one_connection() -> None:
    """A connection carries mail after mail, refused ones between them, because RSET is said after a refusal."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.accept_mail()
        peer.answer("MAIL", "250 ok")
        peer.answer("RCPT", "250 ok")
        peer.answer("DATA", "451 4.3.0 not now")
        peer.answer("rset", "250 ok")
        peer.accept_mail()
        peer.quit()

    with Dialogue(script) as server:
        connection = connect(server)
        answers = [connection.transmit(envelope(), before_dot=lambda: True) for _ in range(3)]
        connection.close()
    assert [a.accepted for a in answers] == [True, False, True]
    assert answers[1].phase is Phase.DATA
    assert answers[1].reply == Reply(451, "4.3.0 not now")
    assert not answers[1].dot_sent


@pytest.mark.smtplib(17)
def test_commands_are_sent_at_once_where_pipelining_is_offered() -> None:
    """MAIL and the RCPTs arrive before the first of them is answered; DATA waits for an accepted recipient."""
    names = tuple(f"r{n}@example.net" for n in range(120))

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        for size in (50, 50, 21):
            for _ in range(size):
                peer.hear()
            peer.say(*["250 ok"] * size)
        peer.answer("DATA", "354 go")
        peer.body()
        peer.say("250 ok")
        peer.quit()

    with Dialogue(script) as server:
        answer = send_one(server, envelope(*names))
    assert answer.accepted
    assert tuple(answer.recipients) == names
    assert all(_RCPT_LINE.fullmatch(line) for line in server.lines("RCPT"))


@pytest.mark.smtplib(5)
@pytest.mark.parametrize("extensions", [(), ("PIPELINING",)])
def test_the_accepted_recipients_get_the_mail_when_others_are_refused(extensions: tuple[str, ...]) -> None:
    """A refused recipient does not stop the transaction, and every RCPT reply is reported by address."""

    def script(peer: Peer) -> None:
        peer.greet(*extensions)
        peer.answer("MAIL", "250 ok")
        for reply in ("250 ok", "550 5.1.1 unknown", "450 4.2.0 later"):
            peer.answer("RCPT", reply)
        peer.answer("DATA", "354 go")
        peer.body()
        peer.say("250 taken")
        peer.quit()

    with Dialogue(script) as server:
        answer = send_one(server, envelope("a@x.example", "b@x.example", "c@x.example"))
    assert answer.accepted
    assert {a: r.code for a, r in answer.recipients.items()} == {
        "a@x.example": 250,
        "b@x.example": 550,
        "c@x.example": 450,
    }


@pytest.mark.smtplib(4)
@pytest.mark.parametrize("extensions", [(), ("PIPELINING",)])
def test_data_is_not_said_when_every_recipient_is_refused(extensions: tuple[str, ...]) -> None:
    """All refused ends in phase RCPT with the last reply, RSET, and a connection that can be used again."""

    def script(peer: Peer) -> None:
        peer.greet(*extensions)
        peer.answer("MAIL", "250 ok")
        peer.answer("RCPT", "550 5.1.1 first")
        peer.answer("RCPT", "450 4.2.0 last")
        peer.answer("rset", "250 ok")
        peer.quit()

    with Dialogue(script) as server:
        answer = send_one(server, envelope("a@x.example", "b@x.example"))
    assert answer.phase is Phase.RCPT
    assert answer.reply == Reply(450, "4.2.0 last")
    assert len(answer.recipients) == 2
    assert answer.reusable
    assert server.lines("DATA") == []


@pytest.mark.smtplib(9)
@pytest.mark.parametrize("reply", ["451 4.3.0 later", "554 5.5.1 no", "552 5.3.4 too large"])
def test_a_refused_data_is_followed_by_rset(reply: str) -> None:
    """The next mail on that connection is not refused for the MAIL of the one before (503 nested MAIL)."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.answer("MAIL FROM:", "250 ok")
        peer.answer("RCPT TO:", "250 ok")
        peer.answer("DATA", reply)
        peer.answer("rset", "250 ok")
        peer.accept_mail()
        peer.quit()

    with Dialogue(script) as server:
        connection = connect(server)
        first = connection.transmit(envelope(), before_dot=lambda: True)
        second = connection.transmit(envelope(), before_dot=lambda: True)
        connection.close()
    assert (first.phase, first.reply and first.reply.code) == (Phase.DATA, int(reply[:3]))
    assert first.reusable
    assert second.accepted
    assert server.connections == 1


@pytest.mark.smtplib(9)
@pytest.mark.parametrize("said", ["421 4.3.0 closing", "503 5.5.1 no", "250 ok\r\n250 and more"])
def test_a_connection_whose_rset_went_wrong_is_not_used_again(said: str) -> None:
    """RSET proves that the conversation is in order; without that the next mail has a new connection."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.answer("MAIL FROM:", "250 ok")
        peer.answer("RCPT TO:", "250 ok")
        peer.answer("DATA", "451 4.3.0 later")
        peer.answer("rset", said)
        peer.until_closed()

    with Dialogue(script) as server:
        answer = send_one(server, envelope())
    assert answer.reply == Reply(451, "4.3.0 later")
    assert not answer.reusable


@pytest.mark.smtplib(9, 17)
def test_a_refused_sender_leaves_a_pipelined_connection_in_order() -> None:
    """After a refused MAIL the replies to the RCPTs sent along are read and not taken for anything else."""

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        for _ in range(3):
            peer.hear()
        peer.say("550 5.7.1 not you", "503 no", "503 no")
        peer.answer("rset", "250 ok")
        for _ in range(2):
            peer.hear()
        peer.say("250 ok", "250 ok")
        peer.answer("DATA", "354 go")
        peer.body()
        peer.say("250 ok")
        peer.quit()

    with Dialogue(script) as server:
        connection = connect(server)
        first = connection.transmit(envelope("a@x.example", "b@x.example"), before_dot=lambda: True)
        second = connection.transmit(envelope(), before_dot=lambda: True)
        connection.close()
    assert (first.phase, first.reply) == (Phase.MAIL, Reply(550, "5.7.1 not you"))
    assert first.recipients == {}
    assert first.reusable
    assert second.accepted


def test_a_mail_that_is_no_longer_ours_is_withheld() -> None:
    """`before_dot` saying no closes the connection without the dot and without QUIT."""
    said = []

    def script(peer: Peer) -> None:
        peer.greet()
        peer.answer("MAIL", "250 ok")
        peer.answer("RCPT", "250 ok")
        peer.answer("DATA", "354 go")
        said.append(peer.until_closed())

    with Dialogue(script) as server:
        connection = connect(server)
        answer = connection.transmit(envelope(), before_dot=lambda: False)
        connection.close()
    assert answer.withheld
    assert not answer.dot_sent
    assert answer.reply is None
    assert not answer.reusable
    assert said == [b"Subject: hi\r\n\r\nHello\r\n"]


def test_an_exception_in_before_dot_leaves_without_the_dot() -> None:
    """A bug in the caller propagates, and the server gets neither dot nor QUIT."""
    said = []

    def script(peer: Peer) -> None:
        peer.greet()
        peer.answer("MAIL", "250 ok")
        peer.answer("RCPT", "250 ok")
        peer.answer("DATA", "354 go")
        said.append(peer.until_closed())

    def fail() -> bool:
        raise ZeroDivisionError

    with Dialogue(script) as server:
        connection = connect(server)
        with pytest.raises(ZeroDivisionError):
            connection.transmit(envelope(), before_dot=fail)
        connection.close()
    assert said == [b"Subject: hi\r\n\r\nHello\r\n"]


def test_failpoints_are_passed_in_order_around_before_dot() -> None:
    """after_connect, after_mail, after_body, `before_dot`, then after_dot with the dot on its way."""
    passed: list[str] = []
    for name in ("after_connect", "after_mail", "after_body", "after_dot"):
        failpoints.arm(name, lambda name=name: passed.append(name))  # type: ignore[misc] # binds the loop's name

    def script(peer: Peer) -> None:
        peer.greet()
        peer.accept_mail()
        peer.quit()

    with Dialogue(script) as server:
        connection = connect(server)
        connection.transmit(envelope(), before_dot=noting(passed))
        connection.close()
    assert passed == ["after_connect", "after_mail", "after_body", "before_dot", "after_dot"]


@pytest.mark.smtplib(12)
@pytest.mark.parametrize("quit_reply", ["421 closing", "500 what", ""])
def test_what_is_said_to_quit_does_not_matter(quit_reply: str) -> None:
    """An accepted mail stays accepted, and close() returns, when QUIT is refused or met with EOF."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.accept_mail()
        peer.hear("QUIT")
        if quit_reply:
            peer.say(quit_reply)

    with Dialogue(script) as server:
        assert send_one(server).accepted
