"""What is wrong with settings in a test, and the assertion that each problem is named."""

from pathlib import Path
from typing import NamedTuple

import pytest

from mailfleet_workers.settings import Settings, WrongSettings

SECRET = "hunter2"


class Wrong(NamedTuple):
    """A file, variables, and the problems they make: (key, a part of the expectation, the value as shown)."""

    file: str
    variables: dict[str, str]
    problems: tuple[tuple[str, str, str], ...]


def of_file(text: str, key: str, expected: str, value: str) -> Wrong:
    return Wrong(text, {}, ((key, expected, value),))


def of_variable(name: str, value: str, key: str, expected: str, shown: str) -> Wrong:
    return Wrong("", {name: value}, ((key, expected, shown),))


HOST = '[accounts.default]\nhost = "smtp.example.com"\n'
UNKNOWN = "an unknown one"
HIDDEN = "a value that is not shown"


def load(tmp_path: Path, wrong: Wrong) -> Settings:
    path = tmp_path / "mailfleet.toml"
    path.write_text(wrong.file)
    return Settings.load(wrong.variables, path)


def named(tmp_path: Path, wrong: Wrong) -> None:
    """Assert that exactly the expected problems are found, each on a line of its own, and no secret in them."""
    with pytest.raises(WrongSettings) as caught:
        load(tmp_path, wrong)

    lines = str(caught.value).splitlines()
    assert [problem.key for problem in caught.value.problems] == [key for key, _, _ in wrong.problems]
    for line, (key, expected, value) in zip(lines, wrong.problems, strict=True):
        before, got, after = line.rpartition(", got ")
        assert line.startswith(f"{key}: expected ")
        assert expected in before + got
        assert after.startswith(value)
    assert SECRET not in str(caught.value) + repr(caught.value.problems)
