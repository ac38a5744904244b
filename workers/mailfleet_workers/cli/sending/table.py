"""A table of recipients: a CSV file whose first row names the columns."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.cli.sending.files import read_text

#: A cell may hold a whole letter.
_CELL = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    """One row; `number` counts as a spreadsheet does: the names of the columns are row 1."""

    number: int
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a CSV text, each checked to have a value for each column, none more."""

    source: str
    columns: tuple[str, ...]
    content: str
    delimiter: str

    def rows(self) -> Iterator[Row]:
        """Every row that is not empty. Raises Failure for a row with too few or too many cells, naming the column."""
        for number, cells in _records(self.content, self.delimiter, self.source):
            if number == 1 or not any(cells):
                continue
            if len(cells) < len(self.columns):
                raise Failure(f"{self.source} row {number}: no value for column {self.columns[len(cells)]!r}")
            if len(cells) > len(self.columns):
                raise Failure(
                    f"{self.source} row {number}: {len(cells)} cells for {len(self.columns)} columns"
                    " (quote a cell that has the separator in it)"
                )
            yield Row(number, dict(zip(self.columns, cells, strict=True)))


def read_table(path: Path, stdin: TextIO) -> Table:
    """The table in the file *path*, in *stdin* if it is `-`. Raises Failure.

    UTF-8; columns are parted by comma, semicolon or tab, whichever the first row has most of.
    """
    if str(path) == "-":
        return parse_table(stdin.read().removeprefix("\ufeff"), "standard input")
    return parse_table(read_text(path, "--csv"), path.name)


def parse_table(content: str, source: str) -> Table:
    """The table in *content*. Raises Failure for a first row that does not name each column once."""
    first_line = content.partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    _, header = next(_records(content, delimiter, source), (1, []))
    columns = tuple(name.strip() for name in header)
    if not any(columns):
        raise Failure(f"{source}: it is empty; its first row names the columns")
    for position, name in enumerate(columns, start=1):
        if not name:
            raise Failure(f"{source} row 1: column {position} has no name")
        if name in columns[: position - 1]:
            raise Failure(f"{source} row 1: there are two columns named {name!r}")
    return Table(source, columns, content, delimiter)


def _records(content: str, delimiter: str, source: str) -> Iterator[tuple[int, Sequence[str]]]:
    csv.field_size_limit(_CELL)
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    try:
        yield from enumerate(reader, start=1)
    except csv.Error as error:
        raise Failure(f"{source} line {reader.line_num}: {error}") from error
