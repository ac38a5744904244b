"""A notice and the limits of the fleet: it counts in them while Redis answers, and goes on when it does not."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from mailfleet import Mail
from mailfleet_schema.states import Priority
from mailfleet_workers.catcher import Catcher
from mailfleet_workers.limits.base import Grant, LimiterUnavailable, Refusal, Request
from mailfleet_workers.limits.book import Book
from mailfleet_workers.limits.installation import KEY, place_of
from mailfleet_workers.limits.redis import RedisLimiter
from mailfleet_workers.limits.resolve import limits_of
from mailfleet_workers.notice import Notice, NotYet, Sent
from mailfleet_workers.settings import Settings
from mailfleet_workers.telemetry.prometheus import PrometheusMeter
from tests.integration.notice.conftest import Listener, settings_of
from tests.services.redis import PrivateRedis
from tests.waiting import wait_until

MAIL = Mail(to="ada@example.net", subject="Alarm", text="x")
Fleet = Callable[..., tuple[Settings, RedisLimiter]]


@pytest.fixture
def fleet(catcher: Catcher, database: Listener, redis_server: PrivateRedis) -> Iterator[Fleet]:
    """Settings with *limits*, and the limiter of a worker that uses them, which knows what was sent: nothing."""
    made = []

    def make(url: str | None = None, **limits: Any) -> tuple[Settings, RedisLimiter]:
        settings = settings_of(
            catcher.port, database.port, account={"limits": limits}, redis_url=url or redis_server.url
        )
        worker = RedisLimiter(
            redis_server.url,
            Book(limits_of(settings)),
            instance="of-the-test",
            lease_s=settings.limits.lease_s,
            place=place_of(settings.database_url),
        )
        made.append(worker)
        tell(worker)
        return settings, worker

    yield make
    for one in made:
        one.close()


def tell(worker: RedisLimiter) -> None:
    """What a worker does when Redis knows nothing."""
    for lacking in worker.unready():
        worker.seed(lacking.host, [(name, []) for name, _, _ in lacking.rules], epoch=lacking.epoch)
    worker.announce()


def ask(worker: RedisLimiter) -> Grant | Refusal:
    """One permit, for a worker's own mail."""
    limits = worker.book.all()["default"]
    token = f"worker-{id(object())}"
    return worker.ask(Request(token, "billing", "default", limits.host, Priority.NORMAL, (1,)))


def used(worker: RedisLimiter) -> int:
    return worker.usage("default").rules[0].used


def unlimited(meter: PrometheusMeter) -> float:
    labels = {"app": "billing", "account": "default"}
    meter.flush()
    return sum(
        sample.value
        for family in meter.registry.collect()
        for sample in family.samples
        if sample.name == "mailfleet_notices_unlimited_total" and labels.items() <= sample.labels.items()
    )


@pytest.mark.tinymail("50", "D6")
def test_it_counts_in_the_limits_of_the_fleet(fleet: Fleet, catcher: Catcher) -> None:
    """Permits are taken with the workers' own keys, and nothing is left of a lease when the mail is sent."""
    settings, worker = fleet(messages=["3/h"], connections=1)
    with Notice(settings, "billing") as notice:
        assert notice.send_many([MAIL, MAIL]) is True
        assert used(worker) == 2
        assert worker.usage("default").connections == 0
        assert isinstance(ask(worker), Grant)
        refused = notice.post(MAIL)
        assert isinstance(refused, NotYet)
        assert refused.reason.startswith("limit: ")
        assert (refused.wait_s or 0) > 60
    assert len(catcher.store) == 2


def test_a_short_wait_is_slept_out(fleet: Fleet, catcher: Catcher) -> None:
    """Within max_idle_ms it waits for its permit; beyond it says so."""
    settings, _ = fleet(messages=["1/s"], max_idle_ms=5000)
    with Notice(settings, "billing") as notice:
        assert [type(one) for one in notice.post_many([MAIL, MAIL])] == [Sent, Sent]
    first, second = catcher.store.wait_for(2, 10)
    assert second.monotonic - first.monotonic > 0.9
    settings, _ = fleet(messages=["1/h"], max_idle_ms=0)
    with Notice(settings, "billing") as notice:
        assert [type(one) for one in notice.post_many([MAIL, MAIL])] == [Sent, NotYet]


def test_more_recipients_than_a_window_has(fleet: Fleet, catcher: Catcher) -> None:
    """It will never be sent."""
    settings, _ = fleet(recipients=["1/h"])
    with Notice(settings, "billing") as notice:
        result = notice.post(Mail(to=["a@example.net", "b@example.net"], text="x"))
        assert type(result).__name__ == "Failed"
    assert catcher.sessions_seen == 0


