"""Installs Debian packages for tests without changing what the machine runs.

The packages want to be a service of the machine: they create a database cluster, start daemons and, for Postfix, take the
place of another mail server. None of that is wanted here, so during the installation a `policy-rc.d` says no to every
start, `create_main_cluster` is off, Postfix is left without a configuration, and an installation that would remove a
package is refused. Afterwards both files are as they were. What would start at the next boot is disabled if it came with
this installation: RabbitMQ and Erlang's port mapper listen on all interfaces.
"""

import contextlib
import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")
NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/mailfleet-tests.conf")
POLICY_TEXT = """#!/bin/sh
# Written for the length of one package installation by mailfleet's tests; delete it if it is still here after that.
exit 101
"""

# Without a cluster and without a configuration PostgreSQL and Postfix do not start anyway.
BOOT_LINK = re.compile(
    r"(?P<order>S\d\d)?(?P<service>epmd|pgbouncer|rabbitmq-server|redis-server)(?P<unit>\.\w+)?"
)
BOOT_FOLDERS = ("etc/systemd/system/*.wants/*", "etc/rc[2-5].d/S*")


class InstallError(Exception):
    """apt-get did not install the packages; the message is its own reason, on one line."""


def can_install() -> bool:
    """Whether this is a Debian system and we are its root."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None and shutil.which("dpkg") is not None


def install(packages: Sequence[str]) -> None:
    """Install `packages` from the system's own package sources; no service is started or left running.

    Raises:
        InstallError: no network, no such package, or another package would have to go.
    """
    before = boot_links()
    with replaced(POLICY, POLICY_TEXT, mode=0o755), replaced(NO_CLUSTER, "create_main_cluster = false\n"):
        if "postfix" in packages and shutil.which("debconf-set-selections"):
            _run(["debconf-set-selections"], "postfix postfix/main_mailer_type select No configuration\n")
        _update()
        # A nightly upgrade may hold the lock.
        options = ["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
        _run(
            ["apt-get", "-q", "-y", *options, "--no-install-recommends", "--no-remove", "install", *packages]
        )
    disable(boot_links() - before)


@functools.cache
def _update() -> None:
    """Once for all services; what was published in between can wait."""
    _run(["apt-get", "-q", "update"])


def boot_links(root: Path = Path("/")) -> set[Path]:
    """The links by which systemd, or the init scripts before it, start what our packages bring."""
    found = (link for pattern in BOOT_FOLDERS for link in root.glob(pattern))
    return {link for link in found if BOOT_LINK.fullmatch(link.name)}


def disable(links: set[Path]) -> None:
    """Have none of them start anything at the next boot. Raises InstallError."""
    parts = [match for link in links if (match := BOOT_LINK.fullmatch(link.name))]
    for script in sorted({match["service"] for match in parts if match["order"]}):
        _run(["update-rc.d", script, "disable"])
    if not (units := sorted({match[0] for match in parts if match["unit"]})):
        return
    if shutil.which("systemctl"):
        _run(["systemctl", "disable", *units])
    else:
        # In a container without systemd Debian's packages make the links all the same.
        for link in links:
            if link.name in units:
                link.unlink()


@contextlib.contextmanager
def replaced(path: Path, text: str, mode: int = 0o644) -> Iterator[None]:
    """Have `text` in the file for the length of the block; afterwards the old file is back, or none if there was none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    backup = path.with_name(path.name + ".mailfleet-tests-backup")
    if path.exists():
        path.rename(backup)
    try:
        path.write_text(text)
        path.chmod(mode)
        yield
    finally:
        path.unlink(missing_ok=True)
        if backup.exists():
            backup.rename(path)


def _run(command: Sequence[str], text: str = "") -> None:
    done = subprocess.run(
        command,
        check=False,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
    )
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines() or [f"status {done.returncode}"]
        reasons = [line for line in lines if line.startswith(("E:", "Err:"))] or lines[-1:]
        raise InstallError(f"{command[0]} failed: {' '.join(reasons)}")
