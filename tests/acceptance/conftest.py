"""`breakable`: a broker that a test may kill, stop or alarm, and a virtual host of it as `breakable_host`."""

from collections.abc import Iterator

import pytest

from tests.services.base import MissingServiceError
from tests.services.opening import open_rabbitmq
from tests.services.rabbitmq import PrivateRabbit
from tests.services.virtual_host import VirtualHost


@pytest.fixture(scope="module")
def breakable() -> Iterator[PrivateRabbit]:
    """One for each module, because starting takes seconds; whoever breaks it mends it."""
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
def breakable_host(breakable: PrivateRabbit) -> Iterator[VirtualHost]:
    """An empty virtual host of the broker that may be broken."""
    with breakable.vhost() as host:
        yield host
