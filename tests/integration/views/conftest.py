"""`read`: a read-only connection to the database of `engine`."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine


@pytest.fixture
def read(engine: Engine) -> Iterator[Connection]:
    """Each statement sees what is committed then."""
    options = {"mailfleet_read_only": True, "isolation_level": "AUTOCOMMIT"}
    with engine.connect().execution_options(**options) as connection:
        yield connection
