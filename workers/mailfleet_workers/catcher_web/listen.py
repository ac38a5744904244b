"""Where a server listens: `host:port` as people write it, and what may be said about it."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Self

_FORM = re.compile(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([^\s:\[\]/]+)):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Listen:
    """An address to listen on; port 0 takes a free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """`127.0.0.1:1025`, `localhost:0`, `[::1]:1025`. Raises ValueError saying what was expected."""
        found = _FORM.fullmatch(text)
        if found is None or int(found[3]) > 65_535:
            raise ValueError(f"expected host:port such as 127.0.0.1:1025, got {text!r}")
        return cls(found[1] or found[2], int(found[3]))

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it; a name other than localhost is not looked up."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
