"""One try to log in, with one mechanism, and the server's own words about it.

smtplib.login() tries every mechanism in turn, so one wrong password counts three times towards a provider's lock,
and the reply that explains a refusal is lost when the server closes after it. Here the first mechanism that both
sides know is tried once. Nothing that leaves this module contains the user name or the password.
"""

import base64
import hmac
from collections.abc import Callable, Sequence

from mailfleet_workers.smtp.base import Reply
from mailfleet_workers.smtp.wire import Wire, WireError

#: In order of preference. All run inside TLS only; CRAM-MD5 makes the server keep a password it can read.
MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5")


def choose(offered: str) -> str | None:
    """The mechanism to try, from what EHLO said after AUTH; None if the server offers none that we know."""
    names = offered.upper().split()
    return next((name for name in MECHANISMS if name in names), None)


def log_in(wire: Wire, mechanism: str, username: str, password: str) -> Reply:
    """The reply that ended the exchange: 2xx for success. Raises WireError when there was none.

    The user name, the password and their encoded forms are blotted out of the reply: some servers repeat them.
    """
    user, secret = username.encode(), password.encode()
    command, steps = _exchange(mechanism, user, secret)
    wire.putcmd("AUTH", command)
    reply = wire.reply()
    for step in steps:
        if reply.code != 334:
            break
        wire.putcmd(_b64(step(_challenge(reply))))
        reply = wire.reply()
    if reply.code == 334:
        # One question too many: "*" takes the exchange back (RFC 4954 4), and the reply to it is a refusal.
        wire.putcmd("*")
        reply = wire.reply()
    if reply.code < 400 and reply.code // 100 != 2:
        raise WireError(f"unexpected reply {reply.code} to AUTH")
    hidden = (username, password, _b64(user), _b64(secret), _b64(b"\0" + user + b"\0" + secret))
    return Reply(reply.code, _blot(reply.text, hidden))


def _exchange(mechanism: str, user: bytes, secret: bytes) -> tuple[str, Sequence[Callable[[bytes], bytes]]]:
    match mechanism:
        case "PLAIN":
            return "PLAIN " + _b64(b"\0" + user + b"\0" + secret), ()
        case "LOGIN":
            return "LOGIN", (lambda _: user, lambda _: secret)
        case "CRAM-MD5":
            return "CRAM-MD5", (
                lambda challenge: user + b" " + hmac.new(secret, challenge, "md5").hexdigest().encode(),
            )
        case _:
            raise ValueError(f"mechanism: expected one of {', '.join(MECHANISMS)}, got {mechanism!r}")


def _challenge(reply: Reply) -> bytes:
    try:
        return base64.b64decode(reply.text)
    except ValueError:
        raise WireError("unparsable AUTH challenge") from None


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _blot(text: str, hidden: Sequence[str]) -> str:
    for value in sorted(hidden, key=len, reverse=True):
        # Shorter ones would blot out ordinary words, and say nothing by themselves.
        if len(value) >= 3:
            text = text.replace(value, "***")
    return text
