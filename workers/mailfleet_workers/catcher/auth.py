"""The dialogue of AUTH PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195) and XOAUTH2, without a judgement.

Who may log in is up to a script.
"""

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mailfleet_workers.catcher.actions import Say
from mailfleet_workers.catcher.script import Credentials

USUAL_MECHANISMS = ("PLAIN", "LOGIN")
MECHANISMS = (*USUAL_MECHANISMS, "CRAM-MD5", "XOAUTH2")

_BAD = Say(501, "5.5.2 Cannot decode the response")
_UNKNOWN = Say(504, "5.5.4 Unrecognized authentication type")
#: As Google and Microsoft document it: user and bearer token, each field ended by a control character.
_XOAUTH2 = re.compile("user=([^\x01]+)\x01auth=Bearer ([^\x01]+)\x01\x01", re.IGNORECASE)
_CANCELLED = Say(501, "5.7.0 Authentication cancelled")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A 334 challenge (base64, as it is sent), and what to make of the client's answer."""

    challenge: str
    answer: Callable[[bytes], "Outcome"]


Outcome = Prompt | Credentials | Say


def begin(argument: str, offered: Sequence[str] = USUAL_MECHANISMS, stamp: str = "<0@catcher>") -> Outcome:
    """What follows `AUTH argument`: a prompt, the credentials if they came along, or the reply that ends it.

    *offered* are the mechanisms there are, *stamp* is what CRAM-MD5 asks to be signed: another one each time.
    """
    mechanism, _, initial = argument.partition(" ")
    name = mechanism.upper()
    match name if name in offered else None:
        case "PLAIN":
            return _plain(initial.encode()) if initial else Prompt("", _plain)
        case "LOGIN":
            return _login_user(initial.encode()) if initial else Prompt("VXNlcm5hbWU6", _login_user)
        case "XOAUTH2":
            return _xoauth2(initial.encode()) if initial else Prompt("", _xoauth2)
        case "CRAM-MD5" if not initial:
            return Prompt(base64.b64encode(stamp.encode()).decode(), lambda answer: _cram_md5(stamp, answer))
        case "CRAM-MD5":
            return _BAD
        case _:
            return _UNKNOWN


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


def _cram_md5(stamp: str, line: bytes) -> Outcome:
    text = _decode(line)
    if isinstance(text, Say):
        return text
    user, _, digest = text.rpartition(" ")
    return Credentials("CRAM-MD5", user, digest, stamp) if user else _BAD


def _xoauth2(line: bytes) -> Outcome:
    text = _decode(line)
    if isinstance(text, Say):
        return text
    found = _XOAUTH2.fullmatch(text)
    return Credentials("XOAUTH2", found[1], found[2]) if found else _BAD
