"""What became of committed mails on their way to the broker, counted for metrics.

Every committed mail is counted as emitted; then as published, failed or dropped, unless it is due too far ahead to
be hinted or no broker is known. None of these numbers says that a mail is lost: its row is there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

Fate = Literal["emitted", "published", "failed", "dropped"]

#: App and priority: the labels that metrics may carry.
Labels = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of mails since this process began (or was forked).

    `emitted`: committed. `published`: the broker confirmed a hint. `failed`: it did not, or not in time. `dropped`: not
    even tried, because the queue was full or the broker has just failed.
    """

    emitted: int = 0
    published: int = 0
    failed: int = 0
    dropped: int = 0

    def __add__(self, other: Self) -> "Counts":
        return Counts(
            self.emitted + other.emitted,
            self.published + other.published,
            self.failed + other.failed,
            self.dropped + other.dropped,
        )


class Counters:
    """Counts by app and priority. Callers change it under a lock of theirs; reading needs none."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[Labels, Fate]] = Counter()

    def add(self, fate: Fate, labels: Iterable[Labels]) -> None:
        """Count one mail for each of *labels*."""
        self._counts.update((one, fate) for one in labels)

    def total(self) -> Counts:
        """Everything together."""
        return sum(self.by_labels().values(), Counts())

    def by_labels(self) -> Mapping[Labels, Counts]:
        """The counts of each app and priority."""
        found: dict[Labels, dict[str, int]] = {}
        for (labels, fate), number in dict(self._counts).items():
            found.setdefault(labels, {})[fate] = number
        return {labels: Counts(**fates) for labels, fates in found.items()}
