from contextlib import suppress
from email.message import EmailMessage, Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.emailmessage import from_email_message, from_eml
from mailfleet.errors import InvalidMail
from mailfleet_schema.content import Address
from tests.unit.mail.emails import checked, full, message


@pytest.mark.parametrize(
    ("header", "field"),
    [
        (b"To: a@x.example b@x.example", "to"),
        (b"To: a@x.example; b@x.example", "to"),
        (b"To: a@x.example <b@x.example>", "to"),
        (b"To: a@b ORCPT=rfc822;z", "to"),
        (b"To: Team: a@x.example, b@x.example;", "to"),
        (b"To: @a,@b:c@x.example", "to"),
        (b"To: ada", "to"),
        (b"To: =?utf-8?q?Ada=0ABcc=3A_eve?= <a@x.example>", "to"),
        (b"To: " + b"(" * 30_000 + b"a@x.example", "to"),
        (b"To: " + b"a@x.example," * 10_000 + b"a@x.example", "to"),
        (b"To: \xff <a@x.example>", "to"),
        (b"To: a@x.example\nTo: b@x.example", "to"),
        (b"From: a@x.example, b@x.example", "from_"),
        (b"Subject: \xff", "headers"),
        (b"Subject: a\nSubject: b", "headers"),
        (b"Resent-To: a@x.example", "headers[0].name"),
        (b"X-A: a\nX-Mailfleet-Id: 17", "headers[1].name"),
        (b"X-A: \xff", "headers[0].value"),
        (b"List-Unsubscribe: https://x.example/", "list_unsubscribe"),
        (b"List-Unsubscribe: <https://x.example/> (comment)", "list_unsubscribe"),
        (b"List-Unsubscribe-Post: List-Unsubscribe=One-Click", "list_unsubscribe"),
        (b"List-Unsubscribe: <https://x.example/>\nList-Unsubscribe-Post: x", "list_unsubscribe"),
        (b"Content-Transfer-Encoding: x-uuencode", "body"),
        (b"Content-Type: text/plain; charset=none-such", "body"),
        (b"Content-Type: text/plain; charset=hex", "body"),
        (b"Content-Type: text/plain; charset=us-ascii\nX-A: b", "body"),
        (b"Content-Type: text/plain\nContent-Type: text/html", "body"),
        (b"Content-Type: multipart/mixed; boundary=b", "eml"),
        (b"Content-Type: multipart/mixed", "eml"),
        (b"Content-Type: message/rfc822", "body"),
        (b"Content-Type: text/html\nContent-Transfer-Encoding: base64", "body"),
        (b"no header at all", "eml"),
    ],
)
def test_headers_that_cannot_be_kept(header: bytes, field: str) -> None:
    """A header that a mail cannot say, or that readers read differently, is refused by its field."""
    with pytest.raises(InvalidMail) as caught:
        from_eml(header + b"\n\nb\xc3\xb6dy\n" if field != "eml" else header + b"\n\nbody\n")
    assert caught.value.field == field


TEXT, HTML = MIMEText("t"), MIMEText("h", "html")


def tree(kind: str, *parts: Message) -> MIMEMultipart:
    made = MIMEMultipart(kind)
    made["To"] = "ada@example.net"
    for part in parts:
        made.attach(part)
    return made


def part(content_type: str, content: str = "x", **headers: str) -> Message:
    made: Message = Message()
    made["Content-Type"] = content_type
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    made.set_payload(content)
    return made


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (tree("mixed", TEXT, TEXT), "part[2]"),
        (tree("mixed", TEXT, HTML), "part[2]"),
        (tree("mixed", TEXT, tree("alternative", TEXT, HTML)), "part[2]"),
        (tree("mixed", TEXT, part("application/pdf"), TEXT), "part[3]"),
        (tree("alternative", HTML, TEXT), "part[2]"),
        (tree("alternative", TEXT, TEXT), "part[2]"),
        (tree("alternative", TEXT, HTML, HTML), "part[3]"),
        (tree("alternative", TEXT, part("text/x-amp-html"), HTML), "part[2]"),
        (tree("alternative", TEXT, part("text/calendar; method=REQUEST")), "part[2]"),
        (tree("alternative", TEXT, tree("mixed", HTML, part("application/pdf"), HTML)), "part[2]"),
        (tree("related", TEXT, part("image/png", Content_ID="<a>")), "part[1]"),
        (tree("related", part("image/png", Content_ID="<a>"), HTML), "part[1]"),
        (tree("related", HTML, part("image/png")), "part[2]"),
        (tree("mixed", tree("alternative", TEXT, tree("related", HTML, part("image/png")))), "part[1.2.2]"),
        (tree("signed", TEXT, part("application/pgp-signature")), "body"),
        (tree("encrypted", part("application/pgp-encrypted")), "body"),
        (tree("report", TEXT), "body"),
        (tree("digest", TEXT), "body"),
        (tree("mixed", TEXT, part("text/calendar; method=REQUEST; charset=utf-8")), "part[2]"),
        (
            tree("mixed", TEXT, part("text/csv; charset=iso-8859-1", Content_Disposition="attachment")),
            "part[2]",
        ),
        (tree("mixed", TEXT, part("application/pdf", "%", Content_Transfer_Encoding="base64")), "part[2]"),
        (tree("mixed", TEXT, part("application/pdf", "x", Content_Transfer_Encoding="uuencode")), "part[2]"),
        (tree("mixed"), "body"),
        (part("multipart/mixed"), "body"),
    ],
)
def test_trees_that_cannot_be_kept(given: Message, field: str) -> None:
    """A tree that says more than two bodies and files is refused by the part that does."""
    with pytest.raises(InvalidMail) as caught:
        from_email_message(given)
    assert caught.value.field == field


