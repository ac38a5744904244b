"""What commands show: tables that fit 80 columns, or one JSON document. Colour only where a terminal wants it."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mailfleet_workers.cli.grid import Grid, cell

__all__ = ["Grid", "cell", "count", "errors", "folded", "heading", "output", "pairs", "print_json", "state"]

#: Where there is no terminal: wide enough that little is cut, narrow enough for a log.
_PIPE_WIDTH = 120

STYLES = {
    "sent": "green",
    "queued": "cyan",
    "sending": "blue",
    "doubt": "yellow",
    "held": "yellow",
    "failed": "red",
    "expired": "red",
    "cancelled": "dim",
    "draft": "dim",
}


def output() -> Console:
    """The console on standard output. NO_COLOR, TERM and COLUMNS count, as everywhere with Rich."""
    return _console(sys.stdout)


def errors() -> Console:
    """The console on standard error, for progress and remarks."""
    return _console(sys.stderr)


def _console(stream: Any) -> Console:
    tty = bool(getattr(stream, "isatty", lambda: False)())
    width = None if tty or os.environ.get("COLUMNS") else _PIPE_WIDTH
    # Foreign text is never markup.
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def print_json(document: Any) -> None:
    """*document* on standard output, and nothing else."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "")
    text = json.dumps(document, ensure_ascii=encoding != "utf8", indent=2)
    # A lone surrogate has no UTF-8; JSON has a way to write it.
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")


def state(name: str) -> Text:
    """The name of a mail's state, in its colour."""
    return Text(name, style=STYLES.get(name, ""))


def pairs(rows: Sequence[tuple[str, object]]) -> Table:
    """Names and values; long values go on below their beginning. Values None are left out."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value is not None:
            table.add_row(name, value if isinstance(value, Text) else cell(str(value)))
    return table


def folded(headings: Sequence[str], rows: Sequence[Sequence[Text]]) -> Table:
    """A table that cuts nothing: long values go on below their beginning."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for position, name in enumerate(headings):
        table.add_column(name, no_wrap=position == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def heading(text: str) -> Text:
    """The title of a section, with a blank line before it."""
    return Text.assemble("\n", (text, "bold"))


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 try`, `2 tries`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
