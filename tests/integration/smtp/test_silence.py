"""What is told when a server falls silent, vanishes, talks nonsense or speaks out of turn, phase by phase."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from mailfleet_workers.smtp.base import Phase, Reply
from tests.integration.smtp.dialogue import QUICK, Dialogue, Peer, connect, envelope, noting, send_one


def _cut_at(step: str, how: Callable[[Peer], None]) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.greet()
        for verb, reply in (("MAIL", "250 ok"), ("RCPT", "250 ok"), ("DATA", "354 go")):
            peer.hear(verb)
            if verb == step:
                how(peer)
                return
            peer.say(reply)
        peer.body()
        how(peer)

    return script


def _silence(peer: Peer) -> None:
    peer.until_closed()


def _say_421(peer: Peer) -> None:
    peer.say("421 4.3.2 going down")
    peer.until_closed()


@pytest.mark.smtplib(10, 18)
@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "EOD"])
@pytest.mark.parametrize(
    ("how", "seen"),
    [
        (Peer.close, {"connection closed", "connection reset"}),
        (Peer.reset, {"connection reset"}),
        (_silence, {"timed out"}),
    ],
)
def test_the_phase_of_a_silence_is_told(step: str, how: Callable[[Peer], None], seen: set[str]) -> None:
    """EOF, RST and a timeout end in the phase where they happened, and only the dot makes them doubtful."""
    quick = replace(QUICK, command=0.3, data=0.3, dot=0.3)
    with Dialogue(_cut_at(step, how)) as server:
        answer = connect(server, timeouts=quick).transmit(envelope(), before_dot=lambda: True)
    assert answer.phase is Phase(step.lower())
    assert answer.reply is None
    assert answer.error in seen
    assert answer.dot_sent is (step == "EOD")
    assert not answer.reusable


@pytest.mark.smtplib(8)
@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "EOD"])
def test_421_is_a_reply_and_ends_the_connection(step: str) -> None:
    """421 at any command is kept as the reply that ended it; nothing more is said on that connection."""
    with Dialogue(_cut_at(step, _say_421)) as server:
        connection = connect(server)
        answer = connection.transmit(envelope(), before_dot=lambda: True)
        again = connection.transmit(envelope(), before_dot=lambda: True)
        connection.close()
    assert answer.phase is Phase(step.lower())
    assert answer.reply == Reply(421, "4.3.2 going down")
    assert not answer.reusable
    assert (again.phase, again.reply, again.error) == (Phase.MAIL, None, "connection closed")
    assert server.lines("QUIT") == []
    assert server.lines("rset") == []


@pytest.mark.smtplib(6)
def test_421_to_one_recipient_ends_the_mail_for_all() -> None:
    """With 421 to a later RCPT nothing was sent, although an earlier one had 250."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.answer("MAIL", "250 ok")
        peer.answer("RCPT", "250 ok")
        peer.answer("RCPT", "421 too many")
        peer.until_closed()

    with Dialogue(script) as server:
        answer = connect(server).transmit(
            envelope("a@x.example", "b@x.example", "c@x.example"), before_dot=lambda: True
        )
    assert (answer.phase, answer.reply) == (Phase.RCPT, Reply(421, "too many"))
    assert answer.recipients == {"a@x.example": Reply(250, "ok")}
    assert not answer.accepted


