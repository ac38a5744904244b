"""`mailfleet purge`: contents of mail that is through are removed by hand; `show` says so."""

from typing import Any

import pytest
from sqlalchemy import Engine

from mailfleet_schema.states import State
from mailfleet_workers.operators.purge import Old, count, purge_old
from tests.conformance.statements.bench import DAY_S, Bench
from tests.conformance.statements.test_purge import CANARY, dump, mail
from tests.integration.cli.conftest import Command


@pytest.fixture
def bench(engine: Engine, command: Command) -> Bench:
    command.environ["MAILFLEET_DATABASE_URL"] = engine.url.render_as_string(hide_password=False)
    return Bench(engine)


def failed(bench: Bench, days: float = 0.0) -> int:
    new = mail(CANARY.encode())
    fields: dict[str, Any] = {"content": new.content, "blobs": new.blobs, "parameter": new.parameter}
    mail_id = bench.failed(**fields).id
    bench.shift(mail_id, -days * DAY_S, "changed_at")
    return mail_id


def test_old_contents_are_removed(command: Command, bench: Bench) -> None:
    """Counted first, then removed: those that ended long ago, and nothing that may still be sent."""
    old, young = failed(bench, days=31), failed(bench, days=1)
    waits = bench.new()
    arguments = ("purge", "--state", "failed", "--older-than", "30d")
    assert command.json(*arguments, "--dry-run") == {"mails": 1, "dry_run": True}
    assert command(*arguments).stdout == "1 content removed.\n"
    assert command(*arguments).stdout == "0 contents removed.\n"
    assert "purged at 20" in command("show", old).stdout
    assert command.json("show", old)["content"]["purged_at"] is not None
    assert "purged at" not in command("show", young).stdout + command("show", waits).stdout
    assert command("purge", "--state", "failed", "--older-than", "1h", "--app", "news").stdout.startswith(
        "0 "
    )
    assert command("purge", "--state", "failed", "--older-than", "1h", "--most", "5").stdout.startswith("1 ")
    assert CANARY not in dump(bench)
    for shown in (("show", old, "--body"), ("show", young, "--json"), ("list", "--json"), ("why", old)):
        assert CANARY not in command(*shown).stdout


def test_what_is_purged_is_not_queued_again(command: Command, bench: Bench) -> None:
    """By number it is said why; by a filter it is not even counted."""
    mail_id = failed(bench, days=2)
    command("purge", "--state", "failed", "--older-than", "1d")
    said = command("requeue", mail_id, status=1).stderr
    assert f"mail {mail_id}: its content was purged at " in said
    assert command.json("requeue", "--all", "--dry-run") == {"mails": 0, "dry_run": True}
    assert bench.row(mail_id).state == "failed"


def test_what_is_wrong(command: Command, bench: Bench) -> None:
    """What may still be sent keeps its content."""
    mail_id = bench.new()
    (problem,) = command.complaints("purge", "--state", "queued", "--older-than", "30d")
    assert problem == "purge: state: expected cancelled, expired, failed, sent, got queued"
    (problem,) = command.complaints("purge", "--state", "failed", "--older-than", "soon")
    assert problem.startswith("--older-than: expected a time")
    assert bench.row(mail_id).state == "queued"


def test_in_pages(bench: Bench) -> None:
    """*most* bounds it, the oldest first; broken off it goes on."""
    ids = [failed(bench, days=2) for _ in range(5)]
    wanted = Old((State.FAILED, State.EXPIRED), DAY_S)
    assert count(bench.engine, wanted) == 5
    heard: list[int] = []
    assert purge_old(bench.engine, wanted, most=2, told=heard.append) == 2
    assert (count(bench.engine, wanted), heard) == (3, [2])
    assert purge_old(bench.engine, wanted) == 3
    assert [bench.row(one).state for one in ids] == ["failed"] * 5
    with pytest.raises(ValueError, match="state"):
        Old((), 1.0)
