"""The stack by a Docker engine: docker-compose.yml as it stands."""

import shutil
import subprocess
import textwrap

from tests.stack.compose import ROOT

COMPOSE = ("docker", "compose", "--project-directory", str(ROOT))


def available() -> bool:
    """Whether an engine runs here that has the compose plugin."""
    if not shutil.which("docker"):
        return False
    try:
        return all(
            subprocess.run(command, check=False, capture_output=True, timeout=10).returncode == 0
            for command in (["docker", "version"], ["docker", "compose", "version"])
        )
    except subprocess.TimeoutExpired:
        return False


def up() -> int:
    """Build, start, and return once everything is healthy; the status of what failed."""
    for command in (
        [str(ROOT / "deploy/compose/make-secrets")],
        [*COMPOSE, "up", "--build", "--detach", "--wait"],
    ):
        if status := subprocess.run(command, check=False, cwd=ROOT).returncode:
            return status
    print(addresses())
    return 0


def down() -> int:
    """End everything; the volumes are kept."""
    return subprocess.run([*COMPOSE, "down"], check=False, cwd=ROOT).returncode


def status() -> int:
    """What compose says, and 1 if it says nothing of healthy services."""
    return subprocess.run([*COMPOSE, "ps"], check=False, cwd=ROOT).returncode


def published(service: str, port: int) -> str:
    """`host:port` of a service's port, empty if it is not published."""
    done = subprocess.run(
        [*COMPOSE, "port", service, str(port)], check=False, capture_output=True, text=True, cwd=ROOT
    )
    return done.stdout.strip()


def addresses() -> str:
    """Where to look, for a person."""
    login = dict(
        line.split(" = ", 1)
        for line in (ROOT / "deploy/compose/secrets/rabbitmq_login").read_text().splitlines()
    )
    return textwrap.dedent(f"""
        caught mail      http://{published("catcher", 8025)}
        RabbitMQ         http://{published("rabbitmq", 15672)}   user {login["default_user"]}, password {login["default_pass"]}
        metrics          http://{published("shop-workers", 9402)}/metrics, http://{published("billing-workers", 9402)}/metrics
        database         {published("postgres", 5432)}, the URL's password is in deploy/compose/secrets/mailfleet_password

        A first mail:    docker compose exec shop-workers mailfleet send --app shop --to ada@example.net --subject Hello --text Hi
        More workers:    docker compose up --detach --scale billing-workers=3
        The end:         make down
    """)
