"""The stored form of what a mail says and to whom: the JSON in `mail_content`, written by any language.

An address is `{"name": "Ada", "address": "ada@example.net"}`; `name` is "" when there is none. Domains are stored
in their ASCII form (`xn--…`), local parts as they were given. Nothing here checks: `mailfleet.validation`
does, before a row is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Disposition = Literal["attachment", "inline"]


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox: a display name ("" when there is none) and an addr-spec."""

    name: str
    address: str

    def as_json(self) -> dict[str, str]:
        return {"name": self.name, "address": self.address}

    @classmethod
    def from_json(cls, value: Mapping[str, str]) -> "Address":
        return cls(name=value.get("name", ""), address=value["address"])


@dataclass(frozen=True, slots=True)
class AttachmentRef:
    """Where one attachment's bytes are (`attachment`, by app and SHA-256) and how the mail shows them.

    `content_id` is without angle brackets, None unless the HTML refers to it by `cid:`; `size` is in bytes.
    """

    sha256: str
    size: int
    filename: str
    content_type: str
    disposition: Disposition = "attachment"
    content_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "sha256": self.sha256,
            "size": self.size,
            "filename": self.filename,
            "content_type": self.content_type,
            "disposition": self.disposition,
            "content_id": self.content_id,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "AttachmentRef":
        """Raises KeyError for a file from a store: `file_from_json` reads both."""
        return cls(
            sha256=value["sha256"],
            size=value["size"],
            filename=value["filename"],
            content_type=value["content_type"],
            disposition=value.get("disposition", "attachment"),
            content_id=value.get("content_id"),
        )


@dataclass(frozen=True, slots=True)
class StoredRef:
    """A file that a worker takes from the store named `store`, by `key`, when the mail is sent; shown as an `AttachmentRef` is.

    `optional` ones are left out where the store does not have them.
    """

    store: str
    key: str
    filename: str
    content_type: str
    disposition: Disposition = "attachment"
    content_id: str | None = None
    optional: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "store": self.store,
            "key": self.key,
            "optional": self.optional,
            "filename": self.filename,
            "content_type": self.content_type,
            "disposition": self.disposition,
            "content_id": self.content_id,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "StoredRef":
        return cls(
            store=value["store"],
            key=value["key"],
            filename=value["filename"],
            content_type=value["content_type"],
            disposition=value.get("disposition", "attachment"),
            content_id=value.get("content_id"),
            optional=bool(value.get("optional", False)),
        )


#: One file of a mail: its bytes are in `attachment`, or in a store that workers read.
FileRef: TypeAlias = AttachmentRef | StoredRef


def file_from_json(value: Mapping[str, Any]) -> FileRef:
    """One entry of `mail_content.attachments`: one that names a store is a `StoredRef`."""
    return StoredRef.from_json(value) if "store" in value else AttachmentRef.from_json(value)


@dataclass(frozen=True, slots=True)
class Content:
    """One `mail_content` row without its id.

    `from_` None means the account's own sender. `text` and `html` are both None only for a lazy mail. `headers`
    are extra headers in their order. `message_id` is with angle brackets and never changes: every attempt and
    every copy out of doubt carries the same one (reliability: receivers that suppress repeats need it).
    """

    message_id: str
    from_: Address | None
    to: tuple[Address, ...]
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[FileRef, ...] = ()
    list_unsubscribe: tuple[str, ...] = ()

    def recipients(self) -> tuple[str, ...]:
        """Every envelope recipient once, in the order To, Cc, Bcc."""
        return tuple(dict.fromkeys(a.address for a in (*self.to, *self.cc, *self.bcc)))

    def own_files(self) -> tuple[AttachmentRef, ...]:
        """Its files, all of them by value. Raises ValueError while one is still in a store."""
        found = tuple(one for one in self.attachments if isinstance(one, AttachmentRef))
        if len(found) != len(self.attachments):
            raise ValueError("attachments: a file is still in its store")
        return found


def addresses_as_json(addresses: Sequence[Address]) -> list[dict[str, str]]:
    return [a.as_json() for a in addresses]


def addresses_from_json(values: Sequence[Mapping[str, str]]) -> tuple[Address, ...]:
    return tuple(Address.from_json(v) for v in values)
