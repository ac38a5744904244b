"""`why`: one sentence and one word for every place a mail can be in."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine

from mailfleet_schema.content import Address
from mailfleet_schema.statements.claim import Return, give_back
from mailfleet_schema.statements.gate import UNTIL_OPENED_S, open_gate, reason_of
from mailfleet_schema.statements.operate import CANCEL, operate
from mailfleet_schema.statements.reconcile import Patience, expire, settle_doubts, take_back
from mailfleet_schema.states import OnDoubt, Phase, State
from mailfleet_workers.views import why
from tests.integration.views.readings import readings
from tests.integration.views.rows import GREYLISTED, Rows, content


def draft(rows: Rows) -> int:
    return rows.insert(state=State.DRAFT)


def due_later(rows: Rows) -> int:
    rows.worker()
    return rows.insert(due_in_s=3600)


def greylisted(rows: Rows) -> int:
    worker = rows.worker()
    mail_id = rows.insert()
    row = rows.claim(mail_id, worker)
    rows.attempt(row, worker)
    rows.settle(
        row,
        State.QUEUED,
        phase=Phase.PREPARE,
        due_in_s=300,
        waits=1,
        sends=1,
        code=450,
        enhanced="4.7.1",
        text=GREYLISTED,
        reason=f"wait(mail): {GREYLISTED}",
    )
    return mail_id


def no_worker(rows: Rows) -> int:
    rows.worker("news")
    return rows.insert()


def not_for_this_run_mode(rows: Rows) -> int:
    rows.worker("news")
    return rows.insert(
        run_modes=("product",), reason="condition: run mode: the mail is for product, this is test"
    )


def quiet_worker(rows: Rows) -> int:
    rows.quiet(rows.worker(), 7200)
    return rows.insert()


def its_turn(rows: Rows) -> int:
    rows.worker()
    return rows.insert()


def account_waits(rows: Rows) -> int:
    rows.worker()
    rows.gate("account", "default", 240)
    rows.gate("host", "elsewhere.example", 9999)
    return rows.insert()


def domain_waits(rows: Rows) -> int:
    rows.worker()
    rows.gate("account", "other", 9999)
    rows.gate("recipient", "example.net", 1800, "rate limit")
    return rows.insert(content=content(to=(), bcc=(Address("", "eve@Example.net"),)))


def host_waits(rows: Rows) -> int:
    mail_id = greylisted(rows)
    rows.gate("host", "smtp.example.com", 3600)
    return mail_id


def everything_paused(rows: Rows) -> int:
    rows.worker()
    rows.gate("account", "default", 240)
    rows.gate("all", "*", UNTIL_OPENED_S, "moving the database")
    return rows.insert()


def parked(rows: Rows, scope: str, key: str, seconds: float, *, due_in_s: float) -> int:
    """A mail that its worker gave back because of a closed gate."""
    rows.gate(scope, key, seconds, "454 too many")
    row = rows.claim(rows.insert(), rows.worker())
    with rows.engine.begin() as connection:
        reason = reason_of(scope, "454 too many")
        give_back(connection, [Return(row.id, row.fence, due_in_s, reason)], grace_s=10)
    return row.id


def parked_by_its_app(rows: Rows) -> int:
    return parked(rows, "app", "billing", 240, due_in_s=240)


def parked_in_a_row(rows: Rows) -> int:
    return parked(rows, "account", "default", 240, due_in_s=480)


def parked_by_a_pause(rows: Rows) -> int:
    return parked(rows, "app", "billing", UNTIL_OPENED_S, due_in_s=3600)


def its_gate_is_open_again(rows: Rows) -> int:
    mail_id = parked(rows, "account", "default", 240, due_in_s=240)
    with rows.engine.begin() as connection:
        open_gate(connection, scope="account", key="default")
    return mail_id


def past_its_time(rows: Rows) -> int:
    rows.worker()
    mail_id = rows.insert(due_in_s=-60)
    rows.change("mail", mail_id, expires_at=rows.now() - timedelta(seconds=20))
    return mail_id


def preparing(rows: Rows) -> int:
    worker = rows.worker()
    return rows.claim(rows.insert(), worker).id


def in_the_air(rows: Rows) -> int:
    worker = rows.worker()
    return rows.dot(rows.claim(rows.insert(), worker)).id


def abandoned(rows: Rows) -> int:
    worker = rows.worker()
    row = rows.dot(rows.claim(rows.insert(), worker))
    rows.quiet(worker, 90)
    return row.id


def in_doubt(rows: Rows) -> int:
    worker = rows.worker()
    row = rows.dot(rows.claim(rows.insert(), worker))
    rows.settle(row, State.DOUBT, look_in_s=600, sends=1, reason="uncertain: timed out")
    return row.id


def taken_back(rows: Rows) -> int:
    worker = rows.worker()
    row = rows.dot(rows.claim(rows.insert(on_doubt=OnDoubt.HOLD), worker))
    with rows.engine.begin() as connection:
        take_back(connection, [worker], Patience(), most=10)
    return row.id


def held_doubt(rows: Rows) -> int:
    mail_id = taken_back(rows)
    rows.change("mail", mail_id, look_at=rows.now() - timedelta(seconds=1))
    with rows.engine.begin() as connection:
        settle_doubts(connection, ["billing"], most=10)
    return mail_id


def poison(rows: Rows) -> int:
    mail_id = preparing(rows)
    rows.change("mail", mail_id, state="held", phase=None, reason="poison", worker_id=None)
    return mail_id


def sent(rows: Rows) -> int:
    worker = rows.worker()
    row = rows.dot(rows.claim(rows.insert(), worker))
    rows.settle(row, State.SENT, dones=1, sends=1, queue_id="4XyZ", code=250, text="2.0.0 Ok: queued as 4XyZ")
    return row.id


def dry_run(rows: Rows) -> int:
    worker = rows.worker()
    row = rows.dot(rows.claim(rows.insert(), worker))
    rows.settle(row, State.SENT, dones=1, sends=1, reason="dry_run")
    return row.id


def failed(rows: Rows) -> int:
    worker = rows.worker()
    row = rows.claim(rows.insert(), worker)
    rows.settle(
        row,
        State.FAILED,
        phase=Phase.PREPARE,
        fails=1,
        sends=1,
        code=550,
        text="5.1.1 No such user",
        reason="stop: 5.1.1 No such user",
    )
    return row.id


def cancelled(rows: Rows) -> int:
    mail_id = rows.insert()
    with rows.engine.begin() as connection:
        operate(connection, CANCEL, [mail_id], apps=["billing"], reason="the customer paid")
    return mail_id


def expired(rows: Rows) -> int:
    mail_id = rows.insert()
    yesterday = rows.now() - timedelta(days=2)
    rows.change("mail", mail_id, due_at=yesterday, look_at=yesterday)
    with rows.engine.begin() as connection:
        expire(connection, ["billing"], Patience(), most=10)
    return mail_id


SITUATIONS: list[tuple[Callable[[Rows], int], str, str]] = [
    (draft, "person", "It is a draft: nobody sends it until it is queued."),
    (due_later, "time", "It waits for its time, in 60 min."),
    (greylisted, "time", f"It waits for its time, in 5 min: it has to wait ({GREYLISTED})."),
    (no_worker, "worker", "It is due, but no worker of app billing is running."),
    (
        not_for_this_run_mode,
        "worker",
        (
            "It is due, but no worker of app billing is running. Its mailer hinted nobody: a condition of it does not hold here"
            " (run mode: the mail is for product, this is test); a worker has the last word."
        ),
    ),
    (quiet_worker, "worker", "It is due, but the last worker of app billing was seen 2 h ago."),
    (
        its_turn,
        "turn",
        (
            "It is due; a worker of app billing takes it when its turn comes"
            " (the reconciler's look comes in 10 s)."
        ),
    ),
    (account_waits, "gate", "It is due, but account default has to wait 4 min more: 454 too many."),
    (
        domain_waits,
        "gate",
        "It is due, but mail to example.net has to wait 30 min more: rate limit.",
    ),
    (
        host_waits,
        "gate",
        (
            f"It waits for its time, in 5 min: it has to wait ({GREYLISTED})."
            " Then host smtp.example.com has to wait 60 min more: 454 too many."
        ),
    ),
    (
        everything_paused,
        "gate",
        "It is due, but everything is paused until somebody resumes it: moving the database.",
    ),
    (parked_by_its_app, "gate", "It waits: app billing has to wait 4 min more: 454 too many."),
    (
        parked_in_a_row,
        "gate",
        "It waits: account default has to wait 4 min more: 454 too many. Then it waits for its turn, in 8 min.",
    ),
    (parked_by_a_pause, "gate", "It waits: app billing is paused until somebody resumes it: 454 too many."),
    (
        its_gate_is_open_again,
        "time",
        "It waits for its time, in 4 min: its account has to wait (454 too many).",
    ),
    (past_its_time, "reconciler", "Its time to be sent ended 20 s ago; it will be expired."),
    (preparing, "preparation", "Worker 1 (mx1, pid 4711) has taken it 0 s ago and prepares it."),
    (
        in_the_air,
        "server",
        "Worker 1 (mx1, pid 4711) is giving it to the server, or waits for the final reply, since 0 s.",
    ),
    (
        abandoned,
        "reconciler",
        (
            "Worker 1 (mx1, pid 4711) had it and was last seen 90 s ago; the mail will be taken back and be in"
            " doubt: the server may have it."
        ),
    ),
    (
        in_doubt,
        "settling",
        (
            "The server may have it: nothing was heard after the final dot: the connection broke (timed out)."
            " By policy resend_once it is sent again, and may arrive twice, in 10 min."
        ),
    ),
    (
        taken_back,
        "settling",
        (
            "The server may have it: nothing was heard after the final dot: its worker was no longer heard of."
            " By policy hold it is held for a person, at the next look."
        ),
    ),
    (
        held_doubt,
        "person",
        "It is held for a person: the server may have it, and sending it again could make a second copy.",
    ),
    (
        poison,
        "person",
        "It is held for a person: its sender was interrupted three times while it was at work on this mail.",
    ),
    (sent, "nothing", "It was sent: a server took it over now, as 4XyZ."),
    (dry_run, "nothing", "It counts as sent now; this was a dry run, and nothing left."),
    (failed, "nothing", "It failed now and will not be tried again: refused for good (5.1.1 No such user)."),
    (cancelled, "nothing", "It was cancelled now: the customer paid."),
    (expired, "nothing", "It expired now: it was overdue for too long."),
]


@pytest.mark.parametrize(
    ("situation", "waits_for", "sentence"), SITUATIONS, ids=[s.__name__ for s, _, _ in SITUATIONS]
)
def test_answer(
    engine: Engine, read: Connection, situation: Callable[[Rows], int], waits_for: str, sentence: str
) -> None:
    """Each situation has its word and its sentence."""
    began = time.monotonic()
    answer = why(read, situation(Rows(engine)))
    late_s = time.monotonic() - began

    assert answer is not None
    assert answer.waits_for == waits_for
    assert answer.sentence in readings(sentence, late_s)


def test_readings() -> None:
    """What is quick has one reading, and what is late by seconds as many as it may be."""
    assert readings("20 s ago", 0.3) == ["20 s ago"]
    assert set(readings("20 s ago", 0.7)) == {"19 s ago", "20 s ago", "21 s ago"}
    assert {"sent now", "sent 1 s ago", "sent 2 s ago"} <= set(readings("sent now", 1.2))


def test_fields_for_programs(engine: Engine, read: Connection) -> None:
    """The machine's fields say what the sentence says: reply, last try, due time, next look, gate."""
    rows = Rows(engine)
    mail_id = host_waits(rows)
    found = why(read, mail_id)
    assert found is not None
    plain = found.as_json()

    assert plain["state"] == "queued"
    assert 290 < plain["due_in_s"] <= 300
    assert 300 < plain["look_in_s"] <= 310
    assert plain["last_reply"] == {"code": 450, "enhanced": "4.7.1", "text": GREYLISTED}
    assert plain["last_try"]["host"] == "smtp.example.com"
    assert (plain["last_try"]["code"], plain["last_try"]["queue_id"]) == (450, None)
    assert plain["gate"]["scope"] == "host"
    assert plain["due_at"].endswith("Z")


def test_hosts_gate_before_the_first_try(engine: Engine, read: Connection) -> None:
    """Who knows the account's host hears of its gate before any try."""
    rows = Rows(engine)
    mail_id = its_turn(rows)
    rows.gate("host", "smtp.example.com", 60)

    first, second = why(read, mail_id), why(read, mail_id, host_of=lambda _: "smtp.example.com")
    assert first is not None
    assert second is not None
    assert (first.waits_for, second.waits_for) == ("turn", "gate")


def test_unknown_mail(read: Connection) -> None:
    """There is no answer about a mail that is not there."""
    assert why(read, 1) is None
