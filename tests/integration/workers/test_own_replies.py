"""Rules that an installation has for its account's server: what they make of a mail, and that a change is followed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mailfleet_workers.accounts.found import Known
from mailfleet_workers.desk import Way
from mailfleet_workers.settings.replies import rules_from
from tests.integration.workers.office import Office
from tests.integration.workers.server import accept, refuse
from tests.integration.workers.test_directory import Bench, bench  # noqa: F401 - a fixture

ADA, BOB = "ada@example.net", "bob@example.net"
BUSY = {"reason": "their quota", "verdict": "wait", "scope": "mail", "wait_s": 120, "text": "not today"}
OVER = {**BUSY, "reason": "over for good", "verdict": "stop"}
del OVER["scope"], OVER["wait_s"]


class WithRules(Office):
    """Its accounts have *replies*, which may change."""

    replies: tuple[dict[str, object], ...] = ()

    def way(self, app: str, name: str) -> Way | None:
        way = super().way(app, name)
        own = rules_from(self.replies, "accounts.default.replies")
        return None if way is None else replace(way, account=replace(way.account, replies=own))


@pytest.fixture
def ruled(engine: Engine, tmp_path: Path) -> Iterator[WithRules]:
    office = WithRules(engine, tmp_path)
    yield office
    office.connections.close()
    office.journal.close()
    assert office.violations == []


def test_an_accounts_own_rule_decides(ruled: WithRules) -> None:
    """What the table would end waits, without a failure; with the next rules the same words end it."""
    mail = ruled.emit(ADA)
    ruled.server.script(ADA, refuse(550, "not today"), refuse(550, "not today"))
    ruled.replies = (BUSY,)
    ruled.deliver(mail)
    assert ruled.state(mail).startswith("queued: wait(mail): their quota")
    assert ruled.row(mail)["sum_fail"] == 0
    assert 60 < ruled.due_in_s(mail) <= 120
    ruled.replies = (OVER,)
    ruled.let_pass(120)
    ruled.deliver(mail)
    assert ruled.state(mail) == "failed: stop: over for good"


def test_without_a_rule_the_table_decides(ruled: WithRules) -> None:
    """Rules of one's own stand before the table, not instead of it."""
    ruled.replies = (BUSY,)
    stopped, sent = ruled.emit(ADA), ruled.emit(BOB)
    ruled.server.script(ADA, refuse(550, "5.1.1 no such user"))
    ruled.server.script(BOB, accept)
    ruled.deliver(stopped, sent)
    assert ruled.states([stopped, sent]) == ["failed: stop: refused", "sent"]


def test_changed_rules_are_followed(bench: Bench) -> None:  # noqa: F811 - the fixture
    """A stored account's rules are those of the next look, and who listens hears of it; wrong ones make it unusable, with the key."""
    bench.put("tenant-a", replies=[BUSY])
    directory = bench.directory()
    found = directory.find("tenant-a")
    assert isinstance(found, Known)
    assert [rule.reason for rule in found.account.replies] == ["their quota"]

    bench.put("tenant-a", replies=[OVER, BUSY])
    directory.refresh()
    found = directory.find("tenant-a")
    assert isinstance(found, Known)
    assert [rule.reason for rule in found.account.replies] == ["over for good", "their quota"]
    assert [name for name, _, _ in bench.said] == ["tenant-a", "tenant-a"]

    bench.put("tenant-a", replies=[{**BUSY, "text": "("}])
    directory.refresh()
    assert "replies[0].text: expected a regular expression" in str(directory.find("tenant-a"))
