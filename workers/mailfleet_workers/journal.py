"""What a process was about to say, and what was answered: a local file that outlives it.

Lines, each one `write` without `fsync` (a killed process loses none of them, a lost host may):

    J worker boot         the file's first line: whose it is, and in which boot of the machine it was written
    B id fence            a thread has begun the row
    D id fence            the final dot is next
    A id fence {result}   the server's answer, and the settlement that follows from it

Whoever recovers a dead process reads them: A is settled as answered, D without A is a doubt, B without D was
interrupted, and a row of which nothing stands here was never begun. So a killed process leaves only the mails
that were truly in the air. What does *not* stand in a journal proves something only if nothing of it can be missing:
when it was written in this very boot. Else (the machine went down, the directory is gone) every recorded row is in doubt.
"""

import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

#: A file of this size is followed by a new one and removed when all of its rows are settled.
ROTATE_BYTES = 4 * 1024 * 1024

Step = Literal["begun", "dot", "answered"]


@dataclass(frozen=True, slots=True)
class Entry:
    """The last thing the journal says of a claim; `result` is there when `step` is answered."""

    mail_id: int
    fence: int
    step: Step
    result: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What a dead worker's journal says: `entries` by claim (id, fence); `complete` False if something may be missing."""

    entries: Mapping[tuple[int, int], Entry]
    complete: bool


