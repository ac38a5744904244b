"""`command`: the command line in a working directory of its own, with nothing set but what a test sets."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mailfleet_workers.cli import app


@dataclass
class Command:
    """Runs `mailfleet` in *directory*, which is the working directory."""

    directory: Path
    environ: dict[str, str | None] = field(default_factory=dict)

    def __call__(self, *arguments: object, status: int = 0, stdin: str | None = None) -> Result:
        """Run it; the exit status has to be *status*, and no traceback may be there."""
        words = [str(one) for one in arguments]
        result = CliRunner().invoke(app, words, env=self.environ, input=stdin)
        assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
        assert "Traceback" not in result.stderr
        return result

    def json(self, *arguments: object, status: int = 0) -> Any:
        """The one document on standard output."""
        return json.loads(self(*arguments, "--json", status=status).stdout)

    def complaints(self, *arguments: object, stdin: str | None = None) -> list[str]:
        """The lines on standard error of a command that ends with 2, each without our name; nothing else is said."""
        result = self(*arguments, status=2, stdin=stdin)
        lines = result.stderr.splitlines()
        assert result.stdout == ""
        assert all(line.startswith("mailfleet: ") for line in lines)
        return [line.removeprefix("mailfleet: ") for line in lines]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    # A wide terminal, so that nothing is cut; and none of the settings of whoever runs the tests.
    environ: dict[str, str | None] = {"COLUMNS": "200", "TZ": "UTC"}
    environ |= {name: None for name in os.environ if name.startswith("MAILFLEET_")}
    return Command(tmp_path, environ)
