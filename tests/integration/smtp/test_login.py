"""AUTH: once, inside TLS, with the reply kept and the credentials told to nobody."""

import base64
import gc
import hmac
import logging
from collections.abc import Callable

import pytest

from mailfleet_workers.smtp.base import Phase, Reply
from tests.integration.smtp.dialogue import (
    Dialogue,
    Peer,
    account,
    connect,
    envelope,
    try_connect,
)
from tests.integration.smtp.login import PASSWORD, USER, login, refused, starttls


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
            starttls(peer, f"AUTH {mechanism} XOAUTH2")
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
        connection = connect(server, **login(tls))
        assert connection.transmit(envelope(), before_dot=lambda: True).accepted
        connection.close()
    digest = hmac.new(PASSWORD.encode(), b"<1@test>", "md5").hexdigest()
    expected = {
        "PLAIN": [b"", USER.encode(), PASSWORD.encode()],
        "LOGIN": [USER.encode(), PASSWORD.encode()],
        "CRAM-MD5": [f"{USER} {digest}".encode()],
    }
    assert seen == expected[mechanism]


@pytest.mark.smtplib(1, 2)
@pytest.mark.parametrize("after", [Peer.close, Peer.until_closed])
def test_a_refused_login_keeps_the_reply_and_is_tried_once(after: Callable[[Peer], object]) -> None:
    """535 followed by a close is not lost, and one wrong password costs one AUTH command."""

    def script(peer: Peer) -> None:
        starttls(peer, "AUTH CRAM-MD5 PLAIN LOGIN")
        peer.answer("AUTH PLAIN", "535-Login fail.", "535 Account is abnormal")
        after(peer)

    with Dialogue(script) as server:
        answer = refused(try_connect(server, **login()))
    assert (answer.phase, answer.reply) == (Phase.AUTH, Reply(535, "Login fail.\nAccount is abnormal"))
    assert len(server.lines("AUTH")) == 1


@pytest.mark.smtplib(2)
@pytest.mark.parametrize("code", [421, 454, 535])
def test_a_refusal_and_a_close_at_the_last_step_is_a_reply(code: int) -> None:
    """Also in the middle of an exchange what the server said before it closed is the Answer's, and no other mechanism follows."""

    def script(peer: Peer) -> None:
        starttls(peer, "AUTH LOGIN CRAM-MD5")
        peer.answer("AUTH LOGIN", "334 VXNlcm5hbWU6")
        peer.hear()
        peer.say("334 UGFzc3dvcmQ6")
        peer.hear()
        peer.say(f"{code} 4.7.0 enough")

    with Dialogue(script) as server:
        answer = refused(try_connect(server, **login()))
    assert (answer.phase, answer.reply) == (Phase.AUTH, Reply(code, "4.7.0 enough"))
    assert server.lines("AUTH") == ["AUTH LOGIN"]


@pytest.mark.smtplib(1)
@pytest.mark.parametrize("wanted", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_the_mechanism_of_the_account_is_tried_and_no_other(wanted: str) -> None:
    """Whatever else the server offers, and also after a refusal."""

    def script(peer: Peer) -> None:
        starttls(peer, "AUTH XOAUTH2 LOGIN CRAM-MD5 PLAIN")
        peer.answer(f"AUTH {wanted}", "535 5.7.8 no")
        peer.until_closed()

    with Dialogue(script) as server:
        answer = refused(try_connect(server, **login(mechanism=wanted)))
    assert answer.reply == Reply(535, "5.7.8 no")
    assert len(server.lines("AUTH")) == 1


def test_a_mechanism_that_is_not_offered_is_not_replaced() -> None:
    """An account that wants CRAM-MD5 gives its password to no server that wants it as it is."""

    def script(peer: Peer) -> None:
        starttls(peer, "AUTH PLAIN LOGIN")
        assert peer.until_closed() == b""

    with Dialogue(script) as server:
        answer = refused(try_connect(server, **login(mechanism="CRAM-MD5")))
    assert (answer.phase, answer.reply) == (Phase.AUTH, None)
    assert answer.error == "the server does not offer the AUTH mechanism CRAM-MD5"


def test_credentials_that_a_server_repeats_are_blotted_out() -> None:
    """User name and password, plain or encoded, are not in the Answer when the server quotes them."""

    def script(peer: Peer) -> None:
        starttls(peer, "AUTH PLAIN")
        line = peer.hear("AUTH PLAIN ").removeprefix("AUTH PLAIN ")
        encoded = base64.b64encode(PASSWORD.encode()).decode()
        peer.say(f"535 no {USER} with {PASSWORD} ({encoded}) in {line}")

    with Dialogue(script) as server:
        answer = refused(try_connect(server, **login()))
    assert answer.reply == Reply(535, "no *** with *** (***) in ***")


def test_a_third_question_during_login_is_declined() -> None:
    """334 after the last answer is met with "*", and the reply to that is the Answer's."""

    def script(peer: Peer) -> None:
        starttls(peer, "AUTH LOGIN")
        for _ in range(3):
            peer.hear()
            peer.say("334 ")
        peer.answer("*", "501 cancelled")

    with Dialogue(script) as server:
        answer = refused(try_connect(server, **login()))
    assert answer.reply == Reply(501, "cancelled")


def test_a_server_without_a_known_mechanism_gets_no_credentials() -> None:
    """Where none of our mechanisms is offered AUTH is not said at all."""

    def script(peer: Peer) -> None:
        starttls(peer, "AUTH GSSAPI NTLM")
        assert peer.until_closed() == b""

    with Dialogue(script) as server:
        answer = refused(try_connect(server, **login()))
    assert (answer.phase, answer.reply) == (Phase.AUTH, None)
    assert "no AUTH mechanism" in (answer.error or "")


def test_the_credentials_are_in_no_log_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """After a refused login neither logs, the Answer, the account nor any exception alive shows them."""

    def script(peer: Peer) -> None:
        starttls(peer, "AUTH PLAIN LOGIN")
        peer.answer("AUTH PLAIN", "535 no")

    with caplog.at_level(logging.DEBUG), Dialogue(script) as server:
        settings = login()
        answer = refused(try_connect(server, **settings))
        shown = repr(answer) + repr(account(1, **settings)) + caplog.text
    shown += "".join(repr(o) for o in gc.get_objects() if issubclass(type(o), BaseException))
    encoded = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
    assert not [value for value in (USER, PASSWORD, encoded) if value in shown]
