"""The parts of a message: which are the bodies, which are attachments, which the HTML shows.

A mail has one body in up to two forms, and files beside it. Every MIME tree that says just that is read, the usual
nestings of mixed, related and alternative; any other is refused rather than flattened into something else.
"""

from email.message import Message
from typing import Any

from mailfleet.emailmessage.headers import parsed
from mailfleet.errors import InvalidMail
from mailfleet.mail import Attachment

_DEEPEST = 10
_ENCODINGS = {"", "7bit", "8bit", "binary", "quoted-printable", "base64"}
# Parameters that may be lost: the name is kept otherwise, the others do not change what the file is.
_PARAMETERS = {"name", "charset", "format", "delsp"}
_UNICODE = {"utf-8", "utf8", "us-ascii", "ascii"}
_TEXTS = {"text/plain", "text/html"}


class Part:
    """One part with its MIME headers read; `field` names it: `body` is the message itself, `part[2.1]` a part."""

    def __init__(self, message: "Message[Any, Any]", number: str) -> None:
        self.message = message
        self.number = number
        self.field = f"part[{number}]" if number else "body"
        content_type = self._header("content-type")
        disposition = self._header("content-disposition")
        self.kind: str = content_type.content_type if content_type is not None else "text/plain"
        self.parameters: dict[str, str] = dict(content_type.params) if content_type is not None else {}
        self.disposition: str | None = disposition.content_disposition if disposition is not None else None
        names = dict(disposition.params) if disposition is not None else {}
        self.filename: str | None = names.get("filename") or self.parameters.get("name")
        content_id = self._header("content-id")
        self.content_id = str(content_id).strip().removeprefix("<").removesuffix(">") if content_id else None

    @property
    def is_file(self) -> bool:
        """Whether the part is something beside the body."""
        if self.kind.startswith("multipart/"):
            return False
        return self.disposition == "attachment" or self.filename is not None or self.kind not in _TEXTS

    def children(self) -> list["Part"]:
        """The parts of this multipart. Raises InvalidMail when there are none or the nesting is absurd."""
        payload = self.message.get_payload()
        if not isinstance(payload, list) or not payload or self.message.defects:
            raise InvalidMail(self.field, f"the {self.kind} is empty or broken")
        if self.number.count(".") >= _DEEPEST:
            raise InvalidMail(self.field, f"parts nest deeper than {_DEEPEST}")
        prefix = f"{self.number}." if self.number else ""
        return [Part(child, f"{prefix}{n}") for n, child in enumerate(payload, 1)]

    def content(self) -> bytes:
        """The decoded bytes. Raises InvalidMail when they are not clean."""
        encoding = str(self._header("content-transfer-encoding") or "").strip().lower()
        if encoding not in _ENCODINGS:
            raise InvalidMail(self.field, "the content transfer encoding is not one of MIME's (RFC 2045 6.1)")
        data = self.message.get_payload(decode=True)
        if self.message.defects or not isinstance(data, bytes):
            broken = ", ".join(type(defect).__name__ for defect in self.message.defects)
            raise InvalidMail(self.field, f"the content does not decode cleanly: {broken or self.kind}")
        return data

    def text(self) -> str:
        """The content as text with line ends of one character."""
        try:
            # UTF-8 for want of a charset: every ASCII text is UTF-8.
            text = self.content().decode(self.parameters.get("charset", "utf-8"))
        except (LookupError, UnicodeError):
            raise InvalidMail(
                self.field, "the content is not text in the charset that the part names"
            ) from None
        return text.replace("\r\n", "\n")

    def attachment(self, content_id: str | None) -> Attachment:
        """The part as a file. Raises InvalidMail for what a file cannot keep."""
        if self.kind.startswith(("message/", "multipart/")):
            raise InvalidMail(
                self.field, f"{self.kind} cannot be kept: attach its bytes as application/octet-stream"
            )
        lost = [name for name in self.parameters if name not in _PARAMETERS and not name.startswith("x-")]
        if lost:
            raise InvalidMail(self.field, f"parameter {lost[0]} of the content type cannot be kept")
        if self.kind.startswith("text/") and self.parameters.get("charset", "utf-8").lower() not in _UNICODE:
            raise InvalidMail(
                self.field, "the charset of an attached text cannot be kept: encode it as UTF-8"
            )
        filename = self.filename or f"part-{self.number or 1}"
        return Attachment(filename, self.content(), self.kind, content_id)

    def _header(self, name: str) -> Any:
        found = [raw for key, raw in self.message.raw_items() if key.lower() == name]
        if len(found) > 1:
            raise InvalidMail(self.field, f"header {name} is there {len(found)} times")
        return parsed(name, found[0], self.field) if found else None


class Parts:
    """What a message holds, as `Mail` takes it: `text`, `html`, `attachments` and `inline`."""

    text: str | None = None
    html: str | None = None

    def __init__(self, message: "Message[Any, Any]") -> None:
        self.attachments: list[Attachment] = []
        self.inline: list[Attachment] = []
        root = Part(message, "")
        if root.is_file:
            self._attach(root)
        else:
            self._body(root)
        if self.text is None and self.html is None:
            # Files only: there is a body, and it is empty.
            self.text = ""

    def _body(self, part: Part) -> None:
        match part.kind:
            case "text/plain":
                if self.text is not None or self.html is not None:
                    raise InvalidMail(part.field, "text comes before HTML, and once")
                self.text = part.text()
            case "text/html":
                if self.html is not None:
                    raise InvalidMail(part.field, "a mail has one HTML body")
                self.html = part.text()
            case "multipart/mixed":
                self._mixed(part.children())
            case "multipart/alternative":
                self._alternative(part.children())
            case "multipart/related":
                self._related(part)
            case _:
                raise InvalidMail(part.field, f"{part.kind} cannot be kept in a body")

    def _mixed(self, children: list[Part]) -> None:
        for n, child in enumerate(children):
            if child.is_file:
                self._attach(child)
            elif n == 0:
                self._body(child)
            else:
                raise InvalidMail(
                    child.field, f"{child.kind} after the body: only attachments can be kept there"
                )

    def _alternative(self, children: list[Part]) -> None:
        for child in children:
            if child.is_file or child.kind not in {*_TEXTS, "multipart/related"}:
                raise InvalidMail(
                    child.field, f"{child.kind} cannot be kept as an alternative of text and HTML"
                )
            self._body(child)

    def _related(self, part: Part) -> None:
        root, *others = part.children()
        if "start" in part.parameters and part.parameters["start"].strip("<>") != root.content_id:
            raise InvalidMail(part.field, "the root of a multipart/related is not its first part")
        if root.is_file or root.kind not in {"text/html", "multipart/alternative"}:
            raise InvalidMail(root.field, f"{root.kind} cannot be kept as the root of a multipart/related")
        self._body(root)
        for other in others:
            if other.content_id is None:
                raise InvalidMail(other.field, "a part that HTML shows needs a Content-ID")
            self.inline.append(other.attachment(other.content_id))

    def _attach(self, part: Part) -> None:
        # Nobody refers to the id of a part outside multipart/related, and mail programs give every part one.
        self.attachments.append(part.attachment(None))
