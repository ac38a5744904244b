"""What the packaging tests know about the project: its root, its packages and an interpreter that sees only them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {"mailfleet": "producers", "mailfleet_workers": "workers", "mailfleet_schema": "schema"}


def source_files() -> set[str]:
    """Every file of the three packages, as paths inside an installation."""
    found = set()
    for package, source_root in PACKAGES.items():
        for path in (ROOT / source_root / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                found.add(path.relative_to(ROOT / source_root).as_posix())
    return found


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter that finds the packages by their source roots."""
    roots = os.pathsep.join(str(ROOT / source_root) for source_root in PACKAGES.values())
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "tests",
        env=os.environ | {"PYTHONPATH": roots},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
