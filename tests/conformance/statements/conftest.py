"""`bench`: the same test in SQLite and in PostgreSQL."""

import pytest
from sqlalchemy import Engine

from tests.conformance.statements.bench import Bench


@pytest.fixture
def bench(engine: Engine) -> Bench:
    """A bench on an empty database of each dialect."""
    return Bench(engine)


@pytest.fixture
def postgres_bench(postgres_engine: Engine) -> Bench:
    """A bench on PostgreSQL, where transactions really run side by side."""
    return Bench(postgres_engine)
