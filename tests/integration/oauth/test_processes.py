"""Real processes that need a token at once, and one of them killed while it has the lease."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy import Engine

from mailfleet_workers.accounts.oauth.rows import DatabaseRows
from tests.integration.oauth.fleet import rows
from tests.stage.token_endpoint import TokenEndpoint
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]


def asker(
    engine: Engine, endpoint: TokenEndpoint, timeout_s: float, margin_s: float
) -> "subprocess.Popen[str]":
    database = engine.url.render_as_string(hide_password=False)
    arguments = [database, endpoint.url, str(timeout_s), str(margin_s)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.oauth.asker", *arguments],
        env={**os.environ, "CLIENT_SECRET": "canary-client-secret"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_one_refresh_for_several_processes(engine: Engine, endpoint: TokenEndpoint) -> None:
    """Four processes wait for the one that asks, and have what it got."""
    endpoint.hold.clear()
    processes = [asker(engine, endpoint, 30, 5) for _ in range(4)]
    wait_until(lambda: bool(endpoint.asked), 30, lambda: "nobody asked")
    endpoint.hold.set()
    assert [one.communicate(timeout=60)[0] for one in processes] == ["canary-token-1\n"] * 4
    assert len(endpoint.asked) == 1


def test_a_refresher_that_is_killed_is_replaced_after_its_lease(
    engine: Engine, endpoint: TokenEndpoint
) -> None:
    """Kill -9 while it waits for the endpoint: the next waits for the end of the lease, then asks itself."""
    endpoint.hold.clear()
    victim = asker(engine, endpoint, 4, 0.5)
    wait_until(lambda: bool(endpoint.asked), 30, lambda: "nobody asked")
    held_s = rows(engine)[0].held_s
    assert held_s is not None
    asked_at = time.monotonic()
    victim.send_signal(signal.SIGKILL)
    assert victim.wait(10) == -signal.SIGKILL
    victim.communicate()
    heir = asker(engine, endpoint, 4, 0.5)
    endpoint.hold.set()
    assert heir.communicate(timeout=60)[0] == "canary-token-2\n"
    assert time.monotonic() - asked_at >= held_s - 0.5
    row = DatabaseRows(engine).read(rows(engine)[0].name)
    assert row is not None
    assert (row.generation, row.held_by, row.reason) == (1, None, None)


def test_many_wait_for_one_that_was_killed(engine: Engine, endpoint: TokenEndpoint) -> None:
    """One of those that wait asks in its place; the endpoint hears of two requests in all."""
    endpoint.hold.clear()
    victim = asker(engine, endpoint, 4, 0.5)
    wait_until(lambda: bool(endpoint.asked), 30, lambda: "nobody asked")
    waiting = [asker(engine, endpoint, 4, 0.5) for _ in range(3)]
    victim.kill()
    victim.communicate(timeout=10)
    endpoint.hold.set()
    assert [one.communicate(timeout=60)[0] for one in waiting] == ["canary-token-2\n"] * 3
    assert len(endpoint.asked) == 2
