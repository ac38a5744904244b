"""Accounts that change while workers run: real threads, real servers with TLS and logins, the database between them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from mailfleet import Mail
from mailfleet_schema.statements import stored_account
from mailfleet_workers.accounts import watch
from mailfleet_workers.catcher import Action, Catcher, Default, Event, MemoryStore, Say, Step
from mailfleet_workers.embedded import Embedded
from mailfleet_workers.operators.accounts import remove, store
from mailfleet_workers.settings import Settings, WrongSettings
from tests.integration.smtp.dialogue import AUTHORITY, server_context
from tests.stage.socks import Asked, SocksServer
from tests.waiting import wait_until

PROXY_NAME = "elsewhere.example"


class Office:
    """An embedded mailfleet whose app may use `tenant-*`, and servers that ask for a password."""

    def __init__(self, directory: Path, **more: Any) -> None:
        quick = {"grace_s": 0.2, "step_s": 0.2, "reconcile_s": 0.2, "try_next_s": 0.2, "drain_s": 5.0}
        self.directory = directory
        self.settings = Settings.model_validate(
            {
                "data_dir": directory,
                "delivery": "live",
                "timing": quick,
                "accounts": {"default": {"from": "us@example.com"}},
                "apps": {"billing": {"accounts": ["default", "tenant-*"], "threads": 4}},
                **more,
            }
        )
        self.fleet = Embedded(self.settings, apps=["billing"], environ={"PROXY": "proxied"})

    def set(self, name: str, **given: Any) -> None:
        store(self.fleet.engine, self.settings, name, given)

    def emit(self, subject: str, account: str = "tenant-a") -> int:
        mail = Mail(to=["ada@example.net"], subject=subject, text="Hello", account=account)
        return self.fleet.mailer("billing").emit(mail)

    def row(self, mail_id: int) -> Any:
        with self.fleet.engine.connect() as connection:
            return connection.execute(
                text("SELECT * FROM mailfleet_mail WHERE id = :id"), {"id": mail_id}
            ).one()

    def wait(self, mail_id: int, state: str = "sent", reason: str | None = None) -> Any:
        def there() -> bool:
            row = self.row(mail_id)
            return row.state == state and (reason is None or str(row.reason).startswith(reason))

        wait_until(there, 20, lambda: str(self.row(mail_id)))
        return self.row(mail_id)

    def send(self, subject: str, account: str = "tenant-a") -> None:
        self.wait(self.emit(subject, account))


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    # A rotated password is heard of sooner than a refused login is old: that has to be looked at again.
    monkeypatch.setattr(watch, "HEARD_S", 2.0)
    office = Office(tmp_path)
    with office.fleet:
        yield office


class Server(Catcher):
    """Encrypts, and takes mail of whoever logs in with `password`."""

    def __init__(self, password: str = "one", certificate: str = "localhost") -> None:
        self.password = password
        self.tried: list[str] = []
        self.quits: list[int] = []
        super().__init__(
            MemoryStore(), script=self.judge, tls=server_context(certificate), implicit_tls=True, auth=True
        )

    def judge(self, event: Event) -> Action:
        if event.step is Step.AUTH and event.credentials is not None:
            self.tried.append(event.credentials.password)
            if event.credentials.password != self.password:
                return Say(535, "5.7.8 wrong")
        if event.step is Step.QUIT:
            self.quits.append(event.session_id)
        return Default()

    def account(self, secret: Path, **more: Any) -> dict[str, Any]:
        return {
            "host": "localhost",
            "port": self.port,
            "username": "tenant",
            "password": f"file:{secret}",
            "ca_file": AUTHORITY,
            # Only a change closes a connection.
            "max_idle_s": 600,
            "max_age_s": 600,
            **more,
        }

    def sessions(self) -> list[int]:
        return [one.session_id for one in self.store.receipts()]


@pytest.mark.tinymail("12", "52", "D22", "D26")
def test_a_stored_account_is_used_at_once_and_followed(office: Office, tmp_path: Path) -> None:
    """Unknown, then stored, moved to another server, removed: each mail goes where its account leads when it is sent."""
    secret = tmp_path / "password"
    secret.write_text("one")
    with Server() as one, Server() as two:
        waiting = office.emit("Before")
        assert office.wait(waiting, "queued", "unknown account 'tenant-a'").sum_fail == 0
        office.set("tenant-a", **one.account(secret))
        office.wait(waiting)
        office.send("Hello")
        office.set("tenant-a", **two.account(secret))
        wait_until(lambda: len(one.quits) == 1, 20, lambda: "the connection to the old server stays open")
        office.send("Moved")
        remove(office.fleet.engine, "tenant-a")
        wait_until(lambda: len(two.quits) == 1, 20, lambda: "the connection of a removed account stays open")
        office.wait(office.emit("After"), "queued", "unknown account 'tenant-a'")
        assert (len(one.store), len(two.store)) == (2, 1)
    assert one.faults == two.faults == ()


@pytest.mark.tinymail("53", "54", "D22", "D26")
def test_a_rotated_password_replaces_connections(office: Office, tmp_path: Path) -> None:
    """The file behind `file:` is replaced, as orchestrators do: what is open ends, and the next mail logs in anew."""
    secret = tmp_path / "password"
    secret.write_text("one")
    with Server() as server:
        office.set("tenant-a", **server.account(secret))
        office.send("First")
        office.send("Second")
        assert len(set(server.sessions())) == 1, "a connection is used again as long as nothing changes"
        server.password = "two"
        fresh = tmp_path / "fresh"
        fresh.write_text("two")
        fresh.replace(secret)
        wait_until(lambda: len(server.quits) == 1, 20, lambda: "the old connection stays open")
        office.send("Third")
        assert server.tried == ["one", "two"]
        assert server.sessions()[2] != server.sessions()[1]


@pytest.mark.tinymail("53", "54")
def test_a_lent_connection_finishes_its_mail_and_is_closed(office: Office, tmp_path: Path) -> None:
    """What changes while a thread has a connection does not break it, and it is not kept."""
    secret = tmp_path / "password"
    secret.write_text("one")
    with Server() as server:
        office.set("tenant-a", **server.account(secret))
        office.send("First")
        [pool] = office.fleet._pools.values()

        def account() -> Any:
            return getattr(pool._way("billing", "tenant-a"), "account", None)

        before = account()
        lent = office.fleet._connections.idle(before)
        assert lent is not None
        server.password = "two"
        secret.write_text("two")
        wait_until(lambda: account() != before, 20, lambda: "the change is not seen")
        office.send("Second")
        assert office.fleet._connections.lent("tenant-a") == 1
        office.fleet._connections.give_back(lent, None)
        wait_until(lambda: len(server.quits) == 1, 20, lambda: "it is kept")
        office.send("Third")
        assert server.sessions()[0] not in server.sessions()[1:]


@pytest.mark.tinymail("53", "D26")
def test_a_refused_login_is_tried_again_with_another_password(office: Office, tmp_path: Path) -> None:
    """The gate that it closed for an hour is opened; one that an operator closed would stay."""
    secret = tmp_path / "password"
    secret.write_text("wrong")
    with Server() as server:
        office.set("tenant-a", **server.account(secret))
        mail_id = office.emit("Waits")
        office.wait(mail_id, "queued", "wait(account): login refused")
        secret.write_text("one")
        office.wait(mail_id)
        assert server.tried == ["wrong", "one"]


@pytest.mark.tinymail("52", "M13")
def test_a_bad_stored_account_waits_visibly(
    office: Office, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody wrote it past the commands: its mail says what is wrong, other mail goes on, and it follows when it is mended."""
    with office.fleet.engine.begin() as connection:
        stored_account.put(connection, "tenant-a", json.dumps({"host": "localhost", "port": "many"}))
    mail_id = office.emit("Waits")
    row = office.wait(mail_id, "queued", "broken account 'tenant-a': stored account: port: expected a whole")
    assert row.sum_fail == 0
    office.send("Other", account="default")
    assert "account_broken" in caplog.messages
    secret = tmp_path / "password"
    secret.write_text("one")
    with Server() as server:
        office.set("tenant-a", **server.account(secret))
        office.wait(mail_id)
        assert len(server.store) == 1


