"""The embedded mode as an application meets it: send, restart, wait, refuse."""

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default as default_policy
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from mailfleet import Attachment, Failed, Mail, Pending, SendRefused, Sent
from mailfleet.errors import SettingsError
from mailfleet_workers.catcher import Action, Default, Event, Plan, Say, Step
from mailfleet_workers.embedded import AlreadyRunning, Embedded
from mailfleet_workers.settings import Settings
from tests.waiting import wait_until

SENDER = "billing@example.com"


def settings(directory: Path, **more: Any) -> Settings:
    quick = {"grace_s": 0.2, "step_s": 0.2, "reconcile_s": 0.2, "try_next_s": 0.2, "drain_s": 5.0}
    return Settings.model_validate({"data_dir": directory, "timing": quick, **more})


def mail(number: int = 0, **more: Any) -> Mail:
    values: dict[str, Any] = {
        "from_": SENDER,
        "to": [f"ada-{number}@example.net"],
        "subject": f"Mail {number}",
        "text": "Hello",
    }
    return Mail(**{**values, **more})


def row(fleet: Embedded, mail_id: int) -> Any:
    with fleet.engine.connect() as connection:
        query = text("SELECT * FROM mailfleet_mail WHERE id = :id")
        return connection.execute(query, {"id": mail_id}).one()


def state(fleet: Embedded, mail_id: int) -> str:
    return str(row(fleet, mail_id).state)


def wait_for_state(fleet: Embedded, mail_id: int, wanted: str) -> None:
    wait_until(lambda: state(fleet, mail_id) == wanted, 10, lambda: str(row(fleet, mail_id)))


def test_send_tells_what_the_server_said(tmp_path: Path) -> None:
    """`send` returns the server's queue id, and the catching server has the mail as it was meant."""
    with Embedded(settings(tmp_path), apps=["billing"]) as fleet:
        result = fleet.mailer("billing").send(
            mail(subject="Grüße", html="<p>Hallo</p>", attachments=[Attachment("a.txt", b"file")])
        )

        assert isinstance(result, Sent)
        assert result.queue_id == "1"
        (receipt,) = fleet.catcher.store.receipts()
    parsed = message_from_bytes(receipt.message, policy=default_policy)
    assert parsed["Subject"] == "Grüße"
    assert [part.get_filename() for part in parsed.iter_attachments()] == ["a.txt"]


def test_a_rolled_back_mail_is_never_sent(tmp_path: Path) -> None:
    """A mail belongs to its transaction: rolled back it is nowhere, committed it is sent."""
    with Embedded(settings(tmp_path), apps=["billing"]) as fleet:
        mailer = fleet.mailer("billing")
        with Session(fleet.engine) as session:
            mailer.emit(mail(1), session=session)
            session.rollback()
        with Session(fleet.engine) as session, session.begin():
            mailer.emit(mail(2), session=session)

        receipts = fleet.catcher.store.wait_for(1, 10)
        assert fleet.wait_idle(10)
        assert [r.recipients for r in receipts] == [("ada-2@example.net",)]
        with fleet.engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM mailfleet_mail")).scalar_one() == 1


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """One process sends from an embedded database; the second gets a clear error, and the first goes on."""
    with Embedded(settings(tmp_path), apps=["billing"]) as fleet:
        with pytest.raises(AlreadyRunning, match=r"mailfleet\.db\.lock"):
            Embedded(settings(tmp_path), apps=["billing"]).start()
        code = (
            "import sys; from pathlib import Path\n"
            "from mailfleet_workers.embedded import AlreadyRunning, Embedded\n"
            "from mailfleet_workers.settings import Settings\n"
            "try: Embedded(Settings(data_dir=Path(sys.argv[1])), apps=['billing']).start()\n"
            "except AlreadyRunning as error: print(error); sys.exit(3)\n"
        )
        other = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert other.returncode == 3, other.stderr
        assert isinstance(fleet.mailer("billing").send(mail()), Sent)


def test_what_was_committed_before_a_stop_is_sent_after_the_next_start(tmp_path: Path) -> None:
    """A restart loses nothing, also of mails whose hints died with the broker."""
    with Embedded(settings(tmp_path), apps=["billing"]) as fleet:
        later = datetime.now(UTC) + timedelta(seconds=1)
        mail_id = fleet.mailer("billing").emit(mail(due_at=later))
    with Embedded(settings(tmp_path), apps=["billing"]) as fleet:
        wait_for_state(fleet, mail_id, "sent")
        assert len(fleet.catcher.store) == 1


