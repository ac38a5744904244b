"""`breakable`: a broker that a test may kill, hang or alarm; `quick`: consumers come back at once, not in three seconds.

`patient`: publishing may take longer than two seconds, where a test is not about that. A busy machine needs longer to
declare everything in an empty virtual host.
"""

from collections.abc import Iterator

import dramatiq.worker
import pytest

from tests.integration.broker.reader import Reader
from tests.services.base import MissingServiceError
from tests.services.opening import open_rabbitmq
from tests.services.rabbitmq import PrivateRabbit
from tests.services.virtual_host import VirtualHost


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
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait of dramatiq before it makes another consumer is not what a test is about."""
    monkeypatch.setattr(dramatiq.worker, "CONSUMER_RESTART_DELAY_SECS", 0.2)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time enough for a publish that declares first."""
    monkeypatch.setattr("mailfleet.broker.rabbit.broker.PUBLISH_S", 20.0)


@pytest.fixture
def topology(rabbitmq: VirtualHost) -> None:
    """Everything for hints of `billing` in the test's virtual host."""
    with Reader(rabbitmq.url):
        pass
