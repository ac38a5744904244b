"""`endpoint`: a server that is told; no request of a test may have a wrong signature. `bench`: rows in either database."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tests.conformance.statements.bench import Bench
from tests.integration.webhooks.endpoint import Endpoint


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    one = Endpoint()
    yield one
    one.close()
    assert one.violations == []


@pytest.fixture
def bench(engine: Engine) -> Bench:
    return Bench(engine)
