"""A fleet whose database is exchanged for a copy behind the same address, with real workers: nothing leaves until somebody confirms."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from mailfleet import Mail
from tests.integration.workers.copies import copy_by_template
from tests.integration.workers.test_clone_guard import rename
from tests.services.base import PostgresServer
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.waiting import wait_until

APP = "billing"


def mailfleet(stage: Stage, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "mailfleet", *arguments],
        env=stage.environ,
        cwd=stage.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.acceptance
def test_exchanged_and_confirmed(
    directory: Path, database_url: str, virtual_host: VirtualHost, postgres_server: PostgresServer
) -> None:
    """Its workers end, their successors do nothing, readiness and metrics say why; confirmed as a copy, it sends what is new."""
    name = make_url(database_url).database or ""
    with Stage(
        directory,
        database_url,
        virtual_host.url,
        settings={"APPS__BILLING__PROCESSES": "1", "TIMING__QUIET_S": "3"},
    ) as stage:
        parent = stage.parent(APP, ready=1)
        emit(stage, "first")
        stage.wait_states({"sent": 1}, 30)
        assert parent.get("/readyz")[0] == 200
        parent.stop()
        emit(stage, "queued")
        stage.engine.dispose()
        # Nobody is connected: a template is copied then.
        with copy_by_template(stage.engine, postgres_server) as clone:
            copy = clone.url.database or ""
            clone.dispose()
            parent = stage.parent(APP, ready=1)
            stage.wait_states({"sent": 2}, 30)
            stage.engine.dispose()
            rename(postgres_server, name, f"{name}_x")
            rename(postgres_server, copy, name)

            wait_until(
                lambda: "mailfleet db confirm" in parent.get("/readyz")[1], 60, lambda: parent.log[-3000:]
            )
            assert parent.get("/readyz")[0] == 503
            wait_until(
                lambda: (
                    re.search(r"^mailfleet_database_elsewhere 1", parent.get("/metrics")[1], re.MULTILINE)
                    is not None
                ),
                30,
                lambda: parent.get("/metrics")[1],
            )
            assert parent.events("database_elsewhere")
            assert stage.states() == {"sent": 1, "queued": 1}
            with stage.engine.begin() as connection:
                assert connection.execute(text("SELECT count(*) FROM mailfleet.worker")).scalar_one() == 0

            told = mailfleet(stage, "db", "confirm", "--copy", "--yes")
            assert "1 mail is held" in " ".join(told.split())
            emit(stage, "new")
            stage.wait_states({"sent": 2, "held": 1}, 60)
            wait_until(lambda: parent.get("/readyz")[0] == 200, 30, lambda: parent.log[-3000:])
            assert parent.stop() == 0
            stage.engine.dispose()
            rename(postgres_server, name, copy)
            rename(postgres_server, f"{name}_x", name)
        assert stage.copies() == {"first": 1, "queued": 1, "new": 1}


def emit(stage: Stage, subject: str) -> None:
    with stage.engine.begin() as connection:
        stage.mailer(APP).emit(Mail(to=["ada@example.net"], subject=subject, text="x"), session=connection)
