"""The table of rules: the product's own, what an installation puts before it, and the search through both.

The first rule that fits decides. What it means for a mail with several recipients is the classifier's business.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Self

from mailfleet_workers.classify import parsing
from mailfleet_workers.classify.hosts import Families, families_of
from mailfleet_workers.classify.rule import Rule, Silence, plain_text
from mailfleet_workers.smtp.base import Phase, Reply

#: The folder of the product's own tables, in the order of their names.
_FOLDER = "replies"


@dataclass(frozen=True, slots=True)
class Rules:
    """The whole table: `families` of hosts by name; rules and silences in their order."""

    families: Families = field(repr=False)
    rules: tuple[Rule, ...] = field(repr=False)
    silences: tuple[Silence, ...] = field(repr=False)

    @classmethod
    @functools.cache
    def builtin(cls) -> Self:
        """The table that comes with the product."""
        folder = resources.files(__package__).joinpath(_FOLDER)
        files = sorted((one for one in folder.iterdir() if one.name.endswith(".toml")), key=lambda f: f.name)
        texts = {one.name.partition("-")[2]: one.read_text(encoding="utf-8") for one in files}
        return cls._joined(texts)

    @classmethod
    def parse(cls, text: str, *, origin: str) -> Self:
        """The table in *text*; *origin* is what errors call it. Raises SettingsError."""
        return cls._joined({origin: text})

    @classmethod
    def _joined(cls, texts: dict[str, str]) -> Self:
        families: dict[str, tuple[str, ...]] = {}
        rules: list[Rule] = []
        silences: list[Silence] = []
        for origin, text in texts.items():
            table = parsing.table(text, origin=origin, families=families)
            families |= table.families
            rules += table.rules
            silences += table.silences
        return cls(families, tuple(rules), tuple(silences))

    def under(self, own: Sequence[Rule]) -> Self:
        """This table with *own* rules searched before it."""
        return replace(self, rules=(*own, *self.rules)) if own else self

    def find(self, host: str, phase: Phase, reply: Reply) -> Rule | None:
        """The first rule that speaks for *reply*, None if none does.

        *host* is a server's name, a preset's key or a family's name; `*` is none of anybody's.
        """
        families = families_of(host, self.families)
        text = plain_text(reply.text)
        return next((rule for rule in self.rules if rule.fits(phase, families, reply, text)), None)

    def find_silence(self, error: str) -> Silence | None:
        """The first line of the table for what was seen instead of a reply, None if none fits."""
        return next((silence for silence in self.silences if silence.error.search(error)), None)
