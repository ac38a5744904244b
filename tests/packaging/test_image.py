"""deploy/Dockerfile, as far as it can be checked without an engine: what it copies, and what its commands do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.dockerfile import FILE, Instruction, instructions, lay_out_context, patterns
from tests.packaging.layout import ROOT

ALL = instructions(FILE.read_text())
LAST = ALL[-1].stage


def of(name: str, stage: str | None = None) -> list[Instruction]:
    """The instructions of one kind, of one stage or all."""
    return [one for one in ALL if one.name == name and stage in (None, one.stage)]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    """Every source of a COPY from the project exists and gets into the build's context."""
    inside, _ = patterns()
    sources = [source for one in of("COPY") if not one.option("from") for source in one.words[:-1]]
    assert len(sources) >= 6
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [
        source for source in sources if not any(Path(source).is_relative_to(path) for path in inside)
    ] == []


def test_the_context_holds_no_secret_and_nothing_unused() -> None:
    """What gets in is what a COPY names: no repository, environment, test or secret."""
    inside, _ = patterns()
    sources = {source for one in of("COPY") if not one.option("from") for source in one.words[:-1]}
    assert set(inside) == sources


def test_it_runs_as_nobody_special() -> None:
    """The last stage ends as a user by number, so that an orchestrator can see that it is not root."""
    users = [one.text for one in of("USER", LAST)]
    assert users
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[-1])


def test_packages_come_by_hash_only() -> None:
    """Every pip command of the image checks hashes or fetches nothing."""
    pips = [one.text for one in of("RUN") if "pip install" in one.text]
    assert len(pips) == 2
    assert "--require-hashes --requirement requirements/workers.txt" in pips[0]
    assert "--no-deps --no-build-isolation" in pips[1]


def test_nothing_names_a_place_or_registry() -> None:
    """The only outside names are those of images."""
    assert re.findall(r"\S+://\S*|--(?:index|extra-index|find-links|trusted)\S*", FILE.read_text()) == []


def test_both_stages_have_the_same_python() -> None:
    """An environment works with the interpreter that made it only."""
    assert len({one.words[0] for one in of("FROM")}) == 1


@pytest.mark.acceptance
@pytest.mark.timeout(600)
def test_its_commands_make_a_working_environment(tmp_path: Path) -> None:
    """The build stage's own commands, run in the build's context, give the command and run the examples."""
    context, venv = tmp_path / "context", tmp_path / "venv"
    lay_out_context(context)
    runs = [one.text for one in of("RUN", "build")]
    assert len(runs) == 3
    for command in runs:
        ran = command.replace("/opt/mailfleet", str(venv)).replace(
            "python -m venv", f"{sys.executable} -m venv"
        )
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            ["sh", "-ec", ran], cwd=context, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    shown = subprocess.run(
        [venv / "bin/mailfleet", "--version"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    installed = subprocess.run(
        [venv / "bin/python", "-c", "import mailfleet; print(mailfleet.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert installed.stdout.startswith(str(venv))
    for example in sorted((context / "deploy/examples").glob("*.py")):
        # Without a database it gets as far as asking for one.
        done = subprocess.run(
            [venv / "bin/python", example], cwd=tmp_path, env={}, capture_output=True, text=True, check=False
        )
        assert "EXAMPLE_DATABASE_URL_FILE" in done.stderr
