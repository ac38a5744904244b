"""`endpoint`: a token endpoint for one test."""

from collections.abc import Iterator

import pytest

from tests.stage.token_endpoint import TokenEndpoint


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    with TokenEndpoint() as endpoint:
        yield endpoint
