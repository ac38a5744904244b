"""What one rendering comes to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from mailfleet.validation.rendered import CheckedRendering, checked_rendering
from mailfleet_schema.content import Content
from mailfleet_workers.verdict import Retry, Stop


@dataclass(frozen=True, slots=True)
class Made:
    """The whole content, checked, and its new files by SHA-256 in hex."""

    content: Content = field(repr=False)
    blobs: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, made: object, before: Content) -> "Made":
        """*before* with what the renderer *made* of it. Raises InvalidMail."""
        checked: CheckedRendering = checked_rendering(made, before)
        return cls(checked.content, checked.blobs)


@dataclass(frozen=True, slots=True)
class NotNow:
    """Nobody's fault, and nothing is counted: the mail comes back after `wait_s`, None for at once."""

    reason: str | None
    wait_s: float | None = None


#: Stop: it can never be rendered. Retry: it may be another time, and counts as a failure of the mail.
Rendering: TypeAlias = Made | Stop | Retry | NotNow
