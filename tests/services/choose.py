"""Where a service for tests comes from: the decision, and the facts that it rests on.

The order: what a variable names; programs on this machine; Debian packages, which `install` fetches when we are root;
a running Docker engine. If all fail, a test that needs the service fails with one message that says how to get it.
Nothing is ever skipped.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, assert_never

from tests.services import containers, debian, external
from tests.services.locate import (
    OLDEST_POSTGRES,
    OLDEST_RABBITMQ,
    OLDEST_REDIS,
    Binaries,
    find_pgbouncer,
    find_postfix,
    find_postgres,
    find_rabbitmq,
    find_redis,
)


class Versioned(Protocol):
    """A server that was reached."""

    @property
    def version(self) -> str:
        """As the server says it."""
        ...


@dataclass(frozen=True)
class Named:
    """A variable names a server that runs already."""

    url: str


@dataclass(frozen=True)
class OnMachine:
    """The programs are here and we may start them."""

    binaries: Binaries


@dataclass(frozen=True)
class DebianPackage:
    """Not here yet, but we may install it."""

    package: str


@dataclass(frozen=True)
class Container:
    """Not here, but a Docker engine runs."""


@dataclass(frozen=True)
class Missing:
    """Nowhere; `message` says what was looked for and what helps."""

    message: str


Source = Named | OnMachine | DebianPackage | Container | Missing


@dataclass(frozen=True)
class Wanted:
    """What is known about a service in general.

    Attributes:
        name: for messages.
        find: looks for its programs on this machine.
        variable: names a running server.
        package: Debian's.
        named: tries the server that `variable` names; MissingServiceError where it does not do.
        fetch: has the Docker image here; StartError where it cannot be had.
        oldest: the first version that will do; () for any.
        needs_root: it can be started by root only.
    """

    name: str
    find: Callable[[], Binaries | None]
    variable: str
    package: str
    named: Callable[[str], Versioned]
    fetch: Callable[[], None]
    oldest: tuple[int, ...] = ()
    needs_root: bool = False


@dataclass(frozen=True)
class Facts:
    """What is known about this machine."""

    url: str | None
    binaries: Binaries | None
    root: bool
    debian_installs: bool
    docker: bool


POSTGRES = Wanted(
    name="PostgreSQL",
    find=find_postgres,
    variable=external.POSTGRES_URL,
    package="postgresql",
    named=external.ExternalPostgres,
    fetch=containers.fetch_postgres,
    oldest=(OLDEST_POSTGRES,),
)
POSTFIX = Wanted(
    name="Postfix",
    find=find_postfix,
    variable=external.POSTFIX_URL,
    package="postfix",
    named=external.named_postfix,
    fetch=containers.fetch_postfix,
    needs_root=True,
)
RABBITMQ = Wanted(
    name="RabbitMQ",
    find=find_rabbitmq,
    variable=external.RABBITMQ_URL,
    package="rabbitmq-server",
    named=external.named_rabbitmq,
    fetch=containers.fetch_rabbitmq,
    oldest=OLDEST_RABBITMQ,
)
PGBOUNCER = Wanted(
    name="PgBouncer",
    find=find_pgbouncer,
    variable=external.PGBOUNCER_URL,
    package="pgbouncer",
    named=external.ExternalPgBouncer,
    fetch=containers.fetch_pgbouncer,
)
REDIS = Wanted(
    name="Redis",
    find=find_redis,
    variable=external.REDIS_URL,
    package="redis-server",
    named=external.ExternalRedis,
    fetch=containers.fetch_redis,
    oldest=OLDEST_REDIS,
)
#: Everything that tests need, in the order in which it is prepared.
SERVICES = (POSTGRES, POSTFIX, RABBITMQ, PGBOUNCER, REDIS)


def decide(wanted: Wanted, facts: Facts) -> Source:
    """The first source that can work."""
    if facts.url:
        return Named(facts.url)
    if facts.binaries is None:
        obstacle = "no such server on this machine"
    elif facts.binaries.parts < wanted.oldest:
        obstacle = f"{facts.binaries.directory} has {facts.binaries.version}"
    elif wanted.needs_root and not facts.root:
        obstacle = f"{facts.binaries.directory} has {facts.binaries.version}, but only root can start it"
    else:
        return OnMachine(facts.binaries)
    # An installed version that is too old is what this Debian has; asking again would give the same.
    if facts.binaries is None and facts.debian_installs:
        return DebianPackage(wanted.package)
    if facts.docker:
        return Container()
    version = f" >= {'.'.join(map(str, wanted.oldest))}" if wanted.oldest else ""
    root = " and run as root" if wanted.needs_root else ""
    return Missing(
        f"tests need {wanted.name}{version}: {obstacle}. Install it{root} (Debian: apt-get install {wanted.package}),"
        f" or start a Docker engine, or name a running server in {wanted.variable}."
    )


def facts(wanted: Wanted, *, may_install: bool) -> Facts:
    """Look at this machine and at the environment."""
    return Facts(
        url=os.environ.get(wanted.variable) or None,
        binaries=wanted.find(),
        root=os.geteuid() == 0,
        debian_installs=may_install and debian.can_install(),
        docker=containers.engine_answers(),
    )


def describe(wanted: Wanted) -> str:
    """One line for the head of a test report."""
    source = decide(wanted, facts(wanted, may_install=False))
    match source:
        case Named():
            return f"{wanted.name}: the server in {wanted.variable}"
        case OnMachine(binaries):
            return f"{wanted.name}: {binaries.version} from {binaries.directory}"
        case Container():
            return f"{wanted.name}: a Docker container"
        case DebianPackage() | Missing():
            return f"{wanted.name}: missing"
        case _:
            assert_never(source)


def advice(source: DebianPackage | Missing) -> str:
    """What to do about a service that is not here."""
    match source:
        case DebianPackage(package):
            return f"tests need Debian's package {package}; `make test` installs it."
        case Missing(message):
            return message
        case _:
            assert_never(source)
