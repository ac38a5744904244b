"""Permits for mail without a row: from the fleet's limiter as long as it answers, and none needed while it does not.

An alarm that waits for the brake would not be one. So it may go beyond a limit while Redis is away, has lost its memory
(only a database could tell it what was sent), or does not know which installation this is; each such mail is counted.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mailfleet_schema.statements.gate import Gate
from mailfleet_workers.account import Account
from mailfleet_workers.limits.base import Grant, Limiter, LimiterUnavailable, Refusal, Report, Request
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.installation import find, place_of
from mailfleet_workers.limits.redis import NOT_READY, RedisLimiter
from mailfleet_workers.limits.redis_script import Script
from mailfleet_workers.limits.resolve import limited, limits_of
from mailfleet_workers.limits.rule import Scope
from mailfleet_workers.limits.unlimited import UnlimitedLimiter
from mailfleet_workers.settings import Settings
from mailfleet_workers.smtp.connection import server_name
from mailfleet_workers.telemetry.meter import SILENT, Meter

log = logging.getLogger(__name__)

#: Redis answers within this time, or the mail goes without it. Seconds.
DEADLINE_S = 0.3
#: How often leases are renewed while mails are sent, in seconds.
RENEW_S = 2.0
#: After Redis could not say whose limits it has, it is asked again so much later, in seconds.
ASK_AGAIN_S = 5.0


class Brake:
    """The limits of *settings*' accounts, for *app*. Thread-safe. *deadline_s* bounds each question to Redis."""

    def __init__(
        self,
        settings: Settings,
        app: str,
        *,
        catcher: tuple[str, int] | None = None,
        meter: Meter = SILENT,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._app = app
        self._meter = meter
        self._book = Book(limits_of(settings, catcher=catcher))
        # What a server asked of this process: known without Redis too.
        self._own = UnlimitedLimiter(time.monotonic)
        self._lock = threading.Lock()
        self._knowing = threading.Lock()
        self._place = place_of(settings.database_url)
        self._script: Script | None = None
        self._redis: RedisLimiter | None = None
        self._ask_at = 0.0
        self._unknown = ""
        self._free_since: str | None = None
        if settings.redis_url is not None:
            self._script = Script(settings.redis_url, lease_s=settings.limits.lease_s, timeout_s=deadline_s)
            self._redis = RedisLimiter(
                settings.redis_url, self._book, lease_s=settings.limits.lease_s, script=self._script
            )

    def know(self, account: Account) -> None:
        """The limits of an *account* that is in no settings are its server's."""
        with self._knowing:
            self._know(account)

    def _know(self, account: Account) -> None:
        host, known = server_name(account), self._book.all()
        if account.name in known and known[account.name].host == host:
            return
        beside = next((one for one in known.values() if one.host == host), None)
        own = Limits(account.name, host, login=account.username is not None)
        if beside is not None:
            own = Limits(
                account.name,
                host,
                rules=tuple(rule for rule in beside.rules if rule.scope is Scope.HOST),
                host_connections=beside.host_connections,
                host_login_gap_ms=beside.host_login_gap_ms,
                max_idle_ms=beside.max_idle_ms,
                login=own.login,
            )
        self._book.replace({**known, account.name: own})

    def max_idle_s(self, account: str) -> float:
        """How long a wait of *account* is slept out; a longer one is told."""
        limits = self._book.of(account)
        return (Limits(account, "").max_idle_ms if limits is None else limits.max_idle_ms) / 1000

    def ask(self, request: Request) -> tuple[Grant | Refusal, Limiter]:
        """A permit for *request*, and who gave it; without Redis everything is granted."""
        limits = self._book.of(request.account)
        if limits is None or not limited(limits):
            # Logins alone are no limit: there is nothing to ask Redis for.
            return self._own.ask(request), self._own
        redis, why = self._answering()
        if redis is not None:
            answer = redis.ask(request)
            if redis.away is None and not (isinstance(answer, Refusal) and answer.rule == NOT_READY):
                self._free_since = None
                return answer, redis
            why = redis.away or "it has lost its memory"
        self._meter.unlimited(request.app, request.account, request.host)
        if self._free_since != why:
            self._free_since = why
            fields = {"app": request.app, "account": request.account, "reason": why}
            log.warning("notice_unlimited", extra=fields)
        return self._own.ask(request), self._own

    def gate(self, account: str, host: str, domains: Sequence[str]) -> Gate | None:
        """The gate that a server closed for this process and that is closed longest; None if open."""
        return self._own.gate(account=account, host=host, app=self._app, domains=domains)

    def close_gate(self, gate: Gate) -> None:
        """Know what a server has asked for."""
        self._own.close_gate(gate)

    def may_go_on(self, limiter: Limiter, token: str) -> bool:
        """Whether permit or slot *token* of *limiter* still holds, or nobody is there to say that it does not."""
        return limiter.holds(token) or (limiter is self._redis and self._redis.away is not None)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """While mails are sent, what they have of the limiter stays theirs."""
        redis = self._redis
        if redis is None:
            yield
            return
        end = threading.Event()

        def renew() -> None:
            while not end.wait(RENEW_S):
                if redis.instance:  # else nothing was granted, and nobody's keys would be touched
                    redis.renew()

        threading.Thread(target=renew, name="mailfleet-notice-leases", daemon=True).start()
        try:
            yield
        finally:
            end.set()

    def report(self, limiter: Limiter, reports: Sequence[Report]) -> None:
        """Say which permits are finished."""
        if reports:
            limiter.report(reports)

    def close(self) -> None:
        """End the connections to Redis. Harmless when repeated."""
        if self._redis is not None:
            self._redis.close()

    def _answering(self) -> tuple[RedisLimiter | None, str]:
        """The limiter, once it is known whose limits it keeps; else why there is none."""
        redis, script = self._redis, self._script
        if redis is None or script is None:
            return None, "no redis_url"
        with self._lock:
            if redis.instance:
                return redis, ""
            if time.monotonic() < self._ask_at:
                return None, self._unknown
            try:
                found = find(script, self._place)
                self._unknown = "it does not know this installation"
            except LimiterUnavailable as error:
                found, self._unknown = None, str(error)
            if found is None:
                self._ask_at = time.monotonic() + ASK_AGAIN_S
                return None, self._unknown
            redis.instance = found
            return redis, ""
