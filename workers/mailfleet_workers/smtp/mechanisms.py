"""The mechanisms of AUTH (RFC 4954): which one to try, and what the client says in it."""

import base64
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mailfleet_workers.account import Mechanism
from mailfleet_workers.accounts.credentials import Credentials

#: In order of preference, by what there is to log in with. All run inside TLS only, where PLAIN is as safe as any and the one that every
#: server understands alike; CRAM-MD5 makes the server keep a password that it can read.
PREFERRED: dict[str, tuple[Mechanism, ...]] = {
    "password": ("PLAIN", "LOGIN", "CRAM-MD5"),
    "token": ("XOAUTH2",),
}


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the client says: `first` with the command, None for nothing; then an answer to each challenge, as it was sent.

    An answer raises ValueError for a challenge that it cannot read. `hidden` is what a reply must not show, should the server repeat it.
    """

    first: bytes | None = field(repr=False)
    steps: Sequence[Callable[[str], bytes]] = field(repr=False)
    hidden: Sequence[bytes] = field(repr=False)


def choose(offered: str, kind: str, wanted: Mechanism | None = None) -> Mechanism | None:
    """The mechanism to try, from what EHLO said after AUTH and the *kind* of credentials; None if none of ours is offered.

    Where the account wants one, that and no other.
    """
    names = offered.upper().split()
    ours = PREFERRED[kind] if wanted is None else (wanted,)
    return next((name for name in ours if name in names), None)


def exchange(mechanism: Mechanism, credentials: Credentials) -> Exchange:
    """What *credentials* make the client say in *mechanism*."""
    user, secret = credentials.username.encode(), credentials.secret.reveal({}).encode()
    match mechanism:
        case "PLAIN":
            first = b"\0" + user + b"\0" + secret
            return Exchange(first, (), (user, secret, first))
        case "LOGIN":
            return Exchange(None, (lambda _: user, lambda _: secret), (user, secret))
        case "CRAM-MD5":

            def digest(challenge: str) -> bytes:
                return user + b" " + hmac.new(secret, base64.b64decode(challenge), "md5").hexdigest().encode()

            return Exchange(None, (digest,), (user, secret))
        case "XOAUTH2":
            first = b"user=" + user + b"\x01auth=Bearer " + secret + b"\x01\x01"
            # The challenge is why it was refused; only after an empty answer the server says so with a reply.
            return Exchange(first, (lambda _: b"",), (user, secret, first))
