"""Metrics of an application that sends mail, for its own `prometheus_client`: what it committed, and what was hinted.

    from mailfleet.metrics import register
    register()                      # into the library's default registry, or register(registry)

`mailfleet_emitted_total{app, priority}` counts committed mails, `mailfleet_published_total{app, priority, result}`
what became of their hints: published, failed or dropped. A hint that was not published costs seconds, not the mail. The
library is the application's, mailfleet does not install it. Where it gathers the files of several processes
(`PROMETHEUS_MULTIPROC_DIR`), collectors of its users are not asked: there, read `Mailer.counts()` instead.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mailfleet.counters import Counts, Labels
from mailfleet.publishers import counts_by_labels

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

_RESULTS = ("published", "failed", "dropped")


class MailfleetCollector:
    """A collector for any registry. It costs nothing until it is asked."""

    def describe(self) -> "Iterable[Metric]":
        """What it has before anything was sent: it must not be read to be registered."""
        return _families({})

    def collect(self) -> "Iterable[Metric]":
        """The counts of this process since it began or was forked."""
        return _families(counts_by_labels())


def collector() -> MailfleetCollector:
    """A collector of what this process has emitted and published."""
    return MailfleetCollector()


def register(registry: "CollectorRegistry | None" = None) -> MailfleetCollector:
    """Register a collector in *registry*, None for the library's default one. Raises ValueError if there is one already."""
    made = collector()
    target: Any = registry
    if target is None:
        from prometheus_client import REGISTRY

        target = REGISTRY
    target.register(made)
    return made


def _families(counts: Mapping[Labels, Counts]) -> "Iterable[Metric]":
    from prometheus_client.core import CounterMetricFamily

    emitted = CounterMetricFamily("mailfleet_emitted", "Committed mails.", labels=["app", "priority"])
    published = CounterMetricFamily(
        "mailfleet_published",
        "Mails whose hints were handed to the broker, by result.",
        labels=["app", "priority", "result"],
    )
    for (app, priority), found in sorted(counts.items()):
        emitted.add_metric([app, priority], found.emitted)
        for result in _RESULTS:
            published.add_metric([app, priority, result], getattr(found, result))
    return [emitted, published]
