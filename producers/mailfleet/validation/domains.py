"""The ASCII form of a mail domain, or why there is none (RFC 5321 4.1.2, RFC 5890 to 5893).

Case and composition are normalised as UTS 46 does; any other mapping (full-width letters, ideographic stops,
ignored characters) is refused, because the domain then is not the one that was written. Whether the domain exists
is nobody's business here.
"""

import re
import unicodedata

import idna

from mailfleet.errors import InvalidMail

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# Scripts whose letters look alike. Registries do not sell names that mix them in one label (UTS 39 5.1).
_CONFUSABLE = ("LATIN", "GREEK", "CYRILLIC")


def ascii_domain(domain: str, field: str) -> str:
    """*domain* in lower case and ASCII (`xn--…`). Raises InvalidMail for *field* with the first rule it breaks.

    A domain has at least two labels; `localhost` is the only exception. Address literals are refused.
    """
    if domain.startswith("["):
        raise InvalidMail(field, "address literals such as [127.0.0.1] are not allowed: give a domain")
    if not domain.isascii():
        domain = unicodedata.normalize("NFC", "".join(c.lower() for c in domain))
    labels = domain.lower().split(".")
    if not all(labels):
        raise InvalidMail(field, "the domain has an empty label (a leading, trailing or double dot)")
    done = [_ascii_label(label, field) for label in labels]
    if len(done) == 1 and done[0] != "localhost":
        raise InvalidMail(field, "the domain needs a dot (localhost is the only exception)")
    if not re.search("[a-z]", done[-1]):
        raise InvalidMail(field, "the domain ends in a number, as IP addresses do: give a domain")
    return ".".join(done)


def _ascii_label(label: str, field: str) -> str:
    if label.isascii() and not label.startswith("xn--"):
        if len(label) > 63:
            raise InvalidMail(field, "a domain label has more than 63 characters")
        if not _LABEL.fullmatch(label):
            raise InvalidMail(field, "a domain label may have letters, digits and inner hyphens only")
        return label
    try:
        # Both directions: what is already ASCII must be the one form of the name that it stands for.
        shown = idna.ulabel(label)
        done = idna.alabel(shown).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise InvalidMail(field, "a domain label is not valid in IDNA 2008 (RFC 5891)") from None
    if label.isascii() and done != label:
        raise InvalidMail(field, "a domain label is not valid in IDNA 2008 (RFC 5891)")
    scripts = {word for c in shown if (word := unicodedata.name(c, "").split(" ", 1)[0]) in _CONFUSABLE}
    if len(scripts) > 1:
        raise InvalidMail(
            field, f"a domain label mixes {' and '.join(sorted(s.title() for s in scripts))} letters"
        )
    return done
