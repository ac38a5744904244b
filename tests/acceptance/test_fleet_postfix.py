"""The same 200 mails through PostgreSQL, RabbitMQ and a pool of two processes, to a real Postfix, read back field by field.

Once on PostgreSQL itself, and once on PostgreSQL through PgBouncer in transaction mode, for the command that writes the
mails as for the workers that send them.
"""

import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text

from mailfleet_schema.engine import read_only
from tests.acceptance.round_trip import MAILS, check_all, rows, run_send, write_files
from tests.services.base import PostfixServer, PostgresServer
from tests.services.pgbouncer import POOL_SIZE, PrivatePgBouncer
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage

APP = "billing"


def round_trip(directory: Path, stage: Stage, postfix: PostfixServer) -> int:
    """Write the table with the command, let two worker processes send it, compare what Postfix stored.

    Returns how many connections the database had behind all that, while the pool still ran.
    """
    postfix.clear()
    table = rows()
    contents = write_files(directory, table)
    parent = stage.parent(APP, "--processes", "2", ready=2)
    began = time.monotonic()

    result = run_send(directory, stage.environ)

    took_s = time.monotonic() - began
    assert result["counts"] == {"sent": MAILS}
    check_all(table, contents, postfix)
    assert stage.states() == Counter({"sent": MAILS})
    with read_only(stage.engine) as connection:
        by_worker = connection.execute(
            text("SELECT worker_id, count(*) FROM mailfleet.mail_attempt GROUP BY worker_id")
        ).all()
        servers = connection.scalar(
            text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        )
    print(
        f"{MAILS} mails in {took_s:.1f} s; by process: {sorted(count for _, count in by_worker)};"
        f" {servers} connections at PostgreSQL"
    )
    assert sum(count for _, count in by_worker) == MAILS
    assert parent.stop() == 0
    return int(servers or 0)


def account(postfix: PostfixServer) -> dict[str, str]:
    return {"ACCOUNTS__DEFAULT__HOST": postfix.host, "ACCOUNTS__DEFAULT__PORT": str(postfix.port)}


@pytest.mark.acceptance
@pytest.mark.timeout(180)
def test_every_field_survives(
    tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost, postfix: PostfixServer
) -> None:
    """Names in six scripts, both bodies, three attachments, an inline image, and 25 MiB once: nothing changes."""
    with Stage(tmp_path, migrated_url, rabbitmq.url, settings=account(postfix)) as stage:
        round_trip(tmp_path, stage, postfix)


@pytest.mark.acceptance
@pytest.mark.timeout(180)
def test_every_field_survives_through_pgbouncer(
    tmp_path: Path,
    migrated_pgbouncer_url: str,
    pgbouncer_server: PostgresServer,
    rabbitmq: VirtualHost,
    postfix: PostfixServer,
) -> None:
    """The same where connections to the server belong to a client for one transaction only: all go through the pooler."""
    with Stage(tmp_path, migrated_pgbouncer_url, rabbitmq.url, settings=account(postfix)) as stage:
        servers = round_trip(tmp_path, stage, postfix)
    # Two worker processes alone have more of their own.
    if isinstance(pgbouncer_server, PrivatePgBouncer):
        assert servers <= POOL_SIZE
