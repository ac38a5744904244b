"""Which account a name means: settings, loaders, the database; what changes is heard of, what is wrong harms no other account."""

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from mailfleet_schema.dialects import dialect_named
from mailfleet_schema.statements import stored_account
from mailfleet_workers.accounts.directory import FORGOTTEN_S, Directory
from mailfleet_workers.accounts.found import Broken, Found, Known
from mailfleet_workers.accounts.loaders import REST_S, Loader
from mailfleet_workers.settings import Settings

SETTINGS: dict[str, Any] = {
    "accounts": {
        "default": {
            "host": "smtp.example.com",
            "username": "billing",
            "password": "env:P",
            "helo": "us.example",
        },
        "news": {"from": "news@example.com"},
    },
    "apps": {"billing": {"accounts": ["default", "tenant-*"]}},
}


class Load:
    """What a loader says, by name; an exception is raised, `hang` is waited for."""

    def __init__(self, **accounts: Any) -> None:
        self.accounts = accounts
        self.hang = threading.Event()
        self.asked: list[str] = []

    def __call__(self, name: str) -> Mapping[str, Any] | None:
        self.asked.append(name)
        found = self.accounts.get(name.replace("-", "_"))
        if found == "hang":
            self.hang.wait(20)
        if isinstance(found, Exception):
            raise found
        return found


class Bench:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.now = 1000.0
        self.environ = {"P": "one", "Q": "two"}
        self.said: list[tuple[str, Found, Found]] = []
        self.opened: list[Load] = []

    def directory(self, *loads: Load, settings: dict[str, Any] | None = None, **more: Any) -> Directory:
        self.opened += loads
        loaders = [
            Loader(f"l{number}", lambda load=load: load, clock=lambda: self.now, answer_s=0.2)  # type: ignore[misc]
            for number, load in enumerate(loads)
        ]
        found = Directory(
            Settings.model_validate({**SETTINGS, **(settings or {})}),
            environ=self.environ,
            engine=self.engine,
            loaders=loaders,
            clock=lambda: self.now,
            **more,
        )
        found.listen(lambda *heard: self.said.append(heard))
        return found

    def put(self, name: str, **settings: Any) -> None:
        with self.engine.begin() as connection:
            stored_account.put(connection, name, json.dumps(settings))


@pytest.fixture
def bench(engine: Engine) -> Iterator[Bench]:
    bench = Bench(engine)
    yield bench
    for load in bench.opened:
        load.hang.set()


def known(found: Found) -> Known:
    assert isinstance(found, Known), found
    return found


def why(found: Found) -> str:
    assert isinstance(found, Broken), found
    return found.why


@pytest.mark.tinymail("52", "12", "U13")
def test_the_first_that_knows_a_name_wins(bench: Bench) -> None:
    """Settings before loaders in the order of their names, loaders before the database; each merged with `default`."""
    first, second = (
        Load(tenant_a={"from": "a@first.example"}),
        Load(
            tenant_a={"from": "a@second.example"},
            tenant_b={"from": "b@second.example"},
            news={"from": "x@y.example"},
        ),
    )
    for name in ("tenant-a", "tenant-b", "tenant-c", "news"):
        bench.put(name, **{"from": "stored@example.com"})
    directory = bench.directory(first, second)
    found = {name: known(directory.find(name)) for name in ("news", "tenant-a", "tenant-b", "tenant-c")}
    assert {name: one.settings.from_ for name, one in found.items()} == {
        "news": "news@example.com",
        "tenant-a": "a@first.example",
        "tenant-b": "b@second.example",
        "tenant-c": "stored@example.com",
    }
    assert [one.origin for one in found.values()] == ["settings", "loader l0", "loader l1", "stored account"]
    assert {(one.account.host, one.account.username, one.account.helo) for one in found.values()} == {
        ("smtp.example.com", "billing", "us.example")
    }
    assert directory.find("tenant-d") is None
    assert "news" not in second.asked


@pytest.mark.tinymail("51", "D26")
def test_a_loaded_account_has_no_password_of_another_server(bench: Bench) -> None:
    """As with those of the settings."""
    bench.put("tenant-a", host="smtp.example.org")
    account = known(bench.directory().find("tenant-a")).account
    assert (account.host, account.username, account.password) == ("smtp.example.org", None, None)


@pytest.mark.tinymail("53", "54", "D22")
def test_changes_are_heard_of_before_they_are_seen(bench: Bench) -> None:
    """A new version, a removal, a return: each is told once, and what did not change is the same object."""
    directory = bench.directory()
    seen: list[Found] = []
    directory.listen(lambda name, before, found: seen.append(directory.find(name) if before else None))
    assert directory.find("tenant-a") is None
    bench.put("tenant-a", host="one.example.net")
    directory.refresh()
    one = known(directory.find("tenant-a"))
    directory.refresh()
    assert directory.find("tenant-a") is one
    bench.put("tenant-a", host="two.example.net")
    directory.refresh()
    assert known(directory.find("tenant-a")).account.host == "two.example.net"
    with bench.engine.begin() as connection:
        stored_account.remove(connection, "tenant-a")
    directory.refresh()
    assert directory.find("tenant-a") is None
    hosts = [
        (before and known(before).account.host, found and known(found).account.host)
        for _, before, found in bench.said
    ]
    assert hosts == [
        (None, None),
        (None, "one.example.net"),
        ("one.example.net", "two.example.net"),
        ("two.example.net", None),
    ]
    assert seen[2] is one


