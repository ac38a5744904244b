"""How commands end when something expected is wrong: a line for each problem on standard error, exit status 2."""

import sys
from typing import Any

import typer
from sqlalchemy.exc import DBAPIError
from typer.core import TyperGroup

from mailfleet.errors import MailfleetError
from mailfleet_workers.cli.visible import visible

WRONG = 2
INTERRUPTED = 130


class Failure(Exception):  # noqa: N818 - reads as the fact it states
    """What a command cannot do, in *lines* for the person who asked."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Interrupted(Exception):  # noqa: N818 - reads as the fact it states
    """The user stopped the command; the text says what was done by then."""


def complain(*lines: str) -> None:
    """Print *lines* to standard error, each with our name in front."""
    for line in lines:
        sys.stderr.write(f"mailfleet: {visible(line)}\n")


class Commands(TyperGroup):
    """Runs a command; an expected error ends it without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (Failure, MailfleetError) as error:
            # WrongSettings has a line for each of its problems.
            complain(*str(error).splitlines())
        except DBAPIError as error:
            complain(f"database: {' '.join(str(error.orig).split())}")
        except BrokenPipeError:
            # Whoever read our output has enough. Python would complain again when it closes the stream.
            sys.stdout = None
            raise typer.Exit(0) from None
        except OSError as error:
            # A directory that cannot be made, a disk that is full: the setting or option names it.
            complain(f"{error.filename or 'system'}: {error.strerror or error}")
        except Interrupted as interrupted:
            complain(str(interrupted))
            raise typer.Exit(INTERRUPTED) from None
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        raise typer.Exit(WRONG)
