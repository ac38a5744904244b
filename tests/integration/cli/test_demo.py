"""`demo` is a thin door: what it says before the demo begins."""

from pathlib import Path

import pytest

from tests.integration.cli.conftest import Command


@pytest.mark.parametrize(
    ("arguments", "directory"), [(("--keep",), "mailfleet-demo"), (("--dir", "x/y"), "x/y")]
)
def test_demo_does_not_write_into_a_kept_one(
    command: Command, arguments: tuple[str, ...], directory: str
) -> None:
    """What an earlier demo kept is not touched; one line says where it is."""
    kept = Path(directory) / "mailfleet.db"
    kept.parent.mkdir(parents=True)
    kept.write_text("kept")

    assert command.complaints("demo", *arguments) == [
        f"--keep: there is a database already at {kept}; remove it, or name another --dir"
    ]
    assert kept.read_text() == "kept"
