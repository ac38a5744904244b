import email
import email.policy
from collections.abc import Callable
from email.header import Header
from email.message import Message
from email.mime.application import MIMEApplication
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

import pytest

from mailfleet.emailmessage import from_email_message, from_eml
from mailfleet.errors import InvalidMail
from mailfleet.mail import Attachment, Mail
from mailfleet_schema.content import Address
from tests.unit.mail.emails import PNG, checked, full, message

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
