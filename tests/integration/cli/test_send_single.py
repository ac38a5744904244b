"""`mailfleet send` of one mail: from plain data, saved, once more by its number, and TinyMail's integers."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.cli.conftest import Command

PLAIN = {"from": "billing@example.com", "to": ["ada@example.net"], "subject": "Invoice 17", "text": "Hello"}


def data(**changes: object) -> str:
    return json.dumps(PLAIN | changes)


@pytest.mark.tinymail("67", "U14")
def test_from_plain_data(command: Command) -> None:
    """From standard input or a file; what became of it as a sentence, as a document, or as TinyMail's integer."""
    assert (
        command("send", "--data", "-", stdin=data()).stdout == "Mail 1 is sent: 250 2.0.0 Ok: queued as 1.\n"
    )
    (command.directory / "mail.json").write_text(data())
    assert command("send", "--data", "mail.json", "--code").stdout == "0\n"
    document = command.json("send", "--data", "mail.json")
    assert (document["answer"], document["mail_id"], document["code"]) == ("sent", 3, 0)
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    said = command("send", "--data", "-", "--code", stdin=data(due_at=due_at.isoformat())).stdout
    assert int(said) == due_at.timestamp() * 1000


@pytest.mark.tinymail("67", "68", "69", "U14")
def test_a_draft_is_edited_sent_and_sent_again(command: Command) -> None:
    """Each by its number; without force a sent mail is left as it is."""
    assert command("send", "--data", "-", "--save", stdin=data()).stdout == "Mail 1 is saved.\n"
    assert command.json("show", 1)["mail"]["state"] == "draft"
    command("send", "--data", "-", "--save", stdin=data(id=1, subject="Invoice 18"))
    shown = command.json("show", 1)
    assert (shown["content"]["subject"], shown["mail"]["version"]) == ("Invoice 18", 2)
    stale = command("send", "--data", "-", status=1, stdin=data(id=1, version=1))
    assert stale.stderr.startswith("mailfleet: mail 1: ")
    assert command("send", "--data", "-", "--code", stdin=data(id=1, subject="Invoice 19")).stdout == "0\n"
    assert command("send", "--id", 1, "--code", status=1).stdout == "-1\n"
    assert "is sent and left as it is" in command("send", "--id", 1, status=1).stderr
    assert command("send", "--id", 1, "--force", "--code").stdout == "0\n"
    assert command.json("show", 1)["mail"]["sum_done"] == 2
    unknown = command("send", "--id", 4711, status=1)
    assert unknown.stderr == "mailfleet: mail 4711: there is none with this number\n"
    assert command("send", "--id", 4711, "--code", status=1).stdout == "-2\n"


def test_options_are_saved_too(command: Command) -> None:
    """A mail from options is a draft with --save."""
    command("send", "--from", "a@example.com", "--to", "b@example.net", "--text", "x", "--save")
    assert command.json("show", 1)["mail"]["state"] == "draft"


@pytest.mark.parametrize(
    ("arguments", "stdin", "problem"),
    [
        (["--data", "-"], "[1]", "--data: expected a JSON object, got list"),
        (["--data", "-"], "{", "--data: expected a JSON object ("),
        (["--data", "-"], "[" * 100_000, "--data: expected a JSON object ("),
        (["--data", "-"], data(to=[]), "to: "),
        (["--data", "-"], data(file="/etc/passwd"), "file: is no field of a mail"),
        (["--data", "none.json"], None, "--data: none.json cannot be read"),
        (["--data", "-", "--id", "1"], data(), "--data and --id: the mail comes from one of them"),
        (["--id", "1", "--to", "a@example.net"], None, "--id and --to: the mail comes from one of them"),
        (["--id", "1", "--priority", "high"], None, "--id: how the mail is sent stands in it"),
        (["--id", "1", "--save"], None, "--save: it goes with a mail that is not stored yet"),
        (["--data", "-", "--force"], data(), "--force: it goes with --id"),
        (["--csv", "x", "--template", "y", "--save"], None, "--csv: --save"),
        (["--code"], None, "nothing to send"),
    ],
)
def test_what_is_wrong(command: Command, arguments: list[str], stdin: str | None, problem: str) -> None:
    """One line, and nothing is written."""
    [said] = command.complaints("send", *arguments, stdin=stdin)
    assert said.startswith(problem)
