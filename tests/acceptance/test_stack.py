"""`make up` without Docker: what docker-compose.yml runs of ours, run here, with real servers behind it.

The commands, variables and health checks are the file's own (`tests.stack.place` replaces hosts, ports and paths), so a
command that would not run in a container does not run here either.
"""

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path

import psycopg
import pytest

from tests.packaging.layout import ROOT
from tests.services.processes import processes_in
from tests.services.redis import answers
from tests.stack.native import Native
from tests.stack.state import State
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

VARIABLES = ("POSTGRES_PORT", "RABBITMQ_PORT", "MANAGEMENT_PORT", "SMTP_PORT", "CATCHER_PORT")
ANY_PORTS = dict.fromkeys(VARIABLES, "0")


def stack(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """What `make up` and `make down` run, on any free ports."""
    return subprocess.run(
        [sys.executable, "-m", "tests.stack", command, "--native", "--directory", str(directory)],
        cwd=ROOT,
        env=os.environ | ANY_PORTS,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """Where the stack of this module is; it is up, and down afterwards. Servers with their own user can get there."""
    path = Path(subprocess.check_output(["mktemp", "-d", "-t", "mailfleet-stack-XXXXXX"], text=True).strip())
    path.chmod(0o755)
    try:
        done = stack("up", path)
        assert done.returncode == 0, done.stdout + done.stderr
        yield path
    finally:
        done = stack("down", path)
        assert done.returncode == 0, done.stdout + done.stderr
        subprocess.run(["rm", "-rf", str(path)], check=True)


@pytest.fixture
def native(directory: Path) -> Native:
    """The stack as it stands in its directory."""
    return Native(State.read(directory), os.environ)


def port(native: Native, service: str, inside: int) -> int:
    """Where a service's port is on this machine."""
    return native.place(native.services[service]).ports[service, inside]


def ask(url: str) -> str:
    """What a page says."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def caught(directory: Path) -> list[tuple[str, str]]:
    """Sender's domain and subject of every mail that the catcher keeps."""
    found = []
    for path in sorted((directory / "catcher/data/caught").rglob("*.eml")):
        with contextlib.suppress(FileNotFoundError):
            message = message_from_bytes(path.read_bytes(), policy=policy.default)
            found.append((str(message["From"].addresses[0].domain), str(message["Subject"])))
    return found


def test_mail_of_both_applications_arrives(directory: Path) -> None:
    """Orders and invoices are confirmed, with the sender of the application's account, and each once."""

    def both() -> bool:
        domains = [domain for domain, _ in caught(directory)]
        return domains.count("shop.example") >= 2 and domains.count("billing.example") >= 2

    wait_until(both, 60, lambda: f"caught: {caught(directory)}")
    subjects = [subject for _, subject in caught(directory)]
    numbered = [subject for subject in subjects if subject.startswith(("Your order", "Invoice"))]
    assert len(numbered) == len(set(numbered))


def test_a_reminder_waits_its_time(directory: Path, native: Native) -> None:
    """A mail that is due later is in the database with its time, and not in the catcher."""
    url = (directory / "secrets/database_url").read_text().strip()
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT state FROM mailfleet.mail WHERE app = 'billing' AND due_at > now() + interval '20 s'"
        ).fetchall()
    assert {state for (state,) in rows} == {"queued"}


def test_every_health_check_of_the_file_says_well(native: Native) -> None:
    """The checks are commands; each ends with status 0 within its time."""
    for service in native.services.values():
        if service.health:
            wait_until(
                lambda service=service: native.healthy(service),  # type: ignore[misc] # a default
                service.healthy_s,
                lambda service=service: f"{service.name} is not healthy",  # type: ignore[misc] # a default
            )


def test_a_health_check_can_say_no(native: Native, directory: Path) -> None:
    """The commands fail where nothing listens: they would notice."""
    for name in ("shop-workers", "catcher"):
        place = native.place(native.services[name])
        listening = str(place.ports[name, native.services[name].ports[-1].inside])
        command = [part.replace(listening, "1") for part in place.health]
        done = subprocess.run(
            command, env=place.environ(os.environ), capture_output=True, check=False, timeout=30
        )
        assert done.returncode != 0


def test_pages_answer(native: Native) -> None:
    """The addresses that `make up` prints: the catcher's page, the pools' metrics, the management UI."""
    assert "<html" in ask(f"http://127.0.0.1:{port(native, 'catcher', 8025)}/").lower()
    for name in ("shop-workers", "billing-workers"):
        assert "mailfleet_" in ask(f"http://127.0.0.1:{port(native, name, 9402)}/metrics")
    assert "<html" in ask(f"http://127.0.0.1:{port(native, 'rabbitmq', 15672)}/").lower()


def test_servers_ask_for_passwords(directory: Path, native: Native) -> None:
    """Nobody on this machine gets into the database, the broker or Redis by address alone."""
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(
            host="127.0.0.1", port=port(native, "postgres", 5432), user="mailfleet", dbname="mailfleet"
        )
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(f"http://127.0.0.1:{port(native, 'rabbitmq', 15672)}/api/whoami")
    assert refused.value.code == 401
    refused.value.close()
    url = (directory / "secrets/redis_url").read_text().strip()
    assert answers(url)
    assert not answers(f"redis://127.0.0.1:{port(native, 'redis', 6379)}/0")


def test_the_first_mail_of_the_message_works(directory: Path) -> None:
    """The command that `make up` prints sends a mail."""
    printed = stack("up", directory).stdout
    (line,) = [line for line in printed.splitlines() if "A first mail:" in line]
    command = line.partition(":")[2].strip()
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until(
        lambda: ("shop.example", "Hello") in caught(directory), 30, lambda: f"caught: {caught(directory)}"
    )


def test_a_second_up_changes_nothing(directory: Path) -> None:
    """It says that everything runs already, and where."""
    before = json.loads((directory / "state.json").read_text())
    done = stack("up", directory)
    assert done.returncode == 0
    assert done.stdout.startswith("mailfleet runs already.")
    assert "http://127.0.0.1:" in done.stdout
    assert json.loads((directory / "state.json").read_text()) == before


def test_down_ends_everything_and_up_brings_it_back(directory: Path, native: Native) -> None:
    """`down` leaves no process, a second one does no harm, and after the next `up` the data are there as before."""
    wait_until(lambda: bool(caught(directory)), 60, lambda: "nothing was caught")
    ran = native.state.processes
    done = stack("down", directory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed" not in done.stderr
    assert [one.service for one in ran if one.runs()] == []
    assert processes_in(directory) == []
    again = stack("down", directory)
    assert (again.returncode, again.stdout.strip()) == (0, "mailfleet does not run.")
    kept = caught(directory)

    up = stack("up", directory)
    assert up.returncode == 0, up.stdout + up.stderr
    assert set(kept) <= set(caught(directory))
    url = (directory / "secrets/database_url").read_text().strip()
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM mailfleet.mail WHERE state = 'sent'").fetchone()
    assert row is not None
    assert row[0] >= len(kept)