class Journal:
    """The journal of worker *worker_id* in *directory*; thread-safe.

    Raises OSError at once when the directory cannot be written: a worker without a journal must not start.
    """

    def __init__(
        self,
        directory: Path,
        worker_id: int,
        *,
        rotate_bytes: int = ROTATE_BYTES,
        clock: Callable[[], float] = time.monotonic,
        boot: str | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._worker_id = worker_id
        self._rotate_bytes = rotate_bytes
        self._clock = clock
        self._boot = boot_id() if boot is None else boot
        self._lock = threading.Lock()
        self._generation = 0
        self._oldest = 0
        self._open: dict[tuple[int, int], tuple[int, float]] = {}
        self._dots: set[tuple[int, int]] = set()
        self._size = 0
        self._torn = False
        # A worker's id is new; what lies here under it is from a database that is gone.
        remove(directory, worker_id)
        self._file: int | None = self._create(0)

    def _path(self, generation: int) -> Path:
        return self._directory / f"{self._worker_id}.{generation}.journal"

    def _create(self, generation: int) -> int:
        file = os.open(self._path(generation), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        header = f"J {self._worker_id} {self._boot}\n".encode()
        try:
            if os.write(file, header) != len(header):
                raise OSError(errno.ENOSPC, "the journal's first line was not written whole")
        except OSError:
            os.close(file)
            self._path(generation).unlink(missing_ok=True)
            raise
        return file

    def begin(self, mail_id: int, fence: int) -> None:
        """A thread is at work on the row from now on."""
        with self._lock:
            self._rotate()
            self._open[mail_id, fence] = (self._generation, self._clock())
            self._write(f"B {mail_id} {fence}\n")

    def dot(self, mail_id: int, fence: int) -> None:
        """The final dot is the next thing that is said."""
        with self._lock:
            self._dots.add((mail_id, fence))
            self._write(f"D {mail_id} {fence}\n")

    def answer(self, mail_id: int, fence: int, result: Mapping[str, Any]) -> None:
        """What followed from the server's answer; *result* is JSON of one line."""
        text = json.dumps(result, ensure_ascii=True, separators=(",", ":"))
        with self._lock:
            self._write(f"A {mail_id} {fence} {text}\n")

    def begun_for_s(self, mail_id: int, fence: int) -> float | None:
        """For how many seconds a thread has been at work on a claim; None when none is, or it is settled."""
        with self._lock:
            found = self._open.get((mail_id, fence))
            return None if found is None else self._clock() - found[1]

    def open_claims(self) -> list[tuple[int, int]]:
        """The claims (id, fence) that are not settled, as far as the journal knows."""
        with self._lock:
            return list(self._open)

    def dotted(self, mail_id: int, fence: int) -> bool:
        """Whether this process may have said the final dot of a claim that is not settled yet."""
        with self._lock:
            return (mail_id, fence) in self._dots

    def settled(self, claims: Sequence[tuple[int, int]]) -> None:
        """The database knows the ends of *claims* (id, fence): the journal need not."""
        with self._lock:
            for claim in claims:
                self._open.pop(claim, None)
                self._dots.discard(claim)
            if self._oldest < self._generation:
                self._drop_older()

    def close(self) -> None:
        """Close; a journal whose rows are all settled is removed. What is written afterwards raises OSError."""
        with self._lock:
            if self._file is None:
                return
            os.close(self._file)
            self._file = None
            if not self._open:
                remove(self._directory, self._worker_id)

    def _write(self, line: str) -> None:
        if self._file is None:
            raise OSError(errno.EBADF, "the journal is closed")
        # After a write that broke off, the next line begins a new one.
        data = (f"\n{line}" if self._torn else line).encode()
        self._torn = True
        written = os.write(self._file, data)
        self._size += written
        if written != len(data):
            raise OSError(errno.ENOSPC, f"{written} of {len(data)} bytes written")
        self._torn = False

    def _rotate(self) -> None:
        if self._size < self._rotate_bytes or self._file is None:
            return
        file = self._create(self._generation + 1)
        os.close(self._file)
        self._file = file
        self._generation += 1
        self._size = 0
        self._torn = False

    def _drop_older(self) -> None:
        needed = min((generation for generation, _ in self._open.values()), default=self._generation)
        while self._oldest < needed:
            self._path(self._oldest).unlink(missing_ok=True)
            self._oldest += 1


def files_of(directory: Path, worker_id: int) -> list[Path]:
    """The journal files of *worker_id* in *directory*, oldest first."""
    found = directory.glob(f"{worker_id}.*.journal")
    return sorted(found, key=lambda path: int(path.name.split(".")[1]))


def workers_in(directory: Path) -> set[int]:
    """The ids of all workers that left a journal in *directory*."""
    with contextlib.suppress(FileNotFoundError):
        return {int(path.name.split(".")[0]) for path in directory.glob("*.journal")}
    return set()


def read(directory: Path, worker_id: int, *, boot: str | None = None) -> Record:
    """What the journal of a dead worker says last of each claim (id, fence).

    A line that broke off is left out: its step had not happened, or (an answer) the mail is in doubt for want of it.
    It is complete when every file of it was begun in this *boot* (None: the machine's).
    """
    this_boot = boot_id() if boot is None else boot
    header = f"J {worker_id} {this_boot}".encode()
    files = [path.read_bytes().split(b"\n") for path in files_of(directory, worker_id)]
    entries: dict[tuple[int, int], Entry] = {}
    for lines in files:
        for line in lines:
            entry = _entry(line)
            if entry is not None:
                entries[entry.mail_id, entry.fence] = entry
    complete = bool(files) and this_boot != UNKNOWN_BOOT and all(lines[0] == header for lines in files)
    return Record(entries, complete)


#: Where a machine does not say which boot it is in: no journal of it is taken for complete.
UNKNOWN_BOOT = "unknown"


def boot_id() -> str:
    """This boot of this machine; Linux makes a random one each time."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return UNKNOWN_BOOT


_STEPS: dict[bytes, Step] = {b"B": "begun", b"D": "dot", b"A": "answered"}


def _entry(line: bytes) -> Entry | None:
    letter, _, rest = line.partition(b" ")
    step = _STEPS.get(letter)
    try:
        mail_id, fence, *result = rest.split(b" ", 2)
        if step is None or (step == "answered") != bool(result):
            return None
        return Entry(int(mail_id), int(fence), step, json.loads(result[0]) if result else None)
    except ValueError:
        return None


def remove(directory: Path, worker_id: int) -> None:
    """Forget a worker's journal after its rows were recovered."""
    for path in files_of(directory, worker_id):
        path.unlink(missing_ok=True)
