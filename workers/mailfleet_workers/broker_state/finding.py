"""What `mailfleet broker check` has to say: findings, each with what to do about it."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """A *problem* makes the check fail: hints are lost, late or refused. A *note* is worth a look."""

    PROBLEM = "problem"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """*subject* is the queue, exchange, binding, policy or server; *todo* is a command or step, empty for none."""

    level: Level
    subject: str
    says: str
    todo: str = ""


def problem(subject: str, says: str, todo: str) -> Finding:
    return Finding(Level.PROBLEM, subject, says, todo)


def note(subject: str, says: str, todo: str = "") -> Finding:
    return Finding(Level.NOTE, subject, says, todo)


@dataclass(frozen=True, slots=True)
class QueueCount:
    """A work or parking queue, or a level of the ladder where something waits: ready messages, and consumers."""

    name: str
    messages: int
    consumers: int


@dataclass(frozen=True, slots=True)
class Report:
    """One look at a broker: its URL without the password, RabbitMQ's version, the findings, the queues that exist."""

    broker: str
    version: str
    findings: tuple[Finding, ...]
    queues: tuple[QueueCount, ...]

    @property
    def ok(self) -> bool:
        return all(finding.level is not Level.PROBLEM for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        return {
            "broker": self.broker,
            "version": self.version,
            "ok": self.ok,
            "findings": [asdict(finding) for finding in self.findings],
            "queues": [asdict(queue) for queue in self.queues],
        }
