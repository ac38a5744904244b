"""The ledger and the reading of receipts."""

from datetime import UTC, datetime

import pytest

from mailfleet import Mail
from mailfleet_workers.catcher import Receipt
from tests.checker import Copy, Ledger, copies_of

DUE = datetime(2030, 1, 2, tzinfo=UTC)


def receipt(message: bytes, *recipients: str) -> Receipt:
    return Receipt(
        session_id=1,
        peer=("127.0.0.1", 1),
        helo=None,
        user=None,
        tls=False,
        sender="a@example.com",
        recipients=recipients,
        message=message,
        received_at=12.5,
        monotonic=0.0,
    )


def test_ledger() -> None:
    """Recipients are the envelope's, a missing policy is the setting's, times are seconds."""
    ledger = Ledger(on_doubt="hold")
    mail = Mail(
        to=["Ada <ada@example.net>", "bob@Example.NET"], bcc="ada@example.net", subject="One", due_at=DUE
    )
    ledger.emitted(mail, 17)
    ledger.rolled_back(Mail(to="eve@example.net", subject="Two", on_doubt="resend"))
    one, two = ledger.expected
    assert one.recipients == ("ada@example.net", "bob@example.net")
    assert (one.mail_id, one.on_doubt, one.committed, one.due_at) == (17, "hold", True, DUE.timestamp())
    assert (two.mail_id, two.on_doubt, two.committed, two.expires_at) == (None, "resend", False, None)


def test_what_people_do() -> None:
    """It counts by mail, whatever is said of the mail afterwards; missing numbers of copies are the setting's."""
    ledger = Ledger(max_done=2)
    mail = Mail(to="ada@example.net", subject="One")
    ledger.asked(3)
    ledger.asked(3)
    ledger.emitted(mail, 3)
    ledger.emitted(Mail(to="ada@example.net", subject="Two", max_done=4), 4)
    ledger.in_doubt(Mail(to="ada@example.net", subject="Three"))
    assert [(one.asked, one.max_done) for one in ledger.expected] == [(2, 2), (0, 4), (0, 2)]


def test_last_word() -> None:
    """A commit in doubt that is tried again is one mail; a subject that means two mails is refused."""
    ledger, mail = Ledger(), Mail(to="ada@example.net", subject="One")
    ledger.in_doubt(mail)
    assert ledger.expected[0].committed is None
    ledger.emitted(mail, 3)
    ledger.emitted(mail, 3)
    assert [one.mail_id for one in ledger.expected] == [3]
    with pytest.raises(ValueError, match="is mail 3 already"):
        ledger.emitted(mail, 4)


def test_copies() -> None:
    """One entry for each recipient; subjects are decoded and unfolded; a missing stamp is None."""
    message = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nX-Fence: 7\r\nMessage-ID: <1@x>\r\n\r\nX-Fence: 9\r\n"
    plain = b"Subject: Mail\r\n 1\r\n\r\n"
    bodiless = b"Subject: Mail 2\r\n"
    received = [receipt(message, "a@x", "b@x"), receipt(plain, "c@x"), receipt(bodiless, "d@x")]
    assert copies_of(received) == [
        Copy("Grüße", "a@x", 12.5, 7, "<1@x>"),
        Copy("Grüße", "b@x", 12.5, 7, "<1@x>"),
        Copy("Mail 1", "c@x", 12.5, None, ""),
        Copy("Mail 2", "d@x", 12.5, None, ""),
    ]
