"""What a limiter is told, and what happened before: workers that lived, mails that were attempted."""

from collections.abc import Callable
from typing import Any

from redis import Redis
from sqlalchemy import Engine, text

from mailfleet_schema.statements import worker
from mailfleet_schema.statements.attempt import Attempt, add_attempts
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.redis import RedisLimiter
from mailfleet_workers.limits.seeding import Seeding
from tests.conformance.limits.kinds import HOST, rule

#: Long enough for a busy machine to do something within it.
LEASE_S = 1.5
DAY = Limits("default", HOST, (rule("100/d"),))

Make = Callable[..., tuple[RedisLimiter, Seeding]]


def attempted(engine: Engine, number: int, *, age_s: float = 0.0, **fields: Any) -> None:
    """*number* attempts that were accepted *age_s* ago, of account `default` and to one recipient each."""
    known = {"account": "default", "host": HOST, "phase": "eod", "verdict": "ok", "recipients": 1}
    made: dict[str, Any] = known | fields
    one = Attempt(mail_id=1, fence=1, worker_id=1, **made)
    with engine.begin() as connection:
        newest = connection.execute(
            text("SELECT coalesce(max(id), 0) FROM mailfleet.mail_attempt")
        ).scalar_one()
        add_attempts(connection, [one] * number)
        age = text(
            "UPDATE mailfleet.mail_attempt SET ended_at = ended_at - make_interval(secs => :s) WHERE id > :id"
        )
        connection.execute(age, {"s": age_s, "id": newest})


def lived(engine: Engine, *, started_s: float = 60.0, heard_s: float = 0.0) -> None:
    """A worker that started and was heard from last so many seconds ago."""
    with engine.begin() as connection:
        worker_id = worker.register(connection, app="billing", host="here", pid=1, version="0")
        age = text(
            "UPDATE mailfleet.worker SET started_at = started_at - make_interval(secs => :started_s),"
            " heartbeat_at = heartbeat_at - make_interval(secs => :heard_s) WHERE id = :id"
        )
        connection.execute(age, {"started_s": started_s, "heard_s": heard_s, "id": worker_id})


def used(limiter: RedisLimiter, account: str = "default") -> list[int]:
    return [one.used for one in limiter.usage(account).rules]


def forget(url: str) -> None:
    """What FLUSHALL does to a Redis that has one database in use."""
    with Redis.from_url(url) as client:
        client.flushdb()
