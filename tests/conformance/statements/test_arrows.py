"""Every arrow of the states is gone in both databases, once for each cause, by the statement that takes it."""

import pytest
from sqlalchemy import Engine

from mailfleet_schema.states import PREPARE, QUEUED, TRANSITIONS, State
from tests.conformance.statements import ways_after, ways_before, ways_sending
from tests.conformance.statements.bench import Bench
from tests.conformance.statements.ways import WAYS, Way

#: Imported for what they register.
MODULES = (ways_before, ways_sending, ways_after)


def _id(one: Way) -> str:
    return f"{one.source or 'new'}-{one.target}-{one.name}"


@pytest.mark.parametrize("one", WAYS, ids=_id)
def test_arrow(one: Way, engine: Engine) -> None:
    """The statement takes the arrow, keeps the fence or raises it by one, and leaves every other row alone."""
    bench = Bench(engine)
    bystanders = {mail_id: bench.row(mail_id) for mail_id in (bench.new(app="news"), bench.new(app="news"))}
    change = one.go(bench)
    assert (change.was and change.was.place) == one.source
    assert change.after.place == one.target
    if change.was is not None:
        assert change.after.fence == change.before.fence + change.fences
        assert change.after.changed_at >= change.before.changed_at
        assert change.after.sum_done >= change.before.sum_done
    if one.target.state in {State.SENT, State.FAILED, State.CANCELLED, State.EXPIRED, State.QUEUED}:
        assert change.after.worker_id is None
    assert {mail_id: bench.row(mail_id) for mail_id in bystanders} == bystanders


def test_every_arrow_and_cause_has_a_way() -> None:
    """No arrow and no cause is listed that no statement takes, and no statement's way is missing from the list."""
    listed = {(t.source, t.target, cause) for t in TRANSITIONS for cause in t.causes}
    assert {(one.source, one.target, one.cause) for one in WAYS} == listed
    assert len(WAYS) == len(listed)
    assert len({(t.source, t.target) for t in TRANSITIONS}) == len(TRANSITIONS)


def test_claims_are_the_only_way_into_sending() -> None:
    """Nothing but a claim makes a row `sending`."""
    assert [t.source for t in TRANSITIONS if t.target == PREPARE] == [QUEUED]
