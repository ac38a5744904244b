"""What deploy/Dockerfile says and what .dockerignore lets it see, as far as our own files go. No engine is asked."""

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.packaging.layout import ROOT

FILE = ROOT / "deploy/Dockerfile"
IGNORE = ROOT / ".dockerignore"


@dataclass(frozen=True)
class Instruction:
    """One instruction of one stage, for instance `COPY`, with its words as a shell would split them."""

    stage: str
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments without options."""
        return [word for word in shlex.split(self.text) if not word.startswith("--")]

    def option(self, name: str) -> str | None:
        """The value of `--name=value`."""
        found = re.search(rf"--{name}=(\S+)", self.text)
        return found[1] if found else None


def instructions(text: str) -> list[Instruction]:
    """All instructions in order; a stage without a name has the name of its number."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found: list[Instruction] = []
    stage, count = "", 0
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        name, _, rest = line.strip().partition(" ")
        if name == "FROM":
            stage = re.split(r"\s+AS\s+", rest)[1] if " AS " in rest else str(count)
            count += 1
        found.append(Instruction(stage, name, rest.strip()))
    return found


def patterns() -> tuple[list[str], list[str]]:
    """The paths that .dockerignore lets in, and the names below them that it keeps out.

    Raises:
        ValueError: it is not what we can judge: everything out, then paths in, then names out.
    """
    lines = [line for line in IGNORE.read_text().splitlines() if line and not line.startswith("#")]
    inside = [line[1:] for line in lines[1:] if line.startswith("!")]
    outside = [line[3:] for line in lines[1 + len(inside) :] if line.startswith("**/")]
    if lines != ["*", *(f"!{path}" for path in inside), *(f"**/{name}" for name in outside)]:
        raise ValueError(f"{IGNORE.name}: expected *, then !path lines, then **/name lines")
    return inside, outside


def lay_out_context(target: Path) -> None:
    """Copy into *target* what an engine would be sent."""
    inside, outside = patterns()
    for path in inside:
        source, copy = ROOT / path, target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*outside))
        else:
            shutil.copy(source, copy)
