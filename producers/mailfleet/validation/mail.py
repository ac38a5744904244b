"""One mail, checked: the values of its row, its content, the bytes to store, and what identifies its payload.

The answer is complete and belongs to nobody else: no list or dict of the application is in it. It says nothing
about settings: whether the account exists, the sender may be used, or the renderer is registered.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from mailfleet.errors import InvalidMail
from mailfleet.mail import ContentPolicy, Lazy, Mail, OnDoubt, Priority, Ref
from mailfleet.validation.addresses import address, addresses
from mailfleet.validation.attachments import NO_SHELVES, Files, Shelves, files
from mailfleet.validation.handling import handling
from mailfleet.validation.headers import extra_headers
from mailfleet.validation.labels import labels
from mailfleet.validation.limits import DEFAULT_LIMITS, Limits
from mailfleet.validation.parameters import parameter
from mailfleet.validation.payload import payload_hash
from mailfleet.validation.text import exact, header_text, octets, sized
from mailfleet.validation.unsubscribe import unsubscribe_uris
from mailfleet_schema.content import Address, Content, StoredRef
from mailfleet_schema.senders import Apps

_RENDERER = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")
_MESSAGE_ID = re.compile(r"<[A-Za-z0-9#$&'*+/=?^_`{|}~.-]+@[A-Za-z0-9.-]+>")


@dataclass(frozen=True, slots=True)
class Checked:
    """A mail that may be inserted as it is.

    `content` is the stored form; its attachments are references into `blobs`, which holds (SHA-256 in hex, bytes),
    each content once, ordered by hash. `due_at` None is at once, also where the application gave a past time.
    Times are UTC. None in `max_fail`, `max_done`, `on_doubt` and `content_policy` takes the settings. `payload_hash` is described
    in `mailfleet.validation.payload`.
    """

    content: Content
    blobs: tuple[tuple[str, bytes], ...]
    account: str
    priority: Priority
    due_at: datetime | None
    expires_at: datetime | None
    max_fail: int | None
    max_done: int | None
    retry: bool
    on_doubt: OnDoubt | None
    idempotency_key: str | None
    payload_hash: str
    mark: str | None
    ref: Ref | None
    tags: tuple[str, ...]
    run_modes: tuple[str, ...]
    lazy: Lazy | None
    content_policy: ContentPolicy | None = None
    apps: Apps = None


class _Body(NamedTuple):
    """Both bodies, with their UTF-8, and the files."""

    text: str | None
    text_bytes: bytes | None
    html: str | None
    html_bytes: bytes | None
    files: Files


def validate(
    mail: Mail,
    *,
    limits: Limits = DEFAULT_LIMITS,
    new_message_id: Callable[[], str],
    now: datetime,
    shelves: Shelves = NO_SHELVES,
) -> Checked:
    """Check every field of *mail*, and read what it attaches from one of *shelves*.

    *new_message_id* gives a new Message-ID with angle brackets; it is called once, after everything else was found
    right. *now* is aware. Raises InvalidMail with the field (`to[2]`, `headers[0].name`) and the reason for the
    first thing that is wrong, wrong types included; ValueError if the Message-ID is none.
    """
    if not isinstance(mail, Mail):
        raise InvalidMail("mail", f"expected Mail, got {type(mail).__name__}")
    from_ = None if mail.from_ is None else address(mail.from_, "from_", limits)
    to, cc, bcc = _recipients(mail, limits)
    reply_to = addresses(mail.reply_to, "reply_to", limits)
    if len(reply_to) > limits.reply_to:
        raise InvalidMail("reply_to", f"expected at most {limits.reply_to}, got {len(reply_to)}")
    # A subject has at least as many bytes as characters, so the one limit serves both.
    subject = octets(header_text(mail.subject, "subject", limits.subject), "subject", limits.subject)
    headers = extra_headers(mail.headers, limits)
    uris = unsubscribe_uris(mail.list_unsubscribe, limits)
    handled = handling(mail, limits, now)
    labelled = labels(mail, limits)
    lazy = None if mail.lazy is None else _lazy(mail.lazy, limits)
    if lazy is not None and handled.apps is not None:
        raise InvalidMail("apps", "the renderer is its own app's workers': give either lazy or apps")
    body = _body(mail, limits, shelves)
    if handled.apps is not None and any(isinstance(one, StoredRef) for one in body.files.refs):
        raise InvalidMail(
            "apps", "a file is still in a store, which is its own app's workers': give either that or apps"
        )
    message_id = new_message_id()
    if not _MESSAGE_ID.fullmatch(message_id):
        raise ValueError(f"Message-ID: expected <left@right>, got {message_id!r}")
    content = Content(
        message_id=message_id,
        from_=from_,
        to=to,
        cc=cc,
        bcc=bcc,
        reply_to=reply_to,
        subject=subject,
        text=body.text,
        html=body.html,
        headers=headers,
        attachments=body.files.refs,
        list_unsubscribe=uris,
    )
    return Checked(
        content=content,
        blobs=body.files.blobs,
        account=handled.account,
        priority=handled.priority,
        due_at=handled.due_at if handled.due_at is not None and handled.due_at > now else None,
        expires_at=handled.expires_at,
        max_fail=handled.max_fail,
        max_done=handled.max_done,
        retry=handled.retry,
        on_doubt=handled.on_doubt,
        idempotency_key=labelled.idempotency_key,
        payload_hash=payload_hash(
            content,
            text=body.text_bytes,
            html=body.html_bytes,
            attached=body.files,
            handled=handled,
            labelled=labelled,
            lazy=lazy,
        ),
        mark=labelled.mark,
        ref=labelled.ref,
        tags=labelled.tags,
        run_modes=handled.run_modes,
        lazy=lazy,
        content_policy=handled.content_policy,
        apps=handled.apps,
    )


def _recipients(
    mail: Mail, limits: Limits
) -> tuple[tuple[Address, ...], tuple[Address, ...], tuple[Address, ...]]:
    # A list too long by itself is refused before an address of it is looked at: a million of them cost nothing.
    # (A name and its address are a tuple of two and one recipient.)
    longest = max(limits.recipients, 2)
    for part in (mail.to, mail.cc, mail.bcc):
        if isinstance(part, (list, tuple)) and len(part) > longest:
            raise _too_many(limits, len(part))
    to = addresses(mail.to, "to", limits)
    cc = addresses(mail.cc, "cc", limits)
    bcc = addresses(mail.bcc, "bcc", limits)
    count = len(to) + len(cc) + len(bcc)
    if not count:
        raise InvalidMail("to", "expected at least one recipient in to, cc or bcc")
    if count > limits.recipients:
        raise _too_many(limits, count)
    return to, cc, bcc


def _too_many(limits: Limits, count: int) -> InvalidMail:
    return InvalidMail(
        "to", f"expected at most {limits.recipients} recipients in to, cc and bcc, got {count}"
    )


def _lazy(lazy: object, limits: Limits) -> Lazy:
    if not isinstance(lazy, Lazy):
        raise InvalidMail("lazy", f"expected Lazy, got {type(lazy).__name__}")
    renderer = exact(lazy.renderer, "lazy.renderer")
    if not is_renderer_name(renderer):
        raise InvalidMail("lazy.renderer", "expected a letter, then up to 99 letters, digits, _, . and -")
    return Lazy(renderer, parameter(lazy.parameter, "lazy.parameter", limits))


def _body(mail: Mail, limits: Limits, shelves: Shelves) -> _Body:
    text, text_bytes = (None, None) if mail.text is None else sized(mail.text, "text", limits.text)
    html, html_bytes = (None, None) if mail.html is None else sized(mail.html, "html", limits.html)
    if mail.lazy is None and text is None and html is None:
        raise InvalidMail("text", "expected text, html or lazy")
    if mail.lazy is not None and not (text is None and html is None):
        raise InvalidMail("lazy", "its renderer writes the body: give either lazy or text and html")
    attached = files(mail.attachments, mail.inline, limits, shelves)
    if mail.inline and html is None and mail.lazy is None:
        raise InvalidMail("inline", "inline parts belong to HTML, and there is none")
    size = attached.size + len(text_bytes or b"") + len(html_bytes or b"")
    if size > limits.total_bytes:
        raise InvalidMail(
            "attachments", f"expected at most {limits.total_bytes} bytes with bodies, got {size}"
        )
    return _Body(text, text_bytes, html, html_bytes, attached)


def is_renderer_name(name: str) -> bool:
    """Whether *name* may name a renderer: a letter, then up to 99 letters, digits, _, . and -."""
    return _RENDERER.fullmatch(name) is not None
