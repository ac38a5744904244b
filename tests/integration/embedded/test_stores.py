"""Files from stores in the embedded mode: over real SMTP, read by the application and by workers."""

from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest

from mailfleet import Attachment, Failed, Mail, Sent
from mailfleet.stores import store
from mailfleet.stores.registered import forget
from mailfleet_workers.embedded import Embedded
from mailfleet_workers.settings import Settings


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Embedded]:
    """With a directory, and with a function that has three files."""
    (tmp_path / "invoices").mkdir()
    (tmp_path / "invoices" / "17.pdf").write_bytes(b"%PDF\0")
    scans = {"a": b"A", "b": b"B", "large": bytes(26 << 20)}
    store("scans")(scans.get)
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path / "data",
            "stores": {
                "invoices": {"path": str(tmp_path / "invoices"), "apps": ["billing"]},
                "scans": {"kind": "registered", "apps": ["billing"]},
            },
        }
    )
    with Embedded(settings, apps=["billing"]) as fleet:
        yield fleet
    forget()


def mail(*attachments: Attachment) -> Mail:
    return Mail(
        from_="us@example.com", to="ada@example.net", subject="Files", text="x", attachments=attachments
    )


@pytest.mark.tinymail("48", "T7")
def test_files_arrive_in_their_order(fleet: Embedded, tmp_path: Path) -> None:
    """From both kinds of store and by value, though the directory is gone when the mail is sent."""
    mailer = fleet.mailer("billing")
    mail_id = mailer.save(
        mail(
            Attachment.stored("scans", "b", filename="Zeugnis „愛“, 2.txt"),
            Attachment("own.txt", b"own"),
            Attachment.stored("invoices", "17.pdf"),
            Attachment.stored("scans", "c", optional=True),
            Attachment.stored("scans", "a"),
        )
    )
    (tmp_path / "invoices").rename(tmp_path / "elsewhere")
    assert isinstance(mailer.post(mail_id, deadline_s=20), Sent)
    (receipt,) = fleet.catcher.store.receipts()
    message = message_from_bytes(receipt.message, _class=EmailMessage, policy=default)

    assert [(one.get_filename(), one.get_payload(decode=True)) for one in message.iter_attachments()] == [
        ("Zeugnis „愛“, 2.txt", b"B"),
        ("own.txt", b"own"),
        ("17.pdf", b"%PDF\0"),
        ("a", b"A"),
    ]
    assert mailer.status(mail_id).reason == "without: attachments[3]"


@pytest.mark.tinymail("48", "D38")
@pytest.mark.parametrize(
    ("key", "said"),
    [("c", "store scans has no such key"), ("large", "store scans has more than 26214400 bytes")],
)
def test_a_file_that_cannot_be_sent(fleet: Embedded, key: str, said: str) -> None:
    """Whoever waits for the mail hears at once that it never will be sent, and why."""
    result = fleet.mailer("billing").post(
        mail(Attachment.stored("scans", key, optional=key == "large")), deadline_s=20
    )
    assert isinstance(result, Failed)
    assert said in result.reason
    assert list(fleet.catcher.store.receipts()) == []
