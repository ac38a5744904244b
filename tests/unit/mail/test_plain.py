"""A mail described as plain data: what is understood, and what is refused by name."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from mailfleet import Address, Attachment, InvalidMail, Lazy, Mail, Ref
from mailfleet.plain import mail_of
from tests.unit.mail.emails import checked

PDF = b"%PDF\r\n\0"


def test_every_field() -> None:
    """What JSON says of a mail is the mail that the application would have made."""
    data = {
        "from": "Billing <billing@example.com>",
        "to": ["ada@example.net", {"name": "Bob", "address": "bob@example.net"}],
        "cc": "carl@example.net",
        "bcc": {"address": "dora@example.net"},
        "reply_to": [],
        "subject": "Invoice 17",
        "text": "Hello",
        "html": "<p>Hello</p>",
        "attachments": [{"filename": "a.pdf", "content": base64.b64encode(PDF).decode()}],
        "inline": [{"filename": "l.png", "content": "", "content_type": "image/png", "content_id": "logo"}],
        "headers": {"X-Campaign": "may"},
        "account": "second",
        "priority": "bulk",
        "due_at": "2026-02-01T08:00:00+01:00",
        "expires_at": "2026-02-02T08:00:00Z",
        "idempotency_key": "invoice-17",
        "mark": "vip",
        "ref": {"type": "invoice", "key1": "17"},
        "tags": ["a", "b"],
        "run_modes": ["!test"],
        "max_fail": 2,
        "max_done": 1,
        "retry": False,
        "on_doubt": "hold",
        "content_policy": "purge",
        "list_unsubscribe": ["https://example.com/u"],
    }
    made = mail_of(json.loads(json.dumps(data)))
    meant = Mail(
        from_="Billing <billing@example.com>",
        to=["ada@example.net", Address("Bob", "bob@example.net")],
        cc="carl@example.net",
        bcc=Address("", "dora@example.net"),
        reply_to=[],
        subject="Invoice 17",
        text="Hello",
        html="<p>Hello</p>",
        attachments=[Attachment("a.pdf", PDF)],
        inline=[Attachment("l.png", b"", "image/png", "logo")],
        headers={"X-Campaign": "may"},
        account="second",
        priority="bulk",
        due_at=datetime(2026, 2, 1, 7, 0, tzinfo=UTC),
        expires_at=datetime(2026, 2, 2, 8, 0, tzinfo=UTC),
        idempotency_key="invoice-17",
        mark="vip",
        ref=Ref("invoice", "17"),
        tags=["a", "b"],
        run_modes=["!test"],
        max_fail=2,
        max_done=1,
        retry=False,
        on_doubt="hold",
        content_policy="purge",
        list_unsubscribe=["https://example.com/u"],
    )
    assert checked(made) == checked(meant)


@pytest.mark.tinymail("48", "T7", "D33")
def test_files_from_stores() -> None:
    """By store and key, in one list with those that carry their content; the name is the key's last part if it is not said."""
    made = mail_of(
        {
            "to": "ada@example.net",
            "text": "x",
            "attachments": [
                {"store": "invoices", "key": "2026/17.pdf"},
                {"filename": "a.txt", "content": "eA=="},
                {
                    "store": "terms",
                    "key": "b",
                    "filename": "AGB 愛.pdf",
                    "optional": True,
                    "content_type": "application/pdf",
                },
            ],
        }
    )
    assert made.attachments == [
        Attachment.stored("invoices", "2026/17.pdf"),
        Attachment("a.txt", b"x"),
        Attachment.stored("terms", "b", filename="AGB 愛.pdf", optional=True, content_type="application/pdf"),
    ]
    assert [one.filename for one in checked(made).content.attachments] == ["17.pdf", "a.txt", "AGB 愛.pdf"]


