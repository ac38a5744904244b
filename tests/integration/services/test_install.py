"""Preparing services before the tests: what a wrong setting says, and how the machine's files come back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.debian import boot_links, disable, replaced
from tests.services.external import (
    PGBOUNCER_URL,
    POSTFIX_MAILDIR,
    POSTFIX_URL,
    POSTGRES_URL,
    RABBITMQ_MANAGEMENT,
    RABBITMQ_URL,
    REDIS_URL,
)
from tests.services.ports import free_port

ROOT = Path(__file__).parents[3]


def prepare(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as `make test` does."""
    return subprocess.run(
        [sys.executable, "-m", "tests.services.install"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_what_is_on_the_machine_is_named_with_its_version() -> None:
    """With every service here the command says where each is, and succeeds."""
    done = prepare()
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "PostgreSQL",
        "Postfix",
        "RabbitMQ",
        "PgBouncer",
        "Redis",
    ]


#: What is wrong with each service in turn, and what is said of it: one of each is wrong in one run.
WRONG = [
    [
        ({POSTGRES_URL: "nonsense"}, f"{POSTGRES_URL}: expected postgresql://host/database"),
        ({POSTGRES_URL: "mysql://host/database"}, f"{POSTGRES_URL}: expected postgresql://host/database"),
        ({POSTGRES_URL: "postgresql://127.0.0.1:{port}/test"}, f"{POSTGRES_URL}: no connection"),
        ({POSTGRES_URL: "postgresql://host:x/d"}, f"{POSTGRES_URL}: expected postgresql://host/database"),
    ],
    [
        ({POSTFIX_URL: "127.0.0.1:25"}, f"{POSTFIX_URL}: expected smtp://host:port"),
        ({POSTFIX_URL: "smtp://127.0.0.1:25"}, f"{POSTFIX_MAILDIR}: expected the folder"),
        (
            {POSTFIX_URL: "smtp://127.0.0.1:{port}", POSTFIX_MAILDIR: "{tmp}"},
            f"{POSTFIX_URL}: no SMTP server there",
        ),
    ],
    [
        ({RABBITMQ_URL: "127.0.0.1:5672"}, f"{RABBITMQ_URL}: expected amqp://user:password@host:port"),
        (
            {RABBITMQ_URL: "amqp://a:b@127.0.0.1:x", RABBITMQ_MANAGEMENT: "http://127.0.0.1:{port}"},
            f"{RABBITMQ_URL}: expected amqp://user:password@host:port",
        ),
        (
            {RABBITMQ_URL: "amqp://a:b@127.0.0.1:{port}", RABBITMQ_MANAGEMENT: "http://127.0.0.1:x"},
            f"{RABBITMQ_MANAGEMENT}: expected http://host:port",
        ),
        ({RABBITMQ_URL: "amqp://a:b@127.0.0.1:{port}"}, f"{RABBITMQ_MANAGEMENT}: expected http://host:port"),
        (
            {RABBITMQ_URL: "amqp://a:b@127.0.0.1:{port}", RABBITMQ_MANAGEMENT: "http://127.0.0.1:{port}"},
            f"{RABBITMQ_MANAGEMENT}: no answer",
        ),
    ],
    [
        ({PGBOUNCER_URL: "nonsense"}, f"{PGBOUNCER_URL}: expected postgresql://host/database"),
        ({PGBOUNCER_URL: "postgresql://127.0.0.1:{port}/test"}, f"{PGBOUNCER_URL}: no connection"),
    ],
    [
        ({REDIS_URL: "nonsense"}, f"{REDIS_URL}: expected redis://host:port/database"),
        ({REDIS_URL: "redis://127.0.0.1:{port}"}, f"{REDIS_URL}: expected redis://host:port/database"),
        ({REDIS_URL: "redis://127.0.0.1:{port}/0"}, f"{REDIS_URL}: no answer"),
    ],
]


@pytest.mark.parametrize("turn", range(max(map(len, WRONG))))
def test_a_wrong_address_is_one_line_and_status_2(turn: int, tmp_path: Path) -> None:
    """The line names the variable and what was expected; there is no traceback, and none hides another."""
    cases = [of_service[turn] for of_service in WRONG if turn < len(of_service)]
    environment = {name: value for settings, _ in cases for name, value in settings.items()}
    port = free_port()
    done = prepare(**{name: value.format(port=port, tmp=tmp_path) for name, value in environment.items()})
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == len(cases)
    for (_, said), line in zip(cases, lines, strict=True):
        assert line.startswith(said)


def test_a_replaced_file_comes_back_with_text_and_mode(tmp_path: Path) -> None:
    """A file that was there is there again, even when the installation fails."""
    policy = tmp_path / "policy"
    policy.write_text("old")
    policy.chmod(0o750)

    def fail() -> None:
        with replaced(policy, "new", mode=0o755):
            assert policy.read_text() == "new"
            raise RuntimeError("installation failed")

    with pytest.raises(RuntimeError, match="installation failed"):
        fail()
    assert policy.read_text() == "old"
    assert policy.stat().st_mode & 0o777 == 0o750
    assert list(tmp_path.iterdir()) == [policy]


def test_a_file_that_was_not_there_is_gone_again(tmp_path: Path) -> None:
    """Folders may stay, the file does not."""
    drop_in = tmp_path / "made" / "drop-in"
    with replaced(drop_in, "new"):
        assert drop_in.read_text() == "new"
    assert not drop_in.exists()


def test_what_would_start_at_boot_is_found_and_nothing_else(tmp_path: Path) -> None:
    """Links of systemd and of init scripts are found for the services that our packages bring, and for no other."""
    ours = [
        "etc/systemd/system/multi-user.target.wants/rabbitmq-server.service",
        "etc/systemd/system/sockets.target.wants/epmd.socket",
        "etc/rc3.d/S01pgbouncer",
        "etc/rc3.d/S01redis-server",
    ]
    others = [
        "etc/systemd/system/multi-user.target.wants/ssh.service",
        "etc/systemd/system/multi-user.target.wants/not-pgbouncer.service",
        "etc/rc3.d/K01pgbouncer",
        "etc/rc3.d/S01postfix",
    ]
    for name in ours + others:
        link = tmp_path / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.touch()
    assert boot_links(tmp_path) == {tmp_path / name for name in ours}


def test_a_unit_is_disabled_where_systemd_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare container has no `systemctl`: the links that packages made are gone all the same, others stay."""
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    for name in ("rabbitmq-server.service", "redis-server.service", "epmd.service", "ssh.service"):
        (wants / name).symlink_to(f"/lib/systemd/system/{name}")
    monkeypatch.setenv("PATH", str(tmp_path))
    disable(boot_links(tmp_path))
    assert [link.name for link in wants.iterdir()] == ["ssh.service"]
