"""A request as the routes see it, and whether it comes from where it may."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::[0-9]{1,5})?")
#: Ends of names that no stranger can have in the public DNS (RFC 6761, RFC 6762, RFC 9476 and ICANN for `internal`).
_PRIVATE = (".localhost", ".local", ".test", ".internal", ".home.arpa")


@dataclass(frozen=True, slots=True)
class Request:
    """*path* is decoded; *fields* have their names in lower case; *body* is "" for all but POST."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    fields: Mapping[str, str]
    body: str

    def text(self, name: str) -> str:
        """The first value of *name* in the query, "" without one."""
        return self.query.get(name, [""])[0]

    def number(self, name: str) -> int | None:
        """The same as a number; None without one. Raises ValueError naming it when it is none."""
        text = self.text(name)
        if not text:
            return None
        if not re.fullmatch(r"[0-9]{1,15}", text):
            raise ValueError(f"{name}: expected a number, got {text[:50]!r}")
        return int(text)

    def form(self, name: str) -> str:
        """The first value of *name* in the form that was posted."""
        return parse_qs(self.body, max_num_fields=20).get(name, [""])[0]

    @property
    def foreign_origin(self) -> bool:
        """Whether a page of another site made this request, as far as browsers say so."""
        origin = self.fields.get("origin")
        if origin is not None:
            return urlsplit(origin).netloc.lower() != self.fields.get("host", "").lower()
        return self.fields.get("sec-fetch-site", "none") not in {"same-origin", "none"}


def known_host(value: str | None, allowed: frozenset[str]) -> bool:
    """Whether a Host field names us: an IP address, a name that is in no public DNS, or one of *allowed*.

    Another name means that a stranger's site had its name point here, to read our answers as its own (DNS rebinding).
    """
    found = _HOST.fullmatch(value or "")
    if found is None:
        return False
    name = found[1].lower().rstrip(".")
    if name in allowed or "." not in name or name.endswith(_PRIVATE):
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
