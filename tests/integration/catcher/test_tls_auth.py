"""STARTTLS, implicit TLS and AUTH."""

import base64
import errno
import hmac
import select
import smtplib
import socket
import ssl
from pathlib import Path

import pytest

from mailfleet_workers.catcher import (
    Action,
    Catcher,
    Challenge,
    Credentials,
    Cut,
    Default,
    Delay,
    Event,
    MemoryStore,
    Plan,
    Reset,
    Say,
    Script,
    Step,
)
from tests.integration.catcher.certificate import client_context, server_context
from tests.integration.catcher.client import DEADLINE_S, Client, connect
from tests.waiting import wait_until

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


def only_ada(event: Event) -> Action:
    """Let ada in with her password and nobody else, and nobody send without a login."""
    if event.step is Step.AUTH:
        right = event.credentials in (
            Credentials("PLAIN", "ada", "s3cret"),
            Credentials("LOGIN", "ada", "s3cret"),
        )
        return Default() if right else Say(535, "5.7.8 Authentication failed")
    if event.step is Step.MAIL and event.user is None:
        return Say(530, "5.7.0 Authentication required")
    return Default()


def test_starttls(tmp_path: Path) -> None:
    """A mail sent after STARTTLS is marked as encrypted, and STARTTLS is offered only once."""
    store = MemoryStore()

    with (
        Catcher(store, tls=server_context(tmp_path)) as catcher,
        smtplib.SMTP("127.0.0.1", catcher.port, timeout=10) as client,
    ):
        client.ehlo()
        assert client.has_extn("starttls")
        client.starttls(context=client_context())
        client.ehlo()
        assert not client.has_extn("starttls")
        client.sendmail("a@x.test", ["b@x.test"], MESSAGE)

    assert [(receipt.tls, receipt.message) for receipt in store] == [(True, MESSAGE)]


def test_implicit_tls(tmp_path: Path) -> None:
    """With implicit TLS the greeting comes encrypted; a big message gets through."""
    store = MemoryStore()
    message = MESSAGE + (b"x" * 998 + b"\r\n") * 5000

    with (
        Catcher(store, tls=server_context(tmp_path), implicit_tls=True) as catcher,
        smtplib.SMTP_SSL("127.0.0.1", catcher.port, context=client_context(), timeout=10) as client,
    ):
        client.sendmail("a@x.test", ["b@x.test"], message)

    assert [(receipt.tls, receipt.message) for receipt in store] == [(True, message)]


def test_what_follows_starttls_in_the_clear_is_dropped(tmp_path: Path) -> None:
    """Commands injected behind STARTTLS are not executed inside TLS, and EHLO before it is forgotten (RFC 3207)."""
    store = MemoryStore()

    with Catcher(store, tls=server_context(tmp_path)) as catcher, connect(catcher.port) as client:
        client.hello()
        client.send(b"STARTTLS\r\nEHLO evil.test\r\nMAIL FROM:<evil@x.test>\r\n")
        assert client.reply().code == 220
        plain = client.socket
        with client_context().wrap_socket(plain, server_hostname="127.0.0.1") as encrypted:
            client.socket = encrypted

            assert client.command("MAIL FROM:<a@x.test>").code == 503
            assert client.command("EHLO c.test").code == 250
            assert client.mail().code == 250

    assert [receipt.sender for receipt in store] == ["a@x.test"]


@pytest.mark.parametrize("implicit", [True, False])
def test_failed_handshake_ends_the_session_only(tmp_path: Path, implicit: bool) -> None:
    """A client that speaks no TLS, vanishes, or distrusts the certificate is dropped; the next one is served."""
    context = server_context(tmp_path)
    with Catcher(MemoryStore(), tls=context, implicit_tls=implicit) as catcher:
        with connect(catcher.port) as client:
            if not implicit:
                client.hello()
                client.command("STARTTLS")
            client.send(b"EHLO this is no handshake\r\n")
            while True:
                try:
                    if not client.socket.recv(4096):
                        break
                except ConnectionResetError:
                    break
        Client(catcher.port).kill()
        with pytest.raises(ssl.SSLCertVerificationError):
            distrust(catcher.port, implicit=implicit)
        trust(catcher.port, implicit=implicit)
        assert catcher.faults == ()
        assert catcher.sessions_seen == 4
        wait_until(
            lambda: catcher.open_sessions == 0, DEADLINE_S, lambda: f"{catcher.open_sessions} are open"
        )


