"""Which URIs List-Unsubscribe may name (RFC 2369, RFC 8058): `https:` pages and `mailto:` addresses, strictly.

A reader's program acts on them by itself, so they must mean the same to every parser: ASCII, no user information,
no fragment, no comma, and no escaped control character that a mail program would write into a new mail's header.
"""

import re

from mailfleet.errors import InvalidMail
from mailfleet.validation.addresses import addr_spec
from mailfleet.validation.domains import ascii_domain
from mailfleet.validation.limits import Limits
from mailfleet.validation.text import header_text

# RFC 3986: unreserved, sub-delims without the comma, and escapes.
_PCHAR = r"(?:[A-Za-z0-9._~!$&'()*+;=:@-]|%[0-9A-Fa-f]{2})"
_HTTPS = re.compile(
    rf"https://([A-Za-z0-9.-]+)(?::([0-9]{{1,5}}))?(?:/(?:{_PCHAR}|/)*)?(?:\?(?:{_PCHAR}|[/?])*)?"
)
# RFC 6068: the fields of the new mail; `to`, `cc` and others would let the link address more people.
_FIELD = r"(?:subject|body)=(?:[A-Za-z0-9._~!$'()*+;:@/?-]|%[0-9A-Fa-f]{2})*"
_MAILTO = re.compile(rf"mailto:([^?%]+)(?:\?{_FIELD}(?:&{_FIELD})?)?")
_ESCAPED_CONTROL = re.compile(r"%(?:[01][0-9A-Fa-f]|7[Ff])")


def unsubscribe_uris(value: object, limits: Limits) -> tuple[str, ...]:
    """*value* (a URI or a list of them) as stored, without angle brackets.

    A `mailto:` may carry `subject` and `body`, nothing else. Raises InvalidMail for `list_unsubscribe[n]`.
    """
    if isinstance(value, tuple) and not value:
        return ()
    if isinstance(value, str):
        return (_uri(value, "list_unsubscribe", limits),)
    if not isinstance(value, (list, tuple)):
        raise InvalidMail("list_unsubscribe", f"expected a URI or a list of them, got {type(value).__name__}")
    if len(value) > limits.list_unsubscribe:
        raise InvalidMail("list_unsubscribe", f"expected at most {limits.list_unsubscribe}, got {len(value)}")
    return tuple([_uri(uri, f"list_unsubscribe[{n}]", limits) for n, uri in enumerate(value)])


def _uri(value: object, field: str, limits: Limits) -> str:
    uri = header_text(value, field, limits.uri)
    if _ESCAPED_CONTROL.search(uri):
        raise InvalidMail(field, "contains an escaped control character")
    if found := _HTTPS.fullmatch(uri):
        ascii_domain(found[1], field)
        if found[2] and not 0 < int(found[2]) < 65536:
            raise InvalidMail(field, "the port is not between 1 and 65535")
        return uri
    if (found := _MAILTO.fullmatch(uri)) and found[1].isascii():
        addr_spec(found[1], field)
        return uri
    raise InvalidMail(
        field,
        "expected a plain https: URI, or mailto: with subject and body at most; no angle brackets, no commas",
    )
