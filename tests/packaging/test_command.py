"""The command `mailfleet` in an application's environment, where the workers' extra is missing."""

import tomllib

from tests.packaging.layout import ROOT, run_python

# Stands for an installation without the extra: these packages cannot be found.
HIDE = """
import importlib.abc, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"alembic", "pydantic", "pydantic_core", "rich", "typer"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""


def test_a_missing_extra_is_one_line_and_status_2() -> None:
    """It says what to install, without a traceback."""
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["mailfleet"]
    module, _, function = entry.partition(":")
    run = f"sys.argv = ['mailfleet', 'status']\nfrom {module} import {function}\nsys.exit({function}())\n"
    done = run_python(HIDE + run)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "mailfleet[workers]" in done.stderr


def test_with_the_extra_the_command_answers() -> None:
    """The same entry prints its help, so that the test above fails for the missing extra only."""
    done = run_python(
        "import sys; sys.argv = ['mailfleet', '--help']; from mailfleet.__main__ import main; sys.exit(main())"
    )
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
