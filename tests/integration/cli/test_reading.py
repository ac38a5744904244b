"""list, show, why, status, on both databases: what a person and what a program reads."""

import pytest
from sqlalchemy import Engine

from mailfleet_schema.content import Address
from mailfleet_schema.statements.recipient import Recipient, put_recipients
from mailfleet_schema.states import State
from tests.integration.cli.conftest import Command
from tests.integration.views.rows import Rows, content, with_file


@pytest.fixture
def rows(engine: Engine, command: Command) -> Rows:
    command.environ["MAILFLEET_DATABASE_URL"] = engine.url.render_as_string(hide_password=False)
    return Rows(engine)


def test_list(command: Command, rows: Rows) -> None:
    """Newest first, one line for each mail; options narrow it down and go on where it ended."""
    rows.insert(
        content=content(
            subject="[bold]\x1b[2Jx", to=(Address("", "a@example.net"), Address("", "b@example.net"))
        )
    )
    rows.insert("news", state=State.DRAFT)
    result = command("list")
    _, newest, oldest = result.stdout.splitlines()

    assert newest.split()[:3] == ["2", "news", "draft"]
    assert "a@example.net +1" in oldest
    assert "[bold]\\u001b[2Jx" in oldest
    assert [mail["id"] for mail in command.json("list", "--app", "news")["mails"]] == [2]
    assert [
        mail["id"] for mail in command.json("list", "--state", "queued", "--priority", "normal")["mails"]
    ] == [1]
    assert command("list", "--limit", "1").stderr == "More: --before 2\n"
    assert [mail["id"] for mail in command.json("list", "--limit", "1", "--before", "2")["mails"]] == [1]
    assert command("list", "--account", "other").stderr == "No mail.\n"


def test_show(command: Command, rows: Rows) -> None:
    """One mail with all that is known of it; bodies only when they are asked for."""
    mail_id = rows.insert(**with_file(b"%PDF"))
    worker = rows.worker()
    row = rows.claim(mail_id, worker)
    rows.attempt(row, worker)
    with rows.engine.begin() as connection:
        put_recipients(
            connection, [Recipient(mail_id, "bob@example.net", "refused", 550, "5.1.1 \x1b]0;x\x07")]
        )
    shown = command("show", mail_id).stdout

    for words in (
        "Invoice 17",
        "Billing <billing@example.com>",
        "text 7 B",
        "invoice.pdf",
        "4 B",
        "wait in rcpt",
    ):
        assert words in shown
    assert "5.1.1 \\u001b]0;x\\u0007" in shown
    assert "grüße" not in shown
    assert "grüße" in command("show", mail_id, "--body").stdout
    assert "body" not in command.json("show", mail_id)
    assert command.json("show", mail_id, "--body")["body"] == {"text": "grüße", "html": None}


def test_name_does_not_look_like_an_address(command: Command, rows: Rows) -> None:
    """A display name with an address in it is shown in quotes."""
    to = (Address('Bob <bob@example.net>, "Eve"', "eve@example.org"),)
    shown = command("show", rows.insert(content=content(to=to))).stdout

    assert '"Bob <bob@example.net>, \\"Eve\\"" <eve@example.org>' in shown


def test_why(command: Command, rows: Rows) -> None:
    """A sentence, what it rests on, and the same for programs."""
    mail_id = rows.insert()
    said = command("why", mail_id).stdout

    assert "Mail 1 of billing is queued" in said
    assert "It is due, but no worker of app billing is running." in said
    assert "not tried" in said
    assert command.json("why", mail_id)["waits_for"] == "worker"


def test_why_knows_the_gate_of_a_configured_host(command: Command, rows: Rows) -> None:
    """The account's server has a gate under its name and port, which the settings tell."""
    command.environ["MAILFLEET_ACCOUNTS__DEFAULT__HOST"] = "smtp.Example.com"
    command.environ["MAILFLEET_ACCOUNTS__DEFAULT__PORT"] = "2465"
    rows.worker()
    mail_id = rows.insert()
    rows.gate("host", "smtp.example.com:2465", 60)

    assert command.json("why", mail_id)["gate"]["key"] == "smtp.example.com:2465"


def test_status(command: Command, rows: Rows) -> None:
    """Counts by app, workers, gates, and what a person should look at."""
    rows.insert()
    rows.change("mail", rows.insert("news"), state="held", reason="poison")
    rows.quiet(rows.worker(), 7200)
    rows.gate("account", "default", 300, "454 too many logins")
    said = command("status").stdout
    found = command.json("status")

    # In seconds it would depend on how quick this machine is.
    assert "2 h ago (quiet)" in said
    assert "account default  in 5 min  454 too many logins" in said
    assert "0 in doubt, 1 held" in said
    assert [(app["app"], app["states"]) for app in found["apps"]] == [
        ("billing", {"queued": 1}),
        ("news", {"held": 1}),
    ]


def test_unknown_mail(command: Command, rows: Rows) -> None:
    """A number that is no mail's is one line, and an answer that is not well."""
    for verb in ("show", "why"):
        result = command(verb, 77, status=1)
        assert (result.stdout, result.stderr) == ("", "mailfleet: mail 77: there is none with this number\n")


def test_empty(command: Command, rows: Rows) -> None:
    """An empty database is no error."""
    assert command.json("list") == {"mails": [], "next_before": None, "bound": None}
    assert "No mail." in command("status").stdout


@pytest.mark.parametrize("width", [80, 120])
def test_lines_fit_the_screen(command: Command, rows: Rows, width: int) -> None:
    """No line of any table is wider than the terminal."""
    command.environ["COLUMNS"] = str(width)
    long = content(subject="s" * 200, to=(Address("n" * 90, f"{'a' * 60}@example.net"),))
    mail_id = rows.insert("a" * 40, content=long, due_in_s=10**7)
    rows.gate("host", "h" * 90, 99, "r" * 200)

    for arguments in (("list",), ("show", mail_id), ("why", mail_id), ("status",), ("config", "check")):
        assert max(len(line) for line in command(*arguments).stdout.splitlines()) <= width