def test_an_unknown_account_is_a_visible_wait(tmp_path: Path) -> None:
    """A mail for an account that nobody configured waits, and its row says why."""
    with Embedded(settings(tmp_path), apps=["billing"]) as fleet:
        mail_id = fleet.mailer("billing").emit(mail(account="nowhere"))
        wait_until(lambda: row(fleet, mail_id).reason is not None, 10, lambda: str(row(fleet, mail_id)))

        assert row(fleet, mail_id).reason == "unknown account 'nowhere'"
        assert (row(fleet, mail_id).sum_fail, state(fleet, mail_id)) == (0, "queued")


def test_dry_run_is_the_default_for_a_real_host(tmp_path: Path) -> None:
    """Without `delivery = "live"` nothing connects to an account's host; the attempt says that it was a dry run."""
    accounts = {"default": {"host": "127.0.0.1", "port": 9, "tls": "plain", "from": SENDER}}
    with Embedded(settings(tmp_path, accounts=accounts), apps=["billing"]) as fleet:
        result = fleet.mailer("billing").send(mail())

        assert isinstance(result, Sent)
        assert row(fleet, result.mail_id).reason == "dry_run"
        with fleet.engine.connect() as connection:
            attempts = connection.execute(text("SELECT dry_run, verdict FROM mailfleet_mail_attempt")).all()
        assert [(bool(a.dry_run), a.verdict) for a in attempts] == [(True, "accepted")]
        assert len(fleet.catcher.store) == 0


def test_an_account_can_stay_dry_while_others_are_live(tmp_path: Path) -> None:
    """`accounts.X.dry_run` keeps that account's mail here, also with `delivery = "live"`."""
    host = {"host": "127.0.0.1", "port": 9, "tls": "plain", "from": SENDER}
    accounts = {"default": host | {"dry_run": True}}
    with Embedded(settings(tmp_path, accounts=accounts, delivery="live"), apps=["billing"]) as fleet:
        result = fleet.mailer("billing").send(mail())

        assert isinstance(result, Sent)
        assert result.reason == "dry_run"


def test_a_host_that_is_down_parks_everybody(tmp_path: Path) -> None:
    """No answer before MAIL is a Wait of the host: no failure is counted, one connection was tried for many mails."""
    accounts = {"default": {"host": "127.0.0.1", "port": 9, "tls": "plain", "from": SENDER}}
    down = settings(tmp_path, accounts=accounts, delivery="live", apps={"billing": {"threads": 1}})
    with Embedded(down, apps=["billing"]) as fleet:
        ids = fleet.mailer("billing").emit_many([mail(n) for n in range(30)])
        wait_until(
            lambda: all(row(fleet, i).waits > 0 for i in ids), 10, lambda: str([row(fleet, i) for i in ids])
        )

        assert {row(fleet, i).sum_fail for i in ids} == {0}
        with fleet.engine.connect() as connection:
            tried = connection.execute(text("SELECT count(*) FROM mailfleet_mail_attempt")).scalar_one()
            gates = connection.execute(text("SELECT scope, key FROM mailfleet_gate")).all()
        assert tried == 1
        assert [(g.scope, g.key) for g in gates] == [("host", "127.0.0.1:9")]


def test_three_recipients_have_three_fates(tmp_path: Path) -> None:
    """250, 550 and 450: one has the mail, one never gets it, the third is tried again alone and gets it once."""
    refused_once: list[str] = []

    def script(event: Event) -> Action:
        if event.step is Step.RCPT and event.argument == "gone@example.net":
            return Say(550, "5.1.1 no such user")
        if event.step is Step.RCPT and event.argument == "later@example.net" and not refused_once:
            refused_once.append(event.argument)
            return Say(450, "4.2.0 greylisted, try again in 1 seconds")
        return Default()

    with Embedded(settings(tmp_path), apps=["billing"], script=script) as fleet:
        people = ["now@example.net", "gone@example.net", "later@example.net"]
        mail_id = fleet.mailer("billing").emit(mail(to=people))
        wait_for_state(fleet, mail_id, "sent")

        assert row(fleet, mail_id).reason == "partial"
        assert [r.recipients for r in fleet.catcher.store.receipts()] == [
            ("now@example.net",),
            ("later@example.net",),
        ]
        with fleet.engine.connect() as connection:
            query = text("SELECT address, outcome FROM mailfleet_mail_recipient ORDER BY address")
            outcomes = {r.address: r.outcome for r in connection.execute(query)}
        assert outcomes == {
            "gone@example.net": "refused",
            "later@example.net": "accepted",
            "now@example.net": "accepted",
        }
        headers = [message_from_bytes(r.message)["To"] for r in fleet.catcher.store.receipts()]
        assert headers[0] == headers[1]


