"""`redis_url`: an empty database per test; `redis_server`: the same one's server, which a test may break.

One server for the session, started on first use; with pytest-xdist each worker has a server of its own. A missing server
fails the test that asked for it.
"""

from collections.abc import Iterator

import pytest

from tests.services.base import MissingServiceError, RedisServer
from tests.services.choose import REDIS, describe
from tests.services.opening import open_redis
from tests.services.redis import PrivateRedis


def pytest_report_header() -> str:
    """Which Redis the tests will use."""
    return describe(REDIS)


@pytest.fixture(scope="session")
def session_redis() -> Iterator[RedisServer]:
    """A Redis for all tests, which find in it what others left."""
    try:
        server = open_redis()
    except MissingServiceError as missing:
        pytest.fail(str(missing), pytrace=False)
    yield server
    server.stop()


@pytest.fixture
def redis_url(session_redis: RedisServer) -> str:
    """`redis://host:port/database`, without a key in it."""
    session_redis.clear()
    return session_redis.url


@pytest.fixture
def redis_server(session_redis: RedisServer) -> Iterator[PrivateRedis]:
    """It may be killed, frozen, paused and given other settings: afterwards it is mended."""
    if not isinstance(session_redis, PrivateRedis):
        pytest.fail("this test breaks Redis, so it needs the program on this machine", pytrace=False)
    session_redis.clear()
    yield session_redis
    session_redis.mend()
