"""One try to log in, with one mechanism, and the server's own words about it.

smtplib.login() tries every mechanism in turn, so one wrong password counts three times towards a provider's lock,
and the reply that explains a refusal is lost when the server closes after it. Here the first mechanism that both
sides know is tried once. Nothing that leaves this module contains the user name, the password or the token.
"""

import base64
from collections.abc import Sequence

from mailfleet_workers.account import Mechanism
from mailfleet_workers.accounts.credentials import Credentials
from mailfleet_workers.smtp.base import Reply
from mailfleet_workers.smtp.mechanisms import exchange
from mailfleet_workers.smtp.wire import Wire, WireError


def log_in(wire: Wire, mechanism: Mechanism, credentials: Credentials) -> Reply:
    """The reply that ended the exchange: 2xx for success. Raises WireError when there was none.

    The user name, what proves it and their encoded forms are blotted out of the reply: some servers repeat them.
    """
    ours = exchange(mechanism, credentials)
    # "=" is an initial response that is empty (RFC 4954 4), and none of ours is.
    wire.putcmd("AUTH", mechanism if ours.first is None else f"{mechanism} {_b64(ours.first)}")
    reply = wire.reply()
    for step in ours.steps:
        if reply.code != 334:
            break
        try:
            wire.putcmd(_b64(step(reply.text)))
        except ValueError:
            raise WireError("unparsable AUTH challenge") from None
        reply = wire.reply()
    if reply.code == 334:
        # One question too many: "*" takes the exchange back (RFC 4954 4), and the reply to it is a refusal.
        wire.putcmd("*")
        reply = wire.reply()
    if reply.code < 400 and reply.code // 100 != 2:
        raise WireError(f"unexpected reply {reply.code} to AUTH")
    return Reply(
        reply.code, _blot(reply.text, [text for one in ours.hidden for text in (one.decode(), _b64(one))])
    )


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _blot(text: str, hidden: Sequence[str]) -> str:
    for value in sorted(hidden, key=len, reverse=True):
        # Shorter ones would blot out ordinary words, and say nothing by themselves.
        if len(value) >= 3:
            text = text.replace(value, "***")
    return text
