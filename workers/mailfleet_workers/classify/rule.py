"""One line of the table: what a rule asks of a reply, and what a reply looks like to it."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from mailfleet_workers.smtp.base import Phase, Reply
from mailfleet_workers.verdict import Scope

Kind = Literal["stop", "wait", "retry"]

_ADDRESS = re.compile(r"[^\s<>()\[\]\"',;:]+@[^\s<>()\[\]\"',;:]+")
#: Characters of a reply that are read: reasons stand at the beginning, and a hostile server can send 64 KB.
_READ = 2000
#: What follows the path of a URL is an identifier or a parameter, never a reason.
_QUERY = re.compile(r"(https?://[^\s?#]*)[?#]\S*")
#: Of Latin letters only: elsewhere such a mark makes another letter.
_ACCENTS = re.compile(r"([A-Za-z])[\u0300-\u036f]+")
_ENHANCED = re.compile(r"(?m)^[245]\.\d{1,3}\.\d{1,3}[ \t]+")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table; `name` says where it stands, for people.

    `scope` and `wait_s` (seconds) are None where the phase's defaults apply, and for stop; a retry's are for phases before MAIL.
    Empty `phases` or `hosts` mean all. `code` and `enhanced` must fit as a whole, `text` and `unless` anywhere in the
    text as `plain_text` makes it; None does not ask. `source` says where the meaning is documented.
    """

    name: str
    reason: str
    kind: Kind
    scope: Scope | None
    wait_s: float | None
    phases: frozenset[Phase]
    hosts: frozenset[str]
    code: re.Pattern[str] | None
    enhanced: re.Pattern[str] | None
    text: re.Pattern[str] | None
    unless: re.Pattern[str] | None
    source: str

    def fits(self, phase: Phase, families: frozenset[str], reply: Reply, text: str) -> bool:
        """Whether this rule speaks for *reply*, whose text is given as `plain_text` made it."""
        return (
            (not self.phases or phase in self.phases)
            and (not self.hosts or not self.hosts.isdisjoint(families))
            and (self.code is None or bool(self.code.fullmatch(str(reply.code))))
            and (self.enhanced is None or bool(self.enhanced.fullmatch(reply.enhanced or "")))
            and (self.text is None or bool(self.text.search(text)))
            and (self.unless is None or not self.unless.search(text))
        )


@dataclass(frozen=True, slots=True)
class Silence:
    """How long a host or account waits when nothing was said before MAIL; `error` is searched in `Answer.error`."""

    name: str
    reason: str
    error: re.Pattern[str]
    scope: Scope
    wait_s: float


def plain_text(text: str) -> str:
    """A reply's text as rules see it: one line, lower case, without the enhanced codes that providers repeat on every
    line, without accents of Latin letters, and with "<address>" for addresses, so that nobody's address reads like a reason.
    Only the first 2000 characters are read.
    """
    one_line = " ".join(_ENHANCED.sub("", _plain_letters(text[:_READ])).split()).lower()
    return _ADDRESS.sub("address", _QUERY.sub(r"\1", one_line))


def _plain_letters(text: str) -> str:
    if text.isascii():
        return text
    apart = _ACCENTS.sub(r"\1", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFC", apart)