@pytest.mark.smtplib(11)
@pytest.mark.parametrize("after", [Peer.close, Peer.reset, Peer.until_closed])
def test_a_refusal_in_the_middle_of_a_large_body_is_heard(after: Callable[[Peer], object]) -> None:
    """552 while the body is still coming in is the Answer's reply, whatever the server does next."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.answer("MAIL", "250 ok")
        peer.answer("RCPT", "250 ok")
        peer.answer("DATA", "354 go")
        peer.hear("Subject")
        peer.say("552 5.3.4 too large")
        if after is Peer.reset:
            # Reset only once the client has read, as a server does that lingers (RFC 1122 4.2.2.13).
            peer.until_closed()
        after(peer)

    body = b"Subject: large\r\n\r\n" + b"x" * 76 + b"\r\n"
    with Dialogue(script) as server:
        answer = connect(server).transmit(
            envelope(message=body + (b"x" * 76 + b"\r\n") * 200_000), before_dot=lambda: True
        )
    assert (answer.phase, answer.reply) == (Phase.DATA, Reply(552, "5.3.4 too large"))
    assert not answer.dot_sent
    assert not answer.reusable


def test_a_refusal_before_the_dot_keeps_the_dot_back() -> None:
    """What the server says between the body and the dot is heard, and neither `before_dot` nor the dot follows."""
    asked: list[str] = []
    said = []

    def script(peer: Peer) -> None:
        peer.greet()
        peer.answer("MAIL", "250 ok")
        peer.answer("RCPT", "250 ok")
        peer.answer("DATA", "354 go", "554 5.7.1 on second thoughts")
        said.append(peer.until_closed())

    with Dialogue(script) as server:
        connection = connect(server)
        answer = connection.transmit(envelope(), before_dot=noting(asked))
        connection.close()
    assert (answer.phase, answer.reply) == (Phase.DATA, Reply(554, "5.7.1 on second thoughts"))
    assert asked == []
    assert b"\r\n.\r\n" not in said[0]


def test_a_connection_that_ended_during_before_dot_is_no_doubt() -> None:
    """A server that gives up while `before_dot` works has certainly no mail: no dot is sent after its FIN."""
    gone: list[bool] = []

    def script(peer: Peer) -> None:
        peer.greet()
        peer.answer("MAIL", "250 ok")
        peer.answer("RCPT", "250 ok")
        peer.answer("DATA", "354 go")
        peer.hear("Subject")
        peer.hear("")
        peer.hear("Hello")
        peer.say("421 4.4.2 timeout")
        peer.close()
        gone.append(True)

    with Dialogue(script) as server:
        connection = connect(server)

        def slow() -> bool:
            end = time.monotonic() + 5
            while not gone and time.monotonic() < end:
                time.sleep(0.01)
            return True

        answer = connection.transmit(envelope(), before_dot=slow)
    assert (answer.phase, answer.reply) == (Phase.DATA, Reply(421, "4.4.2 timeout"))
    assert not answer.dot_sent


@pytest.mark.smtplib(13)
@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"hello there\r\n", "unparsable reply"),
        (b"999 no such code\r\n", "unparsable reply"),
        (b"250-one\r\n550 two\r\n", "unparsable reply"),
        (b"354 again\r\n", "unexpected reply 354 to the final dot"),
        (b"2", "timed out"),
        (b"250 cut off", "timed out"),
        (b"\0" * 5000, "unparsable reply"),
    ],
)
def test_nonsense_after_the_dot_is_no_reply(said: bytes, error: str) -> None:
    """What cannot be understood after the dot leaves the outcome open: no reply, and the dot was sent."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.answer("MAIL", "250 ok")
        peer.answer("RCPT", "250 ok")
        peer.answer("DATA", "354 go")
        peer.body()
        peer.say_bytes(said)
        peer.until_closed()

    with Dialogue(script) as server:
        answer = connect(server, timeouts=replace(QUICK, dot=0.4)).transmit(
            envelope(), before_dot=lambda: True
        )
    assert answer.reply is None
    assert answer.error == error
    assert answer.dot_sent
    assert not answer.reusable


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"250-2.0.0 Ok\r\n", 250),
        (b"550-5.7.1 no\r\n550-because\r\n", 550),
        (b"250 " + b"x" * 5000 + b"\r\n", 250),
        (b"554-" + b"y" * 100_000 + b"\r\n", 554),
        (b"".join(b"552-line %d\r\n" % n for n in range(20_000)), 552),
    ],
)
def test_a_reply_that_breaks_off_or_never_ends_still_has_its_code(said: bytes, code: int) -> None:
    """Every line of a reply carries its code, so a cut or endless reply decides the outcome, not the connection."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.answer("MAIL", "250 ok")
        peer.answer("RCPT", "250 ok")
        peer.answer("DATA", "354 go")
        peer.body()
        peer.say_bytes(said)
        peer.close()

    with Dialogue(script) as server:
        answer = connect(server).transmit(envelope(), before_dot=lambda: True)
    assert answer.reply is not None
    assert answer.reply.code == code
    assert len(answer.reply.text) <= 70_000
    assert not answer.reusable


@pytest.mark.smtplib(18)
def test_a_server_that_drips_its_reply_is_left_in_time() -> None:
    """The deadline is for the whole reply: bytes that keep coming do not prolong it."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.hear("MAIL")
        try:
            while True:
                peer.say_bytes(b"2")
                time.sleep(0.05)
        except ConnectionError:
            pass

    with Dialogue(script) as server:
        started = time.monotonic()
        answer = connect(server, timeouts=replace(QUICK, command=0.5)).transmit(
            envelope(), before_dot=lambda: True
        )
    assert answer.error == "timed out"
    assert 0.4 < time.monotonic() - started < 3


def test_control_characters_of_a_reply_are_replaced() -> None:
    """Text from a server holds no NUL, escape sequence or line separator, and is never undecodable."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.hear("MAIL")
        peer.say_bytes(b"550-\x1b[31mred\0\xff\r\n550 second\r\n")
        peer.answer("rset", "250 ok")
        peer.quit()

    with Dialogue(script) as server:
        answer = send_one(server)
    assert answer.reply == Reply(550, "\ufffd[31mred\ufffd\ufffd\nsecond")
