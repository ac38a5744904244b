"""Whether a mailbox is one that we will name to a server, and its stored form.

The grammar is stricter than RFC 5321, on purpose: an address reaches SMTP commands, headers, other people's relays
and sometimes shells. Refused although a standard allows them:

- quoted local parts (`"a b"@c.example`), comments, source routes, address literals: relays disagree about them;
- `!` and `%` in the local part: relays read them as routes (Postfix: swap_bangpath and allow_percent_hack, both on
  by default) and the mail goes elsewhere;
- `=?` and `?=`: parsers that decode encoded words everywhere find another address in `=?utf-8?q?eve=40x?=@y.example`
  (Python's email package among them), and filters that do not are passed;
- a leading `-`, `|` or `/`: options, pipes and files to delivery agents of old;
- more than one mailbox in an entry.

Non-ASCII local parts are allowed (RFC 6531) and stored as given; the server must offer SMTPUTF8. They must be NFC
and free of invisible and disguising characters. Domains are stored in their ASCII form.
"""

import re
import unicodedata

from mailfleet.errors import InvalidMail
from mailfleet.validation.domains import ascii_domain
from mailfleet.validation.limits import Limits
from mailfleet.validation.text import exact, header_text, no_bidi_override
from mailfleet_schema.content import Address

_ATOM = r"[A-Za-z0-9#$&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# What nearly every address is. Anything else goes the slow way, which also knows the reasons.
_PLAIN = re.compile(
    rf"((?![-|/])(?![^@]*(?:=\?|\?=))(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*)@((?:{_LABEL}\.)+(?=[^.]*[A-Za-z]){_LABEL})"
)
# ASCII that is neither of an atom nor the dot between atoms.
_NO_ATOM = re.compile(r"[^A-Za-z0-9#$&'*+/=?^_`{|}~.\x80-\U0010ffff-]")
# What an address-like text has when it is something else.
_NO_ADDRESS = (
    (",;", "expected one address per entry, found a separator (, or ;)"),
    ('"', "quoted local parts are not allowed: relays disagree about them"),
    ("<>", "angle brackets are not part of an address"),
    ("()", "comments are not allowed in an address"),
    (("=?", "?="), "encoded words are not allowed in an address: some readers decode them into another one"),
)
# A name before angle brackets: a quoted string, or words without the characters that mean something in an address.
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SPECIAL = re.compile(r'[][()<>@,:;\\"]')
# A name of 256 characters with every one escaped, and an address.
_LONGEST = 1024


def addresses(value: object, field: str, limits: Limits) -> tuple[Address, ...]:
    """One mailbox or a list (or tuple) of them; entry n is called `field[n]`.

    A tuple of two strings directly is a name and its address. If the name has an `@`, it could as well be meant
    as two addresses, and is refused: somebody's display name must never become a recipient.
    """
    if isinstance(value, (list, tuple)) and not value:
        return ()
    if isinstance(value, (str, Address)):
        return (address(value, field, limits),)
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, str) for part in value):
        if "@" in value[0]:
            raise InvalidMail(
                field, "two strings in a tuple are a name and an address: give addresses in a list"
            )
        return (address(value, field, limits),)
    if isinstance(value, (list, tuple)):
        return tuple([address(entry, f"{field}[{n}]", limits) for n, entry in enumerate(value)])
    raise InvalidMail(field, f"expected an address or a list of addresses, got {type(value).__name__}")


def address(value: object, field: str, limits: Limits) -> Address:
    """One mailbox: `a@b`, `Name <a@b>`, (name, address) or an Address. Raises InvalidMail for *field*."""
    if isinstance(value, str):
        if (plain := _PLAIN.fullmatch(value)) and len(value) <= 254 and "xn--" not in value.lower():
            return Address("", f"{plain[1]}@{plain[2].lower()}")
        return _mailbox(exact(value, field), field, limits)
    if isinstance(value, Address):
        return Address(display_name(value.name, field, limits), addr_spec(value.address, field))
    if isinstance(value, tuple) and len(value) == 2:
        return Address(display_name(value[0], field, limits), addr_spec(value[1], field))
    raise InvalidMail(field, f"expected an address, got {type(value).__name__}")


def addr_spec(value: object, field: str) -> str:
    """The stored form of a bare address: the local part as given, the domain in lower-case ASCII."""
    text = exact(value, field)
    if (plain := _PLAIN.fullmatch(text)) and len(text) <= 254 and "xn--" not in text.lower():
        return f"{plain[1]}@{plain[2].lower()}"
    return _addr_spec(text, field)


