"""The files of one mail, brought together before it is built: from the database, and from stores.

A file from a store is read again for every attempt; what was built once is kept while permits are waited for.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, assert_never

from mailfleet.stores import Away, Found, Missing, Refused
from mailfleet.validation.limits import DEFAULT_LIMITS, Limits
from mailfleet_schema.content import AttachmentRef, Content, FileRef, StoredRef
from mailfleet_schema.statements.claim import Claimed
from mailfleet_workers.stores import ReadStored
from mailfleet_workers.verdict import Scope, Stop, Wait

#: Finds an attachment's bytes; None when they are not there.
Fetch: TypeAlias = Callable[[str, AttachmentRef], bytes | None]

#: A mail whose store does not answer comes back after so many seconds, each time twice as many, up to the most.
AWAY_S = 30.0
MOST_AWAY_S = 900.0
#: How the reason of a mail begins that was sent without some of its optional files.
WITHOUT = "without"


@dataclass(frozen=True, slots=True)
class Gathered:
    """`content` with its files by value; `contents` has the bytes of those from stores, by hash.

    `left_out` are the places of those that were optional and are not there.
    """

    content: Content
    contents: Mapping[str, bytes] = field(repr=False)
    left_out: tuple[int, ...] = ()


def gather(
    row: Claimed, content: Content, *, stores: ReadStored, limits: Limits = DEFAULT_LIMITS
) -> Gathered | Stop | Wait:
    """Read what *content* takes from stores, in its order; or why it cannot be sent, now or ever.

    All files together have to fit, so what is read never takes more memory than a mail may have.
    """
    if all(isinstance(one, AttachmentRef) for one in content.attachments):
        return Gathered(content, {})
    refs: list[FileRef] = []
    contents: dict[str, bytes] = {}
    left_out: list[int] = []
    left = limits.total_bytes - _size(content)
    for place, ref in enumerate(content.attachments):
        if isinstance(ref, AttachmentRef):
            refs.append(ref)
            continue
        answer = stores(row.app, ref, max(min(limits.attachment_bytes, left), 0))
        match answer:
            case Found(data):
                own = _by_value(ref, data)
                refs.append(own)
                contents[own.sha256] = data
                left -= len(data)
            case Missing() if ref.optional:
                left_out.append(place)
            case Missing(reason) | Refused(reason):
                return Stop(f"attachments[{place}]: store {ref.store} {reason}")
            case Away(reason):
                # The fence counts how often the row was claimed.
                seconds = min(AWAY_S * 2 ** min(row.fence - 1, 10), MOST_AWAY_S)
                return Wait(Scope.MAIL, seconds, f"attachments[{place}]: store {ref.store} {reason}")
            case _:
                assert_never(answer)
    return Gathered(replace(content, attachments=tuple(refs)), contents, tuple(left_out))


def _size(content: Content) -> int:
    bodies = sum(len((body or "").encode("utf-8", "replace")) for body in (content.text, content.html))
    return bodies + sum(one.size for one in content.attachments if isinstance(one, AttachmentRef))


def _by_value(ref: StoredRef, data: bytes) -> AttachmentRef:
    sha256 = hashlib.sha256(data).hexdigest()
    return AttachmentRef(sha256, len(data), ref.filename, ref.content_type, ref.disposition, ref.content_id)


def note_of(left_out: Sequence[int]) -> str | None:
    """The reason that a mail which was sent without *left_out* ends with; None where nothing is missing."""
    return f"{WITHOUT}: {', '.join(f'attachments[{place}]' for place in left_out)}" if left_out else None