@pytest.mark.tinymail("52")
def test_an_app_uses_what_it_may(office: Office) -> None:
    """A stored account that its settings do not let it use is one that it does not know."""
    office.set("other", host="localhost")
    office.wait(office.emit("Waits", account="other"), "queued", "unknown account 'other'")


@pytest.mark.tinymail("52", "D27")
def test_limits_of_a_new_account_hold_from_its_first_mail(office: Office, tmp_path: Path) -> None:
    """Though nobody knew it at the start: of three mails two go, the third waits for the rule."""
    secret = tmp_path / "password"
    secret.write_text("one")
    with Server() as server:
        office.set("tenant-a", **server.account(secret, limits={"messages": ["2/d"]}))
        ids = [office.emit(f"Mail {number}") for number in range(3)]
        wait_until(lambda: len(server.store) == 2, 20, lambda: str([office.row(one) for one in ids]))
        wait_until(
            lambda: any(str(office.row(one).reason).startswith("limit: account messages 2/d") for one in ids),
            20,
            lambda: str([office.row(one) for one in ids]),
        )
        assert len(server.store) == 2


@pytest.mark.tinymail("T4", "52")
def test_a_stored_account_behind_a_proxy(office: Office, tmp_path: Path) -> None:
    """TinyMail's test of a loader whose account goes through SOCKS: merged by its name, through the proxy, and it is sent."""
    secret = tmp_path / "password"
    secret.write_text("one")
    with (
        Server(certificate="elsewhere") as server,
        SocksServer({PROXY_NAME: ("127.0.0.1", server.port)}, users={"fleet": "proxied"}) as proxy,
    ):
        account = server.account(
            secret, host=PROXY_NAME, port=465, proxy=f"socks5://fleet:env:PROXY@127.0.0.1:{proxy.port}"
        )
        office.set("tenant-a", **account)
        office.send("Through the proxy")
        assert len(server.store) == 1
    assert proxy.asked == [Asked("name", PROXY_NAME, 465, "fleet")]


@pytest.mark.parametrize(
    "given",
    [{"host": "h.example", "username": "u", "password": "hunter2"}, {"prot": 1}, {"preset": "no-such"}],
)
def test_nothing_wrong_is_stored(office: Office, given: dict[str, Any]) -> None:
    """It is looked at as a whole before it is written."""
    with pytest.raises(WrongSettings) as raised:
        office.set("tenant-a", **given)
    assert "hunter2" not in str(raised.value)
    with office.fleet.engine.connect() as connection:
        assert stored_account.read(connection, ["tenant-a"]) == []
