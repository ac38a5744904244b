"""One mail from the options of `mailfleet send`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from mailfleet.emailmessage import from_eml
from mailfleet.errors import InvalidMail
from mailfleet.mail import Attachment, Mail
from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.cli.sending.files import read_attachment, read_text
from mailfleet_workers.cli.sending.mailboxes import mailboxes


@dataclass(frozen=True, slots=True)
class Letter:
    """The options that say what a mail is, as they were given."""

    to: Sequence[str]
    cc: Sequence[str]
    bcc: Sequence[str]
    sender: str | None
    subject: str | None
    text: str | None
    text_file: Path | None
    html_file: Path | None
    attach: Sequence[Path]
    inline: Sequence[str]

    def given(self) -> list[str]:
        """The options that were used."""
        options = {
            "--to": self.to,
            "--cc": self.cc,
            "--bcc": self.bcc,
            "--from": self.sender,
            "--subject": self.subject,
            "--text": self.text,
            "--text-file": self.text_file,
            "--html-file": self.html_file,
            "--attach": self.attach,
            "--inline": self.inline,
        }
        return [name for name, value in options.items() if value not in (None, [], ())]

    def mail(self) -> Mail:
        """The mail. Raises Failure and InvalidMail for what cannot be read."""
        if self.text is not None and self.text_file is not None:
            raise Failure("--text and --text-file: give one of them")
        text = self.text if self.text_file is None else read_text(self.text_file, "--text-file")
        return Mail(
            to=_boxes(self.to, "--to"),
            cc=_boxes(self.cc, "--cc"),
            bcc=_boxes(self.bcc, "--bcc"),
            from_=None if self.sender is None else _one(self.sender),
            subject=self.subject or "",
            text=text,
            html=None if self.html_file is None else read_text(self.html_file, "--html-file"),
            attachments=[read_attachment(path, f"attachments[{n}]") for n, path in enumerate(self.attach)],
            inline=[_inline(value, n) for n, value in enumerate(self.inline)],
        )


@dataclass(frozen=True, slots=True)
class Handling:
    """The options that say how mails are sent; each wins over what a template or file says."""

    priority: str | None
    account: str | None
    due_at: datetime | None
    expires_at: datetime | None
    key: str | None

    def apply(self, mail: Mail) -> Mail:
        """*mail* with what was given."""
        options = {
            "priority": self.priority,
            "account": self.account,
            "due_at": self.due_at,
            "expires_at": self.expires_at,
            "idempotency_key": self.key,
        }
        changes: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        return replace(mail, **changes)


#: Nothing was said of how a mail is sent.
NO_HANDLING = Handling(None, None, None, None, None)


def mail_of_eml(path: Path) -> Mail:
    """The mail in the .eml file *path*. Raises Failure and InvalidMail."""
    try:
        return from_eml(path.read_bytes())
    except OSError as error:
        raise Failure(f"--eml: {path} cannot be read ({error.strerror})") from error


def _boxes(values: Sequence[str], option: str) -> list[str | tuple[str, str]]:
    # `$` means nothing here, so it is doubled before the template's reader sees it.
    found = [box.fill({}) for value in values for box in mailboxes(value.replace("$", "$$"), option, 1)]
    return [one for one in found if one is not None]


def _one(value: str) -> str | tuple[str, str]:
    boxes = _boxes([value], "--from")
    if len(boxes) != 1:
        raise InvalidMail("from_", "expected one address")
    return boxes[0]


def _inline(value: str, position: int) -> Attachment:
    cid, equals, path = value.partition("=")
    if not equals or not cid or not path:
        raise Failure(f"--inline: expected CID=FILE, got {value!r}")
    return read_attachment(Path(path), f"inline[{position}]", cid=cid)
