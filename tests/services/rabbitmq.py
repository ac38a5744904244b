"""A private RabbitMQ with its management API: own node, data, cookie, plugins and ports on loopback, ended for certain.

`rabbitmq_node` says what keeps it apart from the machine's own. The administrator's password is new for each broker.
"""

import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Self

from tests.services.base import StartError
from tests.services.guard import GuardedDirectory
from tests.services.identity import Identity, identity, server_user
from tests.services.locate import Binaries
from tests.services.management import Management, ManagementError
from tests.services.private import HOST, PrivateServer
from tests.services.processes import end_processes_in
from tests.services.rabbitmq_node import (
    ADMIN,
    NODE,
    Ports,
    configuration,
    environment,
    free_ports,
    lay_out,
)
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

START_DEADLINE_S = 90.0
STOP_DEADLINE_S = 30.0
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"


class PrivateRabbit(PrivateServer):
    """A broker of our own. Use it as a context manager, or call `start` and `stop`.

    Args:
        binaries: which installation.
        consumer_timeout_ms: how long a consumer may hold a delivery; None is RabbitMQ's default (30 minutes).
        settings: further lines of `rabbitmq.conf` by name; they win over ours.
    """

    TAKEN = "eaddrinuse"

    def __init__(
        self,
        binaries: Binaries,
        *,
        consumer_timeout_ms: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(binaries)
        self.management_port = 0
        self._settings = dict(settings or {})
        if consumer_timeout_ms is not None:
            self._settings.setdefault("consumer_timeout", str(consumer_timeout_ms))
        self._password = secrets.token_hex(16)
        self._user = server_user("rabbitmq")
        self._identity: Identity = identity(self._user)
        self._epmd: subprocess.Popen[bytes] | None = None
        self._ports: Ports = {}

    @property
    def management_url(self) -> str:
        """`http://host:port` of the management page and API."""
        return f"http://{HOST}:{self.management_port}"

    @property
    def management(self) -> Management:
        """An administrator's client."""
        return Management(self.management_url, ADMIN, self._password)

    @property
    def admin(self) -> tuple[str, str]:
        """The administrator's name and password, for the management page and AMQP."""
        return ADMIN, self._password

    def amqp_url(self, vhost: str = "%2F", user: str = ADMIN, password: str | None = None) -> str:
        """An address for AMQP clients; *vhost* is as it stands in the address, so `/` is `%2F`."""
        return f"amqp://{user}:{password or self._password}@{HOST}:{self.port}/{vhost}"

    def vhost(self) -> VirtualHost:
        """A virtual host that is not made yet: use it as a context manager."""
        return VirtualHost(f"{HOST}:{self.port}", self.management)

    def start(self) -> Self:
        """Lay out the node and return once AMQP and the management API answer.

        Raises:
            StartError: it does not start; the message holds the end of its log.
        """
        self._home = GuardedDirectory("rabbitmq")
        try:
            self._lay_out()
            self._launch_on_free_port()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the broker and delete its data. Nothing of them is needed, so it gets no time to put them in order."""
        if self._home:
            self._kill()
            self._home.remove()

    def kill(self) -> None:
        """SIGKILL for the whole node: a crash. The data stay, `restart` recovers them.

        First it waits for what RabbitMQ itself does late: a quorum queue that was declared a moment ago is in memory
        only, and after a crash within half a second (3.10) it is there without its messages and without a leader, which
        it never gets again.
        """
        if self._process is not None and self._process.poll() is None:
            self._wait_for_registration()
        self._kill()

    @property
    def running(self) -> bool:
        """Whether the node's process lives."""
        return self._process is not None and self._process.poll() is None

    def restart(self) -> None:
        """Start again on the same data and ports, after `kill` or, if it still runs, after an orderly stop."""
        self.shut_down()
        self._launch()

    def shut_down(self) -> None:
        """An orderly stop that keeps the data; clients are told. Nothing happens if it does not run."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
        self._kill()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A broker that hangs for the length of the block: connections stay open, nothing is answered."""
        if self._process is None:
            raise RuntimeError("the broker does not run")
        process = self._process
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def set_memory_alarm(self, on: bool) -> None:
        """Raise or clear the memory alarm: while it is on, nobody who publishes is read from.

        It is there when this returns. The tool behind it takes a second or two.
        """
        self.control("set_vm_memory_high_watermark", "0.00000001" if on else "0.4")

    def control(self, *command: str) -> str:
        """Run `rabbitmqctl`; what it printed. It takes more than a second: for one test's own question use `management`.

        Raises:
            RuntimeError: it failed; the message is what it said.
        """
        done = subprocess.run(
            [self._bin / "rabbitmqctl", "--quiet", "--node", NODE, *command],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            cwd=self.directory,
            env=environment(self.directory, self._ports),
            **self._identity,
        )
        if done.returncode != 0:
            raise RuntimeError(f"rabbitmqctl {command[0]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _choose_port(self) -> None:
        # What a first try left: a port mapper at least.
        self._kill()
        self._ports = free_ports()
        self.port, self.management_port = self._ports["amqp"], self._ports["management"]

    def _lay_out(self) -> None:
        self.log.touch()
        lay_out(self.directory, self._user)

    def _launch(self) -> None:
        text = configuration(self._ports, self._password, self._settings)
        (self.directory / "rabbitmq.conf").write_text(text)
        epmd = shutil.which("epmd") or "/usr/lib/erlang/bin/epmd"
        start_of_log = self.log.stat().st_size
        self._epmd = self._spawn(epmd, "-port", str(self._ports["epmd"]), "-address", HOST)
        process = self._process = self._spawn(str(self._bin / "rabbitmq-server"))

        def printed() -> str:
            text = self.log.read_bytes()[start_of_log:].decode(errors="replace")
            # What went wrong comes first, pages of Erlang's crash reports come last.
            first_error = text.find("[error]")
            return text[-3000:] if first_error < 0 else text[first_error : first_error + 3000]

        def ready() -> bool:
            if process.poll() is not None:
                raise StartError(f"RabbitMQ ended with {process.returncode}:\n{printed()}")
            return answers(self.port, self.management)

        wait_until(ready, START_DEADLINE_S, lambda: f"RabbitMQ does not answer:\n{printed()}")

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for the test run, which then stops the broker.
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.directory,
                env=environment(self.directory, self._ports),
                **self._identity,
            )

    def _wait_for_registration(self) -> None:
        queues = self.management.call("GET", "queues?disable_stats=true&enable_queue_totals=true")
        names = [
            f"{'%2F' if queue['vhost'] == '/' else queue['vhost']}_{queue['name']}".encode()
            for queue in queues
            if queue.get("type") == "quorum"
        ]
        tables = list((self.directory / "data").glob("*/quorum/*/names.dets"))

        def missing() -> list[bytes]:
            stored = b"".join(table.read_bytes() for table in tables)
            return [name for name in names if name not in stored]

        wait_until(lambda: not missing(), 10, lambda: f"queues that are not registered: {missing()}")

    def _kill(self) -> None:
        """SIGKILL for the node, its port mapper and its helpers."""
        for process in (self._process, self._epmd):
            if process is not None:
                process.kill()
                process.wait()
        self._process = self._epmd = None
        end_processes_in(self.directory)


def answers(port: int, management: Management) -> bool:
    """Whether a broker on this machine speaks AMQP on *port* and its management API knows the user."""
    try:
        with socket.create_connection((HOST, port), timeout=5) as client:
            client.sendall(PROTOCOL_HEADER)
            if not client.recv(1):
                return False
        management.call("GET", "whoami")
    except (OSError, ManagementError):
        return False
    return True
