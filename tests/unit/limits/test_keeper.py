"""What keeps leases, gates and limits in order: its loops, and what they do when something fails or hangs."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from mailfleet_schema.statements import gate, limit
from mailfleet_schema.statements.limit import LimitChange
from mailfleet_workers.limits.base import Renewal, Slot
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.keeper import Keeper
from mailfleet_workers.limits.resolve import limits_of
from mailfleet_workers.limits.seeding import Seeding
from mailfleet_workers.limits.unlimited import UnlimitedLimiter
from mailfleet_workers.settings import Settings
from mailfleet_workers.smtp.pool import ConnectionPool
from tests.waiting import wait_until

SETTINGS = Settings.model_validate(
    {
        "accounts": {
            "default": {"host": "smtp.example.com", "limits": {"messages": ("14/s",)}},
            "free": {"host": "mx.example.com"},
        }
    }
)
CHANGE = LimitChange("account", "default", "messages", '["5/s"]')


class Counting(UnlimitedLimiter):
    """Counts its renewals, and answers each with the next of *renewals*, an error or none."""

    def __init__(self, *renewals: Renewal | Exception) -> None:
        super().__init__(lambda: 0.0)
        self.renewals = list(renewals)
        self.renewed = 0

    def renew(self) -> Renewal:
        self.renewed += 1
        found = self.renewals.pop(0) if self.renewals else Renewal()
        if isinstance(found, Exception):
            raise found
        return found


class Connections:
    """Notes what a pool of connections is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def want(self, account: str) -> None:
        self.told.append(account)

    def close_lapsed(self, tokens: set[str]) -> None:
        self.told.append(tokens)


class Store:
    """Stands for a database that takes long to say what was sent: `run_once` does what it is told to."""

    def __init__(self, does: Callable[[], object] = lambda: None) -> None:
        self.does = does
        self.asked = 0

    def run_once(self) -> bool:
        self.asked += 1
        self.does()
        return True


def keeper_of(engine: Engine, limiter: Counting, **options: Any) -> Keeper:
    connections = cast("ConnectionPool", options.pop("connections", None) or Connections())
    if "seeding" in options:
        options["seeding"] = cast("Seeding", options["seeding"])
    return Keeper(engine, limiter, connections, every_s=0.01, **options)


@contextmanager
def running(keeper: Keeper) -> Iterator[Callable[[], bool]]:
    """*keeper* in a thread, ended afterwards; the function says within how long it ends when it is told to."""
    stop = threading.Event()
    thread = threading.Thread(target=keeper.run, args=(stop,), name="mailfleet-test-limits", daemon=True)
    thread.start()

    def ends() -> bool:
        stop.set()
        thread.join(5)
        return not thread.is_alive()

    try:
        yield ends
    finally:
        assert ends()


def more(count: Callable[[], int], by: int = 3) -> None:
    """Wait until *count* has grown."""
    before = count()
    wait_until(lambda: count() >= before + by, 10, lambda: f"stands still at {count()}")


def resolve(changes: Sequence[LimitChange]) -> Mapping[str, Limits]:
    return limits_of(SETTINGS, changes)


def rules(book: Book, account: str = "default") -> list[str]:
    return [str(one) for one in book.all()[account].rules]


def test_leases_are_renewed_while_the_database_hangs(sqlite_engine: Engine) -> None:
    """However long somebody reads what was sent, no lease ends for it."""
    reads, let_go = threading.Event(), threading.Event()

    def hang() -> None:
        reads.set()
        assert let_go.wait(30)

    limiter, store = Counting(), Store(hang)
    with running(keeper_of(sqlite_engine, limiter, seeding=store)):
        assert reads.wait(10)
        more(lambda: limiter.renewed, by=5)
        assert store.asked == 1
        let_go.set()
        more(lambda: store.asked)


def test_limits_are_followed_while_what_was_sent_is_read(sqlite_engine: Engine) -> None:
    """However long that takes, it does not count without a rule that others count in."""
    reads, let_go = threading.Event(), threading.Event()

    def hang() -> None:
        reads.set()
        assert let_go.wait(30)

    limiter, book = Counting(), Book(resolve(()))
    keeper = keeper_of(sqlite_engine, limiter, book=book, resolve=resolve, seeding=Store(hang))
    with running(keeper):
        assert reads.wait(10)
        with sqlite_engine.begin() as connection:
            limit.set_limit(connection, CHANGE)
        wait_until(lambda: rules(book) == ["account messages 5/s"], 10, lambda: str(rules(book)))
        assert not keeper.looked.is_set()
        let_go.set()
        assert keeper.looked.wait(10)


