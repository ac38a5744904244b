"""One header of a message, parsed in one way whatever the message's policy.

Messages of old (`MIMEText`, `compat32`) keep raw text, messages of now keep parsed objects, and parsed files keep
folded lines with bytes that are no ASCII. All are unfolded, decoded and parsed here by the default policy, one by
one: nothing is written out and read back, so a line break in a value cannot become a header on the way.
"""

import email.policy
import re
from email.errors import NonASCIILocalPartDefect, ObsoleteHeaderDefect
from email.header import Header
from email.headerregistry import BaseHeader
from typing import Any

from mailfleet.errors import InvalidMail
from mailfleet_schema.content import Address

# The parser's time and stack grow faster than a header's length (one of 2,000 nested comments ends in
# RecursionError), so long ones do not reach it. 500 addresses fit.
_LONGEST = 64 * 1024
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_FACTORY = email.policy.default.header_factory


def parsed(name: str, raw: Any, field: str) -> Any:
    """The header object of the default policy for one stored value. Raises InvalidMail for *field*."""
    if isinstance(raw, BaseHeader):
        return raw
    text = raw.encode() if isinstance(raw, Header) else str(raw)
    text = _FOLD.sub("", text)
    if len(text) > _LONGEST:
        raise InvalidMail(field, f"expected at most {_LONGEST} characters in header {name}, got {len(text)}")
    if re.search(r"[\r\n\0]", text):
        raise InvalidMail(field, f"header {name} contains a line break or NUL")
    try:
        # Bytes beyond ASCII were kept as surrogates; RFC 6532 says that they are UTF-8.
        text = text.encode("utf-8", "surrogateescape").decode("utf-8")
        return _FACTORY(name, text)
    except (
        Exception
    ) as error:  # the parser of some releases raises IndexError, AttributeError, RecursionError
        raise InvalidMail(field, f"header {name} cannot be read ({type(error).__name__})") from error


def mailboxes(header: Any, field: str) -> list[Address]:
    """The mailboxes of a parsed address header; an empty group (`undisclosed-recipients:;`) has none."""
    if not hasattr(header, "groups"):
        raise InvalidMail(field, "the header is not one of addresses")
    for defect in header.defects:
        # The parser guesses on: of `a@b.example c@d.example` it keeps the first. Only harmless defects may pass.
        if not isinstance(defect, (ObsoleteHeaderDefect, NonASCIILocalPartDefect)):
            raise InvalidMail(field, f"the header is not a list of addresses ({defect})")
    done = []
    for group in header.groups:
        if group.display_name is not None and group.addresses:
            raise InvalidMail(field, "named groups of addresses cannot be kept: give the addresses")
        done += [Address(a.display_name, a.addr_spec) for a in group.addresses]
    return done


def bracketed(text: str, field: str) -> list[str]:
    """The URIs of a List-Unsubscribe header (RFC 2369): `<uri>, <uri>`."""
    if not re.fullmatch(r"\s*<[^<>]*>\s*(?:,\s*<[^<>]*>\s*)*", text):
        raise InvalidMail(field, "expected <uri>, <uri> in header List-Unsubscribe")
    return re.findall(r"<([^<>]*)>", text)
