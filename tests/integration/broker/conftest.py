"""`breakable`: a broker that a test may kill, hang or alarm; `quick`: consumers come back at once, not in three seconds."""

from collections.abc import Iterator

import dramatiq.worker
import pytest

from tests.services.base import MissingServiceError
from tests.services.opening import open_rabbitmq
from tests.services.rabbitmq import PrivateRabbit


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
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait of dramatiq before it makes another consumer is not what a test is about."""
    monkeypatch.setattr(dramatiq.worker, "CONSUMER_RESTART_DELAY_SECS", 0.2)
