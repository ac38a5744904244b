"""What `build` writes, read back with the standard library's modern parser."""

import email
import email.policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime

import pytest

from mailfleet_schema.content import Address
from mailfleet_workers.mime import MimeMismatch, build
from tests.unit.mime.samples import DATE, MESSAGE_ID, SENDER, Files, built, content, header_names


def _parsed(message: bytes) -> EmailMessage:
    parsed = email.message_from_bytes(message, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def _structure(part: EmailMessage) -> object:
    kind = part.get_content_type()
    return [kind, *map(_structure, part.iter_parts())] if part.is_multipart() else kind  # type: ignore[arg-type] # EmailMessage has EmailMessages


NAMES = [
    "Ada",
    "Grüße aus Köln",
    "Ада Лавлейс",
    "エイダ・ラブレス",
    "阿达·洛芙莱斯",
    "עדה לאבלייס",
    "आडा लवलेस",
    'Quote " and \\ backslash',
    "Comma, Semicolon; (parentheses) <angle@brackets.example>",
    "John Q. Public",
    "=?utf-8?q?x=0ABcc:_eve=40example.com?=",
    " blanks at the ends ",
    "two  blanks",
    "👩‍🚀 emoji",
    "a" * 200,
    "long words " * 20 + "end",
]


@pytest.mark.tinymail("44", "48", "D31")
@pytest.mark.parametrize("name", NAMES)
def test_names_and_subjects_in_any_script_come_back(name: str) -> None:
    """A display name, a subject, a header and a file name of any script are read as they were meant."""
    files = Files()
    mail = content(
        from_=Address(name, "me@example.com"),
        to=(Address(name, "a@x.example"), Address("", "b@x.example"), Address(name, "c@x.example")),
        reply_to=(Address(name, "r@x.example"),),
        subject=name,
        headers=(("X-Note", name), ("X-Note", "second")),
        attachments=(files.add(b"1", name),),
    )
    message = built(mail, files)
    assert header_names(message) == [
        "From", "To", "Reply-To", "Subject", "Date", "Message-ID", "X-Note", "X-Note", "MIME-Version", "Content-Type",
    ]  # fmt: skip
    parsed = _parsed(message)
    assert parsed["Subject"] == name
    assert parsed.get_all("X-Note") == [name, "second"]
    assert [a.addr_spec for a in parsed["To"].addresses] == ["a@x.example", "b@x.example", "c@x.example"]
    assert message.isascii()


def test_a_plain_mail_reads_as_plain_text() -> None:
    """Short ASCII is written as it is: no encoding where none is needed."""
    message = built(content(text="Hello\n\nBye\n"))
    assert message == (
        b"From: Fleet <fleet@example.com>\r\n"
        b"To: Ada <ada@example.net>\r\n"
        b"Subject: Invoice 17\r\n"
        b"Date: Sun, 01 Mar 2026 12:30:15 +0000\r\n"
        b"Message-ID: <4711.abc@example.com>\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\nHello\r\n\r\nBye\r\n"
    )


def test_the_same_content_gives_the_same_bytes() -> None:
    """A copy out of doubt differs in nothing but its date."""
    files = Files()
    mail = content(html="<p>ü</p>", attachments=(files.add(b"x", "x"),))
    assert built(mail, files) == built(mail, files)


@pytest.mark.tinymail("44")
def test_date_message_id_and_sender_are_set() -> None:
    """From is the mail's own or the account's; Date and Message-ID are what was given."""
    parsed = _parsed(built(content()))
    assert parsed["From"] == "Fleet <fleet@example.com>"
    assert parsedate_to_datetime(parsed["Date"]) == DATE
    assert parsed["Message-ID"] == MESSAGE_ID
    own = _parsed(built(content(from_=Address("", "me@example.com"))))
    assert own["From"] == "me@example.com"


@pytest.mark.smtplib(22)
@pytest.mark.tinymail("44", "D11")
def test_bcc_is_in_no_header() -> None:
    """Hidden recipients stay hidden, also when there are no others."""
    hidden = (Address("Eve", "eve@example.org"),)
    assert b"eve" not in built(content(bcc=hidden))
    alone = built(content(to=(), bcc=hidden))
    assert b"eve" not in alone
    assert _parsed(alone)["To"] == "undisclosed-recipients:;"
    assert "To" not in header_names(built(content(to=(), cc=(Address("", "c@x.example"),))))


TEXTS = [
    "",
    "one line",
    "line\n",
    "a\r\nb\rc\nd",
    "trailing blanks  \nand tab\t\n",
    ".\n..\n.\n",
    "From the start of a line\n",
    "x" * 5000,
    "ü" * 5000,
    "日本語\n" * 400,
    "--=_0123456789abcdef\n",
    "soft=hyphen\xad and \x0b \x0c \x1b control\n",
    "line\u2028separator \x85 next line\n",
    "\n\n\n",
    "=0A=0D",
]


@pytest.mark.parametrize("text", TEXTS)
def test_bodies_come_back_whatever_is_in_them(text: str) -> None:
    """Text and HTML are read as they were meant but for line ends, and nothing on the wire breaks SMTP."""
    for fields in ({"text": text}, {"text": None, "html": text}, {"text": text, "html": text}):
        message = built(content(**fields))
        lines = message.split(b"\r\n")
        assert not any(b"\r" in line or b"\n" in line or b"\0" in line or len(line) > 998 for line in lines)
        assert message.isascii()
        leaf = next(p for p in _parsed(message).walk() if not p.is_multipart())
        payload = leaf.get_payload(decode=True)
        assert isinstance(payload, bytes)
        meant = text.replace("\r\n", "\n").replace("\r", "\n")
        assert payload.decode().replace("\r\n", "\n").removesuffix("\n") == meant.removesuffix("\n")


@pytest.mark.tinymail("44")
def test_the_structure_is_the_common_one() -> None:
    """Alternatives inside, images of the HTML beside it, files around it."""
    files = Files()
    logo = files.add(b"\x89PNG", "logo.png", "image/png", "inline", "logo@x")
    pdf = files.add(b"%PDF", "a.pdf", "application/pdf")
    photo = files.add(b"\xff\xd8", "p.jpg", "image/jpeg", "inline")
    full = built(content(html="<p>x", attachments=(pdf, logo, photo)), files)
    assert _structure(_parsed(full)) == [
        "multipart/mixed",
        ["multipart/alternative", "text/plain", ["multipart/related", "text/html", "image/png"]],
        "application/pdf",
        "image/jpeg",
    ]
    assert _structure(_parsed(built(content(text=None, html="<p>x", attachments=(logo,)), files))) == [
        "multipart/related",
        "text/html",
        "image/png",
    ]
    assert _structure(_parsed(built(content(attachments=(logo,)), files))) == [
        "multipart/mixed",
        "text/plain",
        "image/png",
    ]
    assert _structure(_parsed(built(content(html="<p>x")))) == [
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]
    assert _structure(_parsed(built(content(text=None)))) == "text/plain"


@pytest.mark.parametrize(
    "filename",
    ["a.pdf", "Rechnung März.pdf", "счёт.pdf", "請求書.pdf", 'a"b.txt', "100%.txt", "a'b.txt", "a;b.txt", "", "ü" * 120, "x" * 250],
)  # fmt: skip
def test_files_come_back_with_bytes_name_type_and_id(filename: str) -> None:
    """Any bytes under any name, inline ones with the id that the HTML refers to."""
    files = Files()
    data = bytes(range(256)) * 40
    refs = (
        files.add(data, filename, "application/pdf"),
        files.add(b"", filename, "text/csv"),
        files.add(b"\r\n.\r\n\0", filename, "image/png", "inline", "logo.1@x"),
    )
    mail = _parsed(built(content(html='<img src="cid:logo.1@x">', attachments=refs), files))
    inline, *others = (p for p in mail.walk() if p.get_content_disposition())
    assert inline["Content-ID"] == "<logo.1@x>"
    assert [p.get_filename() or "" for p in (inline, *others)] == [filename] * 3
    assert [p.get_payload(decode=True) for p in (inline, *others)] == [b"\r\n.\r\n\0", data, b""]
    assert [p.get_content_disposition() for p in (inline, *others)] == ["inline", "attachment", "attachment"]


def test_a_text_may_quote_the_boundary_of_its_own_message() -> None:
    """Boundaries can be foretold, because they repeat; a text that holds one is encoded and ends nothing."""
    boundary = built(content(html="<p>")).split(b'boundary="')[1].split(b'"')[0].decode()
    text = f"--{boundary}\nContent-Type: text/html\n\nx\n--{boundary}--\n"
    parsed = _parsed(built(content(text=text, html=text)))
    assert _structure(parsed) == ["multipart/alternative", "text/plain", "text/html"]
    bodies = [part.get_content() for part in parsed.iter_parts()]
    assert [body.replace("\r\n", "\n") for body in bodies] == [text, text]


def test_one_click_is_offered_for_https_only() -> None:
    """List-Unsubscribe lists every URI; the Post field stands beside an https URI (RFC 8058 3.1)."""
    both = _parsed(built(content(list_unsubscribe=("https://x.example/u?a=1", "mailto:u@x.example"))))
    assert both["List-Unsubscribe"] == "<https://x.example/u?a=1>, <mailto:u@x.example>"
    assert both["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert "List-Unsubscribe-Post" not in _parsed(built(content(list_unsubscribe=("mailto:u@x.example",))))


def test_an_address_in_another_script_is_written_as_utf8() -> None:
    """A local part that is not ASCII cannot be encoded: the header is UTF-8 then (RFC 6532)."""
    message = built(content(to=(Address("Jörg", "jörg@example.net"),)))
    assert "<jörg@example.net>".encode() in message
    assert not message.isascii()


def test_extra_headers_of_the_caller_are_added() -> None:
    """They follow the mail's own, in order."""
    message = built(content(headers=(("X-A", "1"),)), extra_headers=(("X-Fence", "7"), ("X-Fence", "8")))
    assert header_names(message)[5:8] == ["X-A", "X-Fence", "X-Fence"]


def test_the_known_trap_of_encoded_line_ends_is_closed() -> None:
    """An encoded newline in plain text stays text, for readers that decode and write again too."""
    trap = "=?UTF-8?Q?=0ABcc:_eve=40example.org?="
    message = built(content(subject=trap, from_=Address(trap, "me@example.com"), headers=(("X-T", trap),)))
    assert "Bcc" not in header_names(message)
    parsed = _parsed(message)
    assert parsed["Subject"] == trap
    assert "Bcc" not in header_names(parsed.as_bytes(policy=email.policy.SMTP))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"subject": "a\r\nBcc: eve@example.org"}, "subject"),
        ({"subject": "a\nb"}, "subject"),
        ({"subject": "a\0b"}, "subject"),
        ({"subject": "a\u2028b"}, "subject"),
        ({"subject": "a\x85b"}, "subject"),
        ({"subject": "\ud800"}, "subject"),
        ({"to": (Address("x\r\nBcc: e@x.example", "a@x.example"),)}, "to[0].name"),
        ({"to": (Address("", "a@x.example"), Address("", "a@x.example, b@x.example"))}, "to[1].address"),
        ({"to": (Address("", "a@x.example>\r\nBcc: <e@x.example"),)}, "to[0].address"),
        ({"to": (Address("", "=?utf-8?q?a?=@x.example"),)}, "to[0].address"),
        ({"to": (Address("", "\ud800@x.example"),)}, "to[0].address"),
        ({"cc": (Address("", ""),)}, "cc[0].address"),
        ({"reply_to": (Address("", "no address"),)}, "reply_to[0].address"),
        ({"from_": Address("", "a b@x.example")}, "from[0].address"),
        ({"message_id": "<a@b>\r\nBcc: e@x.example"}, "message_id"),
        ({"message_id": "no-brackets@x"}, "message_id"),
        ({"headers": (("X-A\r\nBcc", "x"),)}, "headers[0].name"),
        ({"headers": (("X A", "x"),)}, "headers[0].name"),
        ({"headers": (("", "x"),)}, "headers[0].name"),
        ({"headers": (("Bcc", "e@x.example"),)}, "headers[0].name"),
        ({"headers": (("content-type", "text/html"),)}, "headers[0].name"),
        ({"headers": (("X-A", "a\r\n b"),)}, "headers[0].value"),
        ({"list_unsubscribe": ("https://x.example/>, <mailto:e@x.example",)}, "list_unsubscribe[0]"),
        ({"list_unsubscribe": ("https://x.example/\r\nBcc: e",)}, "list_unsubscribe[0]"),
        ({"text": "\ud800"}, "text"),
        ({"html": "\udfff"}, "html"),
    ],
)  # fmt: skip
def test_what_no_header_can_carry_is_refused(fields: dict[str, object], field: str) -> None:
    """Injection in every field is an error that names the field and does not repeat the value."""
    with pytest.raises(MimeMismatch) as caught:
        built(content(**fields))
    assert caught.value.field == field
    assert "eve" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"filename": "a\r\nb.pdf"}, "attachments[0].filename"),
        ({"filename": "a\0.pdf"}, "attachments[0].filename"),
        ({"content_type": "text/html\r\nX: y"}, "attachments[0].content_type"),
        ({"content_type": "html"}, "attachments[0].content_type"),
        ({"content_type": 'text/html; name="x"'}, "attachments[0].content_type"),
        ({"content_type": "message/rfc822"}, "attachments[0].content_type"),
        ({"content_type": "Multipart/mixed"}, "attachments[0].content_type"),
        ({"content_id": "x>\r\nX: y"}, "attachments[0].content_id"),
    ],
)
def test_a_file_that_cannot_be_described_is_refused(more: dict[str, str], field: str) -> None:
    """Names, types and ids of files are checked like every other text in a header."""
    files = Files()
    settings: dict[str, str] = {"filename": "a.bin", **more}
    ref = files.add(b"x", **settings)  # type: ignore[arg-type] # a disposition is never among them
    with pytest.raises(MimeMismatch) as caught:
        built(content(attachments=(ref,)), files)
    assert caught.value.field == field


def test_a_date_without_a_zone_is_refused() -> None:
    """A naive date would be written as an unknown zone."""
    with pytest.raises(MimeMismatch, match="date"):
        build(content(), sender=SENDER, date=DATE.replace(tzinfo=None), attachment=Files())


def test_what_the_attachment_store_raises_passes_through() -> None:
    """A store that fails is no fault of the mail's content."""
    files = Files()
    ref = files.add(b"x", "x")
    with pytest.raises(KeyError):
        built(content(attachments=(ref,)), Files())