def test_what_was_sent_is_told_at_once(sqlite_engine: Engine) -> None:
    """Senders that start wait for it, not for two seconds; nor when it failed, nor where nothing is told."""
    connections = cast("ConnectionPool", Connections())
    assert Keeper(sqlite_engine, Counting(), connections).looked.is_set()

    def fail() -> None:
        raise RuntimeError("a mistake of ours")

    for store in (Store(), Store(fail)):
        seeding = cast("Seeding", store)
        keeper = Keeper(sqlite_engine, Counting(), connections, seeding=seeding, every_s=3600.0)
        with running(keeper):
            assert keeper.looked.wait(10)
        assert store.asked == 1


def test_what_a_renewal_finds_is_done(sqlite_engine: Engine) -> None:
    """Connections that others wait for are passed on, those that are others' now are closed."""
    lost = Slot("lapsed", "default", "smtp.example.com")
    connections = Connections()
    limiter = Counting(Renewal((lost,), ("default", "free")))
    keeper_of(sqlite_engine, limiter, connections=connections).renew()
    assert connections.told == ["default", "free", {"lapsed"}]


def test_gates_and_limits_are_followed(sqlite_engine: Engine) -> None:
    """What operators close and change is known some seconds later, and so is what they take back."""
    limiter, book = Counting(), Book(resolve(()))
    with running(keeper_of(sqlite_engine, limiter, book=book, resolve=resolve)):
        with sqlite_engine.begin() as connection:
            gate.close_gate(connection, scope="account", key="default", seconds=60, reason="quota")
            limit.set_limit(connection, CHANGE)
        wait_until(lambda: rules(book) == ["account messages 5/s"], 10, lambda: str(rules(book)))
        closed = limiter.gate(account="default", host="smtp.example.com")
        assert closed is not None
        assert closed.reason == "quota"
        with sqlite_engine.begin() as connection:
            gate.open_gate(connection, scope="account", key="default")
            limit.unset_limit(connection, "account", "default", "messages")
        wait_until(lambda: rules(book) == ["account messages 14/s"], 10, lambda: str(rules(book)))
        assert limiter.gate(account="default", host="smtp.example.com") is None


def test_limits_that_nobody_changed_stay_the_same(sqlite_engine: Engine) -> None:
    """The book is replaced when something is changed, not every two seconds."""
    book = Book(resolve(()))
    before = book.of("default")
    keeper_of(sqlite_engine, Counting(), book=book, resolve=resolve).refresh()
    assert book.of("default") is before


@pytest.mark.parametrize(
    ("error", "event", "level"),
    [
        (RuntimeError("a mistake of ours"), "limits_not_kept", logging.ERROR),
        (OperationalError("SELECT 1", {}, Exception("gone")), "limits_not_read", logging.WARNING),
    ],
)
def test_an_error_ends_nothing(
    sqlite_engine: Engine, caplog: pytest.LogCaptureFixture, error: Exception, event: str, level: int
) -> None:
    """It is said, in whichever loop it comes, and both go on."""

    def fail() -> None:
        raise error

    limiter, store = Counting(error, error), Store(fail)
    with running(keeper_of(sqlite_engine, limiter, seeding=store)):
        more(lambda: store.asked)
        more(lambda: limiter.renewed, by=4)
    said = [record for record in caplog.records if record.name == "mailfleet_workers.limits.keeper"]
    assert {(record.getMessage(), record.levelno) for record in said} == {(event, level)}
    assert len(said) == 2 + store.asked


@pytest.mark.parametrize(("store", "number"), [(None, 2), (Store(), 3)])
def test_it_ends_when_it_is_told_to(sqlite_engine: Engine, store: Store | None, number: int) -> None:
    """All loops have ended when `run` returns, however long they would wait."""
    limiter = Counting()
    connections, seeding = cast("ConnectionPool", Connections()), cast("Seeding | None", store)
    with running(Keeper(sqlite_engine, limiter, connections, seeding=seeding, every_s=3600.0)) as ends:
        wait_until(lambda: len(loops()) == number, 10, lambda: str(loops()))
        assert ends()
        assert loops() == []
    assert limiter.renewed == 0


def loops() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("mailfleet-test-limits")]


def test_limits_that_cannot_be_followed_are_complained_about(
    sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that does not count says, once for each change, which accounts somebody limited in vain."""

    def said() -> list[object]:
        return [vars(one)["accounts"] for one in caplog.records if one.getMessage() == "limits_not_followed"]

    keeper = keeper_of(sqlite_engine, Counting(), resolve=resolve)
    keeper.refresh()
    assert said() == []
    with sqlite_engine.begin() as connection:
        limit.set_limit(connection, LimitChange("account", "free", "max_idle_ms", "100"))
        limit.set_limit(connection, LimitChange("account", "elsewhere", "messages", '["1/s"]'))
    keeper.refresh()
    assert said() == []
    with sqlite_engine.begin() as connection:
        limit.set_limit(connection, LimitChange("host", "mx.example.com", "messages", '["1/s"]'))
    keeper.refresh()
    keeper.refresh()
    assert said() == [["free"]]
    assert [one.levelno for one in caplog.records] == [logging.ERROR]