def test_a_message_in_a_message() -> None:
    """A forwarded message is a mail of its own, with rules of its own: refused, with what to do instead."""
    given = message()
    given.set_content("See below\n")
    given.add_attachment(full())
    with pytest.raises(InvalidMail) as caught:
        from_email_message(given)
    assert caught.value.field == "part[2]"
    assert "application/octet-stream" in caught.value.reason


def test_deep_trees() -> None:
    """Absurd nesting is refused, built or parsed."""
    made: Message = MIMEText("t")
    for _ in range(12):
        made = tree("mixed", made)
    with pytest.raises(InvalidMail, match="deeper"):
        from_email_message(made)
    lines = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(1000))
    with pytest.raises(InvalidMail):
        from_eml(lines)


@pytest.mark.parametrize(
    "data",
    [b"Subject: x\rBcc: e@x.example\n\nhi", b"Subject: x\0y\n\nhi", b"To: a@x\n\nhi\0", b"A: b\n\na\rb\n"],
)
def test_files_that_readers_read_differently(data: bytes) -> None:
    """A lone CR or a NUL anywhere in a file refuses it."""
    with pytest.raises(InvalidMail) as caught:
        from_eml(data)
    assert caught.value.field == "eml"


PIECES = [
    b"\r\n",
    b"\n",
    b"=?utf-8?q?",
    b"?=",
    b'"',
    b"<",
    b">",
    b"(",
    b";",
    b":",
    b"\xff",
    b"--",
    b"@",
    b",",
    b"\t",
    b"[",
    b"=",
]
PIECES += [
    b"Content-Type: ",
    b"multipart/",
    b"message/rfc822",
    b"charset=",
    b"*0*=",
    b"filename*=utf-8''%00",
    b"base64",
    b"\0",
]


@given(
    st.lists(
        st.tuples(st.integers(0, 4000), st.integers(0, 20), st.sampled_from(PIECES) | st.binary(max_size=4)),
        min_size=1,
        max_size=5,
    )
)
def test_damaged_files(damages: list[tuple[int, int, bytes]]) -> None:
    """A file damaged anywhere is read or refused; nothing else is raised."""
    data = full().as_bytes()
    for place, lost, put in damages:
        data = data[:place] + put + data[place + lost :]
    with suppress(InvalidMail):
        checked(from_eml(data))


def compat32(**headers: str) -> Message:
    made: Message = Message()
    made["To"] = "ada@example.net"
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    made.set_payload("x")
    return made


def headers_of(given: Message) -> set[str]:
    content = checked(from_email_message(given)).content
    assert not content.bcc
    return {content.subject, *(name for name, _ in content.headers), *(value for _, value in content.headers)}


@pytest.mark.parametrize(
    "value",
    [
        "x\nBcc: eve@example.net",
        "x\r\nBcc: eve@example.net",
        "x\rBcc: eve@example.net",
        "x\n\n<h1>",
        "x\n",
        "x\0",
        "=?utf-8?q?x=0ABcc:_eve=40example.net?=",
        "=?utf-8?b?eApCY2M6IGV2ZUBleGFtcGxlLm5ldA==?=",
        "=?utf-8?q?x=0D=0A_Bcc:_eve=40example.net?=",
    ],
)
@pytest.mark.parametrize("name", ["Subject", "X-A", "To", "From"])
def test_injection_through_a_message(name: str, value: str) -> None:
    """A line break in a header of a message, plain or encoded, refuses the mail and never becomes a header."""
    old = compat32()
    del old[name]
    old[name] = value
    with pytest.raises(InvalidMail):
        headers_of(old)
    new = EmailMessage()
    new.set_content("x")
    try:
        new["To"] = "ada@example.net"
        del new[name]
        new[name] = value
    except ValueError:
        return  # the standard library refuses it itself
    with pytest.raises(InvalidMail):
        headers_of(new)


@pytest.mark.parametrize("given", [compat32(), message()])
def test_injection_through_a_header_name(given: Message) -> None:
    """A line break in a header's name, which the standard library lets pass, refuses the mail."""
    if isinstance(given, EmailMessage):
        given.set_content("x")
    try:
        given["X-A: b\r\nBcc"] = "eve@example.net"
    except ValueError:
        return  # newer releases refuse it themselves
    with pytest.raises(InvalidMail) as caught:
        from_email_message(given)
    assert caught.value.field == "headers[0].name"


def test_folded_headers_are_unfolded() -> None:
    """A fold is a blank, in messages of every kind."""
    mail = from_eml(
        b"To: Ada\r\n Lovelace\r\n <ada@example.net>\r\nSubject: a\r\n\tb\r\nX-A: c\r\n  d\r\n\r\nx"
    )
    assert mail.to == [Address("Ada Lovelace", "ada@example.net")]
    assert mail.headers == [("X-A", "c  d")]


@pytest.mark.parametrize("value", [None, "To: a@x", b"To: a@x", 5])
def test_only_messages(value: Any) -> None:
    """Anything but a message is refused."""
    with pytest.raises(InvalidMail) as caught:
        from_email_message(value)
    assert caught.value.field == "mail"
