"""One transaction against servers that keep to the rules, refuse, fall silent and vanish, phase by phase."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from mailfleet import failpoints
from mailfleet_workers.smtp.base import Envelope, Phase, Reply
from tests.integration.smtp.dialogue import QUICK, Dialogue, Peer, connect, envelope, noting, send_one

_RCPT_LINE = re.compile(r"RCPT TO:<[^<>\s]+>( [A-Z]+=[!-~]+)*")


@pytest.fixture(autouse=True)
def _no_failpoints() -> Iterator[None]:
    yield
    failpoints.disarm()


def _quit(peer: Peer) -> None:
    peer.answer("QUIT", "221 bye")


def test_a_mail_is_accepted_and_the_final_reply_kept() -> None:
    """250 after the dot is an accepted Answer whose reply is the server's, and the connection stays usable."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.accept_mail()
        _quit(peer)

    with Dialogue(script) as server:
        answer = send_one(server)
    assert answer.accepted
    assert answer.phase is Phase.EOD
    assert answer.reply == Reply(250, "2.0.0 Ok: queued as ABC123")
    assert answer.dot_sent
    assert answer.reusable
    assert answer.recipients == {"ada@example.net": Reply(250, "ok")}


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
        _quit(peer)

    with Dialogue(script) as server:
        connection = connect(server)
        answers = [connection.transmit(envelope(), before_dot=lambda: True) for _ in range(3)]
        connection.close()
    assert [a.accepted for a in answers] == [True, False, True]
    assert answers[1].phase is Phase.DATA
    assert answers[1].reply == Reply(451, "4.3.0 not now")
    assert not answers[1].dot_sent


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
        _quit(peer)

    with Dialogue(script) as server:
        answer = send_one(server, envelope(*names))
    assert answer.accepted
    assert tuple(answer.recipients) == names
    assert all(_RCPT_LINE.fullmatch(line) for line in server.lines("RCPT"))


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
        _quit(peer)

    with Dialogue(script) as server:
        answer = send_one(server, envelope("a@x.example", "b@x.example", "c@x.example"))
    assert answer.accepted
    assert {a: r.code for a, r in answer.recipients.items()} == {
        "a@x.example": 250,
        "b@x.example": 550,
        "c@x.example": 450,
    }


@pytest.mark.parametrize("extensions", [(), ("PIPELINING",)])
def test_data_is_not_said_when_every_recipient_is_refused(extensions: tuple[str, ...]) -> None:
    """All refused ends in phase RCPT with the last reply, RSET, and a connection that can be used again."""

    def script(peer: Peer) -> None:
        peer.greet(*extensions)
        peer.answer("MAIL", "250 ok")
        peer.answer("RCPT", "550 5.1.1 first")
        peer.answer("RCPT", "450 4.2.0 last")
        peer.answer("rset", "250 ok")
        _quit(peer)

    with Dialogue(script) as server:
        answer = send_one(server, envelope("a@x.example", "b@x.example"))
    assert answer.phase is Phase.RCPT
    assert answer.reply == Reply(450, "4.2.0 last")
    assert len(answer.recipients) == 2
    assert answer.reusable
    assert server.lines("DATA") == []


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
        _quit(peer)

    with Dialogue(script) as server:
        connection = connect(server)
        first = connection.transmit(envelope("a@x.example", "b@x.example"), before_dot=lambda: True)
        second = connection.transmit(envelope(), before_dot=lambda: True)
        connection.close()
    assert (first.phase, first.reply) == (Phase.MAIL, Reply(550, "5.7.1 not you"))
    assert first.recipients == {}
    assert first.reusable
    assert second.accepted


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
        _quit(peer)

    with Dialogue(script) as server:
        connection = connect(server)
        connection.transmit(envelope(), before_dot=noting(passed))
        connection.close()
    assert passed == ["after_connect", "after_mail", "after_body", "before_dot", "after_dot"]


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
        _quit(peer)

    with Dialogue(script) as server:
        answer = send_one(server)
    assert answer.reply == Reply(550, "\ufffd[31mred\ufffd\ufffd\nsecond")


def test_dots_are_doubled_and_the_body_ends_once() -> None:
    """Lines that begin with a dot arrive doubled, and the one lone dot is ours."""
    message = b".\r\n..two\r\n\r\n.\r\n.\r\nend\r\n"
    wire = []

    def script(peer: Peer) -> None:
        peer.greet()
        wire.append(peer.accept_mail())
        _quit(peer)

    with Dialogue(script) as server:
        assert send_one(server, envelope(message=message)).accepted
    assert wire == [b"..\r\n...two\r\n\r\n..\r\n..\r\nend\r\n.\r\n"]


def test_size_and_body_are_declared_where_offered() -> None:
    """SIZE counts the message without doubled dots; BODY=8BITMIME is said for 8-bit bodies only."""

    def script(peer: Peer) -> None:
        peer.greet("SIZE 1000", "8BITMIME")
        peer.accept_mail()
        peer.accept_mail()
        _quit(peer)

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


def test_smtputf8_is_said_for_addresses_that_need_it() -> None:
    """A local part that is not ASCII travels as UTF-8, and the next mail's commands are ASCII again."""

    def script(peer: Peer) -> None:
        peer.greet("SMTPUTF8", "8BITMIME")
        peer.accept_mail()
        peer.accept_mail()
        _quit(peer)

    with Dialogue(script) as server:
        connection = connect(server)
        assert connection.transmit(envelope("jörg@example.net"), before_dot=lambda: True).accepted
        assert connection.transmit(envelope(), before_dot=lambda: True).accepted
        connection.close()
    assert server.lines("MAIL") == ["MAIL FROM:<me@example.com> SMTPUTF8", "MAIL FROM:<me@example.com>"]
    assert server.lines("RCPT") == ["RCPT TO:<jörg@example.net>", "RCPT TO:<ada@example.net>"]


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
        (envelope("ok@x.example", "a@x.example> NOTIFY=NEVER"), "recipient 1"),
        (envelope("a b@x.example"), "recipient 0"),
        (envelope("\ud800@x.example"), "recipient 0"),
        (envelope(sender="me@example.com>\n"), "sender"),
        (Envelope("me@example.com", (), b"\r\n"), "no recipient"),
    ],
)
def test_what_the_server_could_never_take_is_not_sent(mail: Envelope, error: str) -> None:
    """A mail that breaks the server's stated limits or SMTP itself is refused here, and the connection goes on."""

    def script(peer: Peer) -> None:
        peer.greet("SIZE 1000")
        _quit(peer)

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
        _quit(peer)

    with Dialogue(script) as server:
        assert send_one(server, envelope(sender="")).accepted
    assert server.lines("MAIL") == ["MAIL FROM:<>"]


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


def test_the_lone_dot_does_not_wait_for_an_acknowledgement() -> None:
    """Fifty small mails take no 40 ms each: Nagle's algorithm is off."""

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        for _ in range(50):
            peer.accept_mail()
        _quit(peer)

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
