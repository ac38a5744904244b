"""Bringing events to a real server: signed, again until it takes them, given up visibly, and never one endpoint behind another."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from mailfleet_schema.dialects import SQLITE
from mailfleet_schema.engine import read_only
from mailfleet_schema.statements import webhook, webhook_delivery
from mailfleet_schema.webhook import Endpoint as Told
from mailfleet_workers.operators.webhooks import EndpointStatus, list_webhooks, retry_webhooks
from mailfleet_workers.settings import Settings, WebhookSettings
from mailfleet_workers.telemetry.meter import Meter
from mailfleet_workers.webhooks.dispatcher import Dispatcher, Round
from mailfleet_workers.webhooks.dispatchers import Dispatchers
from tests.conformance.statements.bench import Bench
from tests.integration.webhooks.endpoint import SECRET, Endpoint, answer, drip
from tests.waiting import wait_until

NAME = "shop"
ENVIRON = {"WEBHOOK_SECRET": SECRET}
DAY_S = 86_400.0


class Counting(Meter):
    """Counts what became of events."""

    def __init__(self) -> None:
        self.results: list[str] = []

    def webhook(self, endpoint: str, result: str, events: int = 1) -> None:
        self.results += [result] * events


def settings(url: str, **more: Any) -> WebhookSettings:
    return WebhookSettings(url=url, secret="env:WEBHOOK_SECRET", **{"timeout_s": 5.0, **more})


def dispatcher(
    engine: Engine, url: str, *, name: str = NAME, environ: dict[str, str] = ENVIRON, **more: Any
) -> Dispatcher:
    meter = more.pop("meter", None) or Counting()
    return Dispatcher(engine, name, settings(url, **more), environ=environ, rng=random.Random(1), meter=meter)


def tell(bench: Bench, mails: int = 1, *, name: str = NAME) -> list[int]:
    """So many mails are cancelled, and the endpoint is to be told."""
    told = Told(name)
    ids = []
    for _ in range(mails):
        row = bench.failed()
        ids.append(row.id)
        with bench.engine.begin() as connection:
            assert webhook.tell(connection, [told], [row.id]) == 1
    return ids


def rows(bench: Bench) -> list[Any]:
    table = bench.tables.webhook_event
    with read_only(bench.engine) as connection:
        return list(connection.execute(select(table).order_by(table.c.id)))


def states(bench: Bench) -> list[str]:
    return [row.state for row in rows(bench)]


def let_pass(bench: Bench, seconds: float) -> None:
    """So many seconds go by for all events."""
    by = str(int(seconds * 1000)) if bench.dialect is SQLITE else f"interval '{seconds} seconds'"
    moved = ", ".join(f"{name} = {name} - {by}" for name in ("due_at", "created_at", "ended_at"))
    with bench.engine.begin() as connection:
        connection.execute(text(f"UPDATE {bench.tables.webhook_event} SET {moved}"))


@contextmanager
def silence() -> Iterator[str]:
    """The URL of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


