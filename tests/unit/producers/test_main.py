"""The command `mailfleet` with and without the workers' extra."""

import os
import subprocess
import sys

import mailfleet


def without(module: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process where *module* cannot be imported."""
    code = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv = ['mailfleet', '--help'];"
        "from mailfleet.__main__ import main; sys.exit(main())"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environ, timeout=60
    )


def test_without_the_extra_one_line_says_what_to_install() -> None:
    """No traceback: one line on stderr and status 2, whichever part of the extra is missing."""
    for module in ("mailfleet_workers", "typer"):
        done = without(module)

        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr == (
            "mailfleet: the command needs the workers extra: pip install 'mailfleet[workers]'\n"
        )


def test_a_missing_module_of_our_own_is_a_bug() -> None:
    """A broken installation is not told to install the extra."""
    done = without("mailfleet.mail")

    assert done.returncode == 1
    assert "pip install" not in done.stderr


def test_the_public_names_are_sorted_and_there() -> None:
    """`__all__` is complete, sorted, and each name is what it says."""
    assert mailfleet.__all__ == sorted(mailfleet.__all__)
    for name in mailfleet.__all__:
        assert getattr(getattr(mailfleet, name), "__name__", "Result") == name
