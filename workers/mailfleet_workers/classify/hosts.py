"""Which families a host belongs to: whose rules may speak for it.

A host is the real name of a server, the key of a preset (`m365`, `ses/sandbox`), the name of a family, or `*`, which is nobody's. Presets say
which servers and domains a provider has; the table groups them, and adds what no preset knows.
"""

import fnmatch
from collections.abc import Iterator, Mapping
from functools import lru_cache

from mailfleet_workers.limits.preset import presets

Families = Mapping[str, tuple[str, ...]]


def families_of(host: str, families: Families) -> frozenset[str]:
    """The names from *families* that *host* belongs to, and its own in lower case, with and without a port.

    What a family holds is the name of a preset or another alias, or a shell pattern for names of servers.
    """
    host = host.lower().rstrip(".")
    if host in {"", "*"}:
        return frozenset()
    bare, colon, port = host.rpartition(":")
    names = {host, bare} if colon and port.isdigit() and ":" not in bare else {host}
    names.add(host.partition("/")[0])
    known = names | {preset for name in names for preset in _presets_of(name)}
    groups = {
        family
        for family, members in families.items()
        if family in known or any(_is(member, known) for member in members)
    }
    return frozenset(known | groups)


def _is(member: str, names: set[str]) -> bool:
    if "*" in member:
        return any(fnmatch.fnmatchcase(name, member) for name in names)
    return member in names


@lru_cache(maxsize=1024)
def _presets_of(host: str) -> frozenset[str]:
    return frozenset(name for name, servers in _servers() if host in servers or _below(host, servers))


def _below(host: str, servers: frozenset[str]) -> bool:
    return any(host.endswith(f".{server}") for server in servers)


@lru_cache(maxsize=1)
def _servers() -> tuple[tuple[str, frozenset[str]], ...]:
    return tuple(_of_presets())


def _of_presets() -> Iterator[tuple[str, frozenset[str]]]:
    for one in presets():
        yield one.name, frozenset({*one.domains, *(server.host for server in one.servers)})
