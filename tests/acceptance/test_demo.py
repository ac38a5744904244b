"""The demo as a user runs it: a process, a document, an exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path


def run(*arguments: str, directory: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAILFLEET_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "mailfleet", *arguments],
        cwd=directory,
        env=clean | environ,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_every_mail_is_where_it_should_be(tmp_path: Path) -> None:
    """`mailfleet demo` ends with status 0, nothing wrong, and what it kept can be asked for."""
    done = run("demo", "--seed", "11", "--keep", "--json", directory=tmp_path)

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert (result["mails"], result["wrong"], result["strays"]) == (300, 0, 0)
    kept = {"MAILFLEET_DATA_DIR": str(tmp_path / "mailfleet-demo")}
    held = json.loads(run("list", "--state", "held", "--json", directory=tmp_path, **kept).stdout)
    (mail,) = held["mails"]
    why = run("why", str(mail["id"]), directory=tmp_path, **kept)
    assert why.returncode == 0, why.stderr
    assert "the server may have it" in why.stdout


def test_a_second_demo_does_not_write_over_the_first(tmp_path: Path) -> None:
    """`--keep` where something was kept already is one line and status 2."""
    (tmp_path / "mailfleet-demo").mkdir()
    (tmp_path / "mailfleet-demo" / "mailfleet.db").write_bytes(b"")

    done = run("demo", "--keep", directory=tmp_path)

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_wrong_setting_stops_the_demo(tmp_path: Path) -> None:
    """A broken setting is one clear line with the key, and status 2."""
    done = run("demo", directory=tmp_path, MAILFLEET_DELIVERY="sometimes")

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "mailfleet: delivery: expected dry_run, redirect, allowlist or live, got 'sometimes' (MAILFLEET_DELIVERY)"
    ]
