"""Whether files may travel with a mail, and how: references for the row, bytes for the store.

Contents are opaque; nobody looks into them. A missing content type comes from the file name by a table of our own,
because the standard library's differs between machines and Python versions.
"""

import hashlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias, assert_never

from mailfleet.errors import InvalidMail
from mailfleet.mail import Attachment, Stored
from mailfleet.stores import Away, Directory, Found, InvalidKey, Missing, Refused, check_key
from mailfleet.validation.limits import Limits
from mailfleet.validation.text import exact, header_text, no_bidi_override, octets
from mailfleet_schema.content import AttachmentRef, Disposition, FileRef, StoredRef
from mailfleet_schema.names import EXPECTATION, InvalidName, check_name

# RFC 6838 4.2: restricted names.
_TYPE = re.compile(r"([A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126})/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_CONTENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,127}(?:@[A-Za-z0-9][A-Za-z0-9.-]{0,62})?")
_ANY = "application/octet-stream"

#: Content types by the end of the file name, in lower case.
TYPES = {
    "avif": "image/avif",
    "bmp": "image/bmp",
    "css": "text/css",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "gif": "image/gif",
    "gz": "application/gzip",
    "htm": "text/html",
    "html": "text/html",
    "ics": "text/calendar",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "md": "text/markdown",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "odp": "application/vnd.oasis.opendocument.presentation",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "odt": "application/vnd.oasis.opendocument.text",
    "pdf": "application/pdf",
    "png": "image/png",
    "ppt": "application/vnd.ms-powerpoint",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "rtf": "application/rtf",
    "svg": "image/svg+xml",
    "tar": "application/x-tar",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "txt": "text/plain",
    "vcf": "text/vcard",
    "wav": "audio/wav",
    "webp": "image/webp",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "xml": "application/xml",
    "zip": "application/zip",
}


#: The stores that an application's settings name: a directory, which it reads itself, or None where it may not use it.
Shelves: TypeAlias = Mapping[str, Directory | None]

NO_SHELVES: Shelves = MappingProxyType({})


class Files(NamedTuple):
    """What came of a mail's attachments and inline parts.

    `refs` are in the order attachments, inline. `blobs` holds each content once, ordered by hash: whoever inserts
    in this order cannot deadlock with another who does. `size` counts a content as often as it is referred to; a file
    that workers take from a store has none yet. `meant` is what the payload hash takes: the content type is None where
    the application gave none, so that a longer table above changes no hash, and a file from a store is the same
    whoever reads it.
    """

    refs: tuple[FileRef, ...] = ()
    blobs: tuple[tuple[str, bytes], ...] = ()
    size: int = 0
    meant: tuple[tuple[str | bool | None, ...], ...] = ()


NO_FILES = Files()


def files(attachments: object, inline: object, limits: Limits, shelves: Shelves = NO_SHELVES) -> Files:
    """Check both lists, and read what stands in one of *shelves*. Raises InvalidMail for `attachments[n].filename` and the like."""
    if isinstance(attachments, tuple) and isinstance(inline, tuple) and not (attachments or inline):
        return NO_FILES
    entries = [*_entries(attachments, "attachments"), *_entries(inline, "inline")]
    if len(entries) > limits.attachments:
        field = "attachments" if attachments else "inline"
        raise InvalidMail(field, f"expected at most {limits.attachments} files, got {len(entries)}")
    refs: list[FileRef] = []
    blobs: dict[str, bytes] = {}
    meant: list[tuple[str | bool | None, ...]] = []
    size = 0
    seen: set[str] = set()
    for field, entry in entries:
        disposition: Disposition = "inline" if field.startswith("inline") else "attachment"
        place = _place(entry.content, field) if isinstance(entry.content, Stored) else None
        filename = check_filename(entry.filename, f"{field}.filename", limits)
        given = (
            None if entry.content_type is None else check_type(entry.content_type, f"{field}.content_type")
        )
        content_id = _content_id(entry.content_id, f"{field}.content_id", disposition, seen)
        shown = (filename, given or guess_type(filename), disposition, content_id)
        said = (filename, given, disposition, content_id)
        if place is not None:
            meant.append((place.store, place.key, place.optional, *said))
            # What is read is in memory: all of it together, not each file, has to fit.
            most = min(limits.attachment_bytes, max(limits.total_bytes - size, 0))
            taken = _taken(place, field, most, shelves)
            if taken is None:
                refs.append(StoredRef(place.store, place.key, *shown, optional=place.optional))
                continue
            content = taken
        else:
            content = _content(entry.content, f"{field}.content", limits)
        ref = AttachmentRef(hashlib.sha256(content).hexdigest(), len(content), *shown)
        refs.append(ref)
        blobs[ref.sha256] = content
        size += ref.size
        if place is None:
            meant.append((ref.sha256, *said))
    return Files(tuple(refs), tuple(sorted(blobs.items())), size, tuple(meant))


