"""What `mailfleet broker check` concludes from what AMQP showed."""

import pytest

from mailfleet.broker.rabbit.parameters import parse_broker_url
from mailfleet_schema.declarations import Exchange, Queue, fleet, of_apps
from mailfleet_workers.broker_state.amqp import Answer, Look
from mailfleet_workers.broker_state.finding import Level, QueueCount
from mailfleet_workers.broker_state.judge import report, version

URL = parse_broker_url("broker_url", "amqp://mail:hunter2@rabbit/fleet")[0]
TOPOLOGY = fleet() + of_apps(["billing"])
HIGH = TOPOLOGY.queues[-3]
BUSY = tuple(QueueCount(one.name, 0, 2) for one in TOPOLOGY.queues)


def look(
    *,
    version: str = "3.12.1",
    missing: tuple[Exchange | Queue, ...] = (),
    different: tuple[Answer, ...] = (),
    hidden: tuple[Answer, ...] = (),
    counts: tuple[QueueCount, ...] = BUSY,
) -> Look:
    """A broker where all is well but for what is said."""
    return Look(version, missing, different, hidden, counts)


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("3.8.9", ["problem"]),
        ("3.9.29", ["problem"]),
        ("3.10.0", []),
        ("3.10.8", []),
        ("3.12.14", []),
        ("3.13.2", ["note"]),
        ("3.13.3", []),
        ("4.0.5", ["note"]),
        ("4.3.6", ["note", "note"]),
        ("4.4.0-beta.1", ["note", "note", "note"]),
        ("5.0.0", ["note"]),
        ("", ["note"]),
        ("unknown", ["note"]),
    ],
)
def test_versions(text: str, levels: list[str]) -> None:
    """Too old is a problem; what is worth knowing about a version is a note."""
    assert [one.level.value for one in version(text)] == levels


def test_all_is_well() -> None:
    """No finding, and the queues of the apps with what waits; idle levels of the ladder are left out."""
    found = report(URL, TOPOLOGY, look(), None)
    assert (found.ok, found.findings) == (True, ())
    assert [one.name for one in found.queues] == [
        "mailfleet.parked",
        "mailfleet.billing.high",
        "mailfleet.billing.normal",
        "mailfleet.billing.bulk",
    ]
    assert found.as_json()["broker"] == "amqp://mail@rabbit:5672/fleet"


def test_missing_and_different() -> None:
    """Both are problems, each with the command against it."""
    seen = look(missing=(TOPOLOGY.exchanges[0],), different=(Answer(HIGH, "x-overflow is wrong"),))
    found = report(URL, TOPOLOGY, seen, None, setup="mailfleet broker setup --app billing")
    assert not found.ok
    missing, different = found.findings
    assert (missing.level, missing.subject) == (Level.PROBLEM, "exchange mailfleet.parked")
    assert missing.todo.startswith("`mailfleet broker setup --app billing`")
    assert (different.subject, different.says) == (
        "queue mailfleet.billing.high",
        "different: x-overflow is wrong",
    )
    assert different.todo.startswith("`mailfleet broker setup --app billing --replace`")


def test_what_this_user_may_not_compare() -> None:
    """One note for all of it, with the command that gives the permissions."""
    seen = look(hidden=tuple(Answer(one, "access refused") for one in TOPOLOGY.queues))
    found = report(URL, TOPOLOGY, seen, None)
    assert found.ok
    [one] = found.findings
    assert one.subject == "queue mailfleet.parked, queue mailfleet.delay.00 and 19 more"
    assert "rabbitmqctl set_permissions --vhost fleet mail '^mailfleet\\.'" in one.todo


def test_what_waits() -> None:
    """Parked messages, and apps without consumers, are notes; a level of the ladder where something waits is shown."""
    counts = (
        QueueCount("mailfleet.parked", 4, 0),
        QueueCount("mailfleet.delay.03", 5, 0),
        QueueCount("mailfleet.billing.high", 1, 1),
        QueueCount("mailfleet.billing.normal", 2, 0),
        QueueCount("mailfleet.billing.bulk", 3, 0),
    )
    found = report(URL, TOPOLOGY, look(counts=counts), None)
    assert found.ok
    assert [(one.subject, one.says) for one in found.findings] == [
        ("queue mailfleet.parked", "4 messages that nobody could use"),
        ("app billing", "nobody consumes normal, bulk; 5 hints wait there"),
    ]
    assert found.queues == counts
