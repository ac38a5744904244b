"""Text with placeholders, as `string.Template` has them: `${column}`, `$column`, and `$$` for a dollar sign."""

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mailfleet_workers.cli.failure import Failure


class _Template(string.Template):
    # A column of a table may be called "first name" or "prénom".
    braceidpattern = r"[^{}\n]+"


@dataclass(frozen=True, slots=True)
class Filled:
    """*text* that stood in *source* (a file's name) from *line* on. Raises Failure for a dollar sign that is no placeholder."""

    text: str
    source: str
    line: int
    _template: _Template = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_template", _Template(self.text))
        for found in _Template.pattern.finditer(self.text):
            if found["invalid"] is not None:
                raise Failure(
                    f"{self.source} line {self._line_of(found.start())}: a $ that begins no ${{column}};"
                    " write $$ for a dollar sign"
                )

    def columns(self) -> Iterator[tuple[str, int]]:
        """Every column that is named, with its line."""
        for found in _Template.pattern.finditer(self.text):
            name = found["named"] or found["braced"]
            if name is not None:
                yield name, self._line_of(found.start())

    @property
    def plain(self) -> bool:
        """Whether no column is named."""
        return next(self.columns(), None) is None

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with the columns' *values* in their places; every column that is named must be there."""
        return self._template.substitute(values)

    def _line_of(self, position: int) -> int:
        return self.line + self.text.count("\n", 0, position)
