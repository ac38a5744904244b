"""What a worker says while it sends: one event for each change, and the numbers."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from mailfleet_schema.content import Address
from mailfleet_workers.account import Account
from mailfleet_workers.catcher import Action, Catcher, Default, Event, MemoryStore, Say, Step
from mailfleet_workers.desk import Way
from mailfleet_workers.sender import Sender
from mailfleet_workers.smtp.connection import SmtpTransport
from mailfleet_workers.smtp.pool import ConnectionPool
from mailfleet_workers.telemetry.prometheus import PrometheusMeter
from tests.integration.workers.office import APP, Office


def script(event: Event) -> Action:
    if event.step is Step.RCPT:
        if event.argument.startswith("gone"):
            return Say(550, "5.1.1 gone")
        if event.argument.startswith("grey"):
            return Say(450, "4.2.0 grey")
    return Default()


class Measured:
    """A worker with a meter and a real server."""

    def __init__(self, engine: Engine, directory: Path, server: Catcher) -> None:
        self.meter = PrometheusMeter()
        self.office = Office(engine, directory)
        self.account = Account(
            name="default",
            host=server.host,
            port=server.port,
            tls="plain",
            sender=Address("", "us@example.net"),
        )
        self.server = f"{server.host}:{server.port}"
        connections = ConnectionPool(
            lambda account: SmtpTransport(account, environ={}, meter=self.meter),
            self.office.clock,
            meter=self.meter,
        )
        self.office.connections = connections
        self.office.ledger._meter = self.meter
        desk = replace(
            self.office.desk,
            connections=connections,
            meter=self.meter,
            way=lambda *_names: Way(self.account, dry_run=False, max_idle_ms=0),
        )
        self.office.sender = Sender(desk)

    def value(self, name: str, **labels: str) -> float | None:
        return self.meter.registry.get_sample_value(f"mailfleet_{name}", labels)


@pytest.fixture
def measured(sqlite_engine: Engine, tmp_path: Path) -> Iterator[Measured]:
    with Catcher(MemoryStore(), script) as server:
        one = Measured(sqlite_engine, tmp_path, server)
        yield one
        one.office.connections.close()
        one.office.journal.close()


def events(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The events of mails, with their fields, but for claims."""
    return [
        {"event": record.message, **record.__dict__}
        for record in caplog.records
        if record.name == "mailfleet_workers.telemetry.events" and record.message != "mail_claimed"
    ]


def test_the_numbers_of_sending(measured: Measured) -> None:
    """Attempts, parts of conversations, replies, connections, permits and waits are counted as they were."""
    office = measured.office
    office.deliver(office.emit("ada@example.net"), office.emit("bob@example.net"))
    office.deliver(office.emit("gone@example.net"))
    office.deliver(office.emit("grey@example.net"))
    value, server = measured.value, measured.server
    place = {"account": "default", "host": server}
    verdicts = {
        verdict: value("attempts_total", app=APP, verdict=verdict, **place)
        for verdict in ("accepted", "stop", "wait")
    }
    assert verdicts == {"accepted": 2, "stop": 1, "wait": 1}
    parts = {
        part: value("smtp_phase_seconds_count", phase=part, **place)
        for part in ("connect", "ehlo", "mail", "rcpt", "data", "body", "eod")
    }
    assert parts == {"connect": 1, "ehlo": 1, "mail": 4, "rcpt": 4, "data": 2, "body": 2, "eod": 2}
    replies = {kind: value("smtp_replies_total", code_class=kind, **place) for kind in ("2xx", "4xx", "5xx")}
    assert replies == {"2xx": 2, "4xx": 1, "5xx": 1}
    assert value("permits_total", app=APP, result="granted", rule="", **place) == 4
    assert value("queue_seconds_count", app=APP, priority="normal") == 4
    assert value("wait_seconds_count", app=APP, account="default") == 1
    assert value("connections", state="idle", **place) == 1
    assert value("connections", state="busy", **place) == 0
    office.connections.close()
    assert value("connections", state="idle", **place) == 0


def test_the_events_of_sending(measured: Measured, caplog: pytest.LogCaptureFixture) -> None:
    """Record and result are an event each, with the claim they belong to and what the server said."""
    office = measured.office
    with caplog.at_level(logging.DEBUG):
        mail_id = office.emit("gone@example.net")
        office.deliver(mail_id)
        other = office.emit("ada@example.net")
        office.deliver(other)
    settled, recorded, sent = events(caplog)
    assert (settled["event"], settled["mail_id"]) == ("mail_settled", mail_id)
    assert (settled["from"], settled["to"]) == ("sending(prepare)", "failed")
    assert (settled["code"], settled["enhanced"], settled["verdict"]) == (550, "5.1.1", "stop")
    assert (settled["app"], settled["account"], settled["host"]) == (APP, "default", measured.server)
    assert (settled["fence"], settled["worker_id"]) == (1, office.worker_id)
    assert settled["duration_ms"] >= 0
    assert (recorded["event"], recorded["from"], recorded["to"]) == (
        "mail_recorded",
        "sending(prepare)",
        "sending(dot)",
    )
    assert (sent["event"], sent["mail_id"], sent["from"], sent["to"]) == (
        "mail_settled",
        other,
        "sending(dot)",
        "sent",
    )


def test_a_mail_given_back_and_held(
    measured: Measured, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is interrupted goes back with its reason; the third time it is held, and that is a warning."""
    office = measured.office
    monkeypatch.setattr("mailfleet_workers.packer.pack", _fail)
    mail_id = office.emit("ada@example.net")
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            office.deliver(mail_id)
            office.let_pass(100)
    first, second, third = events(caplog)
    for one in (first, second):
        assert (one["event"], one["to"], one["interrupted"]) == ("mail_given_back", "queued", True)
        assert one["reason"] == "LookupError while building"
    assert (third["event"], third["to"], third["reason"]) == ("mail_held", "held", "poison")
    assert third["levelno"] == logging.WARNING


def _fail(*_arguments: object, **_more: object) -> None:
    raise LookupError
