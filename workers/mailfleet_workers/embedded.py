"""mailfleet in one process: SQLite, dramatiq's in-process broker, a local limiter, and a server that catches mail.

The same code as in a fleet behind the same three plug-points; apps are threads here, not processes. The database is the
truth, so a restart loses nothing: what the last process left is recovered from its journal before anything is
sent. A second process on the same database is refused.
"""

import fcntl
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import dramatiq
from sqlalchemy import Engine, text

from mailfleet import Mailer
from mailfleet.broker.embedded import EmbeddedBroker
from mailfleet.errors import MailfleetError, SettingsError
from mailfleet.worker_thread import mark_worker_thread
from mailfleet_schema import migrations
from mailfleet_schema.dialects import SQLITE
from mailfleet_schema.engine import open_engine, parse_url, read_only
from mailfleet_schema.hint import InvalidHint
from mailfleet_schema.names import check_name
from mailfleet_schema.statements import reconcile, worker
from mailfleet_schema.states import OnDoubt, Priority
from mailfleet_schema.topology import ACTOR, SHARED_APP, queue_name
from mailfleet_workers import journal
from mailfleet_workers.accounts.credentials import Logins
from mailfleet_workers.accounts.directory import Directory
from mailfleet_workers.accounts.loaders import Loader, installed
from mailfleet_workers.accounts.oauth.rows import DatabaseRows
from mailfleet_workers.accounts.oauth.tokens import Tokens
from mailfleet_workers.catcher import Catcher, DirectoryStore, Script
from mailfleet_workers.clone_guard import CloneGuard
from mailfleet_workers.intake import IntakeClosed
from mailfleet_workers.limits.book import Book
from mailfleet_workers.limits.local import LocalLimiter
from mailfleet_workers.modules import load_modules
from mailfleet_workers.notify import broker_notify
from mailfleet_workers.plan import PoolPlan
from mailfleet_workers.pool import Pool
from mailfleet_workers.reconciler import Pass
from mailfleet_workers.recovery import Recovered, recover
from mailfleet_workers.settings import Settings
from mailfleet_workers.settings.replies import rules_of
from mailfleet_workers.smtp.pool import ConnectionPool
from mailfleet_workers.stores import Stores, shelves_of
from mailfleet_workers.ways import Ways
from mailfleet_workers.webhooks.dispatchers import Dispatchers

#: One process has the database for itself: no page need be small for somebody else's sake.
EVERYTHING = 2**31 - 1
#: Milliseconds for which an idle consumer waits at once.
_CONSUMER_WAIT_MS = 200


