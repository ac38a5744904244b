"""docker-compose.yml without Docker: every service a process of this machine, in the same order and as healthy."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tests.services import debian
from tests.services.base import MissingServiceError, StartError
from tests.services.choose import POSTGRES, RABBITMQ, REDIS, DebianPackage, OnMachine, Wanted, decide, facts
from tests.services.locate import Binaries
from tests.stack.compose import FILE, Service, load, services
from tests.stack.lasting import LastingPostgres, LastingRabbit, LastingRedis
from tests.stack.place import Place
from tests.stack.ports import Ports
from tests.stack.process import Running, end, launch
from tests.stack.state import State
from tests.waiting import wait_until

#: What the port mapper belongs to: it is there before RabbitMQ, and after it.
EPMD = "epmd"
LOG_END = 2000


class Native:
    """The stack of *state*, run natively. *environ* is the caller's environment, with variables for ports."""

    def __init__(self, state: State, environ: Mapping[str, str], file: Path = FILE) -> None:
        self.state = state
        self.services = services(load(file))
        self._environ = environ
        self._secrets = state.directory / "secrets"
        self._ports = Ports(state.ports, environ)

    @property
    def running(self) -> bool:
        """Whether anything that was started runs."""
        return any(process.runs() for process in self.state.processes)

    @property
    def ended(self) -> list[str]:
        """The services that were started and run no more."""
        return [process.service for process in self.state.processes if not process.runs()]

    def up(self) -> None:
        """Start everything and return once it is healthy.

        Raises:
            MissingServiceError: a server is not to be had here.
            StartError: something did not start; the message holds the end of its log, and nothing is left running.
        """
        binaries = {
            "postgres": _binaries(POSTGRES),
            "rabbitmq": _binaries(RABBITMQ),
            "redis": _binaries(REDIS),
        }
        self._ports.choose(self.services.values())
        self.state.mode = "native"
        self.state.groups = []
        (self.state.directory / "logs").mkdir(exist_ok=True)
        try:
            for service in self.services.values():
                self._start(service, binaries)
            for service in self.services.values():
                self._wait(service)
        except BaseException:
            self.down()
            raise

    def down(self) -> list[str]:
        """End what was started, in the opposite order; the services that had to be killed."""
        killed = []
        while self.state.groups:
            killed += end(self.state.groups[-1], self.state.directory)
            del self.state.groups[-1]
            self.state.write()
        self.state.mode = None
        self.state.write()
        return killed

    def place(self, service: Service) -> Place:
        """Where a service of ours lives."""
        return Place(
            service,
            directory=self.state.directory / service.name,
            secrets=self._secrets,
            ports=self._ports.all,
            programs=Path(sys.executable).parent,
        )

    def healthy(self, service: Service) -> bool:
        """Whether the service's own check, or for a server of others its process, says so."""
        if service.ours and service.health:
            place = self.place(service)
            try:
                done = subprocess.run(
                    place.health,
                    check=False,
                    cwd=place.directory,
                    env=place.environ(self._environ),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=service.check_s,
                )
            except subprocess.TimeoutExpired:
                return False
            return done.returncode == 0
        return any(one.service == service.name and one.runs() for one in self.state.processes)

    def log(self, service: Service) -> Path:
        """What the service writes."""
        own = self.state.directory / service.name / "server.log"
        return own if own.exists() else self.state.directory / "logs" / f"{service.name}.log"

    def _start(self, service: Service, binaries: Mapping[str, Binaries]) -> None:
        for other, condition in service.depends_on.items():
            if condition == "service_healthy":
                self._wait(self.services[other])
        directory = self.state.directory / service.name
        if service.name == "postgres":
            self._postgres(directory, binaries["postgres"], service)
        elif service.name == "rabbitmq":
            self._rabbitmq(directory, binaries["rabbitmq"], service)
        elif service.name == "redis":
            self._redis(directory, binaries["redis"], service)
        elif "service_completed_successfully" in self._waited_for(service):
            self._run_to_end(service)
        else:
            self._launch(service)

    def _waited_for(self, service: Service) -> set[str]:
        """How others wait for the service."""
        return {
            one.depends_on[service.name] for one in self.services.values() if service.name in one.depends_on
        }

    def _postgres(self, directory: Path, binaries: Binaries, service: Service) -> None:
        server = LastingPostgres(
            binaries, directory, self._ports["postgres", 5432], self.state.password, service.stop_s
        )
        try:
            server.start()
        finally:
            self._remember(0, server.processes)
        self._secret("database_url", server.mailfleet_url)

    def _rabbitmq(self, directory: Path, binaries: Binaries, service: Service) -> None:
        names = {"amqp": 5672, "management": 15672, "epmd": 4369, "dist": 25672}
        ports = {name: self._ports["rabbitmq", inside] for name, inside in names.items()}
        server = LastingRabbit(binaries, directory, ports, self.state.password, service.stop_s)
        try:
            server.start()
        finally:
            for process in server.processes:
                self._remember(0 if process.service == EPMD else 1, [process])
        self._secret("broker_url", server.mailfleet_url)

    def _redis(self, directory: Path, binaries: Binaries, service: Service) -> None:
        port = self._ports["redis", 6379]
        server = LastingRedis(binaries, directory, port, self.state.password, service.stop_s)
        try:
            server.start()
        finally:
            self._remember(0, server.processes)
        self._secret("redis_url", server.url)

    def _launch(self, service: Service) -> None:
        place = self.place(service)
        (place.directory / "data").mkdir(parents=True, exist_ok=True)
        process = launch(
            service.name,
            place.command,
            directory=place.directory,
            environ=place.environ(self._environ),
            log=self.log(service),
            stop_s=service.stop_s,
        )
        self._remember(self._depth(service) + 1, [process])

    def _run_to_end(self, service: Service) -> None:
        place = self.place(service)
        (place.directory / "data").mkdir(parents=True, exist_ok=True)
        with self.log(service).open("ab") as log:
            done = subprocess.run(
                place.command,
                check=False,
                cwd=place.directory,
                env=place.environ(self._environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if done.returncode != 0:
            raise StartError(f"{service.name} ended with {done.returncode}:\n{self._printed(service)}")

    def _wait(self, service: Service) -> None:
        """Return once it is healthy; nothing is waited for that runs to its end, or is not here."""
        mine = [one for one in self.state.processes if one.service == service.name]

        def well() -> bool:
            for ended in self.ended:
                raise StartError(f"{ended} ended:\n{self._printed(self.services.get(ended, service))}")
            return self.healthy(service)

        if mine:
            wait_until(
                well, service.healthy_s, lambda: f"{service.name} is not healthy:\n{self._printed(service)}"
            )

    def _depth(self, service: Service) -> int:
        return max((1 + self._depth(self.services[other]) for other in service.depends_on), default=0)

    def _remember(self, group: int, processes: list[Running]) -> None:
        while len(self.state.groups) <= group:
            self.state.groups.append([])
        self.state.groups[group] += processes
        self.state.write()

    def _secret(self, name: str, value: str) -> None:
        self._secrets.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(
            os.open(self._secrets / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
        ) as file:
            file.write(f"{value}\n")

    def _printed(self, service: Service) -> str:
        log = self.log(service)
        return log.read_text(errors="replace")[-LOG_END:] if log.exists() else ""


def _binaries(wanted: Wanted) -> Binaries:
    """The programs of a server, from a Debian package if they are not here yet. Raises MissingServiceError."""
    known = replace(facts(wanted, may_install=True), url=None, docker=False)
    if isinstance(decide(wanted, known), DebianPackage):
        print(f"{wanted.name}: installing Debian's package {wanted.package}", flush=True)
        try:
            debian.install([wanted.package])
        except debian.InstallError as error:
            raise MissingServiceError(f"{wanted.name}: {error}") from None
        known = replace(known, binaries=wanted.find())
    source = decide(wanted, known)
    if isinstance(source, OnMachine):
        return source.binaries
    raise MissingServiceError(
        f"the stack needs {wanted.name} on this machine (Debian: apt-get install {wanted.package}), or a running Docker"
        " engine with the compose plugin"
    )
