"""The meter that keeps what it is told as Prometheus metrics; `docs/metrics.md` tells what each of them means.

In a worker process of `mailfleet worker` the numbers live in files that its parent sums up
(`mailfleet_workers.telemetry.fleet_files`): the metrics library decides that when it is first imported, by a variable that
the parent has set. Elsewhere they live in the registry.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailfleet_schema.states import Priority
from mailfleet_workers.telemetry.meter import (
    SILENT,
    ConnectionState,
    Fate,
    Meter,
    SmtpPart,
)
from mailfleet_workers.telemetry.room import take_room
from mailfleet_workers.telemetry.tally import Key, Tally

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = logging.getLogger(__name__)

PREFIX = "mailfleet"
#: Where the metrics library of a child finds the directory for its numbers.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

#: From a server next door to the ten minutes that RFC 5321 4.5.3.2.6 gives the reply to the final dot.
PART_S = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)
#: From an idle system to a day of backlog.
QUEUE_S = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)
#: From a gap between two logins to the longest wait that rules give.
WAIT_S = (0.1, 0.5, 1, 3, 10, 30, 60, 300, 900, 3600, 14_400, 86_400)

#: By their short names: kind, labels, help, and for histograms the buckets.
COUNTERS: dict[str, tuple[tuple[str, ...], str]] = {
    "published": (("app", "priority", "result"), "Mails whose hints were handed to the broker, by result."),
    "attempts": (("app", "account", "host", "verdict"), "Attempts at mails, by verdict."),
    "smtp_replies": (
        ("account", "host", "code_class"),
        "Conversations by the class of the reply that ended them.",
    ),
    "permits": (("app", "account", "host", "result", "rule"), "Permits of the limiter, granted and refused."),
    "reconciled": (("app", "reason"), "Mails that the reconciler of an app's pool found."),
    "claim_misses": (("app",), "Mails of hints that could not be claimed."),
    "doubt": (("app",), "Mails that came into doubt."),
    "hooks": (("app", "result"), "Calls of status hooks, by result."),
    "webhooks": (("endpoint", "result"), "Events for webhooks, by what came of posting them."),
    "parked": (("app", "reason"), "Messages that are no hints."),
    "notices": (("app", "account", "host", "result"), "Mails without a row, by result."),
    "notices_unlimited": (("app", "account", "host"), "Mails without a row that went without a permit."),
}
HISTOGRAMS: dict[str, tuple[tuple[str, ...], str, tuple[float, ...]]] = {
    "queue_seconds": (("app", "priority"), "From due to the begin of the first attempt.", QUEUE_S),
    "smtp_phase_seconds": (("account", "host", "phase"), "Parts of SMTP conversations.", PART_S),
    "wait_seconds": (("app", "account"), "How long mails were told to wait.", WAIT_S),
}
#: Added up over the processes that live.
GAUGES: dict[str, tuple[tuple[str, ...], str]] = {
    "connections": (("account", "host", "state"), "Open SMTP connections."),
    "limiter_unavailable": (("app",), "Worker processes whose limiter does not answer."),
}


class PrometheusMeter(Meter):
    """Metrics in *registry*, None for one of its own. One for each process and registry.

    What it is told is in the registry at the next scrape. In files it is after `every_s` seconds, written by a thread of
    its own, or after `flush`, which is for the end of a process.
    """

    def __init__(self, registry: "CollectorRegistry | None" = None, *, every_s: float = 1.0) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

        self.registry = CollectorRegistry() if registry is None else registry
        self._tally = Tally({name: bounds for name, (_, _, bounds) in HISTOGRAMS.items()})
        # First, so that it is asked first: it hands on what was gathered, and has no metrics itself.
        self.registry.register(_Handing(self.flush))
        common: dict[str, Any] = {"namespace": PREFIX, "registry": self.registry}
        made: dict[str, Any] = {}
        for name, (labels, meaning) in COUNTERS.items():
            made[name] = Counter(name, meaning, labels, **common)
        for name, (labels, meaning, buckets) in HISTOGRAMS.items():
            made[name] = Histogram(name, meaning, labels, buckets=buckets, **common)
        for name, (labels, meaning) in GAUGES.items():
            made[name] = Gauge(name, meaning, labels, multiprocess_mode="livesum", **common)
        self._metrics = made
        self._lock = threading.Lock()
        if getattr(values.ValueClass, "_multiprocess", False):
            threading.Thread(target=self._run, args=(every_s,), name="mailfleet-meter", daemon=True).start()

    def _of(self, key: Key) -> Any:
        return self._metrics[key[0]].labels(*key[1:])

    def _run(self, every_s: float) -> None:
        pause = threading.Event()
        while True:
            self._tally.filled.wait()
            pause.wait(every_s)
            self.flush()

    def flush(self) -> None:
        """Hand on what was gathered."""
        with self._lock:
            gathered = self._tally.take()
            for key, number in gathered.counts.items():
                self._of(key).inc(number)
            for key, times in gathered.times.items():
                # The library has no public way to add many times at once.
                histogram = self._of(key)
                histogram._sum.inc(times.seconds)  # noqa: SLF001 - a test holds us to what it does
                for bucket, number in zip(histogram._buckets, times.counts, strict=True):  # noqa: SLF001 - same
                    if number:
                        bucket.inc(number)

    def hinted(self, app: str, priority: Priority, fate: Fate, mails: int) -> None:
        self._tally.count(("published", app, priority.value, fate), mails)

    def began(self, app: str, priority: Priority, queue_s: float) -> None:
        self._tally.time(("queue_seconds", app, priority.value), max(0.0, queue_s))

    def attempted(self, app: str, account: str, host: str, verdict: str) -> None:
        self._tally.count(("attempts", app, account, host, verdict), 1)

    def part(self, account: str, host: str, name: SmtpPart, seconds: float) -> None:
        self._tally.time(("smtp_phase_seconds", account, host, name), seconds)

    def replied(self, account: str, host: str, code: int | None) -> None:
        self._tally.count(("smtp_replies", account, host, code_class(code)), 1)

    def connection(self, account: str, host: str, state: ConnectionState, change: int) -> None:
        self._of(("connections", account, host, state)).inc(change)

    def permits(self, app: str, account: str, host: str, wished: int, granted: int, rule: str = "") -> None:
        if granted:
            self._tally.count(("permits", app, account, host, "granted", ""), granted)
        else:
            self._tally.count(("permits", app, account, host, "refused", rule), wished)

    def waited(self, app: str, account: str, seconds: float) -> None:
        self._tally.time(("wait_seconds", app, account), seconds)

    def doubted(self, app: str, mails: int) -> None:
        self._tally.count(("doubt", app), mails)

    def reconciled(self, app: str, reason: str, mails: int) -> None:
        self._tally.count(("reconciled", app, reason), mails)

    def claim_missed(self, app: str, mails: int) -> None:
        self._tally.count(("claim_misses", app), mails)

    def limiter(self, app: str, *, available: bool) -> None:
        self._of(("limiter_unavailable", app)).set(0 if available else 1)

    def hooked(self, app: str, result: str) -> None:
        self._tally.count(("hooks", app, result), 1)

    def webhook(self, endpoint: str, result: str, events: int = 1) -> None:
        self._tally.count(("webhooks", endpoint, result), events)

    def parked(self, app: str, reason: str, messages: int = 1) -> None:
        self._tally.count(("parked", app, reason), messages)

    def noticed(self, app: str, account: str, host: str, result: str) -> None:
        self._tally.count(("notices", app, account, host, result), 1)

    def unlimited(self, app: str, account: str, host: str) -> None:
        self._tally.count(("notices_unlimited", app, account, host), 1)


class _Handing:
    """Hands on what was gathered whenever its registry is asked."""

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = flush

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> list[Any]:
        self._flush()
        return []


def code_class(code: int | None) -> str:
    """`2xx` to `5xx`; `none` when the server said nothing, `other` for what is no reply code."""
    if code is None:
        return "none"
    return f"{code // 100}xx" if 200 <= code < 600 else "other"


def meter_of_child(environ: Mapping[str, str]) -> Meter:
    """The meter of a worker process: one that keeps numbers where its parent finds them, if it has one that looks.

    A process for whose numbers the disk has no room counts nothing: mail is more important.
    """
    directory = environ.get(VARIABLE)
    if not directory:
        return SILENT
    try:
        take_room(Path(directory), os.getpid())
    except OSError as error:
        log.error("metrics_without_room", extra={"error": error.strerror})  # noqa: TRY400 - the reason says all
        return SILENT
    return PrometheusMeter()


def source_of(registry: "CollectorRegistry") -> Callable[[], tuple[bytes, str]]:
    """What a scrape of *registry* gets, and its content type."""
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    return lambda: (generate_latest(registry), CONTENT_TYPE_LATEST)