def nowhere() -> str:
    """The URL of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}/"


def test_delivered(bench: Bench, endpoint: Endpoint) -> None:
    """Posted once, as JSON, signed; delivered, and not posted again."""
    mails = tell(bench, 3)
    one = dispatcher(bench.engine, endpoint.url)
    assert one.run_once() == Round(delivered=3)
    assert one.run_once() == Round()
    assert endpoint.events == [f"{mail} mail.failed" for mail in mails]
    request = endpoint.requests[0]
    assert request.path == "/told?of=mail"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("mailfleet/")
    assert [(row.state, row.tries, row.last_code, row.event_id) for row in rows(bench)] == [
        ("delivered", 1, 204, event_id) for event_id in endpoint.ids
    ]


@pytest.mark.parametrize("code", [301, 302, 307, 308, 400, 404, 429, 500, 503])
def test_tried_again(bench: Bench, endpoint: Endpoint, code: int) -> None:
    """Anything but 2xx: again after a while, with the same id; no redirect is followed."""
    tell(bench)
    endpoint.script(answer(code, Location=endpoint.url + "/elsewhere"), answer(200))
    meter = Counting()
    one = dispatcher(bench.engine, endpoint.url, meter=meter)
    assert one.run_once().failed == 1
    assert one.run_once() == Round(), "it is not due"
    (row,) = rows(bench)
    assert (row.state, row.tries, row.last_code, row.last_error) == ("open", 1, code, f"HTTP {code}")
    let_pass(bench, 10)
    assert one.run_once() == Round(delivered=1)
    assert [request.path for request in endpoint.requests] == ["/told?of=mail"] * 2
    assert len(set(endpoint.ids)) == 1
    assert meter.results == ["failed", "delivered"]
    assert rows(bench)[0].last_error is None


def test_gone(bench: Bench, endpoint: Endpoint) -> None:
    """410 gives the event up at once, and lets the next one be tried."""
    tell(bench, 2)
    endpoint.script(answer(410), answer(204))
    assert dispatcher(bench.engine, endpoint.url).run_once() == Round(delivered=1, given_up=1)
    assert states(bench) == ["given_up", "delivered"]


def test_given_up_and_retried(bench: Bench, endpoint: Endpoint) -> None:
    """After its time an event is given up, with those that are as old; an operator may have them posted again."""
    mails = tell(bench, 3)
    endpoint.script(answer(500))
    meter = Counting()
    one = dispatcher(bench.engine, endpoint.url, meter=meter)
    let_pass(bench, 3 * DAY_S - 100)
    assert one.run_once().given_up == 0
    let_pass(bench, 200)
    tell(bench)
    done = one.run_once()
    assert (done.delivered, done.given_up) == (0, 3)
    assert states(bench) == ["given_up"] * 3 + ["open"]
    assert meter.results == ["failed", "given_up", "given_up", "given_up"]
    assert len(endpoint.requests) == 2, "one of three that wait for the same thing is tried"
    with read_only(bench.engine) as connection:
        (status,) = list_webhooks(connection)
    assert (status.open, status.given_up, status.known) == (1, 3, False)
    endpoint.script(answer(204))
    assert retry_webhooks(bench.engine, "other") == 0
    assert retry_webhooks(bench.engine, NAME) == 3
    let_pass(bench, 10)  # the fourth was kept back for a moment
    assert one.run_once() == Round(delivered=4)
    assert {request.event for request in endpoint.requests} >= {f"{mail} mail.failed" for mail in mails}


@pytest.mark.parametrize("fails", ["refused", "silent", "dripping", "no secret"])
def test_without_an_answer(bench: Bench, endpoint: Endpoint, fails: str) -> None:
    """Refused, silent, endless: each ends within its time, the rest of the page is kept back, and the row says why."""
    tell(bench, 3)
    release = threading.Event()
    with silence() as silent:
        endpoint.script(drip(release))
        url = {"refused": nowhere(), "silent": silent}.get(fails, endpoint.url)
        environ = {} if fails == "no secret" else ENVIRON
        done = dispatcher(bench.engine, url, timeout_s=0.3, environ=environ).run_once()
    release.set()
    assert (done.delivered, done.failed, done.given_up) == (0, 1, 0)
    assert done.pause_s is not None
    said = {
        "refused": "ConnectionRefusedError: Connection refused",
        "silent": "no answer within 0.3 s",
        "dripping": "no answer within 0.3 s",
        "no secret": "webhooks.shop.secret: expected the variable WEBHOOK_SECRET to be set and not empty",
    }[fails]
    found = [(row.tries, row.last_error) for row in rows(bench)]
    # Both of the socket and of the whole: whichever comes first.
    assert found[0] in {(1, said), (1, "TimeoutError")}
    assert found[1:] == [(0, None)] * 2


def test_one_that_hangs_keeps_no_other_waiting(bench: Bench, endpoint: Endpoint) -> None:
    """Each endpoint has a thread: while one says nothing, the other hears of everything."""
    release = threading.Event()
    slow = Endpoint()
    slow.script(drip(release))
    tell(bench, 5, name="slow")
    tell(bench, 5)
    both = Settings.model_validate(
        {
            "webhooks": {
                "slow": {"url": slow.url, "secret": "env:WEBHOOK_SECRET", "timeout_s": 60.0},
                NAME: {"url": endpoint.url, "secret": "env:WEBHOOK_SECRET"},
            }
        }
    )
    running = Dispatchers(bench.engine, both, environ=ENVIRON, rng=random.Random(1))
    running.start()
    wait_until(
        lambda: len(endpoint.requests) == 5 and len(slow.requests) == 1, 20, lambda: str(states(bench))
    )
    with read_only(bench.engine) as connection:
        found = list_webhooks(connection)
    assert [(one.endpoint, one.known, one.open) for one in found if one.endpoint == "slow"] == [
        ("slow", True, 5)
    ]
    running.stop()
    running.stop()
    release.set()
    slow.close()
    alive = [thread.name for thread in threading.enumerate() if thread.name.endswith(("-slow", "-shop"))]
    assert alive == []
    slowly = [row for row in rows(bench) if row.endpoint == "slow"]
    assert [(row.state, row.tries) for row in slowly] == [("open", 0)] * 5, "our own end is no failure"


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("when", ["before it is posted", "before it is known to be delivered"])
def test_killed(bench: Bench, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Who was killed after the commit of a change has lost no event: another process posts it, under the same id."""
    (mail,) = tell(bench)
    one = dispatcher(bench.engine, endpoint.url)

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        where = (one, "_post") if when == "before it is posted" else (one, "_settle")
        patched.setattr(*where, killed)
        with pytest.raises(Killed):
            one.run_once()
    other = dispatcher(bench.engine, endpoint.url)
    assert other.run_once() == Round(), "it is taken for a while"
    let_pass(bench, 70)
    assert other.run_once() == Round(delivered=1)
    posted = 1 if when == "before it is posted" else 2
    assert endpoint.events == [f"{mail} mail.failed"] * posted
    assert len(set(endpoint.ids)) == 1
    assert states(bench) == ["delivered"]


