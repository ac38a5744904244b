"""The meter that keeps metrics: names, labels, and that gathering changes no number."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from mailfleet.counters import Counts, Labels
from mailfleet_schema.states import Priority
from mailfleet_workers.telemetry.hint_counts import HintCounts
from mailfleet_workers.telemetry.meter import SILENT, Meter
from mailfleet_workers.telemetry.prometheus import (
    PART_S,
    PrometheusMeter,
    code_class,
    meter_of_child,
    source_of,
)


def tell(meter: Meter) -> None:
    """Everything that can be told, once."""
    meter.hinted("billing", Priority.HIGH, "published", 3)
    meter.began("billing", Priority.HIGH, -0.5)
    meter.attempted("billing", "default", "smtp.example.com", "accepted")
    meter.part("default", "smtp.example.com", "eod", 0.02)
    meter.replied("default", "smtp.example.com", 250)
    meter.connection("default", "smtp.example.com", "busy", 1)
    meter.permits("billing", "default", "smtp.example.com", 5, 3)
    meter.permits("billing", "default", "smtp.example.com", 5, 0, "messages 14/s")
    meter.waited("billing", "default", 60.0)
    meter.doubted("billing", 1)
    meter.reconciled("billing", "hinted", 7)
    meter.claim_missed("billing", 2)
    meter.parked("billing", "not a hint")


def test_what_is_told_is_shown() -> None:
    """Every metric has its name and labels, and is there at the next scrape."""
    meter = PrometheusMeter()
    tell(meter)
    body, kind = source_of(meter.registry)()
    assert kind.startswith("text/plain")
    assert b'mailfleet_published_total{app="billing",priority="high",result="published"} 3.0\n' in body
    assert b'mailfleet_queue_seconds_bucket{app="billing",le="0.01",priority="high"} 1.0\n' in body
    value = meter.registry.get_sample_value
    place = {"app": "billing", "account": "default", "host": "smtp.example.com"}
    server_labels = {"account": "default", "host": "smtp.example.com"}
    assert value("mailfleet_attempts_total", place | {"verdict": "accepted"}) == 1
    assert value("mailfleet_smtp_phase_seconds_sum", server_labels | {"phase": "eod"}) == 0.02
    assert value("mailfleet_smtp_replies_total", server_labels | {"code_class": "2xx"}) == 1
    assert value("mailfleet_connections", server_labels | {"state": "busy"}) == 1
    assert value("mailfleet_permits_total", place | {"result": "granted", "rule": ""}) == 3
    assert value("mailfleet_permits_total", place | {"result": "refused", "rule": "messages 14/s"}) == 5
    assert value("mailfleet_wait_seconds_count", {"app": "billing", "account": "default"}) == 1
    assert value("mailfleet_doubt_total", {"app": "billing"}) == 1
    assert value("mailfleet_reconciled_total", {"app": "billing", "reason": "hinted"}) == 7
    assert value("mailfleet_claim_misses_total", {"app": "billing"}) == 2
    assert value("mailfleet_parked_total", {"app": "billing", "reason": "not a hint"}) == 1


@given(st.lists(st.sampled_from([0.0, *PART_S, 0.0011, 3.3, 700.0]) | st.floats(0, 1000), max_size=30))
def test_times_that_were_gathered_are_the_same(times: list[float]) -> None:
    """Bucket for bucket and in sum what the library's own `observe` makes of them, on and between the bounds."""
    own = CollectorRegistry()
    theirs = Histogram("x", "x", ["a"], buckets=PART_S, registry=own)
    meter = PrometheusMeter()
    for seconds in times:
        theirs.labels("a").observe(seconds)
        meter.part("default", "host", "eod", seconds)

    def samples(registry: CollectorRegistry, name: str) -> list[tuple[str, str, Any]]:
        return [
            (sample.name.removeprefix(name), sample.labels.get("le", ""), pytest.approx(sample.value))
            for metric in registry.collect()
            if metric.name == name
            for sample in metric.samples
            if not sample.name.endswith("_created")
        ]

    assert samples(meter.registry, "mailfleet_smtp_phase_seconds") == (samples(own, "x") if times else [])


def test_the_class_of_a_reply() -> None:
    """Silence has a class of its own, and so has what is no reply code."""
    assert [code_class(code) for code in (None, 250, 421, 554, 0, 999)] == [
        *("none", "2xx", "4xx", "5xx", "other", "other")
    ]


def test_silence() -> None:
    """The meter that is used where none is given takes everything and keeps nothing."""
    tell(SILENT)
    assert meter_of_child({}) is SILENT


def test_counters_of_others_are_told_as_they_grow() -> None:
    """Every mail is told once, however often it is asked."""
    hints: dict[Labels, Counts] = {}
    parked: dict[str, int] = {}
    meter = PrometheusMeter()
    counts = HintCounts(meter, "billing", hints=lambda: hints, parked=lambda: parked)
    for published, failed in ((3, 0), (3, 0), (5, 2)):
        hints["billing", "high"] = Counts(emitted=9, published=published, failed=failed)
        parked["too large"] = failed
        counts.run_once()
    value = meter.registry.get_sample_value
    place = {"app": "billing", "priority": "high"}
    assert value("mailfleet_published_total", place | {"result": "published"}) == 5
    assert value("mailfleet_published_total", place | {"result": "failed"}) == 2
    assert value("mailfleet_parked_total", {"app": "billing", "reason": "too large"}) == 2
