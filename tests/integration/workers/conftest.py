"""`office`, `chunks`: a worker on each database, with a scripted server;
no final dot may have left without its record.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mailfleet import registry
from mailfleet.failpoints import disarm
from tests.integration.workers.office import Office


@pytest.fixture
def office(engine: Engine, tmp_path: Path) -> Iterator[Office]:
    """A worker that records one mail at a time."""
    one = Office(engine, tmp_path)
    yield one
    _end(one)


@pytest.fixture
def chunks(engine: Engine, tmp_path: Path) -> Iterator[Office]:
    """A worker that records eight mails at once."""
    one = Office(engine, tmp_path, chunk=8)
    yield one
    _end(one)


def _end(one: Office) -> None:
    disarm()
    registry.forget()
    one.connections.close()
    one.journal.close()
    assert one.violations == []