def distrust(port: int, *, implicit: bool) -> None:
    talk(port, ssl.create_default_context(), implicit=implicit)


def trust(port: int, *, implicit: bool) -> None:
    talk(port, client_context(), implicit=implicit)


def talk(port: int, context: ssl.SSLContext, *, implicit: bool) -> None:
    if implicit:
        with smtplib.SMTP_SSL("127.0.0.1", port, context=context, timeout=10) as client:
            client.noop()
    else:
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            client.starttls(context=context)


@pytest.mark.parametrize("action", [Cut(), Reset(), Delay(0.01), Say(421, "4.3.2 closing")])
def test_actions_inside_tls(tmp_path: Path, action: Action) -> None:
    """Cuts, resets, delays and closing replies work inside TLS too."""
    script = Plan({Step.RCPT: action})
    with (
        Catcher(MemoryStore(), script, tls=server_context(tmp_path), implicit_tls=True) as catcher,
        connect(catcher.port) as client,
    ):
        client.socket = client_context().wrap_socket(client.socket, server_hostname="localhost")
        client.hello()
        client.command("MAIL FROM:<a@x.test>")
        client.send(b"RCPT TO:<b@x.test>\r\n")
        select.select([client.socket], [], [], DEADLINE_S)
        # OpenSSL reports a reset as an end of file; the socket knows better.
        error = client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        outcome = client.outcome()
        match action:
            case Cut():
                assert outcome == "eof"
            case Reset():
                assert error == errno.ECONNRESET
            case Say(text=text):
                assert getattr(outcome, "text", None) == text
                assert client.outcome() == "eof"
            case _:
                assert getattr(outcome, "code", None) == 250


def test_starttls_can_be_refused(tmp_path: Path) -> None:
    """A script can refuse STARTTLS, and the conversation goes on in the clear."""
    script = Plan({Step.STARTTLS: Say(454, "4.7.0 TLS not available")})

    with (
        Catcher(MemoryStore(), script, tls=server_context(tmp_path)) as catcher,
        connect(catcher.port) as client,
    ):
        client.hello()
        assert client.command("STARTTLS").code == 454
        assert client.mail().code == 250


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("initial", [True, False])
def test_login(mechanism: str, initial: bool) -> None:
    """Both mechanisms, with and without an initial response, give the script the credentials and the receipt a user."""
    store = MemoryStore()

    with (
        Catcher(store, only_ada, auth=True) as catcher,
        smtplib.SMTP("127.0.0.1", catcher.port, timeout=10) as client,
    ):
        client.user, client.password = "ada", "s3cret"
        client.ehlo()
        assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("a@x.test", ["b@x.test"], MESSAGE)
        handler = client.auth_plain if mechanism == "PLAIN" else client.auth_login
        assert client.auth(mechanism, handler, initial_response_ok=initial)[0] == 235
        client.sendmail("a@x.test", ["b@x.test"], MESSAGE)

    assert [receipt.user for receipt in store] == ["ada"]


def test_wrong_password() -> None:
    """A wrong password is answered as the script says, and a right one later is taken."""
    with (
        Catcher(MemoryStore(), only_ada, auth=True) as catcher,
        smtplib.SMTP("127.0.0.1", catcher.port, timeout=10) as client,
    ):
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            client.login("ada", "guess")
        assert refused.value.smtp_code == 535
        assert client.login("ada", "s3cret")[0] == 235


def test_cancelled_login() -> None:
    """A client may give AUTH up, and AUTH comes before a mail and once only (RFC 4954)."""
    with Catcher(MemoryStore(), auth=True) as catcher, connect(catcher.port) as client:
        client.hello()
        assert client.command("AUTH LOGIN").code == 334
        assert client.command("*").code == 501
        assert client.command("MAIL FROM:<a@x.test>").code == 250
        assert client.command("AUTH PLAIN AGEAYg==").code == 503
        assert client.command("RSET").code == 250
        assert client.command("AUTH PLAIN AGEAYg==").code == 235
        assert client.command("AUTH PLAIN AGEAYg==").code == 503


