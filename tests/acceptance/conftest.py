"""`breakable`: a broker that a test may kill, stop or alarm, and a virtual host of it as `breakable_host`."""

from collections.abc import Iterator

import pytest

from tests.services.base import MissingServiceError
from tests.services.opening import open_rabbitmq
from tests.services.rabbitmq import PrivateRabbit
from tests.services.virtual_host import VirtualHost


@pytest.fixture(scope="module")
def breakable_server() -> Iterator[PrivateRabbit]:
    """One for each module, because starting takes seconds."""
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
