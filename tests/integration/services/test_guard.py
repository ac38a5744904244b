"""No private server outlives the test run, and nothing else is ended with it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.guard import GuardedDirectory
from tests.services.processes import PREFIX, end_processes_in, processes_in
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]


POSTGRES = "PrivatePostgres(find_postgres(), durable=False).start()"
SERVERS = {
    "postgres": f"[{POSTGRES}]",
    "postfix": "[PrivatePostfix(find_postfix()).start()]",
    "rabbitmq": "[PrivateRabbit(find_rabbitmq()).start()]",
    "pgbouncer": f"[server := {POSTGRES}, PrivatePgBouncer(find_pgbouncer(), server).start()]",
}
SCRIPT = """\
import os, signal
from tests.services.locate import find_pgbouncer, find_postfix, find_postgres, find_rabbitmq
from tests.services.pgbouncer import PrivatePgBouncer
from tests.services.postfix import PrivatePostfix
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbit
for started in {servers}:
    print(started.directory, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("service", SERVERS)
def test_no_server_outlives_a_killed_test_run(service: str) -> None:
    """The guard ends the server and deletes its directory when the process that started it gets SIGKILL."""
    script = SCRIPT.format(servers=SERVERS[service])
    killed = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    directories = [Path(line) for line in killed.stdout.split()]
    assert directories
    assert [directory.name.startswith(PREFIX) for directory in directories] == [True] * len(directories)

    def left() -> list[object]:
        return [
            each
            for path in directories
            for each in (path, *processes_in(path))
            if each != path or path.exists()
        ]

    wait_until(lambda: not left(), 30, lambda: str(left()))


def test_processes_are_ended_in_private_directories_only(tmp_path: Path) -> None:
    """A directory that no private server made is refused, so that a mistake cannot end somebody's shell."""
    with pytest.raises(ValueError, match="not a private server's directory"):
        end_processes_in(tmp_path)


def test_a_guarded_directory_ends_what_works_in_it() -> None:
    """A process that ignores polite signals and left its session is found by its working directory and killed."""
    home = GuardedDirectory("example")
    stubborn = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()",
        ],
        cwd=home.path,
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    with stubborn:
        assert stubborn.stdout is not None
        assert stubborn.stdout.readline() == b"1\n"
        assert processes_in(home.path) == [stubborn.pid]
        home.remove()
    assert stubborn.returncode < 0
    assert not home.path.exists()
