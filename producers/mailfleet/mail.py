"""What an application hands over: a mail, its attachments, its lazy content.

These are plain values. Making one checks nothing and reads nothing (`Attachment.from_path` apart); every rule is in
`mailfleet.validation`, which runs once, when the mail is emitted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from mailfleet_schema.content import Address

Priority = Literal["high", "normal", "bulk"]
OnDoubt = Literal["resend_once", "hold", "resend"]
ContentPolicy = Literal["keep", "purge", "render_only"]

#: Whatever JSON can say. Keys are strings; a tuple becomes a list.
JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

#: One mailbox: "ada@example.net", "Ada Lovelace <ada@example.net>", ("Ada Lovelace", "ada@example.net") or an Address.
AddressLike: TypeAlias = str | tuple[str, str] | Address

#: One mailbox or a list of them. Each entry is one mailbox; a comma-separated string is refused.
Addresses: TypeAlias = AddressLike | Sequence[AddressLike]


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a file's content is: in the store registered as `store`, under `key`. See `Attachment.stored`."""

    store: str
    key: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that travels with a mail: its bytes, or where a store has them (`Attachment.stored`).

    `content_type` is `type/subtype` without parameters; None takes it from the end of the file name.
    `content_id` is without angle brackets; HTML refers to it as `cid:logo`. It must be given in `Mail.inline`.
    """

    filename: str
    content: bytes | Stored = field(repr=False)
    content_type: str | None = None
    content_id: str | None = None

    @classmethod
    def from_path(
        cls,
        path: str | Path,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        content_id: str | None = None,
    ) -> "Attachment":
        """Read *path* now; later changes of the file do not reach the mail.

        *filename* None takes the last part of the path. Raises OSError when the file cannot be read. The path is
        the application's own word: never pass one that a user chose.
        """
        source = Path(path)
        return cls(
            filename=source.name if filename is None else filename,
            content=source.read_bytes(),
            content_type=content_type,
            content_id=content_id,
        )

    @classmethod
    def stored(
        cls,
        store: str,
        key: str,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        content_id: str | None = None,
        optional: bool = False,
    ) -> "Attachment":
        """The file that the store registered as *store* has under *key*, `2026/17.pdf`; *filename* None takes its last part.

        A directory that this application's own settings name is read when the mail is emitted, and the content travels as
        if it had been given; else a worker reads the store whenever it sends the mail. What is not there is refused at the
        one, ends the mail at the other, unless it is *optional*: then the mail goes without it and says so (issue 6).
        """
        name = key.rpartition("/")[2] if filename is None else filename
        return cls(name, Stored(store, key, optional), content_type, content_id)


@dataclass(frozen=True, slots=True)
class Lazy:
    """Content that a worker renders just before the mail is sent.

    `renderer` is a name registered in the application's workers, never an import path. `parameter` is JSON; it is
    copied when the mail is emitted.
    """

    renderer: str
    parameter: JSON = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Ref:
    """What the mail is about in the application's own terms, for searching: a type and up to two keys."""

    type: str
    key1: str = ""
    key2: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail. At least one recipient in `to`, `cc` or `bcc`, and either a text or HTML body or `lazy`.

    Who: `from_` None is the account's own sender; `bcc` is delivered to and never shown.

    What: `text` and `html` are alternatives of one body. `attachments` are shown as files, `inline` are the images
    that the HTML refers to by `cid:`. `headers` are extra headers in their order; the ones that mailfleet writes
    itself are refused. `list_unsubscribe` are `https:` or `mailto:` URIs (RFC 2369, RFC 8058).

    How: `account` None is the application's default account. `due_at` None or past is at once. After `expires_at`
    the mail is not sent any more; None never expires by itself. Both are aware datetimes. `max_fail` and
    `max_done` None take the settings; `max_done` above 1 sends that many copies. `retry` False gives up at the
    first transient failure. `on_doubt` says what to do when a server fell silent after the whole mail was given
    to it; None takes the setting. `run_modes` are the modes in which the mail may be sent (`product`, or `!test`
    for all but test); empty is all. `content_policy` says what becomes of the content: `keep`, `purge` when it is sent,
    or `render_only`, for lazy mail, of which nothing rendered is ever stored; None takes the app's setting. `apps` are those
    whose workers may send it, each by its name, where others than the application's own should; "*" is its own and all that
    share. None is its own alone. Lazy mail is its own app's.

    Whose: `idempotency_key` makes a repeated emit return the first mail; the same key with another payload is an
    error. `mark`, `ref` and `tags` are for searching.

    The repr leaves out bodies, contents and parameters, not addresses.
    """

    to: Addresses = ()
    cc: Addresses = ()
    bcc: Addresses = ()
    from_: AddressLike | None = None
    reply_to: Addresses = ()
    subject: str = ""
    text: str | None = field(default=None, repr=False)
    html: str | None = field(default=None, repr=False)
    attachments: Sequence[Attachment] = ()
    inline: Sequence[Attachment] = ()
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = field(default=(), repr=False)
    account: str | None = None
    priority: Priority = "normal"
    due_at: datetime | None = None
    expires_at: datetime | None = None
    idempotency_key: str | None = None
    mark: str | None = None
    ref: Ref | tuple[str, str, str] | None = None
    tags: Sequence[str] = ()
    run_modes: Sequence[str] = ()
    apps: Sequence[str] | None = None
    lazy: Lazy | None = None
    max_fail: int | None = None
    max_done: int | None = None
    retry: bool = True
    on_doubt: OnDoubt | None = None
    content_policy: ContentPolicy | None = None
    list_unsubscribe: str | Sequence[str] = ()
