"""Mails that leave with access tokens: an embedded mailfleet, a token endpoint and a mail server that wants XOAUTH2."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from mailfleet import Mail
from mailfleet_schema.statements import oauth_token
from mailfleet_workers.accounts import watch
from mailfleet_workers.accounts.oauth import tokens
from mailfleet_workers.notice import Notice, Sent
from mailfleet_workers.settings import Settings
from tests.integration.embedded.test_accounts import Office
from tests.integration.oauth.mail_server import MailServer
from tests.integration.smtp.dialogue import AUTHORITY
from tests.stage.token_endpoint import Says, TokenEndpoint, document
from tests.waiting import wait_until


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    monkeypatch.setattr(watch, "HEARD_S", 2.0)
    office = Office(tmp_path)
    with office.fleet:
        yield office


def oauth(endpoint: TokenEndpoint, secret: Path) -> dict[str, Any]:
    return {
        "token_url": endpoint.url,
        "client_id": "app-1",
        "client_secret": f"file:{secret}",
        "grant": "client_credentials",
        "ca_file": AUTHORITY,
    }


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "client-secret"
    path.write_text("canary-secret-1")
    return path


def test_mails_of_many_threads_leave_with_one_token(
    office: Office, endpoint: TokenEndpoint, secret: Path
) -> None:
    """The endpoint is asked once, and neither row, log nor reason shows what it said."""
    with MailServer({"canary-token-1"}) as server:
        office.set("tenant-a", **server.account(**oauth(endpoint, secret)))
        mails = [office.emit(f"Number {n}") for n in range(20)]
        for mail_id in mails:
            row = office.wait(mail_id)
            assert (row.sum_fail, row.queue_id) == (0, "ABC123")
        assert len(server.bodies) == 20
        assert set(server.tried) == {"canary-token-1"}
    assert len(endpoint.asked) == 1
    dump = b"".join(
        path.read_bytes() for path in office.directory.rglob("*") if path.is_file() and path != secret
    )
    assert b"canary-token" not in dump
    assert b"canary-secret" not in dump


def test_a_refusal_of_the_endpoint_is_no_failure_of_the_mail(
    office: Office, endpoint: TokenEndpoint, secret: Path
) -> None:
    """The account waits and says why; with another secret its mail comes back at once, without an operator."""
    endpoint.answer = lambda _: document(401, error="invalid_client")
    with MailServer({"canary-token-2"}) as server:
        office.set("tenant-a", **server.account(**oauth(endpoint, secret)))
        mail_id = office.emit("Waits")
        row = office.wait(mail_id, "queued", "wait(account): login: token refused: invalid_client")
        assert (row.sum_fail, server.tried) == (0, [])
        endpoint.answer = lambda n: document(access_token=f"canary-token-{n}", expires_in=3600)
        secret.write_text("canary-secret-2")
        row = office.wait(mail_id)
        assert row.sum_fail == 0
        assert server.tried == ["canary-token-2"]
    assert [one["client_secret"] for one in endpoint.asked] == ["canary-secret-1", "canary-secret-2"]


def test_an_endpoint_that_is_away_is_waited_for(
    office: Office, endpoint: TokenEndpoint, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute, not an hour, and nothing of it counts."""
    endpoint.answer = lambda _: Says(503, b"")
    with MailServer(set()) as server:
        office.set("tenant-a", **server.account(**oauth(endpoint, secret)))
        mail_id = office.emit("Waits")
        row = office.wait(mail_id, "queued", "wait(account): login: token not renewed: status 503")
        assert row.sum_fail == 0
        with office.fleet.engine.connect() as connection:
            left = connection.execute(
                text("SELECT (until_at - changed_at) / 1000.0 FROM mailfleet_gate WHERE scope = 'account'")
            ).scalar_one()
        assert left == pytest.approx(60, abs=2)
        assert server.tried == []


def test_a_token_that_was_revoked_is_replaced_in_place(
    office: Office, endpoint: TokenEndpoint, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next login is refused, and the one after it is not: the mail has waited for nothing."""
    monkeypatch.setattr(tokens, "FRESH_S", 0.0)
    with MailServer({"canary-token-1"}) as server:
        account = server.account(**oauth(endpoint, secret)) | {"max_messages": 1}
        office.set("tenant-a", **account)
        office.send("Before")
        server.good = {"canary-token-2"}
        row = office.wait(office.emit("After"))
        assert (row.sum_fail, row.waits) == (0, 0)
        assert server.tried == ["canary-token-1", "canary-token-1", "canary-token-2"]
    with office.fleet.engine.connect() as connection:
        (row,) = oauth_token.beginning(connection, "tenant-a/")
    assert (row.generation, row.reason) == (2, None)
    wait_until(lambda: len(endpoint.asked) == 2, 5, lambda: str(len(endpoint.asked)))


def test_a_notice_has_a_token_of_its_own(endpoint: TokenEndpoint, secret: Path, tmp_path: Path) -> None:
    """Without a database it is kept in the process, for all its mails."""
    with MailServer({"canary-token-1"}) as server:
        account = server.account(**oauth(endpoint, secret)) | {"from": "us@example.com", "max_messages": 1}
        settings = Settings.model_validate(
            {"data_dir": tmp_path, "delivery": "live", "accounts": {"default": account}}
        )
        with Notice(settings, environ={}) as notice:
            for number in (1, 2):
                mail = Mail(to=["ada@example.net"], subject=f"Number {number}", text="Hello")
                assert isinstance(notice.post(mail), Sent)
        assert server.tried == ["canary-token-1"] * 2
    assert len(endpoint.asked) == 1