def display_name(value: object, field: str, limits: Limits) -> str:
    """A display name in any script, "" for none. Raises InvalidMail for *field*."""
    if isinstance(value, str) and not value:
        return ""
    try:
        return no_bidi_override(header_text(value, field, limits.display_name), field)
    except InvalidMail as error:
        raise InvalidMail(field, f"display name: {error.reason}") from None


def _mailbox(text: str, field: str, limits: Limits) -> Address:
    if not text.endswith(">"):
        return Address("", addr_spec(text, field))
    if len(text) > _LONGEST:
        raise InvalidMail(field, f"expected at most {_LONGEST} characters, got {len(text)}")
    before, opened, inner = text[:-1].rpartition("<")
    name = before.strip(" ")
    if not opened:
        raise InvalidMail(field, "has > without <")
    if not name:
        raise InvalidMail(field, "write an address without a name without angle brackets")
    if quoted := _QUOTED.fullmatch(name):
        name = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL)
    elif _SPECIAL.search(name):
        raise InvalidMail(
            field,
            'expected one address; a name with any of ()<>@,:;\\" goes in quotes or in a (name, address) pair',
        )
    return Address(display_name(name, field, limits), addr_spec(inner, field))


def _addr_spec(text: str, field: str) -> str:
    """The slow way: every rule by itself, so that the reason is the right one."""
    if not text:
        raise InvalidMail(field, "the address is empty")
    if len(text) > 254:
        raise InvalidMail(
            field, f"expected at most 254 octets, got {len(text)} characters (RFC 5321 4.5.3.1.3)"
        )
    for marks, reason in _NO_ADDRESS:
        if any(mark in text for mark in marks):
            raise InvalidMail(field, reason)
    _check_visible(text, field)
    local, at, domain = text.rpartition("@")
    if not at:
        raise InvalidMail(field, "the address has no @")
    if "@" in local:
        raise InvalidMail(field, "the address has more than one @ (source routes are not allowed)")
    _check_local(local, field)
    done = f"{local}@{ascii_domain(domain, field)}"
    if len(done.encode()) > 254:
        raise InvalidMail(
            field, f"expected at most 254 octets, got {len(done.encode())} (RFC 5321 4.5.3.1.3)"
        )
    return done


def _check_visible(text: str, field: str) -> None:
    for position, c in enumerate(text):
        # C: controls, format characters (zero-width, bidi), surrogates, private and unassigned; Z: blanks.
        category = unicodedata.category(c)
        if category[0] in "CZ":
            what = "blank" if category == "Zs" else "control or invisible character"
            raise InvalidMail(
                field, f"{what} U+{ord(c):04X} at position {position} is not allowed in an address"
            )


def _check_local(local: str, field: str) -> None:
    if not local:
        raise InvalidMail(field, "the address has nothing before the @")
    if len(local.encode()) > 64:
        raise InvalidMail(field, "the local part has more than 64 octets (RFC 5321 4.5.3.1.1)")
    if local[0] in "-|/":
        raise InvalidMail(field, f"an address must not begin with {local[0]}")
    if "!" in local or "%" in local:
        raise InvalidMail(field, "! and % in a local part are routes to many relays and are not allowed")
    if not all(local.split(".")):
        raise InvalidMail(field, "the local part has a leading, trailing or double dot")
    if found := _NO_ATOM.search(local):
        raise InvalidMail(field, f"character {found[0]!r} is not allowed in a local part (RFC 5321 4.1.2)")
    if not local.isascii():
        _check_international(local, field)


def _check_international(local: str, field: str) -> None:
    if not unicodedata.is_normalized("NFC", local):
        raise InvalidMail(field, "the local part is not in Unicode normalisation form NFC (RFC 6532 3.1)")
    if unicodedata.category(local[0])[0] == "M":
        raise InvalidMail(field, "the local part begins with a combining mark")
    for position, c in enumerate(local):
        # A receiver that folds compatibility characters would read @, a comma or a bracket.
        if not c.isascii() and any(d.isascii() and not d.isalnum() for d in unicodedata.normalize("NFKC", c)):
            raise InvalidMail(
                field, f"character U+{ord(c):04X} at position {position} stands for punctuation"
            )
