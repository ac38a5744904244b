"""What a worker process tells its parent, one JSON line each time: who it is, and what it lacks to be ready."""

import json
from dataclasses import asdict, dataclass
from typing import Any

#: A parent that reads more without an end of line has no child of ours before it.
MOST_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Report:
    """`worker_id` 0 until it is registered; `missing` says in words what it waits for, empty when it is ready.

    `notes` say what everybody should know of one that is ready.
    """

    worker_id: int
    missing: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        return self.worker_id > 0 and not self.missing

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Report | None":
        """The report in *line*; None for anything else."""
        try:
            fields: Any = json.loads(line)
            return cls(int(fields["worker_id"]), _texts(fields["missing"]), _texts(fields.get("notes", ())))
        except (KeyError, TypeError, ValueError):
            return None


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in values)
