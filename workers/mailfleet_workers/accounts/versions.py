"""Whether the value behind an account's secrets is another one than before; the value itself is kept nowhere."""

import os
from collections.abc import Callable, Mapping

from mailfleet.errors import SettingsError
from mailfleet_workers.account import Account
from mailfleet_workers.secret import Secret

#: A file that changed so short a time before it was read may have changed again without another time, in seconds.
_SETTLED_S = 2.0

_Stat = tuple[int, int, int]


class Versions:
    """*environ* is where `env:` secrets are; *clock* is the wall clock, for the age of files. Not thread-safe.

    A file is read again when it is another one, or was written to. What cannot be read at the moment counts as unchanged: a
    connection that needs it says so, and a file that is being replaced harms nobody.
    """

    def __init__(self, environ: Mapping[str, str], clock: Callable[[], float]) -> None:
        self._environ = environ
        self._clock = clock
        self._digests: dict[Secret, bytes] = {}
        self._stats: dict[Secret, _Stat] = {}

    def of(self, account: Account) -> str:
        """What changes when a value behind *account* does, and says nothing outside this process."""
        return "".join(self._digest(one).hex() for one in account.secrets)

    def _digest(self, secret: Secret) -> bytes:
        try:
            stat = self._stat(secret)
            if stat is None or self._stats.get(secret) != stat:
                self._digests[secret] = secret.digest(self._environ)
                self._stats.pop(secret, None)
                if stat is not None and self._clock() - stat[1] / 1e9 > _SETTLED_S:
                    self._stats[secret] = stat
        except (SettingsError, OSError):
            pass
        return self._digests.get(secret, b"")

    def _stat(self, secret: Secret) -> _Stat | None:
        path = secret.path
        if path is None:
            return None
        found = os.stat(path)  # noqa: PTH116 - `Path.stat` is the same, and this is called often
        return found.st_ino, found.st_mtime_ns, found.st_size
