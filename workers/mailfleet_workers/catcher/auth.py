"""The dialogue of AUTH PLAIN (RFC 4616) and AUTH LOGIN, without a judgement: who may log in is up to a script."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass

from mailfleet_workers.catcher.script import Credentials, Say

MECHANISMS = ("PLAIN", "LOGIN")

_BAD = Say(501, "5.5.2 Cannot decode the response")
_CANCELLED = Say(501, "5.7.0 Authentication cancelled")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A 334 challenge (base64, as it is sent), and what to make of the client's answer."""

    challenge: str
    answer: Callable[[bytes], "Outcome"]


Outcome = Prompt | Credentials | Say


def begin(argument: str) -> Outcome:
    """What follows `AUTH argument`: a prompt, the credentials if they came along, or the reply that ends it."""
    mechanism, _, initial = argument.partition(" ")
    match mechanism.upper():
        case "PLAIN":
            return _plain(initial.encode()) if initial else Prompt("", _plain)
        case "LOGIN":
            return _login_user(initial.encode()) if initial else Prompt("VXNlcm5hbWU6", _login_user)
        case _:
            return Say(504, "5.5.4 Unrecognized authentication type")


def _decode(line: bytes) -> str | Say:
    if line == b"*":
        return _CANCELLED
    # "=" is an initial response that is empty (RFC 4954 section 4).
    try:
        return "" if line == b"=" else base64.b64decode(line, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return _BAD


def _plain(line: bytes) -> Outcome:
    text = _decode(line)
    if isinstance(text, Say):
        return text
    parts = text.split("\0")
    if len(parts) != 3:
        return _BAD
    return Credentials("PLAIN", parts[1], parts[2])


def _login_user(line: bytes) -> Outcome:
    user = _decode(line)
    if isinstance(user, Say):
        return user
    return Prompt("UGFzc3dvcmQ6", lambda answer: _login_password(user, answer))


def _login_password(user: str, line: bytes) -> Outcome:
    password = _decode(line)
    if isinstance(password, Say):
        return password
    return Credentials("LOGIN", user, password)
