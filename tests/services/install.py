"""`python -m tests.services.install`: have the services that tests need, or say what is missing.

`make test` runs it before the tests. It looks at every service before it gives up, so that one run names everything
that is missing. A service that a variable names is tried now: a wrong address is one line here, not a hundred failing
tests. Exit status 0 means that tests can start; 2 means that they cannot, and the last lines say why.
"""

import signal
import sys
from dataclasses import replace
from typing import assert_never

from tests.services import debian
from tests.services.base import MissingServiceError, StartError
from tests.services.choose import (
    SERVICES,
    Container,
    DebianPackage,
    Missing,
    Named,
    OnMachine,
    Wanted,
    advice,
    decide,
    facts,
)


def main() -> int:
    """Prepare all services; the exit status."""
    # An ended installation must put the machine's files back, so a termination is an exception too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    problems = []
    for wanted in SERVICES:
        try:
            print(f"{wanted.name}: {prepare(wanted)}", flush=True)
        except (MissingServiceError, StartError) as error:
            problems.append(str(error))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 2 if problems else 0


def prepare(wanted: Wanted) -> str:
    """Have one service ready to be started by a test; says where it comes from.

    Raises:
        MissingServiceError: it is not to be had here.
        StartError: Docker's image could not be fetched.
    """
    known = facts(wanted, may_install=True)
    source = decide(wanted, known)
    if isinstance(source, DebianPackage):
        print(f"{wanted.name}: installing Debian's package {source.package}", flush=True)
        try:
            debian.install([source.package])
        except debian.InstallError as error:
            print(f"{wanted.name}: {error}", file=sys.stderr, flush=True)
        # What came may be too old, or nothing came: then another source has its turn.
        source = decide(wanted, replace(known, binaries=wanted.find(), debian_installs=False))
    match source:
        case Named(url):
            return f"{wanted.named(url).version}, named by {wanted.variable}"
        case OnMachine(binaries):
            return f"{binaries.version} in {binaries.directory}"
        case Container():
            print(f"{wanted.name}: fetching a Docker image", flush=True)
            wanted.fetch()
            return "a Docker container"
        case DebianPackage() | Missing():
            raise MissingServiceError(advice(source))
        case _:
            assert_never(source)


if __name__ == "__main__":
    sys.exit(main())
