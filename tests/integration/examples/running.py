"""An example application that runs: its process, and requests to it."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from mailfleet_schema.engine import parse_url
from tests.stage import Stage


class Running:
    """The application *name* on the fleet of *stage*, with further variables."""

    def __init__(self, name: str, stage: Stage, environ: Mapping[str, str]) -> None:
        secret = stage.directory / "database_url"
        url = parse_url("database_url", stage.environ["MAILFLEET_DATABASE_URL"]).set(drivername="postgresql")
        secret.write_text(url.render_as_string(hide_password=False) + "\n")
        ours = {"EXAMPLE_DATABASE_URL_FILE": str(secret), "EXAMPLE_SECRET_KEY": "not one"}
        with (stage.directory / f"{name}.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.integration.examples.serve", name],
                cwd=Path(__file__).parents[3],
                env=stage.environ | ours | dict(environ),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line.isdecimal(), (stage.directory / f"{name}.log").read_text()[-3000:]
        self._port = int(line)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """The status and the JSON of its answer. Raises OSError when it dies over it."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()


@contextmanager
def running(name: str, stage: Stage, environ: Mapping[str, str] | None = None) -> Iterator[Running]:
    """It, until the end of the block."""
    one = Running(name, stage, environ or {})
    try:
        yield one
    finally:
        one.process.kill()
        one.process.communicate()
