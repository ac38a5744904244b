"""What is in the wheel and in the source distribution."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.packaging.layout import PACKAGES, ROOT, source_files


def build(target: str, folder: Path) -> Path:
    """Build one distribution without an environment of its own; the backend is pinned with the other packages."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in the wheel."""
    with zipfile.ZipFile(build("wheel", tmp_path_factory.mktemp("wheel"))) as archive:
        return archive.namelist()


def test_the_wheel_claims_three_names_only(wheel: list[str]) -> None:
    """Nothing of ours can stand in the way of another distribution's `schema` or `workers`."""
    top_level = {name.partition("/")[0] for name in wheel}
    metadata = {name for name in top_level if name.startswith("mailfleet-") and name.endswith(".dist-info")}
    assert len(metadata) == 1
    assert top_level - metadata == set(PACKAGES)


def test_the_wheel_has_every_file_of_the_packages(wheel: list[str]) -> None:
    """Data files travel like code: migrations, SQL, rules in TOML, JSON."""
    assert {name for name in wheel if ".dist-info/" not in name} == source_files()


def test_every_package_is_typed(wheel: list[str]) -> None:
    """Type checkers read our annotations only where `py.typed` says so (PEP 561)."""
    assert [package for package in PACKAGES if f"{package}/py.typed" not in wheel] == []


def test_the_source_distribution_builds_the_same_wheel(tmp_path: Path, wheel: list[str]) -> None:
    """Whoever builds from the source distribution gets what we publish."""
    sdist = build("sdist", tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        # Python 3.11 before 3.11.4 has no filters, Python 3.12 warns without one.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
        archive.extractall(tmp_path / "unpacked")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "rebuilt")],
        cwd=unpacked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (rebuilt,) = (tmp_path / "rebuilt").iterdir()
    with zipfile.ZipFile(rebuilt) as archive:
        assert sorted(archive.namelist()) == sorted(wheel)
