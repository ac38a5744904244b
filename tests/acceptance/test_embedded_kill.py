"""kill -9 of the embedded process at every kill point: nothing is lost, and a second copy comes only out of doubt."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from mailfleet_workers.catcher import Catcher, MemoryStore

MAILS = 20

#: The eight instants of a mail's way, and the end of its settling transaction as a ninth.
POINTS = (
    "before_claim",
    "after_claim",
    "before_ack",
    "after_mail",
    "after_body",
    "after_record",
    "after_dot",
    "after_reply",
    "after_settle",
)
#: Those that a machine without much time looks at; the whole table is among the long tests.
SHORT = ("after_claim", "after_body", "after_dot", "after_reply", "after_settle")
#: With the journal, only a mail whose dot left and whose answer never came can double.
DOUBLES = {("after_dot", "resend_once"), ("after_dot", "resend")}


@pytest.fixture
def sink() -> Iterator[Catcher]:
    with Catcher(MemoryStore()) as catcher:
        yield catcher


def run(plan: dict[str, Any], failpoint: str | None = None) -> subprocess.CompletedProcess[str]:
    environ = dict(os.environ)
    environ.pop("MAILFLEET_FAILPOINTS", None)
    if failpoint:
        environ["MAILFLEET_FAILPOINTS"] = failpoint if "=" in failpoint else f"{failpoint}=kill"
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.acceptance.embedded_child", json.dumps(plan)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def copies(sink: Catcher) -> Counter[str]:
    return Counter(str(message_from_bytes(receipt.message)["Subject"]) for receipt in sink.store.receipts())


def a_plan(sink: Catcher, directory: Path, on_doubt: str, chunk: int) -> dict[str, Any]:
    return {
        "data_dir": str(directory),
        "port": sink.port,
        "emit": MAILS,
        "on_doubt": on_doubt,
        "chunk": chunk,
        "deadline_s": 30,
    }


def finish(sink: Catcher, plan: dict[str, Any]) -> tuple[dict[str, int], Counter[str]]:
    """Start again, without a failpoint, until nothing is open; the states, and the copies of each mail."""
    finished = run({**plan, "emit": 0})
    assert finished.returncode == 0, (finished.stdout, finished.stderr)
    states = json.loads(finished.stdout.split("done ")[1])
    assert sum(states.values()) == MAILS
    assert states.get("sent", 0) + states.get("held", 0) == MAILS, states
    return states, copies(sink)


def cell(sink: Catcher, directory: Path, point: str, on_doubt: str, chunk: int) -> Counter[str]:
    plan = a_plan(sink, directory, on_doubt, chunk)
    killed = run(plan, point)
    assert killed.returncode == -signal.SIGKILL, (killed.stdout, killed.stderr)

    states, found = finish(sink, plan)

    held = states.get("held", 0)
    if on_doubt != "hold":
        assert held == 0
    assert len(found) >= MAILS - held, f"lost at {point}: {found}"
    return found


def check(sink: Catcher, directory: Path, point: str, on_doubt: str, chunk: int) -> None:
    found = cell(sink, directory, point, on_doubt, chunk)
    doubled = {subject: count for subject, count in found.items() if count > 1}
    if (point, on_doubt) not in DOUBLES:
        assert doubled == {}
    else:
        # One mail per sending thread at most, twice at most.
        assert len(doubled) <= 4
        assert set(doubled.values()) <= {2}


@pytest.mark.parametrize("point", SHORT)
def test_killed_at(sink: Catcher, tmp_path: Path, point: str) -> None:
    """A kill at any point loses no committed mail; the journal leaves one doubt that can double (chunk of 8)."""
    check(sink, tmp_path, point, "resend_once", 8)


@pytest.mark.parametrize("on_doubt", ["resend_once", "hold"])
@pytest.mark.parametrize(
    "point",
    [
        pytest.param("after_record", marks=pytest.mark.acceptance),
        "after_dot",
        pytest.param("after_reply", marks=pytest.mark.acceptance),
    ],
)
def test_a_lost_host(sink: Catcher, tmp_path: Path, point: str, on_doubt: str) -> None:
    """With the journal gone every recorded row is in doubt: held ones never double, others a chunk per thread."""
    plan = a_plan(sink, tmp_path, on_doubt, 8)
    assert run(plan, point).returncode == -signal.SIGKILL
    for path in (tmp_path / "journal").iterdir():
        path.unlink()

    states, found = finish(sink, plan)

    doubled = {subject: count for subject, count in found.items() if count > 1}
    assert len(found) >= MAILS - states.get("held", 0)
    if on_doubt == "hold":
        assert doubled == {}
        assert states.get("held", 0) >= 1
    else:
        assert len(doubled) <= 4 * 8
        assert set(doubled.values()) <= {2}


@pytest.mark.acceptance
@pytest.mark.parametrize("chunk", [1, 8])
@pytest.mark.parametrize("on_doubt", ["resend_once", "resend", "hold"])
@pytest.mark.parametrize("point", POINTS)
def test_kill_table(sink: Catcher, tmp_path: Path, point: str, on_doubt: str, chunk: int) -> None:
    """Every cell of the table: point x policy x chunk; `hold` doubles nothing."""
    check(sink, tmp_path, point, on_doubt, chunk)
