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
        environ["MAILFLEET_FAILPOINTS"] = f"{failpoint}=kill"
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


def cell(sink: Catcher, directory: Path, point: str, on_doubt: str, chunk: int) -> Counter[str]:
    plan = {
        "data_dir": str(directory),
        "port": sink.port,
        "emit": MAILS,
        "on_doubt": on_doubt,
        "chunk": chunk,
        "deadline_s": 30,
    }
    killed = run(plan, point)
    assert killed.returncode == -signal.SIGKILL, (killed.stdout, killed.stderr)

    finished = run({**plan, "emit": 0})

    assert finished.returncode == 0, (finished.stdout, finished.stderr)
    states = json.loads(finished.stdout.split("done ")[1])
    found = copies(sink)
    held = states.get("held", 0)
    committed = sum(states.values())
    # before_claim may strike between two transactions of emit_many's caller: whatever was committed must arrive.
    assert committed == MAILS
    assert states.get("sent", 0) + held == MAILS, states
    if on_doubt != "hold":
        assert held == 0
    assert len(found) >= MAILS - held, f"lost at {point}: {sorted(set(range(MAILS)))} {found}"
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


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(sink: Catcher, tmp_path: Path, point: str) -> None:
    """A kill at any point loses no committed mail; the journal leaves one doubt that can double (chunk of 8)."""
    check(sink, tmp_path, point, "resend_once", 8)


@pytest.mark.acceptance
@pytest.mark.parametrize("chunk", [1, 8])
@pytest.mark.parametrize("on_doubt", ["resend_once", "resend", "hold"])
@pytest.mark.parametrize("point", POINTS)
def test_kill_table(sink: Catcher, tmp_path: Path, point: str, on_doubt: str, chunk: int) -> None:
    """Every cell of the table: point x policy x chunk; `hold` doubles nothing."""
    check(sink, tmp_path, point, on_doubt, chunk)
