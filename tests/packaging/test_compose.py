"""docker-compose.yml: right by the compose specification, and as careful as docs/deploy.md says."""

import json
import os
import re
import shutil
import stat
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from sqlalchemy import make_url

from mailfleet.broker.rabbit.parameters import parse_broker_url
from mailfleet_workers.settings import Settings
from mailfleet_workers.settings.redis import check_redis
from mailfleet_workers.settings.timing import TimingSettings
from tests.packaging.layout import ROOT
from tests.stack.compose import Service, load, services

DOCUMENT = load()
SERVICES = services(DOCUMENT)
OURS = [one for one in SERVICES.values() if one.ours]
POOLS = [one for one in OURS if one.command[:2] == ("mailfleet", "worker")]
COMPOSE = ROOT / "deploy/compose"


def by_name(service: Service) -> str:
    """For the names of parametrized tests."""
    return service.name


def test_it_is_right_by_the_specification() -> None:
    """The schema that the compose specification publishes finds nothing."""
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(DOCUMENT)] == []
    # A schema that takes everything would say the same.
    assert list(validator.iter_errors({"services": {"shop": {"imag": "mailfleet"}}}))


def test_everything_that_was_asked_for_is_there() -> None:
    """The servers, the catcher, the migration, two applications and a pool for each."""
    assert set(SERVICES) == {
        *("postgres", "rabbitmq", "redis", "catcher", "migrate"),
        *("shop", "billing", "shop-workers", "billing-workers"),
    }
    assert SERVICES["rabbitmq"].raw["image"].endswith("-management")
    assert [one.command for one in POOLS] == [
        ("mailfleet", "worker", "shop"),
        ("mailfleet", "worker", "billing"),
    ]


def test_pools_scale() -> None:
    """No name and no port of the host stands in the way of a second container, and no journal is shared."""
    for pool in POOLS:
        assert "container_name" not in pool.raw
        assert all(port.usual is None and port.variable is None for port in pool.ports)
        assert [volume.get("source") for volume in pool.raw["volumes"]] == [None]


def test_a_pool_may_drain() -> None:
    """Containers and units get more time than the settings and a parent's patience give to what is at the final dot."""
    drain_s = Settings.load({}, COMPOSE / "mailfleet.toml").timing.drain_s
    assert all(pool.stop_s >= drain_s + 15 for pool in POOLS)
    for unit in units():
        (patience,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.MULTILINE)
        assert int(patience) >= TimingSettings().drain_s + 15


@pytest.mark.parametrize("service", SERVICES.values(), ids=by_name)
def test_every_service_is_bounded_and_watched(service: Service) -> None:
    """Each has limits and a restart policy, and whatever goes on has a health check."""
    limits = service.raw["deploy"]["resources"]["limits"]
    assert {"cpus", "memory", "pids"} <= set(limits)
    if service.name == "migrate":
        assert service.raw["restart"] == "no"
    else:
        assert service.raw["restart"] == "unless-stopped"
        assert service.health


@pytest.mark.parametrize("service", OURS, ids=by_name)
def test_ours_run_with_nothing_to_spare(service: Service) -> None:
    """A read-only root, no capabilities, no new privileges, and a first process that reaps."""
    assert service.raw["read_only"] is True
    assert service.raw["cap_drop"] == ["ALL"]
    assert service.raw["security_opt"] == ["no-new-privileges:true"]
    assert service.raw["init"] is True
    assert "privileged" not in service.raw
    assert "user" not in service.raw, "the image's own user is the one without rights"


def test_the_migration_comes_first() -> None:
    """Whoever uses the tables and queues waits until they are made, and that waits until the servers are healthy."""
    users = [one for one in OURS if "database_url" in one.raw.get("secrets", ()) and one.name != "migrate"]
    assert len(users) == 4
    assert {one.depends_on["migrate"] for one in users} == {"service_completed_successfully"}
    assert SERVICES["migrate"].depends_on == {"postgres": "service_healthy", "rabbitmq": "service_healthy"}


def test_redis_forgets_nothing_by_itself_and_keeps_nothing() -> None:
    """Full, it refuses before the container's memory ends; it writes nothing to a disk; only workers may ask it."""
    redis = SERVICES["redis"]
    options = dict(option.removeprefix("--").split(" ", 1) for option in redis.command[2:])
    assert options["maxmemory-policy"] == "noeviction"
    assert (options["save"], options["appendonly"]) == ('""', "no")
    assert int(options["maxmemory"].removesuffix("mb")) < int(
        redis.raw["deploy"]["resources"]["limits"]["memory"].removesuffix("M")
    )
    assert not redis.ports
    assert "volumes" not in redis.raw
    users = {one.name for one in SERVICES.values() if "redis_url" in one.raw.get("secrets", ())}
    assert users == {pool.name for pool in POOLS}
    assert {one.environment["MAILFLEET_REDIS_URL"] for one in POOLS} == {"file:/run/secrets/redis_url"}


def test_secrets_are_files() -> None:
    """No variable, command or setting holds a password; every secret that is used is one that the script makes."""
    text = (ROOT / "docker-compose.yml").read_text()
    assert re.findall(r"(?i)pass(?:word)?[ \t]*[:=][ \t]*[^\s/]", text) == []
    assert re.findall(r"://[^\s/]*:[^\s/]*@", text) == []
    used = {
        secret if isinstance(secret, str) else secret["source"]
        for service in SERVICES.values()
        for secret in service.raw.get("secrets", ())
    }
    assert used == set(DOCUMENT["secrets"])
    assert {one["file"] for one in DOCUMENT["secrets"].values()} == {
        f"deploy/compose/secrets/{name}" for name in DOCUMENT["secrets"]
    }


