"""A directory as a store: a key is the way to a plain file below it, and to nothing else.

The way is walked name by name from the directory that is open, and no name may be a symbolic link: whoever can write below
the directory cannot make a key mean a file outside of it, not even while it is being read. What the directory's own path
goes through is the word of whoever set it.
"""

import errno
import os
import stat
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mailfleet.stores.answer import Answer, Away, Missing, Refused, read_at_most
from mailfleet.stores.key import check_key

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A pipe that nobody writes to would not open otherwise, and a terminal would become ours.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Directory:
    """The files below *path*, by their names joined with `/`."""

    path: Path

    def read(self, key: str, most: int) -> Answer:
        """What stands under *key*, *most* bytes at most. Raises InvalidKey; whatever the system says is an answer."""
        *folders, name = check_key(key).split("/")
        with ExitStack() as opened:
            try:
                here = os.open(self.path, _DIRECTORY)
            except OSError as error:
                # A file system that is not mounted looks like this: not the file is missing, all of them are.
                return Away(f"its directory cannot be opened ({_said(error)})")
            opened.callback(os.close, here)
            try:
                for folder in folders:
                    if refused := _link(here, folder):
                        return refused
                    here = os.open(folder, _DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                    opened.callback(os.close, here)
                return _file(here, name, most)
            except OSError as error:
                if error.errno in _ABSENT:
                    return Missing("has no such key")
                if error.errno == errno.ELOOP:
                    return Refused("has a symbolic link there")
                return Away(f"the file cannot be read ({_said(error)})")


def _file(folder: int, name: str, most: int) -> Answer:
    # Looked at before it is opened: opening alone may move a tape or wake a process.
    if refused := _link(folder, name) or _not_plain(os.stat(name, dir_fd=folder, follow_symlinks=False)):
        return refused
    with os.fdopen(os.open(name, _FILE, dir_fd=folder), "rb", buffering=0) as file:
        found = os.fstat(file.fileno())
        if refused := _not_plain(found):
            return refused
        if found.st_size > most:
            return Refused(f"has more than {most} bytes")
        return read_at_most(file, most)


def _link(folder: int, name: str) -> Refused | None:
    is_link = stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    return Refused("has a symbolic link there") if is_link else None


def _not_plain(found: os.stat_result) -> Refused | None:
    return None if stat.S_ISREG(found.st_mode) else Refused("has something there that is no plain file")


def _said(error: OSError) -> str:
    return error.strerror or type(error).__name__
