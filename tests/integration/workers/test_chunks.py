"""Mails recorded together: what is certain and what is in doubt when something happens in the middle of a chunk."""

from collections.abc import Sequence

import pytest
from sqlalchemy import event

from mailfleet_schema.states import OnDoubt
from mailfleet_workers import courier
from mailfleet_workers.notify import Notice, Notify
from mailfleet_workers.smtp.base import Answer, Phase
from tests.integration.workers.office import Office
from tests.integration.workers.server import (
    accept,
    cut_after_dot,
    cut_before_dot,
    fail_after_dot,
    fail_before_dot,
    first,
    refuse,
)


@pytest.fixture
def mails(chunks: Office) -> list[int]:
    """Eight mails to 0@…, 1@…"""
    return [chunks.emit(f"{n}@example.net") for n in range(8)]


@pytest.mark.tinymail("37", "39")
def test_eight_mails_in_two_transactions(chunks: Office, mails: list[int]) -> None:
    """A chunk of eight is recorded in one statement and settled in one."""
    chunks.hint(*mails)
    commits: list[object] = []

    @event.listens_for(chunks.engine, "commit")
    def count(connection: object) -> None:
        commits.append(connection)

    chunks.sender.run_once(timeout_s=0.0)
    assert chunks.states(mails) == ["sent"] * 8
    assert len(commits) == 2
    assert chunks.server.taken == [f"{n}@example.net" for n in range(8)]
    chunks.nothing_is_left()


@pytest.mark.tinymail("39", "D3")
def test_the_connection_dies_at_the_third(chunks: Office, mails: list[int]) -> None:
    """Silence after the third dot: two are sent, one is in doubt, the others go out over a new connection."""
    chunks.server.script("2@example.net", cut_after_dot)
    chunks.deliver(*mails)
    assert chunks.states(mails) == ["sent"] * 2 + ["doubt: uncertain: connection reset"] + ["sent"] * 5
    assert chunks.server.connects == 2
    chunks.nothing_is_left()


def test_the_connection_dies_and_the_host_with_it(chunks: Office, mails: list[int]) -> None:
    """Silence after the third dot and nobody answers any more: the rest is certain, queued and not in doubt."""

    def die() -> None:
        chunks.server.refused.append(Answer(Phase.CONNECT, None, "connection refused"))

    chunks.server.script("2@example.net", first(die, cut_after_dot))
    chunks.deliver(*mails)
    states = chunks.states(mails)
    assert states[:2] == ["sent", "sent"]
    assert states[2] == "doubt: uncertain: connection reset"
    assert all(state.startswith("queued: wait") for state in states[3:])
    assert len(chunks.server.dots) == 3
    assert {chunks.row(mail)["sum_fail"] for mail in mails[3:]} == {0}
    chunks.nothing_is_left()


@pytest.mark.tinymail("39", "D2", "U4")
@pytest.mark.parametrize(
    ("act", "state"),
    [
        (cut_before_dot, "queued: retry: connection reset"),
        (refuse(550, "5.7.1 spam"), "failed: stop: refused"),
        (refuse(451, "4.3.0 later"), "queued: retry: later"),
        (fail_before_dot, "queued: ZeroDivisionError before the final dot"),
        (fail_after_dot, "doubt: uncertain: ZeroDivisionError after the final dot"),
    ],
)
def test_one_mail_of_a_chunk(chunks: Office, mails: list[int], act: object, state: str) -> None:
    """Whatever becomes of one mail of a chunk, its neighbours are sent."""
    chunks.server.script("3@example.net", act)  # type: ignore[arg-type]
    chunks.deliver(*mails)
    assert chunks.states(mails) == ["sent"] * 3 + [state] + ["sent"] * 4
    chunks.nothing_is_left()


@pytest.mark.tinymail("39")
def test_a_gate_in_the_middle(chunks: Office, mails: list[int]) -> None:
    """A Wait of the account at the fourth: it and the rest wait together; no further dot leaves."""
    chunks.server.script("3@example.net", refuse(450, "4.7.0 quota"))
    chunks.deliver(*mails)
    chunks.hint(*mails)  # what went back due at once meets the closed gate
    chunks.deliver()
    assert chunks.states(mails) == ["sent"] * 3 + ["queued: wait(account): quota"] * 5
    assert len(chunks.server.dots) == 4
    assert all(chunks.due_in_s(mail) > 3500 for mail in mails[3:])
    chunks.nothing_is_left()


def test_a_server_that_turns_slow(chunks: Office, mails: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of a chunk some time after its record goes back and is recorded anew, never sent long after it."""
    monkeypatch.setattr(courier, "CHUNK_STALE_S", 0.0)
    chunks.hint(*mails)
    chunks.sender.run_once(timeout_s=0.0)
    assert chunks.states(mails) == ["queued"] * 8
    assert chunks.server.dots == []
    chunks.nothing_is_left()


def test_rows_that_are_held_in_doubt_go_alone(chunks: Office) -> None:
    """Among mails of a chunk, one with policy `hold` is recorded at its own dot."""
    mails = [
        chunks.emit(f"{n}@example.net", on_doubt=OnDoubt.HOLD if n == 3 else OnDoubt.RESEND) for n in range(6)
    ]
    seen: list[str] = []
    chunks.server.script("0@example.net", first(lambda: seen.append(chunks.state(mails[3])), accept))
    chunks.server.script("3@example.net", first(lambda: seen.append(chunks.state(mails[3])), accept))
    chunks.deliver(*mails)
    assert seen == ["sending(prepare)", "sending(prepare)"]
    assert chunks.states(mails) == ["sent"] * 6
    chunks.nothing_is_left()


def test_two_claims_of_one_row(chunks: Office, mails: list[int]) -> None:
    """A row freed while it waited in the heap and claimed again is sent once."""
    chunks.hint(*mails)
    with chunks.engine.begin() as connection:
        from mailfleet_schema.statements.reconcile import take_back
        from tests.integration.workers.office import PATIENCE

        assert len(take_back(connection, [chunks.worker_id], PATIENCE, most=100).queued) == 8
    chunks.hint(*mails)
    chunks.deliver()
    assert chunks.states(mails) == ["sent"] * 8
    assert sorted(chunks.server.taken) == [f"{n}@example.net" for n in range(8)]
    chunks.nothing_is_left()


@pytest.mark.tinymail("39", "53", "D26")
def test_another_account_gets_another_connection(chunks: Office) -> None:
    """Mail of an account leaves over a connection of that account only, also after a batch that failed."""
    ours = [chunks.emit(f"{n}@example.net") for n in range(3)]
    theirs = [chunks.emit(f"t{n}@example.net", account="other") for n in range(3)]
    chunks.ledger._notify = _failing_once(chunks)
    chunks.server.script("0@example.net", refuse(451, "4.3.0 later"))
    chunks.hint(*ours, *theirs)
    for _ in range(6):
        chunks.sender.run_once(timeout_s=0.0)
    chunks.reconciler().run_once()
    chunks.hint(*ours, *theirs)
    chunks.deliver()
    assert set(chunks.states([*ours[1:], *theirs])) == {"sent"}
    for account, envelope in chunks.server.taken_by:
        expected = "other" if envelope.recipients[0].startswith("t") else "default"
        assert account == expected, f"{envelope.recipients} left over the connection of {account}"
    chunks.nothing_is_left()


def _failing_once(office: Office) -> Notify:
    def notify(_notices: Sequence[Notice]) -> None:
        office.ledger._notify = office.notices.extend
        raise RuntimeError("the broker has a bug")

    return notify
