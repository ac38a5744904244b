"""A secret by reference: where it is, what it says when it is asked, and nothing of it anywhere else."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from mailfleet.errors import SettingsError

#: What errors show of what may be a secret.
NOT_SHOWN = "a value that is not shown"

#: Literals are compared by this digest; the key lives as long as the process, so a digest says nothing outside it.
_PROCESS_KEY = secrets.token_bytes(32)


class Secret:
    """A reference to a secret (`env:NAME`, `file:/run/secrets/x`), or one given at run time (`Secret.literal`).

    The value is fetched by `reveal` only and never shown: not by repr, str, format, an error or pickle (a literal
    refuses to be pickled, a reference stays a reference). *key* is the setting that errors name. Raises
    SettingsError when *reference* is neither form, for instance a password written into the settings file.
    """

    __slots__ = ("_digest", "_key", "_reference", "_value")

    def __init__(self, reference: str, *, key: str = "password") -> None:
        scheme, _, where = reference.partition(":")
        if scheme not in {"env", "file"} or not where:
            raise SettingsError(key, "`env:NAME` or `file:/path`", NOT_SHOWN)
        self._reference: str | None = reference
        self._value: str | None = None
        self._key = key
        self._digest = reference.encode("utf-8", "surrogatepass")

    @classmethod
    def literal(cls, value: str, *, key: str = "password") -> Self:
        """A secret whose value is already known to this process, as in tests and in `Notice`."""
        made = cls.__new__(cls)
        made._reference = None  # noqa: SLF001 - our own instance
        made._value = value  # noqa: SLF001 - our own instance
        made._key = key  # noqa: SLF001 - our own instance
        made._digest = _digest(value)  # noqa: SLF001 - our own instance
        return made

    @property
    def key(self) -> str:
        """The setting that errors name."""
        return self._key

    def reveal(self, environ: Mapping[str, str]) -> str:
        """The value, looked up anew at every call; a file's last line end is no part of it.

        Raises SettingsError, which names the key and the reference, when it is missing, unreadable or empty.
        """
        if self._reference is None:
            return self._value or ""
        scheme, _, where = self._reference.partition(":")
        if scheme == "env":
            value = environ.get(where, "")
            if not value:
                raise SettingsError(
                    self._key, f"the variable {where} to be set and not empty", self._reference
                )
            return value
        try:
            value = Path(where).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, ValueError):
            # ValueError: not UTF-8; its text would quote the file's bytes.
            raise SettingsError(self._key, f"a readable UTF-8 file at {where}", self._reference) from None
        if not value:
            raise SettingsError(self._key, f"a file at {where} that is not empty", self._reference)
        return value

    def digest(self, environ: Mapping[str, str]) -> bytes:
        """What tells this value from another one in this process, and nothing outside it. Raises as `reveal`."""
        return _digest(self.reveal(environ))

    @property
    def path(self) -> Path | None:
        """The file where the value is; None where it is in no file."""
        if self._reference is None or not self._reference.startswith("file:"):
            return None
        return Path(self._reference.removeprefix("file:"))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return (self._reference is None) == (other._reference is None) and hmac.compare_digest(
            self._digest, other._digest
        )

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return "Secret(literal, not shown)" if self._reference is None else f"Secret({self._reference!r})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reference is None:
            raise TypeError("a literal Secret does not leave its process; pickle a reference instead")
        return _from_reference, (self._reference, self._key)


def _digest(value: str) -> bytes:
    return hmac.digest(_PROCESS_KEY, value.encode("utf-8", "surrogatepass"), hashlib.sha256)


def _from_reference(reference: str, key: str) -> Secret:
    return Secret(reference, key=key)
