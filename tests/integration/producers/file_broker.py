"""A broker for child processes: every hinted row becomes a line in a file, with the process that published it."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from mailfleet.broker import HintBroker
from mailfleet_schema.hint import Hint


class FileBroker(HintBroker):
    """Appends `pid id` lines to *path*; each publish takes *seconds*."""

    def __init__(self, path: str, seconds: float = 0) -> None:
        self._path = Path(path)
        self._seconds = seconds

    def publish(self, hints: Sequence[Hint], *, delay_s: int = 0) -> None:
        assert delay_s == 0
        time.sleep(self._seconds)
        lines = "".join(f"{os.getpid()} {row_id}\n" for hint in hints for row_id in hint.ids)
        with self._path.open("a") as file:
            file.write(lines)

    def close(self) -> None:
        """There is nothing to close."""


def published(path: Path) -> list[tuple[int, int]]:
    """(pid, row id) of everything published so far."""
    if not path.exists():
        return []
    return [
        (int(pid), int(row_id)) for pid, row_id in (line.split() for line in path.read_text().splitlines())
    ]
