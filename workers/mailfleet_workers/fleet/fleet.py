"""All that `mailfleet worker` runs in its own process: the supervisor, its endpoint, the recovery of dead children."""

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mailfleet_schema.engine import open_engine, parse_url
from mailfleet_workers.clone_guard import CloneGuard
from mailfleet_workers.fleet.process import LOG_KEY, ChildProcess
from mailfleet_workers.fleet.supervisor import Place, Supervisor
from mailfleet_workers.fleet.undertaker import Undertaker
from mailfleet_workers.settings import Settings
from mailfleet_workers.telemetry.fleet_gauges import FleetGauges
from mailfleet_workers.telemetry.health import HealthServer, Readiness
from mailfleet_workers.telemetry.log import configure
from mailfleet_workers.telemetry.pool_metrics import PoolMetrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What to run: `apps`, each with its own processes; `also` are apps whose mail the first one's processes send too.

    `processes` None is each app's own setting. `config` is passed on to the children, None if there is no file.
    """

    apps: tuple[str, ...]
    host: str
    also: tuple[str, ...] = ()
    processes: int | None = None
    config: Path | None = None


class Fleet:
    """The parent's parts, put together; the process's logs are configured here.

    `run` may be called once; `stop` may be called from a signal handler. Raises SettingsError, and OSError when
    `data_dir` cannot be written.
    """

    def __init__(self, settings: Settings, plan: FleetPlan, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._plan = plan
        key = secrets.token_bytes(32)
        configure(settings.log, environ=environ, key=key)
        self._engine = open_engine(
            parse_url("database_url", settings.database_url),
            pool_size=1,
            application_name="mailfleet parent",
            most_idle_s=settings.timing.quiet_s / 2,
        )
        # Its own view of the same connections: metrics are read from whatever database this is.
        recovering = self._engine.execution_options()
        CloneGuard(settings.installation).watch(recovering, always=True)
        self._metrics = PoolMetrics(
            settings.data_dir / "metrics",
            FleetGauges(self._engine, quiet_s=settings.timing.quiet_s, installation=settings.installation),
            apps=plan.apps,
        )
        self._environ = {**environ, **self._metrics.environ(), LOG_KEY: key.hex()}
        self._supervisor = Supervisor(
            [place for app in plan.apps for place in self._places(app)],
            Undertaker(
                recovering,
                settings.data_dir / "journal",
                settings.patience(),
                endpoints=settings.endpoints(),
            ),
            drain_s=settings.timing.drain_s,
            on_death=self._died,
        )
        self._health = HealthServer(settings.pool.listen, self._metrics.exposition, self._ready)

    def _places(self, app: str) -> Sequence[Place]:
        settings = self._settings.app(app)
        extra = self._plan.also if app == self._plan.apps[0] else ()
        also = tuple(dict.fromkeys((*settings.also, *extra)))

        def start() -> ChildProcess:
            return ChildProcess(
                app, also=also, host=self._plan.host, config=self._plan.config, environ=self._environ
            )

        return [Place(app, start) for _ in range(self._plan.processes or settings.processes)]

    def _died(self, app: str, pid: int, *, asked: bool) -> None:
        self._metrics.child_ended(pid)
        if not asked:
            self._metrics.child_lost(app)

    def _ready(self) -> Readiness:
        lacks = {app: self._supervisor.missing(app) for app in self._supervisor.apps}
        return Readiness.of(lacks, self._supervisor.notes())

    def run(self) -> int:
        """Serve and supervise until `stop`; the exit status. Raises SettingsError when it cannot listen."""
        try:
            bound = self._health.start()
            if bound is not None:
                log.info("listening", extra={"address": f"{bound[0]}:{bound[1]}"})
            return self._supervisor.run()
        finally:
            self._health.stop()
            self._metrics.close()
            self._engine.dispose()

    def stop(self) -> None:
        """Drain all children and end."""
        self._supervisor.stop()