@pytest.mark.tinymail("48", "D33")
@pytest.mark.parametrize(
    ("attachment", "field"),
    [
        ({"filename": "a", "url": "file:///etc/passwd"}, "url"),
        ({"filename": "a", "path": "/etc/passwd"}, "path"),
        ({"filename": "a", "resource": "classpath:a"}, "resource"),
        ({"store": "invoices"}, "key"),
        ({"key": "17.pdf"}, "store"),
        ({"store": ["invoices"], "key": "17.pdf"}, "store"),
        ({"store": "invoices", "key": 17}, "key"),
        ({"store": "invoices", "key": "17.pdf", "content": "eA=="}, "key"),
        ({"filename": "a", "content": "eA==", "optional": True}, "optional"),
        ({"store": "invoices", "key": "../17.pdf"}, "key"),
        ({"store": "invoices", "key": "17.pdf", "optional": "yes"}, "optional"),
        ({"store": "http://example.net", "key": "17.pdf"}, "store"),
    ],
    ids=str,
)
def test_files_that_nobody_may_name(attachment: dict[str, Any], field: str) -> None:
    """Paths, addresses, and what is neither content nor a store and a key."""
    with pytest.raises(InvalidMail) as caught:
        checked(mail_of({"to": "ada@example.net", "text": "x", "attachments": [attachment]}))
    assert caught.value.field == f"attachments[0].{field}"


def test_lazy_and_lists() -> None:
    """A renderer with its parameter; a reference and headers as lists; null leaves a field out."""
    made = mail_of(
        {
            "to": "ada@example.net",
            "lazy": {"renderer": "bill", "parameter": {"n": [1, None]}},
            "ref": ["invoice", "17", ""],
            "headers": [["X-A", "1"], ["X-A", "2"]],
            "text": None,
            "due_at": None,
        }
    )
    assert made == Mail(
        to="ada@example.net",
        lazy=Lazy("bill", {"n": [1, None]}),
        ref=("invoice", "17", ""),
        headers=[("X-A", "1"), ("X-A", "2")],
    )
    checked(made)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ([], "mail"),
        ("to=ada", "mail"),
        ({"sender": "ada@example.net"}, "sender"),
        ({"id": 7}, "id"),
        ({"from": "a@example.net", "from_": "b@example.net"}, "from"),
        ({"to": [{"name": "Ada", "mail": "ada@example.net"}]}, "to[0].mail"),
        ({"due_at": "tomorrow"}, "due_at"),
        ({"due_at": 1_700_000_000}, "due_at"),
        ({"headers": [["X-A"]]}, "headers[0]"),
        ({"headers": ["X-A: 1"]}, "headers[0]"),
        ({"lazy": "bill"}, "lazy"),
        ({"lazy": {"class": "os.system"}}, "lazy.class"),
        ({"ref": {"type": "a", "key3": "b"}}, "ref.key3"),
        ({"attachments": {"a.pdf": "file:///etc/passwd"}}, "attachments"),
        ({"attachments": [{"filename": "a", "path": "/etc/passwd"}]}, "attachments[0].path"),
        ({"attachments": [{"filename": "a", "url": "http://169.254.169.254/"}]}, "attachments[0].url"),
        ({"attachments": [{"filename": "a", "content": "no base64!"}]}, "attachments[0].content"),
        ({"attachments": [{"filename": "a", "content": 7}]}, "attachments[0].content"),
        ({"attachments": [{"filename": "a"}]}, "attachments[0].content"),
        ({"attachments": ["/etc/passwd"]}, "attachments[0]"),
    ],
    ids=repr,
)
def test_what_is_refused(data: Any, field: str) -> None:
    """The error names the field; nothing is fetched, and no path is read."""
    with pytest.raises(InvalidMail) as caught:
        mail_of(data)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"to": "ada@example.net", "text": "x", "due_at": "2026-02-01T08:00:00"}, "due_at"),
        ({"to": 7, "text": "x"}, "to"),
        ({"to": [None], "text": "x"}, "to[0]"),
        ({"to": "ada@example.net", "text": 7}, "text"),
        ({"to": "ada@example.net", "lazy": {}}, "lazy.renderer"),
        ({"to": "ada@example.net", "text": "x", "retry": "no"}, "retry"),
    ],
    ids=repr,
)
def test_what_the_mail_itself_refuses(data: Any, field: str) -> None:
    """Whatever can be read is checked as every other mail."""
    with pytest.raises(InvalidMail) as caught:
        checked(mail_of(data))
    assert caught.value.field == field
