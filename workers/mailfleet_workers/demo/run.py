"""The demo as one function: stage it, watch it, judge it, show it."""

import json
import shlex
import sys
import tempfile
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.live import Live

from mailfleet_workers.demo.report import (
    as_json,
    as_received,
    endings,
    live_table,
    print_wrong,
    summary,
    unsent,
)
from mailfleet_workers.demo.stage import Stage
from mailfleet_workers.demo.verdicts import Verdict

#: The demo ends when every mail is where it should be, or after so many seconds.
DEADLINE_S = 50.0
_TICK_S = 0.25


def run(*, seed: int, keep: Path | None, console: Console, json_output: bool = False) -> bool:
    """Run the demo; True when every mail is where it should be.

    *keep* is an empty or new directory that keeps database and caught mail; None uses one that is removed. With
    *json_output* the result is one JSON document on *console* and nothing else. Raises FileExistsError when *keep*
    holds a database already.
    """
    if keep is not None and (keep / "mailfleet.db").exists():
        raise FileExistsError(keep / "mailfleet.db")
    place: AbstractContextManager[str]
    place = tempfile.TemporaryDirectory(prefix="mailfleet-demo-") if keep is None else nullcontext(str(keep))
    with place as directory:
        started = time.monotonic()
        with Stage(Path(directory).resolve(), seed) as stage:
            stage.write()
            verdicts = _watch(stage, console, started, live=console.is_terminal and not json_output)
            strays = stage.strays()
            seconds = time.monotonic() - started
            example = next((r for r in stage.receipts() if b"filename" in r.message), None)
        line, right = summary(verdicts, strays, seconds)
        if json_output:
            console.print_json(json.dumps(as_json(verdicts, strays, seed, seconds)))
            return right
        now = datetime.now(UTC)
        console.print(endings(verdicts, now))
        console.print(unsent(verdicts, now))
        if example is not None:
            console.print(as_received(example))
        print_wrong(console, verdicts)
        console.print(line, style="green" if right else "red")
        if keep is not None:
            data = shlex.quote(str(keep))
            command = shlex.quote(sys.argv[0]) if sys.argv[0].endswith("mailfleet") else "mailfleet"
            console.print(f"Kept: MAILFLEET_DATA_DIR={data} {command} list")
        return right


def _watch(stage: Stage, console: Console, started: float, *, live: bool) -> list[Verdict]:
    """Follow the mails until all are where they should be, or the deadline; the last verdicts."""
    tick = threading.Event()
    screen = Live(console=console, refresh_per_second=8, transient=False) if live else None
    with screen or nullcontext():
        while True:
            seconds = time.monotonic() - started
            rows = stage.rows()
            if screen is not None:
                screen.update(live_table(rows, datetime.now(UTC), seconds))
            if stage.written and len(rows) == len(stage.planned):
                verdicts = stage.verdicts()
                if seconds > DEADLINE_S or not any(one.wrong for one in verdicts):
                    return verdicts
            elif seconds > DEADLINE_S:
                return stage.verdicts()
            tick.wait(_TICK_S)
