"""What commands show: tables that fit 80 columns, or one JSON document. Colour only where a terminal wants it."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mailfleet_workers.cli.visible import visible

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


def cell(value: object, style: str = "") -> Text:
    """*value* as foreign text for a table; None is a dash."""
    return Text("-" if value is None else visible(str(value)), style=style)


def state(name: str) -> Text:
    """The name of a mail's state, in its colour."""
    return Text(name, style=STYLES.get(name, ""))


def columns(*headings: str, title: str | None = None) -> Table:
    """A table without lines but one below the headings; each cell is one line, cut with … where it is too long."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="dim",
        padding=(0, 2, 0, 0),
    )
    for heading in headings:
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    return table


def pairs(rows: Sequence[tuple[str, object]]) -> Table:
    """Names and values; long values go on below their beginning. Values None are left out."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value is not None:
            table.add_row(name, value if isinstance(value, Text) else cell(value))
    return table


def heading(text: str) -> Padding:
    """The title of a section, with a blank line before it."""
    return Padding(Text(text, style="bold"), (1, 0, 0, 0))
