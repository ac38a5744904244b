"""Where a service comes from."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.services.choose import (
    PGBOUNCER,
    POSTFIX,
    POSTGRES,
    RABBITMQ,
    REDIS,
    Container,
    DebianPackage,
    Facts,
    Missing,
    Named,
    OnMachine,
    Source,
    Wanted,
    decide,
)
from tests.services.locate import Binaries

NEW = Binaries(Path("/opt/server/bin"), "16.2")
OLD = Binaries(Path("/opt/server/bin"), "14.11")
BARE = Facts(url=None, binaries=None, root=False, debian_installs=False, docker=False)


@pytest.mark.parametrize(
    ("wanted", "facts", "source"),
    [
        pytest.param(
            POSTGRES,
            Facts(url="postgresql://h/d", binaries=NEW, root=True, debian_installs=True, docker=True),
            Named("postgresql://h/d"),
            id="a named server wins over everything",
        ),
        pytest.param(
            POSTGRES,
            Facts(url=None, binaries=NEW, root=True, debian_installs=True, docker=True),
            OnMachine(NEW),
            id="programs on the machine come next",
        ),
        pytest.param(
            POSTGRES,
            Facts(url=None, binaries=None, root=True, debian_installs=True, docker=True),
            DebianPackage("postgresql"),
            id="then Debian's package",
        ),
        pytest.param(POSTGRES, replace(BARE, docker=True), Container(), id="then Docker"),
        pytest.param(
            POSTGRES,
            Facts(url=None, binaries=OLD, root=True, debian_installs=True, docker=True),
            Container(),
            id="too old is not asked for again",
        ),
        pytest.param(
            POSTFIX, replace(BARE, binaries=NEW, root=True), OnMachine(NEW), id="root starts Postfix"
        ),
        pytest.param(
            POSTFIX,
            replace(BARE, binaries=NEW, docker=True),
            Container(),
            id="others need Docker for Postfix",
        ),
        pytest.param(
            RABBITMQ,
            replace(BARE, binaries=Binaries(Path("/opt/server/bin"), "3.10.8")),
            OnMachine(Binaries(Path("/opt/server/bin"), "3.10.8")),
            id="anybody starts RabbitMQ",
        ),
        pytest.param(
            RABBITMQ,
            replace(BARE, binaries=Binaries(Path("/opt/server/bin"), "3.9.13"), docker=True),
            Container(),
            id="a RabbitMQ without expiring messages in quorum queues will not do",
        ),
        pytest.param(
            PGBOUNCER,
            replace(BARE, debian_installs=True),
            DebianPackage("pgbouncer"),
            id="PgBouncer is one package",
        ),
        pytest.param(
            REDIS,
            replace(BARE, binaries=Binaries(Path("/opt/server/bin"), "6.2.14"), docker=True),
            Container(),
            id="a Redis that is out of its makers' care will not do",
        ),
    ],
)
def test_the_first_source_that_works_is_taken(wanted: Wanted, facts: Facts, source: Source) -> None:
    """Sources are tried in one order, and each only where it can work."""
    assert decide(wanted, facts) == source


@pytest.mark.parametrize(
    ("wanted", "facts", "words"),
    [
        (
            POSTGRES,
            BARE,
            ["PostgreSQL >= 15", "no such server", "apt-get install postgresql", POSTGRES.variable],
        ),
        (POSTGRES, replace(BARE, binaries=OLD), ["PostgreSQL >= 15", "/opt/server/bin has 14.11"]),
        (POSTFIX, replace(BARE, binaries=NEW), ["Postfix", "only root can start it", POSTFIX.variable]),
        (RABBITMQ, BARE, ["RabbitMQ >= 3.10", "apt-get install rabbitmq-server", RABBITMQ.variable]),
        (REDIS, BARE, ["Redis >= 7.0", "apt-get install redis-server", REDIS.variable]),
        (PGBOUNCER, BARE, ["PgBouncer:", "apt-get install pgbouncer", PGBOUNCER.variable]),
    ],
)
def test_a_missing_service_is_named_with_what_helps(wanted: Wanted, facts: Facts, words: list[str]) -> None:
    """The message names the service, what was found, and each way to get it, on one line."""
    source = decide(wanted, facts)
    assert isinstance(source, Missing)
    assert [word for word in words if word not in source.message] == []
    assert "\n" not in source.message


@pytest.mark.parametrize(
    ("version", "parts"),
    [
        ("15.18", (15, 18)),
        ("3.7.11", (3, 7, 11)),
        ("17rc1", (17, 1)),
        ("16.2 (Debian 16.2-1)", (16, 2, 16, 2, 1)),
    ],
)
def test_versions_compare_by_their_numbers(version: str, parts: tuple[int, ...]) -> None:
    """9.10 is newer than 9.9, which text would deny."""
    assert Binaries(Path("/x"), version).parts == parts
    assert Binaries(Path("/x"), "9.10").parts > Binaries(Path("/x"), "9.9").parts
