"""A private Redis: own directory, own port on loopback, own user, ended for certain.

It keeps nothing beyond its end unless told to: a Redis that is lost is what limits have to bear. It refuses writes
rather than forget keys when its memory is full (`noeviction`). There is no password: nothing but the port separates it
from other users of the machine, so it holds test data only.
"""

import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.services.base import StartError
from tests.services.faketime import Clock
from tests.services.guard import GuardedDirectory
from tests.services.identity import Identity, identity, server_user
from tests.services.locate import Binaries
from tests.services.private import HOST, PrivateServer
from tests.services.processes import end_processes_in
from tests.waiting import wait_until

START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 10.0
SNAPSHOT = "snapshot.rdb"
SHARED_MEMORY = Path("/dev/shm")


class PrivateRedis(PrivateServer):
    """A Redis of our own. Use it as a context manager, or call `start` and `stop`.

    Args:
        binaries: which installation.
        persist: a snapshot every second in which something was written, and one at an orderly end; `restart` loads it.
            So after `kill` up to a second of writes is undone. Without it every restart begins empty.
        offset_s: how far its wall clock is from the machine's (this needs libfaketime); None leaves it alone.
        settings: further lines of `redis.conf` by name; they win over ours.
    """

    def __init__(
        self,
        binaries: Binaries,
        *,
        persist: bool = False,
        offset_s: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(binaries)
        self._persist = persist
        self._offset_s = offset_s
        self._clock: Clock | None = None
        self._settings = dict(settings or {})
        self._changed = False
        self._user = server_user("redis")
        self._identity: Identity = identity(self._user)

    @property
    def url(self) -> str:
        """`redis://host:port/0`."""
        return self.database_url(0)

    def database_url(self, number: int) -> str:
        """The address of one of its 16 databases."""
        return f"redis://{HOST}:{self.port}/{number}"

    @property
    def running(self) -> bool:
        """Whether its process lives; a frozen one does."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Return once it answers.

        Raises:
            StartError: it does not start; the message holds the end of its log.
        """
        self._home = GuardedDirectory("redis")
        try:
            self.log.touch()
            if self._user:
                shutil.chown(self.directory, self._user)
            if self._offset_s is not None:
                self._clock = Clock(self.directory / "clock", self._offset_s)
            self._launch_on_free_port()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End it and delete its data; a frozen one too."""
        if self._home:
            self.kill()
            self._home.remove()

    def kill(self) -> None:
        """SIGKILL: clients are cut off, what was not in a snapshot is lost."""
        if self._process:
            self._process.kill()
            self._process.wait()
            if self._clock:
                # libfaketime's own, which a killed process leaves behind.
                for name in (f"faketime_shm_{self._process.pid}", f"sem.faketime_sem_{self._process.pid}"):
                    (SHARED_MEMORY / name).unlink(missing_ok=True)
            self._process = None
        # The child that writes a snapshot.
        end_processes_in(self.directory)

    def shut_down(self) -> None:
        """An orderly stop, with a snapshot if it keeps any. Nothing happens if it does not run."""
        process = self._process
        if process is not None and process.poll() is None:
            self.thaw()
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_DEADLINE_S)
        self.kill()

    def restart(self, *, persist: bool | None = None) -> None:
        """Start again on the same port, after `kill` or, if it still runs, after an orderly stop.

        Args:
            persist: True begins with what it has now, or after a `kill` with the last snapshot; False begins empty.
                None is what it was made with.
        """
        keep = self._persist if persist is None else persist
        if keep and self.running and not self._persist:
            self.thaw()
            self.control("SAVE")
        self.shut_down()
        if not keep:
            (self.directory / SNAPSHOT).unlink(missing_ok=True)
        self._launch()

    def pause(self, ms: int) -> None:
        """Answer no client for *ms* milliseconds from now: CLIENT PAUSE. Connections can be made; nothing ends it early."""
        self.control("CLIENT", "PAUSE", ms, "ALL")

    def freeze(self) -> None:
        """SIGSTOP: a Redis that hangs. The kernel still takes connections for it. Its clock goes on."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on, and first answers what was sent meanwhile."""
        self._send(signal.SIGCONT)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen for the length of the block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def set_clock(self, offset_s: int) -> None:
        """A step of its wall clock, which must have been made with an offset; in force within a second."""
        if self._clock is None:
            raise RuntimeError("this Redis has the machine's clock: make it with offset_s=0")
        self._clock.set(offset_s)

    def config_set(self, name: str, value: str | int) -> None:
        """Change a setting while it runs, until its next start."""
        self._changed = True
        self.control("CONFIG", "SET", name, value)

    def control(self, *command: str | float | bytes) -> Any:
        """Run one command on database 0 over a connection of its own; the answer, with text for bytes.

        Raises:
            redis.exceptions.RedisError: it refuses the command, or does not answer within five seconds.
        """
        return ask(self.url, *command)

    def clear(self) -> None:
        """Delete every key of every database."""
        self.control("FLUSHALL")

    def mend(self) -> None:
        """As it was after `start`, whatever a test did to it: it runs, answers, has its own settings and no keys."""
        if self.running:
            self.thaw()
        if self.running and not self._changed:
            with suppress(redis.exceptions.RedisError):
                ask(self.url, "FLUSHALL", timeout_s=0.5)
                return
        # It was paused, or its settings are a test's.
        self.kill()
        self.restart(persist=False)

    def _send(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("this Redis does not run")
        self._process.send_signal(number)

    def _environment(self) -> dict[str, str]:
        if self._clock is None:
            return {}
        environ = self._clock.environ({})
        # jemalloc, which Debian's Redis is linked to, asks for the time before libfaketime is ready, and both wait for ever.
        # With libc before it in the order of look-up, memory is libc's.
        return environ | {"LD_PRELOAD": f"{environ['LD_PRELOAD']}:libc.so.6"}

    def _launch(self) -> None:
        conf = self.directory / "redis.conf"
        conf.write_text(redis_conf(self.port, persist=self._persist, settings=self._settings))
        conf.chmod(0o644)
        self._changed = False
        start_of_log = self.log.stat().st_size
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for the test run, which then stops the server.
            process = subprocess.Popen(
                [self._bin / "redis-server", conf],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.directory,
                env=self._environment(),
                **self._identity,
            )
        self._process = process

        def printed() -> str:
            return self.log.read_bytes()[start_of_log:].decode(errors="replace")[-2000:]

        def ready() -> bool:
            if process.poll() is not None:
                raise StartError(f"Redis ended with {process.returncode}:\n{printed()}")
            return answers(self.url)

        wait_until(ready, START_DEADLINE_S, lambda: f"Redis does not answer:\n{printed()}")


def redis_conf(port: int, *, persist: bool, settings: Mapping[str, str]) -> str:
    """The text of `redis.conf`; *settings* are added and win. Its folder is the one in which it is started."""
    lines = {
        "bind": HOST,
        "port": str(port),
        "dbfilename": SNAPSHOT,
        "save": "1 1" if persist else '""',
        "appendonly": "no",
        "maxmemory-policy": "noeviction",
        # DEBUG SLEEP and its like, for clients on this machine.
        "enable-debug-command": "local",
    } | dict(settings)
    return "".join(f"{name} {value}\n" for name, value in lines.items())


def ask(url: str, *command: str | float | bytes, timeout_s: float = 5.0) -> Any:
    """Run one command over a connection of its own, without a second try.

    Raises:
        redis.exceptions.RedisError: it refuses the command, or does not answer in time.
    """
    with redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    ) as client:
        return client.execute_command(*command)


def answers(url: str) -> bool:
    """Whether a Redis is there that has loaded its data and lets us in."""
    try:
        return ask(url, "PING") in (True, "PONG")
    except redis.exceptions.RedisError:
        return False
