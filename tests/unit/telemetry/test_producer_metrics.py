"""Metrics of an application's own process."""

import pytest
from prometheus_client import CollectorRegistry

from mailfleet.metrics import register
from mailfleet.publisher import Row
from mailfleet.publishers import publisher_of
from mailfleet_schema.states import Priority
from tests.packaging.layout import run_python
from tests.unit.producers.brokers import FailingBroker, MemoryBroker

APP = "metrics-test"


def test_what_was_emitted_and_published() -> None:
    """Committed mails, and the fate of their hints, of all brokers of the process together."""
    registry = CollectorRegistry()
    register(registry)
    working, broken = publisher_of(MemoryBroker()), publisher_of(FailingBroker())
    working.put([Row(APP, Priority.HIGH, 1, 0.0), Row(APP, Priority.HIGH, 2, None)])
    broken.put([Row(APP, Priority.HIGH, 3, 0.0)])
    assert working.flush(10)
    assert broken.flush(10)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"app": APP, "priority": "high", **labels})

    assert value("mailfleet_emitted_total") == 3
    # One is due too far ahead to be hinted.
    assert value("mailfleet_published_total", result="published") == 1
    assert value("mailfleet_published_total", result="failed") == 1
    assert value("mailfleet_published_total", result="dropped") == 0


def test_two_collectors_in_one_registry_are_refused() -> None:
    """They would show every number twice."""
    registry = CollectorRegistry()
    register(registry)
    with pytest.raises(ValueError, match="mailfleet_emitted"):
        register(registry)


def test_the_library_is_the_applications() -> None:
    """Neither `mailfleet` nor its metrics load the metrics library before a collector is asked."""
    code = "import sys, mailfleet, mailfleet.metrics; sys.exit('prometheus_client' in sys.modules)"
    assert run_python(code).returncode == 0


def test_the_workers_telemetry_does_not_load_it_either() -> None:
    """A child's library must not be imported before its directory is known."""
    names = ("meter", "prometheus", "fleet_files", "fleet_gauges", "pool_metrics", "health", "log", "events")
    modules = ", ".join(f"mailfleet_workers.telemetry.{name}" for name in names)
    code = f"import sys, {modules}; sys.exit('prometheus_client' in sys.modules)"
    done = run_python(code)
    assert done.returncode == 0, done.stderr
