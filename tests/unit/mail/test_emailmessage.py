import email
import email.policy
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.header import Header
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage, Message
from email.mime.application import MIMEApplication
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.emailmessage import from_email_message, from_eml
from mailfleet.errors import InvalidMail
from mailfleet.mail import Attachment, Mail
from mailfleet.validation import Checked, validate
from mailfleet_schema.content import Address

NOW = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n\0\r\n.\r\n"


def checked(mail: Mail) -> Checked:
    return validate(mail, new_message_id=lambda: "<1@example.net>", now=NOW)


def message(**headers: str) -> EmailMessage:
    made = EmailMessage()
    made["From"] = "Billing <billing@example.com>"
    made["To"] = "ada@example.net"
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    return made


def full() -> EmailMessage:
    """Everything at once: names in several scripts, two bodies, an inline image, attachments."""
    made = EmailMessage()
    made["From"] = HeaderAddress("Zoë, Billing", "billing", "example.com")
    made["To"] = [
        HeaderAddress("愛", "ada", "example.net"),
        HeaderAddress("", "bob", "xn--bcher-kva.example"),
    ]
    made["Cc"] = "Иван Петров <ivan@example.net>"
    made["Bcc"] = "hidden@example.net"
    made["Reply-To"] = "reply@example.com"
    made["Subject"] = "Grüße — 17 " + "lang " * 30 + "!"
    made["X-Campaign"] = "märz"
    made["In-Reply-To"] = "<5@example.net>"
    made["Date"] = "Sat, 31 Jan 2026 08:00:00 +0000"
    made["Message-ID"] = "<9@example.com>"
    made["List-Unsubscribe"] = "<https://example.com/u/1>, <mailto:leave@example.com>"
    made["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    made.set_content("Grüße\n.\nFrom here\n" + "x" * 2000 + "\n")
    made.add_alternative('<p>Grüße <img src="cid:logo@example.com"></p>\n', subtype="html")
    _, html = made.iter_parts()
    assert isinstance(html, EmailMessage)
    html.add_related(PNG, "image", "png", cid="<logo@example.com>", filename="logo.png")
    made.add_attachment(b"%PDF\r\n\0", "application", "pdf", filename="Rechnung é愛.pdf")
    made.add_attachment("a,ü\n", subtype="csv", filename="a.csv", cte="base64")
    return made


EXPECTED = Mail(
    from_=Address("Zoë, Billing", "billing@example.com"),
    to=[Address("愛", "ada@example.net"), Address("", "bob@xn--bcher-kva.example")],
    cc=[Address("Иван Петров", "ivan@example.net")],
    bcc=[Address("", "hidden@example.net")],
    reply_to=[Address("", "reply@example.com")],
    subject="Grüße — 17 " + "lang " * 30 + "!",
    headers=[("X-Campaign", "märz"), ("In-Reply-To", "<5@example.net>")],
    text="Grüße\n.\nFrom here\n" + "x" * 2000 + "\n",
    html='<p>Grüße <img src="cid:logo@example.com"></p>\n',
    attachments=[
        Attachment("Rechnung é愛.pdf", b"%PDF\r\n\0", "application/pdf"),
        Attachment("a.csv", "a,ü\n".encode(), "text/csv"),
    ],
    inline=[Attachment("logo.png", PNG, "image/png", "logo@example.com")],
    list_unsubscribe=["https://example.com/u/1", "mailto:leave@example.com"],
)


@pytest.mark.parametrize(
    "given",
    [
        full,
        lambda: email.message_from_bytes(full().as_bytes(), policy=email.policy.default),
        lambda: email.message_from_bytes(full().as_bytes(policy=email.policy.SMTP), policy=email.policy.SMTP),
        lambda: email.message_from_bytes(full().as_bytes()),
        lambda: email.message_from_string(full().as_string()),
    ],
    ids=["built", "parsed", "parsed-crlf", "compat32", "string"],
)
def test_round_trip(given: Callable[[], Message]) -> None:
    """What a message says arrives in the fields, whatever way the message was made."""
    mail = from_email_message(given())
    assert mail == EXPECTED
    assert len(checked(mail).content.recipients()) == 4


@pytest.mark.parametrize("policy", [email.policy.SMTP, email.policy.SMTPUTF8, email.policy.default])
def test_eml_round_trip(policy: Any) -> None:
    """A file with either line end, with encoded words or UTF-8 in its headers, gives the same mail."""
    assert from_eml(full().as_bytes(policy=policy)) == EXPECTED


def test_the_message_is_not_changed() -> None:
    """Reading a message leaves it as it was."""
    given = full()
    before = given.as_bytes()
    from_email_message(given)
    assert given.as_bytes() == before


def test_overrides_win() -> None:
    """Fields given beside the message replace the message's."""
    mail = from_email_message(full(), to="eve@example.net", subject="x", headers=(), priority="bulk")
    assert (mail.to, mail.subject, mail.headers, mail.priority) == ("eve@example.net", "x", (), "bulk")
    with pytest.raises(TypeError):
        from_email_message(full(), recipients=[])


def test_a_message_of_old() -> None:
    """MIMEMultipart and its kin are read, encoded headers included."""
    made = MIMEMultipart("mixed")
    made["From"] = "billing@example.com"
    made["To"] = '"Lovelace, Ada" <ada@example.net>'
    made["Subject"] = Header("Grüße " * 20, "utf-8")  # type: ignore[assignment] # old code does so
    related = MIMEMultipart("related")
    related.attach(MIMEText("<p>é</p>", "html", "utf-8"))
    image = MIMEImage(PNG, "png")
    image.add_header("Content-ID", "<logo>")
    related.attach(image)
    made.attach(related)
    file = MIMEApplication(b"%PDF", "pdf")
    file.add_header("Content-Disposition", "attachment", filename=("utf-8", "", "é.pdf"))
    made.attach(file)
    mail = from_email_message(made)
    assert mail.to == [Address("Lovelace, Ada", "ada@example.net")]
    assert checked(mail).content.subject == ("Grüße " * 20).strip()
    assert (mail.text, mail.html) == (None, "<p>é</p>")
    assert mail.inline == [Attachment("part-1.2", PNG, "image/png", "logo")]
    assert mail.attachments == [Attachment("é.pdf", b"%PDF", "application/pdf")]


def test_file_names_as_other_programs_write_them() -> None:
    """A file name may be an encoded word in quotes, or the old name parameter."""
    eml = (
        b"From: a@x.example\nTo: b@x.example\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
        b'--b\n\nHi\n--b\nContent-Type: application/pdf\nContent-Disposition: attachment;\n filename="=?utf-8?q?=C3=A9?= a.pdf"\n\nx\n'
        b'--b\nContent-Type: application/pdf; name="b.pdf"\n\ny\n--b--\n'
    )
    mail = from_eml(eml)
    assert mail.text == "Hi"
    assert [a.filename for a in mail.attachments] == ["é a.pdf", "b.pdf"]


def test_simple_bodies() -> None:
    """One part is text, HTML, or a file with an empty text beside it."""
    text, html, file = message(), message(), message()
    text.set_content("Hi\n")
    html.set_content("<p>", subtype="html")
    file.set_content(b"%PDF", "application", "pdf", filename="a.pdf")
    assert (from_email_message(text).text, from_email_message(text).html) == ("Hi\n", None)
    assert (from_email_message(html).text, from_email_message(html).html) == (None, "<p>\n")
    mail = from_email_message(file)
    assert (mail.text, mail.attachments) == ("", [Attachment("a.pdf", b"%PDF", "application/pdf")])


def test_international_domains() -> None:
    """A domain in any script comes from a message that holds it as text.

    Written to bytes by the standard library it becomes an encoded word inside the address, which RFC 2047 5 forbids
    and every reader takes for something else: such a file is refused.
    """
    given = message()
    given.replace_header("To", "Zoë <zoë@bücher.example>")
    given.set_content("")
    assert checked(from_email_message(given)).content.to == (Address("Zoë", "zoë@xn--bcher-kva.example"),)
    assert checked(from_eml(given.as_bytes(policy=email.policy.SMTPUTF8))).content.to[0].name == "Zoë"
    with pytest.raises(InvalidMail):
        from_eml(b"From: a@x.example\nTo: bob@=?utf-8?q?b=C3=BCcher?=.example\n\nx")


def test_no_visible_recipients() -> None:
    """An empty group in To is nobody."""
    given = message(Bcc="eve@example.net")
    given.replace_header("To", "undisclosed-recipients:;")
    given.set_content("")
    content = checked(from_email_message(given)).content
    assert (content.to, content.recipients()) == ((), ("eve@example.net",))


def test_headers_of_a_journey_are_left_out() -> None:
    """Traces, identities and signatures of an earlier journey do not travel again."""
    given = full().as_bytes()
    trace = (
        b"Return-Path: <x@example.net>\nReceived: from a by b; Sat, 31 Jan 2026 08:00:00 +0000\n"
        b"Received: from b by c;\n\tSat, 31 Jan 2026 08:00:00 +0000\nDelivered-To: x@example.net\n"
        b"DKIM-Signature: v=1; a=rsa-sha256\nARC-Seal: i=1\nAuthentication-Results: x; spf=pass\n"
    )
    assert from_eml(trace + given) == EXPECTED
    assert from_eml(b"From x@example.net Sat Jan 31 08:00:00 2026\n" + given) == EXPECTED


def test_a_sender_that_is_the_author_is_left_out() -> None:
    """Sender is superfluous when it repeats From, and refused otherwise."""
    same, other = message(Sender="billing@example.com"), message(Sender="eve@example.com")
    same.set_content("")
    other.set_content("")
    assert from_email_message(same).headers == []
    with pytest.raises(InvalidMail) as caught:
        from_email_message(other)
    assert caught.value.field == "from_"


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
