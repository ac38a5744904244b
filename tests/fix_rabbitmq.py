"""`rabbitmq_server`: one broker for the session, started on first use; `rabbitmq`: a virtual host and a user per test.

With pytest-xdist each worker has a broker of its own. A missing broker fails the test that asked for it.
"""

from collections.abc import Iterator

import pytest

from tests.services.base import MissingServiceError, RabbitServer
from tests.services.choose import RABBITMQ, describe
from tests.services.opening import open_rabbitmq
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
