"""Where Redis is: which URLs are taken, and that each means to the client what it says."""

from typing import Any

import pytest
from pydantic_core import PydanticCustomError
from redis import ConnectionPool

from mailfleet_workers.settings import Settings
from mailfleet_workers.settings.redis import check_redis

GOOD: dict[str, dict[str, Any]] = {
    "redis://h": {"host": "h"},
    "redis://h/": {"host": "h"},
    "redis://h:6380/3": {"host": "h", "port": 6380, "db": 3},
    "redis://[::1]:6379/0": {"host": "::1", "port": 6379, "db": 0},
    "redis://h?db=2": {"host": "h", "db": 2},
    "redis://u:p%2Fq@h/0": {"host": "h", "username": "u", "password": "p/q", "db": 0},
    "rediss://:p@h/0?ssl_ca_certs=/etc/ca.pem": {
        "host": "h",
        "password": "p",
        "db": 0,
        "ssl_ca_certs": "/etc/ca.pem",
    },
    "unix:///run/redis.sock": {"path": "/run/redis.sock"},
    "unix://u@/run/redis.sock?db=1&password=p": {
        "path": "/run/redis.sock",
        "username": "u",
        "password": "p",
        "db": 1,
    },
}

KEYS = {"host", "port", "path", "db", "username", "password", "ssl_ca_certs"}

BAD = [
    "",
    "h:6379",
    "http://h",
    "redis://",
    "redis:///0",
    "redis://h:0",
    "redis://h:port",
    "redis://h:70000/0",
    "redis://h/zero",
    "redis://h/0/1",
    "redis://h/-1",
    "redis://h/0#x",
    "redis://h/0?db",
    "redis://h?ssl_ca_certs=/ca.pem",
    "redis://h/0?socket_timeout=1",
    "rediss://h/0?ssl_cert_reqs=none",
    "rediss://h/0?ssl_check_hostname=false",
    "unix://",
    "unix:///?db=1",
    "unix:///run/redis.sock?db=x",
    "sentinel://h/0",
]


@pytest.mark.parametrize("url", GOOD)
def test_a_url_means_to_the_client_what_it_says(url: str) -> None:
    """What is taken is read by the client as written: host, port, database, login."""
    assert check_redis(url) == url
    pool: Any = ConnectionPool.from_url(url)
    read = {key: value for key, value in pool.connection_kwargs.items() if key in KEYS}
    assert read == GOOD[url]


@pytest.mark.parametrize("url", BAD)
def test_what_the_client_would_misread_is_refused(url: str) -> None:
    """No URL of Redis, or words in it that the client drops, or that would turn off what TLS verifies."""
    with pytest.raises(PydanticCustomError) as caught:
        check_redis(url)
    assert "redis://user:password@host:6379/0" in str(caught.value.context)


def test_settings_have_it_with_postgresql() -> None:
    """Beside PostgreSQL it is taken, and no repr shows it."""
    url = "redis://:hunter2@h/0"
    settings = Settings(database_url="postgresql://h/d", redis_url=url)

    assert settings.redis_url == url
    assert "hunter2" not in repr(settings)
