"""Contents for the MIME tests, and the bytes behind their attachments."""

import hashlib
from datetime import UTC, datetime
from typing import Any

from mailfleet_schema.content import Address, AttachmentRef, Content, Disposition
from mailfleet_workers.mime import build

SENDER = Address("Fleet", "fleet@example.com")
DATE = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
MESSAGE_ID = "<4711.abc@example.com>"


class Files:
    """Attachment content by hash, as the database keeps it."""

    def __init__(self) -> None:
        self._stored: dict[str, bytes] = {}

    def add(
        self,
        content: bytes,
        filename: str,
        content_type: str = "application/octet-stream",
        disposition: Disposition = "attachment",
        content_id: str | None = None,
    ) -> AttachmentRef:
        digest = hashlib.sha256(content).hexdigest()
        self._stored[digest] = content
        return AttachmentRef(digest, len(content), filename, content_type, disposition, content_id)

    def __call__(self, ref: AttachmentRef) -> bytes:
        return self._stored[ref.sha256]


def content(**fields: Any) -> Content:
    """A mail of one recipient and a line of text, unless *fields* say otherwise."""
    defaults: dict[str, Any] = {
        "message_id": MESSAGE_ID,
        "from_": None,
        "to": (Address("Ada", "ada@example.net"),),
        "subject": "Invoice 17",
        "text": "Hello\n",
    }
    return Content(**(defaults | fields))


def built(mail: Content, files: Files | None = None, **more: Any) -> bytes:
    return build(mail, sender=SENDER, date=DATE, attachment=files or Files(), **more)


def header_names(message: bytes) -> list[str]:
    """The names of the header fields, read with nothing but string methods."""
    head = message.split(b"\r\n\r\n", 1)[0].decode()
    return [line.split(":", 1)[0] for line in head.split("\r\n") if line[:1] not in {" ", "\t"}]
