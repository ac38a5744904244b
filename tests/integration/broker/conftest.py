"""`quick`: consumers come back at once, not in three seconds.

`patient`: publishing may take longer than two seconds, where a test is not about that. A busy machine needs longer to
declare everything in an empty virtual host.
"""

import dramatiq.worker
import pytest

from tests.integration.broker.reader import Reader
from tests.services.virtual_host import VirtualHost


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
