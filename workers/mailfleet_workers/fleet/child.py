"""`python -m mailfleet_workers.fleet.child`: one worker process, started by a parent and by nobody else.

`--parent` is a pipe from the parent: when it closes, the parent is gone and this process drains. `--report-to` is
another, on which it reports. Its exit status is one of `status`.
"""

import argparse
import contextlib
import logging
import os
import select
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from sqlalchemy.exc import SQLAlchemyError

from mailfleet.errors import SettingsError
from mailfleet_workers.clone_guard import Elsewhere
from mailfleet_workers.fleet.process import LOG_KEY
from mailfleet_workers.fleet.report import Report
from mailfleet_workers.fleet.status import CANNOT_WORK, DRAINED, ELSEWHERE, FAILED, LOST
from mailfleet_workers.fleet.worker import Worker
from mailfleet_workers.modules import BrokenModule, load_modules
from mailfleet_workers.settings import Settings
from mailfleet_workers.telemetry.log import configure
from mailfleet_workers.telemetry.meter import Meter
from mailfleet_workers.telemetry.prometheus import meter_of_child

log = logging.getLogger(__name__)

#: How often it looks at itself and reports, in seconds.
EVERY_S = 1.0


class Child:
    """The loop around a worker: reports, and ends when it is told to, when the parent is gone, or when it is lost."""

    def __init__(self, worker: Worker, meter: Meter, *, parent: int, report_to: int, wake: int) -> None:
        self._worker = worker
        self._meter = meter
        self._parent = parent
        self._report_to = report_to
        self._wake = wake

    def run(self) -> int:
        """Start, work, drain; the exit status."""
        self._tell(Report(0, ("starting",)))
        self._worker.start()
        while self.run_once():
            pass
        lost = self._worker.lost
        self._tell(Report(self._worker.worker_id, ("draining",)))
        in_time = self._worker.stop()
        self._worker.tell_meter()
        self._meter.flush()
        if lost:
            return LOST
        return DRAINED if in_time else FAILED

    def run_once(self) -> bool:
        """Report, then wait a moment; False when it is time to drain."""
        self._tell(Report(self._worker.worker_id, self._worker.missing(), self._worker.notes))
        self._worker.tell_meter()
        # Not select(): the parent's number for its pipe is ours, and may be beyond 1,024.
        poll = select.poll()
        for file in (self._parent, self._wake):
            poll.register(file, select.POLLIN)
        readable = [file for file, _ in poll.poll(EVERY_S * 1000)]
        if self._wake in readable or (self._parent in readable and not os.read(self._parent, 1024)):
            return False
        return not self._worker.lost

    def _tell(self, report: Report) -> None:
        with contextlib.suppress(OSError):  # a parent that is gone, or reads nothing
            os.write(self._report_to, report.line())


def main(arguments: Sequence[str]) -> int:
    """Run one worker process; its exit status."""
    parser = argparse.ArgumentParser(prog="mailfleet_workers.fleet.child")
    parser.add_argument("--app", required=True)
    parser.add_argument("--also", action="append", default=[])
    parser.add_argument("--host", required=True)
    parser.add_argument("--config")
    parser.add_argument("--report-to", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args(arguments)
    for file in (given.report_to, given.parent):
        os.set_inheritable(file, False)  # not for what an app's modules may start
    # A parent that is stopped reads nothing; a report that finds no room is not worth waiting for.
    os.set_blocking(given.report_to, False)
    try:
        settings = Settings.load(os.environ, Path(given.config) if given.config else None)
        configure(settings.log, app=given.app, key=bytes.fromhex(os.environ.get(LOG_KEY, "")) or None)
        _look_here()
        load_modules(settings, [given.app, *given.also])
        meter = meter_of_child(os.environ)
        worker = Worker(
            settings, given.app, also=given.also, host=given.host, environ=os.environ, meter=meter
        )
    except BrokenModule as error:
        cause = "" if error.__cause__ is None else "".join(traceback.format_exception(error.__cause__))
        _say(f"mailfleet worker {given.app}: {error}\n{cause}".rstrip("\n"))
        return CANNOT_WORK
    except SettingsError as error:
        _say(f"mailfleet worker {given.app}: {error}")
        return CANNOT_WORK
    except Exception:  # noqa: BLE001 - whatever it is, a traceback says more than a status
        _say(f"mailfleet worker {given.app}: cannot start\n{traceback.format_exc()}")
        return CANNOT_WORK
    try:
        # Only now: before, nothing is claimed, and SIGTERM may end modules that hang while they are imported.
        return Child(worker, meter, parent=given.parent, report_to=given.report_to, wake=_told_to_end()).run()
    except Elsewhere:  # it is in the log
        return ELSEWHERE
    except (SQLAlchemyError, OSError) as error:
        # The parent tries again: a database that is away comes back.
        log.error("start_failed", extra={"error": _reason(error)})  # noqa: TRY400
        return FAILED


def _told_to_end() -> int:
    """A file that can be read as soon as SIGTERM has come."""
    wake, waker = os.pipe()
    os.set_blocking(waker, False)

    def on_term(_number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(waker, b"t")

    signal.signal(signal.SIGTERM, on_term)
    return wake


def _reason(error: Exception) -> str:
    """Without the statement and its values, which SQLAlchemy adds."""
    return " ".join(str(getattr(error, "orig", None) or error).split())


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _look_here() -> None:
    """Modules are found from the working directory too, as `python -m` would."""
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.insert(0, here)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    # Threads that hang in a server's silence must not keep the process: their rows are in the journal.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