def test_taken_by_one(bench: Bench, endpoint: Endpoint) -> None:
    """Two processes at once: each event is taken by one of them."""
    tell(bench, 60)
    both = [dispatcher(bench.engine, endpoint.url) for _ in range(2)]

    def work(one: Dispatcher) -> None:
        while one.run_once().found:
            pass

    threads = [threading.Thread(target=work, args=(one,)) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(endpoint.requests) == len(set(endpoint.ids)) == 60
    assert states(bench) == ["delivered"] * 60


def test_a_late_failure_changes_nothing(bench: Bench) -> None:
    """What another process has found out meanwhile stays: its try counts, and what was delivered is."""
    tell(bench, 2)
    with bench.engine.begin() as connection:
        one, two = webhook_delivery.take_events(connection, NAME, most=9, lease_s=1)
        assert webhook_delivery.failed(connection, one, code=500, error="HTTP 500", due_in_s=7)
        assert not webhook_delivery.failed(connection, one, code=None, error="late", due_in_s=None)
        assert webhook_delivery.failed(connection, two, code=500, error="HTTP 500", due_in_s=None)
        assert webhook_delivery.delivered(connection, two, code=200)
        assert not webhook_delivery.failed(connection, two, code=None, error="late", due_in_s=5)
        assert not webhook_delivery.delivered(connection, two, code=202)
    assert [(row.state, row.tries, row.last_error, row.last_code) for row in rows(bench)] == [
        ("open", 1, "HTTP 500", 500),
        ("delivered", 2, None, 200),
    ]


def test_purge(bench: Bench) -> None:
    """A week after delivery an event is removed, a month after it was given up; an open one never."""
    tell(bench, 3)
    with bench.engine.begin() as connection:
        one, two, _ = webhook_delivery.take_events(connection, NAME, most=9, lease_s=1)
        webhook_delivery.delivered(connection, one, code=200)
        webhook_delivery.failed(connection, two, code=410, error="HTTP 410", due_in_s=None)
    worker = dispatcher(bench.engine, nowhere())
    found = []
    for days in (6, 2, 21, 2):
        let_pass(bench, days * DAY_S)
        worker.purge()
        found.append(states(bench))
    assert found == [
        ["delivered", "given_up", "open"],
        ["given_up", "open"],
        ["given_up", "open"],
        ["open"],
    ]


def test_listing(bench: Bench) -> None:
    """Endpoints that workers know, also without events, and those that none knows any more."""
    with bench.engine.begin() as connection:
        webhook.register_endpoints(connection, [Told("idle"), Told(NAME)])
    tell(bench, 2)
    tell(bench, name="gone")
    with bench.engine.begin() as connection:
        one, _ = webhook_delivery.take_events(connection, NAME, most=9, lease_s=1)
        webhook_delivery.failed(connection, one, code=503, error="HTTP 503", due_in_s=5)
    with read_only(bench.engine) as connection:
        gone, idle, shop = list_webhooks(connection)
    assert (gone.known, gone.open, idle) == (False, 1, EndpointStatus("idle", known=True))
    assert (shop.open, shop.given_up, shop.last_code, shop.last_error) == (2, 0, 503, "HTTP 503")
    assert shop.oldest_s is not None
    assert 0 <= shop.oldest_s < 60


def test_loop_goes_on(bench: Bench, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours in one look does not end the thread."""
    tell(bench)
    one = dispatcher(bench.engine, endpoint.url)
    real: Callable[..., Round] = one.run_once
    failing = [True]

    def once(stop: threading.Event | None = None) -> Round:
        if failing:
            failing.pop()
            raise ZeroDivisionError
        return real(stop)

    monkeypatch.setattr(one, "run_once", once)
    stop = threading.Event()
    thread = threading.Thread(target=one.run, args=(stop,))
    thread.start()
    wait_until(lambda: states(bench) == ["delivered"], 10, lambda: str(states(bench)))
    stop.set()
    thread.join()


def test_a_page_that_takes_too_long(
    bench: Bench, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before others may take its page, who is slow gives back what it has not tried."""
    tell(bench, 3)
    now = [0.0]
    monkeypatch.setattr("mailfleet_workers.webhooks.dispatcher.time", _Clock(now))

    def slow(handler: Any) -> None:
        now[0] += 40
        answer(204)(handler)

    endpoint.script(slow)
    one = dispatcher(bench.engine, endpoint.url)
    assert one.run_once() == Round(delivered=1)
    assert one.run_once() == Round(delivered=1), "due at once"


class _Clock:
    def __init__(self, now: list[float]) -> None:
        self._now = now

    def monotonic(self) -> float:
        return self._now[0]

    def time(self) -> float:
        return time.time()
