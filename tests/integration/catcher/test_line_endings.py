"""Strict and lenient servers: who lets a second mail be smuggled in (CVE-2023-51764 to -51766)."""

import pytest

from mailfleet_workers.catcher import Catcher, MemoryStore
from tests.integration.catcher.client import connect

SMUGGLED = b"MAIL FROM:<admin@x.test>\r\nRCPT TO:<victim@x.test>\r\nDATA\r\nSubject: smuggled\r\n\r\n"

ENDS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n\0.\r\n"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("lenient", [False, True])
def test_smuggling(end: bytes, lenient: bool) -> None:
    """A lenient server shows each smuggled mail as its own receipt, a strict one keeps one mail as it was sent."""
    store = MemoryStore()
    message = b"Subject: outer\r\n\r\nhello" + end + SMUGGLED

    with Catcher(store, lenient=lenient) as catcher, connect(catcher.port) as client:
        client.hello()
        client.begin()
        client.send(message + b".\r\n" + b"NOOP\r\n")
        while client.reply().text != "2.0.0 Ok":
            pass

    if lenient:
        outer, smuggled = store.receipts()
        assert outer.message.rstrip(b"\r\n") == b"Subject: outer\r\n\r\nhello"
        assert (smuggled.sender, smuggled.recipients) == ("admin@x.test", ("victim@x.test",))
        assert smuggled.message == b"Subject: smuggled\r\n\r\n"
        assert outer.session_id == smuggled.session_id
    else:
        (only,) = store.receipts()
        # A dot behind CRLF is a stuffed one, whatever follows; everything else is content.
        assert only.message == message.replace(b"\r\n.", b"\r\n")


def test_strict_server_knows_no_bare_line_feed_in_commands() -> None:
    """A command line ends with CRLF only; what hides behind a bare LF is refused with it."""
    store = MemoryStore()

    with Catcher(store) as catcher, connect(catcher.port) as client:
        client.hello()
        client.send(b"MAIL FROM:<a@x.test>\nRCPT TO:<b@x.test>\r\nNOOP\r\n")

        assert client.reply().code == 500
        assert client.reply().text == "2.0.0 Ok"


def test_lenient_server_takes_line_feeds_everywhere() -> None:
    """A whole conversation with bare LF works with a lenient server."""
    store = MemoryStore()

    with Catcher(store, lenient=True) as catcher, connect(catcher.port) as client:
        client.send(b"EHLO c.test\nMAIL FROM:<a@x.test>\nRCPT TO:<b@x.test>\nDATA\n..x\n.\nQUIT\n")
        codes = [client.reply().code for _ in range(7)]

    assert codes == [220, 250, 250, 250, 354, 250, 221]
    assert [receipt.message for receipt in store] == [b".x\n"]


def test_clean_mail_is_the_same_for_both() -> None:
    """A canonical mail arrives the same at a strict and a lenient server."""
    message = b"Subject: dots\r\n\r\n..\r\n..a\r\n\r\n"
    stores = [MemoryStore(), MemoryStore()]

    for store, lenient in zip(stores, (False, True), strict=True):
        with Catcher(store, lenient=lenient) as catcher, connect(catcher.port) as client:
            client.hello()
            client.mail(message)

    assert [receipt.message for store in stores for receipt in store] == [
        b"Subject: dots\r\n\r\n.\r\n.a\r\n\r\n"
    ] * 2
