"""Which process of this machine is behind a TCP connection, from `/proc`: no server can say that of its clients."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

_ESTABLISHED = "01"


def connections_to(port: int, pids: Iterable[int]) -> Counter[int]:
    """How many established connections to *port* each of *pids* has; one that ends meanwhile has none."""
    inodes = _inodes_to(port)
    return Counter({pid: len(_sockets_of(pid) & inodes) for pid in pids})


def _inodes_to(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            remote, state, inode = fields[2], fields[3], fields[9]
            if state == _ESTABLISHED and int(remote.rpartition(":")[2], 16) == port:
                found.add(inode)
    return found


def _sockets_of(pid: int) -> set[str]:
    found = set()
    try:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(file.readlink())
            except FileNotFoundError:
                continue
            if target.startswith("socket:["):
                found.add(target.removeprefix("socket:[").removesuffix("]"))
    except (FileNotFoundError, PermissionError):
        return set()
    return found
