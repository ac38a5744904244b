"""What is said of an envelope before DATA, to a server that offers certain extensions; and what cannot be said to it at all."""

import re
from collections.abc import Iterator, Mapping
from typing import Protocol

from mailfleet_workers.smtp.envelope import Dsn, Envelope

#: What fits between the angle brackets of MAIL and RCPT and cannot begin another command or parameter.
_PATH = re.compile(r"[^\s<>\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
#: What xtext has to say as a code (RFC 3461 4): all but printable ASCII, and the two signs with a meaning.
_NO_XCHAR = re.compile(r"[^!-*,-<>-~]")
#: The same where an address that is not ASCII is said in ASCII (RFC 6533 3).
_NO_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")
#: What the parameters of RFC 3461 (4.2, 4.4) may hold at most, in characters of xtext.
_MOST_ORCPT, _MOST_ENVID = 500, 100


class Server(Protocol):
    """What a server said after EHLO: extensions by their names in lower case, with their parameters."""

    @property
    def esmtp_features(self) -> Mapping[str, str]: ...


class Commands:
    """MAIL and RCPT of *envelope* for *server*."""

    def __init__(self, envelope: Envelope, server: Server) -> None:
        self._envelope = envelope
        self._offered = server.esmtp_features
        #: Whom nothing is said of, by address, and why: this server can never take such a recipient.
        self.kept_back = dict(self._kept_back())
        #: Who is named, in this order.
        self.recipients = tuple(one for one in envelope.recipients if one not in self.kept_back)
        addresses = (envelope.sender, *self.recipients)
        self.utf8 = not (envelope.message.header.isascii() and all(map(str.isascii, addresses)))
        self._eight_bit = not envelope.message.is_ascii

    def objection(self) -> str | None:
        """Why this server can never take this mail for anybody; None if nothing speaks against trying."""
        envelope, message = self._envelope, self._envelope.message
        # The null sender is a legal one (RFC 5321 4.5.5).
        if envelope.sender and not _PATH.fullmatch(envelope.sender):
            return "sender is no address that a command can carry"
        if not message.is_canonical:
            return "message is not canonical: bare CR, bare LF, NUL or no line end at its end"
        if not self.recipients:
            return next(iter(self.kept_back.values()), "no recipient")
        if self.utf8 and "smtputf8" not in self._offered:
            return "an address is not ASCII and the server does not offer SMTPUTF8"
        if self._eight_bit and "8bitmime" not in self._offered:
            return "message has 8-bit bytes and the server does not offer 8BITMIME"
        limit = self._size_limit()
        if limit and message.size > limit:
            return f"message of {message.size} bytes exceeds the server's SIZE limit {limit}"
        return None

    def __iter__(self) -> Iterator[tuple[str | None, str]]:
        """MAIL (of no recipient), then each RCPT with its recipient."""
        sender, dsn = self._envelope.sender, self._envelope.dsn if "dsn" in self._offered else None
        yield None, f"MAIL FROM:<{sender}>{''.join(self._of_mail(dsn))}\r\n"
        for address in self.recipients:
            reports = "" if dsn is None else "".join(_of_recipient(dsn, address))
            yield address, f"RCPT TO:<{address}>{reports}\r\n"

    def _of_mail(self, dsn: Dsn | None) -> Iterator[str]:
        if "size" in self._offered:
            # Without the doubled dots, as RFC 1870 3 counts.
            yield f" SIZE={self._envelope.message.size}"
        if self._eight_bit:
            yield " BODY=8BITMIME"
        if self.utf8:
            yield " SMTPUTF8"
        if dsn is not None and dsn.ret is not None:
            yield f" RET={dsn.ret.upper()}"
        if dsn is not None and dsn.envid and len(envid := xtext(dsn.envid)) <= _MOST_ENVID:
            yield f" ENVID={envid}"

    def _kept_back(self) -> Iterator[tuple[str, str]]:
        for number, address in enumerate(self._envelope.recipients):
            if not _PATH.fullmatch(address):
                yield address, f"recipient {number} is no address that a command can carry"
            elif not address.isascii() and "smtputf8" not in self._offered:
                yield address, "the address is not ASCII and the server does not offer SMTPUTF8"

    def _size_limit(self) -> int:
        """What EHLO said after SIZE; 0 for no limit or none stated (RFC 1870)."""
        said = self._offered.get("size", "").strip()
        return int(said) if said.isdecimal() and len(said) < 19 else 0


def _of_recipient(dsn: Dsn, address: str) -> Iterator[str]:
    if dsn.notify:
        yield f" NOTIFY={','.join(dsn.notify).upper()}"
    if dsn.orcpt and len(said := original_recipient(address)) <= _MOST_ORCPT:
        yield f" ORCPT={said}"


def original_recipient(address: str) -> str:
    """*address* as ORCPT says it: always in ASCII (RFC 3461 4.2, RFC 6533 3)."""
    if address.isascii():
        return f"rfc822;{xtext(address)}"
    return "utf-8;" + _NO_QCHAR.sub(lambda found: f"\\x{{{ord(found[0]):02X}}}", address)


def xtext(text: str) -> str:
    """*text*, which is ASCII, as a parameter's value: `+` and two digits for what a value cannot hold (RFC 3461 4)."""
    return _NO_XCHAR.sub(lambda found: f"+{ord(found[0]):02X}", text)
