import hashlib
from typing import Any

import pytest

from mailfleet.mail import Attachment
from mailfleet.validation import Limits
from mailfleet.validation.attachments import TYPES, check_type, guess_type
from mailfleet.validation.limits import MIB
from mailfleet_schema.content import AttachmentRef
from tests.unit.validation.checking import check, refused

HTML = '<img src="cid:logo">'


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_references_and_blobs() -> None:
    """Attachments and inline parts become references; each content is stored once, in the order of hashes."""
    pdf, png = b"%PDF-1", b"\x89PNG"
    checked = check(
        html=HTML,
        attachments=[
            Attachment("a.pdf", pdf),
            Attachment("b.PDF", pdf),
            Attachment("ä愛.bin", b"", "Application/X-B"),
        ],
        inline=[Attachment("logo.png", png, content_id="logo")],
    )
    assert checked.content.attachments == (
        AttachmentRef(sha256(pdf), 6, "a.pdf", "application/pdf"),
        AttachmentRef(sha256(pdf), 6, "b.PDF", "application/pdf"),
        AttachmentRef(sha256(b""), 0, "ä愛.bin", "application/x-b"),
        AttachmentRef(sha256(png), 4, "logo.png", "image/png", "inline", "logo"),
    )
    assert checked.blobs == tuple(sorted((sha256(content), content) for content in (pdf, b"", png)))


@pytest.mark.parametrize(
    "filename",
    [
        "",
        ".",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "a/b.pdf",
        "..\\a.pdf",
        "C:\\a.pdf",
        "\\\\host\\share\\a.pdf",
        "a\0.pdf",
        "invoice\u202efdp.exe",
        "invoice\u2066x\u2069.pdf",
        " a.pdf",
        "a.exe ",
        "x" * 256,
        "é" * 128,
        "愛" * 86,
    ],
)
def test_hostile_filenames(filename: str) -> None:
    """A file name is a name of at most 255 bytes that shows what it is, never a path."""
    error = refused(attachments=[Attachment("a.pdf", b""), Attachment(filename, b"")])
    assert error.field == "attachments[1].filename"


@pytest.mark.parametrize(
    "filename", ["a", ".profile", "...", 'a b;c="d".pdf', "12:30.pdf", "x" * 255, "愛" * 85, "عقد.pdf"]
)
def test_good_filenames(filename: str) -> None:
    """Names in every script pass, and so do characters that a header must quote."""
    assert check(attachments=[Attachment(filename, b"")]).content.attachments[0].filename == filename


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "pdf",
        "/",
        "a/",
        "/b",
        "a/b/c",
        "application/pdf; name=x",
        "application/pdf;x",
        "text/html\r\nBcc: e@x",
        "text /plain",
        "*/*",
        "message/rfc822",
        "Message/External-Body",
        "multipart/mixed",
        "x" * 128 + "/a",
        "téxt/plain",
    ],
)
def test_hostile_content_types(content_type: str) -> None:
    """A content type is type/subtype only, and no container."""
    error = refused(attachments=[Attachment("a.pdf", b"", content_type)])
    assert error.field == "attachments[0].content_type"


def test_types_by_name() -> None:
    """The table of content types is of valid ones, by lower-case ending, and the same on every machine."""
    assert all(check_type(kind, "x") == kind and end == end.lower() for end, kind in TYPES.items())
    assert guess_type("a.tar.GZ") == "application/gzip"
    assert guess_type("pdf") == guess_type("a.") == guess_type("a.unknown") == "application/octet-stream"


@pytest.mark.parametrize(
    "content_id", [None, "", "<logo>", "lo go", "a@b@c", "-x", "a/b", "a@", "é", "x" * 129, "a;b"]
)
def test_inline_content_ids(content_id: str | None) -> None:
    """An inline part has an id of plain characters, without angle brackets."""
    error = refused(html=HTML, inline=[Attachment("a.png", b"", None, content_id)])
    assert error.field == "inline[0].content_id"


def test_content_ids_are_unique() -> None:
    """No two parts of a mail share an id, also across both lists."""
    logo = Attachment("a.png", b"", None, "logo@example.net")
    assert check(html=HTML, inline=[logo]).content.attachments[0].content_id == "logo@example.net"
    assert refused(html=HTML, inline=[logo, logo]).field == "inline[1].content_id"
    assert refused(html=HTML, attachments=[logo], inline=[logo]).field == "inline[0].content_id"


def test_inline_needs_html() -> None:
    """Inline parts without HTML would never be seen."""
    assert refused(inline=[Attachment("a.png", b"", None, "a")]).field == "inline"


@pytest.mark.parametrize("value", [None, "a.pdf", b"", Attachment("a", b""), {"a": b""}, 5])
@pytest.mark.parametrize("field", ["attachments", "inline"])
def test_lists_of_wrong_type(field: str, value: object) -> None:
    """Both are lists."""
    assert refused(html=HTML, **{field: value}).field == field


@pytest.mark.parametrize("value", [None, "a.pdf", b"", ("a.pdf", b"")])
@pytest.mark.parametrize("field", ["attachments", "inline"])
def test_entries_of_wrong_type(field: str, value: object) -> None:
    """Each entry is an Attachment."""
    good = Attachment("a", b"", None, "a")
    assert refused(html=HTML, **{field: [good, value]}).field == f"{field}[1]"


@pytest.mark.parametrize("content", [None, "text", bytearray(b"x"), memoryview(b"x"), 5])
def test_content_of_wrong_type(content: Any) -> None:
    """Content is bytes; what can still change is refused."""
    assert refused(attachments=[Attachment("a", content)]).field == "attachments[0].content"


def test_exactly_25_mib_passes() -> None:
    """An attachment of 25 MiB passes and one byte more does not."""
    content = bytes(25 * MIB)
    assert check(attachments=[Attachment("a", content)]).content.own_files()[0].size == 25 * MIB
    assert refused(attachments=[Attachment("a", content + b"x")]).field == "attachments[0].content"


def test_total_counts_repeated_contents_and_bodies() -> None:
    """What travels twice counts twice, and bodies count, too."""
    limits = Limits(total_bytes=100)
    file = Attachment("a", bytes(40))
    check(limits, text="é" * 10, attachments=[file, file])
    assert refused(limits, text="é" * 10 + "x", attachments=[file, file]).field == "attachments"
    assert refused(limits, text="x" * 50, html="x" * 51).field == "attachments"
    assert (
        refused(text=None, html="", attachments=[Attachment("a", bytes(21 * MIB))] * 2).field == "attachments"
    )


def test_number_of_files() -> None:
    """At most 50 files, inline parts counted."""
    files = [Attachment("a", b"") for _ in range(49)]
    inline = [Attachment("b", b"", None, str(n)) for n in range(2)]
    check(html=HTML, attachments=files, inline=inline[:1])
    assert refused(html=HTML, attachments=files, inline=inline).field == "attachments"
