"""`rabbitmq_server`: one broker for the session, started on first use; `rabbitmq`: a virtual host and a user per test.

`breakable`: another one for the session, which a test may kill, stop or alarm; `breakable_host`: a virtual host of it.

With pytest-xdist each worker has a broker of its own. A missing broker fails the test that asked for it.
"""

from collections.abc import Iterator

import pytest

from tests.services.base import MissingServiceError, RabbitServer
from tests.services.choose import RABBITMQ, describe
from tests.services.opening import open_rabbitmq
from tests.services.rabbitmq import PrivateRabbit
from tests.services.virtual_host import VirtualHost


def pytest_report_header() -> str:
    """Which RabbitMQ the tests will use."""
    return describe(RABBITMQ)


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitServer]:
    """A broker with its management API and an administrator."""
    try:
        server = open_rabbitmq()
    except MissingServiceError as missing:
        pytest.fail(str(missing), pytrace=False)
    yield server
    server.stop()


@pytest.fixture
def rabbitmq(rabbitmq_server: RabbitServer) -> Iterator[VirtualHost]:
    """An empty virtual host with a user of its own, deleted after the test together with whoever is still connected."""
    with rabbitmq_server.vhost() as host:
        yield host


@pytest.fixture(scope="session")
def breakable_server() -> Iterator[PrivateRabbit]:
    """One for all, because starting takes seconds."""
    try:
        server = open_rabbitmq()
    except MissingServiceError as missing:
        pytest.fail(str(missing), pytrace=False)
    if not isinstance(server, PrivateRabbit):
        server.stop()
        pytest.fail("this test breaks RabbitMQ, so it needs the programs on this machine", pytrace=False)
    yield server
    server.stop()


@pytest.fixture
def breakable(breakable_server: PrivateRabbit) -> Iterator[PrivateRabbit]:
    """Whoever breaks it mends it; a test that failed before it could does not take the others with it."""
    yield breakable_server
    if not breakable_server.running:
        breakable_server.restart()


@pytest.fixture
def breakable_host(breakable: PrivateRabbit) -> Iterator[VirtualHost]:
    """An empty virtual host of the broker that may be broken."""
    with breakable.vhost() as host:
        yield host
