"""The pinned requirement files work anywhere: every package with a hash, and no word about where it comes from."""

import re
from pathlib import Path

import pytest

from tests.packaging.layout import ROOT

PINNED = sorted((ROOT / "requirements").glob("*.txt"))
ENTRY = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>[^ \\;]+)(?P<marker> ;[^\\]*)?"
    r"(?P<hashes>( \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
    r"(?P<origin>(    #[^\n]*\n)*)"
)


def entries(path: Path) -> list[re.Match[str]]:
    """The entries of a file, which must be nothing but entries."""
    text = path.read_text()
    found, position = [], 0
    # pip-compile sets packages such as pip and setuptools apart under this line.
    unsafe = "\n# The following packages are considered to be unsafe in a requirements file:\n"
    text = text.replace(unsafe, "")
    while position < len(text):
        entry = ENTRY.match(text, position)
        assert entry, f"{path.name}: not a pinned package with hashes: {text[position : position + 80]!r}"
        found.append(entry)
        position = entry.end()
    return found


def test_both_files_are_there() -> None:
    """`make demo` installs the one, everything else the other."""
    assert [path.name for path in PINNED] == ["dev.txt", "workers.txt"]


@pytest.mark.parametrize("path", PINNED, ids=lambda path: path.name)
def test_every_entry_is_pinned_and_hashed(path: Path) -> None:
    """A file holds pinned packages with hashes and comments, no option and no URL."""
    assert len(entries(path)) > 10


@pytest.mark.parametrize("path", [*PINNED, *(ROOT / "requirements").glob("*.in")], ids=lambda path: path.name)
def test_no_registry_and_no_place_is_named(path: Path) -> None:
    """Neither an address nor a folder of the machine that made the file is in it, not even in a comment."""
    text = path.read_text()
    assert (
        re.findall(r"\S*://\S*|--(?:index|extra|find|trusted)\S*|(?<![\w.])/\S+| @ |\bfile:\S|\bgit\+", text)
        == []
    )


def test_development_uses_what_the_demo_runs() -> None:
    """A package in both files has one version."""
    workers, dev = ({entry["name"]: entry["version"] for entry in entries(path)} for path in reversed(PINNED))
    assert {name: dev.get(name) for name in workers} == workers
