"""Imports point one way: workers, producers, schema."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.layout import PACKAGES, ROOT


def lint_imports(project: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of `pyproject.toml` in `project` against the packages there."""
    roots = os.pathsep.join(str(project / source_root) for source_root in PACKAGES.values())
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": roots, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_the_contracts_are_kept() -> None:
    """No module of ours imports against the direction, and applications get nothing of the operators."""
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("schema/mailfleet_schema/planted.py", "import mailfleet.errors"),
        ("producers/mailfleet/planted.py", "import mailfleet_workers.verdict"),
        ("producers/mailfleet/planted.py", "import redis"),
        ("schema/mailfleet_schema/planted.py", "import pydantic"),
    ],
)
def test_a_forbidden_import_is_seen(module: str, forbidden: str, tmp_path: Path) -> None:
    """Planting one import that breaks a contract makes the check fail, and name the place."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for source_root in PACKAGES.values():
        shutil.copytree(ROOT / source_root, tmp_path / source_root)
    (tmp_path / module).write_text(forbidden + "\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "planted" in done.stdout
