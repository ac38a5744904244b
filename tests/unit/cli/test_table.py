"""Tables of recipients: separators, quotes, and rows that do not fit."""

import io
from pathlib import Path

import pytest

from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.cli.sending.table import parse_table, read_table


@pytest.mark.parametrize(
    "content",
    [
        'name,email\n"Lovelace, Ada",ada@example.net\n',
        'name;email\n"Lovelace, Ada";ada@example.net\n',
        'name\temail\n"Lovelace, Ada"\tada@example.net',
        '\ufeffname,email\r\n"Lovelace, Ada",ada@example.net\r\n\r\n',
        ' name , email \n"Lovelace, Ada",ada@example.net\n,\n',
    ],
)
def test_separators_marks_and_empty_rows(tmp_path: Path, content: str) -> None:
    """Comma, semicolon and tab are found out; byte order mark, line ends and empty rows do not count."""
    path = tmp_path / "people.csv"
    path.write_text(content, encoding="utf-8", newline="")
    rows = list(read_table(path, io.StringIO()).rows())

    assert [(row.number, dict(row.values)) for row in rows] == [
        (2, {"name": "Lovelace, Ada", "email": "ada@example.net"})
    ]


def test_rows_count_as_in_a_spreadsheet() -> None:
    """A cell with line ends is one row; an empty row counts and is left out."""
    table = parse_table('name,text\nAda,"two\nlines"\n\nBob,x\n', "people.csv")

    assert [(row.number, row.values["text"]) for row in table.rows()] == [(2, "two\nlines"), (4, "x")]


def test_standard_input() -> None:
    """`-` is standard input."""
    assert read_table(Path("-"), io.StringIO("\ufeffa,b\n1,2\n")).columns == ("a", "b")


WRONG = {
    "too few": (
        "name,email,sum\nAda,a@example.net,1\nBob,b@example.net\n",
        "people.csv row 3: no value for column 'sum'",
    ),
    "too many": ("name,email\nLovelace, Ada,a@example.net\n", "people.csv row 2: 3 cells for 2 columns"),
    "nothing": ("", "people.csv: it is empty"),
    "no name": ("name,\nAda,x\n", "people.csv row 1: column 2 has no name"),
    "twice": ("name,name\nAda,x\n", "people.csv row 1: there are two columns named 'name'"),
    "open quote": ('name,email\n"Ada,x\n', "people.csv line 2: unexpected end of data"),
    "text after a quote": ('name,email\n"Ada"x,y\n', "people.csv line 2: "),
}


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG.keys())
def test_mistake_in_a_table(content: str, message: str) -> None:
    """A row that does not fit is named, with the column where one is missing."""
    with pytest.raises(Failure) as caught:
        list(parse_table(content, "people.csv").rows())

    assert str(caught.value).startswith(message)


def test_other_encoding(tmp_path: Path) -> None:
    """A file that is not UTF-8 is refused with the place."""
    path = tmp_path / "people.csv"
    path.write_bytes("name\nJosé\n".encode("latin-1"))
    with pytest.raises(Failure, match=r"--csv: .* is not UTF-8 \(byte 8\)"):
        read_table(path, io.StringIO())
