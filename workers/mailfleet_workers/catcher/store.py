"""What a catcher has taken over, in memory or in a directory.

A receipt is in the store before the catcher answers the final dot, so a client that read 250 finds its mail here.
Stores are safe to use from any thread. What a store holds in memory ends with the process; what a directory holds
survives it, and the machine too when `fsync` is on.
"""

import dataclasses
import json
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One mail as a server took it over.

    `number` counts from 1 in the order of arrival at the store (0: not stored yet). `recipients` are those that were
    accepted. `message` is without dot-stuffing. `mail_options` are the parameters of MAIL as they were sent.
    `helo` and `user` are None when the client did not say them. `received_at` is wall clock (seconds since 1970),
    `monotonic` the monotonic clock at the arrival of the final dot, comparable within one boot of one machine.
    """

    number: int = 0
    session_id: int
    peer: tuple[str, int]
    helo: str | None
    user: str | None
    tls: bool
    sender: str
    recipients: tuple[str, ...]
    message: bytes
    received_at: float
    monotonic: float
    mail_options: tuple[str, ...] = ()


class Store(ABC):
    """Receipts in the order of their numbers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()

    def add(self, receipt: Receipt) -> Receipt:
        """Number and keep *receipt*; the numbered one is returned. What it raises means that nothing was kept."""
        with self._changed:
            kept = self._keep(receipt)
            self._changed.notify_all()
        return kept

    def receipts(self) -> tuple[Receipt, ...]:
        """All receipts; from a directory they are read anew at every call."""
        return tuple(self)

    def wait_for(self, count: int, deadline_s: float) -> tuple[Receipt, ...]:
        """All receipts once there are at least *count*.

        Raises TimeoutError after *deadline_s* seconds, saying how many there were. Only mails that this store object
        added wake it up.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self) >= count, deadline_s):
                raise TimeoutError(f"{len(self)} of {count} mails arrived within {deadline_s} s")
            return self.receipts()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Receipt]: ...

    @abstractmethod
    def _keep(self, receipt: Receipt) -> Receipt:
        """Keep a numbered copy; called under the lock."""


class MemoryStore(Store):
    """Receipts that live as long as the process."""

    def __init__(self) -> None:
        super().__init__()
        self._receipts: list[Receipt] = []

    def __len__(self) -> int:
        return len(self._receipts)

    def __iter__(self) -> Iterator[Receipt]:
        return iter(tuple(self._receipts))

    def _keep(self, receipt: Receipt) -> Receipt:
        kept = dataclasses.replace(receipt, number=len(self._receipts) + 1)
        self._receipts.append(kept)
        return kept


class DirectoryStore(Store):
    """Receipts as files: `00000001.eml` holds the message, `00000001.json` everything else.

    Both are written under a temporary name and renamed, the JSON last: a receipt exists when its JSON does, and
    what a killed process left half-written is ignored (its number is not used again). One process may write to a
    directory at a time; others may read it, and see what was there when they opened it. With *fsync*, files and
    directory are flushed before `add` returns.
    """

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        super().__init__()
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._fsync = fsync
        numbers = {
            found.suffix: sorted(
                int(found.stem) for found in path.glob(f"*{found.suffix}") if found.stem.isdigit()
            )
            for found in (Path("x.json"), Path("x.eml"))
        }
        self._numbers = numbers[".json"]
        self._last = max(numbers[".json"] + numbers[".eml"], default=0)

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Receipt]:
        return map(self._load, tuple(self._numbers))

    def _keep(self, receipt: Receipt) -> Receipt:
        self._last += 1
        kept = dataclasses.replace(receipt, number=self._last)
        about = {
            entry.name: getattr(kept, entry.name)
            for entry in dataclasses.fields(kept)
            if entry.name != "message"
        }
        self._write(self._file(kept.number, "eml"), kept.message)
        self._write(self._file(kept.number, "json"), json.dumps(about, ensure_ascii=False, indent=1).encode())
        if self._fsync:
            self._flush_directory()
        self._numbers.append(kept.number)
        return kept

    def _load(self, number: int) -> Receipt:
        about: dict[str, Any] = json.loads(self._file(number, "json").read_bytes())
        host, port = about.pop("peer")
        return Receipt(
            peer=(host, port),
            recipients=tuple(about.pop("recipients")),
            mail_options=tuple(about.pop("mail_options")),
            message=self._file(number, "eml").read_bytes(),
            **about,
        )

    def _file(self, number: int, suffix: str) -> Path:
        return self._path / f"{number:08d}.{suffix}"

    def _write(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                if self._fsync:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _flush_directory(self) -> None:
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
