"""A server that measures: what limits were used at it, in its own time, by whom, and over how many connections at once.

It is a process of its own (`gauge_server`), so that a test that asks the database does not stand in its way. Times are
seconds of the machine's monotonic clock, as `time.monotonic` tells it in every process.
"""

import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from mailfleet_workers.limits.rule import Rate
from tests.stage.sliding import Use, use_of

ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Taken:
    """One mail at the server; None is what has not come, or did not come before its connection closed."""

    connection: int
    mail_at: float
    recipients: int = 0
    dot_at: float | None = None
    answered_at: float | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Seat:
    """One connection; `closed_at` None while it is open."""

    number: int
    port: int
    opened_at: float
    closed_at: float | None = None


@dataclass
class Seen:
    """Everything that the server has seen so far."""

    mails: list[Taken] = field(default_factory=list)
    seats: dict[int, Seat] = field(default_factory=dict)
    #: The most connections that were open at once, and how many are now.
    peak: int = 0
    open: int = 0

    def note(self, kind: str, at: float, number: int, text: str, at_work: dict[int, Taken]) -> None:
        """One line of the server's; *at_work* has the mail of each connection that is under way."""
        match kind:
            case "O":
                self.seats[number] = Seat(number, int(text), at)
                self.open += 1
                self.peak = max(self.peak, self.open)
            case "C":
                seat = self.seats[number]
                self.seats[number] = Seat(number, seat.port, seat.opened_at, at)
                self.open -= 1
            case "M":
                at_work[number] = Taken(number, at)
                self.mails.append(at_work[number])
            case "T":
                at_work[number].recipients += 1
            case "D":
                at_work[number].dot_at, at_work[number].subject = at, text
            case "R":
                at_work[number].answered_at = at

    @property
    def answered(self) -> list[Taken]:
        """Mails whose final dot was answered, in the order of their MAIL."""
        return [mail for mail in self.mails if mail.answered_at is not None]

    def since(self, at: float) -> "Seen":
        """The mails whose MAIL came later; connections are as they are."""
        return Seen([mail for mail in self.mails if mail.mail_at > at], self.seats, self.peak, self.open)

    def ends(self, *, recipients: bool = False) -> tuple[list[float], list[float]]:
        """When each mail came: its MAIL, and its final dot where it had one; once for each recipient if asked to."""
        each = [(mail, mail.recipients if recipients else 1) for mail in self.mails]
        first = [mail.mail_at for mail, times in each for _ in range(times)]
        last = [mail.dot_at for mail, times in each if mail.dot_at is not None for _ in range(times)]
        return first, last

    def uses(
        self, rates: Sequence[Rate], *, recipients: bool = False, within: tuple[float, float] | None = None
    ) -> list[Use]:
        """What was used of each of *rates*: the worst window at either end, the mean one at the final dots.

        With *within* the mean is of that time; the worst window is of all there was.
        """
        first, last = self.ends(recipients=recipients)
        begin, end = within or (-math.inf, math.inf)
        looked_at = [at for at in last if begin <= at <= end]
        return [
            Use(
                rate,
                max(use_of(rate, first).worst, use_of(rate, last).worst),
                use_of(rate, looked_at).utilisation,
            )
            for rate in rates
        ]

    def counts(self, key: Callable[[str], str]) -> dict[str, int]:
        """How many mails were answered for each *key* of a subject."""
        found: dict[str, int] = {}
        for mail in self.answered:
            name = key(mail.subject or "")
            found[name] = found.get(name, 0) + 1
        return found


class Gauge:
    """The server; use it as a context manager. Its figures are in *directory*, in a file of its own."""

    def __init__(self, directory: Path, *, delay_s: float = 0.0, name: str = "gauge") -> None:
        self._file = directory / f"{name}.txt"
        self._delay_s = delay_s
        self._process: subprocess.Popen[str] | None = None
        self._read = 0
        self._rest = ""
        self._seen = Seen()
        self._at_work: dict[int, Taken] = {}
        self.port = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.stage.gauge_server", str(self._file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.answer_after(self._delay_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()

    def answer_after(self, delay_s: float) -> None:
        """From now on the answer to a final dot leaves so much later; what waits for its answer waits as before."""
        self._order(f"delay {delay_s}")

    def seen(self) -> Seen:
        """Everything up to now; one object, which grows with each call."""
        self._order("flush")
        with self._file.open() as file:
            file.seek(self._read)
            text = self._rest + file.read()
            self._read = file.tell()
        *lines, self._rest = text.split("\n")
        for line in lines:
            kind, at, number, more = line.split(" ", 3)
            self._seen.note(kind, int(at) / 1e9, int(number), more, self._at_work)
        return self._seen

    def _order(self, line: str) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ok\n", "the measuring server has ended"
