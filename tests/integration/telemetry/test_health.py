"""The endpoints of a pool's parent over real sockets."""

import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse

import pytest

from mailfleet.errors import SettingsError
from mailfleet_workers.telemetry.health import HealthServer, Readiness


class Pool:
    """What a parent would say."""

    def __init__(self) -> None:
        self.lacks: dict[str, list[str]] = {"billing": [], "news": []}
        self.metrics = b"mailfleet_open 1\n"
        self.notes: list[str] = []
        self.broken = False

    def exposition(self) -> tuple[bytes, str]:
        if self.broken:
            raise RuntimeError("canary")
        return self.metrics, "text/plain; version=1.0.0"

    def ready(self) -> Readiness:
        return Readiness.of(self.lacks, self.notes)


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def at(pool: Pool) -> Iterator[tuple[str, int]]:
    server = HealthServer("127.0.0.1:0", pool.exposition, pool.ready)
    where = server.start()
    assert where is not None
    yield where
    server.stop()
    server.stop()


def ask(at: tuple[str, int], path: str, method: str = "GET") -> tuple[HTTPResponse, str]:
    connection = HTTPConnection(*at, timeout=10)
    connection.request(method, path)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response, text


@pytest.mark.tinymail("D36")
def test_metrics(at: tuple[str, int]) -> None:
    """A scrape gets what the source gives, with its content type; a query changes nothing."""
    response, text = ask(at, "/metrics?name[]=x")
    assert (response.status, text) == (200, "mailfleet_open 1\n")
    assert response.headers["Content-Type"] == "text/plain; version=1.0.0"
    assert "Python" not in (response.headers["Server"] or "")


def test_alive_is_not_ready(at: tuple[str, int], pool: Pool) -> None:
    """The parent lives whatever its apps lack; it is ready when each of them can work, and says what is missing."""
    assert ask(at, "/readyz")[0].status == 200
    pool.lacks["news"] = ["not connected to RabbitMQ", "waits to be started again"]
    response, text = ask(at, "/readyz")
    assert response.status == 503
    assert text == "news: not connected to RabbitMQ; waits to be started again\n"
    assert ask(at, "/healthz")[0].status == 200


def test_what_everybody_should_know(at: tuple[str, int], pool: Pool) -> None:
    """Notes stand below the answer and do not change it."""
    pool.notes.append("scanning of app news is stopped")
    response, text = ask(at, "/readyz")
    assert (response.status, text) == (200, "ready\nscanning of app news is stopped\n")
    pool.lacks["news"] = ["starting"]
    response, text = ask(at, "/readyz")
    assert (response.status, text) == (503, "news: starting\nscanning of app news is stopped\n")


def test_head_has_no_body(at: tuple[str, int]) -> None:
    """HEAD gets the headers of GET."""
    response, text = ask(at, "/metrics", "HEAD")
    assert (response.status, text, response.headers["Content-Length"]) == (200, "", "17")


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/metrics"), ("DELETE", "/healthz")])
def test_there_is_nothing_else(at: tuple[str, int], method: str, path: str) -> None:
    """Other paths and methods are not found."""
    assert ask(at, path, method)[0].status == 404


def test_a_source_that_fails_shows_nothing(at: tuple[str, int], pool: Pool) -> None:
    """A scrape of what is broken fails without its reason, and the next one works."""
    pool.broken = True
    response, text = ask(at, "/metrics")
    assert response.status == 500
    assert "canary" not in text
    pool.broken = False
    assert ask(at, "/metrics")[0].status == 200


def test_a_silent_client_keeps_nobody_waiting(at: tuple[str, int]) -> None:
    """Somebody who connects and says nothing has a thread of its own."""
    with socket.create_connection(at):
        assert ask(at, "/healthz")[0].status == 200


def test_an_address_in_use_is_one_line(at: tuple[str, int], pool: Pool) -> None:
    """The start stops with the setting's name and what the system said."""
    listen = f"{at[0]}:{at[1]}"
    with pytest.raises(SettingsError) as error:
        HealthServer(listen, pool.exposition, pool.ready).start()
    assert str(error.value).startswith("pool.listen: expected an address")
    assert listen in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_that_nobody_knows_is_one_line(pool: Pool) -> None:
    """The same for a host that is not there."""
    with pytest.raises(SettingsError, match=r"pool\.listen"):
        HealthServer("no-such-host.invalid:0", pool.exposition, pool.ready).start()


@pytest.mark.tinymail("58")
def test_nowhere(pool: Pool) -> None:
    """Empty is no server."""
    server = HealthServer("", pool.exposition, pool.ready)
    assert server.start() is None
    server.stop()


def test_ipv6(pool: Pool) -> None:
    """An address in brackets is one of IPv6."""
    server = HealthServer("[::1]:0", pool.exposition, pool.ready)
    where = server.start()
    assert where is not None
    assert ask(where, "/healthz")[0].status == 200
    server.stop()
