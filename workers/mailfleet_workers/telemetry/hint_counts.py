"""What became of a worker's own hints, and of messages that were none: from their counters to its meter."""

from collections.abc import Callable, Mapping
from typing import get_args

from mailfleet.counters import Counts, Labels
from mailfleet_schema.states import Priority
from mailfleet_workers.telemetry.meter import Fate, Meter


class HintCounts:
    """Tells *meter* how much more there is each time it is asked to. For one thread.

    *hints* is a publisher's `counts_by_labels`. *parked* says how many messages of *app* were put aside, by reason.
    """

    def __init__(
        self,
        meter: Meter,
        app: str,
        *,
        hints: Callable[[], Mapping[Labels, Counts]],
        parked: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._meter = meter
        self._app = app
        self._hints = hints
        self._parked = parked
        self._told_hints: dict[Labels, Counts] = {}
        self._told_parked: dict[str, int] = {}

    def run_once(self) -> None:
        """Tell what has changed since the last time."""
        hints, parked = dict(self._hints()), dict(self._parked())
        for labels, counts in hints.items():
            before = self._told_hints.get(labels, Counts())
            app, priority = labels
            fate: Fate
            for fate in get_args(Fate):
                more = getattr(counts, fate) - getattr(before, fate)
                if more > 0:
                    self._meter.hinted(app, Priority(priority), fate, more)
        for reason, number in parked.items():
            more = number - self._told_parked.get(reason, 0)
            if more > 0:
                self._meter.parked(self._app, reason, more)
        self._told_hints, self._told_parked = hints, parked
