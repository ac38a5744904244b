"""What a consumer does with messages that are no hints: it says so, and touches neither database nor heap."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, event

from mailfleet_schema.hint import MAX_ID, InvalidHint
from mailfleet_workers.heap import RowHeap
from mailfleet_workers.intake import Intake, IntakeClosed
from mailfleet_workers.pulse import Pulse

GOOD: Mapping[str, Any] = {"v": 1, "app": "billing", "priority": "normal", "ids": [1]}


def untouched() -> Engine:
    """An engine whose first connection is an error."""
    engine = create_engine("sqlite://")

    @event.listens_for(engine, "do_connect")
    def refuse(*_: object) -> None:
        raise AssertionError("the database was asked")

    return engine


def intake() -> tuple[Intake, RowHeap]:
    engine, heap = untouched(), RowHeap(10)
    pulse = Pulse(engine, 7, heartbeat_s=5, quiet_s=30)
    return Intake(engine, heap, apps=["billing", "news"], worker_id=7, pulse=pulse, most_wait_s=0.0), heap


def changed(**changes: Any) -> dict[str, Any]:
    return {**GOOD, **changes}


DEEP: list[Any] = []
for _ in range(2000):
    DEEP = [DEEP]

HOSTILE: dict[str, Any] = {
    "nothing": None,
    "text": "17",
    "a list": [1, 2],
    "a number": 17,
    "empty": {},
    "no version": {key: value for key, value in GOOD.items() if key != "v"},
    "another version": changed(v=2),
    "a version that is true": changed(v=True),
    "a version that is a float": changed(v=1.0),
    "a foreign app": changed(app="crm"),
    "an app in capitals": changed(app="Billing"),
    "an app with a line end": changed(app="billing\n"),
    "an app that is SQL": changed(app="billing'; DROP TABLE mail; --"),
    "an app that is a list": changed(app=["billing"]),
    "no priority": changed(priority=None),
    "an unknown priority": changed(priority="urgent"),
    "a priority that is a list": changed(priority=["high"]),
    "no ids": changed(ids=[]),
    "ids that are text": changed(ids="123"),
    "an id that is text": changed(ids=["1"]),
    "an id that is true": changed(ids=[True]),
    "an id that is a float": changed(ids=[1.0]),
    "a negative id": changed(ids=[-1]),
    "an id of zero": changed(ids=[0]),
    "an id beyond bigint": changed(ids=[MAX_ID + 1]),
    "an id of 5,000 digits": changed(ids=[10**5000]),
    "an id that is an object": changed(ids=[{"id": 1}]),
    "fifty-one ids": changed(ids=list(range(1, 52))),
    "ids that are an object": changed(ids={"1": 1}),
    "deep nesting": changed(ids=DEEP),
    "a version of deep nesting": changed(v=DEEP),
}


@pytest.mark.parametrize("argument", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_hint_is_refused(argument: object) -> None:
    """InvalidHint with a short text, nothing claimed, the database not even asked."""
    taker, heap = intake()
    with pytest.raises(InvalidHint) as error:
        taker.take(argument)
    assert len(str(error.value)) < 300
    assert heap.count() == 0
    assert taker.misses == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["v", "app", "priority", "ids", "x"]), JSON) | JSON)
def test_any_json_is_a_hint_or_refused(argument: object) -> None:
    """No JSON makes the consumer fail in another way than InvalidHint."""
    with pytest.raises(InvalidHint):
        intake()[0].take(argument)


def test_a_heap_without_room_lets_the_hint_go() -> None:
    """Where nothing fits within the wait, nothing is claimed and the hint is acknowledged: `look_at` brings it back."""
    engine = untouched()
    pulse = Pulse(engine, 7, heartbeat_s=5, quiet_s=30)
    taker = Intake(engine, RowHeap(0), apps=["billing"], worker_id=7, pulse=pulse, most_wait_s=0)
    assert taker.take(dict(GOOD)) == 0


def test_a_hint_that_meets_a_drain_is_left_to_others() -> None:
    """A pool that drains claims nothing and says so: the broker gives the hint to another process."""
    taker, heap = intake()
    heap.close()
    with pytest.raises(IntakeClosed) as caught:
        taker.take(dict(GOOD))
    assert caught.value.leave_unacknowledged


def test_without_a_heartbeat_nothing_is_claimed() -> None:
    """A worker whose heartbeat is old lets hints go: others shall have the rows."""
    engine, heap, now = untouched(), RowHeap(10), [0.0]
    pulse = Pulse(engine, 7, heartbeat_s=5, quiet_s=30, clock=lambda: now[0])
    taker = Intake(engine, heap, apps=["billing"], worker_id=7, pulse=pulse, most_wait_s=0)
    now[0] = 15.0
    assert taker.take(dict(GOOD)) == 0
