"""The Redis of the stack: with Docker's command, and without Docker."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import redis

from tests.services.locate import Binaries, find_redis
from tests.services.ports import free_port
from tests.services.redis import PrivateRedis, answers, ask
from tests.stack.compose import ROOT, load, services
from tests.stack.lasting import LastingRedis
from tests.stack.process import end
from tests.waiting import wait_until


@pytest.fixture
def binaries() -> Binaries:
    """Of the server on this machine."""
    found = find_redis()
    assert found is not None, "this test needs the program redis-server on this machine"
    return found


def test_the_command_of_the_file_starts_one_with_the_password_of_the_script(
    tmp_path: Path, binaries: Binaries
) -> None:
    """The options are the server's own, the password is the one in the workers' URL, and nobody comes in without it."""
    script = Path(shutil.copy(ROOT / "deploy/compose/make-secrets", tmp_path))
    subprocess.run([script], check=True, capture_output=True)
    secrets, port = tmp_path / "secrets", free_port()
    command = [part.replace("/run/secrets", str(secrets)) for part in services(load())["redis"].command[1:]]
    process = subprocess.Popen(
        [binaries.directory / "redis-server", *command, "--bind 127.0.0.1", f"--port {port}"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    try:
        url = (secrets / "redis_url").read_text().strip().replace("@redis:6379", f"@127.0.0.1:{port}")
        wait_until(lambda: answers(url), 10, lambda: "Redis does not answer")
        names = ("maxmemory-policy", "maxmemory", "save", "appendonly")
        assert ask(url, "CONFIG", "GET", *names) == {
            "maxmemory-policy": "noeviction",
            "maxmemory": str(96 * 1024 * 1024),
            "save": "",
            "appendonly": "no",
        }
        with pytest.raises(redis.exceptions.AuthenticationError):
            ask(f"redis://127.0.0.1:{port}/0", "PING")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_one_that_lasts_asks_for_its_password_and_ends_in_order(binaries: Binaries) -> None:
    """It is left running for whoever ends it later, and starts again in the same directory."""
    with PrivateRedis(binaries) as neighbour:
        # A folder that the server's user may enter, and that goes with the neighbour.
        place = neighbour.directory / "stack"
        place.mkdir()
        place.chmod(0o755)
        for _ in range(2):
            server = LastingRedis(binaries, place / "redis", free_port(), "a-password", 10).start()
            assert ask(server.url, "CONFIG", "GET", "maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            with pytest.raises(redis.exceptions.AuthenticationError):
                ask(f"redis://127.0.0.1:{server.port}/0", "PING")
            assert [one.service for one in server.processes] == ["redis"]
            assert end(server.processes, place) == []
            assert not answers(server.url)
