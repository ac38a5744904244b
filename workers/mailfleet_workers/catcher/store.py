"""What a catcher has taken over, in memory or in a directory.

A receipt is in the store before the catcher answers the final dot, so a client that read 250 finds its mail here.
Stores are safe to use from any thread. What a store holds in memory ends with the process; what a directory holds
survives it, and the machine too when `fsync` is on.
"""

import contextlib
import dataclasses
import json
import os
import threading
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One mail as a server took it over.

    `number` counts from 1 in the order of arrival at the store (0: not stored yet). `recipients` are those that were
    accepted. `message` is without dot-stuffing. `mail_options` are the parameters of MAIL as they were sent,
    `recipient_options` those of RCPT, for each of `recipients` in their order. `helo` and `user` are None when the
    client did not say them. `received_at` is wall clock (seconds since 1970), `monotonic` the monotonic clock at the arrival of the final dot, comparable within one boot of one machine.
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
    recipient_options: tuple[tuple[str, ...], ...] = ()


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
    directory are flushed before `add` returns. *keep* is how many receipts there may be: with one too many the
    oldest goes, also when the directory is opened; None keeps all.
    """

    def __init__(self, path: Path, *, fsync: bool = False, keep: int | None = None) -> None:
        super().__init__()
        if keep is not None and keep < 1:
            raise ValueError(f"keep: expected at least 1, got {keep}")
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._fsync = fsync
        self._limit = keep
        numbers = {
            found.suffix: sorted(
                int(found.stem) for found in path.glob(f"*{found.suffix}") if found.stem.isdigit()
            )
            for found in (Path("x.json"), Path("x.eml"))
        }
        self._numbers = numbers[".json"]
        self._last = max(numbers[".json"] + numbers[".eml"], default=0)
        self._forget_oldest()

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Receipt]:
        return map(self._load, tuple(self._numbers))

    @property
    def directory(self) -> Path:
        return self._path

    @property
    def first(self) -> int:
        """The lowest number there is; above `last` when there is none. It only grows: the oldest go first."""
        with self._changed:
            return self._numbers[0] if self._numbers else self._last + 1

    @property
    def last(self) -> int:
        """The highest number that was ever given out here, 0 before the first."""
        return self._last

    def numbers(self, after: int = 0, before: int | None = None) -> list[int]:
        """The numbers of the receipts between *after* and *before*, both excluded, in order; nothing is read."""
        with self._changed:
            first = bisect_right(self._numbers, after)
            end = len(self._numbers) if before is None else bisect_left(self._numbers, before)
            return self._numbers[first:end]

    def wait_for_change(self, first: int, last: int, deadline_s: float) -> None:
        """Wait until `first` or `last` is another than this, at most *deadline_s* seconds."""
        with self._changed:
            self._changed.wait_for(lambda: (self.first, self._last) != (first, last), deadline_s)

    def envelope(self, number: int) -> Receipt:
        """The receipt *number* with an empty `message`, which `path_of` leads to. Raises KeyError if it is gone."""
        try:
            return self._load(number, with_message=False)
        except FileNotFoundError:
            raise KeyError(number) from None

    def path_of(self, number: int) -> Path:
        """The file of the message *number*, whether or not it is there; it never changes while it is."""
        return self._file(number, "eml")

    def clear(self) -> int:
        """Remove all receipts there are now; how many. Their numbers are not used again by this store object."""
        with self._changed:
            gone, self._numbers = self._numbers, []
            self._changed.notify_all()
        for number in gone:
            self._remove(number)
        return len(gone)

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
        self._forget_oldest()
        return kept

    def _forget_oldest(self) -> None:
        if self._limit is not None and len(self._numbers) > self._limit:
            surplus = len(self._numbers) - self._limit
            gone = self._numbers[:surplus]
            del self._numbers[:surplus]
            for number in gone:
                self._remove(number)

    def _remove(self, number: int) -> None:
        # The JSON first: a receipt without it does not exist, whatever happens in between. A file that cannot be
        # removed is no reason to refuse the mail that comes in.
        for suffix in ("json", "eml"):
            with contextlib.suppress(OSError):
                self._file(number, suffix).unlink(missing_ok=True)

    def _load(self, number: int, *, with_message: bool = True) -> Receipt:
        about: dict[str, Any] = json.loads(self._file(number, "json").read_bytes())
        host, port = about.pop("peer")
        return Receipt(
            peer=(host, port),
            recipients=tuple(about.pop("recipients")),
            mail_options=tuple(about.pop("mail_options")),
            # Older ones have none.
            recipient_options=tuple(map(tuple, about.pop("recipient_options", ()))),
            message=self._file(number, "eml").read_bytes() if with_message else b"",
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
