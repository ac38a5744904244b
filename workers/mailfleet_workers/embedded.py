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
from collections.abc import Callable, Mapping, Sequence
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
from mailfleet_schema.names import check_name
from mailfleet_schema.statements import reconcile, worker
from mailfleet_schema.states import OnDoubt, Priority
from mailfleet_schema.topology import ACTOR, queue_name
from mailfleet_workers import journal
from mailfleet_workers.account import Account
from mailfleet_workers.catcher import Catcher, DirectoryStore, Script
from mailfleet_workers.classify import Rules
from mailfleet_workers.desk import Way
from mailfleet_workers.limits.unlimited import UnlimitedLimiter
from mailfleet_workers.notify import broker_notify
from mailfleet_workers.outcome import Policy
from mailfleet_workers.pool import Pool, PoolPlan
from mailfleet_workers.reconciler import Pass
from mailfleet_workers.recovery import Recovered, recover
from mailfleet_workers.settings import Settings
from mailfleet_workers.smtp.base import Transport
from mailfleet_workers.smtp.connection import SmtpTransport
from mailfleet_workers.smtp.dry import DryRunTransport
from mailfleet_workers.smtp.pool import ConnectionPool

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
    *fixed_chunk* sets the chunk of every thread (tests). Raises AlreadyRunning, SettingsError and what SQLite raises.
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
        self._lock: int | None = None
        self._pools: dict[str, Pool] = {}
        self._consumers: list[dramatiq.Worker] = []
        self._ways: dict[tuple[str, str], Way | None] = {}
        self.recovered = Recovered()
        self.catcher = Catcher(DirectoryStore(settings.data_dir / "caught"), script=script)
        self.engine: Engine = open_engine(url)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Recover what the last process left, then start. On an error nothing is left running."""
        self._lock_database()
        try:
            migrations.upgrade(self.engine)
            self.recovered = self._recover()
            # The last process's hints died with it: what is due is looked at now, not when its next look comes.
            with self.engine.begin() as connection:
                reconcile.look_now(connection, self._apps)
            self.catcher.start()
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
        for consumer in self._consumers:
            consumer.stop()
        self._consumers.clear()
        stopping = [threading.Thread(target=pool.stop) for pool in self._pools.values()]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()
        if self._pools:
            self._connections.close()
            self._broker.close()
        self._pools.clear()
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
        # We hold the lock, so every worker that the database knows is dead.
        directory = self._settings.data_dir / "journal"
        with self.engine.begin() as connection:
            known = worker.all_workers(connection)
        ids = sorted({one.id for one in known} | journal.workers_in(directory))
        return recover(self.engine, directory, ids, self._settings.patience())

    def _start_pools(self) -> None:

        self._broker = EmbeddedBroker(self._url)
        self._connections = ConnectionPool(self._transport, time.monotonic)
        limiter = UnlimitedLimiter(time.monotonic)
        rules = Rules.builtin()
        for app in self._apps:
            pool = Pool(
                self._plan(app),
                self.engine,
                limiter=limiter,
                connections=self._connections,
                rules=rules,
                way=self._way_of(app),
                notify=broker_notify(self._broker),
                rng=self._rng,
            )
            for priority in Priority:
                self._broker.declare_queue(queue_name(app, priority))
            pool.start()
            self._pools[app] = pool
        dramatiq.Actor(
            self._look,
            broker=self._broker,
            actor_name=ACTOR,
            queue_name=queue_name(self._apps[0], Priority.NORMAL),
            priority=0,
            options={},
        )
        for app in self._apps:
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
        pool = self._pools.get(str(app), next(iter(self._pools.values())))
        pool.intake.take(argument)

    def _plan(self, app: str) -> PoolPlan:
        settings, timing = self._settings, self._settings.timing
        return PoolPlan(
            app=app,
            threads=settings.app(app).threads,
            heap_rows=settings.app(app).heap,
            journal_dir=settings.data_dir / "journal",
            patience=settings.patience(),
            policy=Policy(try_next_s=timing.try_next_s, settle_s=timing.settle_s),
            heartbeat_s=timing.heartbeat_s,
            reconcile_s=timing.reconcile_s,
            prepare_s=timing.prepare_s,
            drain_s=timing.drain_s,
            fixed_chunk=self._fixed_chunk,
            chunk_s=timing.chunk_ms / 1000,
            run_mode=settings.run_mode,
            alone=True,
        )

    def _way_of(self, app: str) -> Callable[[str], Way | None]:
        def way(name: str) -> Way | None:
            if (app, name) not in self._ways:
                self._ways[app, name] = self._way(app, name)
            return self._ways[app, name]

        return way

    def _way(self, app: str, name: str) -> Way | None:
        if name not in self._settings.app(app).accounts or name not in self._settings.accounts:
            return None
        account = self._settings.account(name, catcher=(self.catcher.host, self.catcher.port))
        return Way(account, dry_run=self._dry_run(account))

    def _dry_run(self, account: Account) -> bool:
        if self._settings.accounts[account.name].dry_run:
            return True
        caught = (account.host, account.port) == (self.catcher.host, self.catcher.port)
        return self._settings.delivery == "dry_run" and not caught

    def _transport(self, account: Account) -> Transport:
        if self._dry_run(account):
            return DryRunTransport()
        return SmtpTransport(account, environ=self._environ)
