"""The private Postfix of the tests."""

import secrets
import smtplib
from pathlib import Path

import pytest

from tests.services.base import PostfixServer
from tests.services.external import ExternalPostfix
from tests.services.locate import find_postfix
from tests.services.maildir import read
from tests.services.postfix import MESSAGE_SIZE_LIMIT, PrivatePostfix
from tests.services.processes import processes_in

PLAIN = b"Subject: hello\r\n\r\n.a line that begins with a dot\r\n"


def test_a_mail_is_stored_as_it_was_sent(postfix: PostfixServer) -> None:
    """Each recipient gets a copy with the envelope beside it; no header is added to a mail without From and Date."""
    postfix.clear()
    recipients = ["ada@one.example", "bo@one.example", "ada@two.example"]
    with smtplib.SMTP(postfix.host, postfix.port, timeout=10) as client:
        assert client.sendmail("app@sender.example", recipients, PLAIN) == {}
    stored = postfix.wait_for(3, deadline_s=20)
    assert sorted(mail.recipient for mail in stored) == sorted(recipients)
    assert {mail.return_path for mail in stored} == {"app@sender.example"}
    assert {mail.content for mail in stored} == {PLAIN.replace(b"\r\n", b"\n")}


def test_a_large_mail_fits(postfix: PostfixServer) -> None:
    """25 MiB in base64 are below the server's limit, which it announces."""
    postfix.clear()
    body = b"\r\n".join(secrets.token_hex(38).encode() for _ in range(34 * 1024 * 1024 // 78))
    with smtplib.SMTP(postfix.host, postfix.port, timeout=60) as client:
        client.ehlo()
        assert client.esmtp_features["size"] == str(MESSAGE_SIZE_LIMIT)
        assert (
            client.sendmail(
                "app@sender.example", ["ada@one.example"], b"Subject: big\r\n\r\n" + body + b"\r\n"
            )
            == {}
        )
    (mail,) = postfix.wait_for(1, deadline_s=30)
    assert mail.content == (b"Subject: big\n\n" + body + b"\r\n").replace(b"\r\n", b"\n")


def test_addresses_in_every_script_are_taken(postfix: PostfixServer) -> None:
    """SMTPUTF8 is offered, and an address outside ASCII arrives."""
    postfix.clear()
    with smtplib.SMTP(postfix.host, postfix.port, timeout=10) as client:
        client.ehlo()
        assert client.has_extn("smtputf8")
        client.sendmail("app@sender.example", ["雨@例え.テスト"], PLAIN, mail_options=["SMTPUTF8"])
    (mail,) = postfix.wait_for(1, deadline_s=20)
    assert mail.recipient == "雨@例え.テスト"


def test_a_bare_newline_is_refused(postfix: PostfixServer) -> None:
    """Lines end with CR LF or the mail is not taken."""
    postfix.clear()
    with smtplib.SMTP(postfix.host, postfix.port, timeout=10) as client:
        client.ehlo()
        client.mail("app@sender.example")
        client.rcpt("ada@one.example")
        client.putcmd("data")
        assert client.getreply()[0] == 354
        client.send(b"Subject: smuggled\r\n\r\none\ntwo\r\n.\r\n")
        code, text = client.getreply()
    assert 500 <= code < 600
    assert b"bare <LF>" in text
    assert postfix.maildir_messages() == []


def test_a_silent_server_is_waited_for_with_a_deadline(postfix: PostfixServer) -> None:
    """Waiting for mails that nobody sent ends with how many came."""
    postfix.clear()
    with pytest.raises(TimeoutError, match=r"0 of 1 mails arrived within 0\.1 s"):
        postfix.wait_for(1, deadline_s=0.1)


def test_a_running_server_can_be_used_instead(postfix: PostfixServer, tmp_path: Path) -> None:
    """A server named by its address is greeted and not stopped."""
    external = ExternalPostfix(f"smtp://{postfix.host}:{postfix.port}", str(tmp_path))
    external.stop()
    assert external.maildir_messages() == []
    with smtplib.SMTP(external.host, external.port, timeout=10) as client:
        assert client.noop()[0] == 250


def test_no_process_outlives_stop() -> None:
    """A stopped server leaves neither processes nor files."""
    binaries = find_postfix()
    assert binaries is not None, "this test needs Postfix's programs on this machine"
    with PrivatePostfix(binaries) as server:
        directory = server.directory
        assert len(processes_in(directory)) >= 3
    server.stop()
    assert processes_in(directory) == []
    assert not directory.exists()


def test_a_file_from_elsewhere_is_not_taken_for_a_mail(tmp_path: Path) -> None:
    """Without Postfix's trace headers nobody knows the envelope, so reading it is an error."""
    stray = tmp_path / "stray"
    stray.write_bytes(b"Subject: hello\n\n")
    with pytest.raises(ValueError, match="trace headers"):
        read(stray)
