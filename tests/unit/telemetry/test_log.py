"""Lines of the log: their form, and what never gets into them."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mailfleet.errors import SettingsError
from mailfleet_schema.states import State
from mailfleet_workers.settings.model import LogSettings
from mailfleet_workers.telemetry import addresses
from mailfleet_workers.telemetry.log import configure
from tests.unit.telemetry.loggers import loggers_as_they_were

log = logging.getLogger("mailfleet_workers.test")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    with loggers_as_they_were():
        yield


class Lines(io.StringIO):
    """A log that is read line by line."""

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def one(self) -> dict[str, Any]:
        (line,) = self.all()
        return line


def configured(**settings: Any) -> Lines:
    lines = Lines()
    configure(LogSettings(**settings), app="billing", environ={"KEY": "key"}, stream=lines)
    return lines


def test_a_line_is_an_object() -> None:
    """Time in UTC, level, event, the process's app and the fields, flat; what is None is left out."""
    lines = configured()
    log.info("mail_settled", extra={"mail_id": 7, "to": State.SENT, "code": 250, "reason": None})
    line = lines.one()
    assert line.pop("time").endswith("Z")
    assert line.pop("pid") > 0
    assert line == {
        "level": "info",
        "event": "mail_settled",
        "app": "billing",
        "mail_id": 7,
        "to": "sent",
        "code": 250,
        "logger": "mailfleet_workers.test",
    }


def test_a_line_for_people() -> None:
    """The text format has the same, and whatever a server says stays in its line."""
    lines = configured(format="text")
    log.warning("mail_doubt", extra={"mail_id": 7, "reason": "a b\r\nINFO forged \u202e\x7f"})
    line = lines.getvalue()
    assert line.count("\n") == 1
    assert " WARNING mail_doubt app=billing mail_id=7 reason=" in line
    assert "\u202e" not in line


def test_a_servers_text_is_tamed() -> None:
    """Cut, its control characters escaped, its addresses hashed with the key that is set."""
    lines = configured(address_key="env:KEY")
    text = "550 <ada@example.net>\x1b[31m\x00\u2028\x85\x7f no" + "x" * 10_000
    log.info("mail_settled", extra={"reason": text})
    raw = lines.getvalue()
    assert raw.isascii()
    assert raw.rstrip("\n").isprintable()
    reason = lines.one()["reason"]
    assert len(reason) == 500
    assert reason.startswith("550 <" + addresses.Addresses("hashed", b"key").hash("ada@example.net") + ">")


def test_an_exception_is_shown_without_what_it_quotes() -> None:
    """Types and places of the whole chain, and no text that may hold a value; harmless texts stay."""
    lines = configured()
    try:
        try:
            "canary-body \udc80".encode()
        except UnicodeEncodeError as error:
            raise RuntimeError("canary-text") from error
    except RuntimeError:
        log.exception("pack_failed", extra={"mail_id": 7})
    line = lines.one()
    assert line["error"] == "RuntimeError"
    assert "test_log.py:" in line["where"]
    assert "test_an_exception_is_shown" in line["where"]
    assert line["because"].startswith("UnicodeEncodeError at ")
    assert "canary" not in lines.getvalue()


def test_what_speaks_of_the_program_is_shown() -> None:
    """An AttributeError's text and the operating system's word help, and quote nothing."""
    lines = configured()
    for error in (AttributeError("'NoneType' object has no attribute 'x'"), OSError(28, "No space left")):
        log.error("journal_failed", exc_info=error)
    assert [line["error"] for line in lines.all()] == [
        "AttributeError: 'NoneType' object has no attribute 'x'",
        "OSError: No space left",
    ]


def test_a_value_of_unknown_type_is_not_shown() -> None:
    """Bytes, mappings and objects are named by their type: they may hold a mail."""
    lines = configured()
    log.info("odd", extra={"a": b"canary", "b": {"canary": 1}, "c": ValueError("canary"), "d": float("inf")})
    line = lines.one()
    assert (line["a"], line["b"], line["c"], line["d"]) == ("<bytes>", "<dict>", "ValueError", "inf")


def test_other_packages_do_not_debug() -> None:
    """At DEBUG only ours do: a database library would print rows."""
    lines = configured(level="debug")
    logging.getLogger("sqlalchemy.engine").info("INSERT %s", "canary")
    logging.getLogger("pika.connection").warning("lost %s", "amqp://u:canary@host/")
    log.debug("mail_claimed")
    first, second = lines.all()
    assert (first["event"], first["message"]) == ("message", "lost amqp://u:***@host/")
    assert second["event"] == "mail_claimed"


def test_a_lost_broker_is_one_event_and_not_critical() -> None:
    """What dramatiq says at every try during an outage is a warning of ours with its reason."""
    lines = configured(level="info")
    dramatiq = logging.getLogger("dramatiq.worker.ConsumerThread(mailfleet)")
    dramatiq.critical("Consumer encountered a connection error: %s", ConnectionError("refused"))
    dramatiq.critical("Consumer encountered an unexpected error.")
    first, second = lines.all()

    assert (first["event"], first["level"], first["error"]) == ("broker_lost", "warning", "refused")
    assert (second["event"], second["level"]) == ("message", "critical")


def test_a_wrong_call_prints_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    """A message that cannot be formatted is a line like any other."""
    lines = configured()
    log.warning("%d mails", "canary")
    assert lines.one()["message"] == "unformatted: %d mails"
    assert "canary" not in lines.getvalue() + capsys.readouterr().err


def test_what_nobody_caught_is_logged() -> None:
    """A thread that dies leaves a line with its name, not a traceback with values."""
    lines = configured()

    def fail() -> None:
        raise KeyError("canary")

    thread = threading.Thread(target=fail, name="mailfleet-x")
    thread.start()
    thread.join()
    line = lines.one()
    assert (line["event"], line["thread_name"], line["error"]) == ("thread_died", "mailfleet-x", "KeyError")
    assert "canary" not in lines.getvalue()


def test_a_key_that_is_not_there_stops_the_start() -> None:
    """Hashes with another key than the one that was meant would be found out too late."""
    with pytest.raises(SettingsError, match=r"log\.address_key"):
        configure(LogSettings(address_key="env:ABSENT"), environ={})
