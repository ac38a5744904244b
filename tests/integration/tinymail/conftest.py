"""`office`: a room for one test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.tinymail.room import Room, room


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Room]:
    with room(tmp_path) as office:
        yield office
