"""Files that mails carry: read when the mail is made, and never from outside the folder that was meant."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mailfleet.errors import InvalidMail
from mailfleet.mail import Attachment
from mailfleet.validation import DEFAULT_LIMITS
from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.cli.sending.placeholders import Filled


def read_attachment(
    path: Path, field: str, *, filename: str | None = None, cid: str | None = None
) -> Attachment:
    """The file at *path*. Raises InvalidMail for *field* when it cannot be read or is too large to be tried."""
    try:
        if not path.is_file():
            raise InvalidMail(field, f"there is no file {path}")
        size = path.stat().st_size
        if size > DEFAULT_LIMITS.attachment_bytes:
            raise InvalidMail(field, f"{path} has {size} bytes, more than {DEFAULT_LIMITS.attachment_bytes}")
        return Attachment.from_path(path, filename=filename, content_id=cid)
    except OSError as error:
        raise InvalidMail(field, f"{path} cannot be read ({error.strerror})") from error


def read_text(path: Path, option: str) -> str:
    """The text in the UTF-8 file at *path*. Raises Failure, which names *option*."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise Failure(f"{option}: {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise Failure(f"{option}: {path} is not UTF-8 (byte {error.start})") from error


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that a template's header names, `path; filename=shown name`, relative to *folder*; inline ones have a `cid`."""

    path: Filled
    folder: Path
    filename: Filled | None
    cid: str | None

    def read(self, values: Mapping[str, str], field: str) -> Attachment:
        """The file for one row. Raises InvalidMail for *field*, also when a value leads out of the template's folder.

        What stands before the first placeholder's part of the path is the template's own word; from there on, values may
        name files below it only.
        """
        try:
            path = self.folder / self.path.fill(values).strip()
            base = self.folder / self._fixed()
            if not self.path.plain and not path.resolve().is_relative_to(base.resolve()):
                raise InvalidMail(field, f"{path} is outside of {base}")
        except ValueError as error:
            if isinstance(error, InvalidMail):
                raise
            raise InvalidMail(field, f"is no path ({error})") from error
        filename = None if self.filename is None else self.filename.fill(values).strip()
        return read_attachment(path, field, filename=filename, cid=self.cid)

    def _fixed(self) -> Path:
        before, dollar, _ = self.path.text.strip().partition("$")
        return (
            Path(before.rpartition("/")[0] or ("/" if before.startswith("/") else "")) if dollar else Path()
        )


def named_file(text: str, folder: Path, source: str, line: int, *, inline: bool) -> NamedFile:
    """`path`, `path; filename=name`, and for inline ones `cid=path`. Raises Failure."""
    cid = None
    if inline:
        cid, equals, text = text.partition("=")
        if not equals or not cid.strip():
            raise Failure(f"{source} line {line}: Inline: expected cid=path, got {text or cid!r}")
        cid = cid.strip()
    path, semicolon, name = text.partition("; filename=")
    return NamedFile(
        Filled(path.strip(), source, line), folder, Filled(name, source, line) if semicolon else None, cid
    )
