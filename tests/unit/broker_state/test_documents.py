"""Findings out of what the management API says."""

from typing import Any

from mailfleet_schema.declarations import fleet, of_apps
from mailfleet_workers.broker_state import documents
from mailfleet_workers.broker_state.finding import Level

TOPOLOGY = fleet() + of_apps(["billing"])
NODE = "rabbit@a"


def queue(name: str, **more: Any) -> dict[str, Any]:
    """A healthy queue, as `/api/queues` lists it."""
    healthy = {
        "name": name,
        "type": "quorum",
        "messages": 0,
        "policy": None,
        "operator_policy": None,
        "effective_policy_definition": {},
        "leader": NODE,
        "members": [NODE],
        "online": [NODE],
    }
    return healthy | more


def listed(*, without: int | None = None) -> list[dict[str, str]]:
    """All bindings as `/api/bindings` lists them, with a queue's own, but for the one at *without*."""
    own = {"source": "", "destination": "x", "destination_type": "queue", "routing_key": "x"}
    return [own] + [
        {
            "source": one.source,
            "destination": one.target,
            "destination_type": "queue" if one.target_is_queue else "exchange",
            "routing_key": one.key,
        }
        for position, one in enumerate(TOPOLOGY.bindings)
        if position != without
    ]


def test_bindings() -> None:
    """Each one is missed, with its key and the command that makes it; with all there is nothing to say."""
    assert documents.bindings(TOPOLOGY, listed(), "setup it") == []
    for position, one in enumerate(TOPOLOGY.bindings):
        [found] = documents.bindings(TOPOLOGY, listed(without=position), "setup it")
        assert found.level is Level.PROBLEM
        assert found.subject.startswith(f"binding {one.source} -> {one.target}")
        assert one.key in found.subject
        assert "`setup it`" in found.todo


def said(definition: dict[str, Any], *names: str, **more: Any) -> list[str]:
    """What is found with *definition* in effect on queues."""
    queues = [queue(name, effective_policy_definition=definition, **more) for name in names]
    return [f"{one.subject} {one.says}" for one in documents.policies(TOPOLOGY, queues)]


def test_policies_that_change_a_number() -> None:
    """The smaller of argument and policy counts, so a policy matters when it is smaller or alone."""
    work, last, parked = "mailfleet.billing.high", "mailfleet.delay.00", "mailfleet.parked"
    assert said({"message-ttl": 1000}, work, policy="p") == [f"policy p sets message-ttl 1000 on {work}"]
    assert said({"message-ttl": 1000}, last, policy="p") == []
    assert said({"message-ttl": 999}, last, operator_policy="o") == [
        f"operator policy o sets message-ttl 999 on {last}"
    ]
    assert said({"max-length": 10_000}, parked) == []
    assert said({"max-length": 10_000}, work, policy="p", operator_policy="o") == [
        f"policy p or operator policy o sets max-length 10000 on {work}"
    ]
    assert said({"delivery-limit": 20}, work, last, parked, "mailfleet.billing.bulk", policy="p") == [
        f"policy p sets delivery-limit 20 on {work}, {last}, {parked} and 1 more queues"
    ]
    assert said({"delivery-limit": -1}, work, policy="p") == []
    assert said({"expires": 60_000}, last, policy="p") == [f"policy p sets expires 60000 on {last}"]


def test_policies_that_change_a_word() -> None:
    """Our argument wins; where we have none, the policy does."""
    work, last = "mailfleet.billing.high", "mailfleet.delay.00"
    assert said({"dead-letter-exchange": "x", "overflow": "reject-publish"}, last, policy="p") == []
    assert said({"dead-letter-exchange": "x", "overflow": "reject-publish"}, work, policy="p") == [
        f"policy p sets overflow reject-publish on {work}"
    ]
    assert said({"dead-letter-routing-key": "x"}, last, policy="p") == [
        f"policy p sets dead-letter-routing-key x on {last}"
    ]


def test_policies_that_are_none_of_ours() -> None:
    """Foreign queues, harmless keys and queues without a policy are nothing to report."""
    assert said({"message-ttl": 1}, "somebody.else", policy="p") == []
    assert said({"consumer-timeout": 60_000, "queue-leader-locator": "balanced"}, "mailfleet.parked") == []
    assert documents.policies(TOPOLOGY, [queue("mailfleet.parked", effective_policy_definition=None)]) == []
    assert documents.policies(TOPOLOGY, [{"name": "mailfleet.parked"}]) == []