def test_copies_have_a_gap_and_are_counted(tmp_path: Path) -> None:
    """`max_done` 2 sends two copies, the second with its number in the Message-ID, and then the mail is sent."""
    with Embedded(settings(tmp_path), apps=["billing"]) as fleet:
        mail_id = fleet.mailer("billing").emit(mail(max_done=2))
        receipts = fleet.catcher.store.wait_for(2, 10)
        wait_for_state(fleet, mail_id, "sent")

        assert row(fleet, mail_id).sum_done == 2
        first, second = (str(message_from_bytes(r.message)["Message-ID"]) for r in receipts)
        assert second == first.replace("@", ".copy-2@")


def test_a_refused_mail_fails_and_send_says_so(tmp_path: Path) -> None:
    """A 550 for the only recipient ends the mail, and `post` tells it as a value."""
    script = Plan({Step.RCPT: Say(550, "5.1.1 no such user")})
    with Embedded(settings(tmp_path), apps=["billing"], script=script) as fleet:
        result = fleet.mailer("billing").post(mail())

        assert isinstance(result, Failed)
        assert result.reply is not None
        assert result.reply.code == 550


def test_a_long_wait_is_pending_at_once(tmp_path: Path) -> None:
    """`send` does not sit out a wait that is longer than its deadline."""
    script = Plan({Step.RCPT: Say(450, "4.2.0 greylisted, try again in 600 seconds")})
    with Embedded(settings(tmp_path), apps=["billing"], script=script) as fleet:
        result = fleet.mailer("billing").send(mail(), deadline_s=30)

        assert isinstance(result, Pending)
        assert result.due_at is not None


def test_cancel_before_the_time_comes(tmp_path: Path) -> None:
    """A cancelled mail is never sent, and cancelling it again says no."""
    with Embedded(settings(tmp_path), apps=["billing"]) as fleet:
        mailer = fleet.mailer("billing")
        mail_id = mailer.emit(mail(due_at=datetime.now(UTC) + timedelta(hours=1)))

        assert mailer.cancel(mail_id)
        assert not mailer.cancel(mail_id)
        assert state(fleet, mail_id) == "cancelled"


def test_expired_mails_are_visible_and_unsent(tmp_path: Path) -> None:
    """A mail whose time goes by while it waits ends as expired, with the reason."""
    script = Plan({Step.RCPT: Say(450, "4.2.0 greylisted, try again in 600 seconds")})
    with Embedded(settings(tmp_path), apps=["billing"], script=script) as fleet:
        mail_id = fleet.mailer("billing").emit(mail(expires_at=datetime.now(UTC) + timedelta(seconds=1)))
        wait_for_state(fleet, mail_id, "expired")

        assert row(fleet, mail_id).reason == "expires_at"
        assert len(fleet.catcher.store) == 0


def test_send_inside_an_open_transaction_is_refused(tmp_path: Path) -> None:
    """`send` would wait for its own thread's write lock: it is refused at once, and the transaction is unharmed."""
    with Embedded(settings(tmp_path), apps=["billing"]) as fleet:
        mailer = fleet.mailer("billing")
        with Session(fleet.engine) as session, session.begin():
            mail_id = mailer.emit(mail(1), session=session)
            with pytest.raises(SendRefused):
                mailer.send(mail(2))
        wait_for_state(fleet, mail_id, "sent")


def test_stop_leaves_no_thread_and_no_open_file(tmp_path: Path) -> None:
    """After `stop` only the process's publisher thread may be left, and the journal directory is empty."""
    before = set(threading.enumerate())
    with Embedded(settings(tmp_path), apps=["billing", "news"]) as fleet:
        fleet.mailer("news").send(mail())
    wait_until(
        lambda: {t.name for t in set(threading.enumerate()) - before} <= {"mailfleet-publisher"},
        10,
        lambda: str(threading.enumerate()),
    )
    assert list((tmp_path / "journal").iterdir()) == []
    open_files = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert [name for name in open_files if str(tmp_path) in name] == []


def test_embedded_needs_sqlite(tmp_path: Path) -> None:
    """Another database is refused with the key, not half started."""
    with pytest.raises(SettingsError, match="database_url"):
        Embedded(settings(tmp_path, database_url="postgresql://nobody@127.0.0.1/x"), apps=["billing"])
