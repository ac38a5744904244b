"""The way of a mail through PostgreSQL, RabbitMQ and worker processes of its own app."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailfleet import Mail
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage


@pytest.fixture
def stage(tmp_path: Path, postgres_url: str, rabbitmq: VirtualHost) -> Iterator[Stage]:
    with Stage(tmp_path, postgres_url, rabbitmq.url) as stage:
        yield stage


def test_two_apps_with_pools_of_their_own(stage: Stage) -> None:
    """Mail of two apps is sent by the two pools that one parent runs, each once; the drain is clean."""
    parent = stage.parent("billing", "crm", "--processes", "1", ready=2)
    for app in ("billing", "crm"):
        stage.mailer(app).emit_many(
            [Mail(to=[f"{n}@example.net"], subject=f"{app} {n}", text="Hello") for n in range(20)]
        )
    stage.wait_states({"sent": 40}, 30)

    assert stage.copies() == Counter({f"{app} {n}": 1 for app in ("billing", "crm") for n in range(20)})
    assert parent.stop() == 0