@pytest.mark.tinymail("50")
def test_without_redis(
    fleet: Fleet, catcher: Catcher, redis_server: PrivateRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """It was there and is killed: the alarm goes all the same, beyond the limit, and this is counted and said once."""
    settings, _ = fleet(messages=["1/h"], connections=1)
    meter = PrometheusMeter()
    with Notice(settings, "billing", meter=meter) as notice:
        assert notice.send(MAIL)
        assert isinstance(notice.post(MAIL), NotYet)
        assert unlimited(meter) == 0
        redis_server.kill()
        assert [type(one) for one in notice.post_many([MAIL, MAIL])] == [Sent, Sent]
        assert unlimited(meter) == 2
        assert [record.msg for record in caplog.records].count("notice_unlimited") == 1
        redis_server.restart()
        # It has lost its memory, and there is no database to tell it.
        assert isinstance(notice.post(MAIL), Sent)
    assert len(catcher.store) == 4


def test_redis_is_back(fleet: Fleet, redis_server: PrivateRedis) -> None:
    """As soon as a worker has told it what was sent, the limits hold again."""
    settings, worker = fleet(messages=["2/h"])
    with Notice(settings, "billing") as notice:
        assert notice.send(MAIL)
        redis_server.kill()
        assert notice.send(MAIL)
        redis_server.restart()

        def told() -> bool:
            try:
                tell(worker)
            except LimiterUnavailable:
                return False
            return True

        wait_until(told, 20, lambda: "Redis does not come back")
        wait_until(lambda: isinstance(notice.post(MAIL), NotYet), 20, lambda: "nothing is limited")


@pytest.mark.tinymail("50")
@pytest.mark.parametrize("why", ["never there", "frozen", "another installation's", "no url"])
def test_redis_that_cannot_say(
    fleet: Fleet,
    catcher: Catcher,
    database: Listener,
    redis_server: PrivateRedis,
    why: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever keeps it from answering, the mail goes, and the log has the reason."""
    settings, _ = fleet(messages=["1/h"])
    expected = ""
    match why:
        case "never there":
            settings, expected = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}), "Error"
        case "frozen":
            redis_server.freeze()
            expected = "no answer in time"
        case "another installation's":
            with redis.Redis.from_url(redis_server.url) as client:
                client.delete(KEY)
                client.hset(KEY, mapping={"elsewhere:5432/a": "x", "elsewhere:5432/b": "y"})
            expected = "it does not know this installation"
        case _:
            settings, expected = settings.model_copy(update={"redis_url": None}), "no redis_url"
    with caplog.at_level(logging.WARNING), Notice(settings, "billing") as notice:
        assert notice.send_many([MAIL, MAIL]) is True
    assert len(catcher.store) == 2
    (said,) = [record.__dict__["reason"] for record in caplog.records if record.msg == "notice_unlimited"]
    assert expected in said


def test_the_only_installation_is_ours(fleet: Fleet, redis_server: PrivateRedis) -> None:
    """Others may have another name for the database's host."""
    settings, worker = fleet(messages=["1/h"])
    with redis.Redis.from_url(redis_server.url) as client:
        client.delete(KEY)
        client.hset(KEY, mapping={"db.internal:5432/mailfleet": "of-the-test"})
    with Notice(settings, "billing") as notice:
        assert notice.send(MAIL)
    assert used(worker) == 1


def test_what_redis_forgets_is_said_again(fleet: Fleet, redis_server: PrivateRedis) -> None:
    """With what was sent, it hears again whose limits these are."""
    settings, worker = fleet(messages=["1/h"])
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        client.flushall()
        for lacking in worker.unready():
            worker.seed(lacking.host, [(name, []) for name, _, _ in lacking.rules], epoch=lacking.epoch)
        assert client.hgetall(KEY) == {place_of(settings.database_url): "of-the-test"}


def test_nothing_is_asked_where_nothing_is_limited(
    fleet: Fleet, redis_server: PrivateRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis may be away then, and nobody is told."""
    settings, _ = fleet()
    redis_server.kill()
    with Notice(settings, "billing") as notice:
        assert notice.send(MAIL)
    assert "notice_unlimited" not in caplog.text


def test_the_place_of_a_database() -> None:
    """Without user and password, by whatever name the URL has the host."""
    assert place_of("postgresql://me:secret@db.example.com/mail") == "db.example.com:5432/mail"
    assert place_of("postgresql+psycopg://me@[::1]:6432/mail") == "::1:6432/mail"
    assert place_of("postgresql:///mail?host=/run/postgresql") == "/run/postgresql:5432/mail"