def test_an_alternate_exchange_by_policy() -> None:
    """Only a policy that applies to the exchange for hints, and only that key."""
    policies = [
        {"name": "p", "definition": {"alternate-exchange": "x"}},
        {"name": "q", "definition": {"max-length": 3}},
    ]
    mail, other = {"name": "mailfleet.mail"}, {"name": "mailfleet.delay.00", "policy": "p"}
    assert [one.subject for one in documents.alternate([mail | {"policy": "p"}, other], policies)] == [
        "policy p"
    ]
    assert documents.alternate([mail | {"policy": "q"}, other], policies) == []
    assert documents.alternate([mail, other], policies) == []


def test_members() -> None:
    """Without a leader or a majority is a problem; an absent member or a single copy in a cluster is a note."""
    three = ["rabbit@a", "rabbit@b", "rabbit@c"]
    name = "mailfleet.billing.high"

    def found(**more: Any) -> list[tuple[Level, str]]:
        findings = documents.members(TOPOLOGY, [queue(name, members=three, **more)], 3)
        return [(one.level, one.subject) for one in findings]

    assert found(online=three) == []
    assert found(online=three[:2]) == [(Level.NOTE, "node rabbit@c")]
    assert found(online=three[:1]) == [(Level.PROBLEM, name)]
    assert found(online=three, leader="") == [(Level.PROBLEM, name)]
    single = documents.members(TOPOLOGY, [queue(name)], 3)
    assert [(one.level, one.subject) for one in single] == [(Level.NOTE, name)]
    assert documents.members(TOPOLOGY, [queue(name)], 1) == []
    assert documents.members(TOPOLOGY, [queue("foreign", leader=""), queue(name, type="classic")], 1) == []


def test_nodes() -> None:
    """Alarms and partitions are problems, a node that is down is a note."""
    healthy = {"name": NODE, "running": True, "mem_alarm": False, "disk_free_alarm": False, "partitions": []}
    assert documents.nodes([healthy]) == []
    ill = documents.nodes(
        [healthy | {"mem_alarm": True, "disk_free_alarm": True, "partitions": ["rabbit@b"]}]
    )
    assert [one.level for one in ill] == [Level.PROBLEM] * 3
    assert [one.says.partition(":")[0] for one in ill] == [
        "memory alarm",
        "disk alarm",
        "partitioned from rabbit@b",
    ]
    assert [one.level for one in documents.nodes([{"name": NODE, "running": False}])] == [Level.NOTE]


def test_queues_that_are_not_ours() -> None:
    """Queues of dramatiq, apps that are not named, and strangers under our prefix; others are nobody's business."""
    found = documents.others(
        TOPOLOGY,
        [
            queue("mailfleet.billing.high"),
            queue("mailfleet.parked"),
            queue("orders"),
            queue("mailfleet.billing.high.DQ", messages=3),
            queue("mailfleet.shop.normal.XQ"),
            queue("mailfleet.shop.high", messages=2),
            queue("mailfleet.shop.bulk", messages=5),
            queue("mailfleet.something.else.here"),
        ],
    )
    assert {one.subject: one.says for one in found} == {
        "queue mailfleet.billing.high.DQ": "a queue that dramatiq makes and mailfleet never uses, 3 messages",
        "queue mailfleet.shop.normal.XQ": "a queue that dramatiq makes and mailfleet never uses, 0 messages",
        "queue mailfleet.something.else.here": "none of mailfleet's, 0 messages, but named like it",
        "app shop": "has queues with 7 messages, and is not in these settings",
    }
    assert {one.level for one in found} == {Level.NOTE}


def test_feature_flags() -> None:
    """The one that the ladder needs has to be on; where it is not listed it is always on."""
    assert documents.feature_flags([{"name": "stream_queue", "state": "enabled"}]) == []
    assert documents.feature_flags([]) == []
    [found] = documents.feature_flags([{"name": "stream_queue", "state": "disabled"}])
    assert found.level is Level.PROBLEM
