"""Mailboxes in an argument or a template's header: split before anything is filled in, so that data stays data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mailfleet_workers.cli.sending.placeholders import Filled

# Entries are parted by commas that are neither in a placeholder nor in quotes.
_ENTRY = re.compile(r'(?:\$\{[^{}]*\}|"(?:[^"\\]|\\.)*"|[^,"$]|["$])+')
_NAMED = re.compile(r"(?P<name>.*?)\s*<(?P<address>[^<>]*)>", re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One mailbox: `name` None where only an address stands."""

    name: Filled | None
    address: Filled

    def fill(self, values: Mapping[str, str]) -> str | tuple[str, str] | None:
        """What `Mail` takes; None when placeholders leave the address empty.

        A value can never become a second mailbox: it is the name or the address, whatever is in it.
        """
        address = self.address.fill(values).strip()
        if not address and not self.address.plain:
            return None
        return address if self.name is None else (self.name.fill(values).strip(), address)


def mailboxes(text: str, source: str, line: int) -> list[Mailbox]:
    """The mailboxes in *text*, parted by commas: `ada@example.net`, `Ada <ada@example.net>`, `"Ada, L." <…>`."""
    return [_mailbox(entry.strip(), source, line) for entry in _ENTRY.findall(text) if entry.strip()]


def _mailbox(entry: str, source: str, line: int) -> Mailbox:
    named = _NAMED.fullmatch(entry)
    if named is None:
        return Mailbox(None, Filled(entry, source, line))
    name = named["name"].strip()
    if quoted := _QUOTED.fullmatch(name):
        name = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL)
    return Mailbox(Filled(name, source, line), Filled(named["address"], source, line))
