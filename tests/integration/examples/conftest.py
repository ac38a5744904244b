"""`directory`, `database_url`, `virtual_host`: what a Stage needs, once for each module, because workers start slowly."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_postgres import drop_database
from tests.fix_schema import copy_of_template
from tests.services.base import PostgresServer, RabbitServer
from tests.services.virtual_host import VirtualHost


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty directory."""
    return tmp_path_factory.mktemp("stage")


@pytest.fixture(scope="module")
def database_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """SQLAlchemy's address of a migrated, empty database."""
    name = copy_of_template(postgres_server, postgres_template)
    yield postgres_server.url(name)
    drop_database(postgres_server, name)


@pytest.fixture(scope="module")
def virtual_host(rabbitmq_server: RabbitServer) -> Iterator[VirtualHost]:
    """An empty virtual host."""
    with rabbitmq_server.vhost() as host:
        yield host
