"""200 mails from a table, through the command line, the embedded mode and a real Postfix, read back field by field."""

import os
from pathlib import Path

import pytest

from tests.acceptance.round_trip import MAILS, check_all, rows, run_send, write_files
from tests.services.base import PostfixServer


def settings(directory: Path, postfix: PostfixServer) -> None:
    (directory / "mailfleet.toml").write_text(
        f"""
        data_dir = "data"
        delivery = "live"
        [accounts.default]
        host = "{postfix.host}"
        port = {postfix.port}
        tls = "plain"
        """,
        encoding="utf-8",
    )


@pytest.mark.timeout(180)
def test_every_field_survives(tmp_path: Path, postfix: PostfixServer) -> None:
    """Names in six scripts, both bodies, three attachments, an inline image, and 25 MiB once: nothing changes."""
    postfix.clear()
    table = rows()
    contents = write_files(tmp_path, table)
    settings(tmp_path, postfix)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAILFLEET_")}

    result = run_send(tmp_path, environ, "--config", "mailfleet.toml")

    assert result["counts"] == {"sent": MAILS}
    check_all(table, contents, postfix)
