"""How much of everything one mail may have. The defaults are what `mailfleet.validation` promises."""

from dataclasses import dataclass
from datetime import timedelta

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper bounds of one mail, each inclusive. Sizes are in bytes, of UTF-8 where the thing is text.

    Lengths that a standard fixes (64 and 254 octets of an address, 63 of a domain label) are no settings and not
    here.
    """

    #: To, Cc and Bcc together, repeated ones counted.
    recipients: int = 500
    #: Reply-To entries.
    reply_to: int = 10
    #: Characters of a display name.
    display_name: int = 256
    #: Bytes of a subject before it is encoded (RFC 5322 allows lines of 998; a longer subject is an accident).
    subject: int = 998
    #: Number of extra headers, characters of one value, and bytes of all names and values together.
    headers: int = 50
    header_value: int = 4096
    headers_bytes: int = 64 * KIB
    #: Bytes of each body.
    text: int = 10 * MIB
    html: int = 10 * MIB
    #: Attachments and inline parts together; the largest one; and all of them with both bodies.
    attachments: int = 50
    attachment_bytes: int = 25 * MIB
    total_bytes: int = 40 * MIB
    #: Bytes of a file name, the length that common file systems store.
    filename: int = 255
    #: Bytes of the lazy parameter as JSON without blanks, and how deep it may nest.
    parameter_bytes: int = 64 * KIB
    parameter_depth: int = 32
    #: Number of tags, and characters of each.
    tags: int = 20
    tag: int = 64
    mark: int = 900
    idempotency_key: int = 255
    #: Characters; small enough that all three fit one PostgreSQL index entry (2,704 bytes).
    ref_type: int = 64
    ref_key: int = 200
    #: Number of List-Unsubscribe URIs, and characters of each.
    list_unsubscribe: int = 5
    uri: int = 900
    #: How far ahead a mail may be due.
    ahead: timedelta = timedelta(days=3653)
    max_fail: int = 100
    max_done: int = 1000


DEFAULT_LIMITS = Limits()
