"""A hall for the tests of connections that are open by right."""

from collections.abc import Iterator

import pytest

from mailfleet_workers.catcher import Catcher, MemoryStore
from tests.integration.smtp.hall import Hall


@pytest.fixture
def hall() -> Iterator[Hall]:
    with Catcher(MemoryStore()) as catcher:
        one = Hall(catcher)
        yield one
        one.pool.close()
    assert catcher.faults == ()
