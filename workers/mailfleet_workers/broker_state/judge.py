"""Turns what was seen at a broker into a report: `mailfleet broker check`."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from mailfleet.broker.rabbit.parameters import BrokerUrl
from mailfleet_schema.declarations import Exchange, Queue, Topology
from mailfleet_schema.topology import DELAY_LEVELS, MAIL_EXCHANGE, PARKED_QUEUE, delay_level_name
from mailfleet_workers.broker_state import documents
from mailfleet_workers.broker_state.amqp import Look
from mailfleet_workers.broker_state.connect import permissions
from mailfleet_workers.broker_state.finding import Finding, Report, note, problem
from mailfleet_workers.broker_state.management import Management, NotAllowed

#: The ladder needs at-least-once dead lettering, which came with 3.10.
OLDEST = (3, 10)
#: The last generation that the topology was tried on; figures and arguments may change behind it.
NEWEST_TRIED = (4, 3)
SETUP = "mailfleet broker setup"

_QUEUE_COLUMNS = "name,type,messages,policy,operator_policy,effective_policy_definition,leader,members,online"


def report(
    url: BrokerUrl, topology: Topology, seen: Look, management: Management | None, *, setup: str = SETUP
) -> Report:
    """Everything worth saying about the broker at *url*. Raises ManagementUnavailable if *management* is of no use.

    *setup* is the command that declares just this topology.
    """
    findings = [*version(seen.version), *declared(url, seen, setup), *traffic(seen)]
    if management is not None:
        findings += _through(management, topology, seen.version, setup)
    levels = {delay_level_name(level) for level in range(DELAY_LEVELS)}
    queues = tuple(one for one in seen.counts if one.messages or one.name not in levels)
    return Report(url.shown, seen.version, tuple(findings), queues)


def version(text: str) -> list[Finding]:
    """Whether the topology works on RabbitMQ *text*, and what to know there."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    subject = f"RabbitMQ {text}".rstrip()
    if found is None:
        return [note(subject, "does not say its version; expected 3.10 or later")]
    number = int(found[1]), int(found[2])
    if number < OLDEST:
        says = "too old: its quorum queues have no message TTL and lose messages between the ladder's levels"
        return [problem(subject, says, "upgrade to 3.10 or later")]
    findings = []
    if number > NEWEST_TRIED:
        findings.append(note(subject, "newer than what mailfleet was tried on (3.10 to 4.3)"))
    if number == (3, 13) and int(found[3] or 0) < 3:
        says = "may log of the delay ladder that messages were dropped, although none was (rabbitmq-server#11160)"
        findings.append(note(subject, says, "upgrade to 3.13.3 or later"))
    if number[0] == 4:
        says = "returns a message 20 times by default and drops it then; our queues say 1000000, a policy may say less"
        findings.append(note(subject, says))
    if number[0] == 4 and number >= (4, 3):
        says = "ends the consumer, not the channel, when a hint is held for longer than consumer_timeout; workers go on"
        findings.append(note(subject, says))
    return findings


def declared(url: BrokerUrl, seen: Look, setup: str = SETUP) -> list[Finding]:
    """What is missing, different, or not to be compared."""
    makes = f"`{setup}` makes what is missing, and so does every worker when it connects"
    findings = [problem(subject(what), "missing", makes) for what in seen.missing]
    findings += [
        problem(
            subject(one.what),
            f"different: {one.text}",
            f"`{setup} --replace` deletes it and makes it anew; what is in it is lost, and mail in the database is"
            " hinted again, later",
        )
        for one in seen.different
    ]
    if seen.hidden:
        names = ", ".join(subject(one.what) for one in seen.hidden[:2])
        more = f" and {len(seen.hidden) - 2} more" if len(seen.hidden) > 2 else ""
        says = f"{url.user!r} may not declare it, so it was not compared, and cannot be made again when it is lost"
        findings.append(note(names + more, says, permissions(url)))
    return findings


def traffic(seen: Look) -> list[Finding]:
    """Queues that nobody consumes, and what lies in the parking queue."""
    findings = []
    idle: dict[str, list[str]] = {}
    waiting: Counter[str] = Counter()
    for one in seen.counts:
        if one.name == PARKED_QUEUE:
            if one.messages:
                says = f"{one.messages} messages that nobody could use"
                todo = "look at them in the management UI (x-death in their header says why), then purge it"
                findings.append(note(f"queue {PARKED_QUEUE}", says, todo))
        elif not one.name.startswith("mailfleet.delay.") and not one.consumers:
            app, _, priority = one.name.removeprefix("mailfleet.").partition(".")
            idle.setdefault(app, []).append(priority)
            waiting[app] += one.messages
    for app, priorities in idle.items():
        says = f"nobody consumes {', '.join(priorities)}"
        says += f"; {waiting[app]} hints wait there" if waiting[app] else ""
        findings.append(note(f"app {app}", says, f"`mailfleet worker {app}` does"))
    return findings


def subject(what: Exchange | Queue) -> str:
    return f"{'queue' if isinstance(what, Queue) else 'exchange'} {what.name}"


def _through(management: Management, topology: Topology, version_text: str, setup: str) -> list[Finding]:
    """What only the management API can tell."""
    hidden: list[str] = []

    def ask(question: Callable[[], Any]) -> Any:
        try:
            return question()
        except NotAllowed as error:
            hidden.append(error.path)
            return []

    queues = management.of_vhost("queues", _QUEUE_COLUMNS)
    all_nodes = ask(lambda: management.get("nodes?columns=name,running,mem_alarm,disk_free_alarm,partitions"))
    findings = documents.bindings(topology, management.of_vhost("bindings"), setup)
    findings += documents.policies(topology, queues)
    mail = [one for one in management.of_vhost("exchanges", "name,policy") if one["name"] == MAIL_EXCHANGE]
    if any(one.get("policy") for one in mail):
        findings += documents.alternate(mail, ask(lambda: management.of_vhost("policies")))
    findings += documents.members(topology, queues, sum(bool(one.get("running")) for one in all_nodes))
    findings += documents.nodes(all_nodes)
    findings += documents.others(topology, queues)
    if version_text.startswith(("3.10.", "3.11.")):
        findings += documents.feature_flags(ask(lambda: management.get("feature-flags")))
    return [*findings, *(_not_seen(management.user, path) for path in hidden)]


def _not_seen(user: str, path: str) -> Finding:
    if path == "feature-flags":
        todo = "`rabbitmqctl list_feature_flags` shows it: stream_queue has to be enabled, or the ladder may lose messages"
    else:
        tag = "policymaker" if path.startswith("policies") else "monitoring"
        todo = f"`rabbitmqctl set_user_tags {user} {tag}` lets it"
    return note(f"management: {path}", f"{user!r} may not see {path}, so that was not checked", todo)
