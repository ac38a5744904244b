"""The command `mailfleet`. `main` runs it and returns the exit status; `app` is the Typer application behind it.

Commands are thin: they load settings, ask `mailfleet_workers.views` or run the embedded mode, and show what they got as
tables or, with `--json`, as one JSON document on standard output. Everything else they say goes to standard error.
Exit status: 0 is well, 1 is an answer that is not (a mail that failed), 2 a mistake in settings, arguments or mails.
"""

import sys

from mailfleet_workers.cli.application import app

__all__ = ["app", "main"]


def main() -> int:
    """Run the command line of this process; its exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a name's script gets its code points, not a traceback.
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    try:
        app(prog_name="mailfleet")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0
