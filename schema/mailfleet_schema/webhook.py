"""What an application is told of a mail over HTTP: the kinds of events, their ids and their documents.

Nothing of a mail's content is in them, and no address unless the endpoint was set up for addresses. `docs/hooks.md`
describes the document.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mailfleet_schema.states import State

#: The version of the documents.
VERSION = 1
#: By the state that a mail has come into. `retried`: it was tried, or its end was not the last word, and it is sent again.
KINDS = {
    State.SENT: "sent",
    State.FAILED: "failed",
    State.EXPIRED: "expired",
    State.CANCELLED: "cancelled",
    State.HELD: "held",
    State.DOUBT: "doubt",
    State.QUEUED: "retried",
}
#: What an endpoint is told of that does not say it.
ENDS = ("sent", "failed", "expired", "cancelled")

# What a server says quotes addresses, and the row's reason quotes the server. Rather one word too many.
_ADDRESS = re.compile(r'(?:"[^"]{1,256}"|[^\s<>()\[\],;:"@]+)@(?:\[[^\]\s]*\]|[^\s<>()\[\],;:"@]+)')


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Who is told: of mails of which `apps` (none: of all), of which kinds of `events`; with `recipients` their addresses too."""

    name: str
    apps: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset(ENDS)
    recipients: bool = False

    def wants(self, app: str, kind: str) -> bool:
        """Whether it is told of this."""
        return kind in self.events and (not self.apps or app in self.apps)

    def as_json(self) -> dict[str, Any]:
        """Plain values, in one order."""
        return {
            "name": self.name,
            "apps": sorted(self.apps),
            "events": sorted(self.events),
            "recipients": self.recipients,
        }

    @classmethod
    def from_json(cls, value: Any) -> "Endpoint":
        """What `as_json` made."""
        return cls(value["name"], frozenset(value["apps"]), frozenset(value["events"]), value["recipients"])


@dataclass(frozen=True, slots=True)
class Facts:
    """A mail right after it has come into `state`; times are aware. `recipients` are (address, outcome or None)."""

    mail_id: int
    app: str
    account: str
    priority: str
    state: State
    reason: str | None
    fence: int
    sends: int
    fails: int
    copies: int
    code: int | None
    enhanced: str | None
    created_at: datetime
    changed_at: datetime
    due_at: datetime
    sent_at: datetime | None
    message_id: str | None
    mark: str | None
    ref: tuple[str | None, str | None, str | None]
    recipients: tuple[tuple[str, str | None], ...] = ()

    @property
    def kind(self) -> str:
        """The kind of the event."""
        return KINDS[self.state]


def event_id(facts: Facts) -> str:
    """The id of the event: the same for every endpoint, and whenever the same change is written again.

    After a failover that lost rows, ids and fences are given to other mails: these have another Message-ID.
    """
    whole = (facts.message_id, facts.mail_id, facts.fence, facts.kind, facts.sends, facts.copies)
    digest = hashlib.sha256("\n".join(map(str, whole)).encode("utf-8", "surrogatepass")).hexdigest()
    return f"mail_{facts.mail_id}_{facts.fence}_{facts.kind}_{digest[:12]}"


def document(facts: Facts, *, recipients: bool) -> dict[str, Any]:
    """What is posted, as plain values; with *recipients* their addresses, and the reason as the row has it."""
    reason = facts.reason
    if reason is not None and not recipients:
        reason = _ADDRESS.sub("[address]", reason)
    data: dict[str, Any] = {
        "mail_id": facts.mail_id,
        "app": facts.app,
        "account": facts.account,
        "priority": facts.priority,
        "state": facts.state.value,
        "reason": reason,
        "code": facts.code,
        "enhanced": facts.enhanced,
        "fails": facts.fails,
        "copies": facts.copies,
        "mark": facts.mark,
        "ref": dict(zip(("type", "key1", "key2"), facts.ref, strict=True)),
        "created_at": _moment(facts.created_at),
        "due_at": _moment(facts.due_at),
        "sent_at": _moment(facts.sent_at),
    }
    if recipients:
        data["recipients"] = [{"address": one, "outcome": outcome} for one, outcome in facts.recipients]
    return {
        "version": VERSION,
        "id": event_id(facts),
        "type": f"mail.{facts.kind}",
        "timestamp": _moment(facts.changed_at),
        "data": data,
    }


def _moment(instant: datetime | None) -> str | None:
    if instant is None:
        return None
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def wanted(endpoints: Sequence[Endpoint]) -> frozenset[State]:
    """The states of which at least one of *endpoints* is told."""
    kinds = {kind for one in endpoints for kind in one.events}
    return frozenset(state for state, kind in KINDS.items() if kind in kinds)