def test_configurations_are_there() -> None:
    """Every file that is mounted exists, and every one that is declared is mounted."""
    assert [one["file"] for one in DOCUMENT["configs"].values() if not (ROOT / one["file"]).is_file()] == []
    used = {config["source"] for service in SERVICES.values() for config in service.raw.get("configs", ())}
    assert used == set(DOCUMENT["configs"])


def test_volumes_are_declared() -> None:
    """Every named volume is one of the file's, and the other way round."""
    used = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.raw.get("volumes", ())
        if isinstance(volume, str)
    }
    assert used == set(DOCUMENT["volumes"])


def test_the_settings_send_to_the_catcher_only() -> None:
    """The settings are valid, and every account's server is the service that keeps all mail."""
    settings = Settings.load({}, COMPOSE / "mailfleet.toml")
    assert {(one.host, one.port) for one in settings.accounts.values()} == {("catcher", 1025)}
    assert {pool.command[2] for pool in POOLS} == set(settings.apps)
    allowed = {name for app in settings.apps.values() for name in app.accounts}
    assert allowed == set(settings.accounts)


class TestSecrets:
    """deploy/compose/make-secrets, run in a copy."""

    @pytest.fixture
    def script(self, tmp_path: Path) -> Path:
        """A copy of the script in a directory of its own."""
        return Path(shutil.copy(COMPOSE / "make-secrets", tmp_path))

    def run(self, script: Path) -> subprocess.CompletedProcess[str]:
        """Run it from elsewhere."""
        return subprocess.run(
            [script], cwd="/", env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
        )

    def contents(self, script: Path) -> dict[str, str]:
        """What it made."""
        return {path.name: path.read_text() for path in (script.parent / "secrets").iterdir()}

    def test_every_secret_is_made(self, script: Path) -> None:
        """All files of docker-compose.yml, different each time, and nothing more."""
        assert self.run(script).returncode == 0
        first = self.contents(script)
        assert set(first) == set(DOCUMENT["secrets"])
        shutil.rmtree(script.parent / "secrets")
        self.run(script)
        assert all(value != first[name] for name, value in self.contents(script).items())

    def test_they_fit_together(self, script: Path) -> None:
        """The URLs hold the passwords that the servers are given, and name services of the file."""
        self.run(script)
        made = self.contents(script)
        database = make_url(made["database_url"].strip())
        assert (database.host, database.port) == ("postgres", 5432)
        assert f"{database.password}\n" == made["mailfleet_password"] != made["postgres_password"]
        broker = made["broker_url"].strip()
        parse_broker_url("broker_url", broker)
        login: dict[str, Any] = dict(line.split(" = ") for line in made["rabbitmq_login"].splitlines())
        assert broker == (
            f"amqp://{login['default_user']}:{login['default_pass']}@rabbitmq:5672/{login['default_vhost']}"
        )
        assert len(login["default_pass"]) == 32
        secret = made["redis_login"].removeprefix("requirepass ").strip()
        assert made["redis_url"] == f"redis://:{secret}@redis:6379/0\n"
        assert check_redis(made["redis_url"].strip())
        assert len(secret) == 32

    def test_others_on_the_machine_cannot_read_them(self, script: Path) -> None:
        """The directory is the owner's alone; the files can be read by whichever user a container has."""
        self.run(script)
        secrets = script.parent / "secrets"
        assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o644}

    def test_a_second_run_changes_nothing(self, script: Path) -> None:
        """The servers know the passwords by then."""
        self.run(script)
        made = self.contents(script)
        assert self.run(script).returncode == 0
        assert self.contents(script) == made

    @pytest.mark.parametrize("missing", [["redis_url"], ["redis_login", "redis_url"]])
    def test_those_of_redis_are_made_anew(self, script: Path, missing: list[str]) -> None:
        """A stack that was set up without Redis gets them, and keeps its other passwords."""
        self.run(script)
        made = self.contents(script)
        for name in missing:
            (script.parent / "secrets" / name).unlink()
        done = self.run(script)
        assert done.returncode == 0
        now = self.contents(script)
        assert {name for name in made if now[name] != made[name]} == {"redis_login", "redis_url"}

    def test_a_half_is_refused(self, script: Path) -> None:
        """With a file missing it stops and says so: a new password would lock us out."""
        self.run(script)
        (script.parent / "secrets/broker_url").unlink()
        made = self.contents(script)
        done = self.run(script)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert self.contents(script) == made


def units() -> list[Path]:
    """The systemd units."""
    found = sorted((ROOT / "deploy/systemd").glob("*.service"))
    assert [path.name for path in found] == ["mailfleet-worker@.service", "mailfleet-workers.service"]
    return found


def test_units_run_the_commands_of_pools() -> None:
    """One unit for an app, one for all, with what a drain, a crash and a journal need."""
    for unit, command in zip(units(), ("worker %i", "worker --all"), strict=True):
        lines = unit.read_text().splitlines()
        assert f"ExecStart=/opt/mailfleet/bin/mailfleet {command}" in lines
        assert {"KillSignal=SIGTERM", "KillMode=mixed", "Restart=on-failure", "OOMPolicy=continue"} <= set(
            lines
        )
        assert [line for line in lines if line.startswith("StateDirectory=")]
        # It would hide the boot's id, by which a journal is dated.
        assert not [line for line in lines if line.startswith("ProcSubset=")]
