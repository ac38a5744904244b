"""A hint survives the wire, hostile ones are refused, and a message stays small."""

import contextlib
import json
from typing import Any

import pytest
from dramatiq import JSONEncoder
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.broker.message import decode, encode, message_of
from mailfleet_schema.hint import MAX_BYTES, MAX_ID, MAX_IDS, Hint, InvalidHint, group
from mailfleet_schema.names import NAME
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import queue_name

names = st.from_regex(NAME, fullmatch=True)
ids = st.integers(1, MAX_ID)
hints = st.builds(
    Hint,
    names,
    st.sampled_from(Priority),
    st.lists(ids, min_size=1, max_size=MAX_IDS, unique=True).map(tuple),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
GOOD: dict[str, Any] = {"v": 1, "app": "billing", "priority": "high", "ids": [17, 18]}


@given(hints)
def test_a_hint_comes_back(hint: Hint) -> None:
    """Through JSON and back it is the same hint."""
    assert Hint.from_argument(json.loads(json.dumps(hint.as_argument()))) == hint


@given(anything)
def test_anything_else_is_refused(value: object) -> None:
    """Whatever JSON there is, it is a hint or InvalidHint is raised."""
    with contextlib.suppress(InvalidHint):
        assert Hint.from_argument(value).ids


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD, anything)))
def test_nearly_a_hint_is_refused(value: dict[str, Any]) -> None:
    """The same for objects with the right members and any values."""
    try:
        hint = Hint.from_argument({**GOOD, **value})
    except InvalidHint:
        return
    assert Hint.from_argument(hint.as_argument()) == hint


def _deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"v": 2}, "v: expected 1, got 2"),
        ({"v": "1"}, "v: expected 1, got '1'"),
        ({"v": 1.0}, "v: expected 1, got 1.0"),
        ({"v": True}, "v: expected 1, got True"),
        ({"v": None}, "v: expected 1, got None"),
        ({"v": 10**5000}, "v: expected 1, got int"),
        ({"v": _deep(100_000)}, "v: expected 1, got list"),
        ({"app": "Billing"}, "app: expected a name"),
        ({"app": "a.b"}, "app: expected a name"),
        ({"app": _deep(100_000)}, "app: expected a name"),
        ({"priority": "urgent"}, "priority: expected high, normal or bulk, got 'urgent'"),
        ({"priority": _deep(100_000)}, "priority: expected high, normal or bulk, got list"),
        ({"ids": []}, "ids: expected a list of 1 to 50"),
        ({"ids": list(range(1, 52))}, "ids: expected a list of 1 to 50"),
        ({"ids": "17"}, "ids: expected a list of 1 to 50"),
        ({"ids": {"17": 1}}, "ids: expected a list of 1 to 50"),
        ({"ids": [0]}, "ids: expected row ids from 1"),
        ({"ids": [-1]}, "ids: expected row ids from 1"),
        ({"ids": [2**63]}, "ids: expected row ids from 1"),
        ({"ids": [10**5000]}, "ids: expected row ids from 1"),
        ({"ids": [1.0]}, "ids: expected row ids from 1"),
        ({"ids": [True]}, "ids: expected row ids from 1"),
        ({"ids": ["1; DROP TABLE mail"]}, "ids: expected row ids from 1"),
        ({"ids": [_deep(100_000)]}, "ids: expected row ids from 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_said(changed: dict[str, Any], said: str) -> None:
    """The error names the member and what was expected, and shows nothing that could not be shown."""
    with pytest.raises(InvalidHint) as caught:
        Hint.from_argument({**GOOD, **changed})
    assert str(caught.value).startswith(said)
    assert len(str(caught.value)) < 200


def test_ids_count_once() -> None:
    """A row that is named twice is looked at once, in the order of the first naming."""
    assert Hint.from_argument({**GOOD, "ids": [3, 1, 3, 2, 1]}).ids == (3, 1, 2)


def test_unknown_members_are_ignored() -> None:
    """A later version may say more; what this one knows is enough."""
    assert Hint.from_argument({**GOOD, "more": _deep(10)}) == Hint("billing", Priority.HIGH, (17, 18))


@given(st.lists(st.tuples(st.sampled_from(["a", "b" * 40]), st.sampled_from(Priority), ids), max_size=200))
def test_groups_hold_all_rows_in_order(rows: list[tuple[str, Priority, int]]) -> None:
    """Every row is in exactly one hint of its app and priority, in order, and no hint is too long."""
    grouped = group(rows)
    for app, priority in {(app, priority) for app, priority, _ in rows}:
        mine = [hint for hint in grouped if (hint.app, hint.priority) == (app, priority)]
        together = [row_id for hint in mine for row_id in hint.ids]
        assert together == [row_id for a, p, row_id in rows if (a, p) == (app, priority)]
    assert all(1 <= len(hint.ids) <= MAX_IDS for hint in grouped)
    assert sum(len(hint.ids) for hint in grouped) == len(rows)


@pytest.mark.parametrize(("largest", "hints_for_100"), [(10**6, 2), (MAX_ID, 5)])
def test_a_message_stays_small(largest: int, hints_for_100: int) -> None:
    """The whole dramatiq message is at most 1 KiB, with the longest app name and the largest ids too."""
    app = "a" * 40
    grouped = group([(app, Priority.NORMAL, largest - number) for number in range(100)])
    assert len(grouped) == hints_for_100
    for hint in grouped:
        message = message_of(hint, message_id="0" * 36, now_ms=10**13)
        assert len(encode(message)) <= MAX_BYTES
        # An application's own encoder may put blanks between.
        assert len(json.dumps(JSONEncoder().decode(encode(message)))) <= MAX_BYTES
        assert Hint.from_argument(decode(encode(message), queue_name(app, Priority.NORMAL)).args[0]) == hint


def test_shared_rows_say_so() -> None:
    """A hint of rows that several apps may send says that on the wire; all others are as they always were."""
    shared = Hint("crm", Priority.NORMAL, (17,), shared=True)
    assert shared.as_argument() == {"v": 1, "app": "crm", "priority": "normal", "ids": [17], "shared": True}
    assert Hint.from_argument(shared.as_argument()) == shared
    assert "shared" not in Hint("crm", Priority.NORMAL, (17,)).as_argument()
    assert [one.shared for one in group([("crm", Priority.NORMAL, 17)], shared=True)] == [True]


@pytest.mark.parametrize("value", ["yes", 1, None, []], ids=repr)
def test_shared_is_true_or_false(value: object) -> None:
    """Anything else in its place is no hint."""
    argument = Hint("crm", Priority.NORMAL, (17,)).as_argument() | {"shared": value}
    with pytest.raises(InvalidHint, match="shared: expected true or false"):
        Hint.from_argument(argument)
