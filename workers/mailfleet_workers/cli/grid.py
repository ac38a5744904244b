"""Tables of one line per row that fit the screen: fixed columns are never cut, flexible ones share what is left.

Lines end where their text ends, so that a terminal which draws a script wider than expected does not wrap them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from mailfleet_workers.cli.visible import visible

_GAP = 2
#: A flexible column is not made narrower than this, even if lines become too long then.
_NARROWEST = 8

Cell = Text | str | int | None


@dataclass(frozen=True, slots=True)
class Grid:
    """*rows* under *headings*. *flexible* are the positions of columns that may be cut, *right* those set to the right."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    flexible: Collection[int] = ()
    right: Collection[int] = ()

    def print(self, console: Console) -> None:
        table = [[cell(value) for value in row] for row in self.rows]
        head = [Text(heading, style="dim") for heading in self.headings]
        widths = self._widths([head, *table], console.width - 1)
        for row in [head, *table]:
            console.print(self._line(row, widths), no_wrap=True, overflow="ignore", crop=False)

    def _widths(self, table: Sequence[Sequence[Text]], room: int) -> list[int]:
        widths = [max(cell_len(row[n].plain) for row in table) for n in range(len(self.headings))]
        flexible = sorted(self.flexible, key=lambda n: widths[n])
        room -= _GAP * (len(widths) - 1) + sum(w for n, w in enumerate(widths) if n not in self.flexible)
        for position, n in enumerate(flexible):
            # The narrow ones take what they need, the wide ones share what that leaves.
            share = max(_NARROWEST, room // (len(flexible) - position))
            widths[n] = min(widths[n], share)
            room -= widths[n]
        return widths

    def _line(self, row: Sequence[Text], widths: Sequence[int]) -> Text:
        line = Text()
        for n, (value, width) in enumerate(zip(row, widths, strict=True)):
            shown = value.copy()
            if cell_len(shown.plain) > width:
                shown.truncate(width, overflow="ellipsis")
            space = " " * (width - cell_len(shown.plain))
            line.append_text(Text(space) + shown if n in self.right else shown + Text(space))
            if n + 1 < len(widths):
                line.append(" " * _GAP)
        line.rstrip()
        return line


def cell(value: Cell, style: str = "") -> Text:
    """*value* as foreign text; None is a dash. A Text is ours already."""
    if isinstance(value, Text):
        return value
    return Text("-" if value is None else visible(str(value)), style=style)
