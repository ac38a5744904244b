from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from mailfleet.mail import Attachment, Lazy, Mail, Ref


def test_a_mail_is_made_without_checks() -> None:
    """Making a mail checks nothing; only its fields' names must be right."""
    mail = Mail(to=["no address"], subject="x")
    assert (mail.priority, mail.retry, mail.text, mail.cc) == ("normal", True, None, ())
    with pytest.raises(TypeError):
        Mail(recipients=["ada@example.net"])  # type: ignore[call-arg] # on purpose
    with pytest.raises(TypeError):
        Mail("ada@example.net")  # type: ignore[call-arg] # on purpose: fields have names


def test_a_mail_is_frozen() -> None:
    """A mail and what is in it cannot be changed."""
    with pytest.raises(FrozenInstanceError):
        Mail(to="ada@example.net").subject = "x"  # type: ignore[misc] # on purpose
    with pytest.raises(FrozenInstanceError):
        Ref("a").type = "b"  # type: ignore[misc] # on purpose


def test_a_repr_shows_no_content() -> None:
    """What is printed of a mail has no body, no file content and no parameter."""
    secret = "s3cret"
    mail = Mail(
        to="ada@example.net",
        text=secret,
        html=secret,
        headers={"X-A": secret},
        attachments=[Attachment("a.pdf", secret.encode())],
        lazy=Lazy("invoice", {"token": secret}),
    )
    assert secret not in repr(mail)
    assert "a.pdf" in repr(mail)


def test_from_path(tmp_path: Path) -> None:
    """A file is read at once, under its own name or another."""
    path = tmp_path / "invoice 17.pdf"
    path.write_bytes(b"%PDF")
    taken = Attachment.from_path(path)
    path.unlink()
    assert taken == Attachment("invoice 17.pdf", b"%PDF")


def test_from_path_with_names(tmp_path: Path) -> None:
    """Name, type and id may be given; a path may be text."""
    path = tmp_path / "x"
    path.write_bytes(b"png")
    taken = Attachment.from_path(str(path), filename="logo.png", content_type="image/png", content_id="logo")
    assert taken == Attachment("logo.png", b"png", "image/png", "logo")


def test_from_path_of_no_file(tmp_path: Path) -> None:
    """A file that cannot be read is the caller's OSError."""
    with pytest.raises(FileNotFoundError):
        Attachment.from_path(tmp_path / "none.pdf")
