"""`python -m tests.stack up|down|status`: what `make up` and `make down` run."""

import argparse
import os
import signal
import sys
from pathlib import Path

from tests.services.base import MissingServiceError, StartError
from tests.stack import docker
from tests.stack.compose import ROOT
from tests.stack.native import Native
from tests.stack.report import native_addresses
from tests.stack.state import BusyError, State, locked


def main(arguments: list[str] | None = None) -> int:
    """Carry one command out; 0 is well, 1 is something that does not run, 2 is something missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.stack", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status"])
    parser.add_argument("--native", action="store_true", help="without Docker, even where an engine runs")
    parser.add_argument(
        "--directory", type=Path, default=ROOT / "build/stack", help="where everything is kept"
    )
    given = parser.parse_args(arguments)
    # What was started is ended in every case, so a termination is an exception too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = given.directory.resolve()
    try:
        with locked(directory):
            state = State.read(directory)
            match given.command:
                case "up":
                    return up(state, native=given.native)
                case "down":
                    return down(state)
                case _:
                    return status(state)
    except (BusyError, MissingServiceError, StartError, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, MissingServiceError) else 1


def up(state: State, *, native: bool) -> int:
    """Start the stack, or say that it runs."""
    if state.mode == "compose" or (state.mode is None and not native and docker.available()):
        state.mode = "compose"
        state.write()
        return docker.up()
    stack = Native(state, os.environ)
    if stack.running:
        if ended := stack.ended:
            print(
                f"Only a part of mailfleet runs, ended: {', '.join(ended)}. Run `make down` first.",
                file=sys.stderr,
            )
            return 1
        print("mailfleet runs already.")
    else:
        # What a crash of the machine or somebody's kill has left half.
        stack.down()
        print("Starting PostgreSQL, RabbitMQ, a catcher, two applications and their workers.", flush=True)
        stack.up()
        print("mailfleet runs.")
    print(native_addresses(stack))
    return 0


def down(state: State) -> int:
    """End the stack; data are kept."""
    if state.mode == "compose":
        status = docker.down()
        if status == 0:
            state.mode = None
            state.write()
        return status
    stack = Native(state, os.environ)
    ran = stack.running
    for service in stack.down():
        print(f"{service} did not end in time and was killed.", file=sys.stderr)
    print(f"mailfleet is down; its data are in {state.directory}." if ran else "mailfleet does not run.")
    return 0


def status(state: State) -> int:
    """Say how every service is; 1 unless all are well."""
    if state.mode == "compose":
        return docker.status()
    stack = Native(state, os.environ)
    if not stack.running:
        print("mailfleet does not run.")
        return 1
    well = True
    for service in stack.services.values():
        mine = [one for one in state.processes if one.service == service.name]
        if mine:
            healthy = stack.healthy(service)
            well &= healthy
            print(f"{service.name:18} {'healthy' if healthy else f'not healthy, see {stack.log(service)}'}")
    print(native_addresses(stack))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