class AlreadyRunning(MailfleetError):  # noqa: N818 - reads as the fact it states
    """Another process sends from this embedded database; *path* is its lock."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path}: another process runs mailfleet on this database; stop it or use its data_dir"
        )


class Embedded:
    """A whole mailfleet as a context manager; *apps* get a pool of threads each.

    *script* is what the catching server does; None takes every mail. *environ* is where `env:` secrets are looked up.
    *fixed_chunk* sets the chunk of every thread (tests). Raises AlreadyRunning, SettingsError, Elsewhere for a
    copy that nobody has confirmed, and what SQLite raises.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        apps: Sequence[str],
        script: Script | None = None,
        environ: Mapping[str, str] | None = None,
        fixed_chunk: int | None = None,
        rng: random.Random | None = None,
    ) -> None:
        url = parse_url("database_url", settings.database_url)
        if url.get_backend_name() != SQLITE.name:
            raise SettingsError(
                "database_url", "sqlite:///file for the embedded mode", url.render_as_string()
            )
        self._url = url
        self._settings = settings
        self._apps = tuple(dict.fromkeys(check_name("app", app) for app in apps))
        self._environ = os.environ if environ is None else environ
        self._fixed_chunk = fixed_chunk
        self._rng = rng or random.Random()
        self._guard = CloneGuard(settings.installation)
        self._lock: int | None = None
        self._pools: dict[str, Pool] = {}
        self._consumers: list[dramatiq.Worker] = []
        self._loaders: Sequence[Loader] = ()
        self.recovered = Recovered()
        self.catcher = Catcher(DirectoryStore(settings.data_dir / "caught"), script=script)
        self.engine: Engine = open_engine(url)
        self._dispatchers = Dispatchers(self.engine, settings, environ=self._environ, rng=random.Random())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Recover what the last process left, then start. On an error nothing is left running.

        Raises SettingsError for modules of `apps.NAME.import` that cannot be loaded.
        """
        load_modules(self._settings, self._apps)
        self._lock_database()
        try:
            migrations.upgrade(self.engine)
            with self.engine.begin() as connection:
                self._guard.enter(connection)
            self.recovered = self._recover()
            # The last process's hints died with it: what is due is looked at now, not when its next look comes.
            with self.engine.begin() as connection:
                reconcile.look_now(connection, self._apps, beyond_s=0.0, most=EVERYTHING, shared=True)
            self.catcher.start()
            self._dispatchers.start()
            self._start_pools()
        except BaseException:
            self.stop()
            raise

    def mailer(self, app: str) -> Mailer:
        """A mailer for *app* that hints in this process; any thread but a sender may use it."""
        return Mailer(
            app,
            engine=self.engine,
            broker=self._broker,
            on_doubt=OnDoubt(self._settings.app(app).on_doubt),
            message_id_domain=self._message_id_domain(),
            grace_s=self._settings.timing.grace_s,
            shelves=shelves_of(self._settings.stores, app),
        )

    def _message_id_domain(self) -> str | None:
        sender = self._settings.accounts["default"].sender
        return sender.address.rpartition("@")[2] if sender else None

    def scan(self) -> Pass:
        """One pass of every app's reconciler, now."""
        total = Pass()
        for pool in self._pools.values():
            total += pool.reconcile()
        return total

    def wait_idle(self, deadline_s: float) -> bool:
        """Wait until nothing is being sent and nothing queued is due; False when *deadline_s* passed before."""
        until = time.monotonic() + deadline_s
        tick = threading.Event()
        while self._busy():
            if time.monotonic() >= until:
                return False
            tick.wait(0.02)
        return True

    def _busy(self) -> bool:
        statement = text(
            SQLITE.format(
                "SELECT EXISTS (SELECT 1 FROM {mail} WHERE state = 'sending')"
                " OR EXISTS (SELECT 1 FROM {mail} WHERE state = 'queued' AND due_at <= {now})"
            )
        )
        with read_only(self.engine) as connection:
            return bool(connection.execute(statement).scalar_one())

    def stop(self) -> None:
        """Drain and stop, within `drain_s`. Harmless when repeated."""
        for pool in self._pools.values():
            pool.drain()  # an intake that waits for room would keep its consumer for half a minute
        # Each looks twice whether it is to end, after its wait: one after the other they would take seconds.
        _together(consumer.stop for consumer in self._consumers)
        self._consumers.clear()
        _together(pool.stop for pool in self._pools.values())
        if self._pools:
            self._connections.close()
            self._logins.close()
            for loader in self._loaders:
                loader.close()
            self._stores.close()
            self._broker.close()
        self._pools.clear()
        self._dispatchers.stop()
        self.catcher.stop()
        self.engine.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _lock_database(self) -> None:
        path = f"{self._url.database}.lock"
        self._settings.data_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise AlreadyRunning(path) from error
        self._lock = lock

    def _recover(self) -> Recovered:
        # We hold the lock, so every worker that the database knows is dead, whatever the journals say.
        directory = self._settings.data_dir / "journal"
        with self.engine.begin() as connection:
            known = worker.all_workers(connection)
        ids = sorted({one.id for one in known} | journal.workers_in(directory))
        return recover(
            self.engine,
            directory,
            ids,
            self._settings.patience(),
            alone=True,
            endpoints=self._settings.endpoints(),
        )

    def _start_pools(self) -> None:
        self._broker = EmbeddedBroker(self._url)
        catcher = (self.catcher.host, self.catcher.port)
        self._loaders = installed(time.monotonic, asked=self._settings.account_loaders)
        directory = Directory(
            self._settings,
            environ=self._environ,
            catcher=catcher,
            engine=self.engine,
            loaders=self._loaders,
        )
        self._logins = Logins(self._environ, Tokens(self._environ, DatabaseRows(self.engine)))
        ways = Ways(
            self._settings, environ=self._environ, catcher=catcher, directory=directory, logins=self._logins
        )
        self._connections = ConnectionPool(ways.transport, time.monotonic)
        directory.listen(self._connections.heard)
        limiter = LocalLimiter(
            Book(directory.limits()), time.monotonic, lease_s=self._settings.limits.lease_s, empty=False
        )
        rules = rules_of(self._settings)
        self._stores = Stores(self._settings.stores, self._apps)
        for app in self._apps:
            pool = Pool(
                PoolPlan.of(self._settings, app, alone=True, fixed_chunk=self._fixed_chunk),
                self.engine,
                limiter=limiter,
                counting=limiter,
                resolve=directory.limits,
                directory=directory,
                connections=self._connections,
                rules=rules,
                way=ways,
                notify=broker_notify(self._broker),
                rng=self._rng,
                stores=self._stores,
                guard=self._guard,
            )
            for priority in Priority:
                self._broker.declare_queue(queue_name(app, priority))
                self._broker.declare_queue(queue_name(SHARED_APP, priority))
            pool.start()
            self._pools[app] = pool
        dramatiq.Actor(
            self._look,
            broker=self._broker,
            actor_name=ACTOR,
            queue_name=queue_name(self._apps[0], Priority.NORMAL),
            priority=0,
            # Said in one line, not as a failure with a traceback.
            options={"throws": (InvalidHint, IntakeClosed)},
        )
        for app in dict.fromkeys((*self._apps, SHARED_APP)):
            for priority in Priority:
                self._consume(queue_name(app, priority))

    def _consume(self, queue: str) -> None:
        consumer = dramatiq.Worker(
            self._broker, queues={queue}, worker_threads=1, worker_timeout=_CONSUMER_WAIT_MS
        )
        consumer.start()
        self._consumers.append(consumer)

    def _look(self, argument: Any) -> None:
        """The actor: a hint's rows go to the heap of their app."""
        mark_worker_thread()
        app = argument.get("app") if isinstance(argument, Mapping) else None
        if app == SHARED_APP and app not in self._pools:
            self._look_together(argument)
        else:
            pool = self._pools.get(str(app), next(iter(self._pools.values())))
            pool.intake.take(argument)

    def _look_together(self, argument: Any) -> None:
        """A hint for all that share goes to the one of them that has least to do; where nobody shares, each takes its own."""
        sharing = [pool for app, pool in self._pools.items() if self._settings.shares(app)]
        idlest = sorted(sharing, key=lambda pool: pool.held)[:1]
        for pool in idlest or self._pools.values():
            pool.intake.take(argument)


def _together(calls: Iterable[Callable[[], object]]) -> None:
    """Call all of *calls* at once, and wait for them."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
