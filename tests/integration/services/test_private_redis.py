"""The private Redis of the tests: what can be done to it, what is left of its data, and that it is mended for the next test."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.integration.services.test_private_rabbitmq import listeners
from tests.services.base import RedisServer, StartError
from tests.services.external import ExternalRedis
from tests.services.locate import find_redis
from tests.services.processes import processes_in
from tests.services.redis import SHARED_MEMORY, PrivateRedis
from tests.waiting import wait_until


def private(*, persist: bool = False, offset_s: int | None = None, **settings: str) -> PrivateRedis:
    """A Redis of one test alone, not started yet."""
    binaries = find_redis()
    assert binaries is not None, "this test needs the program redis-server on this machine"
    return PrivateRedis(binaries, persist=persist, offset_s=offset_s, settings=settings)


@pytest.fixture
def client(redis_server: PrivateRedis) -> Iterator[redis.Redis]:
    """A client that gives up soon and tries nothing twice."""
    with redis.Redis.from_url(
        redis_server.url,
        decode_responses=True,
        socket_timeout=0.3,
        socket_connect_timeout=0.3,
        retry=Retry(NoBackoff(), 0),
    ) as made:
        yield made


def test_each_test_finds_an_empty_database(redis_server: PrivateRedis) -> None:
    """Nothing is there before, and `clear` deletes what is in any database."""
    with redis.Redis.from_url(redis_server.database_url(7)) as client:
        assert client.dbsize() == 0
        client.set("a", 1)
        redis_server.clear()
        assert client.dbsize() == 0


def test_a_kill_cuts_clients_off_and_loses_everything(
    redis_server: PrivateRedis, client: redis.Redis
) -> None:
    """Killed and started again it has the same port and no keys."""
    port = redis_server.port
    client.set("a", 1)
    redis_server.kill()
    assert processes_in(redis_server.directory) == []
    with pytest.raises(redis.exceptions.ConnectionError):
        client.get("a")
    redis_server.restart()
    assert redis_server.port == port
    assert client.get("a") is None


def test_an_orderly_restart_keeps_data_only_if_asked_to(
    redis_server: PrivateRedis, client: redis.Redis
) -> None:
    """`persist=True` begins with what was there, without it the next start is empty."""
    client.set("a", 1)
    redis_server.restart(persist=True)
    assert client.get("a") == "1"
    redis_server.restart()
    assert client.get("a") is None


def test_a_redis_that_keeps_snapshots_forgets_only_the_last_second() -> None:
    """A kill goes back to the last snapshot; an orderly restart loses nothing."""
    with private(persist=True) as server:
        server.control("SET", "a", "1")
        server.control("SAVE")
        server.control("CONFIG", "SET", "save", "")
        server.control("SET", "a", "2")
        server.kill()
        server.restart()
        assert server.control("GET", "a") == "1"
        server.control("SET", "a", "3")
        server.restart()
        assert server.control("GET", "a") == "3"
        server.restart(persist=False)
        assert server.control("GET", "a") is None


def test_a_paused_redis_answers_nobody_for_that_long(redis_server: PrivateRedis, client: redis.Redis) -> None:
    """A command times out meanwhile and is answered afterwards."""
    client.ping()
    begun = time.monotonic()
    redis_server.pause(1_000)
    with pytest.raises(redis.exceptions.TimeoutError):
        client.set("a", 1)
    wait_until(lambda: answered(client), 10, lambda: "it is still paused")
    assert time.monotonic() - begun >= 1


def test_a_frozen_redis_takes_connections_and_answers_when_thawed(
    redis_server: PrivateRedis, client: redis.Redis
) -> None:
    """What was sent meanwhile is done afterwards, though its client has given up."""
    client.ping()
    with redis_server.frozen():
        assert redis_server.running
        with pytest.raises(redis.exceptions.TimeoutError):
            client.set("a", 1)
    wait_until(lambda: client.get("a") == "1", 5, lambda: "the command is lost")


@pytest.mark.parametrize("harm", ["freeze", "kill", "pause", "config"])
def test_whatever_was_done_to_it_the_next_test_has_it_whole(harm: str, redis_server: PrivateRedis) -> None:
    """After `mend` it answers, without keys and with its own settings; a long pause is not waited for."""
    redis_server.control("SET", "a", "1")
    port = redis_server.port
    match harm:
        case "freeze":
            redis_server.freeze()
        case "kill":
            redis_server.kill()
        case "pause":
            redis_server.pause(60_000)
        case _:
            redis_server.config_set("maxmemory", 1)
    redis_server.mend()
    assert redis_server.port == port
    assert redis_server.control("DBSIZE") == 0
    assert redis_server.control("SET", "a", "2")


def test_a_full_redis_refuses_writes_and_forgets_nothing(redis_server: PrivateRedis) -> None:
    """`noeviction` is in force."""
    redis_server.control("SET", "a", "1")
    redis_server.config_set("maxmemory", 1)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        redis_server.control("SET", "b", "2")
    assert redis_server.control("GET", "a") == "1"


@pytest.mark.acceptance  # libfaketime is there for these only
def test_its_clock_can_be_another() -> None:
    """It begins an hour ahead of the machine, and steps back while it runs; it leaves nothing in shared memory."""
    left = set(SHARED_MEMORY.glob("*faketime*"))
    with private(offset_s=3600) as server:

        def ahead_s() -> float:
            return float(server.control("TIME")[0] - time.time())

        assert ahead_s() == pytest.approx(3600, abs=3)
        server.set_clock(-60)
        wait_until(lambda: ahead_s() == pytest.approx(-60, abs=3), 5, lambda: f"{ahead_s()}")
        server.restart()
        assert ahead_s() == pytest.approx(-60, abs=3)
    assert set(SHARED_MEMORY.glob("*faketime*")) <= left


def test_it_is_ours_alone(redis_server: PrivateRedis) -> None:
    """It listens on loopback only, and is not root's if it can be helped."""
    pids = processes_in(redis_server.directory)
    assert len(pids) == 1
    assert (Path(f"/proc/{pids[0]}").stat().st_uid == os.getuid()) == (os.getuid() != 0)
    assert listeners(pids) == {("0100007F", redis_server.port)}


def test_nothing_is_left_of_a_frozen_one() -> None:
    """`stop` ends it and deletes its directory, and a second call does nothing."""
    server = private().start()
    directory = server.directory
    server.freeze()
    server.stop()
    server.stop()
    assert processes_in(directory) == []
    assert not directory.exists()


def test_one_that_cannot_start_says_why() -> None:
    """A wrong setting is in the message, and nothing is left behind."""
    server = private(maxclients="many")
    with pytest.raises(StartError, match="maxclients"):
        server.start()
    assert not server.directory.exists()


def test_a_running_redis_can_be_used_instead(
    redis_server: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server named by its address has one database emptied per worker and is not stopped."""
    for worker, database in (("gw0", 3), ("gw2", 5)):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        external: RedisServer = ExternalRedis(redis_server.database_url(3))
        assert external.url == redis_server.database_url(database)
        assert external.version == redis_server.version
        with redis.Redis.from_url(external.url) as client:
            client.set("a", 1)
            external.clear()
            assert client.dbsize() == 0
    redis_server.control("SET", "a", "1")
    external.stop()
    assert redis_server.control("GET", "a") == "1"


def answered(client: redis.Redis) -> bool:
    """Whether a command comes back in time."""
    try:
        return bool(client.ping())
    except redis.exceptions.TimeoutError:
        return False
