"""Mail that others than its app may send, where apps are threads of one process."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from mailfleet import Mail
from mailfleet_workers.embedded import Embedded
from mailfleet_workers.settings import Settings
from tests.waiting import wait_until


def fleet(directory: Path, *apps: str, sharing: tuple[str, ...] = (), grace_s: float = 900.0) -> Embedded:
    """With 900 s of grace, what no hint brings is not sent here."""
    values = {
        "data_dir": directory,
        "timing": {"grace_s": grace_s, "step_s": 0.3, "reconcile_s": 0.2, "drain_s": 5.0},
        "apps": {name: {"shared": name in sharing} for name in apps},
        "accounts": {"default": {"from": "us@example.com"}},
    }
    return Embedded(Settings.model_validate(values), apps=apps)


def mail(subject: str, apps: Any) -> Mail:
    return Mail(to=["ada@example.net"], subject=subject, text="Hello", apps=apps)


def sent_by(running: Embedded) -> dict[int, str]:
    """The app of the pool that has sent each mail."""
    query = text(
        "SELECT a.mail_id, w.app FROM mailfleet_mail_attempt a JOIN mailfleet_worker w ON w.id = a.worker_id"
    )
    with running.engine.connect() as connection:
        return {int(mail_id): str(app) for mail_id, app in connection.execute(query)}


def wait_for(running: Embedded, expected: dict[int, str]) -> None:
    wait_until(lambda: sent_by(running) == expected, 15, lambda: f"{sent_by(running)}, not {expected}")


@pytest.mark.tinymail("14", "D24")
def test_who_is_asked_sends_it(tmp_path: Path) -> None:
    """A list goes to one of its apps, mail for everybody to one that shares, all else to its own."""
    with fleet(tmp_path, "billing", "crm", "news", sharing=("news",)) as running:
        mailer = running.mailer("billing")
        expected = {
            mailer.emit(mail("a list", ["crm"])): "crm",
            mailer.emit(mail("everybody", "*")): "news",
            mailer.emit(mail("its own", ["billing"])): "billing",
            mailer.emit(mail("its own too", None)): "billing",
        }
        wait_for(running, expected)


def test_nobody_shares(tmp_path: Path) -> None:
    """Mail for everybody is sent by its own app's threads then, at once."""
    with fleet(tmp_path, "crm", "billing") as running:
        wait_for(running, {running.mailer("billing").emit(mail("everybody", "*")): "billing"})


def test_who_is_named_first_is_not_there(tmp_path: Path) -> None:
    """A list is gone through until somebody is found who runs."""
    with fleet(tmp_path, "crm", "billing", grace_s=0.2) as running:
        ids = [running.mailer("billing").emit(mail(f"{n}", ["gone", "away", "crm"])) for n in range(4)]
        wait_for(running, dict.fromkeys(ids, "crm"))


def test_a_restart(tmp_path: Path) -> None:
    """What waited for an app that was not there is sent when it is, without any hint of before."""
    with fleet(tmp_path, "billing") as running:
        mail_id = running.mailer("billing").emit(mail("a list", ["crm"]))
    with fleet(tmp_path, "crm") as running:
        wait_for(running, {mail_id: "crm"})
