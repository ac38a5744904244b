"""How a notice leaves: dry runs, redirection, run modes, and through which account."""

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from mailfleet import Attachment, Invalid, Mail
from mailfleet_schema.content import Address
from mailfleet_workers.account import Account
from mailfleet_workers.catcher import Catcher
from mailfleet_workers.notice import Failed, Notice, Sent
from mailfleet_workers.settings import Settings
from tests.integration.notice.conftest import Listener, Make, settings_of

MAIL = Mail(to="ada@example.net", subject="The database is down", text="Since a minute.")
SOON = datetime.now(UTC) + timedelta(hours=1)


@pytest.mark.tinymail("50", "T2", "T6", "49")
@pytest.mark.parametrize(
    "settings",
    [
        {"delivery": "dry_run"},
        {"account": {"dry_run": True}},
        {"account": {"dry_run_prefix": "The"}},
        {"run_mode": "test", "outgoing": {"dry_run_modes": ["test"]}},
        {"delivery": "dry_run", "account": {"host": None, "port": None, "tls": None}},
        {"delivery": "allowlist", "outgoing": {"allow": ["@example.com"]}},
    ],
    ids=["delivery", "account", "prefix", "run mode", "no server", "allowlist"],
)
def test_dry_runs(
    make: Make, catcher: Catcher, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is connected; each mail is built, counted and logged as what it was, once, in a batch too."""
    caplog.set_level(logging.INFO, "mailfleet_workers.notice")
    notice = make(**settings)
    assert notice.send(MAIL) is True
    found = notice.post_many([MAIL, MAIL])
    assert [one.reason for one in found if isinstance(one, Sent)] == ["dry_run"] * 2
    assert isinstance(notice.post(Mail(to="x", text="x")), Invalid)
    assert (catcher.sessions_seen, notice.counts()) == (0, {"dry_run": 3, "invalid": 1})
    assert [record.__dict__["result"] for record in caplog.records if record.msg == "notice_sent"] == [
        "dry_run"
    ] * 3
    assert "example.net" not in caplog.text
    assert "database is down" not in caplog.text


def test_redirected(make: Make, catcher: Catcher) -> None:
    """As workers do it."""
    notice = make(
        delivery="redirect", outgoing={"redirect_to": ["test@example.org"], "force_prefix": "[TEST]"}
    )
    result = notice.post(MAIL)
    assert isinstance(result, Sent)
    assert result.reason == "redirected"
    (receipt,) = catcher.store.receipts()
    assert receipt.recipients == ("test@example.org",)
    assert b"Subject: [TEST] The database is down" in receipt.message


def test_a_mail_for_another_run_mode(make: Make, catcher: Catcher) -> None:
    """It is not for this installation."""
    result = make().post(Mail(to="ada@example.net", text="x", run_modes=["product"]))
    assert isinstance(result, Failed)
    assert result.reason.startswith("run mode")
    assert catcher.sessions_seen == 0


def test_too_late(make: Make, catcher: Catcher) -> None:
    """A mail whose time has passed while it waited for its turn is not sent."""
    now = [datetime.now(UTC)]
    notice = make({"clock": lambda: now[0]})
    letters = notice._letters([Mail(to="ada@example.net", text="x", expires_at=SOON)], None)
    now[0] += timedelta(days=1)
    (result,) = notice._send_letters(letters)
    assert isinstance(result, Failed)
    assert (result.reason, catcher.sessions_seen) == ("expires_at", 0)


@pytest.mark.tinymail("50", "51", "52", "D26")
def test_accounts(make: Make, catcher: Catcher, database: Listener) -> None:
    """The default one, one by name, one of the caller's own; a foreign one under a known name is refused."""
    plain = {"host": "127.0.0.1", "port": catcher.port, "tls": "plain", "from": "other@example.com"}
    settings = settings_of(catcher.port, database.port).model_dump(exclude_unset=True, by_alias=True)
    settings["accounts"]["other"] = plain
    settings["apps"] = {"billing": {"accounts": ["default", "other"]}}
    notice = Notice(Settings.model_validate(settings), "billing")
    assert notice.send(MAIL)
    assert notice.send(MAIL, account="other")
    assert notice.send(Mail(to="ada@example.net", text="x", account="other"))
    own = Account("mine", "127.0.0.1", catcher.port, "plain", sender=Address("", "mine@example.com"))
    assert notice.send(MAIL, account=own)
    assert [one.sender.partition("@")[0] for one in catcher.store.receipts()] == [
        "alarm",
        "other",
        "other",
        "mine",
    ]
    stranger = Account("other", "127.0.0.2", catcher.port, "plain", sender=own.sender)
    assert notice.post(MAIL, account=stranger) == Invalid(
        "account", "the settings have another one named 'other': give it a name of its own"
    )
    nobody = notice.post(MAIL, account="nobody")
    assert isinstance(nobody, Invalid)
    assert "app billing may not send through 'nobody'" in nobody.reason
    notice.close()


@pytest.mark.parametrize("allowed", [["*"], ["default", "tenant-*"]], ids=str)
def test_accounts_by_a_pattern(make: Make, catcher: Catcher, allowed: list[str]) -> None:
    """What workers may send through for the app, a notice may."""
    plain = {"host": "127.0.0.1", "port": catcher.port, "tls": "plain", "from": "other@example.com"}
    notice = make(accounts={"default": plain, "tenant-a": plain}, apps={"billing": {"accounts": allowed}})
    assert notice.send(MAIL, account="tenant-a")
    assert notice.send(MAIL)


@pytest.mark.tinymail("48")
def test_files_from_stores(make: Make, catcher: Catcher, tmp_path: Path) -> None:
    """A directory of the settings is read; what only workers could read is refused, or left out where it is optional."""
    (tmp_path / "a.txt").write_bytes(b"from the store")
    stores = {
        "papers": {"path": str(tmp_path), "apps": ["billing"]},
        "archive": {"kind": "registered", "apps": ["billing"]},
    }
    notice = make(stores=stores)
    found = Attachment.stored("papers", "a.txt")
    assert notice.send(replace(MAIL, attachments=[found, Attachment.stored("archive", "b", optional=True)]))
    (receipt,) = catcher.store.receipts()
    files = [part.get_payload(decode=True) for part in message_from_bytes(receipt.message).walk()]
    assert b"from the store" in files
    refused = notice.post(replace(MAIL, attachments=[found, Attachment.stored("archive", "b")]))
    assert isinstance(refused, Invalid)
    assert refused.field == "attachments[1]"


def test_an_account_without_a_server(make: Make) -> None:
    """It means a catching server in another process: where mail leaves, that is a mistake."""
    found = make(account={"host": None, "port": None, "tls": None}).post(MAIL)
    assert isinstance(found, Invalid)
    assert found.field == "account"
