"""One worker process of an app: its pool of threads, its consumer at the broker, its connections. No parent in it.

PostgreSQL: three connections at most (an engine of two and one more). RabbitMQ: two, one to consume and one to publish.
"""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import dramatiq

from mailfleet.breaker import FIRST_S, Breaker
from mailfleet.broker.rabbit import RabbitBroker
from mailfleet.publisher import Publisher
from mailfleet.worker_thread import mark_worker_thread
from mailfleet_schema.engine import open_engine, parse_url, read_only
from mailfleet_schema.hint import InvalidHint
from mailfleet_schema.statements.instance import instance_id
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import ACTOR, SHARED_APP, queue_name
from mailfleet_workers.accounts.credentials import Logins
from mailfleet_workers.accounts.directory import Directory
from mailfleet_workers.accounts.loaders import installed
from mailfleet_workers.accounts.oauth.rows import DatabaseRows
from mailfleet_workers.accounts.oauth.tokens import Tokens
from mailfleet_workers.clone_guard import CloneGuard
from mailfleet_workers.fleet.check import check_settings
from mailfleet_workers.fleet.limiter import limiter_of
from mailfleet_workers.intake import IntakeClosed
from mailfleet_workers.limits.base import LimiterUnavailable
from mailfleet_workers.notify import publisher_notify
from mailfleet_workers.plan import PoolPlan
from mailfleet_workers.pool import Pool
from mailfleet_workers.reconciler import PAGE, SPREAD
from mailfleet_workers.settings import Settings
from mailfleet_workers.settings.replies import rules_of
from mailfleet_workers.smtp.pool import ConnectionPool
from mailfleet_workers.stores import Stores
from mailfleet_workers.telemetry.hint_counts import HintCounts
from mailfleet_workers.telemetry.meter import SILENT, Meter
from mailfleet_workers.ways import Ways
from mailfleet_workers.webhooks.dispatchers import Dispatchers

log = logging.getLogger(__name__)

#: dramatiq's name for all queues of a worker: they share one consumer, and so one connection.
BUNDLE = "mailfleet"
#: Milliseconds for which an idle consumer waits at once.
_CONSUMER_WAIT_MS = 500
#: How long a consumer gets to end its connection in order, in seconds.
CONSUMER_STOP_S = 5.0


