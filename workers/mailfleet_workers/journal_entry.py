"""What a line of a journal says of a claim."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

Step = Literal["begun", "built", "dot", "answered"]
_STEPS: dict[bytes, Step] = {b"B": "begun", b"R": "built", b"D": "dot", b"A": "answered"}


@dataclass(frozen=True, slots=True)
class Entry:
    """The last thing the journal says of a claim; `result` is there when `step` is answered."""

    mail_id: int
    fence: int
    step: Step
    result: Mapping[str, Any] | None = None

    @property
    def final(self) -> bool:
        """Whether the final dot may have been said."""
        return self.step in {"dot", "answered"}

    @classmethod
    def of_line(cls, line: bytes) -> Self | None:
        """What *line* says; None for one that broke off, and for one that is of no claim."""
        letter, _, rest = line.partition(b" ")
        step = _STEPS.get(letter)
        try:
            mail_id, fence, *result = rest.split(b" ", 2)
            if step is None or (step == "answered") != bool(result):
                return None
            return cls(int(mail_id), int(fence), step, json.loads(result[0]) if result else None)
        except ValueError:
            return None
