"""Attachments by store and key, as an application hands them over: what is read, what is left to workers, what is refused."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from mailfleet import Attachment, InvalidMail, Mail
from mailfleet.stores import Directory
from mailfleet.validation import DEFAULT_LIMITS, Checked, Limits, validate
from mailfleet.validation.attachments import Shelves
from mailfleet_schema.content import AttachmentRef, StoredRef, file_from_json
from tests.unit.validation.checking import MESSAGE_ID, NOW


@pytest.fixture
def shelves(tmp_path: Path) -> Shelves:
    """One directory with a file, one that is not mounted, one of another app."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "17.pdf").write_bytes(b"%PDF")
    return {
        "here": Directory(tmp_path / "here"),
        "unmounted": Directory(tmp_path / "nothing"),
        "theirs": None,
    }


def check(
    shelves: Shelves, *attachments: Attachment, limits: Limits = DEFAULT_LIMITS, **fields: Any
) -> Checked:
    mail = Mail(to="ada@example.net", text="Hi", attachments=attachments, **fields)
    return validate(mail, limits=limits, new_message_id=lambda: MESSAGE_ID, now=NOW, shelves=shelves)


def refused(shelves: Shelves, *attachments: Attachment, **more: Any) -> InvalidMail:
    with pytest.raises(InvalidMail) as caught:
        check(shelves, *attachments, **more)
    return caught.value


@pytest.mark.tinymail("48", "T7", "D38")
def test_both_kinds_in_their_order(shelves: Shelves) -> None:
    """What can be read is stored by value, what cannot is stored as store and key; names of any script, order kept."""
    checked = check(
        shelves,
        Attachment.stored("elsewhere", "a/b.PDF"),
        Attachment("Zürich, 愛.txt", b"x"),
        Attachment.stored("here", "17.pdf", filename="Rechnung „17“.pdf", content_type="Application/X-PDF"),
        Attachment.stored("here", "terms.pdf", optional=True),
        Attachment.stored("unmounted", "2.csv"),
    )
    x, pdf = hashlib.sha256(b"x").hexdigest(), hashlib.sha256(b"%PDF").hexdigest()

    assert checked.content.attachments == (
        StoredRef("elsewhere", "a/b.PDF", "b.PDF", "application/pdf"),
        AttachmentRef(x, 1, "Zürich, 愛.txt", "text/plain"),
        AttachmentRef(pdf, 4, "Rechnung „17“.pdf", "application/x-pdf"),
        StoredRef("here", "terms.pdf", "terms.pdf", "application/pdf", optional=True),
        StoredRef("unmounted", "2.csv", "2.csv", "text/csv"),
    )
    assert dict(checked.blobs) == {x: b"x", pdf: b"%PDF"}


def test_an_image_of_the_html(shelves: Shelves) -> None:
    """Inline parts come from stores as well."""
    image = Attachment.stored("elsewhere", "logo.png", content_id="logo")
    checked = check(shelves, html='<img src="cid:logo">', inline=[image])
    assert checked.content.attachments == (
        StoredRef("elsewhere", "logo.png", "logo.png", "image/png", "inline", "logo"),
    )


@pytest.mark.parametrize("optional", [False, True])
def test_references_survive_json(optional: bool) -> None:
    """What stands in the row is what was meant."""
    ref = StoredRef("s", "a/b", "b", "text/plain", "inline", "cid", optional)
    assert file_from_json(ref.as_json()) == ref
    own = AttachmentRef("0" * 64, 1, "b", "text/plain")
    assert file_from_json(own.as_json()) == own


@pytest.mark.tinymail("48", "D38")
def test_what_is_missing_is_refused_at_once(shelves: Shelves) -> None:
    """By field, before anything is written; TinyMail found out while it spoke to the server."""
    error = refused(shelves, Attachment("a", b""), Attachment.stored("here", "18.pdf"))
    assert (error.field, error.reason) == ("attachments[1].key", "the store here has no such key")


@pytest.mark.tinymail("D33")
@pytest.mark.parametrize(
    ("store", "key", "field"),
    [
        ("here", "../secret", "key"),
        ("here", "/etc/passwd", "key"),
        ("here", "file:///etc/passwd", "key"),
        ("elsewhere", "http://169.254.169.254/", "key"),
        ("elsewhere", "", "key"),
        ("file:/etc", "passwd", "store"),
        ("", "a", "store"),
        ("theirs", "17.pdf", "store"),
        (None, "17.pdf", "store"),
    ],
)
def test_no_path_and_no_address_can_be_named(shelves: Shelves, store: Any, key: str, field: str) -> None:
    """Known store or not: a key is names joined by slashes, a store is a name, and one of another app is not ours."""
    assert refused(shelves, Attachment.stored(store, key)).field == f"attachments[0].{field}"


def test_links_and_large_files_are_refused(shelves: Shelves, tmp_path: Path) -> None:
    """Optional or not: they are there, and may not be sent."""
    (tmp_path / "here" / "link").symlink_to("17.pdf")
    for optional in (False, True):
        link = refused(shelves, Attachment.stored("here", "link", optional=optional))
        large = refused(
            shelves, Attachment.stored("here", "17.pdf", optional=optional), limits=Limits(attachment_bytes=3)
        )
        assert (link.field, large.field) == ("attachments[0].key", "attachments[0].key")


def test_all_files_together_have_to_fit(shelves: Shelves) -> None:
    """A hundred names of one large file are not a hundred large files in memory."""
    error = refused(
        shelves, *[Attachment.stored("here", "17.pdf")] * 3, limits=Limits(total_bytes=9, attachment_bytes=4)
    )
    assert (error.field, error.reason) == ("attachments[2].key", "the store here has more than 1 bytes")


def test_the_flag_is_a_flag(shelves: Shelves) -> None:
    """Neither 1 nor a text."""
    wrong: Any = "yes"
    assert (
        refused(shelves, Attachment.stored("here", "17.pdf", optional=wrong)).field
        == "attachments[0].optional"
    )


def test_the_same_mail_whoever_reads_it(shelves: Shelves, tmp_path: Path) -> None:
    """The payload hash goes by store and key, so an idempotency key finds the first mail though the file has changed."""

    def of(known: Shelves, **more: Any) -> str:
        return check(known, Attachment.stored("here", "17.pdf", **more)).payload_hash

    first = of(shelves)
    (tmp_path / "here" / "17.pdf").write_bytes(b"changed")
    assert of(shelves) == of({}) == first
    assert len({first, of({}, optional=True), of({}, filename="x.pdf")}) == 3
    assert first != check({}, Attachment("17.pdf", b"changed")).payload_hash
