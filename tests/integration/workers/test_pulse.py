"""The heartbeat: when a worker may say a dot, when it may judge others, and when it is over."""

import threading

from sqlalchemy import delete, event

from mailfleet_workers.pulse import Pulse
from tests.integration.workers.faults import failing_statement
from tests.integration.workers.office import Office
from tests.waiting import wait_until

BEAT = "SET heartbeat_at"


def test_fresh_for_half_of_the_patience(office: Office) -> None:
    """A dot may be said for `quiet_s`/2 after the last good heartbeat, and not a moment longer."""
    assert office.pulse.fresh()
    office.now += 14.9
    assert office.pulse.fresh()
    office.now += 0.1
    assert not office.pulse.fresh()
    assert office.pulse.run_once()
    assert office.pulse.fresh()


def test_a_heartbeat_that_fails_renews_nothing(office: Office) -> None:
    """While the database cannot be reached, the last good heartbeat grows old."""
    with failing_statement(office.engine, BEAT):
        for _ in range(3):
            office.now += 5
            assert not office.pulse.run_once()
    assert not office.pulse.fresh()
    assert not office.pulse.lost
    assert office.pulse.run_once()
    assert office.pulse.fresh()


def test_a_heartbeat_counts_from_its_question(office: Office) -> None:
    """A beat whose answer took 20 s may have been written 20 s ago: it is not fresh."""

    @event.listens_for(office.engine, "before_cursor_execute")
    def takes_long(_c: object, _k: object, statement: str, *_more: object) -> None:
        if BEAT in statement:
            office.now += 20

    assert office.pulse.run_once()
    assert not office.pulse.fresh()


def test_a_worker_whose_row_is_gone_is_lost_for_good(office: Office) -> None:
    """Others have retired this worker: it says no dot any more, whatever its clock says."""
    with office.engine.begin() as connection:
        worker = office.tables.worker
        connection.execute(delete(worker).where(worker.c.id == office.worker_id))
    assert not office.pulse.run_once()
    assert office.pulse.lost
    assert not office.pulse.fresh()
    assert not office.pulse.may_judge()


def test_nobody_is_judged_at_first(office: Office) -> None:
    """A worker that has just come may not call others quiet before it has been there for `quiet_s`."""
    assert not office.pulse.may_judge()
    for _ in range(3):
        office.now += 10
        office.pulse.run_once()
    assert office.pulse.may_judge()


def test_an_outage_begins_the_wait_anew(office: Office) -> None:
    """After the last failed heartbeat nobody is judged for `quiet_s`: theirs failed as well."""
    office.let_pass(60)
    assert office.pulse.may_judge()
    with failing_statement(office.engine, BEAT):
        office.pulse.run_once()
    office.pulse.run_once()
    assert not office.pulse.may_judge()
    office.let_pass(29)
    assert not office.pulse.may_judge()
    office.let_pass(2)
    assert office.pulse.may_judge()


def test_a_pause_of_our_own_begins_the_wait_anew(office: Office) -> None:
    """After a suspend of the machine nobody is judged for `quiet_s`: the others were suspended with us."""
    office.let_pass(60)
    office.now += 3600
    assert not office.pulse.may_judge()
    assert office.pulse.run_once()
    assert not office.pulse.may_judge()
    office.let_pass(31)
    assert office.pulse.may_judge()


def test_the_thread_outlives_bugs_and_outages(office: Office) -> None:
    """The heartbeat goes on after an error of the database and after one that nobody thought of."""
    pulse = Pulse(office.engine, office.worker_id, heartbeat_s=0.01, quiet_s=30, clock=office.clock)
    office.now += 20
    stop = threading.Event()
    errors = iter([ZeroDivisionError("a bug"), None])

    def error() -> Exception:
        return next(errors) or office.engine.dialect.loaded_dbapi.OperationalError("away")

    thread = threading.Thread(target=pulse.run, args=(stop,), daemon=True)
    with failing_statement(office.engine, BEAT, times=2, error=error) as fault:
        thread.start()
        wait_until(pulse.fresh, 20, lambda: f"no good heartbeat; {fault.struck} errors, {thread.is_alive()=}")
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
