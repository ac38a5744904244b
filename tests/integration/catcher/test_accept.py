"""A catcher without a script: what a well-meaning server does."""

import smtplib
import time
from email.message import EmailMessage

import pytest

from mailfleet_workers.catcher import Catcher, MemoryStore
from tests.integration.catcher.client import connect

MESSAGE = b"From: a@x.test\r\nTo: b@x.test\r\nSubject: x\r\n\r\nbody\r\n"


def test_mail_of_smtplib_is_caught_as_sent() -> None:
    """A mail sent by the standard library is in the store byte by byte, with envelope, session and time."""
    store = MemoryStore()
    before = (time.time(), time.monotonic())

    with (
        Catcher(store) as catcher,
        smtplib.SMTP("127.0.0.1", catcher.port, "client.test", timeout=10) as client,
    ):
        refused = client.sendmail("a@x.test", ["b@x.test", "c@x.test"], MESSAGE)
        local_port = client.sock.getsockname()[1]  # type: ignore[union-attr] # connected

    (receipt,) = store.wait_for(1, 10)
    assert refused == {}
    assert receipt.number == 1
    assert receipt.peer == ("127.0.0.1", local_port)
    assert receipt.helo == "client.test"
    assert (receipt.user, receipt.tls) == (None, False)
    assert receipt.sender == "a@x.test"
    assert receipt.recipients == ("b@x.test", "c@x.test")
    assert receipt.message == MESSAGE
    assert receipt.mail_options == (f"size={len(MESSAGE)}",)
    assert before[0] <= receipt.received_at <= time.time()
    assert before[1] <= receipt.monotonic <= time.monotonic()


def test_clocks_are_the_callers() -> None:
    """Receipts carry the time of the clocks that were passed in."""
    store = MemoryStore()

    with (
        Catcher(store, wall_clock=lambda: 1234.5, monotonic_clock=lambda: 6.5) as catcher,
        connect(catcher.port) as client,
    ):
        client.hello()
        client.mail()

    (receipt,) = store.receipts()
    assert (receipt.received_at, receipt.monotonic) == (1234.5, 6.5)


