"""Signing a request, by the scheme of Standard Webhooks 1.0 (https://www.standardwebhooks.com): its headers.

`webhook-signature` holds, for each secret, `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`. The id is the same
with every try, the time is that of the try.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

from mailfleet.errors import SettingsError
from mailfleet_workers.secret import Secret
from mailfleet_workers.settings.problems import NOT_SHOWN

EXPECTED = "whsec_ and 24 to 64 bytes in base64, several of them separated by spaces"
_PREFIX = "whsec_"


def keys_of(secret: Secret, environ: Mapping[str, str]) -> tuple[bytes, ...]:
    """The keys that *secret* holds. Raises SettingsError when it is not there, or is none; it never shows it."""
    words = secret.reveal(environ).split()
    keys = tuple(_key(word, secret) for word in words)
    if not keys:
        raise SettingsError(secret.key, EXPECTED, NOT_SHOWN)
    return keys


def _key(word: str, secret: Secret) -> bytes:
    try:
        key = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError(secret.key, EXPECTED, NOT_SHOWN) from None
    if not word.startswith(_PREFIX) or not 24 <= len(key) <= 64:
        raise SettingsError(secret.key, EXPECTED, NOT_SHOWN)
    return key


def signed(event_id: str, body: bytes, *, at: int, keys: Sequence[bytes]) -> dict[str, str]:
    """The headers that sign *body*, posted *at* (seconds since 1970)."""
    content = f"{event_id}.{at}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{one}" for one in signatures),
    }
