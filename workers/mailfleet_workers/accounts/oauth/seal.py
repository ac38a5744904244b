"""Sealing tokens for a row: whoever may read the row, or copies the database, cannot read the token.

The key is derived (HKDF, RFC 5869) from the secrets that the account refers to, and from where its tokens come from: who
has those could ask for a token as well. Other secrets are another key and another row, so that workers that have heard of new secrets and
those that have not do not undo each other's work.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mailfleet_workers.accounts.oauth.client import OAuthClient
from mailfleet_workers.accounts.oauth.issued import Issued
from mailfleet_workers.secret import Secret

_SALT = b"mailfleet oauth_token 1"
_NONCE = 12


@dataclass(frozen=True, slots=True)
class Seal:
    """The key of one account's secrets, and `name`, that of its row."""

    name: str
    _key: bytes = field(repr=False)

    @classmethod
    def of(cls, account: str, client: OAuthClient, environ: Mapping[str, str]) -> Self:
        """The seal of *account*. Raises SettingsError where a secret is missing."""
        parts = [
            client.token_url or "",
            client.provider or "",
            client.client_id,
            client.scope or "",
            client.grant,
        ]
        parts += [
            "" if one is None else one.reveal(environ) for one in (client.client_secret, client.refresh_token)
        ]
        # As JSON: no two lists of parts are the same bytes.
        secret = json.dumps([account, *parts]).encode()
        derived = HKDF(algorithm=SHA256(), length=40, salt=_SALT, info=b"key and name").derive(secret)
        return cls(f"{account}/{derived[32:].hex()}", derived[:32])

    def close(self, issued: Issued) -> bytes:
        """*issued* as a row holds it."""
        following = issued.refresh_token
        document = {
            "access_token": issued.access_token.reveal({}),
            "lifetime_s": issued.lifetime_s,
            "refresh_token": None if following is None else following.reveal({}),
        }
        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(self._key).encrypt(nonce, json.dumps(document).encode(), self.name.encode())

    def open(self, sealed: bytes) -> Issued | None:
        """What was sealed; None where it was not sealed by this key for this row, or was changed."""
        try:
            text = AESGCM(self._key).decrypt(sealed[:_NONCE], sealed[_NONCE:], self.name.encode())
            document = json.loads(text)
            following = document["refresh_token"]
            return Issued(
                Secret.literal(document["access_token"], key="access_token"),
                float(document["lifetime_s"]),
                None if following is None else Secret.literal(following, key="refresh_token"),
            )
        except (InvalidTag, ValueError, KeyError, TypeError):
            return None
