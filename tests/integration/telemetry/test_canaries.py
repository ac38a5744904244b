"""A whole run of the embedded mode at DEBUG, with everything that goes wrong, and what its log does not say."""

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from mailfleet import Attachment, Mail
from mailfleet_workers.catcher import Action, Catcher, Cut, Default, Event, MemoryStore, Say, Step
from mailfleet_workers.embedded import Embedded
from mailfleet_workers.settings import Settings
from mailfleet_workers.telemetry.log import configure
from tests.integration.catcher.certificate import CERTIFICATE, server_context
from tests.unit.telemetry.loggers import loggers_as_they_were
from tests.waiting import wait_until

PEOPLE = ("canary-ada", "canary-bob", "canary-refused", "canary-later", "canary-silent", "canary-idn")
USER, PASSWORD = "canary-user", "canary-password"
BODY, SUBJECT, FILE = "canary-body", "canary-subject", "canary-file"
SECRETS = (
    *PEOPLE,
    *(USER, PASSWORD, BODY, SUBJECT, FILE),
    base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode(),
    base64.b64encode(PASSWORD.encode()).decode(),
)


def moody(event: Event) -> Action:
    """Refuses, delays and falls silent, and quotes addresses and bodies wherever it can."""
    if event.step is Step.RCPT:
        who = event.argument
        if "refused" in who:
            return Say(550, f"5.1.1 <{who}>: Recipient address rejected")
        if "later" in who:
            return Say(450, f"4.2.0 {who} greylisted, try again in 1 seconds")
    if event.step is Step.EOD:
        if any("silent" in who for who in event.recipients):
            return Cut()
        return Say(250, f"2.0.0 queued for {', '.join(event.recipients)}")
    return Default()


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    with loggers_as_they_were():
        yield


def run(directory: Path, form: str) -> str:
    """The log of a run with mails of every fate."""
    certificate = directory / "ca.pem"
    certificate.write_text(CERTIFICATE)
    tls = server_context(directory)
    lines = io.StringIO()
    with Catcher(MemoryStore(), moody, tls=tls, auth=True) as server:
        account = {
            "host": "127.0.0.1",
            "port": server.port,
            "tls": "starttls",
            "ca_file": str(certificate),
            "username": USER,
            "password": "env:PASSWORD",
            "from": "Canary <canary-from@example.com>",
        }
        settings = Settings.model_validate(
            {
                "data_dir": directory,
                "delivery": "live",
                "accounts": {"default": account, "wrong": account | {"password": "env:ABSENT"}},
                "apps": {"billing": {"accounts": ["default", "wrong"]}},
                "timing": {
                    "grace_s": 0.2,
                    "step_s": 0.2,
                    "reconcile_s": 0.2,
                    "try_next_s": 0.2,
                    "drain_s": 5.0,
                },
                "log": {"level": "debug", "format": form},
            }
        )
        configure(settings.log, app="billing", stream=lines)
        with Embedded(settings, apps=["billing"], environ={"PASSWORD": PASSWORD}) as fleet:
            mailer = fleet.mailer("billing")
            for who in PEOPLE:
                mailer.emit(
                    Mail(
                        to=[f"{who}@example.net"],
                        cc=["canary-bob@exämple.org"] if "idn" in who else [],
                        subject=SUBJECT,
                        text=BODY,
                        html=f"<p>{BODY}",
                        attachments=[Attachment("canary-file.txt", FILE.encode())],
                    )
                )
            mailer.emit(Mail(to=["canary-ada@example.net"], subject=SUBJECT, text=BODY, account="wrong"))
            mailer.emit(Mail(to=["canary-ada@example.net"], subject=SUBJECT, text=BODY, account="nowhere"))
            wanted = {"sent": 3, "failed": 1, "doubt": 1, "queued": 3}

            def states() -> dict[str, int]:
                with fleet.engine.connect() as connection:
                    query = (
                        "SELECT state, count(*) FROM mailfleet_mail WHERE state <> 'sending' GROUP BY state"
                    )
                    return {row[0]: row[1] for row in connection.execute(text(query))}

            wait_until(lambda: states() == wanted, 20, lambda: f"{states()}\n{lines.getvalue()}")
    return lines.getvalue()


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_secret_address_or_content_is_logged(tmp_path: Path, form: str) -> None:
    """Neither addresses, credentials nor anything of a mail's content is in the log of mails of every fate."""
    said = run(tmp_path, form)
    assert "mail_settled" in said
    assert "mail_doubt" in said
    assert re.search(r"\bh:[0-9a-f]{12}\b", said), "the server's replies are there, with hashes"
    assert [secret for secret in SECRETS if secret in said] == []


def test_every_line_is_an_object_that_says_what_changed(tmp_path: Path) -> None:
    """Each event of a mail has its id, where it came from and where it went."""
    events = [json.loads(line) for line in run(tmp_path, "json").splitlines()]
    mails = [event for event in events if event["event"].startswith("mail_")]
    assert mails
    assert all({"mail_id", "from", "to"} <= set(event) for event in mails)
    settled = [event for event in mails if event["event"] == "mail_settled" and event["to"] == "failed"]
    assert [(event["code"], event["enhanced"], event["verdict"]) for event in settled] == [
        (550, "5.1.1", "stop")
    ]