class Worker:
    """Sends the mail of *app*, and of the apps in *also*, as *host*. `start`, then `stop`; not to be started again.

    Raises SettingsError for settings that no worker can work with, and at `start` what the database or the journal's
    disk raises, and Elsewhere for a copy of a database. A broker that is away is waited for: see `missing`.
    """

    def __init__(
        self,
        settings: Settings,
        app: str,
        *,
        host: str,
        environ: Mapping[str, str],
        also: Sequence[str] = (),
        rng: random.Random | None = None,
        meter: Meter = SILENT,
        fixed_chunk: int | None = None,
    ) -> None:
        url = parse_url("database_url", settings.database_url)
        check_settings(settings, [app, *also])
        assert settings.broker_url is not None  # noqa: S101 - checked in the line above
        self._app = app
        self._apps = tuple(dict.fromkeys((app, *also)))
        self._shares = settings.shares(app)
        # Others take our rows after `quiet_s`; by then our locks are gone too, wherever we were stopped.
        self._engine = open_engine(
            url,
            prepared=settings.database_prepared,
            application_name=f"mailfleet {app} worker",
            most_idle_s=settings.timing.quiet_s / 2,
        )
        self._guard = CloneGuard(settings.installation)
        self._guard.watch(self._engine)
        self._broker = RabbitBroker(settings.broker_url, app=app, role="worker", host=host)
        # Not slower than passes, whatever the outage: the pass after it must reach the broker.
        pause_s = settings.timing.reconcile_s * (1 - SPREAD)
        self._publisher = Publisher(self._broker, breaker=lambda: Breaker(min(FIRST_S, pause_s), pause_s))
        self._loaders = installed(time.monotonic, asked=settings.account_loaders)
        self._stores = Stores(settings.stores, self._apps)
        limiter, self._counting = limiter_of(settings, app, meter=meter)
        directory = Directory(
            settings,
            environ=environ,
            engine=self._engine,
            loaders=self._loaders,
            limiting=self._counting is not None,
        )
        self._logins = Logins(environ, Tokens(environ, DatabaseRows(self._engine)))
        ways = Ways(
            settings,
            environ=environ,
            own=self._apps,
            counted=self._counting is not None,
            meter=meter,
            directory=directory,
            logins=self._logins,
        )
        self._connections = ConnectionPool(ways.transport, time.monotonic, meter=meter)
        directory.listen(self._connections.heard)
        self._pool = Pool(
            PoolPlan.of(settings, app, also=self._apps[1:], fixed_chunk=fixed_chunk),
            self._engine,
            limiter=limiter,
            counting=self._counting,
            resolve=directory.limits,
            directory=directory,
            connections=self._connections,
            rules=rules_of(settings),
            way=ways,
            notify=publisher_notify(self._publisher),
            rng=rng or random.Random(),
            host=host,
            may_hint=self._may_hint,
            meter=meter,
            stores=self._stores,
            guard=self._guard,
        )
        self._dispatchers = Dispatchers(
            self._engine, settings, environ=environ, rng=random.Random(), meter=meter
        )
        self._consumer: dramatiq.Worker | None = None
        self._hint_counts = HintCounts(
            meter, app, hints=self._publisher.counts_by_labels, parked=lambda: self._broker.parked
        )

    @property
    def worker_id(self) -> int:
        """The database's id of this process; 0 before `start`."""
        return self._pool.worker_id

    def start(self) -> None:
        """Register, start the threads, and consume."""
        if self._counting is not None:
            # Before we are registered: a Redis that begins with us need not wait for what workers before it were granted.
            self._counting.instance = self._instance()
            with contextlib.suppress(LimiterUnavailable):
                list(self._counting.unready())
                self._counting.announce()
        self._dispatchers.start()
        self._pool.start()
        self._broker.on_created = self._hints_lost
        self._broker.on_consuming = self._consuming
        apps = dict.fromkeys((*self._apps, *((SHARED_APP,) if self._shares else ())))
        queues = tuple(queue_name(app, priority) for app in apps for priority in Priority)
        self._broker.bundle(BUNDLE, queues)
        dramatiq.Actor(
            self._look,
            broker=self._broker,
            actor_name=ACTOR,
            queue_name=BUNDLE,
            priority=0,
            # Said in one line, not as a failure with a traceback.
            options={"throws": (InvalidHint, IntakeClosed)},
        )
        # One thread for each queue: a hint of bulk that waits for room never keeps one of `high` waiting.
        self._consumer = dramatiq.Worker(
            self._broker, queues={BUNDLE}, worker_threads=len(queues), worker_timeout=_CONSUMER_WAIT_MS
        )
        self._consumer.start()

    def _instance(self) -> str:
        with read_only(self._engine) as connection:
            return instance_id(connection)

    def _look(self, argument: Any) -> None:
        """The actor: a hint's rows go to the heap."""
        mark_worker_thread()
        self._pool.intake.take(argument)

    def _may_hint(self) -> bool:
        """Whether what a reconciler looks at would reach the broker."""
        # A page more than it finds in one step, of its own and of shared mail.
        return self._broker.consuming and self._publisher.room() > 3 * PAGE

    def _consuming(self) -> None:
        """The broker is there, or there again: what it has not heard of meanwhile is looked at now."""
        self._publisher.try_again()
        self._pool.look_now(())

    def _hints_lost(self, apps: Collection[str]) -> None:
        self._pool.look_now(apps)

    @property
    def lost(self) -> bool:
        """Whether others have its rows, or the database is another one: it sends nothing more and must be replaced."""
        return self._pool.lost or self._guard.elsewhere is not None

    def missing(self) -> tuple[str, ...]:
        """What it lacks to send mail now, in words."""
        found = []
        if not self._pool.alive:
            found.append("no fresh heartbeat in the database")
        if not self._broker.consuming:
            found.append("not connected to RabbitMQ")
        elif not self._broker.connected:
            found.append("a queue of RabbitMQ cannot be consumed, the log says which")
        if self._counting is not None and self._counting.away is not None:
            found.append(f"no limiter: {self._counting.away}")
        return tuple(found)

    @property
    def notes(self) -> tuple[str, ...]:
        """What everybody should know of it although it sends, in words."""
        return self._pool.notes

    def tell_meter(self) -> None:
        """Tell the meter what became of hints since the last time. For one thread."""
        self._hint_counts.run_once()

    @property
    def held(self) -> int:
        """Rows that this process holds at the moment."""
        return self._pool.held

    def _stop_consuming(self) -> None:
        if self._consumer is not None:
            self._consumer.stop(timeout=int(CONSUMER_STOP_S * 1000))

    def stop(self) -> bool:
        """Drain; False when a thread was still busy after `drain_s`, and its rows are left to recovery."""
        self._pool.drain()
        self._dispatchers.end()
        consuming = threading.Thread(target=self._stop_consuming, name="mailfleet-consumer-end", daemon=True)
        consuming.start()
        # Beside it, not after it: waiting rows go back at once.
        in_time = self._pool.stop()
        consuming.join(CONSUMER_STOP_S)
        self._publisher.flush(2.0)
        self._dispatchers.stop()
        self._connections.close()
        self._logins.close()
        for loader in self._loaders:
            loader.close()
        self._stores.close()
        if self._counting is not None:
            self._counting.close()
        self._broker.close()
        self._engine.dispose()
        return in_time
