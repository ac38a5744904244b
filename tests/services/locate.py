"""Where the server programs are on this machine, and their versions.

Debian keeps PostgreSQL's server programs out of PATH, one folder per version, Postfix and PgBouncer in a folder that
only root has in PATH, and RabbitMQ's own scripts behind wrappers that change the user; all of them are looked for there
too. Nothing is installed or started here.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

OLDEST_POSTGRES = 15
# The first whose quorum queues let messages expire.
OLDEST_RABBITMQ = (3, 10)
# The first that lets only this machine's clients debug it; older ones are out of their makers' care.
OLDEST_REDIS = (7, 0)
POSTGRES_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")

RABBITMQ_FOLDERS = (
    "/usr/lib/rabbitmq/bin",
    "/opt/homebrew/opt/rabbitmq/sbin",
    "/usr/local/opt/rabbitmq/sbin",
)


@dataclass(frozen=True)
class Binaries:
    """Programs of one installed server.

    Attributes:
        directory: the folder they are in.
        version: as the server says it, for instance `15.18` or `3.7.11`.
        parts: the version's numbers, for comparisons.
    """

    directory: Path
    version: str

    @property
    def parts(self) -> tuple[int, ...]:
        """`3.7.11` as (3, 7, 11); a beta or release candidate counts as its number."""
        return tuple(int(number) for number in re.findall(r"\d+", self.version))


def find_postgres() -> Binaries | None:
    """The newest PostgreSQL server on this machine, which may be older than `OLDEST_POSTGRES`; None without any."""
    folders = {match for pattern in POSTGRES_FOLDERS for match in Path("/").glob(pattern.removeprefix("/"))}
    if in_path := shutil.which("initdb"):
        folders.add(Path(in_path).resolve().parent)
    found = []
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            said = _output(folder / "postgres", "--version")
            if match := re.search(r"\(PostgreSQL\) (\S+)", said):
                found.append(Binaries(folder, match[1]))
    return max(found, key=lambda binaries: binaries.parts, default=None)


def find_postfix() -> Binaries | None:
    """The Postfix on this machine, None without one."""
    for folder in ("/usr/sbin", "/usr/local/sbin"):
        if (Path(folder) / "postfix").exists():
            said = _output(Path(folder) / "postconf", "-dh", "mail_version")
            if match := re.search(r"\d\S*", said):
                return Binaries(Path(folder), match[0])
    return None


def find_rabbitmq() -> Binaries | None:
    """The RabbitMQ on this machine, None without one. Its version is in the names of its parts: asking takes seconds."""
    folders = [Path(folder) for folder in RABBITMQ_FOLDERS]
    if in_path := shutil.which("rabbitmq-server"):
        folders.append(Path(in_path).resolve().parent)
    for folder in folders:
        script = folder / "rabbitmq-server"
        if script.exists():
            parts = script.resolve().parent.parent / "plugins"
            for part in sorted(parts.glob("rabbit-[0-9]*")):
                return Binaries(folder, part.name.removeprefix("rabbit-").removesuffix(".ez"))
    return None


def find_pgbouncer() -> Binaries | None:
    """The PgBouncer on this machine, None without one."""
    folders = [Path(folder) for folder in ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")]
    if in_path := shutil.which("pgbouncer"):
        folders.insert(0, Path(in_path).parent)
    for folder in folders:
        if (folder / "pgbouncer").exists():
            said = _output(folder / "pgbouncer", "--version")
            if match := re.search(r"PgBouncer (\S+)", said):
                return Binaries(folder, match[1])
    return None


def find_redis() -> Binaries | None:
    """The Redis server on this machine, None without one."""
    folders = [Path(folder) for folder in ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin")]
    if in_path := shutil.which("redis-server"):
        folders.insert(0, Path(in_path).parent)
    for folder in folders:
        if (folder / "redis-server").exists():
            said = _output(folder / "redis-server", "--version")
            if match := re.search(r"Redis server v=(\S+)", said):
                return Binaries(folder, match[1])
    return None


def _output(*command: str | Path) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout if done.returncode == 0 else ""
