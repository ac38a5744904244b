"""`mailfleet db confirm`, and what other commands say of a copy until then."""

import shutil
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, make_url, text

from mailfleet import Mail, Mailer
from mailfleet_schema.engine import open_engine
from mailfleet_workers.clone_guard import CloneGuard
from tests.integration.cli.conftest import Command
from tests.integration.workers.copies import copy_by_template
from tests.services.base import PostgresServer

MAIL = Mail(from_="a@example.com", to=["b@example.net"], subject="x", text="x")
SEND = ("send", "--app", "billing", "--to", "ada@example.net", "--subject", "Hello", "--text", "Hi")


@pytest.fixture
def clone(command: Command, postgres_engine: Engine, postgres_server: PostgresServer) -> Iterator[Engine]:
    """A copy of a database with two mails, which *command* speaks of."""
    with postgres_engine.begin() as connection:
        CloneGuard().enter(connection)
        Mailer("billing", engine=postgres_engine).emit_many([MAIL] * 2, session=connection)
    with copy_by_template(postgres_engine, postgres_server) as copy:
        command.environ |= {
            "MAILFLEET_DATABASE_URL": copy.url.render_as_string(hide_password=False),
            "MAILFLEET_BROKER_URL": "amqp://127.0.0.1:1",
            "MAILFLEET_ACCOUNTS__DEFAULT__HOST": "mail.example.com",
        }
        yield copy


def test_a_worker_does_not_start(command: Command, clone: Engine) -> None:
    """One line says what was found and what to do; 1, so that an orchestrator tries again after it was done."""
    result = command("worker", "billing", status=1)
    (line,) = result.stderr.splitlines()
    assert "copy" in line
    assert "database's oid was" in line
    assert "mailfleet db confirm" in line


def test_everybody_says_it(command: Command, clone: Engine) -> None:
    """`status`, `why` and `scan` say that nothing is sent, and how that is ended."""
    assert "This database is a copy, or was moved" in command("status").stdout
    assert command.json("status")["elsewhere"] != []
    why = command.json("why", 1)
    assert (why["waits_for"], "mailfleet db confirm" in why["sentence"]) == ("person", True)
    (line,) = command.complaints("scan")
    assert "mailfleet db confirm" in line


def test_what_is_found_is_shown_first(command: Command, clone: Engine) -> None:
    """Without a decision nothing is changed, and the status says that one is needed."""
    shown = command("db", "confirm", status=1).stdout
    assert "2 queued (2 of them due)" in shown
    assert "--moved" in shown
    assert "--copy" in shown
    found = command.json("db", "confirm", status=1)["found"]
    assert (found["queued"], found["sending"], found["alive"]) == (2, 0, 0)
    assert command.json("status")["elsewhere"] != []


def test_moved(command: Command, clone: Engine) -> None:
    """Whoever types the id says that it is the same database; its mail goes on."""
    found = command.json("db", "confirm", status=1)["found"]
    told = command("db", "confirm", "--moved", stdin=f"{found['instance']}\n").stdout
    assert "Confirmed; it is the same database." in told
    document = command.json("db", "confirm")
    assert (document["found"]["instance"], document["found"]["differences"]) == (found["instance"], [])
    assert command.json("why", 1)["waits_for"] == "worker"


def test_a_copy(command: Command, clone: Engine) -> None:
    """It becomes a database of its own, and its mail waits for a person."""
    found = command.json("db", "confirm", status=1)["found"]
    confirmed = command.json("db", "confirm", "--copy", "--yes")["confirmed"]
    assert (confirmed["held"], confirmed["cancelled"]) == (2, 0)
    assert confirmed["instance"] != found["instance"]
    assert command.json("why", 1)["waits_for"] == "person"
    assert command.json("status")["elsewhere"] == []
    assert "already" not in command("db", "confirm").stdout


def test_a_copy_whose_mail_is_ended(command: Command, clone: Engine) -> None:
    """`--open cancel` for a copy that shall send nothing of its original."""
    told = command("db", "confirm", "--copy", "--open", "cancel", "--yes").stdout
    assert "2 mails are cancelled" in told
    assert command.json("list", "--state", "cancelled")["mails"][0]["reason"] == "copied database"


def test_mistakes(command: Command, clone: Engine) -> None:
    """Another id, two decisions, and a wish that does not belong to the decision change nothing."""
    refused = command("db", "confirm", "--copy", status=2, stdin="something\n")
    assert "nothing was changed" in refused.stderr
    assert "not both" in command("db", "confirm", "--copy", "--moved", "--yes", status=2).stderr
    assert "--open is for --copy" in command("db", "confirm", "--moved", "--open", "hold", status=2).stderr
    assert command.json("status")["elsewhere"] != []


def test_the_name_of_the_installation(command: Command, clone: Engine) -> None:
    """A copy of a whole disk is noticed by other settings; they are confirmed as anything else."""
    command("db", "confirm", "--moved", "--yes")
    command.environ["MAILFLEET_INSTALLATION"] = "staging"
    assert "installation was none, is staging" in command("db", "confirm", status=1).stdout
    command("db", "confirm", "--copy", "--yes")
    assert command.json("status")["elsewhere"] == []
    del command.environ["MAILFLEET_INSTALLATION"]
    assert command.json("status")["elsewhere"] == ["installation was staging, is none"]


def test_the_embedded_mode(command: Command) -> None:
    """A folder that was copied sends nothing; what is sent before, beside and after it is no matter of the guard."""
    command.environ["MAILFLEET_ACCOUNTS__DEFAULT__FROM"] = "us@example.net"
    command(*SEND)
    command(*SEND)
    original, other = command.directory / "mailfleet-data", command.directory / "other"
    shutil.copytree(original, other)
    command(*SEND)
    command.environ["MAILFLEET_DATA_DIR"] = str(other)
    engine = open_engine(make_url(f"sqlite:///{other / 'mailfleet.db'}"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE mailfleet_worker SET heartbeat_at = 0"))
    engine.dispose()
    (line,) = command.complaints(*SEND)
    assert "mailfleet db confirm" in line
    (line,) = command.complaints("scan")
    assert "mailfleet db confirm" in line
    assert command.json("status")["apps"][0]["states"] == {"sent": 2}
    command("db", "confirm", "--copy", "--yes")
    command(*SEND)
    assert command.json("status")["apps"][0]["states"] == {"sent": 3}
