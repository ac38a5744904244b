"""What the management API's documents say about a broker, as findings. Pure: documents in, findings out.

The shapes are those of RabbitMQ 3.10 to 4.3; a member that a version does not have counts as nothing to report.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mailfleet_schema.declarations import Binding, Queue, Topology
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import MAIL_EXCHANGE
from mailfleet_workers.broker_state.finding import Finding, note, problem

Document = Mapping[str, Any]

#: Policy keys that change what our queues do where our own argument does not win.
_NUMBERS = ("message-ttl", "max-length", "max-length-bytes", "delivery-limit", "expires")
_WORDS = ("overflow", "dead-letter-exchange", "dead-letter-routing-key", "dead-letter-strategy")

_WORK = re.compile(
    rf"mailfleet\.(?P<app>[a-z][a-z0-9-]{{0,39}})\.(?:{'|'.join(priority.value for priority in Priority)})"
)
_FORGOTTEN = re.compile(r"mailfleet\..*\.(?:DQ|XQ)")


def bindings(topology: Topology, documents: Iterable[Document], setup: str) -> list[Finding]:
    """Bindings of *topology* that are not among *documents*."""
    present = {
        (one["source"], one["destination"], one["destination_type"], one["routing_key"]) for one in documents
    }
    missing = [one for one in topology.bindings if _as_listed(one) not in present]
    return [
        problem(
            f"binding {one.source} -> {one.target}{f' by {one.key}' if one.key else ''}",
            "missing",
            f"`{setup}` makes what is missing, and so does every worker when it connects",
        )
        for one in missing
    ]


def _as_listed(one: Binding) -> tuple[str, str, str, str]:
    return one.source, one.target, "queue" if one.target_is_queue else "exchange", one.key


def policies(topology: Topology, documents: Iterable[Document]) -> list[Finding]:
    """Policies and operator policies that change our queues. *documents* are queues.

    Of a number RabbitMQ takes the smaller one of argument and policy; of a word the argument, if there is one.
    """
    ours = {queue.name: queue for queue in topology.queues}
    found: dict[tuple[str, str], list[str]] = {}
    for one in documents:
        queue = ours.get(one["name"])
        effective = one.get("effective_policy_definition")
        if queue is None or not isinstance(effective, Mapping):
            continue
        for key, value in sorted(effective.items()):
            if _changes(queue, key, value):
                found.setdefault((_policy(one), f"{key} {value}"), []).append(queue.name)
    return [
        problem(
            policy,
            f"sets {what} on {_listed(names)}",
            "narrow its pattern so that it does not match mailfleet's queues, or take the key out; our arguments stand",
        )
        for (policy, what), names in found.items()
    ]


def _changes(queue: Queue, key: str, value: Any) -> bool:
    own = queue.arguments.get(f"x-{key}")
    if key in _NUMBERS and isinstance(value, int):
        # A negative delivery limit is none.
        return value >= 0 and (own is None or value < own)
    return key in _WORDS and own is None


def _policy(queue: Document) -> str:
    names = [
        f"{kind} {queue[key]}"
        for kind, key in (("policy", "policy"), ("operator policy", "operator_policy"))
        if queue.get(key)
    ]
    return " or ".join(names) or "a policy"


def alternate(exchanges: Iterable[Document], all_policies: Iterable[Document]) -> list[Finding]:
    """A policy that gives `mailfleet.mail` an alternate exchange: publishers would no longer see that a queue is missing."""
    names = {one.get("policy") for one in exchanges if one["name"] == MAIL_EXCHANGE}
    return [
        problem(
            f"policy {one['name']}",
            f"gives {MAIL_EXCHANGE} an alternate exchange, so hints for an app without queues vanish unseen",
            "narrow its pattern so that it does not match mailfleet's exchanges, or take the key out",
        )
        for one in all_policies
        if one["name"] in names and "alternate-exchange" in one.get("definition", {})
    ]


def members(topology: Topology, documents: Iterable[Document], running_nodes: int) -> list[Finding]:
    """Quorum queues of *topology* without a leader or a majority, with absent members, or with one copy in a cluster."""
    ours = {queue.name for queue in topology.queues}
    stuck: list[str] = []
    partial: dict[str, list[str]] = {}
    single: list[str] = []
    for one in documents:
        if one["name"] not in ours or one.get("type") != "quorum":
            continue
        all_of, online = one.get("members") or [], one.get("online") or []
        if not one.get("leader") or len(online) * 2 <= len(all_of):
            stuck.append(one["name"])
        elif len(online) < len(all_of):
            for absent in sorted(set(all_of) - set(online)):
                partial.setdefault(absent, []).append(one["name"])
        elif len(all_of) == 1 and running_nodes > 1:
            single.append(one["name"])
    findings = []
    if stuck:
        says = "no leader, or less than half of its members online: nothing goes in or out"
        findings.append(problem(_listed(stuck), says, "start the nodes that are down"))
    findings += [
        note(
            f"node {node}", f"offline for {_listed(names)}; another one more must not fail", "start the node"
        )
        for node, names in partial.items()
    ]
    if single:
        todo = (
            "`rabbitmq-queues grow NODE all --queue-pattern '^mailfleet'` adds a member on each further node"
        )
        findings.append(note(_listed(single), "only one copy in a cluster of several nodes", todo))
    return findings


def nodes(documents: Iterable[Document]) -> list[Finding]:
    """Alarms, nodes that are down, partitions."""
    findings = []
    for one in documents:
        name = f"node {one['name']}"
        if not one.get("running", True):
            findings.append(note(name, "not running", "start it, or `rabbitmqctl forget_cluster_node`"))
        if one.get("mem_alarm"):
            todo = "give it more memory, or find what fills it: `rabbitmq-diagnostics memory_breakdown`"
            findings.append(problem(name, "memory alarm: nobody can publish, hints come late", todo))
        if one.get("disk_free_alarm"):
            todo = "make room on its disk, above disk_free_limit"
            findings.append(problem(name, "disk alarm: nobody can publish, hints come late", todo))
        if one.get("partitions"):
            todo = "see RabbitMQ's guide to network partitions; cluster_partition_handling = pause_minority avoids it"
            findings.append(problem(name, f"partitioned from {', '.join(one['partitions'])}", todo))
    return findings


def others(topology: Topology, documents: Iterable[Document]) -> list[Finding]:
    """Queues under our prefix that are not ours: dramatiq's, and those of apps that nobody named."""
    ours = {queue.name for queue in topology.queues}
    foreign: dict[str, int] = {}
    findings = []
    for one in documents:
        name, messages = one["name"], int(one.get("messages") or 0)
        if name in ours:
            continue
        todo = f"`rabbitmqctl delete_queue {name}` when nobody needs it"
        if _FORGOTTEN.fullmatch(name):
            says = f"a queue that dramatiq makes and mailfleet never uses, {messages} messages"
            findings.append(note(f"queue {name}", says, todo))
        elif match := _WORK.fullmatch(name):
            app = match["app"]
            foreign[app] = foreign.get(app, 0) + messages
        elif name.startswith("mailfleet."):
            findings.append(
                note(f"queue {name}", f"none of mailfleet's, {messages} messages, but named like it", todo)
            )
    for app, messages in sorted(foreign.items()):
        says = f"has queues with {messages} messages, and is not in these settings"
        findings.append(
            note(f"app {app}", says, f"`--app {app}` checks it too; delete its queues if it is gone")
        )
    return findings


def feature_flags(documents: Iterable[Document]) -> list[Finding]:
    """A ladder without `stream_queue` moves its messages at most once; from 3.12 on the flag is always there."""
    if any(one.get("name") == "stream_queue" and one.get("state") == "disabled" for one in documents):
        says = "disabled: a message on the delay ladder may be lost when a node fails"
        return [
            problem(
                "feature flag stream_queue",
                says,
                "`rabbitmqctl enable_feature_flag stream_queue` turns it on",
            )
        ]
    return []


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more queues"
