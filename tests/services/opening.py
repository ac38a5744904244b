"""Opens a service for tests from wherever `choose` says it comes from. Nothing is installed here.

Each function returns once the service answers, and the caller calls its `stop` when done. Each raises
`MissingServiceError` where there is no such service or the one that a variable names does not do, and `StartError`
where there is one that does not start.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, assert_never

from tests.services import containers, external
from tests.services.base import MissingServiceError, PostfixServer, PostgresServer, RabbitServer, RedisServer
from tests.services.choose import (
    PGBOUNCER,
    POSTFIX,
    POSTGRES,
    RABBITMQ,
    REDIS,
    Container,
    DebianPackage,
    Missing,
    Named,
    OnMachine,
    Wanted,
    advice,
    decide,
    facts,
)
from tests.services.locate import Binaries
from tests.services.pgbouncer import PrivatePgBouncer
from tests.services.postfix import PrivatePostfix
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbit
from tests.services.redis import PrivateRedis

Server = TypeVar("Server")


@dataclass(frozen=True)
class Ways(Generic[Server]):
    """How one service is opened, given where it comes from."""

    named: Callable[[str], Server]
    on_machine: Callable[[Binaries], Server]
    container: Callable[[], Server]


def open_postgres() -> PostgresServer:
    """A server with a role that may create databases."""
    ways = Ways[PostgresServer](
        named=external.ExternalPostgres,
        on_machine=lambda binaries: PrivatePostgres(binaries, durable=False).start(),
        container=lambda: containers.ContainerPostgres().start(),
    )
    return _open(POSTGRES, ways)


def open_postfix() -> PostfixServer:
    """A server that takes mail."""
    ways = Ways[PostfixServer](
        named=external.named_postfix,
        on_machine=lambda binaries: PrivatePostfix(binaries).start(),
        container=lambda: containers.ContainerPostfix().start(),
    )
    return _open(POSTFIX, ways)


def open_rabbitmq() -> RabbitServer:
    """A broker with its management API."""
    ways = Ways[RabbitServer](
        named=external.named_rabbitmq,
        on_machine=lambda binaries: PrivateRabbit(binaries).start(),
        container=lambda: containers.ContainerRabbit().start(),
    )
    return _open(RABBITMQ, ways)


def open_redis() -> RedisServer:
    """A Redis with an empty database."""
    ways = Ways[RedisServer](
        named=external.ExternalRedis,
        on_machine=lambda binaries: PrivateRedis(binaries).start(),
        container=lambda: containers.ContainerRedis().start(),
    )
    return _open(REDIS, ways)


def open_pgbouncer(server: PostgresServer) -> PostgresServer:
    """A pooler in front of *server*, which must outlive it."""
    ways = Ways[PostgresServer](
        named=lambda url: external.ExternalPgBouncer(url).checked_against(server),
        on_machine=lambda binaries: PrivatePgBouncer(binaries, server).start(),
        container=lambda: containers.ContainerPgBouncer(server).start(),
    )
    return _open(PGBOUNCER, ways)


def _open(wanted: Wanted, ways: Ways[Server]) -> Server:
    source = decide(wanted, facts(wanted, may_install=False))
    match source:
        case Named(url):
            return ways.named(url)
        case OnMachine(binaries):
            return ways.on_machine(binaries)
        case Container():
            return ways.container()
        case DebianPackage() | Missing():
            raise MissingServiceError(advice(source))
        case _:
            assert_never(source)
