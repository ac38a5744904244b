"""`mailfleet cancel`, `queue`, `requeue`, `release`, `confirm` and `copy`, as an operator uses them."""

import pytest
from sqlalchemy import Engine

from mailfleet_schema.states import State
from tests.conformance.statements.bench import Bench
from tests.integration.cli.conftest import Command


@pytest.fixture
def bench(engine: Engine, command: Command) -> Bench:
    """A database of either kind, with nobody at work."""
    command.environ["MAILFLEET_DATABASE_URL"] = engine.url.render_as_string(hide_password=False)
    return Bench(engine)


def state(bench: Bench, mail_id: int) -> str:
    return str(bench.row(mail_id).state)


def test_cancel_by_number(command: Command, bench: Bench) -> None:
    """What was cancelled is told, and of every other number why not; the exit status says that there is one."""
    one, two, sent = bench.new(), bench.new(), bench.sent().id
    result = command("cancel", one, two, "--reason", "not wanted")
    assert result.stdout == "2 mails cancelled.\n"
    assert (state(bench, one), bench.row(two).reason) == ("cancelled", "not wanted")
    result = command("cancel", sent, 4711, one, status=1)
    assert result.stderr.splitlines() == [
        f"mailfleet: mail {sent}: is sent; `cancel` is for mails that are draft, queued, held",
        "mailfleet: mail 4711: there is none with this number",
        f"mailfleet: mail {one}: is cancelled (not wanted); `cancel` is for mails that are draft, queued, held",
    ]


def test_each_word(command: Command, bench: Bench) -> None:
    """A draft is queued, what failed is queued again, what is held released or confirmed, what was sent is sent again."""
    draft, failed, sent = bench.new(state=State.DRAFT), bench.failed().id, bench.sent().id
    held, seen = bench.held().id, bench.held().id
    assert command("queue", draft).stdout == "1 mail queued.\n"
    assert command("requeue", failed).stdout == "1 mail queued again.\n"
    assert command("release", held).stdout == "1 mail released.\n"
    assert command("confirm", seen).stdout == "1 mail counted as sent.\n"
    assert command("copy", sent).stdout == "1 mail sent once more.\n"
    found = [state(bench, one) for one in (draft, failed, held, seen, sent)]
    assert found == ["queued", "queued", "queued", "sent", "queued"]


def test_a_filter_is_counted_first(command: Command, bench: Bench) -> None:
    """--dry-run says how many and changes nothing; without it they are changed."""
    for _ in range(3):
        bench.new(account="second")
    other = bench.new()
    said = command("cancel", "--account", "second", "--dry-run").stdout
    assert said == "3 mails would be cancelled; nothing was changed.\n"
    assert command.json("cancel", "--account", "second", "--dry-run") == {"mails": 3, "dry_run": True}
    assert command("cancel", "--account", "second").stdout == "3 mails cancelled.\n"
    assert state(bench, other) == "queued"
    assert command("cancel", "--all").stdout == "1 mail cancelled.\n"


def test_documents(command: Command, bench: Bench) -> None:
    """--json has what was changed and what was left."""
    mail_id = bench.new()
    assert command.json("cancel", mail_id, 4711, status=1) == {
        "changed": [mail_id],
        "left": [{"id": 4711, "state": None, "reason": None, "purged_at": None}],
    }


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "cancel: expected either numbers of mails, or a filter (--app, --state, …, --all)"),
        (["1", "--all"], "cancel: expected either numbers of mails, or a filter (--app, --state, …, --all)"),
        (["1", "--dry-run"], "cancel: --dry-run counts what a filter finds; it has no numbers beside it"),
    ],
)
def test_what_is_wrong(command: Command, bench: Bench, arguments: list[str], problem: str) -> None:
    """Nothing is changed by half a command."""
    mail_id = bench.new()
    assert command.complaints("cancel", *arguments) == [problem]
    assert state(bench, mail_id) == "queued"
