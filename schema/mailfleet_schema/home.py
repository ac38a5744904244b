"""Where a database stands: what a copy of it does not have, and what a restart, a failover or a new address leaves alone.

PostgreSQL: the system identifier of the cluster, which a streaming standby shares with its primary, and the number
(oid) of the database in it. A server that does not tell its identifier is known by the number of one of our tables instead,
which is another one in a database that was restored from a dump. SQLite: the number (inode) of the file. Nothing of a host, an
address or a path, which change while the database stays. A copy of a whole disk has all of that too: only the
name of the installation tells it from its original, and whoever uses the copy has to give it another one.
"""

from dataclasses import dataclass, fields
from typing import Self

#: What is said of each part to people.
_WORDS = {
    "system": "the cluster's system identifier",
    "database": "the database's oid",
    "table": "the oid of a table",
    "inode": "the file's inode",
    "installation": "installation",
}


@dataclass(frozen=True, slots=True)
class Home:
    """One place; a part is None where it is not known, or is not of this kind of database.

    `installation` is the setting of that name, None where it is not set.
    """

    system: str | None = None
    database: str | None = None
    table: str | None = None
    inode: str | None = None
    installation: str | None = None

    def __str__(self) -> str:
        """As it is stored in `instance.home`: `system=73… database=16385 table=16402`."""
        return " ".join(f"{name}={value}" for name, value in self.parts() if value is not None)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The home in *text*; of a text that nobody of us wrote, one that is like no other."""
        names = {one.name for one in fields(cls)}
        parts = dict(part.partition("=")[::2] for part in text.split())
        return cls(**{name: value for name, value in parts.items() if name in names})

    def differs(self, other: "Home") -> tuple[str, ...]:
        """What is different in *other*, in words, for each part `PART was ONE, is OTHER`; empty when it is the same place.

        What only one of them knows of the cluster says nothing: two programs may have different rights.
        """
        both = self.system is not None and other.system is not None
        # A restore into the same database makes new tables in the same place.
        left_out = "table" if both else "system"
        return tuple(
            f"{_WORDS[name]} was {one or 'none'}, is {another or 'none'}"
            for (name, one), (_, another) in zip(self.parts(), other.parts(), strict=True)
            if name != left_out and one != another
        )

    def parts(self) -> list[tuple[str, str | None]]:
        """Every part by its name, always in the same order."""
        return [(one.name, getattr(self, one.name)) for one in fields(self)]