def guess_type(filename: str) -> str:
    """The content type for a file of that name; application/octet-stream when the table has none."""
    return TYPES.get(filename.rpartition(".")[2].lower(), _ANY) if "." in filename else _ANY


def check_filename(value: object, field: str, limits: Limits) -> str:
    """*value* as a file name that no receiver can take for a path, a header or another name."""
    given = exact(value, field)
    name = octets(no_bidi_override(header_text(given, field, limits.filename), field), field, limits.filename)
    if not name:
        raise InvalidMail(field, "is empty")
    if name != given:
        # Windows drops blanks at the end, and with them what follows may be another kind of file.
        raise InvalidMail(field, "begins or ends with a blank")
    if "/" in name or "\\" in name or name in {".", ".."}:
        raise InvalidMail(field, "is a path: give the name only")
    return name


def check_type(value: object, field: str) -> str:
    """*value* as `type/subtype` in lower case; not `multipart` and not `message`, which are no files."""
    found = _TYPE.fullmatch(exact(value, field))
    if not found:
        raise InvalidMail(field, "expected type/subtype without parameters (RFC 6838 4.2)")
    kind = found[1].lower()
    if kind in {"multipart", "message"}:
        raise InvalidMail(field, f"{kind}/* has parts of its own: attach it as {_ANY}")
    return found[0].lower()


def _entries(value: object, field: str) -> list[tuple[str, Attachment]]:
    if not isinstance(value, (list, tuple)):
        raise InvalidMail(field, f"expected a list of Attachment, got {type(value).__name__}")
    for n, entry in enumerate(value):
        if not isinstance(entry, Attachment):
            kind = type(entry).__name__
            raise InvalidMail(f"{field}[{n}]", f"expected Attachment (or Attachment.from_path), got {kind}")
    return [(f"{field}[{n}]", entry) for n, entry in enumerate(value)]


def _content_id(value: object, field: str, disposition: Disposition, seen: set[str]) -> str | None:
    if value is None:
        if disposition == "inline":
            raise InvalidMail(field, "an inline part needs one: HTML refers to it as cid:…")
        return None
    name = exact(value, field)
    if not _CONTENT_ID.fullmatch(name):
        raise InvalidMail(
            field, "expected letters, digits and . _ + = - (then @ and a host), without angle brackets"
        )
    if name in seen:
        raise InvalidMail(field, "is used by another part of this mail")
    seen.add(name)
    return name


def _place(value: Stored, field: str) -> Stored:
    try:
        check_name("store", value.store)
    except InvalidName:
        raise InvalidMail(f"{field}.store", f"expected {EXPECTATION}") from None
    try:
        check_key(value.key)
    except InvalidKey as error:
        raise InvalidMail(f"{field}.key", str(error)) from None
    if not isinstance(value.optional, bool):
        raise InvalidMail(f"{field}.optional", f"expected true or false, got {type(value.optional).__name__}")
    return value


def _taken(place: Stored, field: str, most: int, shelves: Shelves) -> bytes | None:
    """The content, if the store is one that this application reads; None leaves it to a worker."""
    if place.store not in shelves:
        return None
    shelf = shelves[place.store]
    if shelf is None:
        raise InvalidMail(f"{field}.store", f"stores.{place.store} is not for this app (apps)")
    match shelf.read(place.key, most):
        case Found(content):
            return content
        case Missing(reason):
            # An optional one may be there when the mail is sent; if not, it is noted then.
            if place.optional:
                return None
            raise InvalidMail(f"{field}.key", f"the store {place.store} {reason}")
        case Refused(reason):
            raise InvalidMail(f"{field}.key", f"the store {place.store} {reason}")
        case Away():
            # Not this mail's fault, and perhaps not so for workers.
            return None
        case answer:
            assert_never(answer)


def _content(value: object, field: str, limits: Limits) -> bytes:
    if not isinstance(value, bytes):
        raise InvalidMail(field, f"expected bytes, got {type(value).__name__}")
    if len(value) > limits.attachment_bytes:
        raise InvalidMail(field, f"expected at most {limits.attachment_bytes} bytes, got {len(value)}")
    return value