def test_capabilities() -> None:
    """EHLO offers the extensions that are there, in lines of one reply, and HELO none."""
    with (
        Catcher(MemoryStore(), hostname="mx.test", max_size=1000) as catcher,
        connect(catcher.port) as client,
    ):
        assert client.reply().text.startswith("mx.test ESMTP")
        extended = client.command("EHLO client.test").text.split("\n")
        plain = client.command("HELO client.test").text

    assert extended == ["mx.test", "PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
    assert plain == "mx.test"


def test_whole_session_in_one_segment() -> None:
    """Two mails and everything around them, sent in one piece, are answered in order (RFC 2920)."""
    store = MemoryStore()
    one = (
        b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nRCPT TO:<bad\r\nRCPT TO:<c@x.test>\r\nDATA\r\n"
        b"Subject: 1\r\n\r\n.\r\n"
    )

    with Catcher(store) as catcher, connect(catcher.port) as client:
        client.send(b"EHLO client.test\r\n" + one + b"NOOP\r\n" + one + b"QUIT\r\n")
        codes = [client.reply().code for _ in range(2 + 6 + 1 + 6 + 1)]
        ending = client.outcome()

    mail = [250, 250, 501, 250, 354, 250]
    assert codes == [220, 250, *mail, 250, *mail, 221]
    assert ending == "eof"
    assert [receipt.recipients for receipt in store] == [("b@x.test", "c@x.test")] * 2


def test_commands_byte_by_byte() -> None:
    """It does not matter in which pieces the bytes arrive."""
    store = MemoryStore()
    stream = (
        b"EHLO client.test\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n..dot\r\n.\r\nQUIT\r\n"
    )

    with Catcher(store) as catcher, connect(catcher.port) as client:
        for byte in stream:
            client.send(bytes([byte]))
        codes = [client.reply().code for _ in range(7)]

    assert codes == [220, 250, 250, 250, 354, 250, 221]
    assert [receipt.message for receipt in store] == [b".dot\r\n"]


def test_dots_survive() -> None:
    """Lines that begin with dots come out as they went in."""
    store = MemoryStore()
    message = b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\na.\r\n\r\n.\r\n"

    with Catcher(store) as catcher, smtplib.SMTP("127.0.0.1", catcher.port, timeout=10) as client:
        client.sendmail("a@x.test", ["b@x.test"], message)

    assert store.receipts()[0].message == message


def test_addresses_beyond_ascii() -> None:
    """With SMTPUTF8 addresses arrive in their own script (RFC 6531)."""
    store = MemoryStore()
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "用户@例子.test", "Jürgen <jürgen@x.test>", "Grüße"
    mail.set_content("ü\n", cte="8bit")

    with Catcher(store) as catcher, smtplib.SMTP("127.0.0.1", catcher.port, timeout=10) as client:
        client.send_message(mail)

    (receipt,) = store.receipts()
    assert (receipt.sender, receipt.recipients) == ("用户@例子.test", ("jürgen@x.test",))
    assert {"SMTPUTF8", "BODY=8BITMIME"} <= set(receipt.mail_options)
    assert "Grüße".encode() in receipt.message


def test_message_of_40_mib() -> None:
    """A message of 40 MiB arrives whole."""
    store = MemoryStore()
    line = bytes(range(33, 109)) + b"\r\n"
    message = b"Subject: big\r\n\r\n" + line * (40 * 1024 * 1024 // len(line) + 1)

    with Catcher(store) as catcher, smtplib.SMTP("127.0.0.1", catcher.port, timeout=60) as client:
        client.sendmail("a@x.test", ["b@x.test"], message)

    assert len(message) > 40 * 1024 * 1024
    assert store.receipts()[0].message == message


def test_too_large_message_is_refused_after_its_dot() -> None:
    """A message over the limit is read to its end and refused, and the connection stays good (RFC 1870 6.2)."""
    store = MemoryStore()

    with Catcher(store, max_size=100_000) as catcher, connect(catcher.port) as client:
        client.hello()
        announced = client.command("MAIL FROM:<a@x.test> SIZE=100001")
        unannounced = client.mail(b"x" * 78 * 5000 + b"\r\n")
        after = client.mail()

    assert announced.code == 552
    assert (unannounced.code, unannounced.text[:5]) == (552, "5.3.4")
    assert after.code == 250
    assert len(store) == 1


@pytest.mark.parametrize(
    ("before", "line", "code"),
    [
        ([], "MAIL FROM:<a@x.test>", 503),
        (["EHLO c.test"], "EHLO", 501),
        (["EHLO c.test"], "RCPT TO:<b@x.test>", 503),
        (["EHLO c.test"], "DATA", 503),
        (["EHLO c.test", "MAIL FROM:<a@x.test>"], "MAIL FROM:<a@x.test>", 503),
        (["EHLO c.test", "MAIL FROM:<a@x.test>"], "DATA", 554),
        (["EHLO c.test", "MAIL FROM:<a@x.test>", "RSET"], "RCPT TO:<b@x.test>", 503),
        (["EHLO c.test", "MAIL FROM:<a@x.test>", "EHLO c.test"], "RCPT TO:<b@x.test>", 503),
        (["EHLO c.test", "MAIL FROM:<a@x.test>", "RCPT TO:<b@x.test>"], "DATA now", 501),
        (["EHLO c.test"], "RSET now", 501),
        (["EHLO c.test"], "AUTH PLAIN", 502),
        (["EHLO c.test"], "STARTTLS", 502),
        (["EHLO c.test"], "VRFY ada", 252),
        (["EHLO c.test"], "VRFY", 501),
        (["EHLO c.test"], "BDAT 10 LAST", 500),
        (["EHLO c.test"], "", 500),
        (["EHLO c.test"], "NOOP really", 250),
        (["EHLO c.test"], "QUIT now", 501),
    ],
)
def test_order_and_syntax(before: list[str], line: str, code: int) -> None:
    """Commands out of order and wrong ones get the code of RFC 5321, and the connection stays open."""
    with Catcher(MemoryStore()) as catcher, connect(catcher.port) as client:
        client.reply()
        for one in before:
            assert client.command(one).code == 250

        assert client.command(line).code == code
        assert client.command("NOOP").code == 250


def test_endless_line_is_refused() -> None:
    """A line without an end is refused once it is longer than any command, and the connection closed."""
    with Catcher(MemoryStore()) as catcher, connect(catcher.port) as client:
        client.reply()
        client.send(b"x" * 20_000)

        assert client.reply().code == 500
        assert client.outcome() == "eof"


def test_what_dsn_asks_for_is_kept() -> None:
    """The parameters of MAIL, and of each recipient that was accepted, are in the receipt; without the offer they are refused."""
    store = MemoryStore()
    with Catcher(store, dsn=True) as catcher, connect(catcher.port) as client:
        client.reply()
        assert "DSN" in client.command("EHLO c.test").text.splitlines()
        assert client.command("MAIL FROM:<a@x.test> RET=HDRS ENVID=m1").code == 250
        assert client.command("RCPT TO:<b@x.test> NOTIFY=FAILURE ORCPT=rfc822;b@x.test").code == 250
        assert client.command("RCPT TO:<c@x.test> NOTIFY=NOW").code == 501
        assert client.command("RCPT TO:<d@x.test>").code == 250
        assert client.command("DATA").code == 354
        client.send(b".\r\n")
        assert client.reply().code == 250

    (receipt,) = store.receipts()
    assert receipt.mail_options == ("RET=HDRS", "ENVID=m1")
    assert receipt.recipients == ("b@x.test", "d@x.test")
    assert receipt.recipient_options == (("NOTIFY=FAILURE", "ORCPT=rfc822;b@x.test"), ())
