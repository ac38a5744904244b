"""An application installs mailfleet into a clean environment and checks its own code strictly."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.layout import ROOT

# What an application writes, with one error on purpose in the last line: a checker that sees no types says nothing.
APPLICATION = """\
from datetime import datetime

from mailfleet import Mail, Mailer
from sqlalchemy import create_engine
from sqlalchemy.orm import Session


def invoice(session: Session, mailer: Mailer, due: datetime | None) -> None:
    mail = Mail(to=["ada@example.net"], subject="Invoice 17", text="text", due_at=due, idempotency_key="invoice-17")
    mailer.emit(mail, session=session)


def run() -> None:
    engine = create_engine("sqlite://")
    mailer = Mailer.from_env(app="billing")
    with Session(engine) as session, session.begin():
        invoice(session, mailer, None)


Mail(to=["ada@example.net"], subject=17, text="text")
"""


pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a clean environment into which `pip install .` put mailfleet and what it needs, no more."""
    venv = tmp_path_factory.mktemp("application") / "venv"
    run(sys.executable, "-m", "venv", str(venv))
    python = venv / "bin" / "python"
    run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(ROOT))
    return python


def test_an_application_installs_nothing_of_the_operators(python: Path, tmp_path: Path) -> None:
    """`pip install .` brings what an application pays for, and the installed package is the one that is imported."""
    installed = run(str(python), "-m", "pip", "list", "--format=freeze").lower()
    assert "dramatiq==" in installed
    assert [
        name for name in ("alembic==", "pydantic==", "redis==", "rich==", "typer==") if name in installed
    ] == []
    shown = run(str(python), "-c", "import mailfleet; print(mailfleet.__file__)", cwd=tmp_path)
    assert str(python.parents[1]) in shown


def test_an_application_is_checked_strictly(python: Path, tmp_path: Path) -> None:
    """The checker sees our types in the installation: it finds the planted error and no other."""
    (tmp_path / "application.py").write_text(APPLICATION)
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python)),
            *("--config-file", "", "--cache-dir", str(tmp_path / "cache"), "application.py"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    *errors, _summary = checked.stdout.splitlines()
    assert len(errors) == 1, checked.stdout + checked.stderr
    assert errors[0].startswith(f"application.py:{len(APPLICATION.splitlines())}: error:")
    assert "[arg-type]" in errors[0]


def test_the_command_of_a_light_installation_says_what_to_install(python: Path, tmp_path: Path) -> None:
    """The real script without the extra: one line, status 2."""
    done = subprocess.run(
        [python.with_name("mailfleet"), "status"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "mailfleet[workers]" in done.stderr


def run(*command: str, cwd: Path = ROOT) -> str:
    """The output of a command that has to succeed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
