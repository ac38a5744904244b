"""The grammar of SMTP commands, as far as a catcher reads them (RFC 5321 4.1).

It is as strict as a good client deserves: one space between verb and argument, none after `FROM:` and `TO:`,
parameters only as the server offered them. Addresses are split off, not judged: which of them exist is up to a
script.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mailfleet_workers.catcher.actions import Say

#: RFC 4954 section 4 wants at least 12,288 octets for AUTH; every other command is shorter.
MAX_LINE = 12_288

_PATH = re.compile(r'<((?:"(?:[^"\\]|\\.)*"|[^\s<>"])*)>(?: +(.*))?\Z', re.DOTALL)
_BARE = re.compile(rb"[\r\n\0]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SIZE = re.compile(r"[0-9]{1,20}\Z")
#: xtext of RFC 3461 section 4: printable ASCII without "+" and "=", which are written as "+2B" and "+3D".
_XTEXT = r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})"
_RET = re.compile(r"(?:FULL|HDRS)\Z", re.IGNORECASE)
_ENVID = re.compile(_XTEXT + r"{1,100}\Z")
_NOTIFY = re.compile(r"(?:NEVER|(?:(?:SUCCESS|FAILURE|DELAY)(?:,(?!\Z)|\Z))+)\Z", re.IGNORECASE)
#: An address that is not ASCII is written in UTF-8 where SMTPUTF8 was said (RFC 6533 section 3).
_ORCPT = re.compile(rf"[A-Za-z0-9-]+;(?:{_XTEXT}|[^\x00-\x7f])+\Z")
_OF_MAIL = {
    "SIZE": _SIZE,
    "BODY": re.compile(r"(?:7BIT|8BITMIME)\Z", re.IGNORECASE),
    "SMTPUTF8": None,
    "AUTH": re.compile(r"."),
}
_NEEDS_SMTPUTF8 = Say(553, "5.6.7 Address is not ASCII and SMTPUTF8 was not given")


@dataclass(frozen=True, slots=True)
class Command:
    """A command line: the verb in capitals, and the rest without the space between them."""

    verb: str
    argument: str


@dataclass(frozen=True, slots=True)
class Path:
    """The argument of MAIL or RCPT: the address without angle brackets ("" is the null path), and its parameters."""

    address: str
    options: tuple[str, ...]


def parse_line(line: bytes) -> Command | Say:
    """One command line without its line end, or the reply that refuses it."""
    if _BARE.search(line):
        return Say(500, "5.5.2 Bare CR, bare LF or NUL in a command line")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return Say(500, "5.5.2 Command line is not UTF-8")
    verb, _, argument = text.partition(" ")
    return Command(verb.upper(), argument.rstrip(" "))


def parse_mail(argument: str, *, max_size: int, dsn: bool = False) -> Path | Say:
    """The argument of MAIL, or the reply that refuses it.

    *max_size* is the SIZE that was offered, in bytes; *dsn* is whether DSN was.
    """
    path = _parse_path(argument, "FROM:")
    return path if isinstance(path, Say) else _refusal(path, max_size, dsn=dsn) or path


def parse_rcpt(argument: str, *, mail_options: tuple[str, ...], dsn: bool = False) -> Path | Say:
    """The argument of RCPT, or the reply that refuses it; it has parameters only where DSN was offered."""
    path = _parse_path(argument, "TO:")
    if isinstance(path, Say):
        return path
    known = {"NOTIFY": _NOTIFY, "ORCPT": _ORCPT} if dsn else {}
    if refusal := _not_in_order(path.options, known):
        return refusal
    if not path.address:
        return Say(501, "5.1.3 Bad address syntax")
    if not path.address.isascii() and "SMTPUTF8" not in map(str.upper, mail_options):
        return _NEEDS_SMTPUTF8
    return path


def _parse_path(argument: str, keyword: str) -> Path | Say:
    if argument[: len(keyword)].upper() != keyword:
        return Say(501, f"5.5.4 Syntax: {keyword}<address>")
    match = _PATH.match(argument, len(keyword))
    if match is None or _CONTROL.search(argument):
        return Say(501, f"5.1.{'7' if keyword == 'FROM:' else '3'} Bad address syntax")
    return Path(match[1], tuple((match[2] or "").split()))


def _refusal(path: Path, max_size: int, *, dsn: bool) -> Say | None:
    """What is wrong with the parameters of MAIL, if anything.

    Known are SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), AUTH (RFC 4954), and with *dsn* RET and ENVID
    (RFC 3461), each at most once.
    """
    known = _OF_MAIL | ({"RET": _RET, "ENVID": _ENVID} if dsn else {})
    if refusal := _not_in_order(path.options, known):
        return refusal
    given = {name.upper(): value for name, _, value in (option.partition("=") for option in path.options)}
    if int(given.get("SIZE", "0")) > max_size:
        return Say(552, "5.3.4 Message size exceeds fixed limit")
    if not path.address.isascii() and "SMTPUTF8" not in given:
        return _NEEDS_SMTPUTF8
    return None


def _not_in_order(options: tuple[str, ...], known: Mapping[str, re.Pattern[str] | None]) -> Say | None:
    """The reply to parameters that are not *known*, given twice, or of a bad value; None stands for no value at all."""
    seen: set[str] = set()
    for option in options:
        name, _, value = option.partition("=")
        name = name.upper()
        if name not in known:
            return Say(555, f"5.5.4 Unsupported option: {name}")
        if name in seen:
            return Say(501, f"5.5.4 {name} given twice")
        seen.add(name)
        grammar = known[name]
        if "=" in option if grammar is None else not grammar.match(value):
            return Say(501, f"5.5.4 Bad value of {name}")
    return None
