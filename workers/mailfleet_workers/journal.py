"""What a process was about to say, and what was answered: a local file that outlives it.

Lines, each one `write` without `fsync` (a killed process loses none of them, a lost host may):

    J worker boot instance   the file's first line: whose it is, the machine's boot, and which database it is about
    B id fence               a thread is at work on the row: it builds the message, or speaks of it to a server
    R id fence               the message is built and waits for its turn
    D id fence               the final dot is next
    A id fence {result}      the server's answer, and the settlement that follows from it

Whoever recovers a dead process reads the last of them: A is settled as answered, D is a doubt, B was interrupted, and R or
nothing at all was never begun. So a killed process leaves only the mails
that were truly in the air. What does *not* stand in a journal proves something only if nothing of it can be missing:
when it was written in this very boot. Else (the machine went down, the directory is gone) every recorded row is in doubt.

A file is foreign when its first line does not name this worker and this database. Ids and fences begin anew in every
database: "A 17 1, sent" of one that was dropped would make an end of mail 17 of the next one, which nobody has sent. So
nothing of a foreign file is believed. It is put aside, not deleted: the database that it is about may still be there.
"""

import contextlib
import errno
import fcntl
import itertools
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailfleet_workers.journal_entry import Entry

log = logging.getLogger(__name__)

#: A file of this size is followed by a new one and removed when all of its rows are settled.
ROTATE_BYTES = 4 * 1024 * 1024

#: Worker and generation. Whatever else lies in the directory (a copy that somebody made) is left alone.
_NAME = re.compile(r"([0-9]+)\.([0-9]+)\.journal")


@dataclass(frozen=True, slots=True)
class Record:
    """What a dead worker's journal says: `entries` by claim (id, fence); `complete` False if something may be missing.

    `ours`: some file is this worker's, in this database; `foreign`: some file is not, and `entries` has nothing of it.
    Both are False when there is no file, and both True when a damaged disk took the first line of one of several.
    """

    entries: Mapping[tuple[int, int], Entry]
    complete: bool
    ours: bool
    foreign: bool


