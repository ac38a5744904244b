"""Metrics of several processes: real children, killed and ended, and their sum."""

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from mailfleet_workers.telemetry.fleet_files import FleetFiles
from mailfleet_workers.telemetry.pool_metrics import PoolMetrics
from mailfleet_workers.telemetry.room import SIZES
from tests.packaging.layout import ROOT

#: Tells all that sending tells, of a hundred accounts with long names.
ALL = """
import os
from typing import get_args
from mailfleet_schema.states import Priority
from mailfleet_workers.telemetry.meter import SmtpPart
from mailfleet_workers.telemetry.prometheus import meter_of_child
meter = meter_of_child(os.environ)
for number in range(100):
    account, host = f"{'account':x<36}-{number:03}", f"{'host':x<56}{number:03}.example.com:2525"
    for part in get_args(SmtpPart):
        meter.part(account, host, part, 0.02)
    for verdict in ("accepted", "stop", "wait", "retry", "uncertain"):
        meter.attempted("billing", account, host, verdict)
    for code in (None, 250, 450, 550, 999):
        meter.replied(account, host, code)
    for state in ("busy", "idle"):
        meter.connection(account, host, state, 1)
    meter.permits("billing", account, host, 1, 1)
    meter.permits("billing", account, host, 1, 0, "account messages 10000/d")
    meter.waited("billing", account, 60.0)
for priority in Priority:
    meter.began("billing", priority, 0.5)
meter.flush()
"""
#: Counts, says that it has, and waits for a line or the end of its input.
CHILD = """
import os, sys
from mailfleet_workers.telemetry.prometheus import meter_of_child
meter = meter_of_child(os.environ)
for _ in range(int(sys.argv[1])):
    meter.attempted("billing", "default", "smtp.example.com", "accepted")
    meter.part("default", "smtp.example.com", "eod", 0.02)
meter.connection("default", "smtp.example.com", "busy", 1)
meter.flush()
print("counted", flush=True)
sys.stdin.readline()
"""
ATTEMPTS = "mailfleet_attempts_total"
TIMES = "mailfleet_smtp_phase_seconds_count"
CONNECTIONS = "mailfleet_connections"


def environ_of_child(metrics: PoolMetrics) -> dict[str, str]:
    path = os.pathsep.join(str(ROOT / folder) for folder in ("producers", "workers", "schema"))
    return os.environ | {"PYTHONPATH": path} | metrics.environ()


class Child:
    """A process that has counted, and lives until it is killed or told to go."""

    def __init__(self, metrics: PoolMetrics, attempts: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(attempts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ_of_child(metrics),
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "counted\n"

    def end(self, *, kill: bool) -> int:
        if kill:
            self.process.kill()
        self.process.communicate()
        return self.process.pid


def shown(metrics: PoolMetrics) -> dict[str, float]:
    """Every sample, added up over its labels."""
    body, _ = metrics.exposition()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def test_the_sum_of_children_living_and_dead(tmp_path: Path) -> None:
    """What a killed child counted stays counted, its gauges go, and a hundred deaths leave as many files as one."""
    metrics = PoolMetrics(tmp_path / "metrics", apps=["billing"])
    first, second = Child(metrics, 3), Child(metrics, 4)
    now = shown(metrics)
    assert (now[ATTEMPTS], now[TIMES], now[CONNECTIONS]) == (7, 7, 2)
    assert now["mailfleet_processes_lost_total"] == 0

    for child, kill in ((first, True), (second, False)):
        pid = child.end(kill=kill)
        metrics.child_ended(pid)
        metrics.child_ended(pid)
    metrics.child_lost("billing")
    now = shown(metrics)
    assert (now[ATTEMPTS], now[TIMES]) == (7, 7)
    assert CONNECTIONS not in now
    assert now["mailfleet_processes_lost_total"] == 1

    third = Child(metrics, 5)
    assert shown(metrics)[ATTEMPTS] == 12
    metrics.child_ended(third.end(kill=True))
    (directory,) = (path for path in (tmp_path / "metrics").iterdir() if path.is_dir())
    assert {path.name for path in directory.glob("*.db")} == {
        "counter_0.db",
        "histogram_0.db",
        "gauge_livesum_0.db",
    }
    assert shown(metrics)[ATTEMPTS] == 12
    metrics.close()
    metrics.close()
    assert not directory.exists()


def test_what_a_dead_parent_left_is_removed(tmp_path: Path) -> None:
    """A parent that was killed leaves its directory to the next one; that of a living one is let alone."""
    living = FleetFiles(tmp_path)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "counter_2.db").write_bytes(b"left")
    other = FleetFiles(tmp_path)
    assert not (tmp_path / "1").exists()
    assert living.path.exists()
    assert living.path != other.path, "two parents of one process number have a directory each"
    living.close()
    other.close()


def test_a_file_that_broke_off_costs_only_itself(tmp_path: Path) -> None:
    """A child that was killed while it made its file does not keep the others from being summed up."""
    metrics = PoolMetrics(tmp_path)
    child = Child(metrics, 3)
    directory = Path(metrics.environ()["PROMETHEUS_MULTIPROC_DIR"])
    (directory / "counter_999999.db").write_bytes(b"\x40\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00")
    (directory / "histogram_999998.db").write_bytes(b"")
    assert shown(metrics)[ATTEMPTS] == 3
    metrics.child_ended(999999)
    assert shown(metrics)[ATTEMPTS] == 3
    metrics.child_ended(child.end(kill=False))
    metrics.close()


def test_no_file_has_holes(tmp_path: Path) -> None:
    """The room that a child takes at its start is enough for a hundred accounts: a disk that is full cannot end it."""
    metrics = PoolMetrics(tmp_path)
    subprocess.run([sys.executable, "-c", ALL], env=environ_of_child(metrics), check=True, timeout=60)
    files = list(Path(metrics.environ()["PROMETHEUS_MULTIPROC_DIR"]).glob("*.db"))
    assert len(files) == 2 * len(SIZES), "those of the child, and those of nobody"
    for path in files:
        found = path.stat()
        assert found.st_size == SIZES[path.stem.rpartition("_")[0]], path.name
        assert found.st_blocks * 512 >= found.st_size, path.name
    metrics.close()
