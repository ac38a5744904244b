"""Mail addresses, and passwords in URLs, in texts that are about to be logged.

A hash is keyed, so that nobody finds an address by trying; the same address has the same hash as long as the key is
the same, in whatever case it is written. What has an `@` between two words counts as an address: rather one hash too
many (a Message-ID has one too).
"""

import hashlib
import hmac
import re
import secrets
from typing import Literal

Manner = Literal["hashed", "plain", "none"]

#: What cannot be part of an unquoted address, inside a class of characters.
_NOT = r'\s<>()\[\],;:@"\\\x00-\x1f\x7f'
_MOST_QUOTED = 256
_ADDRESS = re.compile(
    # A quoted local part (64 octets in RFC 5321 4.5.3.1.1; a text full of open quotes must not cost its square), or all
    # that stands in front of the @. It begins where a word begins: linear in the text.
    rf'(?:"(?:[^"\\]|\\.){{0,{_MOST_QUOTED}}}+"|(?<![^{_NOT}])[^{_NOT}]++)(?:@(?:\[[^\]\s]*\]|[^{_NOT}]+))+'
)
_ENCODED = re.compile(rf"(?<![^{_NOT}])[^{_NOT}]*?%40[^{_NOT}]+", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*):[^/\s]*@")
#: Stands around addresses in sentences, and is no part of them.
_AROUND = ".!?'`"


def new_key() -> bytes:
    """A key for hashes."""
    return secrets.token_bytes(32)


class Addresses:
    """Hides addresses in texts in one *manner*. *key* is for `hashed`."""

    def __init__(self, manner: Manner, key: bytes) -> None:
        self._manner = manner
        self._key = key

    def hide(self, text: str) -> str:
        """*text* with `h:` and twelve hexadecimal digits, `[address]`, or itself, for each address."""
        if "@" in text:
            text = _URL_PASSWORD.sub(r"\1:***@", text)
            if self._manner != "plain":
                text = _ADDRESS.sub(self._instead, text)
        if self._manner != "plain" and "%40" in text:
            text = _ENCODED.sub(self._instead, text)
        return text

    def _instead(self, match: re.Match[str]) -> str:
        found = match[0]
        start, end = found[: len(found) - len(found.lstrip(_AROUND))], found[len(found.rstrip(_AROUND)) :]
        if found.startswith("***@"):
            return found  # what is left of a URL's password, in front of its host
        if self._manner == "none":
            return f"{start}[address]{end}"
        return start + self.hash(found.strip(_AROUND)) + end

    def hash(self, address: str) -> str:
        """The word for *address*."""
        value = address.replace("%40", "@").lower().encode("utf-8", "surrogatepass")
        return "h:" + hmac.new(self._key, value, hashlib.sha256).hexdigest()[:12]


class _Current:
    """What this process uses: hashes with a key of its own, until somebody configures it."""

    def __init__(self) -> None:
        self.addresses = Addresses("hashed", new_key())


_current = _Current()


def use(addresses: Addresses) -> None:
    """Let this process use *addresses* from now on."""
    _current.addresses = addresses


def hide(text: str) -> str:
    """*text* with its addresses hidden, as this process is configured."""
    return _current.addresses.hide(text)