def test_no_login_in_the_clear_where_there_is_tls(tmp_path: Path) -> None:
    """Where STARTTLS is offered, AUTH is offered and taken only after it."""
    with Catcher(MemoryStore(), tls=server_context(tmp_path), auth=True) as catcher:
        with connect(catcher.port) as client:
            client.reply()
            assert "AUTH" not in client.command("EHLO c.test").text
            assert client.command("AUTH PLAIN AGEAYg==").code == 530
        with smtplib.SMTP("127.0.0.1", catcher.port, timeout=10) as sender:
            sender.starttls(context=client_context())
            assert sender.login("ada", "whatever")[0] == 235


def test_refusal_and_close_at_login() -> None:
    """A 535 followed by a close, which smtplib's login loses, is one action."""
    script = Plan({Step.AUTH: Say(535, "Login fail. Account is abnormal", close=True)})

    with Catcher(MemoryStore(), script, auth=True) as catcher, connect(catcher.port) as client:
        client.hello()
        assert client.command("AUTH PLAIN AGEAYg==").code == 535
        assert client.outcome() == "eof"


def test_implicit_tls_needs_a_context() -> None:
    """Implicit TLS without a context is refused at construction."""
    with pytest.raises(ValueError, match="implicit_tls"):
        Catcher(MemoryStore(), implicit_tls=True)


def test_mechanisms_that_do_not_exist() -> None:
    """A mechanism that the catcher does not speak is refused at construction."""
    with pytest.raises(ValueError, match=r"mechanisms: .*NTLM"):
        Catcher(MemoryStore(), auth=True, mechanisms=("PLAIN", "NTLM"))


def knows(password: str) -> Script:
    """Let in whoever proves that he knows *password*."""

    def script(event: Event) -> Action:
        if event.step is not Step.AUTH or (event.credentials and event.credentials.prove(password)):
            return Default()
        return Say(535, "5.7.8 Authentication failed")

    return script


def test_cram_md5() -> None:
    """The digest of the password lets in, that of another one does not; each challenge is another."""
    challenges = []
    with (
        Catcher(MemoryStore(), knows("s3cret"), auth=True, mechanisms=("CRAM-MD5",)) as catcher,
        connect(catcher.port) as client,
    ):
        client.reply()
        assert "AUTH CRAM-MD5" in client.command("EHLO c.test").text.splitlines()
        assert client.command("AUTH PLAIN AGEAYg==").code == 504
        for password, code in (("wrong", 535), ("s3cret", 235)):
            asked = client.command("AUTH CRAM-MD5")
            assert asked.code == 334
            challenges.append(base64.b64decode(asked.text))
            digest = hmac.new(password.encode(), challenges[-1], "md5").hexdigest()
            assert client.command(base64.b64encode(f"ada {digest}".encode()).decode()).code == code
    assert challenges[0] != challenges[1]


def test_xoauth2_that_says_why() -> None:
    """A refused token gets a challenge with the reason, and after the client's empty line the refusal."""
    why = base64.b64encode(b'{"status":"401"}').decode()
    script = Plan({Step.AUTH: [Challenge(why, Say(535, "5.7.8 no"))]})
    token = base64.b64encode(b"user=ada\x01auth=Bearer t0ken\x01\x01").decode()
    with (
        Catcher(MemoryStore(), script, auth=True, mechanisms=("XOAUTH2",)) as catcher,
        connect(catcher.port) as client,
    ):
        client.hello()
        assert client.command(f"AUTH XOAUTH2 {token}").text == why
        assert client.command("").code == 535
        assert client.command(f"AUTH XOAUTH2 {token}").code == 235
        assert client.mail().code == 250


def test_a_question_of_the_login_can_be_refused() -> None:
    """A script is asked before each 334; what it says instead ends the login."""
    script = Plan({Step.CHALLENGE: [Default(), Say(454, "4.7.0 not now")]})
    with Catcher(MemoryStore(), script, auth=True) as catcher, connect(catcher.port) as client:
        client.hello()
        assert client.command("AUTH LOGIN").code == 334
        assert client.command("YWRh").code == 454
        assert client.command("NOOP").code == 250
