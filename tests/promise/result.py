"""What became of the mail of one cell, and the file in which results wait for the page: `build/kill-table.json`."""

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from mailfleet_schema.states import OnDoubt
from tests.checker import Findings
from tests.promise.cell import Cell, Harm, Way

FILE = Path(__file__).parents[2] / "build" / "kill-table.json"


@dataclass(frozen=True, slots=True)
class Result:
    """*threads* were at the instant. `duplicates` are copies beyond the first; `held_delivered` of `held` had arrived."""

    cell: Cell
    threads: int
    mails: int
    sent: int
    held: int
    held_delivered: int
    lost: int
    duplicates: int
    doubts: int
    doubts_listed: int

    @classmethod
    def of(cls, cell: Cell, threads: int, findings: Findings, delivered: Collection[str]) -> Self:
        """From the checker's *findings* about that cell's mail; *delivered* are held mails that the server has."""
        return cls(
            cell=cell,
            threads=threads,
            mails=findings.mails,
            sent=findings.sent,
            held=findings.held,
            held_delivered=len(delivered),
            lost=findings.lost,
            duplicates=sum(findings.duplicates.values()),
            doubts=findings.doubts,
            doubts_listed=findings.doubts_listed,
        )

    @property
    def line(self) -> str:
        """For a person."""
        return (
            f"{self.cell.name}: {self.threads} threads, {self.mails} mails: lost {self.lost}, doubled {self.duplicates},"
            f" held {self.held} (delivered {self.held_delivered}), doubts {self.doubts} (listed {self.doubts_listed})"
        )

    def keeps_promise(self) -> None:
        """AssertionError where it is worse than the table may be, or where the strike did not strike."""
        said = self.line
        assert self.threads == self.cell.threads, said
        assert self.lost == 0, said
        assert self.sent + self.held == self.mails, said
        assert self.doubts_listed == self.doubts, said
        for found, most in (
            (self.duplicates, self.cell.most_doubled(self.threads)),
            (self.held, self.cell.most_held(self.threads)),
        ):
            assert min(most, 1) <= found <= most, said


def keep(results: Collection[Result]) -> None:
    """Print *results*, hold them against the promise, and save them; AssertionError where one breaks it, and none is saved."""
    for result in results:
        print(result.line)
    for result in results:
        result.keeps_promise()
    save(results)


def save(results: Iterable[Result], file: Path = FILE) -> None:
    """Put *results* into *file*, each in place of an earlier one of the same cell."""
    known = {one.cell: one for one in load(file)} | {one.cell: one for one in results}
    _write(known.values(), file)


def drop(cells: Iterable[Cell], file: Path = FILE) -> None:
    """Forget what *file* has of *cells*: a round begins with it, so that one that fails leaves nothing of an earlier."""
    gone = set(cells)
    _write([one for one in load(file) if one.cell not in gone], file)


def load(file: Path = FILE) -> list[Result]:
    """What *file* has; nothing where there is none."""
    return [_result(one) for one in json.loads(file.read_text())] if file.exists() else []


def _write(results: Iterable[Result], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(_flat(one)) for one in sorted(results, key=lambda one: one.cell.name)]
    file.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def _flat(result: Result) -> dict[str, Any]:
    cell = result.cell
    figures = {key: value for key, value in asdict(result).items() if key != "cell"}
    return {
        "harm": cell.harm.value,
        "point": cell.point,
        "on_doubt": cell.way.on_doubt.value,
        "chunk": cell.way.chunk,
        **figures,
    }


def _result(found: dict[str, Any]) -> Result:
    way = Way(OnDoubt(found.pop("on_doubt")), found.pop("chunk"))
    return Result(cell=Cell(Harm(found.pop("harm")), found.pop("point"), way), **found)
