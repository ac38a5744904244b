"""`mailfleet list` and the bulk forms with TinyMail's searches, as an operator types them."""

import pytest
from sqlalchemy import Engine

from mailfleet_schema.content import Address
from mailfleet_schema.states import State
from tests.integration.cli.conftest import Command
from tests.integration.views.rows import Rows, content


@pytest.fixture
def rows(engine: Engine, command: Command) -> Rows:
    command.environ["MAILFLEET_DATABASE_URL"] = engine.url.render_as_string(hide_password=False)
    return Rows(engine)


@pytest.mark.tinymail("59", "60", "61", "62", "63", "64", "65", "56")
def test_each_option_finds(command: Command, rows: Rows) -> None:
    """And all of them together."""
    one = rows.insert(mark="campaign-7", ref=("invoice", "17", None))
    two = rows.insert(
        "news",
        content=content(subject="Welcome", from_=None, to=(Address("", "bob@example.org"),)),
        state=State.DRAFT,
    )
    (command.directory / "mailfleet.toml").write_text(
        '[accounts.default]\nfrom = "News <news@example.com>"\n'
    )

    def listed(*options: object) -> list[int]:
        return [mail["id"] for mail in command.json("list", *options)["mails"]]

    assert listed() == listed("--undone") == listed("--since", "1h") == [two, one]
    assert listed("--failed") == listed("--until", "1h") == listed("--reason-has", "x") == []
    assert listed("--mark", "campaign-7") == listed("--ref", "invoice", "--ref", "17") == [one]
    assert listed("--recipient", "BOB@example.org") == listed("--recipient", "@example.org") == [two]
    assert listed("--subject", "invoice 1*") == listed("--sender", "billing@example.com") == [one]
    assert (
        listed("--sender", "News@example.com") == listed("--sender", "@example.com", "--app", "news") == [two]
    )
    assert listed("--from-id", two) == [two]
    assert listed("--before-id", two) == listed("--before", two) == [one]
    assert listed("--mark", "campaign-7", "--state", "draft") == []
    assert listed("--sort", "id") == [one, two]


def test_pages(command: Command, rows: Rows) -> None:
    """The table, and on the other stream which page it is and how many there are."""
    for _ in range(5):
        rows.insert()
    result = command("list", "--page", 2, "--size", 2, "--sort", "due,-id")
    assert result.stderr == "Page 2 of 3, 5 mails.\n"
    assert len(result.stdout.splitlines()) == 3
    document = command.json("list", "--page", 2, "--size", 2)
    assert {name: document[name] for name in document if name != "mails"} == {
        "page": 2,
        "size": 2,
        "sort": "-id",
        "total": 5,
        "pages": 3,
        "bound": None,
    }
    assert [mail["id"] for mail in document["mails"]] == [3, 2]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--sort", "done,x"], "sort: expected id, done, send, due"),
        (["--mark", " "], "mark: expected a word"),
        (["--recipient", "bob"], "recipient: expected an address or @domain (the address has no @)"),
        (["--sender", "@"], "sender: expected an address or @domain"),
        (["--subject", "x" * 501], "subject: expected at most 500 characters, got 501"),
        (["--since", "yesterday"], "--since: expected a time such as"),
        (["--failed", "--undone"], "--failed and --undone: give one of them"),
    ],
)
def test_what_is_wrong(command: Command, rows: Rows, options: list[str], problem: str) -> None:
    """One line, by its name; the same for what changes mails, which then changes none."""
    mail_id = rows.insert()
    for verb in ("list", "cancel"):
        if verb == "cancel" and "--sort" in options:
            continue
        [said] = command.complaints(verb, *options)
        assert said.startswith(problem)
    assert command.json("show", mail_id)["mail"]["state"] == "queued"


@pytest.mark.tinymail("D35", "62")
def test_a_campaign_is_cancelled(command: Command, rows: Rows) -> None:
    """Counted first, then done: that campaign and no other."""
    for n in range(4):
        rows.insert(mark=f"campaign-{7 + n % 2} 7")
    said = command("cancel", "--mark", "campaign-7", "--dry-run").stdout
    assert said == "2 mails would be cancelled; nothing was changed.\n"
    assert command("cancel", "--mark", "campaign-7", "--from-id", 2).stdout == "1 mail cancelled.\n"
    assert [mail["id"] for mail in command.json("list", "--state", "cancelled")["mails"]] == [3]