@pytest.mark.tinymail("53", "54", "D22", "D26")
def test_another_value_behind_a_secret_is_another_account(bench: Bench, tmp_path: Path) -> None:
    """Variables and files are looked at; what cannot be read for a moment is no change, and no value is shown."""
    path = tmp_path / "secret"
    path.write_text("canary-one\n")
    bench.put("tenant-a", host="h.example", username="u", password=f"file:{path}")
    directory = bench.directory()
    first, default = known(directory.find("tenant-a")), known(directory.find("default"))
    path.unlink()
    directory.refresh()
    assert directory.find("tenant-a") is first
    path.write_text("canary-two\n")
    directory.refresh()
    second = known(directory.find("tenant-a"))
    assert second.account != first.account
    assert directory.find("default") is default
    bench.environ["P"] = "canary-three"
    directory.refresh()
    assert known(directory.find("default")).account != default.account
    assert directory.find("tenant-a") is second
    assert "canary" not in repr(second)
    assert second.account.secret_version
    assert second.account.secret_version not in repr(second)


@pytest.mark.tinymail("52", "M13")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"prot": 25}, "prot: expected a known key (did you mean port?)"),
        ({"port": "465"}, "port: expected a whole number"),
        ({"host": "h.example", "username": "u", "password": "canary"}, "password: expected `env:NAME`"),
        ({"limits": {"messages": ["often"]}}, "limits.messages[0]: expected"),
        (["canary"], "tenant-a: expected a table of an account's keys"),
    ],
    ids=["key", "value", "literal secret", "limit", "no table"],
)
def test_a_bad_account_stops_no_other(bench: Bench, given: Any, said: str) -> None:
    """It says who gave it and what is wrong; it is right again with its next version."""
    with bench.engine.begin() as connection:
        stored_account.put(connection, "tenant-a", json.dumps(given))
    bench.put("tenant-b", host="b.example")
    directory = bench.directory()
    assert why(directory.find("tenant-a")).startswith(f"stored account: {said}")
    assert "canary" not in why(directory.find("tenant-a"))
    assert isinstance(directory.find("tenant-b"), Known)
    bench.put("tenant-a", host="a.example")
    directory.refresh()
    assert known(directory.find("tenant-a")).account.host == "a.example"


def test_what_is_no_json_is_a_bad_account(sqlite_engine: Engine) -> None:
    """SQLite takes any text."""
    bench = Bench(sqlite_engine)
    bench.put("tenant-a")
    bench.put("tenant-b")
    table = dialect_named("sqlite").table("stored_account")
    with sqlite_engine.begin() as connection:
        connection.execute(text(f"UPDATE {table} SET settings = '{{' WHERE name = 'tenant-a'"))
    directory = bench.directory()
    assert "a table of an account's keys" in why(directory.find("tenant-a"))
    assert isinstance(directory.find("tenant-b"), Known)


@pytest.mark.tinymail("52")
def test_a_loader_that_raises_or_hangs(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """What it said before stays; names that it has not spoken of wait, though the database knows them; others go on."""
    load = Load(tenant_a={"host": "a.example"})
    bench.put("tenant-b", host="b.example")
    bench.put("tenant-c", host="c.example")
    directory = bench.directory(load)
    assert known(directory.find("tenant-b")).origin == "stored account"
    first = directory.find("tenant-a")
    load.accounts |= {"tenant_a": ValueError("canary"), "tenant_c": ValueError("canary")}
    directory.refresh()
    assert directory.find("tenant-a") is first
    assert why(directory.find("tenant-c")) == "loader l0 raised ValueError"
    load.accounts |= {"tenant_a": "hang"}
    directory.refresh()
    assert directory.find("tenant-a") is first
    asked = len(load.asked)
    directory.refresh()
    assert len(load.asked) == asked, "it was asked while it rests"
    assert why(directory.find("tenant-e")) == "loader l0 did not answer within 0.2 s"
    assert isinstance(directory.find("default"), Known)
    load.hang.set()
    load.accounts = {"tenant_a": {"host": "other.example"}}
    bench.now += REST_S
    directory.refresh()
    assert known(directory.find("tenant-a")).account.host == "other.example"
    assert known(directory.find("tenant-c")).account.host == "c.example"
    assert directory.find("tenant-e") is None
    assert "account_loader_failed" in caplog.messages
    assert "canary" not in caplog.text


def test_limits_come_with_an_account(bench: Bench) -> None:
    """They are known when it is, follow it, and stay when it is gone; where nobody keeps limits it cannot be used."""
    bench.put("tenant-a", host="h.example", limits={"messages": ["5/s"]})
    directory = bench.directory()
    assert "tenant-a" not in directory.limits()
    heard: list[int] = []
    directory.listen(lambda *_: heard.append(len(directory.limits()["tenant-a"].rules)))
    directory.find("tenant-a")
    assert heard == [1]
    assert directory.limits()["tenant-a"].weights == {"billing": 1}
    with bench.engine.begin() as connection:
        stored_account.remove(connection, "tenant-a")
    directory.refresh()
    assert directory.limits()["tenant-a"].host == "h.example"
    bench.put("tenant-a", host="h.example", limits={"messages": ["5/s"]})
    unlimited = bench.directory(limiting=False)
    assert "redis_url" in why(unlimited.find("tenant-a"))


def test_names_that_mean_nothing_are_forgotten(bench: Bench) -> None:
    """Anybody may write a name into a mail."""
    directory = bench.directory()
    for number in range(5):
        directory.find(f"tenant-{number}")
    bench.now += FORGOTTEN_S + 1
    directory.find("default")
    directory.refresh()
    assert directory._found.keys() == {"default"}