class Journal:
    """The journal of worker *worker_id* in *directory*, about the database *instance*; thread-safe.

    Raises OSError at once when the directory cannot be written: a worker without a journal must not start. Also
    (BlockingIOError) while another process has a journal here under the same id: that of a worker in another database.
    """

    def __init__(
        self,
        directory: Path,
        worker_id: int,
        *,
        instance: str,
        rotate_bytes: int = ROTATE_BYTES,
        clock: Callable[[], float] = time.monotonic,
        boot: str | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._worker_id = worker_id
        self._rotate_bytes = rotate_bytes
        self._clock = clock
        self._header = _header(worker_id, boot_id() if boot is None else boot, instance)
        self._lock = threading.Lock()
        self._generation = 0
        self._oldest = 0
        self._open: dict[tuple[int, int], tuple[int, float]] = {}
        self._dots: set[tuple[int, int]] = set()
        self._size = 0
        self._torn = False
        # Ends with the process, however that ends: who can take it knows that the worker is dead.
        self._alive = _lock(directory, worker_id)
        try:
            # A worker's id is new; what lies here under it is about another database, or about a later state of this
            # one than that of the backup from which it was restored.
            _put_aside(worker_id, files_of(directory, worker_id))
            self._file: int | None = self._create(0)
        except OSError:
            os.close(self._alive)
            _lock_path(directory, worker_id).unlink(missing_ok=True)
            raise

    def _path(self, generation: int) -> Path:
        return self._directory / f"{self._worker_id}.{generation}.journal"

    def _create(self, generation: int) -> int:
        file = os.open(self._path(generation), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        header = self._header + b"\n"
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

    def building(self, claims: Sequence[tuple[int, int]]) -> None:
        """A thread builds the messages of *claims* (id, fence) from now on, until `built`."""
        with self._lock:
            self._rotate()
            self._open |= dict.fromkeys(claims, (self._generation, self._clock()))
            self._write("".join(f"B {mail_id} {fence}\n" for mail_id, fence in claims))

    def built(self, claims: Sequence[tuple[int, int]]) -> None:
        """No thread is at work on *claims* any more, until `begin`."""
        with self._lock:
            for claim in claims:
                self._open.pop(claim, None)
            self._write("".join(f"R {mail_id} {fence}\n" for mail_id, fence in claims))

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

    def said(self, claims: Collection[tuple[int, int]]) -> dict[tuple[int, int], Entry]:
        """The last thing that its files say of each of *claims* (id, fence), settled or not; nothing of some.

        For a database that has forgotten an end which it had committed: after a failover, say. What is settled stays
        in the files until they are rotated.
        """
        wanted = {b" %d %d" % claim: claim for claim in claims}
        found: dict[tuple[int, int], Entry] = {}
        if not wanted:
            return found
        with self._lock, contextlib.ExitStack() as stack:
            # Opened, none of them goes away; what is written meanwhile is not of these claims.
            paths = files_of(self._directory, self._worker_id)
            files = [stack.enter_context(path.open("rb")) for path in paths]
            reading = stack.pop_all()
        with reading:
            for line in (line.rstrip(b"\n") for file in files for line in file):
                # Parsed only if it is asked for: an answer is JSON, and there may be thousands.
                claim = wanted.get(b" ".join(line.split(b" ", 3)[:3])[1:])
                if claim is not None and (entry := Entry.of_line(line)) is not None:
                    found[claim] = entry
        return found

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
                for path in files_of(self._directory, self._worker_id):
                    path.unlink(missing_ok=True)
                _lock_path(self._directory, self._worker_id).unlink(missing_ok=True)
            os.close(self._alive)

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
    named = {path: _NAME.fullmatch(path.name) for path in directory.glob(f"{worker_id}.*.journal")}
    generations = {path: int(name[2]) for path, name in named.items() if name}
    return sorted(generations, key=lambda path: generations[path])


def _lock_path(directory: Path, worker_id: int) -> Path:
    return directory / f"{worker_id}.lock"


def _lock(directory: Path, worker_id: int) -> int:
    """The open lock of a worker's journal; raises BlockingIOError while somebody has it."""
    path = _lock_path(directory, worker_id)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            error.filename = str(path)
            raise
        # Who had it removes it at its end: a lock on a file that is not there any more would keep nobody off.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        os.close(file)


@contextlib.contextmanager
def dead(directory: Path, worker_id: int) -> Iterator[bool]:
    """Whether the process that wrote this journal has ended; for the length of the block nobody else finds it so.

    False also while another process recovers it.
    """
    if not directory.is_dir():
        yield True  # its journal went with the directory
        return
    try:
        lock = _lock(directory, worker_id)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        if not files_of(directory, worker_id):
            _lock_path(directory, worker_id).unlink(missing_ok=True)
        os.close(lock)


def workers_in(directory: Path) -> set[int]:
    """The ids of all workers that left a journal in *directory*."""
    with contextlib.suppress(FileNotFoundError):
        return {int(found[1]) for path in directory.iterdir() if (found := _NAME.fullmatch(path.name))}
    return set()


def read(directory: Path, worker_id: int, *, instance: str, boot: str | None = None) -> Record:
    """What the journal of a dead worker of the database *instance* says last of each claim (id, fence).

    A line that broke off is left out: its step had not happened, or (an answer) the mail is in doubt for want of it.
    It is complete when every file of it was begun in this *boot* (None: the machine's), and none is foreign.
    """
    this_boot = boot_id() if boot is None else boot
    header = _header(worker_id, this_boot, instance)
    files = [path.read_bytes().split(b"\n") for path in files_of(directory, worker_id)]
    ours = [lines for lines in files if _is_ours(lines[0], worker_id, instance)]
    entries: dict[tuple[int, int], Entry] = {}
    for lines in ours:
        for line in lines:
            entry = Entry.of_line(line)
            if entry is not None:
                entries[entry.mail_id, entry.fence] = entry
    complete = bool(files) and this_boot != UNKNOWN_BOOT and all(lines[0] == header for lines in files)
    return Record(entries, complete, ours=bool(ours), foreign=len(ours) < len(files))


def _header(worker_id: int, boot: str, instance: str) -> bytes:
    return f"J {worker_id} {boot} {instance}".encode()


def _is_ours(first_line: bytes, worker_id: int, instance: str) -> bool:
    """Whether a file that begins so is of this worker and this database, in whichever boot."""
    match first_line.split(b" ", 3):
        case [b"J", worker, _, of]:
            return worker == str(worker_id).encode() and of == instance.encode()
        case _:
            return False


#: Where a machine does not say which boot it is in: no journal of it is taken for complete.
UNKNOWN_BOOT = "unknown"


def boot_id() -> str:
    """This boot of this machine; Linux makes a random one each time."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return UNKNOWN_BOOT


def remove(directory: Path, worker_id: int, *, instance: str) -> None:
    """Forget the journal of a worker of *instance* after its rows were recovered; foreign files are put aside.

    Those are renamed, to `*.foreign`, which nobody reads again; to delete them is an operator's decision.
    """
    aside = []
    for path in files_of(directory, worker_id):
        with contextlib.suppress(FileNotFoundError):
            with path.open("rb") as file:
                first_line = file.readline().rstrip(b"\n")
            if _is_ours(first_line, worker_id, instance):
                path.unlink()
            else:
                aside.append(path)
    _put_aside(worker_id, aside)


def _put_aside(worker_id: int, paths: Sequence[Path]) -> None:
    renamed = []
    for path in paths:
        target = next(name for name in _aside(path) if not name.exists())
        with contextlib.suppress(FileNotFoundError):
            renamed.append(path.rename(target).name)
    if renamed:
        log.warning("journal_foreign", extra={"worker_id": worker_id, "files": renamed})


def _aside(path: Path) -> Iterator[Path]:
    """Names for *path*, none of which is a journal's: the same id may be put aside once for every database."""
    yield path.with_name(f"{path.name}.foreign")
    for number in itertools.count(2):
        yield path.with_name(f"{path.name}.{number}.foreign")
