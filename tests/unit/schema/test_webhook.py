"""The document of an event: its fields, its id, and what must not be in it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mailfleet_schema.states import State
from mailfleet_schema.webhook import Endpoint, Facts, document, event_id, wanted

AT = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
FACTS = Facts(
    mail_id=17,
    app="billing",
    account="default",
    priority="normal",
    state=State.FAILED,
    reason='stop: 550 5.1.1 <ada@example.net> and "a b"@example.net: unknown',
    fence=2,
    sends=3,
    fails=3,
    copies=0,
    code=550,
    enhanced="5.1.1",
    created_at=AT,
    changed_at=AT,
    due_at=AT,
    sent_at=None,
    message_id="<1@example.net>",
    mark="m17",
    ref=("invoice", "17", None),
    recipients=(("ada@example.net", "refused"),),
)


def test_document() -> None:
    """Every field, as `docs/hooks.md` has it: no content, no address."""
    assert document(FACTS, recipients=False) == {
        "version": 1,
        "id": event_id(FACTS),
        "type": "mail.failed",
        "timestamp": "2026-03-01T12:00:00.123Z",
        "data": {
            "mail_id": 17,
            "app": "billing",
            "account": "default",
            "priority": "normal",
            "state": "failed",
            "reason": "stop: 550 5.1.1 <[address]> and [address]: unknown",
            "code": 550,
            "enhanced": "5.1.1",
            "fails": 3,
            "copies": 0,
            "mark": "m17",
            "ref": {"type": "invoice", "key1": "17", "key2": None},
            "created_at": "2026-03-01T12:00:00.123Z",
            "due_at": "2026-03-01T12:00:00.123Z",
            "sent_at": None,
        },
    }


def test_with_recipients() -> None:
    """An endpoint that was set up for addresses gets them, and the reason as it is; the id is the same."""
    found = document(FACTS, recipients=True)
    assert found["data"]["recipients"] == [{"address": "ada@example.net", "outcome": "refused"}]
    assert found["data"]["reason"] == FACTS.reason
    assert found["id"] == document(FACTS, recipients=False)["id"]


@pytest.mark.parametrize(
    "change",
    [
        {"mail_id": 18},
        {"fence": 3},
        {"state": State.EXPIRED},
        {"sends": 4},
        {"copies": 1},
        {"message_id": "<2@example.net>"},
    ],
    ids=str,
)
def test_another_change_has_another_id(change: dict[str, Any]) -> None:
    """Each change of a mail has an id of its own; a mail that got an id again after a failover too."""
    assert event_id(replace(FACTS, **change)) != event_id(FACTS)


def test_the_same_change_has_the_same_id() -> None:
    """What does not make the change another one, such as the time at which it is written again, does not count."""
    again = replace(FACTS, changed_at=datetime.now(UTC), reason=None, code=None, mark=None)
    assert event_id(again) == event_id(FACTS)
    assert "." not in event_id(FACTS), "the signature's parts are separated by full stops"


def test_who_wants_what() -> None:
    """No app means all; kinds have to be named."""
    one = Endpoint("shop", apps=frozenset({"shop"}), events=frozenset({"sent", "doubt"}))
    assert [one.wants("shop", "sent"), one.wants("shop", "failed"), one.wants("news", "sent")] == [
        True,
        False,
        False,
    ]
    assert Endpoint("all").wants("news", "expired")
    assert wanted([one]) == {State.SENT, State.DOUBT}
    assert Endpoint.from_json(one.as_json()) == one
