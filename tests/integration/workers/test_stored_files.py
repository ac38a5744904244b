"""Mail with files from stores: what the server gets, and what the row says where a file is missing or a store is away."""

from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from mailfleet.stores import Answer, Away, Directory, Found, Missing, Refused
from mailfleet_schema.content import Address, AttachmentRef, Content, FileRef, StoredRef
from mailfleet_schema.statements.insert import NewMail, insert_mails
from mailfleet_workers.files import AWAY_S, MOST_AWAY_S
from mailfleet_workers.outgoing import Outgoing
from mailfleet_workers.smtp.message import read
from mailfleet_workers.views.detail import show_mail
from tests.integration.workers.office import APP, PATIENCE, Office

TO = "ada@example.net"


def content(*files: FileRef) -> Content:
    return Content("<1@x.test>", None, (Address("", TO),), subject="Files", text="x", attachments=files)


def file(key: str, *, optional: bool = False, name: str = "") -> StoredRef:
    return StoredRef("invoices", key, name or key, "application/octet-stream", optional=optional)


def sent(office: Office) -> list[tuple[str | None, Any]]:
    """The files of the one mail that the server took, in order."""
    (envelope,) = office.server.dots
    message = message_from_bytes(read(envelope.message), _class=EmailMessage, policy=default)
    return [(part.get_filename(), part.get_payload(decode=True)) for part in message.iter_attachments()]


@pytest.mark.tinymail("48", "T7")
def test_files_of_both_kinds_in_their_order(office: Office, tmp_path: Path) -> None:
    """What came by value and what a directory has arrive as they were listed, under their names, byte for byte."""
    (tmp_path / "2026").mkdir()
    (tmp_path / "2026" / "17.pdf").write_bytes(b"\0\xffPDF")
    (tmp_path / "empty").write_bytes(b"")
    office.stores = lambda _app, ref, most: Directory(tmp_path).read(ref.key, most)
    own = AttachmentRef(sha256(b"own").hexdigest(), 3, "own, „file“.txt", "text/plain")
    files = content(
        file("2026/17.pdf", name="Rechnung 愛.pdf"), own, file("empty"), file("2026/17.pdf", name="b")
    )
    with office.engine.begin() as connection:
        mail = NewMail(files, blobs={own.sha256: b"own"})
        (inserted,) = insert_mails(connection, APP, [mail], grace_s=PATIENCE.grace_s)
    office.ids[TO] = inserted.mail_id
    office.deliver(inserted.mail_id)

    assert office.state(inserted.mail_id) == "sent"
    assert sent(office) == [
        ("Rechnung 愛.pdf", b"\0\xffPDF"),
        ("own, „file“.txt", b"own"),
        ("empty", b""),
        ("b", b"\0\xffPDF"),
    ]
    office.nothing_is_left()


@pytest.mark.tinymail("48", "D38")
@pytest.mark.parametrize(
    ("answer", "optional"),
    [(Missing("has no such key"), False), (Refused("is too large"), False), (Refused("is too large"), True)],
    ids=["missing", "refused", "optional and refused"],
)
def test_a_file_that_can_never_be_sent(office: Office, answer: Answer, *, optional: bool) -> None:
    """The mail ends at the first try, before a server is spoken to, and says which file of which store it was."""
    office.stores = lambda *_: answer
    mail_id = office.emit(TO, content=content(file("17.pdf", optional=optional)))
    office.deliver(mail_id)

    assert isinstance(answer, Missing | Refused)
    assert office.state(mail_id) == f"failed: stop: attachments[0]: store invoices {answer.reason}"
    assert (office.server.connects, office.attempts(mail_id)) == (0, ["stop"])
    office.nothing_is_left()


@pytest.mark.tinymail("48", "D38")
def test_optional_files_that_are_not_there(office: Office) -> None:
    """The mail goes without them, and its row says so; those that are there go with it."""
    answers: dict[str, Answer] = {"a": Missing("-"), "b": Found(b"b"), "c": Missing("-")}
    office.stores = lambda _app, ref, _most: answers[ref.key]
    mail_id = office.emit(TO, content=content(*(file(key, optional=True) for key in "abc")))
    office.deliver(mail_id)

    assert office.state(mail_id) == "sent: without: attachments[0], attachments[2]"
    assert sent(office) == [("b", b"b")]
    office.nothing_is_left()


@pytest.mark.tinymail("48")
def test_a_store_that_is_away(office: Office) -> None:
    """The mail waits, each time longer, optional or not; it is no failure of the mail, and no other mail's wait."""
    answer: Answer = Away("is not mounted")
    office.stores = lambda *_: answer
    mail_id = office.emit(TO, content=content(file("17.pdf", optional=True)), max_fail=1)
    waits = []
    for _ in range(3):
        office.deliver(mail_id)
        assert office.state(mail_id) == "queued: wait(mail): attachments[0]: store invoices is not mounted"
        waits.append(office.due_in_s(mail_id))
        office.let_pass(MOST_AWAY_S)
    other = office.emit("bob@example.net")
    office.deliver(other)
    answer = Found(b"there")
    office.deliver(mail_id)

    assert [round(wait / AWAY_S) for wait in waits] == [1, 2, 4]
    assert office.states([mail_id, other]) == ["sent", "sent"]
    assert (office.row(mail_id)["sum_fail"], office.row(mail_id)["waits"]) == (0, 3)
    office.nothing_is_left()


def test_a_dry_run_looks_as_well(office: Office) -> None:
    """What is missing is found where nothing leaves."""
    office.outgoing = Outgoing(dry_run_prefix="[DRYRUN]")
    office.stores = lambda *_: Missing("has no such key")
    mail_id = office.emit(TO, content=replace(content(file("17.pdf")), subject="[DRYRUN]"))
    office.deliver(mail_id)
    assert office.state(mail_id) == "failed: stop: attachments[0]: store invoices has no such key"


def test_what_is_shown_of_them(office: Office) -> None:
    """Store and key, and no size or hash of what nobody has read."""
    mail_id = office.emit(TO, content=content(file("2026/17.pdf", optional=True, name="a.pdf")))
    with office.engine.connect() as connection:
        detail = show_mail(connection, mail_id)
    assert detail is not None
    assert detail.content is not None
    (shown,) = detail.content.files
    assert (shown.filename, shown.store, shown.key, shown.optional) == (
        "a.pdf",
        "invoices",
        "2026/17.pdf",
        True,
    )
    assert (shown.size, shown.sha256, shown.stored) == (None, None, True)


def test_all_files_together_have_to_fit(office: Office) -> None:
    """A store is never asked for more than the mail has room for."""
    room: list[int] = []

    def stores(_app: str, ref: StoredRef, most: int) -> Answer:
        room.append(most)
        return Found(bytes(most)) if ref.key != "last" else Refused(f"has more than {most} bytes")

    office.stores = stores
    mail_id = office.emit(TO, content=content(file("a"), file("b"), file("last")))
    office.deliver(mail_id)

    assert room == [25 << 20, (15 << 20) - 1, 0]
    assert office.state(mail_id) == "failed: stop: attachments[2]: store invoices has more than 0 bytes"
