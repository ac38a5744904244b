"""The payload hash: whether two emits with one idempotency key mean the same mail.

SHA-256 of one JSON object in canonical form (UTF-8, keys sorted, no blanks). It has `"v": 1` and these members,
each only if it differs from the default of `Mail`, so that a field added later changes no hash of before:

| member | value |
|---|---|
| `from` | [name, address] |
| `to`, `cc`, `bcc`, `reply_to` | lists of [name, address] in their order, as stored |
| `subject` | as stored |
| `text`, `html` | SHA-256 of the UTF-8, in hex |
| `headers` | list of [name, value] in their order |
| `files` | list of [SHA-256 in hex, file name, content type or null as given, disposition, content id or null], from a store [store, key, optional, file name …] |
| `list_unsubscribe`, `tags`, `run_modes` | lists in their order, as stored |
| `apps` | list in its order, as stored |
| `account`, `priority`, `mark`, `on_doubt`, `content_policy` | text |
| `due_at`, `expires_at` | as given, in UTC: `2026-01-31T08:00:00.000000+00:00` |
| `ref` | [type, key1, key2] |
| `lazy` | [renderer, parameter] |
| `max_fail`, `max_done`, `retry` | numbers, false |

The idempotency key and the Message-ID are not in it. In a parameter 1, 1.0 and true are three values. An application
that computes `due_at` or `expires_at` from the clock gets another hash each time: derive them from its own data.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from mailfleet.mail import Lazy
from mailfleet.validation.attachments import Files
from mailfleet.validation.handling import DEFAULT_ACCOUNT, DEFAULT_PRIORITY, PLAIN, Handling
from mailfleet.validation.labels import Labels
from mailfleet.validation.parameters import canonical
from mailfleet.validation.times import as_text
from mailfleet_schema.content import Address, Content


def payload_hash(
    content: Content,
    *,
    text: bytes | None,
    html: bytes | None,
    attached: Files,
    handled: Handling,
    labelled: Labels,
    lazy: Lazy | None,
) -> str:
    """The hash, 64 hex digits, of checked values; *text* and *html* are the bodies in UTF-8."""
    members: dict[str, Any] = {"v": 1}
    _add_content(members, content)
    if text is not None:
        members["text"] = hashlib.sha256(text).hexdigest()
    if html is not None:
        members["html"] = hashlib.sha256(html).hexdigest()
    if attached.meant:
        members["files"] = attached.meant
    if lazy is not None:
        members["lazy"] = (lazy.renderer, lazy.parameter)
    if handled != PLAIN:
        _add_handling(members, handled)
    if labelled.mark is not None:
        members["mark"] = labelled.mark
    if labelled.ref is not None:
        members["ref"] = (labelled.ref.type, labelled.ref.key1, labelled.ref.key2)
    if labelled.tags:
        members["tags"] = labelled.tags
    return hashlib.sha256(canonical(members).encode()).hexdigest()


def _add_content(members: dict[str, Any], content: Content) -> None:
    if content.from_ is not None:
        members["from"] = (content.from_.name, content.from_.address)
    if content.to:
        members["to"] = _pairs(content.to)
    if content.cc:
        members["cc"] = _pairs(content.cc)
    if content.bcc:
        members["bcc"] = _pairs(content.bcc)
    if content.reply_to:
        members["reply_to"] = _pairs(content.reply_to)
    if content.subject:
        members["subject"] = content.subject
    if content.headers:
        members["headers"] = content.headers
    if content.list_unsubscribe:
        members["list_unsubscribe"] = content.list_unsubscribe


def _add_handling(members: dict[str, Any], handled: Handling) -> None:
    if handled.account != DEFAULT_ACCOUNT:
        members["account"] = handled.account
    if handled.priority != DEFAULT_PRIORITY:
        members["priority"] = handled.priority
    if handled.due_at is not None:
        members["due_at"] = as_text(handled.due_at)
    if handled.expires_at is not None:
        members["expires_at"] = as_text(handled.expires_at)
    if handled.max_fail is not None:
        members["max_fail"] = handled.max_fail
    if handled.max_done is not None:
        members["max_done"] = handled.max_done
    if not handled.retry:
        members["retry"] = False
    if handled.on_doubt is not None:
        members["on_doubt"] = handled.on_doubt
    if handled.content_policy is not None:
        members["content_policy"] = handled.content_policy
    if handled.run_modes:
        members["run_modes"] = handled.run_modes
    if handled.apps is not None:
        members["apps"] = handled.apps


def _pairs(addresses: Sequence[Address]) -> list[tuple[str, str]]:
    return [(a.name, a.address) for a in addresses]
