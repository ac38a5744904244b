"""The command `mailfleet`: it is the workers' extra; without that, one line says what to install."""

import sys


def main() -> int:
    """Run the command line; the exit status. 2 when the workers' extra is not installed."""
    try:
        from mailfleet_workers.cli import main as run
    except ModuleNotFoundError as error:
        # A module of ours that is missing is a bug, not a missing extra.
        if (error.name or "").partition(".")[0] in {"mailfleet", "mailfleet_schema"}:
            raise
        sys.stderr.write("mailfleet: the command needs the workers extra: pip install 'mailfleet[workers]'\n")
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
