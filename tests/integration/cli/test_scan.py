"""`mailfleet scan` in a fleet whose workers look at the same rows; without workers: `tests/integration/fleet`."""

from collections.abc import Sequence

import pytest
from sqlalchemy import Connection, Engine

from mailfleet import Mail, Mailer
from mailfleet_schema.statements.reconcile import Patience, look, look_now
from mailfleet_workers.operators import scans
from tests.integration.cli.conftest import Command
from tests.services.virtual_host import VirtualHost


def test_scan_ends_beside_workers_that_look(
    command: Command, postgres_engine: Engine, rabbitmq: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reconcilers that push every row's next look away at once do not keep the command going for ever."""
    command.environ |= {
        "MAILFLEET_DATABASE_URL": postgres_engine.url.render_as_string(hide_password=False),
        "MAILFLEET_BROKER_URL": rabbitmq.url,
    }
    mail = Mail(from_="a@example.com", to=["b@example.net"], subject="x", text="x")
    with postgres_engine.begin() as connection:
        ids = Mailer("billing", engine=postgres_engine).emit_many([mail] * 3, session=connection)
    looks = 0

    def look_now_beside_others(
        connection: Connection, apps: Sequence[str], *, beyond_s: float, most: int
    ) -> int:
        nonlocal looks
        looks += 1
        assert looks < 10, "the rows come back for ever"
        found = look_now(connection, apps, beyond_s=beyond_s, most=most)
        look(connection, apps, Patience(), most=most)
        return found

    monkeypatch.setattr(scans, "look_now", look_now_beside_others)

    rabbitmq.declare("billing")
    command("scan")
    # Without them it hints what they had pushed away.
    monkeypatch.setattr(scans, "look_now", look_now)
    assert command.json("scan")["found"] == {"hinted": len(ids)}
